"""Packing of padded batches in plain torch, under the names and shapes of flash-attn's `bert_padding`.

unpad_input(hidden, mask)  (batch, length, ...) -> (tokens, ...), indices, cumulative lengths, longest, lengths
pad_input(packed, indices, batch, length)       -> (batch, length, ...), zeros where nothing was
"""

from __future__ import annotations

import torch
from einops import rearrange

__all__ = ["index_first_axis", "pad_input", "rearrange", "unpad_input"]


def index_first_axis(values: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    return values[indices]


def unpad_input(
    hidden_states: torch.Tensor, attention_mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, int, torch.Tensor]:
    lengths = attention_mask.sum(dim=-1, dtype=torch.int32)
    indices = attention_mask.flatten().nonzero().flatten()
    starts = torch.nn.functional.pad(lengths.cumsum(dim=0, dtype=torch.int32), (1, 0))
    return hidden_states.flatten(0, 1)[indices], indices, starts, int(lengths.max()), lengths


def pad_input(hidden_states: torch.Tensor, indices: torch.Tensor, batch: int, seqlen: int) -> torch.Tensor:
    padded = hidden_states.new_zeros((batch * seqlen, *hidden_states.shape[1:]))
    # not in place: the gradient has to reach the packed values
    return padded.index_put((indices,), hidden_states).unflatten(0, (batch, seqlen))
