"""Curves out of real log files: TensorBoard's, written as EasyR1 writes them, and EasyR1's JSON lines."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.commands import ier1, refused
from fakes.easyr1 import environment

from ier1_plugin.training import curves
from ier1_plugin.training.logs import PICTURES, REWARDS, read_runs

Rewards = dict[str, float]


def rewards(step: int, shift: float = 0.0) -> Rewards:
    parts = {"format": 0.6, "action": 0.5, "subject": 0.4, "goal": 0.3}
    parts = {name: min(1.0, start + 0.01 * step + shift) for name, start in parts.items()}
    return {"overall": sum(parts.values()) / 4, **parts}


def logged(step: int, shift: float = 0.0) -> Iterator[Rewards]:
    """A step's metrics under the tags of EasyR1's trainer, and every fifth step's validation; some are no rewards."""
    yield {f"reward/{name}": value for name, value in rewards(step, shift).items()} | {"actor/lr": 1e-6}
    if step % 5 == 0:
        values = rewards(step, shift - 0.1)
        yield {f"val/{name}_reward": value for name, value in values.items()} | {"val/reward_score": values["overall"]}


def write_events(folder: Path, steps: Iterable[int], shift: float = 0.0, rollout: str | None = None) -> None:
    """One start of a run: EasyR1's TensorBoard logger writes its config as hyperparameters, then the metrics."""
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder))
    config = {"trainer/experiment_name": "run", **({"rollout": rollout} if rollout else {})}
    writer.add_hparams(config, {"placeholder": 0})
    for step in steps:
        for metrics in logged(step, shift):
            for tag, value in metrics.items():
                writer.add_scalar(tag, value, step)
    writer.close()


