"""The figures of a report show every judge and every run, however many there are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fakes.evaluation_folders import items, settings, write_evaluation

from ier1_plugin.evaluation.records import Score
from ier1_plugin.evaluation.report.comparisons import Row, main_rows
from ier1_plugin.evaluation.report.estimates import AVERAGE, estimates, main_columns
from ier1_plugin.evaluation.scores import Scores, read_scores

pytest.importorskip("matplotlib")

JUDGES = tuple(f"openai:judge-{number}" for number in range(8))
NAMES = {judge: judge.partition(":")[2] for judge in JUDGES}
SYSTEMS = {"Original": settings("original"), "Chain": settings(), "Chain, seed 2": settings(seed=2)}
ROWS = (Row("0", ("Original",)), Row("4000", ("Chain", "Chain, seed 2"), reference=0))


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> Scores:
    """The last judge was asked on one benchmark only."""
    root = tmp_path_factory.mktemp("scores")

    def score(item: str, system: str, judge: str, sample: int) -> Score:
        return Score((int(item[-3:]) + len(system)) % 5, int(judge[-1]) % 4, 1)

    return read_scores(
        [
            write_evaluation(root / name, name, SYSTEMS, judges, items(9), score)
            for name, judges in (("psr", JUDGES), ("realedit", JUDGES[:-1]))
        ]
    )


def table(scores: Scores, rows: Any = ROWS) -> Any:
    return estimates(scores, main_columns(scores, rows), rows, 0, "Training rows", average=True)


def lines(axes: Any) -> list[Any]:
    return [line for line in axes.get_lines() if line.get_marker() not in ("None", "", None, ".", "|")]


def looks(some: list[Any]) -> set[tuple[object, object]]:
    return {(line.get_color(), line.get_marker()) for line in some}


def test_the_overview_has_a_mark_and_an_interval_for_each_of_eight_judges(scores: Scores):
    from ier1_plugin.evaluation.report.figures import overview

    rows = main_rows(scores.systems)[0]
    main = table(scores, rows)
    columns = main_columns(scores, rows)
    by_judge = {
        judge: estimates(scores, [one for one in columns if one.judge == judge], rows, 0, "", average=True)
        for judge in JUDGES
    }
    figure = overview(main, by_judge, NAMES)
    axes: Any = figure.axes[0]
    assert sum(len(line.get_xdata()) for line in lines(axes)) == len(JUDGES) * len(rows)
    assert len(looks(lines(axes))) == len(JUDGES)
    assert {*NAMES.values()} <= {text.get_text() for text in figure.legends[0].get_texts()}
    spans = {tuple(span[:, 0]) for drawn in axes.collections for span in drawn.get_segments()}
    for frame in (main, *by_judge.values()):
        averages = frame[frame["column"] == AVERAGE]
        assert {*zip(averages["low"], averages["high"], strict=True)} <= spans


@pytest.mark.parametrize("numbers", [(0, 4000), ()])
def test_a_comparison_shows_every_judge_that_was_asked_and_single_runs_beside_their_mean(
    scores: Scores, numbers: tuple[float, ...]
):
    from ier1_plugin.evaluation.report.figures import compared

    found = table(scores)
    figure = compared(found, NAMES, numbers)
    if numbers:
        assert [len(looks(lines(axes))) for axes in figure.axes[:2]] == [8, 7]
    single = [line for axes in figure.axes for line in axes.get_lines() if line.get_marker() == "."]
    dots = {tuple(np.asarray(line.get_ydata()).tolist()) for line in single}
    assert {*found.query("row == '4000' and column != @AVERAGE")["runs"]} <= dots
    assert "single runs" in {text.get_text() for text in figure.legends[0].get_texts()}
