"""Columns, averages and coverage of a report's tables: what is there, and what they say of what is not."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import pytest
from fakes.evaluation_folders import GEMINI, GPT, items, write_evaluation
from fakes.known_scores import BENCHMARKS, JUDGES, SYSTEMS, cell, study_of, totals

from ier1_plugin.evaluation.records import Score
from ier1_plugin.evaluation.report.cells import AVERAGE, Cell, Column, Table
from ier1_plugin.evaluation.report.comparisons import Row, main_rows
from ier1_plugin.evaluation.report.grids import (
    coverage_grid,
    gains_grid,
    long_rows,
    scores_grid,
    short_names,
    wide_rows,
)
from ier1_plugin.evaluation.report.report import make_report
from ier1_plugin.evaluation.report.results import main_table
from ier1_plugin.evaluation.scores import read_study
from ier1_plugin.evaluation.study import Study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return study_of(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def table(study: Study) -> Table:
    return main_table(study, main_rows(study)[0], seed=0, title="Table 1")


def test_a_judge_that_was_never_asked_on_a_benchmark_has_no_column_and_it_is_said(tmp_path: Path):
    folders = [
        write_evaluation(tmp_path / name, name, SYSTEMS, judges, items(9), lambda *_: Score(3, 2, 2))
        for name, judges in (("psr", JUDGES), ("realedit", [GPT]))
    ]
    report = make_report(folders, None, 0)
    assert [(column.head, column.sub) for column in report.main.columns] == [
        ("psr", GPT),
        ("psr", GEMINI),
        ("realedit", GPT),
        (AVERAGE, ""),
    ]
    chain = cell(report.main, "Chain", AVERAGE)
    assert (chain.scored.mean, chain.scored.gain.mean) == (7, 0)
    assert report.main.averages[GEMINI][0].scored.mean == 7
    assert {(one.benchmark, one.judge) for one in report.breakdowns} == {
        ("psr", GPT),
        ("psr", GEMINI),
        ("realedit", GPT),
    }
    assert report.notes == (f"{GEMINI} was never asked on realedit: averages are over the columns that are there",)


def test_a_row_without_an_average_says_what_it_lacks(tmp_path: Path):
    one = write_evaluation(tmp_path / "psr", "psr", SYSTEMS, [GPT], items(9), lambda *_: Score(3, 2, 2))
    few = {name: SYSTEMS[name] for name in ("FLUX", "Step1X-Edit")}
    other = write_evaluation(tmp_path / "real", "realedit", few, [GPT], items(9), lambda *_: Score(3, 2, 2))
    notes = make_report([one, other], None, 0).notes
    assert f"Chain has no average: it was not to be judged on realedit by {GPT}" in notes
    assert f"Single-turn and multi-turn: none of its systems was to be judged on realedit by {GPT}" in notes


def test_two_benchmarks_with_as_many_clusters_have_not_the_same_luck(tmp_path: Path):
    def score(item: str, system: str, judge: str, sample: int) -> Score:
        return Score(int(item[-3:]) % 5, int(item[-3:]) % 4, 0)

    folders = [write_evaluation(tmp_path / name, name, SYSTEMS, [GPT], items(120), score) for name in ("one", "other")]
    study = read_study(folders)
    table = main_table(study, main_rows(study)[0], 0)
    one, average = cell(table, "Chain", "one", GPT).scored, cell(table, "Chain", AVERAGE).scored
    # the mean of two independent means has an interval that is narrower by the root of two
    assert (average.high - average.low) / (one.high - one.low) == pytest.approx(2**-0.5, abs=0.08)


def test_the_means_of_each_judge_have_intervals_too(table: Table):
    cells = [cell(table, "Chain", benchmark, GPT) for benchmark in BENCHMARKS]
    own = table.averages[GPT][[row.label for row in table.rows].index("Chain")].scored
    assert own.mean == pytest.approx(fmean(one.scored.mean for one in cells))
    assert own.low < own.mean < own.high


def test_gains_and_the_csv_say_that_they_are_incomplete_too(table: Table):
    names = short_names(JUDGES)
    warning = table.full_title.removeprefix("Table 1")
    assert warning.startswith(" [incomplete: a cell covers only ")
    assert gains_grid(table, names, "Gains").title == f"Gains{warning}"
    assert {row[0] for row in long_rows([table])[1:]} == {table.full_title}


def test_every_mean_of_table1_csv_has_its_interval(table: Table):
    header, *rows = wide_rows(table, short_names(JUDGES))
    for name in (name for name in header if str(name).endswith(("failures as 0", "gpt-4o-2024-11-20"))):
        mean, low, high = (
            float(str(rows[0][header.index(column)])) for column in (name, f"{name} low", f"{name} high")
        )
        assert low < mean < high


def test_what_is_not_judged_yet_is_said_to_count_as_0(table: Table):
    caption = scores_grid(table, short_names(JUDGES), as_zero=True).caption
    assert "Items without a score count as 0, those that are not judged yet among them" in caption
    assert "resampled by cluster: post, photo or crop" in caption


def test_a_table_says_in_its_title_that_it_is_incomplete_below_95_percent(tmp_path: Path):
    for missing, warned in ((5, False), (6, True)):

        def score(item: str, *_: object, most: int = missing) -> Score | str:
            return "refusal: no" if int(item[-3:]) < most else Score(4, 3, 3)

        study = read_study([write_evaluation(tmp_path / f"{missing}", "psr", SYSTEMS, [GPT], items(100), score)])
        title = main_table(study, main_rows(study)[0], 0, "Table 1").full_title
        assert title == ("Table 1 [incomplete: a cell covers only 94.0 % of its items]" if warned else "Table 1")


def test_the_coverage_in_a_title_is_never_rounded_up():
    cells = ((Cell(count=94_996, items=100_000),),)
    title = Table("T", (Column("psr", GPT),), (Row("Chain", ("Chain",)),), cells).full_title
    assert title == "T [incomplete: a cell covers only 94.9 % of its items]"


def test_a_system_that_was_in_another_folder_only_has_no_average(tmp_path: Path):
    one = write_evaluation(tmp_path / "psr", "psr", SYSTEMS, JUDGES, items(8), lambda *_: Score(2, 2, 2))
    few = {"FLUX": SYSTEMS["FLUX"]}
    other = write_evaluation(tmp_path / "real", "realedit", few, JUDGES, items(8), lambda *_: Score(4, 3, 3))
    study = read_study([one, other])
    table = main_table(study, main_rows(study)[0], 0)
    assert cell(table, "FLUX", AVERAGE).scored.mean == 8
    assert not cell(table, "Chain", AVERAGE).scored
    assert cell(table, "Chain", "realedit", GPT).items == 0


def test_the_coverage_table_counts_every_reason(study: Study):
    grid = coverage_grid(study, main_rows(study)[0], short_names(study.judges), "Coverage")
    line = next(line for line in grid.lines if line.label == "Chain")
    counts = {part.split(" ", 1)[1]: int(part.split(" ", 1)[0]) for part in line.texts[0].note.split(", ")}
    assert sum(counts.values()) == 30 - len(totals("psr", "Chain", GPT))
    assert set(counts) <= {"refusal", "unreadable", "missing image"}
