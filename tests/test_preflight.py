"""Every problem of a training run that the preflight names, each with the smallest config or row that shows it."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import verl
from omegaconf import OmegaConf
from PIL import Image

from ier1_plugin.easyr1 import defaults
from ier1_plugin.preflight import configuration, files, host, places, problems, reward, rows, settings
from ier1_plugin.preflight.lengths import Ruler
from ier1_plugin.preflight.run import JOB_CONFIG, Note, Run
from ier1_plugin.rows import format_row
from ier1_plugin.schema import Decomposition

GOLD = Decomposition(("Delete",), ("lamp",), ())
BASE: dict[str, Any] = {
    "data.max_prompt_length": 640,
    "data.max_response_length": 32,
    "data.rollout_batch_size": 4,
    "data.min_pixels": 784,
    "data.max_pixels": 50176,
    "data.filter_overlong_prompts": False,
    "worker.actor.global_batch_size": 4,
    "worker.actor.micro_batch_size_per_device_for_update": 2,
    "worker.actor.micro_batch_size_per_device_for_experience": 4,
    "worker.actor.use_torch_compile": False,
    "worker.actor.fsdp.enable_rank0_init": False,
    "worker.ref.fsdp.enable_rank0_init": False,
    "worker.rollout.n": 4,
    "worker.rollout.tensor_parallel_size": 1,
    "worker.rollout.val_override_config": {"n": 1},
    "worker.actor.model.model_path": None,
    "trainer.logger": ["console", "tensorboard"],
    "trainer.n_gpus_per_node": 1,
    "trainer.max_steps": 2,
}


@pytest.fixture(scope="session", autouse=True)
def _easyr1_imports() -> None:
    """EasyR1's config imports vLLM on its way."""
    from ier1_plugin import cpu

    if cpu.guard.has_gpu():
        pytest.skip("the CPU stand-ins refuse a machine with a GPU")
    cpu.install()


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build(tmp_path_factory.mktemp("model"), "qwen2_5_vl")


def config(**changes: Any) -> Any:
    """A config that has nothing wrong with it but `changes`, whose keys have __ for a dot."""
    keys = BASE | {key.replace("__", "."): value for key, value in changes.items()}
    raw = OmegaConf.create(defaults())
    for key, value in keys.items():
        OmegaConf.update(raw, key, value)
    typed, wrong = configuration.typed(raw)
    assert not wrong
    return typed


def run(env: dict[str, str] | None = None, cpu: bool = False, **changes: Any) -> Run:
    # no cluster of another test or user
    return Run(config(**changes), cpu, {"RAY_TMPDIR": "/nowhere"} | (env or {}))


def png(width: int = 84, height: int = 56) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (width, height), "teal").save(buffer, "PNG")
    return buffer.getvalue()


def row(number: int = 0, **changes: Any) -> dict[str, Any]:
    made = format_row(id=f"r{number}", source="t", request="remove the lamp", image=png(), gold=GOLD)
    return made | changes


def write(path: Path, records: list[dict[str, Any]]) -> str:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.Table.from_pylist(records), path)
    return str(path)


def of_rows(tmp_path: Path, records: list[dict[str, Any]], **changes: Any) -> list[str]:
    """What is said about `records` as train file; the validation file is a good one."""
    train, val = write(tmp_path / "train.parquet", records), write(tmp_path / "val.parquet", [row()])
    lines = list(rows.data(run(data__train_files=train, data__val_files=val, **changes)))
    return [line for line in lines if " rows checked" not in line and "no model is set" not in line]


def one(lines: Any) -> str:
    (line,) = lines
    return line


# --- the config


def test_every_unknown_key_is_named_with_the_nearest_known_one():
    _, wrong = configuration.typed(OmegaConf.create({"data": {"rolout_batch_size": 8}, "trainer": {"lr": 1e-6}}))
    assert wrong == [
        "data.rolout_batch_size: EasyR1 has no such key; nearest: data.rollout_batch_size",
        "trainer.lr: EasyR1 has no such key; nearest: worker.actor.optim.lr",
    ]


