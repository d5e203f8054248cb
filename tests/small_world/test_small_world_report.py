"""Responses to validation rows and the progress of a training in the small world."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from fakes.small_world_rows import write_rows

from ier1_plugin.small_world import evaluate, progress
from ier1_plugin.small_world.evaluate import read_rows, with_shuffled_photos

# as Ray prints it: colours, and the process before each line
LOG = """\
note: data.val_files: 400 rows checked, longest prompt 62 of 80 tokens
RUNNER Total training steps: 2
RUNNER Step 0
RUNNER val:
RUNNER   action_reward: 0.57
RUNNER   format_reward: 0.598
\x1b[36m(WorkerDict pid=4712)\x1b[0m   format_reward: 9.9
RUNNER   overall_reward: 0.548
RUNNER Start generating batch...
RUNNER Step 1
RUNNER actor:
RUNNER   kl_loss: 1.5e-05
RUNNER reward:
RUNNER   overall: 0.6
RUNNER
RUNNER Start generating batch...
(pid=4711) Running step:  50%|###  | 1.00/2.00 [00:05<00:05]  RUNNER Step 2
RUNNER reward:
RUNNER   overall: 0.7
""".replace("RUNNER", "\x1b[36m(Runner pid=4711)\x1b[0m")


@pytest.mark.parametrize("before", ["", f"\r{60 * ' '}\r\x1b[A"], ids=["plain", "after a bar that clears its line"])
def test_easyr1s_output_becomes_steps_with_their_validation(before: str):
    stream = io.StringIO(LOG.replace("\x1b[36m(Runner", f"{before}\x1b[36m(Runner"), newline="\n")
    events = list(progress.steps(progress.plain_lines(stream)))
    assert events[0] == 2
    found = [event for event in events if isinstance(event, progress.Step)]
    assert [step.number for step in found] == [0, 1, 2]
    assert found[0].validation() == "step 0, validation at temperature 1: overall 0.548 (format 0.60, action 0.57)"
    assert found[1].validation() is None
    assert found[1].metrics == {"actor": {"kl_loss": 1.5e-05}, "reward": {"overall": 0.6}}


VERL_LOG = """\
RUNNER INFO:2026-11-28 14:46:41,819:Total training steps: 2
RUNNER step:0 - val-core/imageedit_r1/reward/mean@1:np.float64(0.5) - val-aux/imageedit_r1/goal/mean@1:np.float64(0.25)
RUNNER step:1 - actor/entropy:6.9 - critic/score/mean:0.625 - critic/score/max:1.0 - timing_s/step:2.0
""".replace("RUNNER", "\x1b[36m(TaskRunnerV1 pid=4711)\x1b[0m")


def test_verls_output_becomes_steps_too():
    total, before, first = progress.steps(progress.plain_lines(io.StringIO(VERL_LOG)))
    assert total == 2
    assert isinstance(before, progress.Step)
    assert before.validation() == "step 0, validation at temperature 1: overall 0.500 (goal 0.25)"
    assert first == progress.Step(1, {"reward": {"overall": 0.625}})


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
    texts, greedy = {}, {}
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        out = tmp_path / name
        assert evaluate.main([str(model), f"--rows={rows}", f"--out={out}", f"--seed={seed}"]) == 0
        texts[name], greedy[name] = (out / "sampled.jsonl").read_text(), (out / "greedy.jsonl").read_text()
    assert texts["one"] == texts["same"] != texts["other"]
    assert greedy["one"] == greedy["other"]
    lines = [json.loads(line) for line in texts["one"].splitlines()]
    assert [line["id"] for line in lines] == [row.id for row in read_rows(rows)]
    assert {len(line["responses"]) for line in lines} == {2}


def test_a_missing_file_or_model_gets_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for rows in (tmp_path / "missing.parquet", write_rows(tmp_path, 1)):
        assert evaluate.main([str(tmp_path), f"--rows={rows}", f"--out={tmp_path / 'x'}"]) == 1
        assert len(capsys.readouterr().err.splitlines()) == 1
