"""ImageEdit-R1: a decomposition agent trained with GRPO, a sequencing agent and an image editor in a chain."""

__version__ = "0.1.0"