def test_a_value_of_the_wrong_type_is_named_with_its_key():
    _, wrong = configuration.typed(OmegaConf.create({"data": {"seed": "one"}}))
    assert one(wrong).startswith("data.seed=one: ")


def test_a_key_that_only_the_source_has_says_so_on_the_release():
    if verl.__version__ != "0.3.2.dev2":
        pytest.skip("written for the keys of 0.3.2.dev2")
    _, wrong = configuration.typed(OmegaConf.create({"worker": {"actor": {"model": {"lora": {"rank": 8}}}}}))
    assert "current source" in one(wrong)


def test_data_files_that_are_left_open_are_asked_for():
    _, wrong = configuration.typed(OmegaConf.create({"data": {"train_files": "???"}}))
    assert one(wrong).startswith("data.train_files is not set; give the train.parquet")


def test_an_interpolation_that_leads_nowhere_is_named():
    _, wrong = configuration.typed(OmegaConf.create({"data": {"train_files": "${oc.env:IER1_NO_SUCH_VARIABLE}"}}))
    assert "IER1_NO_SUCH_VARIABLE" in one(wrong)


def test_a_missing_config_file_is_one_line(tmp_path: Path):
    raw, wrong = configuration.given([f"config={tmp_path / 'none.yaml'}"], {})
    assert raw is None
    assert "No such file" in one(wrong)


def test_a_config_file_that_is_no_yaml_is_one_line(tmp_path: Path):
    (tmp_path / "bad.yaml").write_text("data: [1, 2\n  x: }")
    raw, wrong = configuration.given([f"config={tmp_path / 'bad.yaml'}"], {})
    assert raw is None
    assert "not a YAML config" in one(wrong)


def test_a_value_that_is_no_yaml_is_named():
    assert "the value is not YAML" in one(configuration.given(["trainer.experiment_name=a: [b"], {})[1])


def test_an_argument_without_an_equals_sign_is_named():
    assert configuration.given(["trainer.max_steps"], {})[1] == ["'trainer.max_steps': wanted key=value"]


# --- numbers, names, lengths


