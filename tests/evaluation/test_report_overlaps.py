"""Several folders of one benchmark: what counts where they overlap, and what is said of their judges."""

from __future__ import annotations

import json
from pathlib import Path

from fakes.evaluation_folders import GEMINI, GPT, items, judgement, settings, write_evaluation, write_judgements

from ier1_plugin.evaluation.judges.store import judgements_file
from ier1_plugin.evaluation.records import Score
from ier1_plugin.evaluation.report.facts import of_judge, told
from ier1_plugin.evaluation.scores import read_study

SYSTEMS = {"Original": settings("original"), "Chain": settings()}
GOOD, BAD = Score(4, 3, 3), Score(1, 1, 1)
NEW = "2026-11-25T00:00:00+00:00"


def folder(at: Path, **more: object) -> Path:
    given = {"benchmark": "psr", "systems": SYSTEMS, "judges": [GPT], "made": items(6), "score": lambda *_: GOOD}
    return write_evaluation(at, **given | more)  # type: ignore[arg-type]


def test_the_newer_of_two_judgements_counts_whatever_the_order_of_the_folders_and_it_is_said(tmp_path: Path):
    new = folder(tmp_path / "new", score=lambda *_: GOOD, date="2026-11-25T00:00:00+00:00")
    old = folder(tmp_path / "old", score=lambda *_: BAD, date="2026-11-24T00:00:00+00:00")
    for order in ([new, old], [old, new]):
        study = read_study(order)
        assert study.scores["psr", "Chain", GPT].total.tolist() == [10.0] * 6
        assert "old: 12 judgements don't count: another folder has newer ones of these items" in study.notes[0]


def test_all_samples_of_an_item_are_of_one_folder(tmp_path: Path):
    old = folder(tmp_path / "old", score=lambda *_: Score(0, 0, 0), samples=3)
    new = folder(tmp_path / "new", score=lambda *_: GOOD, date=NEW, made=items(2))
    for order in ([new, old], [old, new]):
        chain = read_study(order).scores["psr", "Chain", GPT]
        assert dict(zip(sorted(item.id for item in items(6)), chain.total, strict=True)) == {
            **{f"item-{number:04d}": 0.0 for number in range(2, 6)},
            "item-0000": 10.0,
            "item-0001": 10.0,
        }


def test_picture_and_plan_are_of_the_folder_whose_judgement_counts(tmp_path: Path):
    old = folder(tmp_path / "old")
    new = folder(tmp_path / "new", date=NEW, made=items(2))
    for order in ([new, old], [old, new]):
        study = read_study(order)
        shown = dict(zip(study.benchmarks["psr"].items, study.systems["Chain"].folders["psr"], strict=True))
        where = {item.id: place and place.parent.parent for item, place in shown.items()}
        assert where == {item.id: (new if item.id in ("item-0000", "item-0001") else old) for item in items(6)}


def test_a_system_has_no_folder_for_an_item_that_it_was_not_given(tmp_path: Path):
    one = folder(tmp_path / "one", systems={"Original": SYSTEMS["Original"]})
    other = folder(tmp_path / "other", systems={"Chain": SYSTEMS["Chain"]}, made=items(2))
    places = read_study([one, other]).systems["Chain"].folders["psr"]
    assert [place is not None for place in places] == [True, True, False, False, False, False]


def test_judges_that_looked_in_another_folder_only_are_said_to_have_seen_other_edits(tmp_path: Path):
    old = folder(tmp_path / "old", judges=[GPT, GEMINI], systems={"Chain": SYSTEMS["Chain"]})
    new = folder(tmp_path / "new", date=NEW, systems={"Chain": SYSTEMS["Chain"]})
    file = judgements_file(new, GPT)
    file.write_text(file.read_text().replace('"edited_sha256": "', '"edited_sha256": "ffff'))
    study = read_study([new, old])
    assert study.systems["Chain"].folders["psr"][0] == new / "systems/Chain"
    assert "Chain on psr: the judges looked at different edits of 6 items" in study.notes
    assert study.scores["psr", "Chain", GEMINI].total.tolist() == [10.0] * 6


