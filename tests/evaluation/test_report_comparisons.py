"""Which rows are compared with what: by the systems' own settings, and as a file of comparisons says."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from fakes.evaluation_folders import GPT, settings
from fakes.known_scores import SYSTEMS, cell, scores_of, totals

from ier1_plugin.evaluation.report.comparisons import Comparison, Row, main_rows, read_comparisons, turn_comparison
from ier1_plugin.evaluation.report.estimates import AVERAGE, estimates, main_columns
from ier1_plugin.evaluation.report.tables import long_csv, scores_table, short_names, signed
from ier1_plugin.evaluation.scores import Scores, SystemResult
from ier1_plugin.pipeline.system import SYSTEM, System, shipped
from ier1_plugin.runs.errors import UserError
from ier1_plugin.task.schema import CHAIN


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> Scores:
    return scores_of(tmp_path_factory.mktemp("scores"))


def named(systems: dict[str, Any]) -> dict[str, SystemResult]:
    return {name: SystemResult(name, given) for name, given in systems.items()}


KNOWN = named(SYSTEMS)


def compared(scores: Scores, comparison: Comparison) -> Any:
    columns = main_columns(scores, comparison.rows)
    return estimates(scores, columns, comparison.rows, 0, comparison.title, average=True)


def test_rows_are_grouped_by_editor_with_the_original_first_as_reference():
    systems = {
        "B": settings(),
        "A": settings("original"),
        "folder": settings("original", "folder:x"),
        "human": {},
    }
    rows, notes = main_rows(named(systems))
    assert [(row.label, row.group, row.reference) for row in rows] == [
        ("folder", "Single model", None),
        ("human", "People", None),
        ("A", "flux-kontext", None),
        ("B", "flux-kontext", 2),
    ]
    assert notes == []


def test_the_original_is_the_one_in_the_same_settings_and_without_one_it_is_noted():
    systems = {
        "slow original": settings("original", steps=50),
        "original": settings("original"),
        "slow": settings(steps=50),
        "chain": settings(),
        "odd": settings(steps=3),
    }
    rows, (note,) = main_rows(named(systems))
    assert [row.reference for row in rows] == [None, None, 0, 1, None]
    assert note.startswith("odd has no gain: no system")
    # the seed is the last thing that tells originals apart
    systems = {f"{method} {seed}": settings(method, seed=seed) for method in ("original", CHAIN) for seed in (1, 2)}
    rows, notes = main_rows(named(systems | {"third": settings(seed=3)}))
    assert [row.reference for row in rows] == [None, None, 0, 1, None]
    assert notes[0].startswith("third has no gain: 2 systems")


def test_systems_that_differ_in_their_mode_alone_are_compared():
    comparison = turn_comparison(KNOWN)
    assert comparison
    assert [(row.label, row.systems, row.group, row.reference) for row in comparison.rows] == [
        ("single-turn", ("Chain",), "Chain", None),
        ("multi-turn", ("Chain, turn by turn",), "Chain", 0),
    ]
    originals = {mode: settings("original", mode=mode) for mode in ("single-turn", "multi-turn")}
    assert turn_comparison(named(originals)) is None


def test_several_runs_are_one_row_with_an_items_mean_over_them_and_the_mean_and_gain_of_each(
    scores: Scores, tmp_path: Path
):
    file = tmp_path / "comparisons.yaml"
    file.write_text('Runs:\n  0: [FLUX, Step1X-Edit]\n  4,000: [Chain, "Chain, turn by turn"]\n  9: Chain\n')
    (comparison,) = read_comparisons(file, scores.systems)
    assert comparison.numbers == (0, 4000, 9)
    table = compared(scores, comparison)
    before, after = ([totals("psr", name, GPT) for name in row.systems] for row in comparison.rows[:2])
    found, average = cell(table, "4,000", "psr", GPT), cell(table, "4,000", AVERAGE)
    means = [fmean(run[id] for run in after if id in run) for id in {*after[0], *after[1]}]
    assert found["mean"] == pytest.approx(fmean(means))
    assert (found["scored"], found["items"]) == (len(after[0]) + len(after[1]), 60)
    assert found["runs"] == pytest.approx([fmean(run.values()) for run in after])
    pairs = list(zip(after, before, strict=True))
    gains = [fmean(one[id] - other[id] for id in one.keys() & other.keys()) for one, other in pairs]
    assert found["gain_of_runs"] == pytest.approx(gains)
    columns = table.query("row == '4,000' and column != @AVERAGE")["runs"]
    assert average["runs"] == pytest.approx([fmean(runs[run] for runs in columns) for run in (0, 1)])
    assert cell(table, "0", "psr", GPT)["gain_of_runs"] == cell(table, "9", "psr", GPT)["runs"] == ()

    shown = scores_table(table, short_names(scores.judges))
    line = shown.cells.loc["", "4,000"]
    assert f"runs {found['runs'][0]:.2f}, {found['runs'][1]:.2f}" in line.iloc[0].lines
    assert f"runs {signed(average['gain_of_runs'][0])}, {signed(average['gain_of_runs'][1])}" in line.iloc[-1].lines
    assert "not over trainings" in shown.caption
    rows = csv.DictReader(io.StringIO(long_csv([table])))
    row = next(row for row in rows if (row["row"], row["column"], row["judge"]) == ("4,000", "psr", GPT))
    assert [float(one) for one in row["runs"].split("; ")] == pytest.approx(found["runs"], abs=1e-4)
    assert [float(one) for one in row["gain_of_runs"].split("; ")] == pytest.approx(gains, abs=1e-4)


def test_of_two_pairs_of_modes_only_the_one_that_is_given_is_replaced():
    systems = named(
        {
            f"{editor} {mode}": settings(editor=editor, mode=mode)
            for editor in "ab"
            for mode in ("single-turn", "multi-turn")
        }
    )
    given = Comparison("T", (Row("1", ("a single-turn",)), Row("2", ("a multi-turn",))))
    left = turn_comparison(systems, [given])
    assert left
    assert [row.systems for row in left.rows] == [("b single-turn",), ("b multi-turn",)]


def test_the_example_for_the_papers_table_4_and_figure_7_names_systems_that_are_shipped():
    examples = Path(__file__).resolve().parents[2] / "examples"
    known = {System.read(name).name for name in shipped(SYSTEM)}
    by_size = {f"ImageEdit-R1 {rows} rows, FLUX.1-Kontext-dev" for rows in (500, 1000, 2000, 4000)}
    systems = named({name: {} for name in [*known, *by_size]})
    table_4, goals, figure_7 = read_comparisons(examples / "comparisons.yaml", systems)
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
    "a label twice": ("T:\n  a: FLUX\n  a: Chain\n  b: Chain\n", "in line 3: found duplicate key a"),
    "labels that are printed alike": ("T:\n  500: FLUX\n  '500': Chain\n", "'T' has two labels that are printed alike"),
    "a list in itself": ("T: &x [*x]\n", "is not YAML that can be used: maximum recursion depth"),
    "no label": ("T:\n  ~: FLUX\n  b: Chain\n", "is not YAML that can be used: Incompatible key type 'NoneType'"),
    "text": ("nothing", "'nothing' compares nothing"),
    "no system": ("T:\n  a: FLUX\n  b: []\n", "'T' names no system at 'b'"),
}


@pytest.mark.parametrize("case", BAD_COMPARISONS)
def test_a_wrong_file_of_comparisons_is_one_line(tmp_path: Path, case: str):
    text, reason = BAD_COMPARISONS[case]
    file = tmp_path / "comparisons.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UserError, match=re.escape(reason)) as caught:
        read_comparisons(file, KNOWN)
    assert "\n" not in str(caught.value)
