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

from ier1_plugin.evaluation.records import Score

__all__ = ["environment"]

SYSTEMS, ITEMS, SAMPLES = 2, 16, 2
MISSING = ("system-1", "item-003")


@pytest.fixture
def scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], Score]:
    """(system, item) -> score, written into the edits in folders; one edit is not there."""
    monkeypatch.chdir(tmp_path)
    known = known_scores(SYSTEMS, ITEMS)
    del known[MISSING]
    rows = []
    for number in range(ITEMS):
        id = f"item-{number:03}"
        shade = 10 + number
        file = image(tmp_path / "photos", id, (shade, shade, shade))
        rows.append({"id": id, "image": str(file), "request": f"make it number {number}"})
    Path("known.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for (name, id), score in known.items():
        image(tmp_path / name, id, colour(score))
    return known


@pytest.mark.slow
def test_the_table_is_the_one_of_the_known_scores_though_three_in_ten_answers_fail(
    scores: dict[tuple[str, str], Score], tmp_path: Path
):
    names = [f"system-{number}" for number in range(SYSTEMS)]
    files = [system(name, editor=f"folder:{tmp_path / name}") for name in names]
    with serve_judge(flaky(seed=3)) as server:
        done = evaluate(
            *("--benchmark", f"jsonl:{tmp_path / 'known.jsonl'}", "--system", *files, *looked_at_by(server)),
            *("--samples", SAMPLES, "-j", 16),
        )
        assert done.exit_code == 0, done.output
        faults = 1 - server.answered.total() / len(server.log)
    assert 0.2 < faults < 0.4
    assert len(judgements()) == SYSTEMS * ITEMS * SAMPLES
    Path("comparisons.yaml").write_text(f"Compared:\n  before: {names[0]}\n  after: {names[1]}\n")
    made = ier1("report", "out", "--out", "report", "--comparisons", "comparisons.yaml", "--examples", 1)
    assert made.exit_code == 0, made.output
    with Path("report/scores.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    for name in names:
        row = next(row for row in rows if row["row"] == name and row["judge"])
        known = [score.total for (system, _), score in scores.items() if system == name]
        assert float(row["mean"]) == pytest.approx(fmean(known), abs=1e-4)
        assert float(row["mean_failures_as_0"]) == pytest.approx(sum(known) / ITEMS, abs=1e-4)
        assert (int(row["scored"]), int(row["items"])) == (len(known), ITEMS)
    row = next(row for row in rows if row["row"] == "after" and row["judge"])
    both = [id for name, id in scores if name == "system-1"]
    gain = fmean(scores["system-1", id].total - scores["system-0", id].total for id in both)
    assert float(row["gain"]) == pytest.approx(gain, abs=1e-4)
    assert int(row["common_items"]) == len(both) == ITEMS - 1
    assert "[incomplete: a cell covers only 93.7 % of its items]" in rows[0]["table"]
