"""`ier1 train`: what it fills in, what it refuses, and how it hands over to EasyR1."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fakes import tiny_models
from fakes.easyr1 import ROOT, environment, needs_no_gpu
from fakes.preflight_runs import CONFIG
from omegaconf import OmegaConf

from ier1_plugin.training import easyr1
from ier1_plugin.training.preflight import configuration

FILES = (
    "data.train_files=train.parquet@train[:4]",
    "data.val_files=val.parquet",
    "worker.actor.model.model_path=model",
)


def python(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Python in a process of its own, with this checkout."""
    return subprocess.run([sys.executable, *arguments], cwd=cwd, env=environment(), capture_output=True, text=True)


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A folder with config, rows and model, that a run can be started in."""
    (tmp_path / "run.yaml").write_text(CONFIG)
    tiny_models.write_rows(tmp_path / "train.parquet", 8)
    tiny_models.write_rows(tmp_path / "val.parquet", 2)
    tiny_models.build(tmp_path / "model", "qwen2_5_vl")
    return tmp_path


def test_the_launcher_loads_neither_torch_nor_easyr1_before_it_knows_what_to_do():
    heavy = {"torch", "verl", "ray", "ier1_plugin.training.cpu"}
    code = f"import sys, ier1_plugin.training.easyr1; print(sorted({heavy} & set(sys.modules)))"
    assert python("-c", code).stdout == "[]\n"


def given(*overrides: str) -> Any:
    raw, problems = configuration.read(list(overrides), easyr1.defaults())
    assert not problems
    easyr1.make_absolute(raw)
    return raw


def test_later_settings_win_over_the_file_and_the_file_over_what_is_filled_in(tmp_path: Path):
    filled = given()
    assert Path(filled.data.format_prompt).is_file()
    assert Path(filled.worker.reward.reward_function.removesuffix(":compute_score")).is_file()
    assert [filled.data[key] for key in ("prompt_key", "answer_key", "image_key")] == ["problem", "answer", "images"]
    (tmp_path / "run.yaml").write_text("data: {prompt_key: question, answer_key: gold}")
    raw = given(f"config={tmp_path}/run.yaml", "data.answer_key=label")
    assert (raw.data.prompt_key, raw.data.answer_key, raw.data.image_key) == ("question", "label", "images")


REWARD = "reward_fns/decomposition.py:compute_score"


def test_files_become_absolute_and_those_of_the_project_are_found_from_any_folder(tmp_path: Path, monkeypatch: Any):
    (tmp_path / "train.parquet").touch()
    monkeypatch.chdir(tmp_path)
    prompt, reward = "ier1_plugin/prompts/decompose.jinja", f"worker.reward.reward_function={REWARD}"
    raw = given(
        "data.train_files=train.parquet@train[:4]", "data.val_files=none", f"data.format_prompt={prompt}", reward
    )
    assert raw.data.train_files == f"{tmp_path}/train.parquet@train[:4]"
    assert raw.data.val_files == "none"
    assert raw.data.format_prompt == f"{ROOT}/{prompt}"
    assert raw.worker.reward.reward_function == f"{ROOT}/{REWARD}"
    # EasyR1 takes the last : for the one before the function
    (tmp_path / "a:b").mkdir()
    (tmp_path / "a:b" / "r.py").touch()
    assert given("worker.reward.reward_function=a:b/r.py:f").worker.reward.reward_function == f"{tmp_path}/a:b/r.py:f"
    # a file of the user's goes first
    (tmp_path / "reward_fns").mkdir()
    (tmp_path / "reward_fns" / "decomposition.py").touch()
    assert given(reward).worker.reward.reward_function == f"{tmp_path}/{REWARD}"


def test_a_home_folder_is_put_in_for_its_sign_and_an_at_keeps_a_path_relative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = tmp_path / "me@corp"
    folder.mkdir()
    (folder / "train.parquet").touch()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "run.yaml").write_text("trainer: {save_checkpoint_path: ~/runs, load_checkpoint_path: null}")
    keys = "data.val_files", "data.image_dir", "worker.actor.model.model_path", "worker.reward.reward_function"
    raw = given("config=~/run.yaml", "data.train_files=train.parquet@train[:4]", *(f"{key}=~/a" for key in keys))
    assert raw.data.train_files == "train.parquet@train[:4]"
    assert [OmegaConf.select(raw, key) for key in keys] == [f"{tmp_path}/a"] * 4
    assert raw.trainer.save_checkpoint_path == f"{tmp_path}/runs"


def test_where_a_wheel_is_installed_the_packaged_reward_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    site = tmp_path / "site-packages"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(easyr1, "ROOT", site)
    monkeypatch.setattr(easyr1, "PACKAGE", site / "ier1_plugin")
    packaged = site / "ier1_plugin" / "reward_fns" / "decomposition.py"
    packaged.parent.mkdir(parents=True)
    packaged.touch()
    for overrides in ((), (f"worker.reward.reward_function={REWARD}",)):
        assert given(*overrides).worker.reward.reward_function == f"{packaged}:compute_score"


PAPER = f"config={ROOT}/examples/grpo_qwen25vl.yaml"
WRONG = {
    "data.val_files=gone.parquet": "gone.parquet: there is no such file",
    "worker.rollout.n=1": "worker.rollout.n=1: grpo",
    "trainer.logger=[consol]": "no logger 'consol'",
    "data.rollout_batch_size=6": "data.rollout_batch_size = 6 is",
}
TOO_MUCH = "the CPU stand-ins take models under 100,000,000", "tensor_parallel_size=2", "4 usable rows are less than"


@pytest.mark.slow
@needs_no_gpu
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("config=run.yaml", *FILES), ()),
        (("config=run.yaml", *FILES, *WRONG), tuple(WRONG.values())),
        # a config for GPUs
        ((PAPER, *FILES[:2], "worker.actor.model.model_path=big"), TOO_MUCH),
    ],
)
def test_check_lists_every_problem_one_a_line_and_starts_nothing(
    run_folder: Path, arguments: tuple[str, ...], told: tuple[str, ...]
):
    (run_folder / "big").mkdir()
    # 8 B parameters by its config; there are no weights
    size = {"model_type": "qwen2", "hidden_size": 4096, "num_hidden_layers": 36, "intermediate_size": 12288}
    (run_folder / "big" / "config.json").write_text(json.dumps(size))
    done = python("-m", "ier1_plugin.cli", "train", *arguments, "--check", "--cpu", cwd=run_folder)
    lines = [line for line in done.stderr.splitlines() if line]
    assert done.returncode == bool(told), done.stderr
    assert [sum(part in line for line in lines) for part in told] == [1] * len(told), done.stderr
    assert all(line[0].isalpha() for line in lines)
    assert "data.train_files: 4 rows checked" in done.stdout
    assert done.stdout.endswith("preflight: no problems\n") == (not told)
    assert not (run_folder / "checkpoints").exists()


@pytest.mark.slow
@needs_no_gpu
def test_a_config_for_gpus_is_checked_where_there_is_none_without_the_stand_ins(run_folder: Path):
    tiny_models.write_rows(run_folder / "train.parquet", 128)
    # as on the login node of a cluster
    (run_folder / "vllm.py").write_text("raise ImportError('libcuda.so.1: cannot open shared object file')")
    code = (
        "import sys; from ier1_plugin.training import easyr1; code = easyr1.train(sys.argv[1:], check=True);"
        "print([name for name in sys.modules if name.startswith('ier1_plugin.training.cpu')], code)"
    )
    done = python("-c", code, PAPER, "data.train_files=train.parquet", *FILES[1:], cwd=run_folder)
    assert done.stdout.endswith("preflight: no problems\n[] 0\n"), done.stderr
    assert "data.train_files: 128 rows checked, longest prompt" in done.stdout
    assert "not checked here, without a GPU: vllm; flash-attn; the logger tensorboard; GPUs and CPUs" in done.stdout


@pytest.fixture
def easyr1_main(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """EasyR1's own main replaced by a record of what it was called with."""
    from ier1_plugin.training import cpu

    cpu.install()
    from verl.trainer import main

    seen: list[Any] = []
    monkeypatch.chdir(run_folder)
    monkeypatch.setattr(sys, "argv", ["pytest"])
    monkeypatch.setenv("HOME", str(run_folder))
    monkeypatch.setenv("TENSORBOARD_DIR", "~/curves")

    def train_a_step() -> None:
        seen.append(OmegaConf.load(sys.argv[1].removeprefix("config=")))
        (run_folder / "checkpoints" / "global_step_1").mkdir()

    monkeypatch.setattr(main, "main", train_a_step)
    return seen