def test_the_base_config_of_these_tests_has_no_problem_in_its_settings():
    good = run()
    checks = (settings.positive, settings.names, settings.batches, settings.sampling, settings.lengths, settings.pixels)
    assert [line for check in checks for line in check(good)] == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"data__rollout_batch_size": 6}, "data.rollout_batch_size = 6 is not a multiple of worker.actor.global_batch"),
        (
            {"worker__actor__micro_batch_size_per_device_for_experience": 3},
            "data.rollout_batch_size * worker.rollout.n = 16 is not a multiple of worker.actor.micro_batch",
        ),
        (
            {"worker__actor__micro_batch_size_per_device_for_update": 3},
            "for each GPU = 16 is not a multiple of worker.actor.micro_batch_size_per_device_for_update = 3",
        ),
        ({"data__mini_rollout_batch_size": 2, "trainer__n_gpus_per_node": 4}, "data.mini_rollout_batch_size = 2"),
        ({"trainer__n_gpus_per_node": 3}, "data.rollout_batch_size = 4 is not a multiple of trainer.nnodes"),
        ({"worker__rollout__tensor_parallel_size": 2}, "is not a multiple of worker.rollout.tensor_parallel_size = 2"),
        ({"worker__actor__ulysses_size": 2}, "is not a multiple of worker.actor.ulysses_size = 2"),
        ({"worker__actor__fsdp__fsdp_size": 3, "trainer__n_gpus_per_node": 4}, "worker.actor.fsdp.fsdp_size = 3"),
        ({"worker__actor__fsdp__enable_cpu_offload": True}, "enable_cpu_offload=true does not go with several micro"),
        (
            {
                "worker__actor__dynamic_batching": False,
                "worker__actor__micro_batch_size_per_device_for_experience": 16,
                "trainer__n_gpus_per_node": 2,
            },
            "samples for each GPU = 8 is not a multiple",
        ),
        (
            {"algorithm__adv_estimator": "gae", "worker__critic__global_batch_size": 3},
            "worker.critic.global_batch_size = 3",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_batch_sizes_that_easyr1_refuses_are_named(changes: dict[str, Any], told: str):
    assert any(told in line for line in settings.batches(run(**changes)))


def test_a_size_below_one_is_named():
    assert one(settings.positive(run(data__rollout_batch_size=0))) == "data.rollout_batch_size=0: wanted at least 1"
    assert list(settings.batches(run(data__rollout_batch_size=0))) == []
    assert "val_batch_size=0" in one(settings.positive(run(data__val_batch_size=0)))


@pytest.mark.parametrize(
    "key",
    [
        "algorithm.adv_estimator",
        "algorithm.kl_type",
        "algorithm.kl_penalty",
        "worker.actor.loss_avg_mode",
        "worker.actor.optim.strategy",
        "worker.rollout.dtype",
    ],
)
def test_a_name_that_easyr1_does_not_know_is_listed_with_those_that_it_knows(key: str):
    changes: dict[str, Any] = {key: "nonsense"}
    line = one(settings.names(run(**changes)))
    assert line.startswith(f"{key}=nonsense: this EasyR1 knows ")


def test_grpo_needs_more_than_one_answer_to_a_prompt():
    assert "grpo compares the answers" in one(settings.sampling(run(worker__rollout__n=1)))


def test_training_can_not_be_greedy():
    lines = settings.sampling(run(worker__rollout__temperature=0.0))
    assert any("training has to sample" in line for line in lines)


def test_validation_must_say_how_many_answers_it_draws():
    unsaid = config()
    unsaid.worker.rollout.val_override_config = {"temperature": 1.0}
    assert "set worker.rollout.val_override_config.n=1" in one(settings.sampling(Run(unsaid)))


def test_validation_at_another_temperature_is_a_note():
    lines = settings.sampling(run(worker__rollout__val_override_config={"temperature": 0.6, "n": 1}))
    assert isinstance(line := one(lines), Note)
    assert "0.6" in line


def test_prompt_and_answer_must_fit_into_vllm_together():
    assert "max_num_batched_tokens" in one(settings.lengths(run(worker__rollout__max_num_batched_tokens=600)))
    assert "max_model_len" in one(settings.lengths(run(worker__rollout__max_model_len=600)))


def test_a_pixel_budget_the_wrong_way_round_is_named():
    assert "min_pixels <= max_pixels" in one(settings.pixels(run(data__min_pixels=60000)))


def test_the_filter_that_can_hang_is_a_note():
    assert isinstance(one(settings.prompt_filter(run(data__filter_overlong_prompts=True))), Note)


# --- the host


def test_a_package_of_the_wrong_version_is_named_with_the_right_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        host.metadata, "version", lambda package: {"omegaconf": "2.4.0", "transformers": "5.3.0"}[package]
    )
    omegaconf, transformers = host.versions()
    assert "omegaconf 2.4.0" in omegaconf
    assert "'omegaconf<2.4'" in omegaconf
    assert "transformers 5.3.0" in transformers


def test_a_missing_easyr1_and_another_verl_are_told_apart(monkeypatch: pytest.MonkeyPatch):
    find = host.importlib.util.find_spec
    monkeypatch.setattr(host.importlib.util, "find_spec", lambda name: None if name == "verl" else find(name))
    assert "EasyR1 is not installed" in one(host.versions())
    monkeypatch.setattr(
        host.importlib.util, "find_spec", lambda name: None if name == "verl.trainer.main" else find(name)
    )
    assert "not EasyR1 but another trainer" in one(host.versions())


