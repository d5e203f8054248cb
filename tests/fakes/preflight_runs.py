"""Runs and rows for the tests of the preflight: a config with nothing wrong in it but what a test changes.

settings.batches(run(data__rollout_batch_size=6))     # keys have __ for a dot
"""

from __future__ import annotations

import functools
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from PIL import Image

from ier1_plugin.task.rows import format_row
from ier1_plugin.task.schema import Decomposition
from ier1_plugin.training import cpu
from ier1_plugin.training.easyr1 import defaults
from ier1_plugin.training.preflight import configuration, rows
from ier1_plugin.training.preflight.run import Run

GOLD = Decomposition(("Delete",), ("lamp",), ())
BASE: dict[str, Any] = {
    "data.max_prompt_length": 640,
    "data.max_response_length": 32,
    "data.rollout_batch_size": 4,
    "data.min_pixels": 784,
    "data.max_pixels": 50176,
    "data.filter_overlong_prompts": False,
    "worker.actor.global_batch_size": 4,
    "worker.actor.micro_batch_size_per_device_for_update": 2,
    "worker.actor.micro_batch_size_per_device_for_experience": 4,
    "worker.actor.use_torch_compile": False,
    "worker.actor.fsdp.enable_rank0_init": False,
    "worker.ref.fsdp.enable_rank0_init": False,
    "worker.rollout.n": 4,
    "worker.rollout.tensor_parallel_size": 1,
    "worker.rollout.val_override_config": {"n": 1},
    "worker.actor.model.model_path": None,
    "trainer.logger": ["console", "tensorboard"],
    "trainer.n_gpus_per_node": 1,
    "trainer.max_steps": 2,
}


@functools.cache
def arm() -> None:
    """EasyR1's config imports vLLM on its way."""
    if cpu.guard.has_gpu():
        pytest.skip("this machine has a GPU: the CPU stand-ins refuse to run")
    cpu.install()


def wrong_keys(settings: dict[str, Any]) -> list[str]:
    """What is said about the keys of a config."""
    arm()
    return configuration.typed(OmegaConf.create(settings))[1]


def config(**changes: Any) -> Any:
    """A config that has nothing wrong with it but `changes`, whose keys have __ for a dot."""
    arm()
    keys = BASE | {key.replace("__", "."): value for key, value in changes.items()}
    raw = OmegaConf.create(defaults())
    for key, value in keys.items():
        OmegaConf.update(raw, key, value)
    typed, wrong = configuration.typed(raw)
    assert not wrong
    return typed


def run(env: dict[str, str] | None = None, cpu: bool = False, **changes: Any) -> Run:
    # no cluster of another test or user
    return Run(config(**changes), cpu, {"RAY_TMPDIR": "/nowhere"} | (env or {}))


def png(width: int = 84, height: int = 56) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (width, height), "teal").save(buffer, "PNG")
    return buffer.getvalue()


def row(number: int = 0, **changes: Any) -> dict[str, Any]:
    made = format_row(id=f"r{number}", source="t", request="remove the lamp", image=png(), gold=GOLD)
    return made | changes


def write(path: Path, records: list[dict[str, Any]], rows: int | None = None) -> str:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.Table.from_pylist(records).slice(0, rows), path)
    return str(path)


def of_rows(tmp_path: Path, records: list[dict[str, Any]], **changes: Any) -> list[str]:
    """What is said about `records` as train file; the validation file is a good one."""
    train, val = write(tmp_path / "train.parquet", records), write(tmp_path / "val.parquet", [row()])
    lines = list(rows.data(run(data__train_files=train, data__val_files=val, **changes)))
    return [line for line in lines if " rows checked" not in line and "no model is set" not in line]


def one(lines: Any) -> str:
    (line,) = lines
    return line


def checkpoint(
    folder: Path, step: int = 3, ranks: int = 1, kinds: tuple[str, ...] = ("model", "optim", "extra_state")
) -> None:
    actor = folder / f"global_step_{step}" / "actor"
    actor.mkdir(parents=True)
    for kind in kinds:
        for rank in range(ranks):
            (actor / f"{kind}_world_size_{ranks}_rank_{rank}.pt").write_bytes(b"x")
    (folder / "checkpoint_tracker.json").write_text(json.dumps({"last_global_step": step}))
