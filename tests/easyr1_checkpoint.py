"""Saves a checkpoint with EasyR1's own FSDP wrapping and checkpoint manager; one process a rank, gloo, no Ray.

    python tests/easyr1_checkpoint.py MODEL ACTOR_FOLDER LAYOUT RANK WORLD_SIZE PORT

LAYOUT: "fsdp" (one full model over all ranks), "hsdp" (two copies, each over half of the ranks), "lora" (fsdp, with
rank 4 adapters whose B is not zero). Which EasyR1: the one on PYTHONPATH. Writes beside the shards what a test
compares with: `expected.safetensors`, the weights that the merge has to give, in float32.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any


def main(model_path: str, actor: str, layout: str, rank: int, world_size: int, port: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": str(rank), "WORLD_SIZE": str(world_size)}
    from ier1_plugin import cpu

    cpu.install()
    import torch
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FullyShardedDataParallel as FSDP
    from torch.distributed.fsdp import ShardingStrategy
    from transformers import AutoModelForImageTextToText, AutoProcessor
    from verl.utils.checkpoint.fsdp_checkpoint_manager import FSDPCheckpointManager
    from verl.utils.fsdp_utils import get_fsdp_wrap_policy

    dist.init_process_group("gloo")
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_pretrained(model_path, torch_dtype=torch.float32)
    if layout == "lora":
        model = _with_lora(model)
    if rank == 0:
        _write_expected(model, Path(actor))
    hybrid = layout == "hsdp"
    shape, names = ((2, world_size // 2), ("ddp", "fsdp")) if hybrid else ((world_size,), ("fsdp",))
    wrap: dict[str, Any] = {"is_lora_model": True} if layout == "lora" else {}
    sharded = FSDP(
        model,
        sharding_strategy=ShardingStrategy.HYBRID_SHARD if hybrid else ShardingStrategy.FULL_SHARD,
        auto_wrap_policy=get_fsdp_wrap_policy(model, **wrap),
        device_id=torch.device("cpu"),
        device_mesh=init_device_mesh("cpu", shape, mesh_dim_names=names),
    )
    manager = FSDPCheckpointManager(sharded, None, None, AutoProcessor.from_pretrained(model_path))  # pyright: ignore
    manager.save_checkpoint(actor, save_model_only=True)
    dist.destroy_process_group()


def _with_lora(model: Any) -> Any:
    """As EasyR1's worker makes it (verl/workers/fsdp_workers.py): a bfloat16 base, float32 factors."""
    import torch
    from peft import LoraConfig, TaskType, get_peft_model

    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM, r=4, lora_alpha=8, target_modules="all-linear", exclude_modules=".*visual.*"
    )
    model = get_peft_model(model, config)
    for name, parameter in model.named_parameters():
        parameter.data = parameter.to(torch.float32 if parameter.requires_grad else torch.bfloat16)
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def _write_expected(model: Any, actor: Path) -> None:
    from copy import deepcopy

    from safetensors.torch import save_file

    whole = deepcopy(model).float()
    whole = whole.merge_and_unload() if hasattr(whole, "merge_and_unload") else whole
    actor.mkdir(parents=True, exist_ok=True)
    save_file({name: weight.clone() for name, weight in whole.state_dict().items()}, actor / "expected.safetensors")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]), sys.argv[6])
