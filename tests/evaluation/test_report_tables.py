"""Tables of a report against the scores that went in, and as Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
import math
import re
from pathlib import Path
from statistics import fmean

import pytest
from fakes.evaluation_folders import GEMINI, GPT, items, write_evaluation
from fakes.known_scores import BENCHMARKS, JUDGES, SYSTEMS, cell, study_of, totals

from ier1_plugin.evaluation.records import Score
from ier1_plugin.evaluation.report.cells import AVERAGE, Table
from ier1_plugin.evaluation.report.comparisons import main_rows
from ier1_plugin.evaluation.report.grids import (
    long_rows,
    p_text,
    scores_grid,
    short_names,
    signed,
)
from ier1_plugin.evaluation.report.paper import FIGURE_5, TABLE_1, TABLE_4, quoted_grids
from ier1_plugin.evaluation.report.report import make_report
from ier1_plugin.evaluation.report.results import main_table
from ier1_plugin.evaluation.report.tables import Grid, Head, Line, Text, csv_text, latex, markdown, percent
from ier1_plugin.evaluation.scores import read_study
from ier1_plugin.evaluation.study import Study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return study_of(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def table(study: Study) -> Table:
    return main_table(study, main_rows(study)[0], seed=0, title="Table 1")


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_mean_is_the_one_computed_from_the_known_scores(table: Table, system: str):
    for benchmark in BENCHMARKS:
        for judge in JUDGES:
            known, found = totals(benchmark, system, judge), cell(table, system, benchmark, judge)
            assert found.scored.mean == pytest.approx(fmean(known.values()))
            assert found.as_zero.mean == pytest.approx(sum(known.values()) / 30)
            assert (found.count, found.items) == (len(known), 30)
            assert found.scored.low < found.scored.mean < found.scored.high


def test_gains_are_paired_on_the_items_that_both_have(table: Table):
    for benchmark in BENCHMARKS:
        for judge in JUDGES:
            chain, original = totals(benchmark, "Chain", judge), totals(benchmark, "FLUX", judge)
            both = chain.keys() & original.keys()
            found = cell(table, "Chain", benchmark, judge).scored
            assert found.gain.mean == pytest.approx(fmean(chain[id] - original[id] for id in both))
            assert found.common == len(both)
            assert found.gain.low < found.gain.mean < found.gain.high
            assert 0 < found.p <= 1
    assert not cell(table, "FLUX", "psr", GPT).scored.gain
    assert not cell(table, "Step1X-Edit", "psr", GPT).scored.gain


def test_the_average_is_the_mean_of_the_columns_and_so_is_its_gain(table: Table):
    cells = [cell(table, "Chain", benchmark, judge) for benchmark in BENCHMARKS for judge in JUDGES]
    average = cell(table, "Chain", AVERAGE)
    assert average.scored.mean == pytest.approx(fmean(one.scored.mean for one in cells))
    assert average.as_zero.mean == pytest.approx(fmean(one.as_zero.mean for one in cells))
    assert average.scored.gain.mean == pytest.approx(fmean(one.scored.gain.mean for one in cells))
    assert average.scored.high - average.scored.low < min(one.scored.high - one.scored.low for one in cells)
    assert 0 < average.scored.p <= 1


def test_slices_are_those_items_and_parts(study: Study, tmp_path: Path):
    report = make_report([one.folders[0] for one in study.benchmarks.values()], None, seed=0)
    found = next(one for one in report.breakdowns if (one.benchmark, one.judge) == ("psr", GPT))
    parts, difficulty, action = found.tables
    assert [column.head for column in difficulty.columns] == ["low", "medium", "high"]
    assert {column.head for column in action.columns} == {"Adjust", "Transform", "Relighting", "Apply"}
    scored = totals("psr", "Chain", GPT)
    low = [scored[item.id] for item in items(30) if item.difficulty == "low" and item.id in scored]
    assert cell(difficulty, "Chain", "low", "16 items").scored.mean == pytest.approx(fmean(low))
    adjusted = [scored[item.id] for item in items(30) if "Adjust" in item.actions and item.id in scored]
    assert cell(action, "Chain", "Adjust", "15 items").scored.mean == pytest.approx(fmean(adjusted))
    three = [cell(parts, "Chain", column.head, "30 items").scored.mean for column in parts.columns]
    assert sum(three) == pytest.approx(fmean(scored.values()))


def test_a_system_without_a_score_is_undefined_everywhere_and_nowhere_0(tmp_path: Path):
    def score(item: str, system: str, judge: str, sample: int) -> Score | str:
        return "http: 500" if system == "Chain" and judge == GEMINI else Score(2, 2, 2)

    study = read_study([write_evaluation(tmp_path / "psr", "psr", SYSTEMS, JUDGES, items(8), score)])
    table = main_table(study, main_rows(study)[0], 0)
    assert math.isnan(cell(table, "Chain", "psr", GEMINI).scored.mean)
    assert math.isnan(cell(table, "Chain", AVERAGE).scored.mean)
    assert cell(table, "Chain", "psr", GEMINI).as_zero.mean == 0
    grid = scores_grid(table, short_names(study.judges))
    line = next(line for line in grid.lines if line.label == "Chain")
    assert [str(text) for text in line.texts] == ["6.00 [6.00, 6.00] 100 %", "n/a 0.0 %", "n/a 50.0 %", "n/a"]
    rows = long_rows([table])
    chain = next(row for row in rows if row[2:5] == ["Chain", "psr", GEMINI])
    assert chain[5:8] == ["", "", ""]


GRID = Grid(
    "50 % & more_or_less",
    (Head("psr", "a|b"), Head("psr", "c"), Head("Average")),
    (
        Line(
            "flux", "Chain {1}", (Text("7.00", "[6, 8]", "99.0 %", best=True), Text("n/a"), Text("−0.18", "p < 0.001"))
        ),
        Line("", "alone", (Text("1"), Text("2"), Text("3"))),
    ),
    "A caption.",
)


def test_markdown_has_a_cell_for_each_head_whatever_the_names_hold():
    rows = [line for line in markdown(GRID).splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {6}
    assert "| flux | Chain {1} | **7.00** [6, 8] 99.0 % | n/a | −0.18 p < 0.001 |" in rows


def test_latex_is_escaped_balanced_and_as_wide_as_its_heads():
    text = latex(GRID, "t")
    bare = re.sub(r"\\.", "", text)
    assert bare.count("{") == bare.count("}")
    assert r"50 \% \& more\_or\_less" in text
    assert r"\multicolumn{2}{c}{psr} & \multicolumn{1}{c}{Average}" in text
    assert r"\cmidrule(lr){2-3}" in text
    assert r"{@{}c@{}}\textbf{7.00}\\{\tiny {[}6, 8]}\\{\tiny 99.0 \%}\end{tabular}" in text
    assert r"$-$0.18" in text
    rows = [line for line in text.splitlines() if line.endswith(r"\\") and "multicolumn{4}" not in line]
    widths = [
        sum(map(int, re.findall(r"multicolumn\{(\d)\}", row))) or row.replace(r"\&", "").count("&") for row in rows
    ]
    assert widths == [3] * 4
    for word in ("toprule", "midrule", "bottomrule", "end{table*}"):
        assert word in text


def test_the_csv_has_every_number_once_and_reads_back(table: Table):
    rows = list(csv.DictReader(io.StringIO(csv_text(long_rows([table])))))
    assert len(rows) == len(SYSTEMS) * 5
    chain = next(row for row in rows if (row["row"], row["column"], row["judge"]) == ("Chain", "psr", GPT))
    known = totals("psr", "Chain", GPT)
    assert float(chain["mean"]) == pytest.approx(fmean(known.values()), abs=1e-4)
    assert float(chain["mean_failures_as_0"]) == pytest.approx(sum(known.values()) / 30, abs=1e-4)
    assert (int(chain["scored"]), int(chain["items"])) == (len(known), 30)


def test_numbers_are_never_prettier_than_they_are():
    assert percent(0.9999) == "99.9 %"
    assert percent(1.0) == "100 %"
    assert percent(0.94996) == "94.9 %"
    assert percent(0.285) == "28.5 %"
    assert percent(math.nan) == "n/a"
    assert [p_text(p) for p in (0.0004, 0.0123, math.nan)] == ["p < 0.001", "p = 0.012", ""]
    assert [signed(value) for value in (1.017, -0.18, -0.001)] == ["+1.02", "−0.18", "0.00"]


def test_judges_lose_their_address_only_where_that_leaves_them_apart():
    assert short_names([GPT, GEMINI, "pixel"]) == {
        GPT: "gpt-4o-2024-11-20",
        GEMINI: "gemini-2.5-flash",
        "pixel": "pixel",
    }
    twins = ["openai:http://a/v1#judge", "openai:http://b/v1#judge"]
    assert short_names(twins) == {name: name for name in twins}


def test_the_quoted_averages_and_gains_are_those_of_the_quoted_columns():
    for rows in TABLE_1.values():
        for numbers in rows.values():
            # the paper prints 8.39 for Qwen-Image-Edit, whose columns make 8.378
            assert fmean(numbers[:6]) == pytest.approx(numbers[6], abs=0.012)
            if len(numbers) == 8:
                assert numbers[6] - rows["Original"][6] == pytest.approx(numbers[7], abs=0.0101)
    for rows in TABLE_4.values():
        for numbers in rows.values():
            assert fmean(numbers[:3]) == pytest.approx(numbers[3], abs=0.0101)


def test_table_4_and_figure_5_are_the_gpt_4o_columns_of_flux_in_table_1():
    flux = TABLE_1["FLUX.1-Kontext-dev"]
    for rows in TABLE_4.values():
        assert rows["Original"][:3] == flux["Original"][0:6:2]
        assert rows["Qwen2.5-VL-7B"][:3] == flux["ImageEdit-R1"][0:6:2]
    assert FIGURE_5["single-turn"] == flux["ImageEdit-R1"][0]


def test_every_quoted_table_says_that_it_is_quoted_and_from_where():
    for name, grid in quoted_grids().items():
        assert grid.quoted
        assert grid.caption.startswith('Quoted from "ImageEdit-R1: Boosting Multi-Agent Image Editing')
        assert name in grid.caption
        assert {len(line.texts) for line in grid.lines} == {len(grid.heads)}
