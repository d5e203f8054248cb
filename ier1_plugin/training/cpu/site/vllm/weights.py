"""Weights of the trained model -> the rollout model: whole tensors, or a LoRA adapter merged into the base.

RolloutWeights(model).load_weights([("model.layers.0.self_attn.q_proj.weight", tensor), ...])
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch


class RolloutWeights:
    """What EasyR1 finds at `llm_engine.model_executor.driver_worker.worker.model_runner.model`."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self._base: dict[str, torch.Tensor] = {}

    @torch.no_grad()
    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> None:
        """Copies every tensor by its checkpoint name; KeyError: a name unknown here, or a parameter left out."""
        own = dict(self.model.named_parameters(remove_duplicate=False)) | dict(self.model.named_buffers())
        sent = {self.module_name(name): weight for name, weight in weights}
        # tied weights come under one of their names; buffers that aren't saved don't come at all
        missing = dict(self.model.named_parameters()).keys() - sent.keys()
        if missing or sent.keys() - own.keys():
            raise KeyError(f"not sent: {sorted(missing)[:3]}; unknown: {sorted(sent.keys() - own.keys())[:3]}")
        for name, weight in sent.items():
            own[name].copy_(weight)

    @torch.no_grad()
    def add_lora(self, tensors: Mapping[str, torch.Tensor], config: Mapping[str, Any]) -> None:
        """Base weight + B A * alpha / r for every pair; ValueError if there is none (peft 0.21 hands out none)."""
        pairs = {name: name.replace(".lora_A.", ".lora_B.") for name in tensors if ".lora_A." in name}
        if not pairs:
            raise ValueError("the LoRA adapter came without tensors, so nothing would be trained; install peft<0.21")
        parameters = dict(self.model.named_parameters())
        for a, b in pairs.items():
            name = re.sub(r"\.lora_A\.(default\.)?", ".", a.removeprefix("base_model.model."))
            weight = parameters[name]
            base = self._base.setdefault(name, weight.detach().clone())
            delta = tensors[b].float() @ tensors[a].float() * (config["lora_alpha"] / config["r"])
            weight.copy_(base.float() + delta)

    def module_name(self, name: str) -> str:
        """Checkpoints keep the names from before transformers 4.52 moved the modules."""
        moved = getattr(self.model, "_checkpoint_conversion_mapping", None) or {}
        names = (re.subn(pattern, replacement, name) for pattern, replacement in moved.items())
        return next((new for new, count in names if count), name)
