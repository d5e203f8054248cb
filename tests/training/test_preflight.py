"""What the preflight says: keys, numbers and names of a config, packages, models, places, prompts, rewards, rows."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import random
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest
import verl
from fakes import tiny_models
from fakes.preflight_runs import GOLD, checkpoint, many, of_rows, one, png, row, run, typed, write
from omegaconf import OmegaConf
from PIL import Image
from pyarrow import parquet

from ier1_plugin.runs.errors import UserError
from ier1_plugin.runs.secrets import without_secrets
from ier1_plugin.training import preflight
from ier1_plugin.training.easyr1 import as_yaml
from ier1_plugin.training.preflight import configuration, host, places, reward, rows, settings
from ier1_plugin.training.preflight.rows import PromptLength
from ier1_plugin.training.preflight.run import JOB_CONFIG, Note, Run
from ier1_plugin.training.run_config import find_budget, read_run_config

MICRO = "worker.actor.micro_batch_size_per_device_for"
MODEL = "worker.actor.model.model_path"
REWARD = "worker.reward.reward_function"
SAVE = "trainer.save_checkpoint_path"
IN_JOB = f"{JOB_CONFIG}={{}}"
RELEASE = verl.__version__ == "0.3.2.dev2"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build(tmp_path_factory.mktemp("model"), "qwen2_5_vl")


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ("data.rolout_batch_size=8 trainer.lr=1e-6", ["data.rollout_batch_size", "actor.optim.lr"]),
        ("data.seed=one", ["data.seed=one: "]),
        ("data.format_prompt= worker.actor.optim.betas.a=1", ["worker.actor.optim.betas.a=1: "]),
        ("data.train_files=???", ["data.train_files is not set"]),
        ("data.train_files=${oc.env:IER1_NO_SUCH_VARIABLE}", ["IER1_NO_SUCH_VARIABLE"]),
        pytest.param(
            "worker.actor.model.lora.rank=8",
            ["current source"],
            marks=pytest.mark.skipif(not RELEASE, reason="written for the keys of 0.3.2.dev2"),
        ),
    ],
)
def test_every_key_that_will_not_do_is_named(keys: str, told: list[str]):
    lines = typed(*keys.split())[1]
    assert len(lines) == len(told)
    assert all(part in line for part, line in zip(told, lines, strict=True))


@pytest.mark.parametrize(
    ("override", "told", "readable"),
    [
        ("config=none.yaml", "config=none.yaml: No such file", False),
        ("config=bad.yaml", "not a YAML config", False),
        ("trainer.experiment_name=a: [b", "the value is not YAML", True),
        ("trainer.max_steps", "'trainer.max_steps': wanted key=value", True),
    ],
)
def test_what_can_not_be_read_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, override: str, told: str, readable: bool
):
    monkeypatch.chdir(tmp_path)
    Path("bad.yaml").write_text("data: [1, 2\n  x: }")
    raw, wrong = configuration.read([override], {})
    assert told in one(wrong)
    assert (raw is not None) == readable


def said(*arguments: str) -> list[str]:
    """What all checks say of a run."""
    return preflight.lines(run(*arguments))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("data.rollout_batch_size=0", "data.rollout_batch_size=0"),
        ("data.val_batch_size=0", "val_batch_size=0"),
        ("worker.actor.ppo_epochs=0", "worker.actor.ppo_epochs=0"),
        ("trainer.max_steps=0", "trainer.max_steps=0: would train nothing"),
        ("trainer.max_steps=-1", "trainer.max_steps=-1: would train nothing"),
        ("data.rollout_batch_size=6", "data.rollout_batch_size = 6 is not a multiple of worker"),
        (f"{MICRO}_experience=3", "worker.rollout.n = 16 is not a multiple of worker.actor.micro"),
        (f"{MICRO}_update=3", "GPU = 16 is not a multiple of"),
        ("data.mini_rollout_batch_size=2 trainer.n_gpus_per_node=4", "data.mini_rollout_batch_size = 2"),
        ("trainer.n_gpus_per_node=3", "data.rollout_batch_size = 4 is not a multiple of trainer"),
        ("worker.rollout.tensor_parallel_size=2", "multiple of worker.rollout.tensor_parallel_size"),
        ("worker.actor.ulysses_size=2", "is not a multiple of worker.actor.ulysses_size = 2"),
        ("worker.actor.fsdp.fsdp_size=3 trainer.n_gpus_per_node=4", "worker.actor.fsdp.fsdp_size = 3"),
        ("worker.actor.fsdp.enable_cpu_offload=true", "enable_cpu_offload=true"),
        (
            f"worker.actor.dynamic_batching=false {MICRO}_experience=16 trainer.n_gpus_per_node=2",
            "samples for each GPU = 8 is not a multiple",
        ),
        ("algorithm.adv_estimator=gae worker.critic.global_batch_size=3", "worker.critic.global_batch_size"),
        ("worker.rollout.n=1", "grpo"),
        ("worker.rollout.temperature=0.0", "training has to sample"),
        ("worker.rollout.val_override_config.temperature=0.6", Note("0.6")),
        ("worker.rollout.val_override_config.temprature=0.6", "nearest: temperature"),
        ("worker.actor.optim.lr=0.0", "worker.actor.optim.lr=0.0: wanted more than 0"),
        ("worker.rollout.top_p=0.0", "worker.rollout.top_p=0.0: wanted more than 0"),
        ("worker.rollout.gpu_memory_utilization=1.5", "at most 1"),
        ("algorithm.online_filtering=true algorithm.filter_low=1.0", "wanted low < high"),
        ("worker.rollout.max_num_batched_tokens=600", "max_num_batched_tokens"),
        ("worker.rollout.max_model_len=600", "max_model_len"),
        ("data.min_pixels=60000", "min_pixels <= max_pixels"),
        ("data.filter_overlong_prompts=true", Note("can hang")),
        ("trainer.logger=[console,wandbb]", "no logger 'wandbb'"),
        ("--cpu worker.actor.use_torch_compile=true", "worker.actor.use_torch_compile"),
        (f"{MODEL}=null", "wanted a folder or a hub id"),
        (f"{MODEL}=/nowhere", "no such folder"),
        ("RAY_ADDRESS=127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1 ("),
        ("RAY_ADDRESS=http://127.0.0.1:8265", "no Ray cluster answers at http://127.0.0.1:8265 ("),
        ("RAY_ADDRESS=nowhere", "no Ray cluster answers at nowhere ("),
        (f"{IN_JOB} {SAVE}=checkpoints/a", "checkpoints/a: in a Ray job"),
        (f"{IN_JOB} {SAVE}=null", "None: in a Ray job"),
        (f"{SAVE}=/tmp/ray/session/runtime_resources/working_dir_files/_ray_pkg_1/c", "Ray's copy"),
        (f"{SAVE}={__file__}/checkpoints", "is not a folder that can be written"),
        ("trainer.load_checkpoint_path=/nowhere/global_step_9", "does not exist"),
        ("trainer.load_checkpoint_path=/", "global_step_*"),
        (IN_JOB, "absolute path under env_vars"),
        ("RAY_ADDRESS=127.0.0.1:1", Note("joins the Ray cluster at 127.0.0.1:1")),
        (f'{JOB_CONFIG}={{"runtime_env":{{"env_vars":{{"NCCL_DEBUG":"INFO"}}}}}}', "NCCL_DEBUG"),
        ("data.format_prompt=nowhere.jinja", "nowhere.jinja: no such file"),
        ("data.format_prompt=null", "None: no such file"),
        (f"{REWARD}=nowhere.py:f", "no file nowhere.py"),
        (f"{REWARD}=null", "is not set"),
        ("algorithm.online_filtering=true algorithm.filter_key=accuracy", "but overall, format"),
        (f"{REWARD}_kwargs.goal_wieght=0.0", "nearest: goal_weight"),
        (f"{REWARD}_kwargs.goal_weight=-1.0", "a trial call fails: ValueError: "),
        (f"{REWARD}_kwargs.goal_match=fuzzy", "goal_match='fuzzy'"),
    ],
)
def test_a_setting_that_would_stop_the_run_is_named_and_one_to_know_of_is_a_note(arguments: str, told: str):
    line = one(line for line in said(*arguments.split()) if told in line)
    assert type(line) is type(told)


ENV_VARS = '{"runtime_env":{"env_vars":{"NCCL_DEBUG":"INFO","RAY_OVERRIDE_JOB_RUNTIME_ENV":"1"}}}'


@pytest.mark.parametrize(
    ("check", "arguments"),
    [
        *((check, "") for check in (settings.positive, settings.names, settings.batches, settings.sampling)),
        *((check, "") for check in (settings.lengths, settings.ranges, places.tensorboard, reward.reward_function)),
        (reward.reward_function, "algorithm.online_filtering=true algorithm.filter_key=goal"),
        (settings.ranges, "algorithm.online_filtering=true"),
        # a size below one is not divided by
        (settings.batches, "data.rollout_batch_size=0"),
        (places.saving, f"{IN_JOB} {SAVE}=/tmp"),
        (places.tensorboard, f"{IN_JOB} TENSORBOARD_DIR=/mnt/logs"),
        (places.job, f"{JOB_CONFIG}={ENV_VARS}"),
    ],
)
def test_a_setting_that_is_fine_is_no_line(check: Callable[[Run], Iterable[str]], arguments: str):
    assert list(check(run(*arguments.split()))) == []


@pytest.mark.parametrize("key", ["algorithm.adv_estimator", *settings.NAMES])
def test_a_name_that_easyr1_does_not_know_is_listed_with_those_that_it_knows(key: str):
    if settings.get(run().config, key) is None:
        pytest.skip("this EasyR1 has no such key")
    assert one(settings.names(run(f"{key}=nonsense"))).startswith(f"{key}=nonsense: this EasyR1 knows ")


def test_validation_must_say_how_many_answers_it_draws():
    unsaid = run()
    unsaid.config.worker.rollout.val_override_config = {"temperature": 1.0}
    assert "set worker.rollout.val_override_config.n=1" in one(settings.sampling(unsaid))


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch):
    loggers, on_cpu = run("trainer.logger=[wandb,swanlab,mlflow]"), run("--cpu")
    find, missing = host.importlib.util.find_spec, "verl"
    monkeypatch.setattr(host.importlib.util, "find_spec", lambda name: None if name == missing else find(name))
    assert "EasyR1 is not installed" in one(host.versions())
    missing = "verl.trainer.main"
    assert "not EasyR1 but another trainer" in one(host.versions())
    monkeypatch.setattr(host.importlib.util, "find_spec", lambda name: None)
    assert [line.split(" is not")[0] for line in host.engines(loggers)] == ["vllm", "flash-attn"]
    assert list(host.engines(on_cpu)) == []
    lines = host.loggers(loggers)
    assert [line.split("pip install ")[1].split(",")[0] for line in lines] == ["wandb", "swanlab", "mlflow"]


@pytest.mark.parametrize(
    ("name", "arguments", "login"),
    [
        ("wandb", "", None),
        ("wandb", "WANDB_API_KEY=abc", True),
        ("wandb", "WANDB_MODE=offline", True),
        ("wandb", "WANDB_MODE=online", None),
        ("wandb", "", "machine api.wandb.ai login user password abc"),
        ("wandb", "WANDB_BASE_URL=https://wandb.example.org", "machine wandb.example.org login user password abc"),
        ("swanlab", "", None),
        ("swanlab", "SWANLAB_MODE=local", True),
        # workers of a cluster have an environment of their own
        ("wandb", "RAY_ADDRESS=10.0.0.1:6379", True),
    ],
)
def test_a_logger_without_a_login_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, arguments: str, login: str | bool | None
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(host, "LOGGER_PACKAGES", ())
    # of another machine
    (tmp_path / ".netrc").write_text(login if isinstance(login, str) else "machine git login user password abc")
    lines = list(host.loggers(run(f"trainer.logger=[{name}]", f"HOME={tmp_path}", *arguments.split())))
    assert lines == [] if login else f"set {name.upper()}_API_KEY" in one(lines)


@pytest.mark.parametrize(
    ("gpus", "cpus", "told"), [(2, 64, "there are 2 GPUs"), (4, 6, "needs 7 logical CPUs and would wait for ever")]
)
def test_too_few_gpus_or_cpus_are_named(monkeypatch: pytest.MonkeyPatch, gpus: int, cpus: int, told: str):
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    monkeypatch.setattr(os, "cpu_count", lambda: cpus)
    assert told in one(host.gpus(run("trainer.n_gpus_per_node=4")))


def test_the_cluster_that_ray_start_left_on_this_machine_is_the_one_that_is_asked(tmp_path: Path):
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("127.0.0.1:1")
    assert "no Ray cluster answers at 127.0.0.1:1" in one(host.gpus(run(f"RAY_TMPDIR={tmp_path}")))
    # the stand-ins start a cluster of their own
    assert run(f"RAY_TMPDIR={tmp_path}", "--cpu").address is None


def test_a_model_that_can_not_be_had_or_trained_is_named(tmp_path: Path, model: Path):
    assert list(host.model(run(f"{MODEL}={model}"))) == []
    assert "no config.json" in one(host.model(run(f"{MODEL}={tmp_path}")))
    override = f"{MODEL.replace('model_path', 'override_config')}"
    assert list(host.model(run(f"{MODEL}={model}", f"{override}.attention_dropout=0.1"))) == []
    assert "has no such key" in one(host.model(run(f"{MODEL}={model}", f"{override}.atention_dropout=0.1")))
    for kind in ("llava", "qwen3_vl", "qwen2"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "config.json").write_text(json.dumps({"model_type": kind}))
    padding_free = "worker.actor.padding_free=true"
    assert "can't train a llava" in one(host.model(run(f"{MODEL}={tmp_path}/llava", padding_free)))
    assert "a qwen2 sees no images" in one(host.model(run(f"{MODEL}={tmp_path}/qwen2")))
    qwen3 = list(host.model(run("--cpu", f"{MODEL}={tmp_path}/qwen3_vl")))
    assert "current source" in one(qwen3) if RELEASE else qwen3 == []


def test_a_hub_model_that_can_not_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch):
    def unreachable(*_: Any, **__: Any) -> str:
        raise ConnectionError("no route to host\nsecond line")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", unreachable)
    line = one(host.model(run(f"{MODEL}=Qwen/No-Such-Model")))
    assert "no route to host" in line
    assert "hf download Qwen/No-Such-Model" in line


@pytest.mark.parametrize(
    ("saved", "told"),
    [
        ({}, Note("continues from {}/global_step_3")),
        ({"step": 9}, Note("continues from {}/global_step_9, and nothing is left to train up to trainer.max_steps=9")),
        ({"ranks": 2}, "can't be resumed on 1 GPUs"),
        ({"kinds": ("model", "extra_state")}, "save_model_only=false"),
        (None, "checkpoint_tracker.json can't be read"),
    ],
)
def test_what_a_run_would_go_on_from_is_named(tmp_path: Path, saved: dict[str, Any] | None, told: str):
    checkpoint(tmp_path, **(saved or {}))
    if saved is None:
        (tmp_path / "checkpoint_tracker.json").write_text("{")
    line = one(places.resuming(run(f"{SAVE}={tmp_path}", "trainer.max_steps=9")))
    assert told.format(tmp_path) in line
    assert type(line) is type(told)


@pytest.mark.parametrize(
    ("tracker", "settings"),
    [('{"last_global_step": 90}', ""), (None, ""), ('{"last_global_step": 80}', "trainer.find_last_checkpoint=false")],
)
def test_a_run_does_not_start_from_zero_among_the_steps_of_another(tmp_path: Path, tracker: str | None, settings: str):
    for step in (8, 80):
        checkpoint(tmp_path, step)
    (tmp_path / "checkpoint_tracker.json").unlink()
    if tracker:
        (tmp_path / "checkpoint_tracker.json").write_text(tracker)
    line = one(places.resuming(run(f"{SAVE}={tmp_path}", *settings.split())))
    assert "holds global_step_8, global_step_80" in line
    assert f"trainer.load_checkpoint_path={tmp_path}/global_step_80 to go on" in line


def test_a_tracker_whose_steps_are_gone_is_named(tmp_path: Path):
    (tmp_path / "checkpoint_tracker.json").write_text('{"last_global_step": 90}')
    assert "names a step that is not there" in one(places.resuming(run(f"{SAVE}={tmp_path}")))
    assert not list(places.resuming(run(f"{SAVE}={tmp_path}", "trainer.find_last_checkpoint=false")))


def left_by(folder: Path, *settings: str) -> None:
    """What an earlier run with these settings leaves of its config."""
    config = run(*settings).config
    left = without_secrets(OmegaConf.to_container(config)) | {places.CONTENTS: places.contents(config)}
    (folder / "ier1_config.yaml").write_text(as_yaml(left))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ("", None),
        ("trainer.max_steps=9 trainer.logger=[console]", None),
        ("data.max_pixels=3136", "data.max_pixels is 3136, and was 50176"),
        ("data.train_files=/b.parquet", "data.train_files is /b.parquet, and was /a.parquet"),
        (f"{MODEL}=/other", f"{MODEL} is /other, and was None"),
        (f"{REWARD}_kwargs.goal_weight=0.0", "kwargs is {'goal_weight': 0.0}, and was {}"),
        ("data.format_prompt=/own.jinja", "data.format_prompt is /own.jinja"),
        (
            "data.seed=7 algorithm.kl_coef=0.5",
            Note("algorithm.kl_coef is 0.5, and was 0.001; data.seed is 7, and was 1"),
        ),
    ],
)
def test_a_run_continues_only_its_own_steps(tmp_path: Path, changes: str, told: str | None):
    checkpoint(tmp_path)
    here = f"{SAVE}={tmp_path}", "data.train_files=/a.parquet"
    left_by(tmp_path, *here)
    lines = list(places.resuming(run(*here, *changes.split())))[1:]
    if told is None:
        assert lines == []
    else:
        assert told in one(lines)
        assert type(lines[0]) is type(told)
    # named on purpose, from another folder
    load = f"trainer.load_checkpoint_path={tmp_path}/global_step_3"
    lines = list(places.resuming(run(*here, *changes.split(), f"{SAVE}={tmp_path}/other", load)))[1:]
    assert [type(line) for line in lines] == ([Note] if told else [])


def test_files_are_known_by_their_content_and_folders_by_their_place(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
):
    checkpoint(tmp_path)
    file, copy = write(tmp_path / "a.parquet", [row()]), write(tmp_path / "b.parquet", [row()])
    monkeypatch.chdir(model.parent)

    def lines(rows: str, model: str | Path) -> list[str]:
        ours = run(f"{SAVE}={tmp_path}", f"data.train_files={rows}", f"{MODEL}={model}")
        return list(places.resuming(ours))[1:]

    left_by(tmp_path, f"{SAVE}={tmp_path}", f"data.train_files={file}", f"{MODEL}={model.name}")
    assert lines(file, model) == lines(copy, f"../{model.parent.name}/{model.name}") == []
    assert "data.train_files is" in one(lines(f"{copy}@train[:1]", model))
    write(tmp_path / "a.parquet", many(2))
    assert f"data.train_files is {file} with sha256" in one(lines(file, model))


def test_another_place_or_server_is_no_other_run(tmp_path: Path):
    checkpoint(tmp_path)
    package = "data.format_prompt=/tmp/ray/session/working_dir_files/_ray_pkg_{}/prompt.jinja"
    judge, store = f"{REWARD}_kwargs.judge=openai:http://{{}}/v1#judge", f"{REWARD}_kwargs.store"
    reward = f"{REWARD}=/{{}}/reward_fns/r.py:f"
    left_by(tmp_path, package.format("a"), judge.format("node1:8001"), reward.format("old"))
    now = package.format("b"), judge.format("node2:8001"), reward.format("new"), f"{store}=/mnt"
    assert "continues from" in one(places.resuming(run(f"{SAVE}={tmp_path}", *now)))


def test_each_step_keeps_the_config_that_it_was_trained_with(tmp_path: Path):
    checkpoint(tmp_path, 3)
    left_by(tmp_path, "data.max_pixels=50176")
    places.keep_step_config(tmp_path)
    checkpoint(tmp_path, 4)
    left_by(tmp_path, "data.max_pixels=3136")
    places.keep_step_config(tmp_path)
    budgets = [find_budget(read_run_config(tmp_path / f"global_step_{step}"), None, None) for step in (3, 4)]
    assert budgets == [(784, 50176), (784, 3136)]
    # and is what a continued run is compared with
    assert "continues from" in one(places.resuming(run(f"{SAVE}={tmp_path}", "data.max_pixels=3136")))


def test_logs_of_an_earlier_part_are_kept_under_the_next_number(tmp_path: Path):
    with_file = run(f"{SAVE}={tmp_path}", "trainer.logger=[file]").config
    log = tmp_path / "experiment_log.jsonl"
    log.write_text("first")
    # nothing to continue, or no logger that empties the file
    assert places.keep_earlier_logs(with_file) == []
    checkpoint(tmp_path)
    assert places.keep_earlier_logs(run(f"{SAVE}={tmp_path}").config) == []
    for part, text in ((1, "first"), (2, "second")):
        log.write_text(text)
        (tmp_path / "generations.log").write_text("")
        assert places.keep_earlier_logs(with_file) == [tmp_path / f"experiment_log.part{part}.jsonl"]
        assert (tmp_path / f"experiment_log.part{part}.jsonl").read_text() == text
    assert places.keep_earlier_logs(with_file) == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Take this apart.", "never uses {{ content }}"),
        ("{{ content }} {{ image }}", "uses image: EasyR1 gives it nothing but content"),
        ("one\n{{ content", "line 2: "),
        ("{{ content }} caf\udce9", "can't be read as UTF-8 text"),
    ],
)
def test_a_prompt_that_easyr1_would_render_with_a_hole_is_named(tmp_path: Path, text: str, told: str):
    (tmp_path / "p.jinja").write_text(text, errors="surrogateescape")
    assert told in one(reward.prompt(run(f"data.format_prompt={tmp_path}/p.jinja")))


def test_a_chat_template_or_image_folder_that_easyr1_would_drop_is_named(tmp_path: Path):
    (tmp_path / "chat.jinja").write_text("{{ messages }}")
    file = list(reward.chat_template(run(f"data.override_chat_template={tmp_path}/chat.jinja")))
    if RELEASE:
        assert "takes the text of the template" in one(file)
    else:
        assert file == []
        assert "no such file" in one(reward.chat_template(run("data.override_chat_template=gone.jinja")))
    assert "no such folder" in of_rows(tmp_path, many(4), "data.image_dir=gone")[0]


def reward_of(tmp_path: Path, text: str, *settings: str) -> list[str]:
    (tmp_path / "r.py").write_text(text)
    lines = said(f"{REWARD}={tmp_path}/r.py:f", *settings)
    return [line for line in lines if line.startswith("worker.reward")]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import no_such_package", "fails to load: ModuleNotFoundError"),
        ("f(", "fails to load: SyntaxError"),
        ("raise SystemExit(3)", "fails to load: SystemExit: 3"),
        ("def g(x): return []", "has no function f"),
        ("REWARD_TYPE = 'group'\ndef f(x): return []", "REWARD_TYPE='group'"),
        ("def f(x): return [{'overall': 1.0}]", "one score for each response"),
        ("def f(x): return [{'score': 1.0} for _ in x]", "dicts with `overall`"),
        ("def f(x): return [{'overall': 1.0, 'why': 'good'} for _ in x]", "the same finite numbers"),
        ("def f(x): return [{'overall': float('nan')} for _ in x]", "the same finite numbers"),
        ("def f(x): return [{'overall': 1.0, str(i): 1.0} for i, _ in enumerate(x)]", "the same finite numbers"),
        ("def f(x): raise KeyError('label')", "a trial call fails: KeyError: 'label'"),
    ],
)
def test_a_reward_file_that_would_fail_in_training_is_named(tmp_path: Path, text: str, told: str):
    assert told in one(reward_of(tmp_path, text))


def test_a_reward_is_called_as_its_file_says_and_the_config_must_agree(tmp_path: Path):
    has_key = "reward_type" in run().config.worker.reward
    kind = ["worker.reward.reward_type=sequential"] if has_key else []
    text = "REWARD_TYPE = 'sequential'\ndef f(x): return {'overall': float(len(x['response']))}"
    assert reward_of(tmp_path, text, *kind) == []
    if has_key:
        line = one(reward_of(tmp_path, "def f(x): return [{'overall': 1.0} for _ in x]", *kind))
        assert "worker.reward.reward_type=sequential, but the file is written for batch" in line


def test_a_run_without_a_problem_has_none(tmp_path: Path, model: Path):
    path = write(tmp_path / "rows.parquet", many(8))
    files = f"data.train_files={path}", f"data.val_files={path}"
    good = run("--cpu", *files, f"{MODEL}={model}", f"{SAVE}={tmp_path}/checkpoints")
    assert [line for line in preflight.lines(good) if not isinstance(line, Note)] == []


def test_a_check_that_fails_is_one_line_and_hides_no_other(monkeypatch: pytest.MonkeyPatch):
    def fails(_: Run) -> Iterator[str]:
        yield "found before"
        raise RuntimeError("first\nsecond")

    monkeypatch.setattr(preflight, "CHECKS", (fails, settings.ranges))
    before, failed, other = said("data.min_pixels=0")
    assert before == "found before"
    assert "fails failed: RuntimeError: first second" in failed
    assert "data.min_pixels=0" in other


def test_where_the_run_will_not_start_one_note_names_what_was_not_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(host.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(host, "model_config", lambda path: (None, "unreachable"))
    monkeypatch.setattr(rows, "model_config", host.model_config)
    path = write(tmp_path / "rows.parquet", many(8))
    files = f"data.train_files={path}", f"data.val_files={path}"
    far = run(
        *files, f"{MODEL}=Qwen/Qwen2.5-VL-7B-Instruct", f"{SAVE}={path}/run", "trainer.logger=[tensorboard,wandb]"
    )
    *counts, note = preflight.lines(dataclasses.replace(far, elsewhere=True))
    assert [type(line) for line in (*counts, note)] == [Note] * 3
    for part in (
        "vllm; flash-attn",
        "the logger tensorboard",
        "the logger wandb",
        "GPUs",
        "rows.parquet/run",
        "lengths",
    ):
        assert part in note, note


# --- rows -----------------------------------------------------------------------------------------------------------


def without_half_its_pixels() -> bytes:
    """A PNG whose checksums are right."""
    data, start = png(), 33
    size = int.from_bytes(data[start : start + 4], "big") // 2
    chunk = data[start + 4 : start + 8 + size]
    return data[:start] + size.to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big") + data[-12:]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"problem": None}, "have no text as prompt or answer"),
        ({"answer": "[]"}, "not a gold decomposition"),
        ({"answer": GOLD.to_json().replace("lamp", "</subjects>")}, "does not score 1.0"),
        ({"answer": GOLD.to_json().replace("Delete", "Erase")}, "(r3): Erase"),
        ({"problem": "remove the lamp"}, "another number of <image> than of images"),
        ({"problem": "<image><image>remove"}, "2 for 1"),
        ({"problem": "<image>put an <|image_pad|> here"}, "'put an ‹|image_pad|› here'"),
        ({"problem": "<image>done<|im_end|>"}, "have control tokens"),
        ({"problem": "<image>set <action>[]</action>"}, "have control tokens"),
        ({"images": [{"bytes": png()[:-60], "path": None}]}, "runcated"),
        ({"images": [{"bytes": png(kind="JPEG")[:-200], "path": None}]}, "runcated"),
        ({"images": [{"bytes": without_half_its_pixels(), "path": None}]}, "runcated"),
        ({"images": [{"bytes": b"no image", "path": None}]}, "have images that can't be used"),
        ({"images": [{"bytes": None, "path": "a.png"}]}, "no bytes and no path in it"),
        ({"images": [{"bytes": png(20, 20), "path": None}]}, "which EasyR1 would enlarge"),
    ],
)
def test_a_row_that_easyr1_would_choke_on_is_counted_and_named(tmp_path: Path, changes: dict[str, Any], told: str):
    records = many(8)
    records[3] |= changes
    line = one(of_rows(tmp_path, records))
    assert line.startswith("data.train_files: 1 of 8 rows ")
    assert told in line
    assert "the first is row 3 (r3)" in line


@pytest.mark.full
@pytest.mark.filterwarnings("ignore")
def test_of_damaged_images_none_passes_that_easyr1_dies_of():
    run()  # arms what EasyR1 imports
    from verl.utils.dataset import process_image

    chance = random.Random(0)
    whole = [png(kind=kind) for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")]
    for _ in range(10_000):
        damaged = bytearray(chance.choice(whole))
        for _ in range(chance.randrange(1, 8)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        end = chance.choice((len(damaged), chance.randrange(len(damaged))))
        image = {"bytes": bytes(damaged[:end]), "path": None}
        try:
            rows.decode(image, None)
        except Exception:
            continue
        process_image(image, 784, 50176)


NO_PROBLEM = [{"prompt": "x", "images": [], "answer": "[]"}] * 4
# a step of several small draws needs rows for all of them
SMALL_DRAWS = "data.mini_rollout_batch_size=2 trainer.max_steps=null trainer.total_epochs=1"


@pytest.mark.parametrize(
    ("records", "changes", "told"),
    [
        (many(4, images="a.png"), "", "holds a str, wanted a list"),
        (NO_PROBLEM, "", "has no column problem, but prompt, images, answer"),
        (many(3), "", "3 usable rows are less than a batch of 4"),
        (many(3), SMALL_DRAWS, "3 usable rows are less than a batch of 4"),
        (many(4, images=[{"bytes": png(400, 300), "path": None}]), "", Note("4 of 4 rows have an image above")),
    ],
)
def test_rows_that_training_could_not_take_are_named(
    tmp_path: Path, records: list[dict[str, Any]], changes: str, told: str
):
    line = one(of_rows(tmp_path, records, *changes.split()))
    assert told in line
    assert type(line) is type(told)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("none.parquet", "no such file"),
        ("", "no such file"),
        ("bad.parquet", "can't be read as parquet ("),
        ("bad.jsonl", "can't be read as json ("),
        ("empty.jsonl", "can't be read as json ("),
        ("empty.parquet", "can't be read as parquet ("),
        (".", "is a folder"),
        ("rows.csv", "not a parquet or jsonl file"),
        ("train.parquet@test", "split 'test' can't be taken ("),
        ("train.parquet@train[:9]", "split 'train[:9]' can't be taken: there are only 4 rows"),
        ("train.parquet@a@b", "what follows an @"),
        ("me@corp/train.parquet", "what follows an @"),
        ("train.parquet@", "split '' can't be taken ("),
        ("surrogate.jsonl", "can't be read as json ("),
        ("mixed", "is a folder"),
    ],
)
def test_a_data_file_that_easyr1_can_not_read_is_named(tmp_path: Path, name: str, told: str):
    write(tmp_path / "train.parquet", many(4))
    write(tmp_path / "empty.parquet", [row()], rows=0)
    texts = {"bad.parquet": "PAR1 and then", "bad.jsonl": '{"a": 1}\n{broken', "surrogate.jsonl": '{"a": "\\ud83d"}'}
    texts |= dict.fromkeys(("empty.jsonl", "rows.csv", "me@corp/train.parquet", "mixed/a.jsonl", "mixed/b.json"), "")
    for file, text in texts.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(text)
    with pytest.raises(UserError) as caught:
        rows.open_rows(name and f"{tmp_path}/{name}", ("problem",))
    assert told in str(caught.value)


def test_a_column_that_datasets_can_not_read_and_text_that_is_not_utf_8_are_named(tmp_path: Path):
    table = pa.Table.from_pylist(many(4))
    bad = pa.StringArray.from_buffers(4, *pa.array([b"caf\xe9"] * 4, pa.binary()).buffers()[1:])
    for column, told in (
        (pa.array([[("a", "b")]] * 4, pa.map_(pa.string(), pa.string())), "('meta')"),
        # also in a column that only EasyR1 reads
        (bad, "4 of 4 rows hold text that is not UTF-8"),
    ):
        path = tmp_path / f"{column.type.id}.parquet"
        parquet.write_table(table.append_column("meta", column), path)
        lines = rows.data(run(f"data.train_files={path}", f"data.val_files={path}"))
        assert told in next(line for line in lines if not isinstance(line, Note))


TEXT = "".join(json.dumps({"problem": f"remove {number}"}) + "\n" for number in range(4))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("blank_last_line.jsonl", TEXT + "\n\n"),
        ("bom.jsonl", "\ufeff" + TEXT),
        ("array.json", f"[{','.join(TEXT.splitlines())}]"),
        ("windows.jsonl", TEXT.replace("\n", "\r\n")),
        ("folder/one.jsonl", TEXT),
    ],
)
def test_what_easyr1_reads_is_read(tmp_path: Path, name: str, text: str):
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(text.encode())
    read = rows.open_rows(str(file.parent if "/" in name else file), ("problem",))
    assert read["problem"] == [f"remove {number}" for number in range(4)]


def test_a_prefix_of_the_rows_is_checked_as_easyr1_would_take_it(tmp_path: Path):
    path = write(tmp_path / "train.parquet", many(10))
    for split, wanted in (("train[:4]", ["r0", "r1", "r2", "r3"]), ("train[80%:]", ["r8", "r9"])):
        assert rows.open_rows(f"{path}@{split}", ("problem",))["id"] == wanted


def test_json_lines_with_image_paths_are_read_from_the_image_folder(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(png())
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in many(4, images=["a.png"])))
    found = rows.data(run(f"data.train_files={path}", f"data.val_files={path}", f"data.image_dir={tmp_path}"))
    assert [line for line in found if not isinstance(line, Note)] == []


def test_images_that_datasets_opens_by_their_paths_are_opened(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(png())
    table = datasets.Dataset.from_list(many(4, images=[str(tmp_path / "a.png")]))
    table = table.cast_column("images", datasets.List(datasets.Image()))
    table.to_parquet(path := tmp_path / "train.parquet")
    found = rows.data(run(f"data.train_files={path}", f"data.val_files={path}"))
    assert [line for line in found if not isinstance(line, Note)] == []


def test_an_image_of_a_shape_that_the_model_refuses_is_named(tmp_path: Path, model: Path):
    records = many(4, images=[{"bytes": png(4000, 10), "path": None}])
    assert "aspect ratio" in one(of_rows(tmp_path, records, f"{MODEL}={model}"))


def test_a_hub_dataset_is_a_note():
    line = list(rows.data(run("data.train_files=hiyouga/geometry3k@train", "data.val_files=hiyouga/geometry3k@test")))[
        1
    ]
    assert isinstance(line, Note)
    assert "on the hub" in line


def test_a_relative_file_in_a_job_is_told_where_it_would_be_looked_for():
    inside = run(IN_JOB, "data.train_files=rl/train.parquet", "data.val_files=rl/val.parquet")
    assert all("in a Ray job give an absolute path" in line for line in rows.data(inside) if not isinstance(line, Note))


@pytest.mark.parametrize(
    ("turn", "told"),
    [
        ("<think>\n", "opens <think> itself"),
        ("<think>Okay, ", "opens <think> itself"),
        ("<think>\n\n</think>\n\n", None),
        ("{{ raise_exception('no images') }}", "chat template can't be used (no images)"),
    ],
)
def test_a_chat_template_that_no_good_response_can_follow_is_named(
    tmp_path: Path, model: Path, turn: str, told: str | None
):
    template = shutil.copytree(model, tmp_path / "model") / "chat_template.jinja"
    template.write_text(template.read_text().replace("<|im_start|>assistant\n", f"<|im_start|>assistant\n{turn}"))
    lines = of_rows(tmp_path, many(4), f"{MODEL}={tmp_path}/model")
    assert lines == [] if told is None else told in one(lines)


LONG = "<image>" + "remove the lamp and " * 200


def test_a_prompt_over_the_limit_is_named_with_the_length_that_is_needed(tmp_path: Path, model: Path):
    records = many(4)
    records[2]["problem"] = LONG
    line = one(of_rows(tmp_path, records, f"{MODEL}={model}"))
    assert "1 of 4 rows have a prompt longer than data.max_prompt_length=640" in line
    needed = int(line.split("raise it to ")[1].split(",")[0])
    for length, lines in ((needed, 0), (needed - 1, 1)):
        assert len(of_rows(tmp_path, records, f"data.max_prompt_length={length}", f"{MODEL}={model}")) == lines


def test_rows_that_easyr1_filters_are_a_note_and_count_as_missing(tmp_path: Path, model: Path):
    filtered = "data.filter_overlong_prompts=true", f"{MODEL}={model}"
    note, line = of_rows(tmp_path, many(4, problem=LONG), *filtered)
    assert "4 of 4 rows have a prompt longer than data.max_prompt_length=640" in note
    assert isinstance(note, Note)
    assert "0 usable rows are less than a batch of 4" in line


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_the_fast_length_is_the_length_of_what_easyr1_gives_the_model(
    tmp_path_factory: pytest.TempPathFactory, family: str
):
    run()  # arms what EasyR1 imports
    from transformers import AutoProcessor
    from verl.utils.dataset import process_image

    from ier1_plugin.prompts import path

    processor = AutoProcessor.from_pretrained(tiny_models.build(tmp_path_factory.mktemp(family), family), use_fast=True)
    length = PromptLength(processor, path("decompose").read_text(), 784, 50176)

    def tokens(problem: str, sizes: list[tuple[int, int]]) -> int:
        """Counted the long way: EasyR1's resizing of real pixels, the processor's own tokens."""
        words = zip(itertools.repeat({"type": "image"}), length.render(problem).split("<image>")[1:])
        content = [part for image, text in words for part in (image, {"type": "text", "text": text})]
        turns = [{"role": "user", "content": content}]
        prompt = processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        images = [process_image(Image.new("RGB", size), 784, 50176) for size in sizes]
        return len(processor(images, [prompt], add_special_tokens=False, return_tensors="pt")["input_ids"][0])

    requests = ["remove the lamp", "red.", "add text: 'Hi!'\n\nplease", "‹image› 50%", "é́ 🙂🙂 ", "", "a  b\n", "?!"]
    sizes = [(84, 56), (400, 300), (20, 31), (1000, 40)]
    records = [(f"<image>{request}", [size]) for request in requests for size in sizes]
    # another image may stand anywhere; only its number counts
    records += [(f"<image>make it like {two}", [size, size]) for two in ("<image>", "<image> now") for size in sizes]
    for record in records:
        assert length.fast(*record) == length.exact(*record) == tokens(*record), record