def write_lines(file: Path, steps: Iterable[int], shift: float = 0.0) -> None:
    """As EasyR1's file logger: tags nested at the slashes, training and validation in lines of their own."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as stream:
        for step in steps:
            for metrics in logged(step, shift):
                entry: dict[str, Any] = {"step": step}
                for tag, value in metrics.items():
                    group, name = tag.split("/")
                    entry.setdefault(group, {})[name] = value
                stream.write(json.dumps(entry) + "\n")


def test_verls_logs_hold_rewards_too_and_how_well_vllm_and_the_trainer_agree(tmp_path: Path):
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(tmp_path / "run"))
    for step in (1, 2):
        writer.add_scalar("critic/score/mean", step / 4, step)
        writer.add_scalar("training/rollout_actor_probs_pearson_corr", 0.999 + step / 10_000, step)
        writer.add_scalar("training/rollout_probs_diff_max", step / 1000, step)
    writer.add_scalar("val-core/imageedit_r1/reward/mean@4", 0.75, 2)
    writer.add_scalar("val-aux/imageedit_r1/format/mean@4", 0.5, 2)
    writer.close()
    said = ier1("curves", tmp_path / "run", "--out", tmp_path).stdout
    assert "training 0.250 at step 1, 0.500 at step 2; validation 0.750 at step 2, 0.750 at step 2" in said
    assert "1 - correlation at most 9.0e-04, largest difference 2.0e-03, over 2 steps" in said
    with (tmp_path / "reward_curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["split"], row["overall"], row["format"]) for row in rows][-1] == ("val", "0.75", "0.5")


def draw(out: Path, *runs: Any) -> list[dict[str, str]]:
    """Draws the runs; returns the rows of the CSV after a look at the picture."""
    from PIL import Image

    print(ier1("curves", *runs, "--out", out).stdout)
    with Image.open(out / "reward_curves.png") as image:
        assert (image.format, image.width > 1000) == ("PNG", True)
        assert len(image.convert("RGB").getcolors(1 << 20) or []) > 50
    with (out / "reward_curves.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def train_steps(rows: list[dict[str, str]]) -> list[int]:
    return [int(row["step"]) for row in rows if row["split"] == "train"]


def test_tensorboard_logs_and_json_lines_become_a_figure_and_the_same_table(tmp_path: Path, capsys: Any):
    write_events(tmp_path / "tb" / "easy_r1" / "with_goal", range(1, 11))
    rows = draw(tmp_path / "out", tmp_path / "tb")
    assert list(rows[0]) == ["run", "split", "step", *REWARDS]
    assert train_steps(rows) == list(range(1, 11))
    assert [row["step"] for row in rows if row["split"] == "val"] == ["5", "10"]
    assert float(rows[0]["overall"]) == pytest.approx(rewards(1)["overall"])
    assert {row["run"] for row in rows} == {"with_goal"}
    printed = capsys.readouterr().out
    assert "with_goal: overall reward, training 0.460 at step 1, 0.550 at step 10; validation 0.400" in printed
    assert "rollout" not in printed
    write_lines(tmp_path / "checkpoints" / "with_goal" / "experiment_log.jsonl", range(1, 11))
    for event, line in zip(rows, draw(tmp_path / "b", tmp_path / "checkpoints"), strict=True):
        assert (event["split"], event["step"]) == (line["split"], line["step"])
        assert [float(event[name]) for name in REWARDS] == pytest.approx([float(line[name]) for name in REWARDS])


def test_the_later_part_of_a_resumed_run_wins_and_what_it_threw_away_is_gone(tmp_path: Path, capsys: Any):
    # saved at step 5, killed after step 8, resumed, and as far as step 7 by now
    write_events(tmp_path / "run", range(1, 9))
    write_events(tmp_path / "run", range(6, 8), shift=0.2)
    rows = draw(tmp_path / "out", tmp_path / "run")
    assert train_steps(rows) == list(range(1, 8))
    found = [float(row["overall"]) for row in rows if row["step"] in ("4", "6") and row["split"] == "train"]
    assert found == pytest.approx([rewards(4)["overall"], rewards(6, 0.2)["overall"]])
    assert "3 steps were trained again" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["experiment_log.part{}.jsonl", "experiment_log.{}.jsonl"])
def test_numbered_logs_of_a_resumed_run_are_joined_in_their_order(tmp_path: Path, name: str):
    # ten parts: the order is that of numbers, not of letters
    for part in range(1, 11):
        write_lines(tmp_path / "run" / name.format(part), [part], shift=part / 100)
    write_lines(tmp_path / "run" / "experiment_log.jsonl", [10, 11], shift=0.2)
    (run,) = read_runs(tmp_path / "run")
    points = run.points("train", "format")
    assert list(points) == list(range(1, 12))
    assert (points[2], points[10]) == pytest.approx((rewards(2, 0.02)["format"], rewards(10, 0.2)["format"]))


def test_runs_overlay_under_their_names(tmp_path: Path, capsys: Any):
    write_events(tmp_path / "tb" / "a" / "run", range(1, 6))
    write_events(tmp_path / "tb" / "b" / "run", range(1, 9))
    write_lines(tmp_path / "c" / "experiment_log.jsonl", range(1, 4))
    rows = draw(tmp_path / "out", tmp_path / "tb", f"without goal={tmp_path / 'c'}")
    assert list(dict.fromkeys(row["run"] for row in rows)) == ["run (1)", "run (2)", "without goal"]
    assert "without goal: overall reward" in capsys.readouterr().out


def test_a_run_with_the_cpu_standin_says_so_in_figure_and_output(tmp_path: Path):
    from matplotlib.text import Text

    write_events(tmp_path / "tb" / "run", range(1, 4), rollout="cpu-standin")
    write_events(tmp_path / "gpu" / "run", range(1, 4))
    write_lines(tmp_path / "jsonl" / "experiment_log.jsonl", range(1, 4))
    (tmp_path / "jsonl" / "experiment_config.json").write_text(json.dumps({"rollout": "cpu-standin"}))
    for logs, times in (("tb", 1), ("jsonl", 1), ("gpu", 0)):
        figure: Any = curves.draw(read_runs(tmp_path / logs), 1)
        texts = [str(text.get_text()) for text in figure.findobj(Text)]
        assert sum("rollout=cpu-standin" in text for text in texts) == times
        assert ier1("curves", tmp_path / logs, "--out", tmp_path).stdout.count("(rollout=cpu-standin)") == times


def test_what_can_not_be_read_of_a_log_is_left_out(tmp_path: Path, capsys: Any):
    log = tmp_path / "run" / "experiment_log.jsonl"
    write_lines(log, range(1, 7))
    whole = log.read_text()
    log.write_text(whole[:-25])
    assert train_steps(draw(tmp_path / "out", log)) == [1, 2, 3, 4, 5]
    assert f"note: {log}: line 7 " in capsys.readouterr().out
    odd = '{"step": 7, "reward": {"overall": NaN, "format": 0.5, "goal": "high"}}\n{"step": "x"}\n[]\n{"step": 8}\n'
    log.write_text(whole + odd)
    last = [row for row in draw(tmp_path / "out", log) if row["split"] == "train"][-1]
    assert (last["step"], last["overall"], last["format"], last["goal"]) == ("7", "", "0.5", "")


def test_a_torn_event_file_gives_the_steps_before_the_tear(tmp_path: Path):
    write_events(tmp_path / "run", range(1, 7))
    (file,) = (tmp_path / "run").glob("events.out.tfevents.*")
    os.truncate(file, file.stat().st_size - 40)
    assert train_steps(draw(tmp_path / "out", tmp_path / "run"))[:5] == [1, 2, 3, 4, 5]


def test_a_run_without_training_steps_or_without_some_rewards_still_draws(tmp_path: Path, capsys: Any):
    (tmp_path / "experiment_log.jsonl").write_text('{"step": 0, "val": {"overall_reward": 0.4, "other_reward": 1}}\n')
    (row,) = draw(tmp_path / "out", tmp_path)
    assert list(row.values()) == [tmp_path.name, "val", "0", "0.4", "", "", "", ""]
    assert "validation 0.400 at step 0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (None, b"", "does not exist"),
        ("other.txt", b"", "events.out.tfevents.* and experiment_log.jsonl"),
        ("experiment_log.jsonl", b"", "no step yet"),
        ("events.out.tfevents.1.host", b"\xff" * 100, "no rewards in"),
    ],
)
def test_missing_and_empty_logs_are_one_clear_line(tmp_path: Path, name: str | None, content: bytes, message: str):
    logs = tmp_path / "logs"
    if name:
        logs.mkdir()
        (logs / name).write_bytes(content)
    assert message in refused("curves", logs)


def test_more_runs_than_can_be_told_apart_are_refused(tmp_path: Path):
    for number in range(7):
        write_lines(tmp_path / str(number) / "experiment_log.jsonl", [1])
    assert "7 runs" in refused("curves", tmp_path)


def test_smoothing_is_the_mean_over_the_last_steps_and_zero_is_refused(tmp_path: Path):
    assert curves.smooth({1: 0.0, 2: 1.0, 3: 0.5}, 2) == {1: 0.0, 2: 0.5, 3: 0.75}
    ier1("curves", tmp_path, "--smooth", "0", exit_code=2)


def test_labels_that_would_cover_each_other_move_apart():
    places = curves.spread([0.98, 0.97, 0.5], 0.1, 1.0)
    assert places == pytest.approx([1.0, 0.9, 0.5])
    assert curves.spread([], 0.1, 1.0) == []


LOGGERS = """
import sys
from verl.utils.logger import Tracker
folder, *loggers = sys.argv[1:]
config = {"trainer": {"project_name": "easy_r1", "experiment_name": "own", "save_checkpoint_path": folder}}
tracker = Tracker(loggers, config)
for step in (1, 2):
    tracker.log({"reward/overall": step / 4, "actor/lr": 1e-6}, step)
