"""Upstream verl itself, with vLLM for the CPU: the same prompts as EasyR1, the same scores, faults, a whole quickstart.

Needs `bash examples/make_venv_verl.sh`; IER1_VERL_PYTHON names a Python elsewhere.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.easyr1 import dataset
from fakes.small_world_rows import write_rows

from ier1_plugin.small_world.tiny_model import PIXELS, load
from ier1_plugin.task.decomposer import Decomposer
from ier1_plugin.training.logs import AGREEMENT, DIFFERENCE, TRAIN, read_runs
from reward_fns.decomposition import compute_score

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("IER1_VERL_PYTHON") or ROOT / ".venv-verl" / "bin" / "python")
SMALL = [
    "data.train_batch_size=4",
    "actor_rollout_ref.actor.ppo_mini_batch_size=4",
    "actor_rollout_ref.rollout.n=4",
    "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=16",
    "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=16",
    "trainer.val_before_train=false",
    "trainer.test_freq=-1",
    "trainer.save_freq=1",
]

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(not PYTHON.is_file(), reason=f"no {PYTHON}: see examples/make_venv_verl.sh"),
]


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Qwen2.5-VL of transformers 4 that has learnt the form of the answer."""
    folder = tmp_path_factory.mktemp("model") / "warm"
    command = [sys.executable, "-m", "ier1_plugin.small_world.warm_up", "--out", str(folder), "--steps", "200"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    write_rows(folder, 16, "train")
    write_rows(folder, 4, "val")
    return folder


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    # Ray's sockets must not have long paths
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as ray:
        env = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        yield env | {"PYTHONPATH": str(ROOT), "RAY_TMPDIR": ray, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def train(env: dict[str, str], *arguments: object, code: int = 0, timeout: int = 900) -> str:
    command = [PYTHON, "-m", "ier1_plugin.cli", "train", "--host", "verl", "--cpu"]
    command += ["config=examples/verl_small_world.yaml", *arguments]
    done = subprocess.run(
        [str(part) for part in command], cwd=ROOT, env=env, capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def keys(rows: Path, model: Path, run: Path, steps: int) -> list[str]:
    return [
        f"data.train_files={rows}/train.parquet",
        f"data.val_files={rows}/val.parquet",
        f"actor_rollout_ref.model.path={model}",
        f"trainer.default_local_dir={run}",
        f"trainer.rollout_data_dir={run}/rollouts",
        f"trainer.total_training_steps={steps}",
        *SMALL,
    ]


def samples(run: Path, step: int) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "rollouts" / f"{step}.jsonl").read_text().splitlines()]


def test_prompts_are_token_for_token_those_of_easyr1s_dataset(
    warm: Path, rows: Path, environment: dict[str, str], tmp_path: Path
):
    script, file, out = ROOT / "tests" / "fakes" / "verl_prompts.py", rows / "train.parquet", tmp_path / "out.json"
    subprocess.run([str(PYTHON), str(script), str(warm), str(file), str(out)], env=environment, check=True)
    _, processor = load(warm)
    theirs = dataset(file, processor.tokenizer, processor, max_prompt_length=64, min_pixels=PIXELS, max_pixels=PIXELS)
    found = json.loads(out.read_text())
    assert len(found) == len(theirs) == 16
    for ours, row in zip(found, theirs, strict=True):
        assert ours["ids"] == row["input_ids"][row["attention_mask"].bool()].tolist()
        assert (ours["answer"], ours["source"]) == (row["ground_truth"], "imageedit_r1")


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        (
            ["data.rolout=1", "trainer.total_training_step=2", "actor_rollout_ref.rollout.limit_image=1"],
            ["data.rolout: ", "nearest: trainer.total_training_steps", "actor_rollout_ref.rollout.limit_image: "],
        ),
        (
            [
                "custom_reward_function.path=r.py",
                "algorithm.adv_estimator=gdpo",
                "actor_rollout_ref.actor.strategy=fsdp",
            ],
            [
                "custom_reward_function.path: ",
                "algorithm.adv_estimator=gdpo: ",
                "set actor_rollout_ref.actor.strategy=fsdp2",
            ],
        ),
        (
            ["data.train_files=nowhere.parquet", "reward.custom_reward_function.reward_kwargs.weight=1"],
            ["data.train_files=nowhere.parquet: there is no such file", "a trial call fails: TypeError"],
        ),
    ],
)
def test_each_problem_is_one_line_before_anything_starts(
    more: list[str], wanted: list[str], warm: Path, rows: Path, environment: dict[str, str], tmp_path: Path
):
    printed = train(environment, *keys(rows, warm, tmp_path, 1), *more, "--check", code=1)
    for text in wanted:
        assert sum(text in line for line in printed.splitlines()) == 1, printed


