"""Runs and rows for the tests of the preflight: a config with nothing wrong in it but what a test changes.

settings.batches(run("data.rollout_batch_size=6"))
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
CONFIG = """
data: {max_prompt_length: 640, max_response_length: 32, rollout_batch_size: 4, min_pixels: 784, max_pixels: 50176,
       filter_overlong_prompts: false}
worker:
  actor: {global_batch_size: 4, micro_batch_size_per_device_for_update: 2, padding_free: false,
          micro_batch_size_per_device_for_experience: 4, use_torch_compile: false, fsdp: {enable_rank0_init: false}}
  rollout: {n: 4, tensor_parallel_size: 1, val_override_config: {n: 1}}
  ref: {fsdp: {enable_rank0_init: false, enable_cpu_offload: false}}
trainer: {max_steps: 2, n_gpus_per_node: 1, logger: [console, tensorboard], save_checkpoint_path: checkpoints}
"""


@functools.cache
def arm() -> None:
    """EasyR1's config imports vLLM on its way."""
    if cpu.guard.has_gpu():
        pytest.skip("this machine has a GPU: the CPU stand-ins refuse to run")
    cpu.install()


def typed(*settings: str) -> tuple[Any, list[str]]:
    """CONFIG with `key=value` settings as EasyR1's config, and what is wrong with its keys."""
    arm()
    no_model = {"worker": {"actor": {"model": {"model_path": None}}}}
    raw = OmegaConf.merge(defaults(), no_model, OmegaConf.create(CONFIG), OmegaConf.from_dotlist(list(settings)))
    return configuration.typed(raw)


def run(*arguments: str) -> Run:
    """A run of `ier1 train` with these arguments: --cpu, `key=value`, and `NAME=value` for the environment."""
    settings = [text for text in arguments if "." in text.partition("=")[0]]
    # no cluster of another test or user
    env = {"RAY_TMPDIR": "/nowhere"}
    env |= dict(text.split("=", 1) for text in arguments if text not in settings and text != "--cpu")
    config, wrong = typed(*settings)
    assert not wrong
    return Run(config, "--cpu" in arguments, env)


def png(width: int = 84, height: int = 56, kind: str = "PNG") -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (width, height), "teal").save(buffer, kind)
    return buffer.getvalue()


def row(number: int = 0, **changes: Any) -> dict[str, Any]:
    made = format_row(id=f"r{number}", source="t", request="remove the lamp", image=png(), gold=GOLD)
    return made | changes


def many(count: int, **changes: Any) -> list[dict[str, Any]]:
    return [row(number, **changes) for number in range(count)]


def write(path: Path, records: list[dict[str, Any]], rows: int | None = None) -> str:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.Table.from_pylist(records).slice(0, rows), path)
    return str(path)


def of_rows(tmp_path: Path, records: list[dict[str, Any]], *settings: str) -> list[str]:
    """What is said about `records` as train file; the validation file is a good one."""
    train, val = write(tmp_path / "train.parquet", records), write(tmp_path / "val.parquet", [row()])
    lines = list(rows.data(run(f"data.train_files={train}", f"data.val_files={val}", *settings)))
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
