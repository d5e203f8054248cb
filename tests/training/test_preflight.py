"""Keys, numbers and names of a config that the preflight refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import verl
from fakes import tiny_models
from fakes.preflight_runs import config, one, row, run, write, wrong_keys

from ier1_plugin.training.preflight import configuration, problems, settings
from ier1_plugin.training.preflight.run import Note, Run


def test_every_unknown_key_is_named_with_the_nearest_known_one():
    wrong = wrong_keys({"data": {"rolout_batch_size": 8}, "trainer": {"lr": 1e-6}})
    assert wrong == [
        "data.rolout_batch_size: EasyR1 has no such key; nearest: data.rollout_batch_size",
        "trainer.lr: EasyR1 has no such key; nearest: worker.actor.optim.lr",
    ]


def test_a_value_of_the_wrong_type_is_named_with_its_key():
    wrong = wrong_keys({"data": {"seed": "one"}})
    assert one(wrong).startswith("data.seed=one: ")


def test_a_key_that_only_the_source_has_says_so_on_the_release():
    if verl.__version__ != "0.3.2.dev2":
        pytest.skip("written for the keys of 0.3.2.dev2")
    wrong = wrong_keys({"worker": {"actor": {"model": {"lora": {"rank": 8}}}}})
    assert "current source" in one(wrong)


def test_data_files_that_are_left_open_are_asked_for():
    wrong = wrong_keys({"data": {"train_files": "???"}})
    assert one(wrong).startswith("data.train_files is not set; give the train.parquet")


def test_an_interpolation_that_leads_nowhere_is_named():
    wrong = wrong_keys({"data": {"train_files": "${oc.env:IER1_NO_SUCH_VARIABLE}"}})
    assert "IER1_NO_SUCH_VARIABLE" in one(wrong)


def test_a_missing_config_file_is_one_line(tmp_path: Path):
    raw, wrong = configuration.read([f"config={tmp_path / 'none.yaml'}"], {})
    assert raw is None
    assert "No such file" in one(wrong)


def test_a_config_file_that_is_no_yaml_is_one_line(tmp_path: Path):
    (tmp_path / "bad.yaml").write_text("data: [1, 2\n  x: }")
    raw, wrong = configuration.read([f"config={tmp_path / 'bad.yaml'}"], {})
    assert raw is None
    assert "not a YAML config" in one(wrong)


def test_a_value_that_is_no_yaml_is_named():
    assert "the value is not YAML" in one(configuration.read(["trainer.experiment_name=a: [b"], {})[1])


def test_an_argument_without_an_equals_sign_is_named():
    assert configuration.read(["trainer.max_steps"], {})[1] == ["'trainer.max_steps': wanted key=value"]


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


def test_a_run_without_a_problem_has_none(tmp_path: Path):
    model = tiny_models.build(tmp_path / "model", "qwen2_5_vl")
    path = write(tmp_path / "rows.parquet", [row(number) for number in range(8)])
    good = config(
        data__train_files=path,
        data__val_files=path,
        worker__actor__model__model_path=str(model),
        trainer__save_checkpoint_path=str(tmp_path / "checkpoints"),
        worker__ref__fsdp__enable_cpu_offload=False,
    )
    assert problems(good, cpu=True) == []
