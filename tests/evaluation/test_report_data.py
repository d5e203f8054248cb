"""Reading folders of evaluations: merged by name, nothing dropped in silence, damage told in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes.evaluation_folders import GEMINI, GPT, items, judgement, settings, write_evaluation, write_judgements

from ier1_plugin.evaluation.judges.store import judgements_file
from ier1_plugin.evaluation.records import EvaluationError, Score
from ier1_plugin.evaluation.scores import read_study

SYSTEMS = {"Original": settings("original"), "Chain": settings()}
GOOD, BAD = Score(4, 3, 3), Score(1, 1, 1)


def folder(at: Path, **more: object) -> Path:
    given = {"benchmark": "psr", "systems": SYSTEMS, "judges": [GPT], "made": items(6), "score": lambda *_: GOOD}
    return write_evaluation(at, **given | more)  # type: ignore[arg-type]


def test_scores_follow_the_items_and_failures_keep_their_reason(tmp_path: Path):
    def score(item: str, system: str, judge: str, sample: int) -> Score | str:
        return "refusal: no" if item == "item-0003" and system == "Chain" else GOOD if system == "Chain" else BAD

    study = read_study([folder(tmp_path / "psr", score=score)])
    chain = study.scores["psr", "Chain", GPT]
    np.testing.assert_array_equal(chain.total, [10, 10, 10, np.nan, 10, 10])
    assert chain.reasons == {3: "refusal: no"}
    assert chain.replies[0] == "Fulfilment 4, quality 3."
    assert study.scores["psr", "Original", GPT].parts.tolist() == [[1, 1, 1]] * 6
    assert study.notes == ()


def test_an_items_score_is_the_mean_over_its_scored_samples(tmp_path: Path):
    said = [Score(4, 3, 3), "http: 500", Score(2, 2, 2)]
    study = read_study([folder(tmp_path / "psr", score=lambda item, system, judge, sample: said[sample], samples=3)])
    chain = study.scores["psr", "Chain", GPT]
    assert chain.total.tolist() == [8.0] * 6
    assert chain.spread == pytest.approx(np.std([10, 6], ddof=1))


def test_what_was_never_judged_is_an_unscored_item_not_a_missing_one(tmp_path: Path):
    at = folder(tmp_path / "psr", judges=[GPT, GEMINI])
    judgements_file(at, GEMINI).unlink()
    unseen = read_study([at]).scores["psr", "Chain", GEMINI]
    assert unseen.given.all()
    assert np.isnan(unseen.total).all()
    assert set(unseen.reasons.values()) == {"not judged"}


def test_folders_of_one_benchmark_are_merged_by_the_names_of_systems_and_judges(tmp_path: Path):
    one = folder(tmp_path / "one", systems={"Original": SYSTEMS["Original"]})
    other = folder(tmp_path / "other", systems={"Chain": SYSTEMS["Chain"]}, judges=[GPT, GEMINI])
    study = read_study([one, other])
    assert list(study.systems) == ["Original", "Chain"]
    assert list(study.judges) == [GPT, GEMINI]
    assert len(study.benchmarks["psr"].items) == 6
    assert set(study.scores) == {("psr", "Original", GPT), ("psr", "Chain", GPT), ("psr", "Chain", GEMINI)}


def test_a_judgement_made_again_in_the_same_file_takes_the_place_of_the_first(tmp_path: Path):
    at = folder(tmp_path / "psr", score=lambda *_: "http: 500")
    write_judgements(at, GPT, [judgement(items(1)[0], "Chain", GPT, 0, GOOD)], mode="a")
    chain = read_study([at]).scores["psr", "Chain", GPT]
    assert chain.total[0] == 10
    assert len(chain.reasons) == 5


def test_a_torn_last_line_is_an_item_that_was_not_judged(tmp_path: Path):
    at = folder(tmp_path / "psr")
    file = judgements_file(at, GPT)
    file.write_bytes(file.read_bytes()[:-20])
    chain = read_study([at]).scores["psr", "Chain", GPT]
    assert chain.reasons == {5: "not judged"}


def test_judgements_of_strangers_and_by_another_rubric_are_counted_and_left_out(tmp_path: Path):
    at = folder(tmp_path / "psr")
    one = items(1)[0]
    strangers = [
        judgement(replace(one, id="nowhere"), "Chain", GPT, 0, BAD),
        judgement(one, "Unknown", GPT, 0, BAD),
    ]
    write_judgements(at, "openai:unknown", [judgement(one, "Chain", "openai:unknown", 0, BAD)])
    write_judgements(at, GPT, [*strangers, judgement(one, "Chain", GPT, 1, BAD, rubric_sha256="0" * 64)], mode="a")
    study = read_study([at])
    assert study.scores["psr", "Chain", GPT].total.tolist() == [10.0] * 6
    assert [note.partition(": ")[2] for note in study.notes] == [
        "3 judgements don't count: evaluation.json or items.jsonl has no such item, system or judge",
        "1 judgements don't count: evaluation.json names another rubric",
    ]


def test_other_items_for_some_systems_and_other_settings_are_told(tmp_path: Path):
    one = folder(tmp_path / "one", systems={"Original": SYSTEMS["Original"]}, made=items(8))
    other = folder(tmp_path / "other", systems={"Original": settings("original", steps=9), "Chain": settings()})
    notes = "\n".join(read_study([one, other]).notes)
    assert "psr: not all systems were given the same items" in notes
    assert "Original: the folders differ in steps" in notes


def test_a_judge_with_another_rubric_in_another_folder_is_told(tmp_path: Path):
    one, other = folder(tmp_path / "one"), folder(tmp_path / "other", benchmark="realedit")
    file = other / "evaluation.json"
    file.write_text(file.read_text().replace("5f" * 32, "6a" * 32))
    lines = judgements_file(other, GPT)
    lines.write_text(lines.read_text().replace("5f" * 32, "6a" * 32))
    assert "judged" in "\n".join(read_study([one, other]).notes)
    assert read_study([one, other]).scores["realedit", "Chain", GPT].total[0] == 10


def rewritten(name: str, change: Callable[[str], str]) -> Callable[[Path], object]:
    return lambda at: (at / name).write_text(change((at / name).read_text()))


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no evaluation.json": (lambda at: (at / "evaluation.json").unlink(), "holds no evaluation.json; wanted a folder"),
    "half an evaluation.json": (rewritten("evaluation.json", lambda text: text[:50]), "evaluation.json is damaged"),
    "evaluation.json without systems": (
        rewritten("evaluation.json", lambda text: json.dumps(json.loads(text) | {"systems": 3})),
        "evaluation.json is damaged",
    ),
    "no items": (lambda at: (at / "items.jsonl").unlink(), "items.jsonl is missing or empty"),
    "a broken item": (rewritten("items.jsonl", lambda text: "{" + text), "items.jsonl is damaged"),
    "a broken judgement": (
        lambda at: judgements_file(at, GPT).write_text("nonsense\n{}\n"),
        "no judgement: b'nonsense",
    ),
    "a score out of range": (
        lambda at: judgements_file(at, GPT).write_text(
            judgements_file(at, GPT).read_text().replace('"fulfilment": 4', '"fulfilment": 9')
        ),
        "holds a line that is no judgement",
    ),
    "settings that are none": (
        rewritten("evaluation.json", lambda text: text.replace('"editor_settings": {}', '"editor_settings": "x"')),
        "the settings of Original are no settings",
    ),
    "an item with a number for a cluster": (
        rewritten("items.jsonl", lambda text: text.replace('"post-0"', "[1]")),
        "item 'item-0000' has something else where text was wanted",
    ),
    "a judgement with a list for an item": (
        rewritten("judgements/openai:gpt-4o-2024-11-20.jsonl", lambda text: text.replace('"item-0003"', "[]")),
        "holds a judgement that nothing can be made of: unhashable",
    ),
    "a judgement that is a number": (lambda at: judgements_file(at, GPT).write_text("3\n"), "judgement"),
    "no judgements": (lambda at: judgements_file(at, GPT).unlink(), "no judgements in"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_folder_is_one_line_that_says_what_and_where(tmp_path: Path, case: str):
    at = folder(tmp_path / "psr")
    damage, reason = DAMAGE[case]
    damage(at)
    with pytest.raises(EvaluationError) as caught:
        read_study([at])
    assert reason in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_id_with_two_requests_is_refused(tmp_path: Path):
    one, other = folder(tmp_path / "one"), folder(tmp_path / "other")
    file = other / "items.jsonl"
    file.write_text(file.read_text().replace("brighten it up", "darken it"))
    with pytest.raises(EvaluationError, match="item-0001 has one request in"):
        read_study([one, other])
