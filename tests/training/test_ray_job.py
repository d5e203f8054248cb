"""`ray job submit` with examples/runtime_env.yaml against a real cluster: train, save, resume, and be refused.

The cluster has its own ports and folder; it is ended by its process id.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import tiny_models
from fakes.chat_fakes import free_port
from fakes.easyr1 import ROOT, needs_no_gpu

RAY = Path(sys.executable).with_name("ray")
pytestmark = [pytest.mark.slow, needs_no_gpu]
TINY = """
data.max_prompt_length=640 data.max_response_length=16 data.rollout_batch_size=4 data.val_batch_size=4
data.min_pixels=784 data.max_pixels=50176 worker.actor.global_batch_size=4 worker.rollout.n=2
worker.actor.micro_batch_size_per_device_for_update=8 worker.actor.micro_batch_size_per_device_for_experience=8
trainer.val_before_train=false trainer.val_freq=-1 trainer.save_freq=2 trainer.save_limit=-1
"""


@pytest.fixture(scope="module", params=["installed", pytest.param("source", marks=pytest.mark.full)])
def cluster(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """A Ray cluster with one logical GPU; yields the environment that its jobs are submitted in."""
    if request.param == "source" and not os.environ.get("EASYR1_SOURCE"):
        pytest.skip("EASYR1_SOURCE is not set: EasyR1's current source")
    # Ray's sockets take no longer paths
    folder = Path(tempfile.mkdtemp(prefix="ier1_", dir="/tmp"))
    names = ("port", "dashboard-port", "ray-client-server-port", "dashboard-agent-listen-port", "metrics-export-port")
    ports = {name: free_port() for name in names}
    environment = {key: value for key, value in os.environ.items() if key not in ("RAY_ADDRESS", "EASYR1_SOURCE")}
    environment |= {"RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
    command = [str(RAY), "start", "--head", "--block", "--num-cpus=8", "--num-gpus=1", "--disable-usage-stats"]
    command += [f"--temp-dir={folder}/ray", "--object-store-memory=300000000"]
    command += [f"--{name}={port}" for name, port in ports.items()]
    with (folder / "start.log").open("w") as log:
        head = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=folder)
    address = f"http://127.0.0.1:{ports['dashboard-port']}"
    try:
        wait_for_jobs(address, head, folder / "start.log")
        submit = {"RAY_ADDRESS": address, "RAY": str(RAY), "PYTHON": sys.executable, "IER1_TEST_EASYR1": request.param}
        if request.param == "source":
            submit["EASYR1_SOURCE"] = os.environ["EASYR1_SOURCE"]
        yield environment | submit
    finally:
        head.send_signal(signal.SIGTERM)
        head.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


def wait_for_jobs(address: str, head: subprocess.Popen[bytes], log: Path) -> None:
    """Until the cluster takes jobs; its dashboard comes up some seconds after it."""
    for _ in range(240):
        assert head.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"{address}/api/jobs/", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise AssertionError(log.read_text())


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What lies on storage that every node sees: rows and model."""
    folder = tmp_path_factory.mktemp("shared")
    (folder / "data").mkdir()
    tiny_models.write_rows(folder / "data" / "train.parquet", 8)
    tiny_models.write_rows(folder / "data" / "val.parquet", 4)
    tiny_models.build(folder / "model", "qwen2_5_vl")
    return folder


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy that nobody edits meanwhile: Ray reads the working directory twice and wants it unchanged."""
    copy = tmp_path_factory.mktemp("repository")
    for folder in ("ier1_plugin", "reward_fns", "examples"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".gitignore", copy)
    return copy


def submit(cluster: dict[str, str], repository: Path, shared: Path, *arguments: str) -> str:
    """What a job printed that must succeed."""
    command = ["bash", f"{repository}/examples/ray_job_submit.sh", "--cpu", "config=examples/grpo_small_world.yaml"]
    command += [f"worker.actor.model.model_path={shared}/model", *TINY.split(), *arguments]
    environment = cluster | {"SHARED": str(shared), "EXPERIMENT": f"job_{cluster['IER1_TEST_EASYR1']}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.timeout(600)
def test_two_steps_train_in_a_job_and_the_same_command_goes_on_from_the_checkpoint_on_shared_storage(
    cluster: dict[str, str], repository: Path, shared: Path
):
    trained = submit(cluster, repository, shared, "trainer.max_steps=2")
    experiment = f"imageedit_r1/job_{cluster['IER1_TEST_EASYR1']}"
    saved = shared / "checkpoints" / experiment
    actor = saved / "global_step_2" / "actor"
    assert (actor / "model_world_size_1_rank_0.pt").is_file()
    assert json.loads((actor / "huggingface" / "rollout.json").read_text()) == {"rollout": "cpu-standin"}
    assert list((shared / "tensorboard_log" / experiment).glob("events.out.tfevents.*"))
    # the code that ran is Ray's copy of the working directory
    reward = next(line for line in trained.splitlines() if "Using reward function" in line)
    assert "/working_dir_files/_ray_pkg_" in reward
    assert reward.rstrip("`.").endswith("/reward_fns/decomposition.py")
    printed = submit(cluster, repository, shared, "trainer.max_steps=3")
    assert f"continues from {saved}/global_step_2" in printed
    assert f"Load from checkpoint: {saved}/global_step_2" in printed
    assert json.loads((saved / "checkpoint_tracker.json").read_text())["last_global_step"] == 3


def test_relative_paths_in_a_job_are_refused_before_anything_starts(
    cluster: dict[str, str], repository: Path, shared: Path
):
    command = [cluster["RAY"], "job", "submit", "--runtime-env", "examples/runtime_env.yaml", "--", cluster["PYTHON"]]
    command += ["-m", "ier1_plugin.cli", "train", "--cpu", "config=examples/grpo_small_world.yaml", *TINY.split()]
    command += [f"worker.actor.model.model_path={shared}/model"]
    done = subprocess.run(command, cwd=repository, env=cluster, capture_output=True, text=True, timeout=200)
    assert done.returncode != 0
    for told in (
        "trainer.save_checkpoint_path=quickstart/grpo: in a Ray job",
        "TENSORBOARD_DIR=(unset): in a Ray job",
        "data.train_files=quickstart/rows/train.parquet: there is no such file",
    ):
        assert told in done.stdout, done.stdout
    assert "Traceback" not in done.stdout
