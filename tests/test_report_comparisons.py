"""Which rows are compared with what: by the systems' own settings, and as a file of comparisons says."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest
from evaluation_folders import GPT, settings
from known_scores import cell, study_of, totals

from ier1_plugin.evaluation.comparisons import main_rows, read_comparisons, turn_comparison
from ier1_plugin.evaluation.records import EvaluationError
from ier1_plugin.evaluation.results import main_table
from ier1_plugin.evaluation.study import Entrant, Study


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


BAD_COMPARISONS = {
    "gone": (None, "can't be read: No such file"),
    "no YAML": ("a: [", "is not YAML"),
    "empty": ("", "holds no comparison; wanted TITLE:"),
    "a list": ("- a\n", "holds no comparison"),
    "one row": ("T:\n  a: FLUX\n", "'T' compares nothing"),
    "unknown system": ("T:\n  a: FLUX\n  b: Nobody\n", "'T' names Nobody at 'b'; the systems are: Step1X-Edit; FLUX"),
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
    return replace(study, systems={name: Entrant(name, given, {}) for name, given in systems.items()})
