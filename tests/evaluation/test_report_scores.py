"""Reading folders of evaluations: one table, merged by name, nothing dropped in silence, damage in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.evaluation_folders import (
    DATE,
    GEMINI,
    GPT,
    RUBRIC,
    add_judgements,
    items,
    judgement,
    rewrite_judgements,
    settings,
    write_evaluation,
)

from ier1_plugin.evaluation.records import EvaluationError, Score
from ier1_plugin.evaluation.report.page import judge_lines
from ier1_plugin.evaluation.scores import ASKED, PARTS, Scores, read_scores

SYSTEMS = {"Original": settings("original"), "Chain": settings()}
GOOD, BAD = Score(4, 3, 3), Score(1, 1, 1)
NEW = "2026-11-25T00:00:00+00:00"


def folder(at: Path, **more: object) -> Path:
    given = {"benchmark": "psr", "systems": SYSTEMS, "judges": [GPT], "made": items(6), "score": lambda *_: GOOD}
    return write_evaluation(at, **given | more)  # type: ignore[arg-type]


def of(scores: Scores, system: str, judge: str = GPT, column: str = "total", benchmark: str = "psr") -> list[Any]:
    """A column of `by_item`, in the order of the items."""
    return scores.by_item[column].xs(system, level="system").xs(judge, level="judge").loc[benchmark].tolist()


def test_the_long_table_has_a_row_for_everything_that_was_to_be_judged(tmp_path: Path):
    def score(item: str, system: str, judge: str, sample: int) -> Score | str:
        return "refusal: no" if item == "item-0003" and system == "Chain" else GOOD if system == "Chain" else BAD

    at = folder(tmp_path / "psr", score=score)
    scores = read_scores([at])
    assert {*ASKED, "cluster", "sample", *PARTS, "unscored", "date", "folder"} <= {*scores.table.columns}
    assert len(scores.table) == 12
    assert {*scores.table["folder"]} == {str(at)}
    np.testing.assert_array_equal(of(scores, "Chain"), [10, 10, 10, np.nan, 10, 10])
    assert of(scores, "Chain", column="reason")[3] == "refusal: no"
    assert of(scores, "Chain", column="reply")[0] == "Fulfilment 4, quality 3."
    assert [of(scores, "Original", column=part)[0] for part in PARTS] == [1, 1, 1, 3]
    assert scores.matrix("psr", GPT, "total", ["Original", "Nobody"])["Original"].tolist() == [3.0] * 6
    assert np.isnan(scores.matrix("psr", GPT, "given", ["Nobody"])).all(axis=None)
    assert scores.notes == ()


def test_an_items_score_is_the_mean_over_its_scored_samples(tmp_path: Path):
    said = [GOOD, "http: 500", Score(2, 2, 2)]
    scores = read_scores([folder(tmp_path / "psr", score=lambda item, system, judge, n: said[n], samples=3)])
    assert of(scores, "Chain") == [8.0] * 6
    assert of(scores, "Chain", column="spread") == pytest.approx([np.std([10, 6], ddof=1)] * 6)


def test_what_was_never_judged_is_an_unscored_item_and_a_judgement_made_again_takes_the_place_of_the_first(
    tmp_path: Path,
):
    at = folder(tmp_path / "psr", judges=[GPT, GEMINI], score=lambda *_: "http: 500")
    rewrite_judgements(at, lambda one: None if one["judge"] == GEMINI else one)
    add_judgements(at, [judgement(items(1)[0], "Chain", GPT, 0, GOOD)])
    scores = read_scores([at])
    np.testing.assert_array_equal(of(scores, "Chain"), [10, *[np.nan] * 5])
    assert np.isnan(of(scores, "Chain", GEMINI)).all()
    assert of(scores, "Chain", GEMINI, "reason") == ["not judged"] * 6


def test_folders_of_one_benchmark_are_merged_by_the_names_of_systems_and_judges(tmp_path: Path):
    one = folder(tmp_path / "one", systems={"Original": SYSTEMS["Original"]})
    other = folder(tmp_path / "other", systems={"Chain": SYSTEMS["Chain"]}, judges=[GPT, GEMINI])
    scores = read_scores([one, other])
    assert (list(scores.systems), list(scores.judges), len(scores.items["psr"])) == (
        ["Original", "Chain"],
        [GPT, GEMINI],
        6,
    )
    asked = scores.table[["system", "judge"]].drop_duplicates().itertuples(index=False, name=None)
    assert {*asked} == {("Original", GPT), ("Chain", GPT), ("Chain", GEMINI)}


def test_judgements_of_strangers_and_by_another_rubric_are_counted_and_left_out(tmp_path: Path):
    at = folder(tmp_path / "psr")
    one = items(1)[0]
    add_judgements(
        at,
        [
            judgement(replace(one, id="nowhere"), "Chain", GPT, 0, BAD),
            judgement(one, "Unknown", GPT, 0, BAD),
            judgement(one, "Chain", GPT, 1, BAD, rubric_sha256="0" * 64),
        ],
    )
    scores = read_scores([at])
    assert of(scores, "Chain") == [10.0] * 6
    assert sorted(note.partition(": ")[2] for note in scores.notes) == [
        "1 judgements don't count: evaluation.json names another rubric",
        "2 judgements don't count: evaluation.json or items.jsonl has no such item, system or judge",
    ]


def test_what_differs_between_folders_is_noted(tmp_path: Path):
    one = folder(tmp_path / "one", systems={"Original": SYSTEMS["Original"]}, made=items(8))
    other = folder(tmp_path / "other", systems={"Original": settings("original", steps=9), "Chain": settings()})
    run = json.loads((other / "evaluation.json").read_text())
    run["judges"][0]["rubric_sha256"] = "6a" * 32
    run["failed_sanity"] = {GEMINI: {"date": "2026-11-25", "items": 12, "why": ["it does not see black images"]}}
    (other / "evaluation.json").write_text(json.dumps(run))
    rewrite_judgements(other, lambda record: record | {"rubric_sha256": "6a" * 32})
    notes = "\n".join(read_scores([one, other]).notes)
    assert "psr: not all systems were given the same items" in notes
    assert "Original: the folders differ in steps" in notes
    assert f"{GPT} judged {other} by another rubric" in notes
    assert f"{other}: {GEMINI} failed its sanity check: it does not see black images" in notes


@pytest.mark.parametrize("newest_first", [True, False])
def test_where_folders_overlap_the_newest_judgement_counts_with_all_samples_and_the_edit_of_its_folder(
    tmp_path: Path, newest_first: bool
):
    old = folder(tmp_path / "old", score=lambda *_: BAD, samples=3)
    new = folder(tmp_path / "new", date=NEW, made=items(2))
    scores = read_scores([new, old] if newest_first else [old, new])
    found = dict(zip(sorted(scores.items["psr"]), of(scores, "Chain"), strict=True))
    for number in range(6):
        id = f"item-{number:04d}"
        assert found[id] == (10 if number < 2 else 3)
        assert scores.batch("psr", id, "Chain") == (new if number < 2 else old) / "systems/Chain"
    assert f"{old}: 12 judgements don't count: another folder has newer ones of these items" in scores.notes


def test_a_judge_that_looked_in_another_folder_only_has_seen_other_edits_and_it_is_noted(tmp_path: Path):
    old = folder(tmp_path / "old", judges=[GPT, GEMINI], systems={"Chain": SYSTEMS["Chain"]})
    new = folder(tmp_path / "new", date=NEW, systems={"Chain": SYSTEMS["Chain"]})
    rewrite_judgements(new, lambda one: one | {"edited_sha256": "ff" * 32})
    scores = read_scores([new, old])
    assert scores.batch("psr", "item-0000", "Chain") == new / "systems/Chain"
    assert "Chain on psr: the judges looked at different edits of 6 items" in scores.notes
    assert of(scores, "Chain", GEMINI) == [10.0] * 6


@pytest.mark.parametrize("date", [DATE, NEW])
def test_samples_of_an_edit_that_has_been_made_again_do_not_count_be_it_within_the_second(tmp_path: Path, date: str):
    at = folder(tmp_path / "psr", score=lambda *_: BAD, samples=3)
    add_judgements(at, [judgement(one, "Chain", GPT, 0, GOOD, date, edited_sha256="ff" * 32) for one in items(6)])
    scores = read_scores([at])
    assert of(scores, "Chain") == [10.0] * 6
    assert of(scores, "Original") == [3.0] * 6
    assert scores.notes == (f"{at}: 12 judgements don't count: they are of an earlier edit",)


def test_the_facts_of_a_folder_are_kept_by_its_path_where_two_have_the_same_name(tmp_path: Path):
    one, again = folder(tmp_path / "one"), folder(tmp_path / "again" / "one", benchmark="realedit")
    assert list(read_scores([one, again]).judges[GPT].facts) == [str(one), str(again)]


def test_the_facts_of_a_judge_are_when_it_judged_what_answered_and_whether_it_was_tried(tmp_path: Path):
    def lines(first: str, second: str) -> tuple[list[str], tuple[str, ...]]:
        one, other = folder(tmp_path / "one"), folder(tmp_path / "other", benchmark="realedit", date=NEW)
        # nobody was asked about an edit that was not there, so its date does not count
        late = {"score": None, "unscored": "missing image: gave up", "date": "2026-12-24", "model": ""}
        rewrite_judgements(one, lambda at: at | {"model": first} | (late if at["item"] == "item-0000" else {}))
        rewrite_judgements(other, lambda at: at | {"model": second})
        run = json.loads((one / "evaluation.json").read_text())
        run["judges"][0]["sanity"] = "passed on 12 items, 2026-11-24"
        (one / "evaluation.json").write_text(json.dumps(run))
        scores = read_scores([one, other])
        return judge_lines(scores.judges[GPT]), scores.notes

    facts, notes = lines("gpt-4o-2024-11-20", "gpt-4o-2024-11-20")
    assert facts == [
        "judged 2026-11-24 to 2026-11-25",
        "answered as gpt-4o-2024-11-20 (22)",
        f"one: sanity passed on 12 items, 2026-11-24, rubric sha256 {RUBRIC[:12]}, rubric judge.jinja, samples 1",
        f"other: sanity not tried, rubric sha256 {RUBRIC[:12]}, rubric judge.jinja, samples 1",
    ]
    assert notes == ()
    facts, (note,) = lines("gpt-4o-2024-08-06", "gpt-4o-2024-11-20")
    answered = "gpt-4o-2024-08-06 (10), gpt-4o-2024-11-20 (12)"
    assert f"answered as {answered}" in facts
    assert note.startswith(f"{GPT}: not one model answered but {answered}")


def rewritten(name: str, change: Callable[[str], str]) -> Callable[[Path], object]:
    return lambda at: (at / name).write_text(change((at / name).read_text()))


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no evaluation.json": (lambda at: (at / "evaluation.json").unlink(), "holds no evaluation.json"),
    "half an evaluation.json": (rewritten("evaluation.json", lambda text: text[:50]), "evaluation.json is damaged"),
    "no items": (lambda at: (at / "items.jsonl").unlink(), "items.jsonl is missing or empty"),
    "a broken item": (rewritten("items.jsonl", lambda text: "{" + text), "items.jsonl is damaged"),
    "no judgements": (lambda at: rewrite_judgements(at, lambda one: None), "no judgements in"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_folder_is_one_line_with_its_path(tmp_path: Path, case: str):
    at = folder(tmp_path / "psr")
    damage, reason = DAMAGE[case]
    damage(at)
    with pytest.raises(EvaluationError) as caught:
        read_scores([at])
    assert reason in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_id_with_two_requests_is_refused(tmp_path: Path):
    one, other = folder(tmp_path / "one"), folder(tmp_path / "other")
    file = other / "items.jsonl"
    file.write_text(file.read_text().replace("brighten it up", "darken it"))
    with pytest.raises(EvaluationError, match="item-0001 has one request in"):
        read_scores([one, other])
