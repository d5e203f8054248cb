"""A training as a Ray job on two nodes: package, prompt and reward reach the second through the job alone.

The nodes are two network namespaces of this machine, joined by a cable of their own. The second has a folder of its own
for Ray, and a mount namespace in which every checkout of this project is empty, and so is the head's folder.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.easyr1 import ROOT, needs_no_gpu
from fakes.ray_jobs import RAY, copy_repository, submit_training, write_shared

pytestmark = [
    pytest.mark.full,
    needs_no_gpu,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can make network namespaces"),
    pytest.mark.skipif(shutil.which("ip") is None, reason="there is no `ip` (Debian: iproute2)"),
]
HEAD, SECOND = "10.77.0.1", "10.77.0.2"
CODE = ("ier1_plugin", "reward_fns", "data_prep", "examples", "tests")
# Of the head's two CPUs this takes one, and its rank the other: EasyR1's runner, which reads rows and prompt, and both
# reward actors then start on the second node.
PREPARE = f"""
import time, urllib.request, ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as Pinned

def answers():
    try:
        return urllib.request.urlopen("http://{HEAD}:8265/api/jobs/", timeout=5)
    except OSError:
        time.sleep(0.5)

while not answers():
    pass
ray.init(address="{HEAD}:6379", log_to_driver=False)
while len(ray.nodes()) < 2:
    time.sleep(0.5)
head = next(node["NodeID"] for node in ray.nodes() if node["NodeManagerAddress"] == "{HEAD}")

@ray.remote(num_cpus=1, lifetime="detached", name="holder", scheduling_strategy=Pinned(head, soft=False))
class Holder:
    pass

ray.get(Holder.remote().__ray_ready__.remote(), timeout=60)
"""


def run(*command: object) -> str:
    return subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True, timeout=60).stdout


@pytest.fixture
def folder() -> Iterator[Path]:
    # Ray's sockets take no longer paths
    folder = Path(tempfile.mkdtemp(prefix="ier1_", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def namespaces(folder: Path) -> Iterator[tuple[str, str]]:
    """The names of the head's and the second's namespace; whatever still runs in them at the end is killed."""
    names = (f"{folder.name}_head", f"{folder.name}_second")
    try:
        for name in names:
            run("ip", "netns", "add", name)
        run("ip", "link", "add", "eth0", "netns", names[0], "type", "veth", "peer", "name", "eth0", "netns", names[1])
        for name, address in zip(names, (HEAD, SECOND), strict=True):
            run("ip", "-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
            run("ip", "-n", name, "link", "set", "lo", "up")
            run("ip", "-n", name, "link", "set", "eth0", "up")
        yield names
    finally:
        for name in names:
            listed = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, timeout=60)
            for pid in listed.stdout.split():
                os.kill(int(pid), signal.SIGKILL)
            subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=60)


@pytest.mark.timeout(900)
def test_package_prompt_and_reward_reach_a_second_node_that_has_no_checkout(
    namespaces: tuple[str, str], folder: Path, tmp_path: Path
):
    shared, repository = write_shared(tmp_path / "shared"), copy_repository(tmp_path / "repository")
    in_head, in_second = (["ip", "netns", "exec", name] for name in namespaces)
    environment = {key: value for key, value in os.environ.items() if key not in ("RAY_ADDRESS", "EASYR1_SOURCE")}
    # gloo, which stands for NCCL here, would take the address of the host's name
    environment |= {"GLOO_SOCKET_IFNAME": "eth0", "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
    # the project may be installed in place, from another checkout
    find = "import ier1_plugin, pathlib; print(pathlib.Path(ier1_plugin.__file__).parents[1])"
    installed = subprocess.run(
        [sys.executable, "-c", find], cwd=folder, env=environment, capture_output=True, text=True
    )
    places = {ROOT, repository, *map(Path, installed.stdout.split())}
    # and what Ray unpacked for the head, which another machine would not see
    hidden = [folder / "head", *(place / name for place in places for name in CODE if (place / name).is_dir())]
    hidden[0].mkdir()

    def start(node: str, inside: list[str], options: str) -> subprocess.Popen[bytes]:
        options += " --num-gpus=1 --object-store-memory=300000000 --disable-usage-stats --block"
        command = f"exec {RAY} start --temp-dir={folder}/{node} {options}"
        with (folder / f"{node}.log").open("w") as log:
            return subprocess.Popen(
                [*inside, "bash", "-c", command], stdout=log, stderr=log, env=environment, cwd=folder
            )

    start("head", in_head, f"--head --node-ip-address={HEAD} --dashboard-host={HEAD} --num-cpus=2")
    empty = "".join(f"mount -t tmpfs none {path}; " for path in hidden)
    in_second += ["unshare", "--mount", "bash", "-ec", f'{empty}exec "$@"', "second"]
    second = start("second", in_second, f"--address={HEAD}:6379 --node-ip-address={SECOND} --num-cpus=8")
    command = [*in_head, sys.executable, "-c", PREPARE]
    ready = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert ready.returncode == 0, ready.stderr + (folder / "second.log").read_text()
    seen = run("nsenter", "--mount", f"--target={second.pid}", "find", *hidden, "-type", "f")
    assert not seen, seen

    submitting = {
        "RAY": str(RAY),
        "RAY_ADDRESS": f"http://{HEAD}:8265",
        "PYTHON": sys.executable,
        "EXPERIMENT": "nodes",
    }
    micro = "worker.actor.micro_batch_size_per_device_for"
    arguments = ("trainer.nnodes=2", "trainer.max_steps=2", f"{micro}_update=4", f"{micro}_experience=4")
    printed = submit_training(repository, shared, environment | submitting, *arguments, inside=in_head)
    # each rank saves its half
    saved = shared / "checkpoints" / "imageedit_r1" / "nodes" / "global_step_2" / "actor"
    assert len(list(saved.glob("model_world_size_2_rank_[01].pt"))) == 2
    # Ray says where a line comes from, unless it is the driver's node
    assert {"Runner", "WorkerDict"} <= set(re.findall(rf"\((\w+) pid=\d+, ip={SECOND}\)", printed))
    assert "(WorkerDict pid=" in re.sub(rf"pid=\d+, ip={SECOND}", "", printed)
    rewards = [line for line in printed.splitlines() if "Using reward function" in line]
    assert len(rewards) == 2
    assert all(f"ip={SECOND}" in line for line in rewards)
