"""Replies of judges: a score where one JSON object has three whole numbers in range, else the reason; never a guess."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ier1_plugin.chat import Completion
from ier1_plugin.evaluation.judges.base import read_verdict
from ier1_plugin.evaluation.records import DIMENSIONS, Score

JSON = '{"reasoning": "The lamp is gone.", "fulfilment": 3, "quality": 2, "preservation": 1}'
LINES = "Fulfilment: 3\nQuality: 2\nPreservation: 1"

READABLE = {
    "JSON": JSON,
    "JSON over several lines": json.dumps(json.loads(JSON), indent=2),
    "a whole float": JSON.replace("3", "3.0"),
    "another order and no reasoning": '{"preservation": 1, "quality": 2, "fulfilment": 3}',
    "labels and numbers in the reasoning": JSON.replace("The lamp is gone.", "Quality: 3 at first sight, a 10/10 edit"),
    "a refusal in the reasoning": JSON.replace("The lamp is gone.", "I'm sorry, I can't see any lamp."),
    "a fence": f"```json\n{JSON}\n```",
    "thoughts before": f"<think>Quality: 1? No, 3, or 2/5.</think>\n{JSON}",
}

UNSCORED = {
    "nothing": ("", "unreadable: the reply is empty"),
    "a bare number": ("4", "unreadable: '4'; wanted an object"),
    "a list of numbers": ("[3, 2, 1]", "unreadable: '[3, 2, 1]'; wanted an object"),
    "an empty object": ("{}", "unreadable"),
    "prose": ("I would give this edit a 3 out of 4.", "unreadable"),
    "labelled lines": (LINES, "unreadable"),
    "a refusal in words": ("I'm sorry, but I can't assist with that.", "unreadable"),
    "words around": (f"Here is my verdict: {JSON}", "unreadable"),
    "lines beside JSON": (f"{LINES}\n{JSON}", "unreadable"),
    "two verdicts": (f"{JSON}\n{JSON}", "unreadable"),
    "a key twice": (JSON[:-1] + ', "quality": 3}', "unreadable: a key occurs twice"),
    "a verdict inside": (f'{{"verdict": {JSON}}}', "unreadable"),
    "another spelling": (JSON.replace("fulfilment", "fulfillment"), "unreadable"),
    "one dimension missing": ('{"fulfilment": 3, "quality": 2}', "unreadable"),
    "JSON cut off": (JSON[:-9], "unreadable"),
    "thoughts cut off": (f"<think>Let me see.\n{LINES}", "unreadable"),
    "text for a number": (
        JSON.replace(" 3", ' "3"'),
        "unreadable: fulfilment is '3'; wanted a whole number from 0 to 4",
    ),
    "half a point": (JSON.replace(" 3", " 3.5"), "unreadable: fulfilment is '3.5'"),
    "true for a number": (JSON.replace(" 3", " true"), "unreadable: fulfilment is 'True'"),
    "null for a number": (JSON.replace(" 3", " null"), "unreadable: fulfilment is 'None'"),
    "a list for a number": (JSON.replace(" 3", " [3]"), "unreadable: fulfilment is"),
    "not a number": (JSON.replace(" 3", " NaN"), "unreadable"),
    "too large for a number": (JSON.replace(" 3", " 1e999"), "unreadable: fulfilment is 'inf'"),
    "too high": (JSON.replace(" 2", " 4"), "out of range: quality is 4; wanted 0 to 3"),
    "below zero": (JSON.replace(" 3", " -1"), "out of range: fulfilment is -1"),
}


@pytest.mark.parametrize("name", READABLE)
def test_one_object_with_three_numbers_is_read(name: str):
    assert read_verdict(Completion(READABLE[name])) == (Score(3, 2, 1), "")


@pytest.mark.parametrize("name", UNSCORED)
def test_everything_else_is_unscored_with_its_reason(name: str):
    text, wanted = UNSCORED[name]
    score, reason = read_verdict(Completion(text))
    assert score is None
    assert reason.startswith(wanted)
    assert "\n" not in reason
    assert len(reason) < 350


@pytest.mark.parametrize(
    ("completion", "wanted"),
    [
        (Completion(JSON, refusal="content filter"), "refusal: 'content filter'"),
        (Completion(JSON, cut_off=True), "unreadable: cut off at its length limit"),
    ],
)
def test_a_refusal_or_a_reply_that_was_cut_off_is_no_score_whatever_it_says(completion: Completion, wanted: str):
    score, reason = read_verdict(completion)
    assert score is None
    assert reason.startswith(wanted)


@given(st.integers(0, 4), st.integers(0, 3), st.integers(0, 3))
def test_every_score_is_read(fulfilment: int, quality: int, preservation: int):
    score = Score(fulfilment, quality, preservation)
    assert read_verdict(Completion(json.dumps({name: getattr(score, name) for name in DIMENSIONS}))) == (score, "")


@given(
    st.one_of(
        st.text(), st.text(alphabet='fulilmentqaypsrvo:=0123456789/*-`{}",. \n()'), st.from_regex(r"[\[{]{1,50}.*")
    )
)
@example("[" * 100_000)
@example(f'{{"fulfilment": {"9" * 5000}, "quality": 1, "preservation": 1}}')
@example("```" * 10_000)
@example("\ud800")
def test_no_reply_raises_and_each_has_a_score_or_a_reason(reply: str):
    score, reason = read_verdict(Completion(reply))
    assert (score is None) == bool(reason)


@pytest.mark.parametrize("place", [number for number, character in enumerate(JSON) if character.isdigit()])
def test_no_score_holds_a_number_that_the_reply_did_not_give(place: int):
    assert read_verdict(Completion(JSON[:place] + "x" + JSON[place + 1 :]))[0] is None
