"""Evaluation, report and progress of the small world."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from ier1_plugin.small_world import evaluate, progress, report
from ier1_plugin.small_world.evaluate import PARTS, interval, read_rows, summary, with_shuffled_photos
from ier1_plugin.small_world.world import is_picture_told, samples
from ier1_plugin.task.images import encode as encode_image
from ier1_plugin.task.rows import format_row
from reward_fns.decomposition import compute_score

LOG = """\
note: data.val_files: 400 rows checked, longest prompt 62 of 80 tokens
\x1b[36m(Runner pid=4711)\x1b[0m Total training steps: 2
\x1b[36m(Runner pid=4711)\x1b[0m Step 0
\x1b[36m(Runner pid=4711)\x1b[0m val:
\x1b[36m(Runner pid=4711)\x1b[0m   action_reward: 0.57
\x1b[36m(Runner pid=4711)\x1b[0m   format_reward: 0.598
\x1b[36m(WorkerDict pid=4712)\x1b[0m   format_reward: 9.9
\x1b[36m(Runner pid=4711)\x1b[0m   overall_reward: 0.548
\x1b[36m(Runner pid=4711)\x1b[0m Start generating batch...
\x1b[36m(Runner pid=4711)\x1b[0m Step 1
\x1b[36m(Runner pid=4711)\x1b[0m actor:
\x1b[36m(Runner pid=4711)\x1b[0m   kl_loss: 1.5e-05
\x1b[36m(Runner pid=4711)\x1b[0m reward:
\x1b[36m(Runner pid=4711)\x1b[0m   overall: 0.6
\x1b[36m(Runner pid=4711)\x1b[0m
\x1b[36m(Runner pid=4711)\x1b[0m Start generating batch...
(pid=4711) Running step:  50%|###  | 1.00/2.00 [00:05<00:05]  \x1b[36m(Runner pid=4711)\x1b[0m Step 2
\x1b[36m(Runner pid=4711)\x1b[0m reward:
\x1b[36m(Runner pid=4711)\x1b[0m   overall: 0.7
"""


def scores(count: int, sampled: float, greedy: float, told_subject: float = 1.0) -> list[dict[str, Any]]:
    """Made-up scores: every fifth row is picture-told; sampled rewards differ a little from row to row."""
    found = []
    for number in range(count):
        told = number % 5 == 4
        id = f"val-{number:05d}.brighter@" + ("cat:0,0,90,100" if told else "photo")
        wobble = 0.1 * (number % 3 - 1)
        found.append(
            {
                "id": id,
                "sampled": dict.fromkeys(PARTS, sampled + wobble),
                "greedy": dict.fromkeys(PARTS, greedy) | ({"subject": told_subject} if told else {}),
                "response": "",
            }
        )
    return found


def write(file: Path, found: list[dict[str, Any]]) -> Path:
    file.write_text(json.dumps({"model": "m", **summary(found), "scores": found}))
    return file


def test_an_interval_holds_the_mean_and_narrows_with_more_rows():
    few, many = (interval([0.0, 1.0] * count) for count in (5, 500))
    assert few["low"] < few["mean"] == 0.5 < few["high"]
    assert many["high"] - many["low"] < few["high"] - few["low"]
    # 95 % of a mean of 1,000 coin throws: 0.5 +- 1.96 x 0.5 / sqrt(1000)
    assert many["high"] - many["low"] == pytest.approx(0.062, abs=0.006)


def test_an_interval_of_equal_values_has_no_width():
    assert interval([0.3] * 4) == {"mean": pytest.approx(0.3), "low": pytest.approx(0.3), "high": pytest.approx(0.3)}


def test_overall_is_what_the_reward_function_says():
    sample = next(samples("val", 0))
    responses = ["", "<think> x </think>", '<action>["Add"]</action>', "<think> x </think>\n<action>[]</action>"]
    for response in responses:
        row = {"response": response, "response_length": 1, "ground_truth": sample.gold.to_json()}
        assert evaluate._score(response, evaluate.read_gold(sample.gold.to_json())) == compute_score([row])[0]


def test_the_report_shows_before_after_and_rise(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    before = write(tmp_path / "before.json", scores(50, 0.5, 0.8))
    after = write(tmp_path / "after.json", scores(50, 0.75, 0.85))
    arguments = ["--before", str(before), "--after", str(after), "--out", str(tmp_path / "report.txt")]
    assert report.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "50 validation rows" in printed
    assert "+0.25 [+0.25, +0.25]" in printed
    assert "+0.05" in printed
    assert "test bench" in printed
    assert (tmp_path / "report.txt").read_text() in printed


@pytest.mark.parametrize(
    ("lr0", "shuffled_subject", "wanted"),
    [
        (0.8, 0.1, ["nothing rises", "read off the photo"]),
        (0.7, 1.0, ["moved without learning", "does not look at the photo"]),
    ],
)
def test_the_controls_are_judged_by_what_they_show(
    tmp_path: Path, lr0: float, shuffled_subject: float, wanted: list[str], capsys: pytest.CaptureFixture[str]
):
    files = {
        "before": scores(50, 0.5, 0.8),
        "after": scores(50, 0.75, 0.85),
        "no-learning": scores(50, 0.51, lr0),
        "shuffled": scores(50, 0.7, 0.8, shuffled_subject),
    }
    arguments = [f"--{name}={write(tmp_path / f'{name}.json', found)}" for name, found in files.items()]
    assert report.main([*arguments, f"--out={tmp_path / 'report.txt'}"]) == 0
    printed = capsys.readouterr().out
    assert all(text in printed for text in wanted)


def test_evaluations_of_different_rows_are_not_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    before = write(tmp_path / "before.json", scores(50, 0.5, 0.8))
    after = write(tmp_path / "after.json", scores(49, 0.5, 0.8))
    assert report.main([f"--before={before}", f"--after={after}", f"--out={tmp_path / 'x'}"]) == 1
    assert "different rows" in capsys.readouterr().err


def test_a_missing_or_broken_file_gets_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "broken.json").write_text("{")
    for name in ("missing.json", "broken.json"):
        file = str(tmp_path / name)
        assert report.main(["--before", file, "--after", file, "--out", str(tmp_path / "x")]) == 1
        assert evaluate.main([str(tmp_path), "--rows", file, "--out", str(tmp_path / "x")]) == 1
        assert len(capsys.readouterr().err.splitlines()) == 2


def test_easyr1s_output_becomes_steps_with_their_validation():
    events = list(progress.steps(progress.plain_lines(LOG.splitlines(keepends=True))))
    assert events[0] == 2
    found = [event for event in events if isinstance(event, progress.Step)]
    assert [step.number for step in found] == [0, 1, 2]
    assert found[0].validation() == ("step 0, validation at temperature 1: overall 0.548 (format 0.60, action 0.57)")
    assert found[1].validation() is None
    assert found[1].metrics == {"actor": {"kl_loss": 1.5e-05}, "reward": {"overall": 0.6}}


def test_a_bar_that_clears_its_line_hides_no_step():
    cleared = LOG.replace("\x1b[36m(Runner", "\r" + 60 * " " + "\r\x1b[A\x1b[36m(Runner")
    found = progress.steps(progress.plain_lines(io.StringIO(cleared, newline="\n")))
    assert len([event for event in found if isinstance(event, progress.Step)]) == 3


def test_the_full_output_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    progress.follow(LOG.splitlines(keepends=True), tmp_path / "log.txt")
    assert (tmp_path / "log.txt").read_text() == LOG
    captured = capsys.readouterr()
    assert "overall 0.548" in captured.out
    assert "2/2" in captured.err


def val_parquet(folder: Path, count: int) -> Path:
    import pyarrow as pa
    from pyarrow import parquet

    source = samples("val", 0)
    rows = [
        format_row(
            id=row.id,
            source="photos",
            request=row.request,
            image=encode_image(row.photo.open().resize((56, 56)), lossless=True),
            gold=row.gold,
        )
        for row in (next(source) for _ in range(count))
    ]
    parquet.write_table(pa.Table.from_pylist(rows), folder / "val.parquet")
    return folder / "val.parquet"


def test_shuffling_moves_photos_and_nothing_else(tmp_path: Path):
    rows = read_rows(val_parquet(tmp_path, 30))
    shuffled = with_shuffled_photos(rows, seed=0)
    assert [(row.id, row.request, row.gold) for row in shuffled] == [(row.id, row.request, row.gold) for row in rows]
    moved = [one.photo is not other.photo for one, other in zip(rows, shuffled, strict=True)]
    assert sum(moved) > 20
    assert {id(row.photo) for row in rows} == {id(row.photo) for row in shuffled}


@pytest.mark.slow
def test_an_evaluation_writes_means_with_intervals_over_rows(tmp_path: Path):
    from ier1_plugin.small_world.tiny_model import build

    model, out = build(tmp_path / "model"), tmp_path / "result.json"
    rows = val_parquet(tmp_path, 10)
    assert evaluate.main([str(model), "--rows", str(rows), "--out", str(out), "--samples", "2"]) == 0
    result = json.loads(out.read_text())
    assert result["rows"] == len(result["scores"]) == 10
    assert result["picture_told"]["rows"] == sum(is_picture_told(score["id"]) for score in result["scores"]) == 2
    for how in ("sampled", "greedy"):
        for part in PARTS:
            cell = result[how][part]
            assert 0 <= cell["low"] <= cell["mean"] <= cell["high"] <= 1
    # the same seed samples the same answers
    again = tmp_path / "again.json"
    assert evaluate.main([str(model), "--rows", str(rows), "--out", str(again), "--samples", "2"]) == 0
    assert again.read_text() == out.read_text()