def test_missing_engines_are_named_unless_the_stand_ins_take_their_place(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(host.importlib.util, "find_spec", lambda name: None)
    vllm, flash = host.engines(cpu=False)
    assert vllm.startswith("vllm is not installed")
    assert flash.startswith("flash-attn is not installed")
    assert list(host.engines(cpu=True)) == []


def test_a_peft_that_trains_nothing_is_named_where_lora_is_asked_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(host.metadata, "version", lambda package: "0.21.2")
    with_lora = OmegaConf.create({"worker": {"actor": {"model": {"lora": {"rank": 8}}}}})
    assert "peft 0.21.2" in one(host.lora(Run(with_lora)))
    with_lora.worker.actor.model.lora.rank = 0
    assert list(host.lora(Run(with_lora))) == []


def test_a_logger_that_this_easyr1_lacks_is_named_with_those_that_it_has():
    assert "no logger 'wandbb'" in one(host.loggers(run(trainer__logger=["console", "wandbb"])))


def test_a_logger_without_its_package_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(host.importlib.util, "find_spec", lambda name: None)
    lines = list(host.loggers(run(trainer__logger=["wandb", "swanlab", "mlflow"])))
    assert [line.split("pip install ")[1].split(",")[0] for line in lines] == ["wandb", "swanlab", "mlflow"]


def test_more_gpus_than_there_are_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(host, "_this_machine", lambda: {"GPU": 2, "CPU": 64, "where": "this machine"})
    assert "there are 2 GPUs" in one(host.gpus(run(trainer__n_gpus_per_node=4, data__rollout_batch_size=4)))


def test_too_few_cpus_for_ray_are_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(host, "_this_machine", lambda: {"GPU": 1, "CPU": 3, "where": "this machine"})
    assert "needs 4 logical CPUs" in one(host.gpus(run()))


@pytest.mark.parametrize("address", ["127.0.0.1:1", "http://127.0.0.1:8265", "nowhere"])
def test_a_ray_cluster_that_does_not_answer_is_one_line(address: str):
    line = one(host.gpus(run({"RAY_ADDRESS": address})))
    assert line.startswith(f"no Ray cluster answers at {address} (")


def test_the_cluster_that_ray_start_left_on_this_machine_is_the_one_that_is_asked(tmp_path: Path):
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("127.0.0.1:1")
    env = {"RAY_TMPDIR": str(tmp_path)}
    assert "no Ray cluster answers at 127.0.0.1:1" in one(host.gpus(run(env)))
    # the stand-ins start a cluster of their own
    assert run(env, cpu=True).address is None


def test_a_model_folder_that_is_missing_or_empty_is_named(tmp_path: Path):
    gone = one(host.model(run(worker__actor__model__model_path=f"{tmp_path}/none")))
    assert "there is no such folder" in gone
    assert "no config.json" in one(host.model(run(worker__actor__model__model_path=str(tmp_path))))
    assert "wanted a folder or a hub id" in one(host.model(run(worker__actor__model__model_path=None)))


def test_a_hub_model_that_can_not_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch):
    import huggingface_hub

    def unreachable(*_: Any, **__: Any) -> str:
        raise ConnectionError("no route to host\nsecond line")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)
    line = one(host.model(run(worker__actor__model__model_path="Qwen/No-Such-Model")))
    assert "no route to host); give a folder, or load the model first: hf download Qwen/No-Such-Model" in line


