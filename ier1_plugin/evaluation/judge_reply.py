"""What a judge wrote, read strictly: three labelled whole numbers in range, or the reason why there are none.

    read_reply('{"reasoning": "The lamp is gone.", "fulfilment": 4, "quality": 2, "preservation": 3}')
    -> Verdict(score=Score(4, 2, 3), reason="")
    read_reply("Fulfilment: 4/5\\nQuality: 2\\nPreservation: 3")
    -> Verdict(score=None, reason="unreadable: fulfilment is '4/5'; wanted a whole number from 0 to 4")

Three forms are taken: the whole reply as a JSON object; JSON in a Markdown fence; lines such as "**Quality:** 2". All
verdicts in a reply must agree. Nothing else counts, and no number is ever taken for another.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from ier1_plugin.evaluation.records import DIMENSIONS, Score

UNREADABLE, OUT_OF_RANGE, REFUSAL = "unreadable", "out of range", "refusal"
SHOWN = 80
# the rubric's spelling, and the American one that models fall back to
_SPELLINGS = {"fulfillment": "fulfilment"} | {name: name for name in DIMENSIONS}
_NAMES = "|".join(_SPELLINGS)
_THINK = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)
_FENCED = re.compile(r"```[ \t]*\w*[ \t]*\n?(.*?)```", re.DOTALL)
# several labels may share a line: "Fulfilment: 3, Quality: 2"
_PIECES = re.compile(rf"\n|[,;|][ \t]*(?=[*_#\s]*(?:{_NAMES})\b)", re.IGNORECASE)
_LABEL = re.compile(
    rf"""\s*(?:[-*•>#]+\s+|[0-9]+[.)]\s+)?      # a bullet, a heading or the number of a list
    [*_`]*(?P<name>{_NAMES})[*_`]*         # not in quotes: that is JSON, and torn
    \s*(?:\(\s*(?P<low>[0-9]+)\s*[-–]\s*(?P<high>[0-9]+)\s*\))?[*_]*
    \s*[:=][*_\s`]*(?P<value>[-+]?[0-9].*)""",
    re.IGNORECASE | re.VERBOSE,
)
# what may follow the number of a line: its scale, marks, a remark without digits in brackets
_NUMBER = re.compile(r"(?P<number>[-+]?[0-9]{1,9})\s*(?:/\s*(?P<scale>[0-9]+))?[*_`\s]*(?:\([^()0-9]*\))?[.,;*_`\s]*")
_REFUSAL = re.compile(
    r"\W*(?:i(?:['’]m| am) (?:very )?sorry|sorry|i apologi[sz]e|unfortunately|i can(?:['’]t|not)|i won['’]t|"
    r"i(?:['’]m| am) (?:unable|not able)|as an ai)\b",
    re.IGNORECASE,
)


class Verdict(NamedTuple):
    """A score, or the reason why there is none, which begins with its kind and a colon."""

    score: Score | None
    reason: str = ""


class _Unscored(Exception):
    """The reply holds no score; the message is the reason."""


def read_reply(text: str) -> Verdict:
    """The score in a reply. Never raises and never guesses."""
    words = _THINK.sub("", text).strip()
    try:
        return Verdict(_score(words))
    except _Unscored as error:
        return Verdict(None, str(error))


def refusal(text: str) -> Verdict:
    """The verdict on a reply that the server itself calls a refusal."""
    return Verdict(None, f"{REFUSAL}: {shown(text)}")


def cut_off(text: str) -> Verdict:
    """The verdict on a reply that met its length limit: what would have followed is not known."""
    return Verdict(None, f"{UNREADABLE}: cut off at its length limit: {shown(text[-SHOWN:])}")


def shown(text: str) -> str:
    """The beginning of a text in one line, quoted."""
    return repr(" ".join(text.split())[:SHOWN])


def _score(text: str) -> Score:
    if text.startswith("<think>"):
        raise _Unscored(cut_off(text).reason)
    whole = _parsed(text)
    said: dict[str, set[int]] = {}
    for name, number in _of_object(whole) if isinstance(whole, dict) else (*_fenced(text), *_labelled(text)):
        said.setdefault(name, set()).add(number)
    if not said:
        kind = REFUSAL if _REFUSAL.match(text) else UNREADABLE
        raise _Unscored(f"{kind}: {shown(text) if text else 'the reply is empty'}")
    return _only(said)


def _only(said: dict[str, set[int]]) -> Score:
    """The score where each dimension was named, and with one value only."""
    missing = [name for name in DIMENSIONS if name not in said]
    if missing:
        raise _Unscored(f"{UNREADABLE}: it does not say {' and '.join(missing)}")
    torn = next((name for name in DIMENSIONS if len(said[name]) > 1), None)
    if torn:
        values = " and ".join(map(str, sorted(said[torn])))
        raise _Unscored(f"{UNREADABLE}: two verdicts that differ: {torn} is {values}")
    return Score(**{name: said[name].pop() for name in DIMENSIONS})


def _parsed(text: str) -> Any:
    """Text as JSON; None if it is none."""
    try:
        return json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError):
        return None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, list[Any]]:
    """All values of every key: plain `dict` would take the last of two verdicts."""
    values: dict[str, list[Any]] = {}
    for key, value in pairs:
        values.setdefault(key.strip().casefold(), []).append(value)
    return values


def _of_object(values: dict[str, list[Any]]) -> Iterator[tuple[str, int]]:
    for key, name in _SPELLINGS.items():
        for value in values.get(key, ()):
            yield name, _json_number(name, value)


def _fenced(text: str) -> Iterator[tuple[str, int]]:
    for block in _FENCED.findall(text):
        parsed = _parsed(block)
        if isinstance(parsed, dict):
            yield from _of_object(parsed)


def _labelled(text: str) -> Iterator[tuple[str, int]]:
    """What the lines outside of fences say."""
    for piece in _PIECES.split(_FENCED.sub("\n", text)):
        label = _LABEL.fullmatch(piece.rstrip())
        if label:
            name = _SPELLINGS[label["name"].casefold()]
            yield name, _line_number(name, label)


def _line_number(name: str, label: re.Match[str]) -> int:
    if label["high"] and (int(label["low"]), int(label["high"])) != (0, DIMENSIONS[name]):
        raise _not_a_number(name, label[0].strip())
    return _text_number(name, label["value"])


def _json_number(name: str, value: Any) -> int:
    if isinstance(value, str):
        return _text_number(name, value.strip())
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value or value % 1:
        raise _not_a_number(name, value)
    return _in_range(name, int(value))


def _text_number(name: str, text: str) -> int:
    found = _NUMBER.fullmatch(text)
    if not found or found["scale"] not in (None, str(DIMENSIONS[name])):
        raise _not_a_number(name, text)
    return _in_range(name, int(found["number"]))


def _in_range(name: str, number: int) -> int:
    if not 0 <= number <= DIMENSIONS[name]:
        raise _Unscored(f"{OUT_OF_RANGE}: {name} is {str(number)[:SHOWN]}; wanted 0 to {DIMENSIONS[name]}")
    return number


def _not_a_number(name: str, value: Any) -> _Unscored:
    return _Unscored(f"{UNREADABLE}: {name} is {shown(str(value))}; wanted a whole number from 0 to {DIMENSIONS[name]}")
