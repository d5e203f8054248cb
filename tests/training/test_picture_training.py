"""A training on pictures in unmodified EasyR1, killed and started again: what is stored is not rendered again."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
from fakes.easyr1 import ROOT, environment, needs_no_gpu
from fakes.small_world_rows import write_cases, write_model

from ier1_plugin.runs.shared_store import SharedStore
from ier1_plugin.runs.store import Store

pytestmark = [pytest.mark.full, needs_no_gpu]
KWARGS = "worker.reward.reward_function_kwargs"
SETTINGS = f"""
config={ROOT}/examples/grpo_small_world.yaml data.train_files=train.parquet data.val_files=val.parquet
worker.actor.model.model_path=model trainer.save_checkpoint_path=run trainer.save_freq=1 trainer.max_steps=6
data.rollout_batch_size=4 worker.actor.global_batch_size=4 worker.rollout.n=4 trainer.total_epochs=9
worker.actor.micro_batch_size_per_device_for_update=16 worker.actor.micro_batch_size_per_device_for_experience=16
worker.reward.reward_function={ROOT}/reward_fns/picture.py:compute_score
{KWARGS}.editor=small-world {KWARGS}.judge=pixel
"""
KILLS = 3


def kill(process: subprocess.Popen[bytes]) -> None:
    """The process and Ray's below it, all at once."""
    processes = [*psutil.Process(process.pid).children(recursive=True), process]
    for one in processes:
        one.kill()
    psutil.wait_procs([one for one in processes if isinstance(one, psutil.Process)], 30)
    process.wait()


def stored(folder: Path) -> int:
    """Plans that were judged by now."""
    with SharedStore(folder) as store:
        return len(store)


@pytest.mark.timeout(1800)
def test_a_training_that_is_killed_again_and_again_pays_for_no_plan_twice(tmp_path: Path):
    write_cases(tmp_path, 8, "train")
    write_cases(tmp_path, 4, "val")
    write_model(tmp_path / "model")
    rng, store = random.Random(0), tmp_path / "run" / "pictures"
    with tempfile.TemporaryDirectory(prefix="ier1_", dir="/tmp", ignore_cleanup_errors=True) as ray:
        command = [sys.executable, "-m", "ier1_plugin.cli", "train", "--cpu", *SETTINGS.split()]
        for number in range(KILLS + 1):
            with (tmp_path / f"log-{number}.txt").open("w") as log:
                process = subprocess.Popen(
                    command, cwd=tmp_path, env=environment(RAY_TMPDIR=ray), stdout=log, stderr=log
                )
                wanted = stored(store) + rng.randint(1, 6) if number < KILLS else sys.maxsize
                try:
                    while process.poll() is None and stored(store) < wanted:
                        time.sleep(0.05)
                finally:
                    if process.poll() is None:
                        kill(process)
            killed = process.returncode == -signal.SIGKILL
            assert killed == (number < KILLS), (tmp_path / f"log-{number}.txt").read_text()[-4000:]
    assert json.loads((tmp_path / "run" / "checkpoint_tracker.json").read_text())["last_global_step"] == 6
    judged: Counter[str] = Counter()
    for file in store.glob("*.sqlite"):
        with Store(file, read_only=True) as part:
            judged.update(key for key, _ in part)
    assert len(list(store.glob("*.sqlite"))) > KILLS
    assert len(judged) > 8
    assert set(judged.values()) == {1}
