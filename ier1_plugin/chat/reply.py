"""The JSON in a model's reply.

json_in_reply('<think> Easy. </think>\\n```json\\n["Delete lamp"]\\n```')    # ["Delete lamp"]
"""

from __future__ import annotations

import json
import re
from typing import Any

SHOWN = 120
_WRAPPED = re.compile(r"```\w*\s(.*?)```|\$*\\boxed\s*\{(.*)\}\$*", re.DOTALL)


def json_in_reply(text: str) -> Any:
    """The one JSON value that the reply consists of.

    Dropped are reasoning up to the last `</think>`, and one Markdown fence or one \\boxed{} around the value. Nothing
    is repaired. ValueError: the reply is empty, holds anything else, or names a key of an object twice.
    """
    whole = text.strip()
    # the mark may stand in a string of the JSON itself
    answer = whole if whole.startswith(("{", "[")) else whole.rpartition("</think>")[2].strip()
    if not answer:
        raise ValueError("the reply is empty")
    if wrapped := _WRAPPED.fullmatch(answer):
        answer = wrapped[1] or wrapped[2] or ""
    try:
        return json.loads(answer, object_pairs_hook=_object, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        reason = "a key occurs twice" if "twice" in error.args else "no JSON"
        raise ValueError(f"{reason} in {answer[:SHOWN]!r}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("twice")
    return values


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
