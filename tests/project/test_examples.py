"""What is shipped in examples/: each config loads in EasyR1's own classes, each script says what it is meant to say."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fakes.commands import output_of
from fakes.easyr1 import environment, needs_no_gpu
from omegaconf import OmegaConf

from ier1_plugin.training.preflight.places import EASYR1_ENV_VARS
from reward_fns.decomposition import compute_score

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
CONFIGS = sorted(path.name for path in EXAMPLES.glob("grpo_*.yaml"))
SCRIPTS = sorted(path.name for path in EXAMPLES.glob("*.sh"))
RUNS = sorted(path.name for path in EXAMPLES.glob("run_grpo_*.sh"))
# EasyR1 0.3.2 has no key for the one and no code for the other's model
NEED_SOURCE = {"grpo_qwen25vl_3b_lora.yaml"}
# loads every config as EasyR1's main does, then asks the checks that need no file and no GPU
LOAD = """
import json, sys
from ier1_plugin.training import cpu
cpu.install()
from omegaconf import OmegaConf
from ier1_plugin.training.preflight import configuration
from ier1_plugin.training.preflight import settings
from ier1_plugin.training.preflight.run import Note, Run
report = {}
for file in sys.argv[1:]:
    raw, _ = configuration.read([f"config={file}", "data.train_files=t.parquet", "data.val_files=v.parquet"], {})
    config, problems = configuration.typed(raw)
    if config is not None:
        checks = (settings.positive, settings.names, settings.batches, settings.sampling, settings.lengths)
        problems += [line for check in checks for line in check(Run(config, env={}))]
        loaded = OmegaConf.to_object(config)
        loaded.deep_post_init()
        assert type(loaded).__name__ == "PPOConfig"
        reward = loaded.worker.reward
        found = [reward.reward_function, reward.reward_function_name, loaded.data.format_prompt]
        report[file] = {"found": found, "problems": problems}
    else:
        report[file] = {"problems": problems}
