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
import yaml
from fakes.commands import output_of
from fakes.easyr1 import environment, needs_no_gpu
from omegaconf import OmegaConf

from ier1_plugin.training import ray_job
from ier1_plugin.training.preflight.places import EASYR1_ENV_VARS
from ier1_plugin.training.preflight.reward_file import load

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
            name = "picture" if "picture" in file else "decomposition"
            reward, prompt = f"{ROOT}/reward_fns/{name}.py", f"{ROOT}/ier1_plugin/prompts/decompose.jinja"
            assert found == {"found": [reward, "compute_score", prompt], "problems": []}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_names_our_columns_files_that_exist_and_arguments_that_the_reward_has(name: str, tmp_path: Path):
    config = OmegaConf.load(EXAMPLES / name)
    data, reward, model = config.data, config.worker.reward, config.worker.actor.model.model_path
    assert (data.prompt_key, data.answer_key, data.image_key) == ("problem", "answer", "images")
    assert data.filter_overlong_prompts is False
    assert (ROOT / data.format_prompt).is_file()
    assert (ROOT / reward.reward_function.split(":")[0]).is_file()
    # a hub id, or what the quickstart makes
    assert model.startswith("quickstart/" if name == "grpo_small_world.yaml" else "Qwen/")
    function = load(f"{ROOT}/{reward.reward_function}").function
    kwargs: Any = OmegaConf.to_container(reward.get("reward_function_kwargs", OmegaConf.create()))
    # what `ier1 train` fills in
    folders = {"image_root": str(tmp_path), "store": str(tmp_path)}
    kwargs |= {key: path for key, path in folders.items() if key in inspect.signature(function).parameters}
    assert function([], **kwargs) == []


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
    name, host = script.removeprefix("run_").removesuffix(".sh"), []
    if name.endswith("_verl"):
        name, host = name.removesuffix("_verl").replace("grpo", "verl"), ["--host", "verl"]
    assert call["cwd"] == str(ROOT)
    assert call["argv"][: 4 + len(host)] == ["-m", "ier1_plugin.cli", "train", *host, f"config=examples/{name}.yaml"]
    # the overrides last, so that they win
    rows = ["data.train_files=/mnt/rows/train.parquet", "data.val_files=/mnt/rows/val.parquet"]
    assert call["argv"][-4:] == [*rows, "trainer.max_steps=2", "--check"]
    assert (EXAMPLES / f"{name}.yaml").is_file()


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


def job(recorder: Path, *arguments: str, **environment: str) -> tuple[dict[str, str], Any]:
    """The settings of a job that is submitted, and its runtime environment."""
    call = calls(recorder, "ray_job_submit.sh", *arguments, SHARED="/mnt/s", PYTHON="python3.12", **environment)[-1]
    entry = call["argv"][call["argv"].index("--") + 1 :]
    assert entry[:4] == ["python3.12", "-m", "ier1_plugin.cli", "train"]
    # last, so that they win
    assert tuple(entry[len(entry) - len(arguments) :]) == arguments
    return dict(word.split("=", 1) for word in entry if "=" in word), yaml.safe_load(call["runtime_env"])


def test_a_ray_job_leaves_data_and_checkpoints_on_shared_storage_and_gets_what_is_not_secret(recorder: Path):
    passed = {
        "HF_ENDPOINT": "https://mirror.example: 8443 # yes",
        "HF_HUB_CACHE": "/mnt/hf",
        "TRITON_CACHE_DIR": "/mnt/triton",
        "https_proxy": "http://proxy:3128",
        "WANDB_BASE_URL": "https://wandb.example",
    }
    left = {"HF_TOKEN": "x", "HTTP_PROXY": "http://me:hunter2@proxy", "NCCL_IB_DISABLE": "1", "WANDB_API_KEY": "x"}
    run = ("config=examples/grpo_qwen25vl.yaml", "trainer.nnodes=2")
    settings, runtime_env = job(recorder, *run, EASYR1_SOURCE="/mnt/EasyR1", **passed, **left)
    assert settings["data.train_files"] == "/mnt/s/data/train.parquet"
    assert settings["trainer.save_checkpoint_path"] == "/mnt/s/checkpoints/imageedit_r1/qwen25vl_7b_grpo"
    expected = passed | {"PYTHONPATH": "/mnt/EasyR1", "TENSORBOARD_DIR": "/mnt/s/tensorboard_log"}
    assert runtime_env["env_vars"] == expected
    _, named = ray_job.variables(passed | left)
    assert named == list(left)


