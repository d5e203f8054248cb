"""What is installed and where things lie: versions, packages, GPUs, models, checkpoints, Ray jobs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import verl
from fakes import tiny_models
from fakes.preflight_runs import checkpoint, config, one, run
from omegaconf import OmegaConf

from ier1_plugin.training.preflight import host, places
from ier1_plugin.training.preflight.run import JOB_CONFIG, Note, Run


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build(tmp_path_factory.mktemp("model"), "qwen2_5_vl")


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


@pytest.mark.parametrize(
    ("gpus", "cpus", "told"), [(2, 64, "there are 2 GPUs"), (4, 6, "needs 7 logical CPUs and would wait for ever")]
)
def test_too_few_gpus_or_cpus_are_named(monkeypatch: pytest.MonkeyPatch, gpus: int, cpus: int, told: str):
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    monkeypatch.setattr(os, "cpu_count", lambda: cpus)
    assert told in one(host.gpus(run(trainer__n_gpus_per_node=4, data__rollout_batch_size=4)))


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
