"""Stand-in: the names that EasyR1's LoRA code imports; `RolloutWeights.add_lora` does the work."""