def launch(*overrides: str) -> int:
    raw = given("config=run.yaml", *FILES, *overrides)
    config, problems = configuration.typed(raw)
    assert not problems
    return easyr1.launch(raw, config, cpu=False)


@pytest.mark.slow
@needs_no_gpu
def test_easyr1s_main_gets_the_settings_as_they_were_given_and_no_more(easyr1_main: list[Any], run_folder: Path):
    # EasyR1, once imported, makes PyYAML round floats: 1.5e-4 became 0.0, and nothing was learnt
    assert launch("trainer.experiment_name='a: b #1'", "worker.actor.optim.lr=3.25e-5", "algorithm.kl_coef=1.5e-4") == 0
    (passed,) = easyr1_main
    assert (passed.worker.actor.optim.lr, passed.algorithm.kl_coef) == (3.25e-5, 1.5e-4)
    assert passed.data.train_files == f"{run_folder}/train.parquet@train[:4]"
    assert passed.trainer.experiment_name == "a: b #1"
    assert passed.worker.reward.reward_function == f"{ROOT}/reward_fns/decomposition.py:compute_score"
    # EasyR1's defaults stay EasyR1's
    assert "seed" not in passed.data
    assert os.environ["TENSORBOARD_DIR"] == f"{run_folder}/curves"
    assert [file.name for file in (run_folder / "checkpoints").rglob("*.yaml")] == ["ier1_config.yaml"] * 2


@pytest.mark.slow
@needs_no_gpu
def test_an_interrupted_run_ends_without_a_traceback(
    easyr1_main: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    from verl.trainer import main

    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "main", interrupt)
    assert launch() == 130
    assert "continue from the last checkpoint" in capsys.readouterr().err
