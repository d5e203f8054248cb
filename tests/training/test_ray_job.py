"""`ray job submit` with examples/runtime_env.yaml against a real cluster: train on words and on pictures, save, resume,
and be refused.

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
from fakes.chat_fakes import free_port
from fakes.easyr1 import needs_no_gpu
from fakes.ray_jobs import RAY, TINY, copy_repository, submit_training, write_shared
from fakes.small_world_rows import write_cases, write_model

from ier1_plugin.runs.shared_store import SharedStore

pytestmark = [pytest.mark.slow, needs_no_gpu]
KWARGS = "worker.reward.reward_function_kwargs"
REWARDS = {
    "decomposition": "",
    # groups without spread are dropped
    "picture": f"""
data.max_response_length=72 worker.reward.reward_function=reward_fns/picture.py:compute_score
{KWARGS}.editor=small-world {KWARGS}.judge=pixel
algorithm.online_filtering=true algorithm.filter_key=keep algorithm.filter_low=0.5 algorithm.filter_high=2
""",
}


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
    return write_shared(tmp_path_factory.mktemp("shared"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `shared`, with rows that have a photo in place of gold, and a model whose answers can be rendered."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "data").mkdir()
    write_cases(folder / "data", 8, "train")
    write_cases(folder / "data", 4, "val")
    write_model(folder / "model")
    return folder


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_repository(tmp_path_factory.mktemp("repository"))


def submit(cluster: dict[str, str], repository: Path, shared: Path, *arguments: str) -> str:
    """What a job printed that must succeed."""
    environment = cluster | {"EXPERIMENT": f"job_{cluster['IER1_TEST_EASYR1']}"}
    return submit_training(repository, shared, environment, *arguments)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("reward", REWARDS)
def test_two_steps_train_in_a_job_and_the_same_command_goes_on_from_the_checkpoint_on_shared_storage(
    cluster: dict[str, str], repository: Path, request: pytest.FixtureRequest, reward: str
):
    shared: Path = request.getfixturevalue("pictures" if reward == "picture" else "shared")
    settings = REWARDS[reward].split()
    trained = submit(cluster, repository, shared, *settings, "trainer.max_steps=2")
    experiment = f"imageedit_r1/job_{cluster['IER1_TEST_EASYR1']}"
    saved = shared / "checkpoints" / experiment
    actor = saved / "global_step_2" / "actor"
    assert (actor / "model_world_size_1_rank_0.pt").is_file()
    assert json.loads((actor / "huggingface" / "rollout.json").read_text()) == {"rollout": "cpu-standin"}
    assert list((shared / "tensorboard_log" / experiment).glob("events.out.tfevents.*"))
    # the code that ran is Ray's copy of the working directory, in which Ray starts the workers
    used = next(line for line in trained.splitlines() if "Using reward function" in line)
    assert used.rstrip("`.").endswith(f"/proc/self/cwd/reward_fns/{reward}.py")
    printed = submit(cluster, repository, shared, *settings, "trainer.max_steps=3")
    assert f"continues from {saved}/global_step_2" in printed
    assert f"Load from checkpoint: {saved}/global_step_2" in printed
    assert json.loads((saved / "checkpoint_tracker.json").read_text())["last_global_step"] == 3
    if reward == "picture":
        with SharedStore(saved / "pictures") as judgements:
            assert len(judgements) > 0


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