def test_a_model_that_this_easyr1_can_not_train_is_named(tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llava"}))
    assert "can't train a llava" in one(host.model(run(worker__actor__model__model_path=str(tmp_path))))


def test_qwen3_vl_on_the_release_is_told_what_it_needs(tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen3_vl"}))
    lines = list(host.model(run(worker__actor__model__model_path=str(tmp_path), worker__actor__padding_free=False)))
    if verl.__version__ == "0.3.2.dev2":
        assert "it needs EasyR1's current source" in one(lines)
    else:
        assert lines == []


def test_a_model_that_it_can_train_is_not(model: Path):
    assert list(host.model(run(worker__actor__model__model_path=str(model)))) == []


def test_settings_that_need_a_gpu_are_named_with_the_stand_ins():
    assert "worker.actor.use_torch_compile" in one(host.stand_ins(run(cpu=True, worker__actor__use_torch_compile=True)))


# --- prompt and reward


def test_a_missing_prompt_file_is_named():
    assert "no such file" in one(reward.prompt(run(data__format_prompt="nowhere.jinja")))
    assert "no such file" in one(reward.prompt(run(data__format_prompt=None)))


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


def test_a_chat_template_that_easyr1_would_drop_or_take_for_text_is_named(tmp_path: Path):
    (tmp_path / "chat.jinja").write_text("{{ messages }}")
    file = list(reward.chat_template(run(data__override_chat_template=f"{tmp_path}/chat.jinja")))
    if verl.__version__ == "0.3.2.dev2":
        assert "takes the text of the template" in one(file)
    else:
        assert file == []
        assert "no such file" in one(reward.chat_template(run(data__override_chat_template="gone.jinja")))


def test_an_image_folder_that_easyr1_would_drop_is_named(tmp_path: Path):
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


def test_a_sequential_reward_is_called_one_response_at_a_time(tmp_path: Path):
    text = "REWARD_TYPE = 'sequential'\ndef f(x): return {'overall': float(len(x['response']))}"
    kind = {"worker__reward__reward_type": "sequential"} if "reward_type" in config().worker.reward else {}
    assert reward_of(tmp_path, text, **kind) == []


def test_a_reward_type_that_does_not_match_the_file_is_named(tmp_path: Path):
    if "reward_type" not in config().worker.reward:
        pytest.skip("this EasyR1 takes the type from the file")
    lines = reward_of(
        tmp_path, "def f(x): return [{'overall': 1.0} for _ in x]", worker__reward__reward_type="sequential"
    )
    assert "worker.reward.reward_type=sequential, but the reward file is written for batch" in one(lines)


def test_a_missing_reward_file_and_an_unset_one_are_named():
    assert "there is no file nowhere.py" in one(
        reward.reward_function(run(worker__reward__reward_function="nowhere.py:f"))
    )
    assert "is not set" in one(reward.reward_function(run(worker__reward__reward_function=None)))


def test_the_reward_of_this_project_has_no_problem():
    assert list(reward.reward_function(run())) == []


@pytest.mark.parametrize(
    ("kwargs", "told"),
    [
        ({"goal_wieght": 0.0}, "kwargs.goal_wieght: the function takes no such argument; nearest: goal_weight"),
        ({"goal_weight": -1.0}, "a trial call fails: ValueError: reward weights must be >= 0"),
        ({"goal_match": "fuzzy"}, "a trial call fails: ValueError: goal_match='fuzzy'"),
    ],
)
def test_arguments_that_the_reward_does_not_take_are_named(kwargs: dict[str, Any], told: str):
    assert told in one(reward.reward_function(run(worker__reward__reward_function_kwargs=kwargs)))


# --- the rows


def test_good_rows_have_no_problem(tmp_path: Path):
    assert of_rows(tmp_path, [row(number) for number in range(8)]) == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"problem": None}, "have no text as prompt or answer"),
        ({"answer": "[]"}, "have an answer that is no gold decomposition"),
        ({"answer": GOLD.to_json().replace("lamp", "</subjects>")}, "have a gold that does not score 1.0"),
        ({"answer": GOLD.to_json().replace("Delete", "Erase")}, "the first is row 3 (r3): Erase"),
        ({"problem": "remove the lamp"}, "another number of <image> than of images; the prompt needs one for each"),
        ({"problem": "<image><image>remove"}, "2 for 1"),
        ({"images": [{"bytes": b"no image", "path": None}]}, "have images that can't be used"),
        ({"images": [{"bytes": None, "path": "a.png"}]}, "no bytes and no path in it"),
        ({"images": [{"bytes": png(20, 20), "path": None}]}, "which EasyR1 would blow up"),
    ],
)
def test_a_row_that_easyr1_would_choke_on_is_counted_and_named(tmp_path: Path, changes: dict[str, Any], told: str):
    records = [row(number) for number in range(8)]
    records[3] |= changes
    line = one(of_rows(tmp_path, records))
    assert line.startswith("data.train_files: 1 of 8 rows ")
    assert told in line
    assert "the first is row 3 (r3)" in line


def test_an_image_above_the_budget_is_a_note(tmp_path: Path):
    line = one(of_rows(tmp_path, [row(number, images=[{"bytes": png(400, 300), "path": None}]) for number in range(4)]))
    assert isinstance(line, Note)
    assert "4 of 4 rows" in line


