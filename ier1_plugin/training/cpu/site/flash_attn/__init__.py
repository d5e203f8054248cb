"""Stand-in: only `bert_padding`, which EasyR1's actor imports for `padding_free=true`."""
