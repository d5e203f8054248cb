"""From `ier1 evaluate` with a judge that fails three times in ten to the table of `ier1 report`: the known scores."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from statistics import fmean

import pytest
from fakes.chain_helpers import ier1
from fakes.evaluate_runs import evaluate, judgements, looked_at_by, system
from fakes.judge_runs import environment, image, known_scores
from fakes.judge_server import colour, flaky, serve_judge

__all__ = ["environment"]

SYSTEMS, ITEMS, SAMPLES = 2, 16, 2


@pytest.mark.slow
def test_the_table_is_the_one_of_the_known_scores_though_three_in_ten_answers_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    # {(system, item): score}, written into the edits in folders; one edit is not there
    scores = known_scores(SYSTEMS, ITEMS)
    del scores["system-1", "item-003"]
    for (name, id), score in scores.items():
        image(tmp_path / name, id, colour(score))
    rows = []
    for number in range(ITEMS):
        file = image(tmp_path / "photos", f"item-{number:03}", (10 + number, 10 + number, 10 + number))
        rows.append({"id": f"item-{number:03}", "image": str(file), "request": f"make it number {number}"})
    Path("known.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    names = [f"system-{number}" for number in range(SYSTEMS)]
    files = [system(name, editor=f"folder:{tmp_path / name}") for name in names]
    with serve_judge(flaky(seed=3)) as server:
        done = evaluate(
            *("--benchmark", f"jsonl:{tmp_path / 'known.jsonl'}", "--system", *files, *looked_at_by(server)),
            *("--samples", SAMPLES, "-j", 16),
        )
        assert done.exit_code == 0, done.output
        assert 0.2 < 1 - server.answered.total() / len(server.log) < 0.4
    assert len(judgements()) == SYSTEMS * ITEMS * SAMPLES
    made = ier1("report", "out", "--out", "report", "--examples", 1)
    assert made.exit_code == 0, made.output
    with Path("report/scores.csv").open() as lines:
        cells = {
            row["row"]: row for row in csv.DictReader(lines) if row["judge"] and row["table"].startswith("Table 1")
        }
    for name in names:
        known = [score.total for (system, _), score in scores.items() if system == name]
        assert float(cells[name]["mean"]) == pytest.approx(fmean(known), abs=1e-4)
        assert float(cells[name]["mean_failures_as_0"]) == pytest.approx(sum(known) / ITEMS, abs=1e-4)
        assert (int(cells[name]["scored"]), int(cells[name]["items"])) == (len(known), ITEMS)
    assert "[incomplete: a cell covers only 93.7 % of its items]" in cells[names[0]]["table"]
