"""Saves checkpoints with EasyR1's own FSDP wrapping and checkpoint manager; a process a rank, gloo, no Ray.

    python tests/fakes/easyr1_checkpoint.py '[["tiny", "run/global_step_4/actor", "hsdp", 4]]'

A checkpoint: the model's folder, where to save, the layout, the number of ranks. Layouts: "fsdp" (one model over all
ranks), "hsdp" (two copies, each over half of the ranks), "lora" (fsdp, with adapters whose B is not zero). Which
EasyR1: the one on PYTHONPATH, else the installed one. Beside the shards it writes what the merge has to give:
`expected.safetensors`, in float32.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from fakes.chat_fakes import free_port

from ier1_plugin.training import cpu


def main(checkpoints: list[tuple[str, str, str, int]]) -> None:
    cpu.install()
    from torch.multiprocessing.spawn import start_processes
    from transformers import AutoModelForImageTextToText, AutoProcessor  # noqa: F401
    from verl.utils.checkpoint import fsdp_checkpoint_manager  # noqa: F401

    for model, actor, layout, ranks in checkpoints:
        # forked: what is imported above is imported once, not by every rank
        start_processes(_save, (model, Path(actor), layout, ranks, free_port()), nprocs=ranks, start_method="fork")


def _save(rank: int, folder: str, actor: Path, layout: str, ranks: int, port: int) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": str(ranks)}
    import torch
    import torch.distributed as dist
    from transformers import AutoModelForImageTextToText, AutoProcessor
    from verl.utils.checkpoint.fsdp_checkpoint_manager import FSDPCheckpointManager

    dist.init_process_group("gloo")
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_pretrained(folder, torch_dtype=torch.float32)
    if layout == "lora":
        model = _with_lora(model)
    if rank == 0:
        _write_expected(model, actor)
    sharded = _wrapped(model, layout, ranks)
    processor = AutoProcessor.from_pretrained(folder)
    manager = FSDPCheckpointManager(sharded, None, None, processor)  # pyright: ignore[reportArgumentType]
    manager.save_checkpoint(str(actor), save_model_only=True)
    dist.destroy_process_group()


def _wrapped(model: Any, layout: str, ranks: int) -> Any:
    """As EasyR1's worker wraps it (verl/workers/fsdp_workers.py)."""
    import torch
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FullyShardedDataParallel as FSDP
    from torch.distributed.fsdp import ShardingStrategy
    from verl.utils.fsdp_utils import get_fsdp_wrap_policy

    hybrid = layout == "hsdp"
    shape, names = ((2, ranks // 2), ("ddp", "fsdp")) if hybrid else ((ranks,), ("fsdp",))
    lora: dict[str, Any] = {"is_lora_model": True} if layout == "lora" else {}
    return FSDP(
        model,
        sharding_strategy=ShardingStrategy.HYBRID_SHARD if hybrid else ShardingStrategy.FULL_SHARD,
        auto_wrap_policy=get_fsdp_wrap_policy(model, **lora),
        device_id=torch.device("cpu"),
        device_mesh=init_device_mesh("cpu", shape, mesh_dim_names=names),
    )


def _with_lora(model: Any) -> Any:
    """As EasyR1's worker makes it: a bfloat16 base, float32 factors."""
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
    main(json.loads(sys.argv[1]))
