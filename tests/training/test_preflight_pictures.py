"""Before a training on pictures: its folders are filled in, its rows and servers are checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fakes import preflight_runs
from fakes.easyr1 import ROOT, needs_no_gpu
from fakes.preflight_runs import one, png, row, run, typed, write
from omegaconf import OmegaConf

from ier1_plugin.evaluation.records import EvaluationError
from ier1_plugin.task.rows import Case, format_row
from ier1_plugin.training import easyr1
from ier1_plugin.training.preflight import reward, rows
from ier1_plugin.training.preflight.reward_file import fill_in

pytestmark = [pytest.mark.slow, needs_no_gpu]
KWARGS = "worker.reward.reward_function_kwargs"
PICTURE = f"worker.reward.reward_function={ROOT}/reward_fns/picture.py:compute_score"
SMALL_WORLD = (PICTURE, f"{KWARGS}.editor=small-world", f"{KWARGS}.judge=pixel")
CASE = Case("val-00000.brighter@photo", "make it brighter", "photo.png")


def case_row(case: Case | None = CASE, **changes: Any) -> dict[str, Any]:
    gold = changes.pop("gold", None)
    return format_row(id="r0", source="t", request="make it brighter", image=png(), gold=gold, case=case)


@pytest.fixture
def data(tmp_path: Path) -> tuple[str, ...]:
    """Settings of a run on one row, whose photo lies beside it."""
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / CASE.image).write_bytes(png())
    files = [f"data.{split}_files={write(tmp_path / f'{split}.parquet', [case_row()])}" for split in ("train", "val")]
    return (*files, *SMALL_WORLD, f"{KWARGS}.image_root={tmp_path}/images", f"{KWARGS}.store={tmp_path}/store")


def test_photos_and_judgements_get_absolute_folders(tmp_path: Path, data: tuple[str, ...], monkeypatch: Any):
    monkeypatch.chdir(tmp_path)
    config, _ = typed(*data[:2], *SMALL_WORLD, "trainer.save_checkpoint_path=ck")
    raw = OmegaConf.create()
    fill_in(raw, config)
    filled = {"image_root": [f"{tmp_path}/images"], "store": f"{tmp_path}/ck/pictures"}
    assert OmegaConf.to_container(OmegaConf.select(raw, KWARGS)) == filled
    assert config.worker.reward.reward_function_kwargs == {"editor": "small-world", "judge": "pixel"} | filled
    # what is given stays, and rewards that take neither get neither
    config, _ = typed(*data[:2], *SMALL_WORLD, f"{KWARGS}.store=mine")
    fill_in(raw, config)
    assert config.worker.reward.reward_function_kwargs["store"] == f"{tmp_path}/mine"
    config, _ = typed(*data[:2])
    fill_in(raw, config)
    assert config.worker.reward.reward_function_kwargs == {}


def test_a_run_on_pictures_has_nothing_wrong_with_it(data: tuple[str, ...]):
    checked = run(*data)
    assert list(reward.reward_function(checked)) == []
    lines = [line for line in rows.data(checked) if " rows checked" not in line and "no model is set" not in line]
    # the one row is less than a batch
    assert "usable rows" in one(lines)


@pytest.mark.parametrize(
    ("record", "named"),
    [
        (row(), "--case-images"),
        (case_row(CASE._replace(image="gone.png")), "gone.png"),
        (case_row(CASE._replace(image="../photo.png")), "../photo.png"),
    ],
)
def test_rows_that_a_reward_on_pictures_cannot_read_are_named(
    tmp_path: Path, data: tuple[str, ...], record: dict[str, Any], named: str
):
    file = write(tmp_path / "train.parquet", [record])
    assert any(named in line for line in rows.data(run(*data, f"data.train_files={file}")))


def test_rows_without_gold_are_named_to_a_reward_on_words(tmp_path: Path):
    assert "gold" in preflight_runs.of_rows(tmp_path, [case_row()])[0]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (
            (f"{KWARGS}.judge=openai:http://127.0.0.1:9/v1#x", f"{KWARGS}.judge_settings={{backoff: 0.0}}"),
            "127.0.0.1:9",
        ),
        ((f"{KWARGS}.editor=flux-kontext",), "images-api"),
        ((f"{KWARGS}.editr=pillow",), "editr"),
        ((f"{KWARGS}.normalise=components", "worker.rollout.val_override_config.n=4"), "val_override_config.n=1"),
        (("RAY_JOB_CONFIG_JSON_ENV_VAR={}", f"{KWARGS}.store=pictures"), "absolute"),
    ],
)
def test_what_a_reward_on_pictures_would_fail_of_is_named(data: tuple[str, ...], settings: tuple[str, ...], named: str):
    assert named in next(iter(reward.reward_function(run(*data, *settings))))


def test_a_reward_that_gives_up_ends_the_training_with_its_line(
    tmp_path: Path, data: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    from ray.exceptions import RayTaskError
    from verl.trainer import main

    def fail() -> None:
        # as it comes through the reward's actor and the runner's task
        inner = RayTaskError(
            "compute_reward", "Traceback ...", EvaluationError("65 plans failed")
        ).as_instanceof_cause()
        raise RayTaskError("run", "Traceback ...", inner).as_instanceof_cause()

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(main, "main", fail)
    monkeypatch.setattr("sys.argv", ["ier1"])
    # which the launcher sets for good
    monkeypatch.setenv("TENSORBOARD_DIR", str(tmp_path))
    config, _ = typed(*data)
    assert easyr1.launch(OmegaConf.create(), config, cpu=False) == 1
    assert capsys.readouterr().err == "65 plans failed\n"