tracker.log({"val/overall_reward": 0.25, "val/reward_score": 0.25}, 2)
# closes the writer while its thread still runs; left to the end of the interpreter, closing can wait for ever
del tracker
"""


@pytest.mark.slow
@pytest.mark.parametrize("which", ["installed", "source"])
def test_what_easyr1s_own_loggers_write_is_read(tmp_path: Path, which: str):
    places = {"tensorboard": "tb"} | ({"file": "checkpoints"} if which == "source" else {})
    command = [sys.executable, "-c", LOGGERS, str(tmp_path / "checkpoints"), *places]
    easyr1 = environment(which, TENSORBOARD_DIR=str(tmp_path / "tb"))
    subprocess.run(command, env=easyr1, check=True, cwd=tmp_path, timeout=120, capture_output=True)
    for place in places.values():
        (run,) = read_runs(tmp_path / place)
        assert run.points("train", "overall") == {1: 0.25, 2: 0.5}
        assert run.points("val", "overall") == {2: 0.25}


def test_a_reward_on_pictures_gets_panels_and_columns_of_its_own(tmp_path: Path):
    names = [*REWARDS, *PICTURES]
    steps = [{"step": step, "reward": dict.fromkeys(names, step / 4)} for step in range(1, 4)]
    (tmp_path / "experiment_log.jsonl").write_text("".join(f"{json.dumps(step)}\n" for step in steps))
    curves.write_curves([str(tmp_path)], tmp_path / "out")
    header = (tmp_path / "out" / "reward_curves.csv").read_text().splitlines()[0]
    assert header.split(",") == ["run", "split", "step", *names]
    figure = curves.draw(read_runs(tmp_path), 1)
    assert [axes.get_title(loc="left").lower() for axes in figure.axes] == names
