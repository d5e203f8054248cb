"""LoRA as EasyR1 saves it, merged into the weights that it adapts.

    merge_lora({"base_model.model.lm_head.weight": ..., "base_model.model.model.layers.0.q_proj.base_layer.weight": ...,
                "base_model.model.model.layers.0.q_proj.lora_A.default.weight": ..., ...}, Path("adapter_config.json"))
    -> {"lm_head.weight": ..., "model.layers.0.q_proj.weight": ...}

EasyR1 saves the frozen base (bfloat16) and both factors (float32) in the shards, under peft's names, and the adapter
alone in `actor/lora_adapter` (verl/utils/checkpoint/fsdp_checkpoint_manager.py). Neither peft nor the base model is
needed to merge them.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from ier1_plugin.training.checkpoint import CheckpointError, Weight, Weights

_PREFIX = "base_model.model."
_FACTOR = re.compile(r".+\.lora_[AB]\.default\.weight")
# peft options that change what a LoRA layer computes; EasyR1 sets none of them (verl/workers/fsdp_workers.py)
_UNKNOWN = ("use_dora", "rank_pattern", "alpha_pattern", "modules_to_save", "fan_in_fan_out", "lora_bias")


def merge_lora(weights: Weights, adapter_config: Path) -> Weights:
    """W + scale * B A under W's own name, for every LoRA layer; the weights as they are if there is none.

    The sum is made in float32, when a weight is read. CheckpointError: something else than plain LoRA, or no scale.
    """
    if not any(".lora_" in name for name in weights):
        return weights
    if odd := [name for name in weights if ".lora_" in name and not _FACTOR.fullmatch(name)]:
        raise CheckpointError(f"{odd[0]}: only plain LoRA on linear layers can be merged")
    scale = _scale(adapter_config)
    merged = {}
    for name, weight in weights.items():
        if _FACTOR.fullmatch(name):
            continue
        layer = name.removesuffix(".base_layer.weight")
        own_name = name.removeprefix(_PREFIX).replace(".base_layer.", ".")
        merged[own_name] = weight if layer == name else _adapted(layer, weights, scale)
    return merged


def _scale(adapter_config: Path) -> float:
    try:
        config = json.loads(adapter_config.read_text(encoding="utf-8"))
        scale = config["lora_alpha"] / (config["r"] ** 0.5 if config.get("use_rslora") else config["r"])
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        raise CheckpointError(f"the weights hold LoRA layers, and {adapter_config} can't be read ({reason})") from None
    if unknown := [key for key in _UNKNOWN if config.get(key)]:
        raise CheckpointError(f"{adapter_config} sets {unknown[0]}; only plain LoRA can be merged")
    return scale


def _adapted(layer: str, weights: Weights, scale: float) -> Weight:
    names = f"{layer}.base_layer.weight", f"{layer}.lora_A.default.weight", f"{layer}.lora_B.default.weight"
    if missing := [name for name in names if name not in weights]:
        raise CheckpointError(f"{layer} is a LoRA layer without {missing[0]}")
    base, a, b = (weights[name] for name in names)
    if (*b.shape[:1], *a.shape[1:]) != base.shape or a.shape[0] != b.shape[-1]:
        raise CheckpointError(f"{layer}: LoRA factors {b.shape} x {a.shape} do not fit the weight {base.shape}")
    return Weight(base.shape, a.dtype, lambda: base.read().float() + scale * (b.read().float() @ a.read().float()))
