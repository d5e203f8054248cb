"""Upstream verl as the host, as far as it needs no verl: the plugin's conditions, silent traps, the configs."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fakes.commands import ier1
from omegaconf import OmegaConf

from ier1_plugin.training.cpu.verl_platform import ARMED
from ier1_plugin.training.easyr1 import as_yaml
from ier1_plugin.training.preflight import lines, verl
from ier1_plugin.training.preflight.reward_file import load
from ier1_plugin.training.preflight.run import Note, Run
from ier1_plugin.training.run_config import find_budget, find_dtype, look_up

ROOT = Path(__file__).parents[2]
CONFIGS = sorted(file.name for file in (ROOT / "examples").glob("verl_*.yaml"))
PLUGIN = "import sys, ier1_plugin.training.verl; print(sorted({'torch', 'verl', 'ray'} & sys.modules.keys()))"


def plugin(**more: str) -> subprocess.CompletedProcess[str]:
    """What an environment without upstream verl says when the plugin is imported as verl imports it."""
    env = os.environ | {"PYTHONPATH": str(ROOT)} | more
    return subprocess.run([sys.executable, "-c", PLUGIN], env=env, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("platform", ["", "nvidia"])
def test_the_plugin_does_and_loads_nothing_on_another_platform(platform: str):
    done = plugin(VERL_PLATFORM=platform)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "[]", "")


@pytest.mark.parametrize(
    ("armed", "gpu", "wanted"),
    [
        ("", False, "is set by `ier1 train --host verl --cpu` alone"),
        ("1", True, "this machine has a GPU"),
        # EasyR1's package has no platforms; verl would pass over this at DEBUG
        ("1", False, "ModuleNotFoundError"),
    ],
)
def test_the_cpu_platform_is_refused_loudly(armed: str, gpu: bool, wanted: str, tmp_path: Path):
    if gpu:
        program = tmp_path / "nvidia-smi"
        program.write_text('#!/bin/sh\necho "GPU 0: NVIDIA A100-SXM4-80GB"\n')
        program.chmod(0o755)
    done = plugin(VERL_PLATFORM="cpu", PATH=f"{tmp_path}:{os.environ['PATH']}", **{ARMED: armed})
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("imageedit-r1, plugin of verl: ")]
    assert wanted in line


def test_easyr1s_package_is_not_taken_for_upstream_verl():
    done = ier1("train", "--host", "verl", exit_code=1)
    assert "the installed `verl` is EasyR1's package; use an environment of its own" in done.stderr


def run(cpu: bool = False, **keys: Any) -> Run:
    """One run of a config that every own check passes; `keys`: dotted, __ for the dots."""
    config = OmegaConf.create(
        {
            "custom_reward_function": {"path": None, "name": None},
            "reward_model": {"enable": None},
            "sandbox_fusion": {"url": None},
            "algorithm": {"adv_estimator": "grpo", "filter_groups": {"enable": False, "max_num_gen_batches": 0}},
            "data": {
                "custom_cls": {"path": "pkg://ier1_plugin.training.verl_dataset"},
                "filter_overlong_prompts": False,
                "filter_overlong_prompts_workers": 1,
            },
            "actor_rollout_ref": {"rollout": {"n": 8}},
            "transfer_queue": {"backend": {"SimpleStorage": {"num_data_storage_units": 8}}},
            "ray_kwargs": {"ray_init": {"num_cpus": 64}},
            "reward": {"custom_reward_function": {"path": None, "name": "score_one"}},
            "trainer": {
                "use_v1": True,
                "save_freq": 10,
                "nnodes": 1,
                "n_gpus_per_node": 8,
                "project_name": "project",
                "experiment_name": "run",
                "resume_from_path": None,
            },
        }
    )
    for key, value in keys.items():
        OmegaConf.update(config, key.replace("__", "."), value, force_add=True)
    return verl.run_of(config, cpu)


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [
        ({}, None),
        ({"custom_reward_function__path": "r.py"}, "set reward.custom_reward_function.path instead"),
        ({"reward_model__enable": True}, "set reward.reward_model.enable instead"),
        ({"algorithm__adv_estimator": "gdpo"}, "the v1 trainer hands it neither prompts nor the keys of the reward"),
        ({"algorithm__adv_estimator": "gdpo", "trainer__use_v1": False}, None),
        ({"algorithm__adv_estimator": "gae"}, "trains a critic too"),
        ({"actor_rollout_ref__rollout__n": 1}, "grpo compares the answers to one prompt"),
        ({"data__filter_overlong_prompts": True}, None),
        ({"data__filter_overlong_prompts": True, "data__custom_cls__path": "d.py"}, "every row is dropped"),
        (
            {"algorithm__filter_groups": {"enable": True, "max_num_gen_batches": 4}},
            Note("is ignored by the v1 trainer"),
        ),
        ({"trainer__save_freq": -1}, Note("no checkpoint is written")),
        # 3 for each of 8 ranks, 1 for TransferQueue's controller, 8 for its storage
        ({"ray_kwargs__ray_init__num_cpus": 33}, None),
        ({"ray_kwargs__ray_init__num_cpus": 32}, "needs 33 logical CPUs and would wait for ever: there are 32"),
    ],
)
def test_what_verl_ignores_waits_for_or_drops_is_one_line(
    keys: dict[str, Any], wanted: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    found = lines(run(**keys), (verl.silent_traps, verl.logical_cpus), verl.in_verl_words)
    if wanted is None:
        assert found == []
    else:
        (line,) = found
        assert wanted in line
        assert isinstance(line, Note) == isinstance(wanted, Note)


def test_samples_that_are_no_whole_micro_batches_are_refused():
    section = "actor_rollout_ref__"
    keys: dict[str, Any] = {
        "data__train_batch_size": 16,
        f"{section}actor": {"use_dynamic_bsz": False, "ppo_mini_batch_size": 8, "ppo_micro_batch_size_per_gpu": 4},
        f"{section}rollout": {"n": 8, "log_prob_micro_batch_size_per_gpu": 16},
    }
    assert list(verl.micro_batches(run(**keys))) == []
    keys[f"{section}rollout"]["log_prob_micro_batch_size_per_gpu"] = 32
    (line,) = verl.micro_batches(run(**keys))
    assert line.startswith("data.train_batch_size=16 makes 16 samples a GPU")
    keys[f"{section}actor"]["use_dynamic_bsz"] = True
    assert list(verl.micro_batches(run(**keys))) == []


def test_a_folder_of_another_run_is_neither_continued_nor_mixed_up(tmp_path: Path):
    def resumed(model: str, mode: str = "auto") -> list[str]:
        more: dict[str, Any] = {"trainer__default_local_dir": str(tmp_path), "trainer__resume_mode": mode}
        one = run(**more, actor_rollout_ref__model__path=model)
        return lines(one, (verl.resuming,), verl.in_verl_words)

    assert resumed("a") == []
    step = tmp_path / "global_step_2"
    step.mkdir()
    assert "the run would start at step 0 among them" in resumed("a")[0]
    (tmp_path / "latest_checkpointed_iteration.txt").write_text("2")
    config = {
        "actor_rollout_ref": {"model": {"path": "a"}},
        "worker": {"reward": {"reward_function": "None:score_one"}},
    }
    (step / "ier1_config.yaml").write_text(as_yaml(config))
    assert resumed("a") == [f"continues from {step}"]
    (line,) = (line for line in resumed("b") if not isinstance(line, Note))
    assert "actor_rollout_ref.model.path is b, and was a" in line
    assert f"trainer.resume_from_path={step}" in line
    assert "the run would start at step 0" in resumed("a", "disable")[0]


def test_what_cannot_run_on_a_cpu_is_refused_key_by_key():
    keys: dict[str, Any] = {key.replace(".", "__"): value for key, value in verl.REQUIRED_ON_CPU.items()}
    assert list(verl.cpu_settings(run(cpu=True, **keys))) == []
    keys["actor_rollout_ref__actor__strategy"] = "fsdp"
    assert list(verl.cpu_settings(run(**keys))) == []
    (line,) = verl.cpu_settings(run(cpu=True, **keys))
    assert line.endswith("does not run on a CPU; set actor_rollout_ref.actor.strategy=fsdp2")


def test_shared_checks_speak_of_verls_keys():
    line = "worker.actor.model.model_path: EasyR1 fails; set worker.reward.reward_function_kwargs.seed"
    kwargs = "reward.custom_reward_function.reward_kwargs"
    assert verl.in_verl_words(line) == f"actor_rollout_ref.model.path: verl fails; set {kwargs}.seed"


def test_what_is_recorded_of_a_run_is_found_under_verls_names():
    config = {
        "data": {"min_pixels": 4, "max_pixels": 9},
        "actor_rollout_ref": {"rollout": {"dtype": "float32", "n": 8}},
    }
    assert find_budget(config, None, None) == (4, 9)
    assert find_dtype(config, None) == "float32"
    assert look_up(config, "worker.rollout.n") == 8
    assert look_up(config, "worker.actor.model.model_path") is None


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_for_verl_has_the_values_of_easyr1s(name: str):
    ours = OmegaConf.load(ROOT / "examples" / name)
    theirs = OmegaConf.load(ROOT / "examples" / name.replace("verl_", "grpo_"))
    data = "prompt_key answer_key image_key format_prompt min_pixels max_pixels max_prompt_length max_response_length"
    same = [f"data.{key}" for key in data.split()]
    same += [f"worker.rollout.{key}" for key in ("n", "temperature", "top_p")]
    same += [f"worker.actor.{key}" for key in ("optim.lr", "optim.weight_decay", "max_grad_norm")]
    same += [f"trainer.{key}" for key in ("total_epochs", "nnodes", "n_gpus_per_node")]
    for key in same:
        there = key.replace("worker.", "actor_rollout_ref.").replace("max_grad_norm", "grad_clip")
        assert OmegaConf.select(ours, there) == OmegaConf.select(theirs, key), key
    assert ours.data.train_batch_size == theirs.data.rollout_batch_size
    assert ours.actor_rollout_ref.actor.ppo_mini_batch_size == theirs.worker.actor.global_batch_size
    assert ours.actor_rollout_ref.actor.use_kl_loss == theirs.algorithm.use_kl_loss
    function = load(f"{ROOT}/{ours.reward.custom_reward_function.path}:score_one").function
    kwargs = ours.reward.custom_reward_function.get("reward_kwargs") or {}
    inspect.signature(function).bind(data_source="", solution_str="", ground_truth="", extra_info={}, **kwargs)