def test_samples_of_an_edit_that_has_been_made_again_do_not_count(tmp_path: Path):
    at = folder(tmp_path / "psr", score=lambda *_: BAD, samples=3)
    again = [judgement(one, "Chain", GPT, 0, GOOD, NEW, edited_sha256="ff" * 32) for one in items(6)]
    write_judgements(at, GPT, again, mode="a")
    study = read_study([at])
    assert study.scores["psr", "Chain", GPT].total.tolist() == [10.0] * 6
    assert study.scores["psr", "Original", GPT].total.tolist() == [3.0] * 6
    assert study.notes == (f"{at}: 12 judgements don't count: they are of an earlier edit",)


def test_the_facts_of_every_folder_are_kept(tmp_path: Path):
    one, other = folder(tmp_path / "one"), folder(tmp_path / "more", made=items(9))
    benchmark = read_study([one, other]).benchmarks["psr"]
    assert {name: facts["sampled"] for name, facts in benchmark.facts.items()} == {"one": 6, "more": 9}
    assert "sampled 6 (one), 9 (more)" in told(benchmark.facts)
    assert "origin tests" in told(benchmark.facts)


def test_two_folders_of_one_name_go_by_their_paths(tmp_path: Path):
    one, other = folder(tmp_path / "a" / "psr"), folder(tmp_path / "b" / "psr", benchmark="realedit")
    assert list(read_study([one, other]).judges[GPT].facts) == [str(one), str(other)]


def answering(at: Path, model: str, **facts: object) -> Path:
    """With a model that answered, and more to say of the judge."""
    file = judgements_file(at, GPT)
    file.write_text(file.read_text().replace('"model": ""', f'"model": "{model}"'))
    run = json.loads((at / "evaluation.json").read_text())
    run["judges"][0] |= facts
    (at / "evaluation.json").write_text(json.dumps(run))
    return at


def test_of_a_judge_it_is_said_when_it_judged_what_answered_and_whether_it_was_tried(tmp_path: Path):
    one = answering(folder(tmp_path / "one"), "gpt-4o-2024-11-20", sanity="passed on 12 items, 2026-11-24")
    other = answering(folder(tmp_path / "other", benchmark="realedit", date=NEW), "gpt-4o-2024-11-20")
    study = read_study([one, other])
    assert of_judge(study.judges[GPT])[:3] == [
        "judged 2026-11-24 to 2026-11-25",
        "answered as gpt-4o-2024-11-20",
        "sanity passed on 12 items, 2026-11-24 (one), not tried (other)",
    ]
    assert study.notes == ()


def test_a_judge_that_another_model_answered_for_is_noted(tmp_path: Path):
    one = answering(folder(tmp_path / "one"), "gpt-4o-2024-08-06")
    other = answering(folder(tmp_path / "other", benchmark="realedit"), "gpt-4o-2024-11-20")
    study = read_study([one, other])
    answered = "gpt-4o-2024-08-06 (12), gpt-4o-2024-11-20 (12)"
    assert study.notes == (f"{GPT}: not one model answered but {answered}; what differs between rows may be the judge",)
    assert f"answered as {answered}" in of_judge(study.judges[GPT])


def test_a_judge_that_failed_its_sanity_check_is_noted(tmp_path: Path):
    at = folder(tmp_path / "psr")
    run = json.loads((at / "evaluation.json").read_text())
    run["failed_sanity"] = {GEMINI: {"date": "2026-11-25", "items": 12, "why": ["it does not see black images"]}}
    (at / "evaluation.json").write_text(json.dumps(run))
    assert read_study([at]).notes == (f"{at}: {GEMINI} failed its sanity check: it does not see black images",)


def test_the_dates_of_a_judge_are_those_of_what_it_was_asked(tmp_path: Path):
    at = folder(tmp_path / "psr", score=lambda item, *_: "missing image: gave up" if item == "item-0000" else GOOD)
    file = judgements_file(at, GPT)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    late = [one | {"date": NEW} if one["score"] is None else one for one in lines]
    file.write_text("".join(json.dumps(one) + "\n" for one in late))
    assert of_judge(read_study([at]).judges[GPT])[0] == "judged 2026-11-24"