def test_an_image_column_that_is_no_list_is_named(tmp_path: Path):
    assert "holds a str, wanted a list" in one(of_rows(tmp_path, [row(n, images="a.png") for n in range(4)]))


def test_columns_of_another_name_are_named(tmp_path: Path):
    records = [{"prompt": r["problem"], **r} for r in (row(n) for n in range(4))]
    for record in records:
        del record["problem"]
    assert "has no column problem, but prompt, id, source, images, answer" in one(of_rows(tmp_path, records))


def test_rows_that_are_less_than_a_batch_are_named(tmp_path: Path):
    assert "3 usable rows are less than a batch of 4" in one(of_rows(tmp_path, [row(number) for number in range(3)]))


def test_a_step_of_several_small_draws_needs_rows_for_all_of_them(tmp_path: Path):
    records = [row(number) for number in range(3)]
    lines = of_rows(
        tmp_path, records, data__mini_rollout_batch_size=2, trainer__max_steps=None, trainer__total_epochs=1
    )
    assert "3 usable rows are less than a batch of 4" in one(lines)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("none.parquet", "there is no such file"),
        ("bad.parquet", "is no readable parquet file"),
        (".", "is a folder, of which EasyR1 reads whatever kind of file it lists first"),
        ("rows.csv", "is no parquet or jsonl file"),
        ("train.parquet@test", "split 'test' can't be taken ("),
        ("train.parquet@train[:9]", "split 'train[:9]' can't be taken: there are only 4 rows"),
        ("train.parquet@a@b", "more than one @"),
    ],
)
def test_a_data_file_that_easyr1_can_not_read_is_named(tmp_path: Path, name: str, told: str):
    write(tmp_path / "train.parquet", [row(number) for number in range(4)])
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and then nothing")
    (tmp_path / "rows.csv").write_text("a,b\n")
    with pytest.raises(files.FileProblem) as caught:
        files.open_source(f"{tmp_path}/{name}", ("problem",))
    assert told in str(caught.value)


def test_a_prefix_of_the_rows_is_checked_as_easyr1_would_take_it(tmp_path: Path):
    path = write(tmp_path / "train.parquet", [row(number) for number in range(10)])
    for split, wanted in (("train[:4]", ["r0", "r1", "r2", "r3"]), ("train[80%:]", ["r8", "r9"])):
        source = files.open_source(f"{path}@{split}", ("problem",))
        assert source is not None
        assert [record["id"] for _, record in source.rows()] == wanted
        assert source.total == len(wanted)


def test_json_lines_with_image_paths_are_read_from_the_image_folder(tmp_path: Path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(png())
    lines = [json.dumps({**row(number), "images": ["a.png"]}) + "\n" for number in range(4)]
    (tmp_path / "train.jsonl").write_text("".join(lines))
    path = str(tmp_path / "train.jsonl")
    found = rows.data(run(data__train_files=path, data__val_files=path, data__image_dir=str(tmp_path / "images")))
    assert [line for line in found if not isinstance(line, Note)] == []
    (tmp_path / "train.jsonl").write_text("".join(lines) + "{broken\n")
    assert "line 5 is not JSON" in next(
        line for line in rows.data(run(data__train_files=path, data__val_files=path)) if not isinstance(line, Note)
    )


def test_a_file_without_rows_is_named(tmp_path: Path, model: Path):
    (tmp_path / "empty.jsonl").touch()
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.Table.from_pylist([row()]).slice(0, 0), tmp_path / "empty.parquet")
    empty = {"data__train_files": f"{tmp_path}/empty.parquet", "data__val_files": f"{tmp_path}/empty.parquet"}
    changes: dict[str, Any] = {**empty, "worker__actor__model__model_path": str(model)}
    train, val = (line for line in rows.data(run(**changes)) if not isinstance(line, Note))
    assert "data.train_files: 0 usable rows are less than a batch" in train
    assert val == "data.val_files: no rows; EasyR1 needs at least one"
    with pytest.raises(files.FileProblem, match="has no column problem, but none"):
        files.open_source(f"{tmp_path}/empty.jsonl", ("problem",))