@pytest.mark.parametrize("name", ["verl_qwen25vl.yaml", "verl_qwen3vl.yaml"])
def test_a_run_for_gpus_can_be_checked_here(name: str, rows: Path, environment: dict[str, str]):
    command = [PYTHON, "-m", "ier1_plugin.cli", "train", "--host", "verl", "--check", f"config=examples/{name}"]
    command += [f"data.{split}_files={rows}/{split}.parquet" for split in ("train", "val")]
    command += ["data.train_batch_size=16", "actor_rollout_ref.actor.ppo_mini_batch_size=16"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "preflight: no problems"), done.stderr
    assert "not checked here, without a GPU: " in done.stdout


def test_a_training_scores_as_easyr1_does_agrees_with_vllm_continues_and_is_merged(
    warm: Path, rows: Path, environment: dict[str, str], tmp_path: Path
):
    run, env = tmp_path / "run", environment | {"TENSORBOARD_DIR": str(tmp_path / "curves")}
    train(env, *keys(rows, warm, run, 2))
    for step in (1, 2):
        found = samples(run, step)
        assert len(found) == 16
        inputs = [{"response": sample["output"], "ground_truth": sample["gts"]} for sample in found]
        scores = [np.float32(score["overall"]) for score in compute_score(inputs)]
        assert [np.float32(sample["score"]) for sample in found] == scores
        assert any(scores)
    again = train(env, *keys(rows, warm, run, 3))
    assert "step:3 - " in again
    assert "step:2 - " not in again
    (log,) = read_runs(tmp_path / "curves")
    assert list(log.points(TRAIN, "overall")) == [1, 2, 3]
    # weights that were not renewed would show from the second step on
    assert min(log.points(TRAIN, AGREEMENT).values()) > 0.9999
    assert max(log.points(TRAIN, DIFFERENCE).values()) < 1e-3
    merged = tmp_path / "merged"
    subprocess.run([str(PYTHON), "-m", "ier1_plugin.cli", "merge", str(run), "--out", str(merged)], env=env, check=True)
    facts = Decomposer.read(merged)
    assert (facts.global_step, facts.verl_version, facts.rollout, facts.dtype) == (3, "0.9.1", "vllm", "float32")
    assert (facts.min_pixels, facts.max_response_length) == (PIXELS, 72)


RAISING = """
async def score_one(data_source, solution_str, ground_truth, extra_info=None, **kwargs):
    # verl counts the turns; the trial calls before a run do not
    if "num_turns" in extra_info and {dead}:
        raise RuntimeError("this sample can't be judged")
    return {{"score": 1.0}}
"""


def test_a_sample_that_cant_be_judged_leaves_its_group_and_none_at_all_ends_the_run(
    warm: Path, rows: Path, environment: dict[str, str], tmp_path: Path
):
    some, every = tmp_path / "some.py", tmp_path / "every.py"
    some.write_text(RAISING.format(dead="sum(solution_str.encode()) % 2"))
    every.write_text(RAISING.format(dead="True"))
    # in validation too
    more = ["trainer.val_before_train=true", "trainer.save_freq=-1"]
    run = tmp_path / "some"
    train(environment, *keys(rows, warm, run, 1), *more, f"reward.custom_reward_function.path={some}")
    # in the place of what is gone verl puts samples that count for nothing
    kept = [sample for sample in samples(run, 1) if not sample["uid"].startswith("pad")]
    assert 0 < len(kept) < 16
    assert all(sum(sample["output"].encode()) % 2 == 0 for sample in kept)
    arguments = [*keys(rows, warm, tmp_path / "every", 1), f"reward.custom_reward_function.path={every}"]
    assert "RuntimeError" in train(environment, *arguments, code=1)


def test_a_short_quickstart_in_verl_runs_every_stage(environment: dict[str, str], tmp_path: Path):
    for part in ("ier1_plugin", "data_prep", "reward_fns", "examples"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("setup.py", "README.md"):
        shutil.copy(ROOT / part, tmp_path / part)
    env = environment | {"PYTHONPATH": "", "STEPS": "2", "IER1_VENV_VERL": str(PYTHON.parents[1])}
    command = ["bash", "examples/quickstart.sh", "--host", "verl"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    out = tmp_path / "quickstart" / "verl" / "steps-2"
    files = ("model/model.safetensors", "curves/reward_curves.png", "report.txt", "index.html")
    assert all((out / name).is_file() for name in files)
    assert "1 - correlation at most" in done.stdout
