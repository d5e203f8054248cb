"""The JSON in a model's reply.

json_in_reply('<think> Easy. </think>\\n```json\\n["Delete lamp"]\\n```')    # ["Delete lamp"]
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import Any

SHOWN = 120
_THOUGHT_ENDS = re.compile(
    r"</(?:seed:)?(?:think|thinking|thought|reasoning)>|\[/THINK\]|◁/think▷|<\|end_of_thought\|>|<\|END_THINKING\|>"
    # of OpenAI's open models, where no parser of the server takes their channels apart
    r"|<\|channel\|>final(?: <\|constrain\|>\w+)?<\|message\|>"
)
# a Markdown fence, a box of LaTeX, the one that GLM draws around an answer, the tags that R1 was trained with
WRAPPERS = (
    ("```", "```"),
    ("~~~", "~~~"),
    ("\\boxed{", "}"),
    ("<|begin_of_box|>", "<|end_of_box|>"),
    ("<answer>", "</answer>"),
)


def json_in_reply(text: str) -> Any:
    """The one JSON value that the reply gives as its answer.

    Dropped are reasoning up to the last `</think>`, and one Markdown fence or box around the value with the words
    around it. Nothing is repaired. ValueError: the reply is empty, holds anything else, or names a key of an object
    twice.
    """
    with suppress(ValueError, RecursionError):
        # in a reply that is JSON itself, marks are part of its strings
        return _loads(text)
    answer = _THOUGHT_ENDS.split(text)[-1].strip()
    if not answer:
        raise ValueError("the reply is empty")
    for opening, closing in WRAPPERS:
        before, _, rest = answer.partition(opening)
        inside, found, after = rest.rpartition(closing)
        # brackets outside would be another value
        if found and not re.search(r"[{\[]", before + after):
            answer = re.sub(r"^[ \t]*\w*\s", "", inside) if opening in ("```", "~~~") else inside
            break
    try:
        return _loads(answer)
    except (ValueError, RecursionError) as error:
        reason = "a key occurs twice" if "twice" in error.args else "no JSON"
        raise ValueError(f"{reason} in {answer[:SHOWN]!r}") from None


def _loads(text: str) -> Any:
    """The JSON value of the whole text, with no constant and no key that JSON does not have. ValueError: it is none."""

    def object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) < len(pairs):
            raise ValueError("twice")
        return values

    def no_constant(name: str) -> Any:
        raise ValueError(f"{name} is not JSON")

    return json.loads(text, object_pairs_hook=object_of, parse_constant=no_constant)