def test_an_image_of_a_shape_that_the_model_refuses_is_named(tmp_path: Path, model: Path):
    records = [row(n, images=[{"bytes": png(4000, 10), "path": None}]) for n in range(4)]
    lines = of_rows(tmp_path, records, worker__actor__model__model_path=str(model))
    assert "aspect ratio" in one(lines)


def test_a_hub_dataset_is_a_note():
    line = list(
        rows.data(run(data__train_files="hiyouga/geometry3k@train", data__val_files="hiyouga/geometry3k@test"))
    )[1]
    assert isinstance(line, Note)
    assert "on the hub" in line


def test_a_relative_file_in_a_job_is_told_where_it_would_be_looked_for(tmp_path: Path):
    inside = run({JOB_CONFIG: "{}"}, data__train_files="rl/train.parquet", data__val_files="rl/val.parquet")
    assert all("in a Ray job give an absolute path" in line for line in rows.data(inside) if not isinstance(line, Note))


# --- prompt lengths


def test_a_prompt_over_the_limit_is_named_with_the_length_that_is_needed(tmp_path: Path, model: Path):
    records = [row(number) for number in range(4)]
    records[2]["problem"] = "<image>" + "remove the lamp and " * 200
    path = {"worker__actor__model__model_path": str(model)}
    line = one(of_rows(tmp_path, records, **path))
    assert "1 of 4 rows have a prompt longer than data.max_prompt_length=640" in line
    needed = int(line.split("raise it to ")[1].split(",")[0])
    assert of_rows(tmp_path, records, data__max_prompt_length=needed, **path) == []
    assert len(of_rows(tmp_path, records, data__max_prompt_length=needed - 1, **path)) == 1


def test_rows_that_easyr1_filters_are_a_note_and_count_as_missing(tmp_path: Path, model: Path):
    records = [row(number) | {"problem": "<image>" + "remove the lamp and " * 200} for number in range(4)]
    lines = of_rows(tmp_path, records, data__filter_overlong_prompts=True, worker__actor__model__model_path=str(model))
    assert "4 of 4 rows have a prompt longer than data.max_prompt_length=640; EasyR1 leaves them out" in lines[0]
    assert isinstance(lines[0], Note)
    assert "0 usable rows are less than a batch of 4" in lines[1]


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_the_fast_length_is_the_length_of_what_easyr1_gives_the_model(
    tmp_path_factory: pytest.TempPathFactory, family: str
):
    from transformers import AutoProcessor

    from ier1_plugin.prompts import path

    processor = AutoProcessor.from_pretrained(tiny_models.build(tmp_path_factory.mktemp(family), family), use_fast=True)
    ruler = Ruler(processor, path("decompose").read_text(), 784, 50176)
    requests = ["remove the lamp", "red.", "add text: 'Hi!'\n\nplease", "‹image› 50%", "é́ 🙂🙂 ", "", "a  b\n", "?!"]
    sizes = [(84, 56), (400, 300), (20, 31), (1000, 40)]
    records = [(f"<image>{request}", [size]) for request in requests for size in sizes]
    assert ruler.fast(records) == [_tokens(processor, ruler, *record) for record in records]
    assert ruler.fast(records) == [ruler.exact(*record) for record in records]


def _tokens(processor: Any, ruler: Ruler, problem: str, sizes: list[tuple[int, int]]) -> int:
    """Counted the long way: EasyR1's resizing of real pixels, the processor's own tokens."""
    from verl.utils.dataset import process_image

    text = ruler.render(problem).removeprefix("<image>")
    turns = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}]
    prompt = processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    images = [process_image(Image.new("RGB", size), 784, 50176) for size in sizes]
    return len(processor(images, [prompt], add_special_tokens=False, return_tensors="pt")["input_ids"][0])


# --- places


