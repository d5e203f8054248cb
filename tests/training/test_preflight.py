"""What the preflight says: keys, numbers and names of a config, packages, models, places, prompts and reward files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import verl
from fakes import tiny_models
from fakes.preflight_runs import checkpoint, config, of_rows, one, row, run, write, wrong_keys
from omegaconf import OmegaConf

from ier1_plugin.training.preflight import configuration, host, places, problems, reward, settings
from ier1_plugin.training.preflight.run import JOB_CONFIG, Note, Run

RELEASE = verl.__version__ == "0.3.2.dev2"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build(tmp_path_factory.mktemp("model"), "qwen2_5_vl")


def test_every_unknown_key_is_named_with_the_nearest_known_one():
    assert wrong_keys({"data": {"rolout_batch_size": 8}, "trainer": {"lr": 1e-6}}) == [
        "data.rolout_batch_size: EasyR1 has no such key; nearest: data.rollout_batch_size",
        "trainer.lr: EasyR1 has no such key; nearest: worker.actor.optim.lr",
    ]


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"data": {"seed": "one"}}, "data.seed=one: "),
        ({"data": {"train_files": "???"}}, "data.train_files is not set; give the train.parquet"),
        ({"data": {"train_files": "${oc.env:IER1_NO_SUCH_VARIABLE}"}}, "IER1_NO_SUCH_VARIABLE"),
        pytest.param(
            {"worker": {"actor": {"model": {"lora": {"rank": 8}}}}},
            "current source",
            marks=pytest.mark.skipif(not RELEASE, reason="written for the keys of 0.3.2.dev2"),
        ),
    ],
)
def test_a_key_with_a_value_that_does_not_do_is_named(section: dict[str, Any], told: str):
    assert told in one(wrong_keys(section))


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


def test_the_base_config_of_these_tests_has_no_problem_in_its_settings():
    checks = (settings.positive, settings.names, settings.batches, settings.sampling, settings.lengths, settings.pixels)
    assert [line for check in checks for line in check(run())] == []


MICRO = "worker__actor__micro_batch_size_per_device_for"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"data__rollout_batch_size": 6}, "data.rollout_batch_size = 6 is not a multiple of worker.actor.global_batch"),
        (
            {f"{MICRO}_experience": 3},
            "data.rollout_batch_size * worker.rollout.n = 16 is not a multiple of worker.actor.micro_batch",
        ),
        (
            {f"{MICRO}_update": 3},
            "for each GPU = 16 is not a multiple of worker.actor.micro_batch_size_per_device_for_update = 3",
        ),
        ({"data__mini_rollout_batch_size": 2, "trainer__n_gpus_per_node": 4}, "data.mini_rollout_batch_size = 2"),
        ({"trainer__n_gpus_per_node": 3}, "data.rollout_batch_size = 4 is not a multiple of trainer.nnodes"),
        ({"worker__rollout__tensor_parallel_size": 2}, "is not a multiple of worker.rollout.tensor_parallel_size = 2"),
        ({"worker__actor__ulysses_size": 2}, "is not a multiple of worker.actor.ulysses_size = 2"),
        ({"worker__actor__fsdp__fsdp_size": 3, "trainer__n_gpus_per_node": 4}, "worker.actor.fsdp.fsdp_size = 3"),
        ({"worker__actor__fsdp__enable_cpu_offload": True}, "enable_cpu_offload=true does not go with several micro"),
        (
            {"worker__actor__dynamic_batching": False, f"{MICRO}_experience": 16, "trainer__n_gpus_per_node": 2},
            "samples for each GPU = 8 is not a multiple",
        ),
        (
            {"algorithm__adv_estimator": "gae", "worker__critic__global_batch_size": 3},
            "worker.critic.global_batch_size = 3",
        ),
    ],
)
def test_batch_sizes_that_easyr1_refuses_are_named(changes: dict[str, Any], told: str):
    assert any(told in line for line in settings.batches(run(**changes)))


def test_a_size_below_one_is_named_and_not_divided_by():
    assert one(settings.positive(run(data__rollout_batch_size=0))) == "data.rollout_batch_size=0: wanted at least 1"
    assert list(settings.batches(run(data__rollout_batch_size=0))) == []
    assert "val_batch_size=0" in one(settings.positive(run(data__val_batch_size=0)))


@pytest.mark.parametrize("key", ["algorithm.adv_estimator", *settings.NAMES])
def test_a_name_that_easyr1_does_not_know_is_listed_with_those_that_it_knows(key: str):
    if settings.get(run().config, key) is None:
        pytest.skip("this EasyR1 has no such key")
    changes: dict[str, Any] = {key: "nonsense"}
    assert one(settings.names(run(**changes))).startswith(f"{key}=nonsense: this EasyR1 knows ")


@pytest.mark.parametrize(
    ("check", "changes", "told"),
    [
        (settings.sampling, {"worker__rollout__n": 1}, "grpo compares the answers"),
        (settings.lengths, {"worker__rollout__max_num_batched_tokens": 600}, "max_num_batched_tokens"),
        (settings.lengths, {"worker__rollout__max_model_len": 600}, "max_model_len"),
        (settings.pixels, {"data__min_pixels": 60000}, "min_pixels <= max_pixels"),
        (host.loggers, {"trainer__logger": ["console", "wandbb"]}, "no logger 'wandbb'"),
        (host.stand_ins, {"cpu": True, "worker__actor__use_torch_compile": True}, "worker.actor.use_torch_compile"),
        (host.model, {"worker__actor__model__model_path": None}, "wanted a folder or a hub id"),
        (host.model, {"worker__actor__model__model_path": "/nowhere"}, "there is no such folder"),
        (places.resuming, {"trainer__load_checkpoint_path": "/nowhere/global_step_9"}, "does not exist"),
        (places.resuming, {"trainer__load_checkpoint_path": "/"}, "one of the global_step_* folders"),
        (reward.prompt, {"data__format_prompt": "nowhere.jinja"}, "no such file"),
        (reward.prompt, {"data__format_prompt": None}, "no such file"),
        (reward.reward_function, {"worker__reward__reward_function": "nowhere.py:f"}, "there is no file nowhere.py"),
        (reward.reward_function, {"worker__reward__reward_function": None}, "is not set"),
    ],
)
def test_a_setting_that_would_stop_the_run_is_named(
    check: Callable[[Run], Iterable[str]], changes: dict[str, Any], told: str
):
    line = one(check(run(**changes)))
    assert told in line
    assert not isinstance(line, Note)


@pytest.mark.parametrize(
    ("check", "changes", "told"),
    [
        (settings.sampling, {"worker__rollout__val_override_config": {"temperature": 0.6, "n": 1}}, "0.6"),
        (settings.prompt_filter, {"data__filter_overlong_prompts": True}, "can hang"),
        (places.job, {"env": {"RAY_ADDRESS": "10.0.0.1:6379"}}, "10.0.0.1:6379"),
    ],
)
def test_what_a_run_should_only_know_is_a_note(
    check: Callable[[Run], Iterable[str]], changes: dict[str, Any], told: str
):
    line = one(check(run(**changes)))
    assert told in line
    assert isinstance(line, Note)


def test_training_can_not_be_greedy_and_validation_must_say_how_many_answers_it_draws():
    lines = settings.sampling(run(worker__rollout__temperature=0.0))
    assert any("training has to sample" in line for line in lines)
    unsaid = config()
    unsaid.worker.rollout.val_override_config = {"temperature": 1.0}
    assert "set worker.rollout.val_override_config.n=1" in one(settings.sampling(Run(unsaid)))


def test_a_package_of_the_wrong_version_is_named_with_the_right_one(monkeypatch: pytest.MonkeyPatch):
    versions = {"omegaconf": "2.4.0", "transformers": "5.3.0", "peft": "0.21.2"}
    monkeypatch.setattr(host.metadata, "version", versions.__getitem__)
    omegaconf, transformers = host.versions()
    assert "omegaconf 2.4.0" in omegaconf
    assert "'omegaconf<2.4'" in omegaconf
    assert "transformers 5.3.0" in transformers
    with_lora = OmegaConf.create({"worker": {"actor": {"model": {"lora": {"rank": 8}}}}})
    assert "peft 0.21.2" in one(host.lora(Run(with_lora)))
    with_lora.worker.actor.model.lora.rank = 0
    assert list(host.lora(Run(with_lora))) == []


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch):
    loggers = run(trainer__logger=["wandb", "swanlab", "mlflow"])
    find, missing = host.importlib.util.find_spec, "verl"
    monkeypatch.setattr(host.importlib.util, "find_spec", lambda name: None if name == missing else find(name))
    assert "EasyR1 is not installed" in one(host.versions())
    missing = "verl.trainer.main"
    assert "not EasyR1 but another trainer" in one(host.versions())
    monkeypatch.setattr(host.importlib.util, "find_spec", lambda name: None)
    assert [line.split(" is not")[0] for line in host.engines(cpu=False)] == ["vllm", "flash-attn"]
    assert list(host.engines(cpu=True)) == []
    lines = host.loggers(loggers)
    assert [line.split("pip install ")[1].split(",")[0] for line in lines] == ["wandb", "swanlab", "mlflow"]


@pytest.mark.parametrize(
    ("gpus", "cpus", "told"), [(2, 64, "there are 2 GPUs"), (4, 6, "needs 7 logical CPUs and would wait for ever")]
)
def test_too_few_gpus_or_cpus_are_named(monkeypatch: pytest.MonkeyPatch, gpus: int, cpus: int, told: str):
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    monkeypatch.setattr(os, "cpu_count", lambda: cpus)
    assert told in one(host.gpus(run(trainer__n_gpus_per_node=4, data__rollout_batch_size=4)))


@pytest.mark.parametrize("address", ["127.0.0.1:1", "http://127.0.0.1:8265", "nowhere"])
def test_a_ray_cluster_that_does_not_answer_is_one_line(address: str):
    assert one(host.gpus(run({"RAY_ADDRESS": address}))).startswith(f"no Ray cluster answers at {address} (")


def test_the_cluster_that_ray_start_left_on_this_machine_is_the_one_that_is_asked(tmp_path: Path):
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("127.0.0.1:1")
    env = {"RAY_TMPDIR": str(tmp_path)}
    assert "no Ray cluster answers at 127.0.0.1:1" in one(host.gpus(run(env)))
    # the stand-ins start a cluster of their own
    assert run(env, cpu=True).address is None


def test_a_model_that_can_not_be_had_or_trained_is_named(tmp_path: Path, model: Path):
    def of_model(path: Path, **changes: Any) -> list[str]:
        return list(host.model(run(worker__actor__model__model_path=str(path), **changes)))

    assert of_model(model) == []
    assert "no config.json" in one(of_model(tmp_path))
    for kind in ("llava", "qwen3_vl"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "config.json").write_text(json.dumps({"model_type": kind}))
    assert "can't train a llava" in one(of_model(tmp_path / "llava"))
    qwen3 = of_model(tmp_path / "qwen3_vl", worker__actor__padding_free=False)
    assert "it needs EasyR1's current source" in one(qwen3) if RELEASE else qwen3 == []


def test_a_hub_model_that_can_not_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch):
    def unreachable(*_: Any, **__: Any) -> str:
        raise ConnectionError("no route to host\nsecond line")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", unreachable)
    line = one(host.model(run(worker__actor__model__model_path="Qwen/No-Such-Model")))
    assert "no route to host); give a folder, or load the model first: hf download Qwen/No-Such-Model" in line


def test_checkpoints_go_to_a_folder_that_can_be_written_and_found_again(tmp_path: Path):
    in_job, cache = {JOB_CONFIG: "{}"}, "/tmp/ray/session/runtime_resources/working_dir_files/_ray_pkg_1/c"
    for lost in (
        run(in_job, trainer__save_checkpoint_path="checkpoints/a"),
        run(in_job),
        run(trainer__save_checkpoint_path=cache),
    ):
        assert "Ray's copy of the working directory" in one(places.saving(lost))
    assert list(places.saving(run(in_job, trainer__save_checkpoint_path=str(tmp_path)))) == []
    (tmp_path / "file").write_text("")
    under_a_file = run(trainer__save_checkpoint_path=f"{tmp_path}/file/checkpoints")
    assert "is not a folder that can be written" in one(places.saving(under_a_file))


@pytest.mark.parametrize(
    ("saved", "told"),
    [
        ({}, "goes on from {}/global_step_3"),
        ({"ranks": 2}, "can't be resumed on 1 GPUs"),
        ({"kinds": ("model", "extra_state")}, "save_model_only=false"),
        (None, "checkpoint_tracker.json can't be read"),
    ],
)
def test_what_a_run_would_go_on_from_is_named(tmp_path: Path, saved: dict[str, Any] | None, told: str):
    checkpoint(tmp_path, **(saved or {}))
    if saved is None:
        (tmp_path / "checkpoint_tracker.json").write_text("{")
    line = one(places.resuming(run(trainer__save_checkpoint_path=str(tmp_path))))
    assert told.format(tmp_path) in line
    assert isinstance(line, Note) == (saved == {})


def test_logs_of_an_earlier_part_are_kept_under_the_next_number(tmp_path: Path):
    checkpoint(tmp_path)
    resumed = config(trainer__save_checkpoint_path=str(tmp_path), trainer__logger=["file"])
    for part, text in ((1, "first"), (2, "second")):
        (tmp_path / "experiment_log.jsonl").write_text(text)
        (tmp_path / "generations.log").write_text("")
        assert places.keep_earlier_logs(resumed) == [tmp_path / f"experiment_log.part{part}.jsonl"]
        assert (tmp_path / f"experiment_log.part{part}.jsonl").read_text() == text
    assert places.keep_earlier_logs(resumed) == []


def test_logs_stay_where_they_are_without_the_file_logger_or_a_checkpoint(tmp_path: Path):
    (tmp_path / "experiment_log.jsonl").write_text("first")
    fresh = config(trainer__save_checkpoint_path=str(tmp_path), trainer__logger=["file"])
    assert places.keep_earlier_logs(fresh) == []
    checkpoint(tmp_path)
    assert places.keep_earlier_logs(config(trainer__save_checkpoint_path=str(tmp_path))) == []
    assert (tmp_path / "experiment_log.jsonl").read_text() == "first"


def test_a_jobs_environment_names_an_absolute_folder_for_tensorboard_and_nothing_that_easyr1_sets():
    assert "set an absolute path under env_vars" in one(places.tensorboard(run({JOB_CONFIG: "{}"})))
    assert list(places.tensorboard(run({JOB_CONFIG: "{}", "TENSORBOARD_DIR": "/mnt/logs"}))) == []
    assert list(places.tensorboard(run())) == []
    job = {"runtime_env": {"env_vars": {"NCCL_DEBUG": "INFO", "HF_HOME": "/mnt"}}}
    assert "EasyR1 sets NCCL_DEBUG itself" in one(places.job(run({JOB_CONFIG: json.dumps(job)})))
    job["runtime_env"]["env_vars"]["RAY_OVERRIDE_JOB_RUNTIME_ENV"] = "1"
    assert list(places.job(run({JOB_CONFIG: json.dumps(job)}))) == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Take this apart.", "never uses {{ content }}"),
        ("{{ content }} {{ image }}", "uses image: EasyR1 gives it nothing but content"),
        ("one\n{{ content", "line 2: "),
    ],
)
def test_a_prompt_that_easyr1_would_render_with_a_hole_is_named(tmp_path: Path, text: str, told: str):
    (tmp_path / "p.jinja").write_text(text)
    assert told in one(reward.prompt(run(data__format_prompt=str(tmp_path / "p.jinja"))))


def test_a_chat_template_or_image_folder_that_easyr1_would_drop_is_named(tmp_path: Path):
    (tmp_path / "chat.jinja").write_text("{{ messages }}")
    file = list(reward.chat_template(run(data__override_chat_template=f"{tmp_path}/chat.jinja")))
    if RELEASE:
        assert "takes the text of the template" in one(file)
    else:
        assert file == []
        assert "no such file" in one(reward.chat_template(run(data__override_chat_template="gone.jinja")))
    assert "no such folder" in of_rows(tmp_path, [row(n) for n in range(4)], data__image_dir="gone")[0]


def reward_of(tmp_path: Path, text: str, **changes: Any) -> list[str]:
    (tmp_path / "r.py").write_text(text)
    return list(reward.reward_function(run(worker__reward__reward_function=f"{tmp_path / 'r.py'}:f", **changes)))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import no_such_package", "fails to load: ModuleNotFoundError"),
        ("f(", "fails to load: SyntaxError"),
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
    has_key = "reward_type" in config().worker.reward
    kind = {"worker__reward__reward_type": "sequential"} if has_key else {}
    text = "REWARD_TYPE = 'sequential'\ndef f(x): return {'overall': float(len(x['response']))}"
    assert reward_of(tmp_path, text, **kind) == []
    if has_key:
        line = one(reward_of(tmp_path, "def f(x): return [{'overall': 1.0} for _ in x]", **kind))
        assert "worker.reward.reward_type=sequential, but the reward file is written for batch" in line


@pytest.mark.parametrize(
    ("kwargs", "told"),
    [
        ({"goal_wieght": 0.0}, "kwargs.goal_wieght: the function takes no such argument; nearest: goal_weight"),
        ({"goal_weight": -1.0}, "a trial call fails: ValueError: reward weights must be >= 0"),
        ({"goal_match": "fuzzy"}, "a trial call fails: ValueError: goal_match='fuzzy'"),
        ({}, None),
    ],
)
def test_arguments_that_the_projects_reward_does_not_take_are_named(kwargs: dict[str, Any], told: str | None):
    lines = list(reward.reward_function(run(worker__reward__reward_function_kwargs=kwargs)))
    assert lines == [] if told is None else told in one(lines)


def test_a_run_without_a_problem_has_none(tmp_path: Path, model: Path):
    path = write(tmp_path / "rows.parquet", [row(number) for number in range(8)])
    good = config(
        data__train_files=path,
        data__val_files=path,
        worker__actor__model__model_path=str(model),
        trainer__save_checkpoint_path=str(tmp_path / "checkpoints"),
        worker__ref__fsdp__enable_cpu_offload=False,
    )
    assert problems(good, cpu=True) == []
