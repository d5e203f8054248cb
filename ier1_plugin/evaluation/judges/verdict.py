"""What a judge wrote, read strictly: three labelled whole numbers in range, or the reason why there are none.

    read_reply('{"reasoning": "The lamp is gone.", "fulfilment": 4, "quality": 2, "preservation": 3}')
    -> Verdict(score=Score(4, 2, 3), reason="")
    read_reply("Fulfilment: 4/5\\nQuality: 2\\nPreservation: 3")
    -> Verdict(score=None, reason="unreadable: fulfilment is '4/5'; wanted a whole number from 0 to 4")

Two forms are taken: JSON objects, fenced or bare, and lines such as "**Quality:** 2". All verdicts in a reply must
agree, and nothing beside them may state a dimension in another way. What stands before </think> does not count.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from ier1_plugin.evaluation.judges.number import (
    SHOWN,
    UNREADABLE,
    Unscored,
    json_number,
    not_a_number,
    shown,
    text_number,
)
from ier1_plugin.evaluation.judges.refusal import refuses
from ier1_plugin.evaluation.records import DIMENSIONS, Score

REFUSAL = "refusal"
# the rubric's spelling, and the American one that models fall back to
_SPELLINGS = {"fulfillment": "fulfilment"} | {name: name for name in DIMENSIONS}
_NAMES = "|".join(_SPELLINGS)
# several labels may share a line: "Fulfilment: 3, Quality: 2"
_PIECES = re.compile(rf"\n|[,;|][ \t]*(?=[*_#\s]*(?:{_NAMES})\b)", re.IGNORECASE)
_LABEL = re.compile(
    rf"""\s*(?:[-*•>#]+\s+|[0-9]+[.)]\s+)?      # a bullet, a heading or the number of a list
    [*_`]*(?P<name>{_NAMES})[*_`]*         # not in quotes: that is JSON, and torn
    \s*(?:\(\s*(?P<low>[0-9]+)\s*[-–]\s*(?P<high>[0-9]+)\s*\))?[*_]*
    \s*[:=][*_\s`]*(?P<value>[-+]?[0-9].*)""",
    re.IGNORECASE | re.VERBOSE,
)
# a dimension with a value as torn JSON and prose have it: "Final quality score: 1", "the quality should rather be 1"
_BETWEEN = (
    "scores?|ratings?|values?|is|was|should|would|must|be|becomes?|drops?|down|up|to|at|as|of|now|only|just|rather|"
    "really|actually|a|an"
)
# before any other word a number counts something: "quality of 2 photos"
_AFTER = "and|but|or|as|because|since|for|now|instead|out|of|rather|then|so|while"
_STATED = re.compile(
    rf"""(?P<name>{_NAMES})[ \t]?(?:\([^()\n]*\))?
    (?:(?:[^\w\n:=]|_)+(?:{_BETWEEN})(?![^\W_]))*(?:[^\w\n:=]|_)*
    (?:[:=]|(?P<number>[0-9]+(?:\.[0-9]+)?)(?!\.?[0-9]|[^\S\n]*(?!(?:{_AFTER})\b)[^\W\d_]))""",
    re.IGNORECASE | re.VERBOSE,
)
# "Quality: sharp, no artefacts" is a remark; with a number in it, it may be another verdict
_MARKS = " \t*_`:=#-"
_COUNTS = re.compile(r"[0-9]|\b(?:zero|one|two|three|four|five|none|full|max\w*|min\w*|half|same)\b", re.IGNORECASE)
# keys beside the dimensions that may name one, if words follow
_REMARK = re.compile("reason|comment|remark|expla|justif|rationale|note")


class Verdict(NamedTuple):
    """A score, or the reason why there is none, which begins with its kind and a colon."""

    score: Score | None
    reason: str = ""


def read_reply(text: str) -> Verdict:
    """The score in a reply. Never raises and never guesses."""
    try:
        return Verdict(_score(_answer(text.strip())))
    except Unscored as error:
        return Verdict(None, str(error))


def refusal(text: str) -> Verdict:
    """The verdict on a reply that the server itself calls a refusal."""
    return Verdict(None, f"{REFUSAL}: {shown(text)}")


def cut_off(text: str) -> Verdict:
    """The verdict on a reply that met its length limit: what would have followed is not known."""
    return Verdict(None, f"{UNREADABLE}: cut off at its length limit: {shown(text[-SHOWN:])}")


def _answer(text: str) -> str:
    """The text without the thoughts before it; templates may keep their opening tag in the prompt."""
    if _object_at(text, 0)[1] == len(text):
        return text
    words = text.rpartition("</think>")[2].strip()
    if "<think>" in words:
        raise Unscored(cut_off(words).reason)
    return words


def _score(text: str) -> Score:
    objects, words = _objects(text)
    lines, rest = _lines(words)
    if refuses(words, beside_numbers=bool(objects or lines)):
        raise Unscored(refusal(words).reason)
    if not (objects or lines):
        raise Unscored(f"{UNREADABLE}: {shown(text) if text else 'the reply is empty'}")
    score = _only([*objects, *lines])
    _check_nothing_else(rest, score)
    return score


def _only(numbers: list[tuple[str, int]]) -> Score:
    """The score where each dimension was named, and with one value only."""
    said = {name: {number for of, number in numbers if of == name} for name in DIMENSIONS}
    missing = [name for name in DIMENSIONS if not said[name]]
    if missing:
        raise Unscored(f"{UNREADABLE}: it does not say {' and '.join(missing)}")
    torn = next((name for name in DIMENSIONS if len(said[name]) > 1), None)
    if torn:
        values = " and ".join(map(str, sorted(said[torn])))
        raise Unscored(f"{UNREADABLE}: two verdicts that differ: {torn} is {values}")
    return Score(**{name: said[name].pop() for name in DIMENSIONS})


def _check_nothing_else(rest: str, score: Score) -> None:
    """What stands beside the verdict may repeat it in words; another one, or the beginning of one, makes it none."""
    for found in _STATED.finditer(rest):
        name = _SPELLINGS[found["name"].casefold()]
        remark = rest[found.end() :].partition("\n")[0]
        if found["number"] is None and remark.strip(_MARKS) and not _COUNTS.search(remark):
            continue
        if found["number"] != str(getattr(score, name)):
            raise Unscored(f"{UNREADABLE}: beside its verdict it says {shown(found[0])}")
    if re.search(r'\{\s*"', rest) or rest.count("```") % 2:
        raise Unscored(f"{UNREADABLE}: beside its verdict there is JSON that breaks off")


def _objects(text: str) -> tuple[list[tuple[str, int]], str]:
    """What JSON objects say, and the text without them."""
    said: list[tuple[str, int]] = []
    rest, place = [], 0
    while (start := text.find("{", place)) >= 0:
        values, end = _object_at(text, start)
        numbers = _of_object(values)
        # one that names no dimension is words like others
        rest.append(text[place : start if numbers else end])
        said += numbers
        place = end
    return said, "".join([*rest, text[place:]])


def _object_at(text: str, start: int) -> tuple[dict[str, list[Any]], int]:
    """The object that begins there, and where it ends; an empty one if there is none."""
    try:
        value, end = _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        return {}, start + 1
    return (value if isinstance(value, dict) else {}), end


def _object(pairs: list[tuple[str, Any]]) -> dict[str, list[Any]]:
    """All values of every key: plain `dict` would take the last of two verdicts."""
    values: dict[str, list[Any]] = {}
    for key, value in pairs:
        values.setdefault(key.strip().casefold(), []).append(value)
    return values


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


def _of_object(values: dict[str, list[Any]]) -> list[tuple[str, int]]:
    others = {key: found for key, found in values.items() if key not in _SPELLINGS}
    for text in (value for found in others.values() for value in found if isinstance(value, str)):
        if refuses(text, beside_numbers=True):
            raise Unscored(refusal(text).reason)
    odd = next((key for key in _keys(others) if re.search(_NAMES, key)), None)
    if odd is not None:
        raise Unscored(f"{UNREADABLE}: its JSON has {shown(odd)} where no dimension belongs")
    return [(name, json_number(name, value)) for key, name in _SPELLINGS.items() for value in values.get(key, ())]


def _keys(values: dict[str, list[Any]]) -> Iterator[str]:
    """All keys at any depth, but for those of remarks."""
    left: list[Any] = [values]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            yield from (key for key, found in value.items() if not _is_remark(key, found))
            left += value.values()
        elif isinstance(value, list):
            left += value


def _is_remark(key: str, values: list[Any]) -> bool:
    return bool(_REMARK.search(key)) and all(isinstance(value, str) for value in values)


def _lines(text: str) -> tuple[list[tuple[str, int]], str]:
    """What labelled lines say, and the text without them."""
    said, rest = [], []
    for piece in _PIECES.split(text):
        label = _LABEL.fullmatch(piece.rstrip())
        if label:
            name = _SPELLINGS[label["name"].casefold()]
            said.append((name, _line_number(name, label)))
        else:
            rest.append(piece)
    return said, "\n".join(rest)


def _line_number(name: str, label: re.Match[str]) -> int:
    if label["high"] and (int(label["low"]), int(label["high"])) != (0, DIMENSIONS[name]):
        raise not_a_number(name, label[0].strip())
    return text_number(name, label["value"])
