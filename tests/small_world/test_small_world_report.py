"""Responses to validation rows and the progress of a training in the small world."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from fakes.small_world_rows import write_rows

from ier1_plugin.small_world import evaluate, progress
from ier1_plugin.small_world.evaluate import read_rows, with_shuffled_photos

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


def test_shuffling_moves_photos_and_nothing_else(tmp_path: Path):
    rows = read_rows(write_rows(tmp_path, 30))
    shuffled = with_shuffled_photos(rows, seed=0)
    assert [(row.id, row.request, row.gold) for row in shuffled] == [(row.id, row.request, row.gold) for row in rows]
    moved = [one.photo is not other.photo for one, other in zip(rows, shuffled, strict=True)]
    assert sum(moved) > 20
    assert {id(row.photo) for row in rows} == {id(row.photo) for row in shuffled}


@pytest.mark.slow
def test_every_row_is_answered_and_the_same_seed_samples_the_same(tmp_path: Path):
    from ier1_plugin.small_world.tiny_model import build

    model, rows = build(tmp_path / "model"), write_rows(tmp_path, 4)
    for out, seed in (("one", 0), ("same", 0), ("other", 1)):
        assert evaluate.main([str(model), f"--rows={rows}", f"--out={tmp_path / out}", f"--seed={seed}"]) == 0
    texts = {out: (tmp_path / out / "sampled.jsonl").read_text() for out in ("one", "same", "other")}
    assert texts["one"] == texts["same"] != texts["other"]
    lines = [json.loads(line) for line in texts["one"].splitlines()]
    assert [line["id"] for line in lines] == [row.id for row in read_rows(rows)]
    assert {len(line["responses"]) for line in lines} == {2}
    greedy = {out: (tmp_path / out / "greedy.jsonl").read_text() for out in ("one", "other")}
    assert greedy["one"] == greedy["other"]


def test_a_missing_file_or_model_gets_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for rows in (tmp_path / "missing.parquet", write_rows(tmp_path, 1)):
        assert evaluate.main([str(tmp_path), f"--rows={rows}", f"--out={tmp_path / 'x'}"]) == 1
        assert len(capsys.readouterr().err.splitlines()) == 1
