"""What the preflight says: keys, numbers and names of a config, packages, models, places, prompts, rewards, rows."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import verl
from fakes import tiny_models
from fakes.preflight_runs import GOLD, checkpoint, config, of_rows, one, png, row, run, write, wrong_keys
from omegaconf import OmegaConf
from PIL import Image

from ier1_plugin.runs.errors import UserError
from ier1_plugin.training.preflight import configuration, host, places, problems, reward, rows, settings
from ier1_plugin.training.preflight.rows import PromptLength
from ier1_plugin.training.preflight.run import JOB_CONFIG, Note, Run

MICRO = "worker__actor__micro_batch_size_per_device_for"


def on(model: object) -> dict[str, Any]:
    """The setting that names the model to train."""
    return {"worker__actor__model__model_path": str(model)}


RELEASE = verl.__version__ == "0.3.2.dev2"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build(tmp_path_factory.mktemp("model"), "qwen2_5_vl")


def many(count: int, **changes: Any) -> list[dict[str, Any]]:
    return [row(number, **changes) for number in range(count)]


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"data": {"rolout_batch_size": 8}, "trainer": {"lr": 1e-6}}, ["data.rollout_batch_size", "actor.optim.lr"]),
        ({"data": {"seed": "one"}}, ["data.seed=one: "]),
        ({"data": {"train_files": "???"}}, ["data.train_files is not set"]),
        ({"data": {"train_files": "${oc.env:IER1_NO_SUCH_VARIABLE}"}}, ["IER1_NO_SUCH_VARIABLE"]),
        pytest.param(
            {"worker": {"actor": {"model": {"lora": {"rank": 8}}}}},
            ["current source"],
            marks=pytest.mark.skipif(not RELEASE, reason="written for the keys of 0.3.2.dev2"),
        ),
    ],
)
def test_every_key_that_will_not_do_is_named(section: dict[str, Any], told: list[str]):
    lines = wrong_keys(section)
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


def test_the_base_config_of_these_tests_has_no_problem_in_its_settings():
    checks = (settings.positive, settings.names, settings.batches, settings.sampling, settings.lengths, settings.pixels)
    assert [line for check in checks for line in check(run())] == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"data__rollout_batch_size": 6}, "data.rollout_batch_size = 6 is not a multiple of worker.actor.global_batch"),
        ({f"{MICRO}_experience": 3}, "worker.rollout.n = 16 is not a multiple of worker.actor.micro_batch"),
        (
            {f"{MICRO}_update": 3},
            "GPU = 16 is not a multiple of worker.actor.micro_batch_size_per_device_for_update = 3",
        ),
        ({"data__mini_rollout_batch_size": 2, "trainer__n_gpus_per_node": 4}, "data.mini_rollout_batch_size = 2"),
        ({"trainer__n_gpus_per_node": 3}, "data.rollout_batch_size = 4 is not a multiple of trainer.nnodes"),
        ({"worker__rollout__tensor_parallel_size": 2}, "is not a multiple of worker.rollout.tensor_parallel_size = 2"),
        ({"worker__actor__ulysses_size": 2}, "is not a multiple of worker.actor.ulysses_size = 2"),
        ({"worker__actor__fsdp__fsdp_size": 3, "trainer__n_gpus_per_node": 4}, "worker.actor.fsdp.fsdp_size = 3"),
        ({"worker__actor__fsdp__enable_cpu_offload": True}, "enable_cpu_offload=true"),
        (
            {"worker__actor__dynamic_batching": False, f"{MICRO}_experience": 16, "trainer__n_gpus_per_node": 2},
            "samples for each GPU = 8 is not a multiple",
        ),
        (
            {"algorithm__adv_estimator": "gae", "worker__critic__global_batch_size": 3},
            "worker.critic.global_batch_size",
        ),
    ],
)
def test_batch_sizes_that_easyr1_refuses_are_named(changes: dict[str, Any], told: str):
    assert any(told in line for line in settings.batches(run(**changes)))


def test_a_size_below_one_is_named_and_not_divided_by():
    assert "data.rollout_batch_size=0" in one(settings.positive(run(data__rollout_batch_size=0)))
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
        (settings.sampling, {"worker__rollout__n": 1}, "grpo"),
        (settings.lengths, {"worker__rollout__max_num_batched_tokens": 600}, "max_num_batched_tokens"),
        (settings.lengths, {"worker__rollout__max_model_len": 600}, "max_model_len"),
        (settings.pixels, {"data__min_pixels": 60000}, "min_pixels <= max_pixels"),
        (host.loggers, {"trainer__logger": ["console", "wandbb"]}, "no logger 'wandbb'"),
        (host.stand_ins, {"cpu": True, "worker__actor__use_torch_compile": True}, "worker.actor.use_torch_compile"),
        (host.model, {"worker__actor__model__model_path": None}, "wanted a folder or a hub id"),
        (host.model, on("/nowhere"), "no such folder"),
        (places.resuming, {"trainer__load_checkpoint_path": "/nowhere/global_step_9"}, "does not exist"),
        (places.resuming, {"trainer__load_checkpoint_path": "/"}, "global_step_*"),
        (places.tensorboard, {"env": {JOB_CONFIG: "{}"}}, "absolute path under env_vars"),
        (reward.prompt, {"data__format_prompt": "nowhere.jinja"}, "no such file"),
        (reward.prompt, {"data__format_prompt": None}, "no such file"),
        (reward.reward_function, {"worker__reward__reward_function": "nowhere.py:f"}, "no file nowhere.py"),
        (reward.reward_function, {"worker__reward__reward_function": None}, "is not set"),
        (settings.sampling, {"worker__rollout__val_override_config": {"temperature": 0.6, "n": 1}}, Note("0.6")),
        (settings.prompt_filter, {"data__filter_overlong_prompts": True}, Note("can hang")),
        (places.job, {"env": {"RAY_ADDRESS": "10.0.0.1:6379"}}, Note("10.0.0.1:6379")),
    ],
)
def test_a_setting_that_would_stop_the_run_is_named_and_one_to_know_of_is_a_note(
    check: Callable[[Run], Iterable[str]], changes: dict[str, Any], told: str
):
    line = one(check(run(**changes)))
    assert told in line
    assert type(line) is type(told)


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
        return list(host.model(run(**on(path), **changes)))

    assert of_model(model) == []
    assert "no config.json" in one(of_model(tmp_path))
    for kind in ("llava", "qwen3_vl"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "config.json").write_text(json.dumps({"model_type": kind}))
    assert "can't train a llava" in one(of_model(tmp_path / "llava"))
    qwen3 = of_model(tmp_path / "qwen3_vl", worker__actor__padding_free=False)
    assert "current source" in one(qwen3) if RELEASE else qwen3 == []


def test_a_hub_model_that_can_not_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch):
    def unreachable(*_: Any, **__: Any) -> str:
        raise ConnectionError("no route to host\nsecond line")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", unreachable)
    line = one(host.model(run(**on("Qwen/No-Such-Model"))))
    assert "no route to host)" in line
    assert "hf download Qwen/No-Such-Model" in line


@pytest.mark.parametrize(
    ("in_job", "folder", "told"),
    [
        (True, "checkpoints/a", "Ray's copy of the working directory"),
        (True, None, "Ray's copy of the working directory"),
        (False, "/tmp/ray/session/runtime_resources/working_dir_files/_ray_pkg_1/c", "Ray's copy of the working"),
        (False, f"{__file__}/checkpoints", "is not a folder that can be written"),
    ],
)
def test_checkpoints_go_to_a_folder_that_can_be_written_and_found_again(in_job: bool, folder: str | None, told: str):
    path: dict[str, Any] = {"trainer__save_checkpoint_path": folder} if folder else {}
    assert told in one(places.saving(run({JOB_CONFIG: "{}"} if in_job else {}, **path)))


def test_an_absolute_folder_for_checkpoints_is_fine_in_a_job(tmp_path: Path):
    assert list(places.saving(run({JOB_CONFIG: "{}"}, trainer__save_checkpoint_path=str(tmp_path)))) == []


@pytest.mark.parametrize(
    ("saved", "told"),
    [
        ({}, "continues from {}/global_step_3"),
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
    place: dict[str, Any] = {"trainer__save_checkpoint_path": str(tmp_path)}
    assert places.keep_earlier_logs(config(**place, trainer__logger=["file"])) == []
    checkpoint(tmp_path)
    assert places.keep_earlier_logs(config(**place)) == []
    assert (tmp_path / "experiment_log.jsonl").read_text() == "first"


def test_a_jobs_environment_sets_nothing_that_easyr1_sets_unless_it_says_so():
    variables = {"NCCL_DEBUG": "INFO", "HF_HOME": "/mnt"}

    def said() -> list[str]:
        return list(places.job(run({JOB_CONFIG: json.dumps({"runtime_env": {"env_vars": variables}})})))

    assert "NCCL_DEBUG" in one(said())
    variables["RAY_OVERRIDE_JOB_RUNTIME_ENV"] = "1"
    assert said() == []
    # curves: nothing to say with an absolute folder, or outside of a job
    for env in ({JOB_CONFIG: "{}", "TENSORBOARD_DIR": "/mnt/logs"}, {}):
        assert list(places.tensorboard(run(env))) == []


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
    assert "no such folder" in of_rows(tmp_path, many(4), data__image_dir="gone")[0]


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
        ({"goal_wieght": 0.0}, "nearest: goal_weight"),
        ({"goal_weight": -1.0}, "a trial call fails: ValueError: "),
        ({"goal_match": "fuzzy"}, "goal_match='fuzzy'"),
        ({}, None),
    ],
)
def test_arguments_that_the_projects_reward_does_not_take_are_named(kwargs: dict[str, Any], told: str | None):
    lines = list(reward.reward_function(run(worker__reward__reward_function_kwargs=kwargs)))
    assert lines == [] if told is None else told in one(lines)


def test_a_run_without_a_problem_has_none(tmp_path: Path, model: Path):
    path = write(tmp_path / "rows.parquet", many(8))
    good = config(
        data__train_files=path,
        data__val_files=path,
        **on(model),
        trainer__save_checkpoint_path=str(tmp_path / "checkpoints"),
        worker__ref__fsdp__enable_cpu_offload=False,
    )
    assert problems(good, cpu=True) == []


# --- rows -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"problem": None}, "have no text as prompt or answer"),
        ({"answer": "[]"}, "not a gold decomposition"),
        ({"answer": GOLD.to_json().replace("lamp", "</subjects>")}, "does not score 1.0"),
        ({"answer": GOLD.to_json().replace("Delete", "Erase")}, "(r3): Erase"),
        ({"problem": "remove the lamp"}, "another number of <image> than of images"),
        ({"problem": "<image><image>remove"}, "2 for 1"),
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


@pytest.mark.parametrize(
    ("records", "changes", "told"),
    [
        (many(4, images="a.png"), {}, "holds a str, wanted a list"),
        (
            [
                {"prompt": "x", **{key: value for key, value in record.items() if key != "problem"}}
                for record in many(4)
            ],
            {},
            "has no column problem, but prompt, id, source, images, answer",
        ),
        (many(3), {}, "3 usable rows are less than a batch of 4"),
        # a step of several small draws needs rows for all of them
        (
            many(3),
            {"data__mini_rollout_batch_size": 2, "trainer__max_steps": None, "trainer__total_epochs": 1},
            "3 usable rows are less than a batch of 4",
        ),
    ],
)
def test_rows_that_training_could_not_take_are_named(
    tmp_path: Path, records: list[dict[str, Any]], changes: dict[str, Any], told: str
):
    assert told in one(of_rows(tmp_path, records, **changes))


def test_good_rows_have_no_problem_and_images_above_the_budget_are_a_note(tmp_path: Path):
    assert of_rows(tmp_path, many(8)) == []
    line = one(of_rows(tmp_path, many(4, images=[{"bytes": png(400, 300), "path": None}])))
    assert isinstance(line, Note)
    assert "4 of 4 rows" in line


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("none.parquet", "no such file"),
        ("bad.parquet", "can't be read as parquet ("),
        ("bad.jsonl", "can't be read as json ("),
        ("empty.jsonl", "can't be read as json ("),
        ("empty.parquet", "can't be read as parquet ("),
        (".", "is a folder"),
        ("rows.csv", "not a parquet or jsonl file"),
        ("train.parquet@test", "split 'test' can't be taken ("),
        ("train.parquet@train[:9]", "split 'train[:9]' can't be taken: there are only 4 rows"),
        ("train.parquet@a@b", "more than one @"),
    ],
)
def test_a_data_file_that_easyr1_can_not_read_is_named(tmp_path: Path, name: str, told: str):
    write(tmp_path / "train.parquet", many(4))
    write(tmp_path / "empty.parquet", [row()], rows=0)
    texts = {
        "bad.parquet": "PAR1 and then nothing",
        "bad.jsonl": '{"a": 1}\n{broken',
        "empty.jsonl": "",
        "rows.csv": "a",
    }
    for file, text in texts.items():
        (tmp_path / file).write_text(text)
    with pytest.raises(UserError) as caught:
        rows.open_rows(f"{tmp_path}/{name}", ("problem",))
    assert told in str(caught.value)


def test_a_prefix_of_the_rows_is_checked_as_easyr1_would_take_it(tmp_path: Path):
    path = write(tmp_path / "train.parquet", many(10))
    for split, wanted in (("train[:4]", ["r0", "r1", "r2", "r3"]), ("train[80%:]", ["r8", "r9"])):
        assert rows.open_rows(f"{path}@{split}", ("problem",))["id"] == wanted


def test_json_lines_with_image_paths_are_read_from_the_image_folder(tmp_path: Path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(png())
    lines = [json.dumps({**row(number), "images": ["a.png"]}) + "\n" for number in range(4)]
    (tmp_path / "train.jsonl").write_text("".join(lines))
    path = str(tmp_path / "train.jsonl")
    found = rows.data(run(data__train_files=path, data__val_files=path, data__image_dir=str(tmp_path / "images")))
    assert [line for line in found if not isinstance(line, Note)] == []


def test_an_image_of_a_shape_that_the_model_refuses_is_named(tmp_path: Path, model: Path):
    records = many(4, images=[{"bytes": png(4000, 10), "path": None}])
    assert "aspect ratio" in one(of_rows(tmp_path, records, **on(model)))


def test_a_hub_dataset_is_a_note():
    hub = "hiyouga/geometry3k"
    line = list(rows.data(run(data__train_files=f"{hub}@train", data__val_files=f"{hub}@test")))[1]
    assert isinstance(line, Note)
    assert "on the hub" in line


def test_a_relative_file_in_a_job_is_told_where_it_would_be_looked_for():
    inside = run({JOB_CONFIG: "{}"}, data__train_files="rl/train.parquet", data__val_files="rl/val.parquet")
    assert all("in a Ray job give an absolute path" in line for line in rows.data(inside) if not isinstance(line, Note))


LONG = "<image>" + "remove the lamp and " * 200


def test_a_prompt_over_the_limit_is_named_with_the_length_that_is_needed(tmp_path: Path, model: Path):
    records = many(4)
    records[2]["problem"] = LONG
    path = on(model)
    line = one(of_rows(tmp_path, records, **path))
    assert "1 of 4 rows have a prompt longer than data.max_prompt_length=640" in line
    needed = int(line.split("raise it to ")[1].split(",")[0])
    assert of_rows(tmp_path, records, data__max_prompt_length=needed, **path) == []
    assert len(of_rows(tmp_path, records, data__max_prompt_length=needed - 1, **path)) == 1


def test_rows_that_easyr1_filters_are_a_note_and_count_as_missing(tmp_path: Path, model: Path):
    note, line = of_rows(tmp_path, many(4, problem=LONG), data__filter_overlong_prompts=True, **on(model))
    assert "4 of 4 rows have a prompt longer than data.max_prompt_length=640" in note
    assert isinstance(note, Note)
    assert "0 usable rows are less than a batch of 4" in line


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_the_fast_length_is_the_length_of_what_easyr1_gives_the_model(
    tmp_path_factory: pytest.TempPathFactory, family: str
):
    from transformers import AutoProcessor

    from ier1_plugin.prompts import path

    processor = AutoProcessor.from_pretrained(tiny_models.build(tmp_path_factory.mktemp(family), family), use_fast=True)
    ruler = PromptLength(processor, path("decompose").read_text(), 784, 50176)
    requests = ["remove the lamp", "red.", "add text: 'Hi!'\n\nplease", "‹image› 50%", "é́ 🙂🙂 ", "", "a  b\n", "?!"]
    sizes = [(84, 56), (400, 300), (20, 31), (1000, 40)]
    records = [(f"<image>{request}", [size]) for request in requests for size in sizes]
    assert ruler.fast(records) == [_tokens(processor, ruler, *record) for record in records]
    assert ruler.fast(records) == [ruler.exact(*record) for record in records]


def _tokens(processor: Any, ruler: PromptLength, problem: str, sizes: list[tuple[int, int]]) -> int:
    """Counted the long way: EasyR1's resizing of real pixels, the processor's own tokens."""
    from verl.utils.dataset import process_image

    text = ruler.render(problem).removeprefix("<image>")
    turns = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}]
    prompt = processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    images = [process_image(Image.new("RGB", size), 784, 50176) for size in sizes]
    return len(processor(images, [prompt], add_special_tokens=False, return_tensors="pt")["input_ids"][0])
