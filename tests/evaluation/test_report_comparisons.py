"""Which rows are compared with what: by the systems' own settings, and as a file of comparisons says."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest
from fakes.evaluation_folders import GPT, settings
from fakes.known_scores import cell, study_of, totals

from ier1_plugin.evaluation.records import EvaluationError
from ier1_plugin.evaluation.report.comparisons import Comparison, Row, main_rows, read_comparisons, turn_comparison
from ier1_plugin.evaluation.report.grids import long_rows, scores_grid, short_names, signed
from ier1_plugin.evaluation.report.report import make_report
from ier1_plugin.evaluation.report.results import main_table
from ier1_plugin.evaluation.report.tables import csv_text, latex, markdown
from ier1_plugin.evaluation.study import Study, SystemResult
from ier1_plugin.pipeline.system import SYSTEM, System, shipped


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return study_of(tmp_path_factory.mktemp("study"))


def test_rows_are_grouped_by_editor_with_the_original_first_as_reference():
    study = Study({}, {}, {}, {}, ())
    systems = {"B": settings(), "A": settings("original"), "folder": settings("original", "folder:x"), "human": {}}
    rows, notes = main_rows(with_systems(study, systems))
    assert [(row.label, row.group, row.reference) for row in rows] == [
        ("folder", "Single model", None),
        ("human", "People", None),
        ("A", "flux-kontext", None),
        ("B", "flux-kontext", 2),
    ]
    assert notes == ()


def test_the_original_is_the_one_in_the_same_settings_and_without_one_it_is_said():
    study = Study({}, {}, {}, {}, ())
    systems = {
        "slow original": settings("original", steps=50),
        "original": settings("original"),
        "slow": settings(steps=50),
        "chain": settings(),
        "odd": settings(steps=3),
    }
    rows, notes = main_rows(with_systems(study, systems))
    assert [row.reference for row in rows] == [None, None, 0, 1, None]
    assert notes == ("odd has no gain: no system hands its editor, in its settings, the request as it is",)


def test_systems_that_differ_in_their_mode_alone_are_compared(study: Study):
    comparison = turn_comparison(study)
    assert comparison
    assert [(row.label, row.systems, row.group, row.reference) for row in comparison.rows] == [
        ("single-turn", ("Chain",), "Chain", None),
        ("multi-turn", ("Chain, turn by turn",), "Chain", 0),
    ]
    assert (
        turn_comparison(with_systems(study, {"A": settings("original"), "B": settings("original", mode="multi-turn")}))
        is None
    )


def test_several_runs_are_one_row_with_an_items_mean_over_them(study: Study, tmp_path: Path):
    file = tmp_path / "comparisons.yaml"
    file.write_text('Training rows:\n  0: FLUX\n  4,000: [Chain, "Chain, turn by turn"]\n')
    (comparison,) = read_comparisons(file, study)
    assert comparison.numbers == (0, 4000)
    table = main_table(study, comparison.rows, 0, comparison.title)
    runs = [totals("psr", name, GPT) for name in ("Chain", "Chain, turn by turn")]
    means = [fmean(run[id] for run in runs if id in run) for id in {*runs[0], *runs[1]}]
    found = cell(table, "4,000", "psr", GPT)
    assert found.scored.mean == pytest.approx(fmean(means))
    assert (found.count, found.items) == (len(runs[0]) + len(runs[1]), 60)


def test_several_runs_show_their_own_means_and_gains_run_by_run(study: Study, tmp_path: Path):
    file = tmp_path / "comparisons.yaml"
    file.write_text('Runs:\n  before: [FLUX, Step1X-Edit]\n  after: [Chain, "Chain, turn by turn"]\n  one: Chain\n')
    (comparison,) = read_comparisons(file, study)
    table = main_table(study, comparison.rows, 0, comparison.title)
    before, after = ([totals("psr", name, GPT) for name in row.systems] for row in comparison.rows[:2])
    found = cell(table, "after", "psr", GPT)
    assert found.runs == pytest.approx([fmean(run.values()) for run in after])
    pairs = list(zip(after, before, strict=True))
    gains = [fmean(one[id] - other[id] for id in one.keys() & other.keys()) for one, other in pairs]
    assert found.run_gains == pytest.approx(gains)
    columns = table.cells[1][:-1]
    assert cell(table, "after", "Average").runs == pytest.approx(
        [fmean(one.runs[run] for one in columns) for run in (0, 1)]
    )
    assert cell(table, "before", "psr", GPT).run_gains == ()
    assert cell(table, "one", "psr", GPT).runs == ()


def test_runs_are_printed_below_their_mean_and_in_the_csv(study: Study, tmp_path: Path):
    file = tmp_path / "comparisons.yaml"
    file.write_text('Runs:\n  before: [FLUX, Step1X-Edit]\n  after: [Chain, "Chain, turn by turn"]\n')
    table = main_table(study, read_comparisons(file, study)[0].rows, 0, "Runs")
    found, average = cell(table, "after", "psr", GPT), cell(table, "after", "Average")
    grid = scores_grid(table, short_names(study.judges))
    assert grid.lines[1].texts[0].runs == f"runs {found.runs[0]:.2f}, {found.runs[1]:.2f}"
    assert grid.lines[1].texts[-1].runs == f"runs {signed(average.run_gains[0])}, {signed(average.run_gains[1])}"
    assert "not over trainings" in grid.caption
    assert grid.lines[1].texts[0].runs in markdown(grid)
    assert grid.lines[1].texts[0].runs in latex(grid, "t")
    rows = list(csv.DictReader(io.StringIO(csv_text(long_rows([table])))))
    row = next(row for row in rows if (row["row"], row["column"], row["judge"]) == ("after", "psr", GPT))
    assert [float(one) for one in row["runs"].split("; ")] == pytest.approx(found.runs, abs=1e-4)
    assert [float(one) for one in row["gain_of_runs"].split("; ")] == pytest.approx(found.run_gains, abs=1e-4)
    assert "trainings" not in scores_grid(main_table(study, main_rows(study)[0], 0), {}).caption


def test_a_given_comparison_of_modes_takes_the_place_of_the_one_made_by_itself(study: Study, tmp_path: Path):
    file = tmp_path / "comparisons.yaml"
    file.write_text("Turns:\n  single: Chain\n  multi: Chain, turn by turn\n")
    folders = [one.folders[0] for one in study.benchmarks.values()]
    assert [one.title for one, _ in make_report(folders, file, 0).comparisons] == ["Turns"]
    file.write_text("Others:\n  single: Chain\n  multi: [FLUX, 'Chain, turn by turn']\n")
    titles = [one.title for one, _ in make_report(folders, file, 0).comparisons]
    assert titles == ["Single-turn and multi-turn", "Others"]


def test_of_two_pairs_of_modes_only_the_one_that_is_given_is_replaced():
    systems = {
        f"{editor} {mode}": settings(editor=editor, mode=mode)
        for editor in "ab"
        for mode in ("single-turn", "multi-turn")
    }
    study = with_systems(Study({}, {}, {}, {}, ()), systems)
    given = Comparison("T", (Row("1", ("a single-turn",)), Row("2", ("a multi-turn",))))
    left = turn_comparison(study, [given])
    assert left
    assert [row.systems for row in left.rows] == [("b single-turn",), ("b multi-turn",)]


def test_the_example_for_the_papers_table_4_and_figure_7_names_systems_that_are_shipped():
    examples = Path(__file__).resolve().parents[2] / "examples"
    named = {System.read(name).name for name in shipped(SYSTEM)}
    by_size = {f"ImageEdit-R1 {rows} rows, FLUX.1-Kontext-dev" for rows in (500, 1000, 2000, 4000)}
    study = with_systems(Study({}, {}, {}, {}, ()), {name: {} for name in [*named, *by_size]})
    table_4, goals, figure_7 = read_comparisons(examples / "comparisons.yaml", study)
    assert [row.label for row in table_4.rows] == ["Original", "Qwen2.5-VL-7B", "Qwen3-VL-8B"]
    assert [row.label for row in goals.rows[:2]] == ["with goal", "without goal"]
    assert figure_7.numbers == (0, 500, 1000, 2000, 4000)
    assert (
        f"SIZES:-{' '.join(row.label for row in figure_7.rows[1:])} all"
        in (examples / "ablation_data_size.sh").read_text()
    )


BAD_COMPARISONS = {
    "gone": (None, "can't be read: No such file"),
    "no YAML": ("a: [", "is not YAML"),
    "empty": ("", "holds no comparison; wanted TITLE:"),
    "a list": ("- a\n", "holds no comparison"),
    "one row": ("T:\n  a: FLUX\n", "'T' compares nothing"),
    "unknown system": ("T:\n  a: FLUX\n  b: Nobody\n", "'T' names Nobody at 'b'; the systems are: Step1X-Edit; FLUX"),
    "a title twice": ("T:\n  a: FLUX\n  b: Chain\nT:\n  c: FLUX\n  d: Chain\n", "in line 4: found duplicate key T"),
    "a label twice": ("T:\n  a: FLUX\n  a: Chain\n  b: Chain\n", "in line 3: found duplicate key a"),
    "labels that are printed alike": ("T:\n  500: FLUX\n  '500': Chain\n", "'T': the label '500' is there twice"),
    "a list in itself": ("T: &x [*x]\n", "is not YAML that can be used: maximum recursion depth"),
    "no label": ("T:\n  ~: FLUX\n  b: Chain\n", "is not YAML that can be used: Incompatible key type 'NoneType'"),
    "text": ("nothing", "'nothing' compares nothing"),
    "no system": ("T:\n  a: FLUX\n  b: []\n", "'T' names no system at 'b'"),
}


@pytest.mark.parametrize("case", BAD_COMPARISONS)
def test_a_wrong_file_of_comparisons_is_one_line(study: Study, tmp_path: Path, case: str):
    text, reason = BAD_COMPARISONS[case]
    file = tmp_path / "comparisons.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(EvaluationError, match=re.escape(reason)) as caught:
        read_comparisons(file, study)
    assert "\n" not in str(caught.value)


def with_systems(study: Study, systems: dict[str, dict[str, object]]) -> Study:
    return replace(study, systems={name: SystemResult(name, given, {}) for name, given in systems.items()})
