"""Two GRPO steps of EasyR1's own worker, dataset and reward manager on the stand-ins, for both EasyR1s.

Each case is a process of its own, since the stand-ins can't be taken back.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from fakes import tiny_models
from fakes.easyr1 import needs_no_gpu, run_script

from ier1_plugin.training.run_config import ROLLOUT_MARK

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

pytestmark = [pytest.mark.slow, needs_no_gpu]


@pytest.mark.parametrize(("which", "family", "settings"), CASES)
def test_easyr1_trains_on_our_rows_and_reward(which: str, family: str, settings: list[str], tmp_path: Path):
    model, rows = tiny_models.build(tmp_path / "model", family), tiny_models.write_rows(tmp_path / "rows.parquet", 8)
    report = tmp_path / "report.json"
    run_script("easyr1_step.py", which, model, rows, report, *settings, HF_HOME=str(tmp_path / "hf"))
    found = json.loads(report.read_text())
    rewards = {name: value for name, value in found["plugin"].items() if name.startswith("reward/")}
    assert set(rewards) == {f"reward/{part}" for part in ("overall", "format", "action", "subject", "goal")}
    assert all(0 <= value <= 1 for value in rewards.values())
    assert all(math.isfinite(value) for step in (found["plugin"], found["letters"]) for value in step.values())
    # a reward that the samples differ in moves the weights, and the rollout follows them
    assert 0 < found["letters"]["reward/overall"] < 1
    assert found["letters"]["actor/grad_norm"] > 0.01
    assert found["weights"]["moved"] > 1e-4
    assert found["weights"]["apart"] < found["weights"]["moved"] / 5
    mark = json.loads((tmp_path / "actor" / "huggingface" / ROLLOUT_MARK).read_text())
    assert mark == {"rollout": "cpu-standin"}