import verl
print(json.dumps([verl.__version__, report]))
"""


@pytest.mark.slow
@needs_no_gpu
@pytest.mark.parametrize("which", ["installed", "source"])
def test_every_config_loads_in_easyr1_except_those_that_need_its_source(which: str):
    arguments = [f"examples/{name}" for name in CONFIGS]
    printed = output_of(sys.executable, "-c", LOAD, *arguments, cwd=ROOT, env=environment(which))
    version, report = json.loads(printed.splitlines()[-1])
    for file, found in report.items():
        if version == "0.3.2.dev2" and Path(file).name in NEED_SOURCE:
            assert all("current source" in problem for problem in found["problems"]), found
        else:
            reward, prompt = f"{ROOT}/reward_fns/decomposition.py", f"{ROOT}/ier1_plugin/prompts/decompose.jinja"
            assert found == {"found": [reward, "compute_score", prompt], "problems": []}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_names_our_columns_files_that_exist_and_arguments_that_the_reward_has(name: str):
    config = OmegaConf.load(EXAMPLES / name)
    data, reward, model = config.data, config.worker.reward, config.worker.actor.model.model_path
    assert (data.prompt_key, data.answer_key, data.image_key) == ("problem", "answer", "images")
    assert data.filter_overlong_prompts is False
    assert (ROOT / data.format_prompt).is_file()
    assert (ROOT / reward.reward_function.split(":")[0]).is_file()
    # a hub id, or what the quickstart makes
    assert model.startswith("quickstart/" if name == "grpo_small_world.yaml" else "Qwen/")
    kwargs = reward.get("reward_function_kwargs", {})
    assert set(kwargs) <= set(inspect.signature(compute_score).parameters)
    compute_score([], **kwargs)


def test_the_papers_run_is_the_papers():
    config = OmegaConf.load(EXAMPLES / "grpo_qwen25vl.yaml")
    assert config.worker.actor.model.model_path == "Qwen/Qwen2.5-VL-7B-Instruct"
    assert (config.trainer.n_gpus_per_node, config.trainer.total_epochs, config.worker.rollout.n) == (8, 3, 8)
    assert (config.algorithm.adv_estimator, config.algorithm.use_kl_loss) == ("grpo", True)
    weights = config.worker.reward.reward_function_kwargs
    assert {weights[f"{part}_weight"] for part in ("format", "action", "subject", "goal")} == {1.0}


@pytest.mark.parametrize("name", ["grpo_qwen25vl.yaml", "grpo_qwen3vl.yaml", "grpo_qwen25vl_3b_lora.yaml"])
def test_the_largest_image_and_the_prompt_leave_room_for_a_request(name: str):
    data = OmegaConf.load(EXAMPLES / name).data
    # sides are rounded to whole tokens of 28 pixels, which can add one row and one column
    side = int(data.max_pixels**0.5 / 28) + 1
    words = (ROOT / "ier1_plugin" / "prompts" / "decompose.jinja").read_text().split()
    # fewer than two tokens a word in English
    assert data.max_prompt_length - side**2 - 1.5 * len(words) > 200


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_valid_bash_and_stops_at_the_first_error(name: str):
    output_of("bash", "-n", EXAMPLES / name)
    assert "set -euo pipefail" in (EXAMPLES / name).read_text()


@pytest.fixture
def recorder(tmp_path: Path) -> Path:
    """A program that writes down where it was started and with what, for PYTHON= and RAY=."""
    program = tmp_path / "record"
    program.write_text(
        f"#!{sys.executable}\nimport json, os, sys\n"
        "argv = sys.argv[1:]\n"
        "env = open(argv[argv.index('--runtime-env') + 1]).read() if '--runtime-env' in argv else ''\n"
        f"with open({str(tmp_path / 'calls')!r}, 'a') as calls:\n"
        "    print(json.dumps({'cwd': os.getcwd(), 'argv': argv, 'runtime_env': env}), file=calls)\n"
    )
    program.chmod(0o755)
    return program


def calls(recorder: Path, script: str, *arguments: str, **environment: str) -> list[dict[str, Any]]:
    """What `script` runs, started from another folder."""
    # nothing that another test or this shell has set for a run of its own
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    env = inherited | {"PYTHON": str(recorder), "RAY": str(recorder)} | environment
    output_of("bash", EXAMPLES / script, *arguments, cwd=recorder.parent, env=env)
    return [json.loads(line) for line in (recorder.parent / "calls").read_text().splitlines()]


@pytest.mark.parametrize("script", RUNS)
def test_a_run_script_starts_its_config_from_the_repository_and_passes_overrides_on(recorder: Path, script: str):
    (call,) = calls(recorder, script, "trainer.max_steps=2", "--check", DATA_DIR="/mnt/rows")
    name = script.removeprefix("run_").replace(".sh", ".yaml")
    assert call["cwd"] == str(ROOT)
    assert call["argv"][:4] == ["-m", "ier1_plugin.cli", "train", f"config=examples/{name}"]
    assert call["argv"][4:6] == ["data.train_files=/mnt/rows/train.parquet", "data.val_files=/mnt/rows/val.parquet"]
    # last, so that they win
    assert call["argv"][-2:] == ["trainer.max_steps=2", "--check"]
    assert name in CONFIGS


def test_the_goal_ablation_trains_twice_and_overlays_the_curves_unless_it_is_only_checked(recorder: Path):
    script = "ablation_without_goal.sh"
    with_goal, without, curves = calls(recorder, script, "trainer.max_steps=2", TENSORBOARD_DIR="/tb")
    assert with_goal["argv"][-1] == "worker.reward.reward_function_kwargs.goal_weight=1.0"
    assert without["argv"][-1] == "worker.reward.reward_function_kwargs.goal_weight=0.0"
    assert all("trainer.max_steps=2" in call["argv"] for call in (with_goal, without))
    runs = ["with goal=/tb/ablation_goal/with_goal", "without goal=/tb/ablation_goal/without_goal"]
    assert curves["argv"][1:] == ["ier1_plugin.cli", "curves", *runs]
    assert [call["argv"][2] for call in calls(recorder, script, "--check")[3:]] == ["train", "train"]


def test_the_data_size_ablation_checks_every_size_before_it_trains_one(recorder: Path):
    found = calls(recorder, "ablation_data_size.sh", SIZES="500 all", DATA_DIR="/rows", TENSORBOARD_DIR="/tb")
    files = [next(arg for arg in call["argv"] if "train_files" in arg) for call in found[:4]]
    sizes = ["data.train_files=/rows/train.parquet@train[:500]", "data.train_files=/rows/train.parquet@train"]
    assert files == sizes * 2
    assert ["--check" in call["argv"] for call in found[:4]] == [True, True, False, False]
    assert all("trainer.total_epochs=3" in call["argv"] for call in found[:4])
    assert found[4]["argv"][3] == "500 rows=/tb/ablation_data_size/rows_500"


def test_a_ray_job_takes_the_code_along_and_leaves_data_and_checkpoints_on_shared_storage(recorder: Path):
    settings = {"SHARED": "/mnt/s", "HF_HOME": "/mnt/hf", "WANDB_API_KEY": "secret", "EASYR1_SOURCE": "/mnt/EasyR1"}
    (call,) = calls(recorder, "ray_job_submit.sh", "config=examples/grpo_qwen25vl.yaml", "trainer.nnodes=2", **settings)
    entry = call["argv"][call["argv"].index("--") + 1 :]
    assert entry[1:4] == ["-m", "ier1_plugin.cli", "train"]
    assert "data.train_files=/mnt/s/data/train.parquet" in entry
    assert "trainer.save_checkpoint_path=/mnt/s/checkpoints/imageedit_r1/qwen25vl_7b_grpo" in entry
    assert entry[-2:] == ["config=examples/grpo_qwen25vl.yaml", "trainer.nnodes=2"]
    environment = OmegaConf.create(call["runtime_env"])
    assert environment.working_dir == "."
    assert dict(environment.env_vars) == {
        "PYTHONPATH": "/mnt/EasyR1",
        "TENSORBOARD_DIR": "/mnt/s/tensorboard_log",
        "HF_HOME": "/mnt/hf",
    }


def test_a_ray_job_without_shared_storage_is_refused_in_one_line(recorder: Path):
    environment = {key: value for key, value in os.environ.items() if key != "SHARED"}
    command = ["bash", str(EXAMPLES / "ray_job_submit.sh")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "SHARED: is not set: an absolute folder" in done.stderr


def test_the_jobs_environment_names_nothing_that_easyr1_sets_itself():
    environment: Any = OmegaConf.load(EXAMPLES / "runtime_env.yaml")
    assert not set(environment.get("env_vars") or {}) & set(EASYR1_ENV_VARS)
    for left_out in ("/.git/", ".venv/", "/data/", "/outputs/", "/quickstart/", "/checkpoints/", "/tensorboard_log/"):
        assert left_out in environment.excludes
