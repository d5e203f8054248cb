"""Two GRPO steps of EasyR1's own worker, dataset and reward manager on the stand-ins, for both EasyR1s.

Each case is a process of its own, since the stand-ins can't be taken back.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from fakes import tiny_models

from ier1_plugin.training.cpu import guard, provenance

STEP = Path(__file__).parents[1] / "fakes" / "easyr1_step.py"
# far enough to show next to a rounding to bfloat16
FAR = "worker.actor.optim.lr=0.05"
LORA = ["worker.actor.model.lora.rank=4", "worker.actor.model.lora.exclude_modules=.*visual.*", FAR]
MICRO = "worker.actor.micro_batch_size_per_device_for"
PACKED = ["worker.actor.padding_free=true", f"{MICRO}_update=4", f"{MICRO}_experience=4"]
STATIC = ["worker.actor.dynamic_batching=false", "worker.rollout.dtype=bf16", FAR]
CASES = [
    pytest.param("installed", "qwen2_5_vl", [], id="installed"),
    pytest.param("installed", "qwen2_5_vl", PACKED, id="installed, packed"),
    pytest.param("installed", "qwen2_5_vl", STATIC, id="installed, static batches and bf16 rollout"),
    pytest.param("source", "qwen2_5_vl", [], id="source"),
    pytest.param("source", "qwen2_5_vl", LORA, id="source, LoRA"),
    pytest.param("source", "qwen3_vl", [], id="source, Qwen3-VL"),
    pytest.param("source", "qwen3_vl", PACKED, id="source, Qwen3-VL packed"),
]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(guard.has_gpu(), reason="this machine has a GPU: the CPU stand-ins refuse to run"),
]


def easyr1_path(which: str) -> str:
    """PYTHONPATH that makes `verl` this EasyR1."""
    if which == "source":
        source = os.environ.get("EASYR1_SOURCE")
        if not source:
            pytest.skip("EASYR1_SOURCE is not set: EasyR1's current source")
        return source
    try:
        version("lazyllm-verl")
    except PackageNotFoundError:
        pytest.skip("EasyR1 from PyPI (lazyllm-verl) is not installed")
    return ""


def train(which: str, family: str, settings: list[str], folder: Path) -> dict:
    python_path = easyr1_path(which)
    model = tiny_models.build(folder / "model", family)
    rows = tiny_models.write_rows(folder / "rows.parquet", 8)
    report = folder / "report.json"
    environment = os.environ | {"PYTHONPATH": python_path, "OMP_NUM_THREADS": "1", "HF_HOME": str(folder / "hf")}
    command = [sys.executable, str(STEP), str(model), str(rows), str(report), *settings]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(report.read_text())


@pytest.mark.parametrize(("which", "family", "settings"), CASES)
def test_easyr1_trains_on_our_rows_and_reward(which: str, family: str, settings: list[str], tmp_path: Path):
    found = train(which, family, settings, tmp_path)
    rewards = {name: value for name, value in found["plugin"].items() if name.startswith("reward/")}
    assert set(rewards) == {f"reward/{part}" for part in ("overall", "format", "action", "subject", "goal")}
    assert all(0 <= value <= 1 for value in rewards.values())
    assert all(math.isfinite(value) for step in (found["plugin"], found["letters"]) for value in step.values())
    # a reward that the samples differ in moves the weights, and the rollout follows them
    assert 0 < found["letters"]["reward/overall"] < 1
    assert found["letters"]["actor/grad_norm"] > 0.01
    assert found["weights"]["moved"] > 1e-4
    assert found["weights"]["apart"] < found["weights"]["moved"] / 5
    mark = json.loads((tmp_path / "actor" / "huggingface" / provenance.FILE_NAME).read_text())
    assert mark == {"rollout": "cpu-standin"}
