"""`bash examples/quickstart.sh`: what it refuses, and a short version of it from beginning to end."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("ier1_plugin", "data_prep", "reward_fns", "examples", "setup.py", "constraints.txt", "README.md")
SCRIPT = "examples/quickstart.sh"
STAGES = 8


def run(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHON": sys.executable, **more}
    return subprocess.run(
        ["bash", SCRIPT, *arguments], cwd=folder, env=env, capture_output=True, text=True, timeout=900
    )


@pytest.mark.parametrize(
    ("arguments", "environment", "status", "wanted"),
    [
        (["--control"], {}, 2, "neither --controls, --host, --reward nor key=value"),
        (["--host", "trl"], {}, 2, "--host trl; wanted easyr1 or verl"),
        (["--reward", "money"], {}, 2, "--reward money; wanted words or picture"),
        (["--reward"], {}, 2, "wanted words or picture"),
        ([], {"STEPS": "two"}, 2, "STEPS=two; wanted a number"),
        ([], {"STEPS": "0"}, 2, "STEPS=0; wanted a number"),
        # a machine with a GPU is sent to the real thing
        ([], {"PATH": f"TMP:{os.environ['PATH']}"}, 1, "run_grpo_qwen25vl_3b_lora.sh"),
    ],
)
def test_what_the_quickstart_refuses_gets_one_line(
    arguments: list[str], environment: dict[str, str], status: int, wanted: str, tmp_path: Path
):
    gpu = tmp_path / "nvidia-smi"
    gpu.write_text('#!/bin/sh\necho "GPU 0: NVIDIA A100-SXM4-80GB"\n')
    gpu.chmod(0o755)
    result = run(ROOT, *arguments, **{name: value.replace("TMP", str(tmp_path)) for name, value in environment.items()})
    assert result.returncode == status
    assert wanted in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project, so that nothing is written into this one."""
    copy = tmp_path_factory.mktemp("checkout")
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, copy / part)
    return copy


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, checkout: Path) -> Iterator[dict[str, str]]:
    """A virtual environment that borrows this one's packages and counts as up to date; a short folder for Ray."""
    venv = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    (site,) = venv.glob("lib/python*/site-packages")
    (site / "borrowed.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")) + "\n")
    inputs = b"".join(
        (checkout / name).read_bytes() for name in ("examples/make_venv.sh", "constraints.txt", "setup.py")
    )
    (venv / ".made-from").write_text(hashlib.sha256(inputs).hexdigest())
    # Ray's sockets must not have long paths
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as ray:
        yield {"IER1_VENV": str(venv), "RAY_TMPDIR": ray, "STEPS": "2"}


STAGES_SCRIPT = """
name=test out=$1
. examples/small_world_stages.sh
make() { fresh "$2"; echo "$1" >>"$2/made"; }
stage one "the first" "$out/one" make "$2" "$out/one"
stage two "the second" "$out/two/result" make "$3" "$out/two"
"""


def test_a_stage_is_done_again_if_its_result_is_missing_or_an_argument_up_to_it_has_changed(
    checkout: Path, environment: dict[str, str], tmp_path: Path
):
    result = tmp_path / "two" / "result"

    def made(*arguments: str) -> list[str]:
        """What the stages wrote last, and those that were left as they are."""
        command = ["bash", "-c", STAGES_SCRIPT, "stages", str(tmp_path), *arguments]
        environ = {**os.environ, "PYTHON": sys.executable, **environment}
        done = subprocess.run(command, cwd=checkout, env=environ, capture_output=True, text=True, timeout=60)
        assert (done.returncode == 0) == result.exists(), done.stderr
        left = [line.split(":")[0] for line in done.stdout.splitlines() if line.endswith("is there")]
        return [(tmp_path / name / "made").read_text().replace("\n", "") for name in ("one", "two")] + left

    assert made("a", "b") == ["a", "b"]
    # the second left no result, and continues in its folder
    result.touch()
    assert made("a", "b") == ["a", "bb", "== the first"]
    assert made("a", "b") == ["a", "bb", "== the first", "== the second"]
    # other arguments leave nothing of what was there
    assert made("a", "c") == ["a", "c", "== the first"]
    result.touch()
    assert made("a", "c") == ["a", "cc", "== the first"]
    assert made("d", "c") == ["d", "c"]


@pytest.mark.full
def test_a_short_quickstart_runs_every_stage_once_and_again_what_an_override_changes(
    checkout: Path, environment: dict[str, str]
):
    out = checkout / "quickstart" / "steps-2"
    first = run(checkout, **environment)
    assert first.returncode == 0, first.stdout + first.stderr
    files = ("rows/train.parquet", "warm/model.safetensors", "model/model.safetensors", "curves/reward_curves.png")
    assert all((out / name).is_file() for name in (*files, "index.html"))
    assert "validation rows" in (out / "report.txt").read_text()
    assert len((out / "after" / "greedy.jsonl").read_text().splitlines()) == 40
    assert "short version" in first.stdout
    # the rate of the YAML reaches the trainer; the second one is the critic's
    log = (out / "grpo" / "log.txt").read_text(errors="replace")
    assert float(re.findall(r'"lr": ([\d.e-]+)', log)[0]) == 2.0e-4
    second = run(checkout, **environment)
    assert second.returncode == 0, second.stderr
    assert second.stdout.count(" is there\n") == STAGES
    # the full version keeps to itself
    assert not (checkout / "quickstart" / "rows").exists()
    changed = run(checkout, "algorithm.kl_coef=0.02", **environment)
    assert changed.returncode == 0, changed.stdout + changed.stderr
    assert changed.stdout.count(" is there\n") == 3
    refused = run(checkout, "worker.rollout.m=4", **environment)
    assert refused.returncode == 1
    assert "worker.rollout.m" in refused.stderr
    assert "stopped, since this failed: GRPO" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert "Rewards on" not in refused.stdout


@pytest.mark.full
def test_a_short_quickstart_on_pictures_runs_without_gold_and_shows_them(checkout: Path, environment: dict[str, str]):
    done = run(checkout, "--reward", "picture", **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    out = checkout / "quickstart" / "picture" / "steps-2"
    assert (out / "curves" / "pictures.html").read_text().count("<article>") > 1
    header = (out / "curves" / "reward_curves.csv").read_text().splitlines()[0]
    assert "picture,cached,renders,unjudged" in header
    assert list((out / "grpo" / "pictures").glob("*.sqlite"))