def test_checkpoints_in_a_jobs_working_directory_are_refused(tmp_path: Path):
    inside = run({JOB_CONFIG: "{}"}, trainer__save_checkpoint_path="checkpoints/a")
    assert "Ray's copy of the working directory" in one(places.saving(inside))
    assert "Ray's copy" in one(places.saving(run({JOB_CONFIG: "{}"})))
    cache = run(trainer__save_checkpoint_path="/tmp/ray/session/runtime_resources/working_dir_files/_ray_pkg_1/c")
    assert "Ray's copy" in one(places.saving(cache))
    assert list(places.saving(run({JOB_CONFIG: "{}"}, trainer__save_checkpoint_path=str(tmp_path)))) == []


def test_a_checkpoint_path_that_is_a_file_is_refused(tmp_path: Path):
    (tmp_path / "file").write_text("")
    assert "is not a folder that can be written" in one(
        places.saving(run(trainer__save_checkpoint_path=f"{tmp_path}/file/checkpoints"))
    )


def checkpoint(
    folder: Path, step: int = 3, ranks: int = 1, kinds: tuple[str, ...] = ("model", "optim", "extra_state")
) -> None:
    actor = folder / f"global_step_{step}" / "actor"
    actor.mkdir(parents=True)
    for kind in kinds:
        for rank in range(ranks):
            (actor / f"{kind}_world_size_{ranks}_rank_{rank}.pt").write_bytes(b"x")
    (folder / "checkpoint_tracker.json").write_text(json.dumps({"last_global_step": step}))


def test_a_run_that_can_go_on_says_from_where(tmp_path: Path):
    checkpoint(tmp_path)
    line = one(places.resuming(run(trainer__save_checkpoint_path=str(tmp_path))))
    assert isinstance(line, Note)
    assert line == f"goes on from {tmp_path}/global_step_3"


def test_a_checkpoint_of_another_number_of_gpus_is_refused(tmp_path: Path):
    checkpoint(tmp_path, ranks=2)
    assert "can't be resumed on 1 GPUs" in one(places.resuming(run(trainer__save_checkpoint_path=str(tmp_path))))


def test_a_checkpoint_without_its_optimizer_is_refused(tmp_path: Path):
    checkpoint(tmp_path, kinds=("model", "extra_state"))
    assert "save_model_only=false" in one(places.resuming(run(trainer__save_checkpoint_path=str(tmp_path))))


def test_a_broken_checkpoint_tracker_is_one_line(tmp_path: Path):
    (tmp_path / "checkpoint_tracker.json").write_text("{")
    assert "can't be read" in one(places.resuming(run(trainer__save_checkpoint_path=str(tmp_path))))


def test_a_checkpoint_to_load_must_exist_and_be_a_step(tmp_path: Path):
    gone = run(trainer__load_checkpoint_path=f"{tmp_path}/global_step_9")
    assert "does not exist" in one(places.resuming(gone))
    assert "one of the global_step_* folders" in one(places.resuming(run(trainer__load_checkpoint_path=str(tmp_path))))


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


def test_tensorboard_in_a_job_needs_an_absolute_folder():
    assert "set an absolute path under env_vars" in one(places.tensorboard(run({JOB_CONFIG: "{}"})))
    assert list(places.tensorboard(run({JOB_CONFIG: "{}", "TENSORBOARD_DIR": "/mnt/logs"}))) == []
    assert list(places.tensorboard(run())) == []


def test_variables_that_both_a_job_and_easyr1_set_are_named():
    given = {"runtime_env": {"env_vars": {"NCCL_DEBUG": "INFO", "HF_HOME": "/mnt"}}}
    assert "EasyR1 sets NCCL_DEBUG itself" in one(places.job(run({JOB_CONFIG: json.dumps(given)})))
    given["runtime_env"]["env_vars"]["RAY_OVERRIDE_JOB_RUNTIME_ENV"] = "1"
    assert list(places.job(run({JOB_CONFIG: json.dumps(given)}))) == []


def test_a_running_cluster_without_a_job_is_a_note():
    assert isinstance(one(places.job(run({"RAY_ADDRESS": "10.0.0.1:6379"}))), Note)


# --- all of it


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
