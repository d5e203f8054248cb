"""One number of a verdict, read strictly: a whole number on the scale of its dimension, or the reason why it is none.

text_number("fulfilment", "3/4 (good)")        # 3
text_number("fulfilment", "4 (out of ten)")    # Unscored: unreadable: fulfilment is '4 (out of ten)'; wanted ...
json_number("quality", 2.0)                    # 2
json_number("quality", 7)                      # Unscored: out of range: quality is 7; wanted 0 to 3
"""

from __future__ import annotations

import re
from typing import Any

from ier1_plugin.evaluation.records import DIMENSIONS

UNREADABLE, OUT_OF_RANGE = "unreadable", "out of range"
SHOWN = 80
# a remark in brackets may speak of another scale in words
_SCALE = (
    r"[0-9%/]|\b(?:out of (?:three|four)|five|six|seven|eight|nine|ten|twenty|hundred|percent|scale|stars?|points?)\b"
)
# what may follow a number: its scale, marks, a remark in brackets
_NUMBER = re.compile(
    rf"(?P<number>[-+]?[0-9]{{1,9}})\s*(?:/\s*(?P<scale>[0-9]+))?[*_`\s]*(?:\((?![^()]*(?:{_SCALE}))[^()]*\))?[.,;*_`\s]*",
    re.IGNORECASE,
)


class Unscored(Exception):
    """A reply holds no score; the message is the reason, which begins with its kind and a colon."""


def shown(text: str) -> str:
    """The beginning of a text in one line, quoted."""
    return repr(" ".join(text.split())[:SHOWN])


def json_number(name: str, value: Any) -> int:
    """The value of a dimension in JSON. Unscored: it is no whole number, or out of range."""
    if isinstance(value, str):
        return text_number(name, value.strip())
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value or value % 1:
        raise not_a_number(name, value)
    return _in_range(name, int(value))


def text_number(name: str, text: str) -> int:
    """The value of a dimension in words. Unscored: it is no whole number, out of range, or on another scale."""
    found = _NUMBER.fullmatch(text)
    if not found or found["scale"] not in (None, str(DIMENSIONS[name])):
        raise not_a_number(name, text)
    return _in_range(name, int(found["number"]))


def not_a_number(name: str, value: Any) -> Unscored:
    return Unscored(f"{UNREADABLE}: {name} is {shown(str(value))}; wanted a whole number from 0 to {DIMENSIONS[name]}")


def _in_range(name: str, number: int) -> int:
    if not 0 <= number <= DIMENSIONS[name]:
        raise Unscored(f"{OUT_OF_RANGE}: {name} is {str(number)[:SHOWN]}; wanted 0 to {DIMENSIONS[name]}")
    return number
