"""Replies of judges: a score where three labelled numbers in range say so, else the reason; never a guess."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ier1_plugin.evaluation.judges.verdict import read_reply
from ier1_plugin.evaluation.records import DIMENSIONS, Score

JSON = '{"reasoning": "The lamp is gone.", "fulfilment": 3, "quality": 2, "preservation": 1}'
LINES = "Fulfilment: 3\nQuality: 2\nPreservation: 1"
OTHER = '{"reasoning": "Worse than I thought.", "fulfilment": 1, "quality": 1, "preservation": 1}'
WANTED = Score(3, 2, 1)

READABLE = {
    "remarks under the names of dimensions": "**Fulfilment:** The lamp is gone.\n**Quality:** sharp\n"
    f"**Preservation:** the wall changed a little\n{JSON}",
    "JSON": JSON,
    "JSON with space around": f"\n\n  {JSON}\n",
    "JSON over several lines": json.dumps(json.loads(JSON), indent=2),
    "the American spelling": JSON.replace("fulfilment", "fulfillment"),
    "capitals": JSON.replace("fulfilment", "Fulfilment"),
    "a whole float": JSON.replace("3", "3.0"),
    "numbers as strings": JSON.replace("3", '"3"').replace(" 2", ' "2/3"'),
    "labels in the reasoning": JSON.replace("The lamp is gone.", "Quality: 3 at first sight\\nQuality: 1"),
    "numbers in the reasoning": JSON.replace("The lamp is gone.", "1. 4 of 5 lamps are gone, a 10/10 edit"),
    "a fence": f"```json\n{JSON}\n```",
    "a fence without a language": f"```\n{JSON}\n```",
    "a fence on one line": f"```{JSON}```",
    "a fence with words around": f"Here is my verdict on the 2 images:\n```json\n{JSON}\n```\nI hope it helps!",
    "the same verdict twice": f"```json\n{JSON}\n```\nIn short:\n{LINES}",
    "lines": LINES,
    "lines after reasoning with numbers": f"1. The request asks for 4 things.\n2. 10/10 colours.\n\n{LINES}",
    "bold labels": "**Fulfilment:** 3\n**Quality**: 2\n__Preservation:__ 1",
    "bold numbers": "Fulfilment: **3**\nQuality: **2**\nPreservation: **1**",
    "all bold": "**Fulfilment: 3**\n**Quality: 2**\n**Preservation: 1**",
    "bullets": "- Fulfilment: 3\n* Quality: 2\n• Preservation: 1",
    "a numbered list": "1. Fulfilment: 3\n2. Quality: 2\n3. Preservation: 1",
    "headings": "### Fulfilment: 3\n### Quality: 2\n### Preservation: 1",
    "equals signs": "fulfilment = 3\nquality = 2\npreservation = 1",
    "our own scale as a fraction": "Fulfilment: 3/4\nQuality: 2/3\nPreservation = 1/3",
    "our own scale in the label": "Fulfilment (0-4): 3\n**Quality (0–3):** 2\nPreservation (0-3): 1/3",
    "a remark in brackets": "Fulfilment: 3 (good)\nQuality: 2 (a soft seam)\nPreservation: 1.",
    "one line": "Fulfilment: 3, Quality: 2; Preservation: 1",
    "Windows line ends": LINES.replace("\n", "\r\n"),
    "thoughts before": f"<think>Quality: 1? No, 3, or 2/5.</think>\n{JSON}",
    "JSON after words": f"On the whole it is good.\n{JSON}\nThat is my verdict.",
    "the same verdict in lines and in bare JSON": f"{LINES}\n{JSON}",
    "the same verdict in words": f"Fulfilment is 3, because one lamp is left; the quality is 2.\n{LINES}",
    "words about a dimension": f"The quality is high and the preservation good; quality of 3 photos.\n{LINES}",
    "labels with words in the reasoning": JSON.replace("The lamp", "Preservation: the background is unchanged. It"),
    "other JSON in the reasoning": JSON.replace("The lamp is gone.", 'A {\\"quality\\": 0} {}?'),
    "a remark for each dimension": JSON.replace('"reasoning"', '"quality_reasoning": "2 seams", "Reason"'),
    "VIEScore's delimiters around our JSON": f"||V^=^V||\n{JSON}\n||V^=^V||",
    "lines in a fence": f"```\n{LINES}\n```",
    "thoughts without their opening tag": f"Fulfilment: 4\nQuality: 3\nno, worse\n</think>\n{JSON}",
    "thoughts twice": f"<think>a</think>{OTHER}<think>no</think>\n{LINES}",
    "a closing tag in the reasoning": JSON.replace("The", "A </think> sign. The"),
    "another order": "Preservation: 1\nQuality: 2\nFulfilment: 3",
}

UNSCORED = {
    "nothing": ("", "unreadable: the reply is empty"),
    "a bare number": ("4", "unreadable"),
    "a bold bare number": ("**4**", "unreadable"),
    "a bare fraction": ("4/5", "unreadable"),
    "a number in words": ("I would give this edit a 3 out of 4.", "unreadable"),
    "a list that begins with digits": ("1. The lamp is gone.\n2. The wall is clean.\n3. Fine.", "unreadable"),
    "numbers in the reasoning alone": ("There were 4 lamps, 3 are gone; score 2.", "unreadable"),
    "unlabelled numbers on lines": ("3\n2\n1", "unreadable"),
    "a list of numbers": ("[3, 2, 1]", "unreadable"),
    "a bracketed score": ('{"score": [3, 2], "reasoning": "fine"}', "unreadable"),
    "an empty object": ("{}", "unreadable"),
    "another scale": (LINES.replace("3", "3/5"), "unreadable: fulfilment is '3/5'; wanted a whole number from 0 to 4"),
    "percent": (LINES.replace("3", "75%"), "unreadable: fulfilment is '75%'"),
    "another scale in the label": (LINES.replace("Fulfilment", "Fulfilment (0-10)"), "unreadable: fulfilment is"),
    "another scale in brackets": (LINES.replace("3", "3 (out of 5)"), "unreadable: fulfilment is"),
    "the scale of another dimension": (LINES.replace("2", "2/4"), "unreadable: quality is '2/4'"),
    "another scale in JSON": (JSON.replace(" 3", ' "3/5"'), "unreadable: fulfilment is '3/5'"),
    "half a point": (JSON.replace(" 3", " 3.5"), "unreadable: fulfilment is '3.5'"),
    "half a point on a line": (LINES.replace("3", "3.5"), "unreadable: fulfilment is '3.5'"),
    "a range": (LINES.replace("3", "3-4"), "unreadable: fulfilment is '3-4'"),
    "one or the other": (LINES.replace("3", "3 or 4"), "unreadable: fulfilment is '3 or 4'"),
    "a condition": (LINES.replace("3", "3 would be too harsh"), "unreadable: fulfilment is"),
    "true for a number": (JSON.replace(" 3", " true"), "unreadable: fulfilment is 'True'"),
    "null for a number": (JSON.replace(" 3", " null"), "unreadable: fulfilment is 'None'"),
    "a list for a number": (JSON.replace(" 3", " [3]"), "unreadable: fulfilment is"),
    "an object for a number": (JSON.replace(" 3", ' {"score": 3}'), "unreadable: fulfilment is"),
    "not a number": (JSON.replace(" 3", " NaN"), "unreadable: fulfilment is 'nan'"),
    "infinity": (JSON.replace(" 3", " Infinity"), "unreadable: fulfilment is 'inf'"),
    "digits of another script": (LINES.replace("3", "٣"), "unreadable: it does not say fulfilment"),
    "too high": (JSON.replace(" 2", " 4"), "out of range: quality is 4; wanted 0 to 3"),
    "much too high": (JSON.replace(" 3", " 25"), "out of range: fulfilment is 25; wanted 0 to 4"),
    "below zero": (JSON.replace(" 3", " -1"), "out of range: fulfilment is -1"),
    "too high on a line": (LINES.replace("3", "8"), "out of range: fulfilment is 8"),
    "below zero on a line": (LINES.replace("3", "-1"), "out of range: fulfilment is -1"),
    "ten of ten": (LINES.replace("3", "10"), "out of range: fulfilment is 10"),
    "one dimension missing": ('{"fulfilment": 3, "quality": 2}', "unreadable: it does not say preservation"),
    "one line missing": ("Fulfilment: 3\nPreservation: 1", "unreadable: it does not say quality"),
    "names that only look alike": (
        LINES.replace("Quality", "Image quality score"),
        "unreadable: it does not say quality",
    ),
    "JSON cut off": (JSON[:-9], "unreadable"),
    "JSON cut off behind the last number": (JSON[:-1], "unreadable"),
    "JSON lines cut off": (json.dumps(json.loads(JSON), indent=2)[:-2], "unreadable"),
    "a fence cut off": (f"```json\n{json.dumps(json.loads(JSON), indent=2)[:-2]}", "unreadable"),
    "thoughts cut off": (f"<think>Let me see.\n{LINES}", "unreadable: cut off"),
    "two verdicts in JSON": (JSON[:-1] + ', "quality": 3}', "unreadable: two verdicts that differ: quality is 2 and 3"),
    "two spellings in JSON": (JSON[:-1] + ', "fulfillment": 1}', "unreadable: two verdicts that differ"),
    "two fences that differ": (
        f"```json\n{JSON}\n```\n```json\n{JSON.replace('3', '1')}\n```",
        "unreadable: two verdicts",
    ),
    "a fence and lines that differ": (f"```json\n{JSON}\n```\nQuality: 3", "unreadable: two verdicts that differ"),
    "two lines that differ": (f"{LINES}\nOn reflection,\nQuality: 1", "unreadable: two verdicts that differ: quality"),
    "lines, then other JSON": (f"{LINES}\n\nOn reflection, my final verdict:\n{OTHER}", "unreadable: two verdicts"),
    "lines, then other JSON over several lines": (
        f"{LINES}\n{json.dumps(json.loads(OTHER), indent=2)}",
        "unreadable: two verdicts that differ",
    ),
    "a fence, then other JSON": (f"```json\n{JSON}\n```\nNo:\n{OTHER}", "unreadable: two verdicts that differ"),
    "two bare objects that differ": (f"{JSON}\n{OTHER}", "unreadable: two verdicts that differ"),
    "lines, then JSON that breaks off": (f"{LINES}\n{OTHER[:-9]}", "unreadable: beside its verdict it says"),
    "lines, then JSON that breaks off before its numbers": (f"{LINES}\n{OTHER[:30]}", "unreadable: beside its verdict"),
    "lines, then a fence that breaks off": (f"{LINES}\n```json\n{OTHER[:30]}", "unreadable: beside its verdict"),
    "lines, then a fence that has just begun": (f"{LINES}\n```json\n", "unreadable: beside its verdict"),
    "JSON, then JSON that breaks off": (f"{JSON}\n{OTHER[:-9]}", "unreadable: beside its verdict"),
    "lines, then final lines": (f"{LINES}\nFinal fulfilment: 1\nFinal quality: 1", "unreadable: beside its verdict"),
    "a revised line": (f"{LINES}\n**Revised Fulfilment:** 1", "unreadable: beside its verdict it says"),
    "a line of a longer name": (f"{LINES}\nQuality score (0-3) = 1", "unreadable: beside its verdict it says"),
    "a number struck out": (f"{LINES}\nQuality: ~~2~~ 1", "unreadable: beside its verdict it says"),
    "a line with words": (f"{LINES}\nQuality: should be 1", "unreadable: beside its verdict it says"),
    "another number in words": (f"{LINES}\nOn reflection the quality should be 1.", "unreadable: beside its verdict"),
    "another number in a table": (f"{LINES}\n| Quality | 1 |", "unreadable: beside its verdict it says"),
    "another number behind an arrow": (f"{LINES}\nquality → 1, because of the seam", "unreadable: beside its verdict"),
    "a dict of Python": (f"{LINES}\n{{'fulfilment': 1}}", "unreadable: beside its verdict it says"),
    "a nested verdict": (JSON[:-1] + ', "revised": {"fulfilment": 1}}', "unreadable: its JSON has 'fulfilment' where"),
    "a verdict in a list": (JSON[:-1] + ', "revised": [{"Quality": 1}]}', "unreadable: its JSON has 'quality' where"),
    "a verdict inside": (f'{{"verdict": {JSON}}}', "unreadable: its JSON has 'fulfilment' where no dimension belongs"),
    "a key of a longer name": (JSON[:-1] + ', "final_fulfilment": 1}', "unreadable: its JSON has 'final_fulfilment'"),
    "a key of a longer name with a remark's": (JSON[:-1] + ', "quality_note": 1}', "unreadable: its JSON has"),
    "a scale in words": (LINES.replace("3", "3 (out of ten)"), "unreadable: fulfilment is '3 (out of ten)'"),
    "another scale in words": (LINES.replace("3", "3 (on a ten-point scale)"), "unreadable: fulfilment is"),
    "a scale in words in JSON": (JSON.replace(" 3", ' "3 (out of ten)"'), "unreadable: fulfilment is"),
    "a verdict in thoughts alone": (f"{LINES}\n</think>", "unreadable: the reply is empty"),
    "thoughts cut off after a verdict": (f"{LINES}\n<think>Hm, no,", "unreadable: cut off"),
    "VIEScore's delimiters": ('||V^=^V||\n{"score": [3, 2], "reasoning": "fine"}\n||V^=^V||', "unreadable"),
    "RISEBench's final scores": ("The lamp is gone.\nFinal Score(s): 3,2,1", "unreadable"),
    "one of KRIS-Bench's scores": ('{"consistency_score": 3, "reasoning": "1. fine"}', "unreadable"),
    "a box": ("The lamp is gone: \\boxed{3}", "unreadable"),
    "a refusal": ("I'm sorry, but I can't assist with that.", "refusal: \"I'm sorry, but I can't assist with that.\""),
    "another refusal": ("I can’t help with identifying people in images.", "refusal"),
    "a polite refusal": ("Unfortunately, I am not able to see the images.", "refusal"),
    "a firm refusal": ("I must decline.", "refusal: 'I must decline.'"),
    "an uneasy refusal": ("I do not feel comfortable rating this.", "refusal"),
    "another uneasy refusal": ("I'm not comfortable with this content.", "refusal"),
    "a refusal with numbers": (f"I'm sorry, but I can't rate these images.\n{LINES}", "refusal: \"I'm sorry, but I"),
    "an HTML page": ("<html><body>502 Bad Gateway</body></html>", "unreadable"),
    "an error text": ("Error code: 429 - rate limit", "unreadable"),
}


@pytest.mark.parametrize("name", READABLE)
def test_a_labelled_verdict_is_read(name: str):
    assert read_reply(READABLE[name]) == (WANTED, "")


@pytest.mark.parametrize("name", UNSCORED)
def test_everything_else_is_unscored_with_its_reason(name: str):
    reply, reason = UNSCORED[name]
    score, said = read_reply(reply)
    assert score is None
    assert said.startswith(reason)
    assert "\n" not in said
    assert len(said) < 200


def reasoned(words: str) -> str:
    return json.dumps({"reasoning": words, "fulfilment": 0, "quality": 0, "preservation": 0})


@pytest.mark.parametrize(
    "words",
    [
        "I'm sorry, I can't help with this",
        "I’m sorry, but I can’t assist with that request.",
        "Sorry. I cannot help you.",
        "Unfortunately, I am unable to rate these images because they show a real person.",
        "I apologize, but I won't be able to assess this edit.",
        "As an AI language model, I cannot view images.",
        "I cannot see the edited image.",
        "I must respectfully decline.",
        "I do not feel comfortable rating this.",
    ],
)
def test_a_refusal_that_was_forced_into_the_schema_is_no_score(words: str):
    score, reason = read_reply(reasoned(words))
    assert score is None
    assert reason.startswith("refusal: ")
    assert words[-8:] in reason or len(words) > 50


@pytest.mark.parametrize(
    "words",
    [
        "I can't see any lamp, it was removed",
        "I cannot see the edit; the images are the same.",
        "I can't help noticing the seam.",
        "I can't help but notice the seam.",
        "I cannot rate this higher than 0.",
        "I cannot rate the edited image higher.",
        "Unfortunately, the lamp is still there.",
        "I'm sorry to say that the lamp is still there.",
        "Sorry, but nothing was done.",
        "I cannot identify any change.",
        "The sign says: I'm sorry, I can't help with this",
        "The editor declined to do anything.",
        "",
    ],
)
def test_an_honest_look_at_the_pictures_is_no_refusal(words: str):
    assert read_reply(reasoned(words)) == (Score(0, 0, 0), "")


@given(st.integers(0, 4), st.integers(0, 3), st.integers(0, 3))
def test_every_score_is_read_from_every_form(fulfilment: int, quality: int, preservation: int):
    score = Score(fulfilment, quality, preservation)
    values = {name: getattr(score, name) for name in DIMENSIONS}
    assert read_reply(json.dumps(values)).score == score
    assert read_reply(f"Well:\n```json\n{json.dumps(values)}\n```").score == score
    assert read_reply("\n".join(f"**{name.title()}**: {value}" for name, value in values.items())).score == score


@given(
    st.one_of(
        st.text(), st.text(alphabet='fulilmentqaypsrvo:=0123456789/*-`{}",. \n()'), st.from_regex(r"[\[{]{1,50}.*")
    )
)
@example("[" * 100_000)
@example("9" * 10_000)
@example(f'{{"fulfilment": {"9" * 5000}, "quality": 1, "preservation": 1}}')
@example("Fulfilment: " + "9" * 5000)
@example("```" * 10_000)
@example("\ud800")
def test_no_reply_raises_and_each_has_a_score_or_a_reason(reply: str):
    score, reason = read_reply(reply)
    assert (score is None) == bool(reason)


@given(st.data())
def test_no_score_holds_a_number_that_the_reply_did_not_give(data: st.DataObject):
    """The digits of the verdict are swapped for letters one after another; whatever is left must not be scored."""
    text = data.draw(st.sampled_from([JSON, LINES, f"```json\n{JSON}\n```"]))
    places = [number for number, character in enumerate(text) if character.isdigit()]
    gone = data.draw(st.sampled_from(places))
    assert read_reply(text[:gone] + "x" + text[gone + 1 :]).score is None
