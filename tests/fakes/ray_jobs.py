"""What tests submit to a Ray cluster: a checkout, storage that every node sees, and a training of two steps' size."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from fakes import tiny_models
from fakes.easyr1 import ROOT

RAY = Path(sys.executable).with_name("ray")
TINY = """
data.max_prompt_length=640 data.max_response_length=16 data.rollout_batch_size=4 data.val_batch_size=4
data.min_pixels=784 data.max_pixels=50176 worker.actor.global_batch_size=4 worker.rollout.n=2
worker.actor.micro_batch_size_per_device_for_update=8 worker.actor.micro_batch_size_per_device_for_experience=8
trainer.val_before_train=false trainer.val_freq=-1 trainer.save_freq=2 trainer.save_limit=-1
"""


def write_shared(folder: Path) -> Path:
    """Rows and a model, on storage that every node sees."""
    (folder / "data").mkdir(parents=True)
    tiny_models.write_rows(folder / "data" / "train.parquet", 8)
    tiny_models.write_rows(folder / "data" / "val.parquet", 4)
    tiny_models.build(folder / "model", "qwen2_5_vl")
    return folder


def copy_repository(folder: Path) -> Path:
    """A copy that nobody edits meanwhile: Ray reads the working directory twice and wants it unchanged."""
    for name in ("ier1_plugin", "reward_fns", "examples"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".gitignore", folder)
    return folder


def submit_training(
    repository: Path, shared: Path, environment: Mapping[str, str], *arguments: str, inside: Sequence[str] = ()
) -> str:
    """What examples/ray_job_submit.sh printed; its training must succeed. `inside`: a command that runs it."""
    command = [*inside, "bash", f"{repository}/examples/ray_job_submit.sh", "--cpu"]
    command += ["config=examples/grpo_small_world.yaml", f"worker.actor.model.model_path={shared}/model"]
    done = subprocess.run(
        [*command, *TINY.split(), *arguments],
        env={**environment, "SHARED": str(shared)},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return done.stdout