def test_a_ray_job_in_verl_gets_verls_keys(recorder: Path):
    settings, runtime_env = job(recorder, "--host", "verl", "config=examples/verl_qwen25vl.yaml")
    name = "imageedit_r1/qwen25vl_7b_grpo_verl"
    assert settings["trainer.default_local_dir"] == f"/mnt/s/checkpoints/{name}"
    assert "trainer.save_checkpoint_path" not in settings
    assert runtime_env["env_vars"] == {"TENSORBOARD_DIR": f"/mnt/s/tensorboard_log/{name}"}
    assert "!/reward_fns/*.py" in runtime_env["excludes"]


@pytest.mark.parametrize(
    ("line", "arguments", "environment", "folder"),
    [
        ('  experiment_name: "run-1"', (), {}, "imageedit_r1/run-1"),
        ("  experiment_name: 'run 1'   # quoted", (), {}, "imageedit_r1/run 1"),
        ("    experiment_name: run-1\n    project_name: mine", (), {}, "mine/run-1"),
        ("  experiment_name: '007'", (), {"PROJECT": "yours"}, "yours/007"),
        ("  experiment_name: a", ("trainer.experiment_name='b'",), {"EXPERIMENT": "c"}, "imageedit_r1/b"),
        ("  experiment_name: 'run #1: [a]'", (), {"EXPERIMENT": ""}, "imageedit_r1/run #1: [a]"),
        ("  nnodes: 1", ("trainer.project_name=mine",), {"EXPERIMENT": "c"}, "mine/c"),
    ],
)
def test_a_ray_jobs_run_is_named_as_easyr1_reads_its_config(
    recorder: Path, tmp_path: Path, line: str, arguments: tuple[str, ...], environment: dict[str, str], folder: str
):
    (tmp_path / "own.yaml").write_text(f"trainer:\n{line}\n")
    settings, _ = job(recorder, f"config={tmp_path}/own.yaml", *arguments, **environment)
    merged = OmegaConf.from_dotlist([f"{key}={value}" for key, value in settings.items() if "name" in key])
    assert f"{merged.trainer.project_name}/{merged.trainer.experiment_name}" == folder
    assert yaml.safe_load(settings["trainer.save_checkpoint_path"]) == f"/mnt/s/checkpoints/{folder}"


@pytest.mark.parametrize(
    ("environment", "config", "told"),
    [
        ({"SHARED": ""}, "{}", "SHARED is not set"),
        ({"SHARED": "here"}, "{}", "SHARED is here; wanted an absolute folder"),
        ({}, "trainer: [", "is not YAML"),
        ({}, None, "No such file"),
        ({}, "[1]", "trainer.experiment_name is not known"),
        ({}, "trainer: {experiment_name: '???'}", "trainer.experiment_name is not known"),
        ({}, "trainer: {experiment_name: a/b}", "can't be the name of a folder"),
        ({"RAY": "/nowhere/ray"}, "trainer: {experiment_name: a}", "/nowhere/ray can't be run"),
    ],
)
def test_a_ray_job_without_storage_or_name_is_refused_in_one_line(
    tmp_path: Path, environment: dict[str, str], config: str | None, told: str
):
    if config is not None:
        (tmp_path / "own.yaml").write_text(config)
    command = ["bash", str(EXAMPLES / "ray_job_submit.sh"), f"config={tmp_path}/own.yaml"]
    env = {"PATH": os.environ["PATH"], "SHARED": "/mnt/s"} | environment
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_ray_job_takes_along_the_code_and_the_files_that_it_names(recorder: Path):
    packaging = pytest.importorskip("ray._private.runtime_env.packaging")
    config = recorder.with_name("own.yaml")
    config.write_text("worker: {reward: {reward_function: tests/fakes/commands.py:score}}")
    prompt = "data.format_prompt=tests/evaluation/golden/report.md"
    _, runtime_env = job(recorder, f"config={config}", prompt, EXPERIMENT="a")
    assert runtime_env["working_dir"] == "."
    leaves_out = packaging._get_excludes(ROOT, runtime_env["excludes"])
    named = ("tests/evaluation/golden/report.md", "tests/fakes/commands.py", "tests/fakes/easyr1.py")
    for file in ("ier1_plugin/prompts/decompose.jinja", "reward_fns/decomposition.py", *named):
        # Ray looks into no folder that it leaves out
        assert not any(leaves_out(ROOT / path) for path in (file, *Path(file).parents)), file
    for file in ("decomposer/model.safetensors", "navy.png", ".git/HEAD", ".venv", "tests/README.md", "a.parquet"):
        assert leaves_out(ROOT / file), file


def test_the_jobs_environment_names_nothing_that_easyr1_sets_itself():
    assert not any(ray_job.PASSED.fullmatch(name) for name in EASYR1_ENV_VARS)
    assert "env_vars" not in yaml.safe_load((EXAMPLES / "runtime_env.yaml").read_text())
