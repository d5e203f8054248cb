"""Small checkpoints in EasyR1's format, made in this process: DTensors on torch's fake process group.

make_run(tmp_path / "run")     -> the run's folder: one step of two ranks, its config, its tracker
read_weights(run / "decomposer-step-4")    -> the merged weights by name
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BUDGET = ("--min-pixels", "784", "--max-pixels", "50176")
CONFIG = {"model_type": "qwen2_5_vl", "dtype": "float32", "text_config": {"dtype": "float32"}, "vision_config": {}}
PROCESSOR = {"patch_size": 14, "merge_size": 2, "min_pixels": 3136, "max_pixels": 12845056}
GENERATION = {"eos_token_id": [1, 2], "do_sample": True, "temperature": 1e-06, "repetition_penalty": 1.05}


def make_run(run: Path) -> Path:
    """A run's folder with one step of two ranks."""
    actor = actor_of(run)
    save_shards(actor, weights(), 2)
    write_json(actor / "huggingface" / "config.json", CONFIG)
    write_json(actor / "huggingface" / "preprocessor_config.json", PROCESSOR)
    write_json(actor / "huggingface" / "generation_config.json", GENERATION)
    write_json(run / "checkpoint_tracker.json", {"last_global_step": 4, "best_global_step": 2})
    return run


def actor_of(run: Path) -> Path:
    return run / "global_step_4" / "actor"


def weights() -> dict[str, Any]:
    """A model of four weights under the names that transformers has for them in training."""
    import torch

    torch.manual_seed(0)
    return {
        "model.language_model.embed_tokens.weight": torch.randn(5, 4),
        "model.visual.patch_embed.proj.weight": torch.randn(3, 2, 2),
        "model.language_model.norm.weight": torch.randn(1),
        "lm_head.weight": torch.randn(5, 4),
    }


def save_shards(actor: Path, tensors: dict[str, Any], world_size: int, copies: int = 1) -> None:
    """Shards as FSDP cuts them: along dimension 0, in torch.chunk's pieces, small weights leaving some ranks none.

    `copies`: of the whole model, each over world_size / copies ranks.
    """
    import torch
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor, Replicate, Shard

    actor.mkdir(parents=True, exist_ok=True)
    pieces = world_size // copies
    with _ranks(world_size):
        numbers = torch.arange(world_size)
        mesh = DeviceMesh("cpu", numbers if copies == 1 else numbers.view(copies, pieces))
        placements = [Shard(0)] if copies == 1 else [Replicate(), Shard(0)]
        for rank in range(world_size):
            shard = {}
            for name, whole in tensors.items():
                chunks = [chunk.clone() for chunk in whole.chunk(pieces)]
                chunks += [whole[:0].clone()] * (pieces - len(chunks))
                layout: Any = {"shape": whole.shape, "stride": whole.stride(), "run_check": False}
                shard[name] = DTensor.from_local(chunks[rank % pieces], mesh, placements, **layout)
            torch.save(shard, actor / f"model_world_size_{world_size}_rank_{rank}.pt")


def write_json(file: Path, values: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(values))


def read_weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return {name: weight for file in folder.glob("*.safetensors") for name, weight in load_file(file).items()}


@contextmanager
def _ranks(world_size: int) -> Iterator[None]:
    """DTensors need a process group while they are made; torch's fake one needs no further process."""
    import torch.distributed as dist
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", rank=0, world_size=world_size, store=FakeStore())
    yield
    dist.destroy_process_group()
