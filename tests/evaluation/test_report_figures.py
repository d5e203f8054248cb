"""The figures of a report show every judge and every run, however many there are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fakes.evaluation_folders import items, settings, write_evaluation

from ier1_plugin.evaluation.records import Score
from ier1_plugin.evaluation.report.cells import Table
from ier1_plugin.evaluation.report.comparisons import Row, main_rows
from ier1_plugin.evaluation.report.results import main_table
from ier1_plugin.evaluation.scores import read_study
from ier1_plugin.evaluation.study import Study

pytest.importorskip("matplotlib")

JUDGES = tuple(f"openai:judge-{number}" for number in range(8))
NAMES = {judge: judge.partition(":")[2] for judge in JUDGES}
SYSTEMS = {"Original": settings("original"), "Chain": settings(), "Chain, seed 2": settings(seed=2)}
ROWS = (Row("0", ("Original",)), Row("4000", ("Chain", "Chain, seed 2"), reference=0))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The last judge was asked on one benchmark only."""
    root = tmp_path_factory.mktemp("study")

    def score(item: str, system: str, judge: str, sample: int) -> Score:
        return Score((int(item[-3:]) + len(system)) % 5, int(judge[-1]) % 4, 1)

    return read_study(
        [
            write_evaluation(root / name, name, SYSTEMS, judges, items(9), score)
            for name, judges in (("psr", JUDGES), ("realedit", JUDGES[:-1]))
        ]
    )


def curve_table(study: Study) -> Table:
    return main_table(study, ROWS, 0, "Training rows")


def lines(axes: Any) -> list[Any]:
    return [line for line in axes.get_lines() if line.get_marker() not in ("None", "", None, ".")]


def looks(some: list[Any]) -> set[tuple[object, object]]:
    return {(line.get_color(), line.get_marker()) for line in some}


def test_the_overview_has_a_mark_of_its_own_for_each_of_eight_judges(study: Study):
    from ier1_plugin.evaluation.report.figures import overview

    table = main_table(study, main_rows(study)[0], 0)
    figure = overview(table, NAMES)
    marks = [line for line in lines(figure.axes[0]) if line.get_marker() != "|"]
    assert len(marks) == len(JUDGES) * len(table.rows)
    assert len(looks(marks)) == len(JUDGES)
    (legend,) = figure.legends
    assert {*NAMES.values()} <= {text.get_text() for text in legend.get_texts()}


def test_the_overview_has_an_interval_for_every_mark(study: Study):
    from ier1_plugin.evaluation.report.figures import overview

    table = main_table(study, main_rows(study)[0], 0)
    axes = overview(table, NAMES).axes[0]
    spans = {tuple(across) for line in axes.get_lines() if len(across := np.asarray(line.get_xdata())) == 2}
    for cells in table.averages.values():
        for cell in cells:
            assert (cell.scored.low, cell.scored.high) in spans


def test_a_curve_has_a_line_for_each_judge_that_was_asked(study: Study):
    from ier1_plugin.evaluation.report.figures import compared

    psr, realedit = compared(curve_table(study), NAMES, (0, 4000)).axes[:2]
    assert len(looks(lines(psr))) == 8
    assert len(looks(lines(realedit))) == 7


@pytest.mark.parametrize("numbers", [(0, 4000), ()])
def test_single_runs_are_drawn_beside_their_mean(study: Study, numbers: tuple[float, ...]):
    from ier1_plugin.evaluation.report.figures import compared

    table = curve_table(study)
    figure = compared(table, NAMES, numbers)
    dots = [
        np.asarray(line.get_ydata()).tolist()
        for axes in figure.axes
        for line in axes.get_lines()
        if line.get_marker() == "."
    ]
    for column in range(len(table.columns) - 1):
        assert list(table.cells[1][column].runs) in dots
    assert "single runs" in {text.get_text() for text in figure.legends[0].get_texts()}
