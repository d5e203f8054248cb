"""What the annotator is asked, and how its reply becomes a decomposition.

read_completion({"choices": [{"finish_reason": "stop", "message": {"content":
    '{"actions": ["Delete"], "subjects": ["lamp"], "goals": []}'}}], ...})
-> Decomposition(actions=("Delete",), subjects=("lamp",), goals=())
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ier1_plugin.prompts import render
from ier1_plugin.task.actions import ACTIONS
from ier1_plugin.task.rows import neutralise, quoted
from ier1_plugin.task.schema import COMPONENTS, Decomposition
from ier1_plugin.task.scoring import normalise

_STRINGS = {"type": "array", "items": {"type": "string"}}
# strict mode of OpenAI's structured outputs: every key required, no others, and only keywords that all servers know
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "actions": {"type": "array", "items": {"type": "string", "enum": list(ACTIONS)}},
        "subjects": _STRINGS,
        "goals": _STRINGS,
    },
    "required": list(COMPONENTS),
    "additionalProperties": False,
}
SHOWN = 80
_FENCE = "```"


@dataclass(frozen=True)
class Problem:
    """A reply that holds no decomposition."""

    reason: str
    refusal: bool = False
    """True: the model would not answer. False: it answered badly."""


def annotation_prompt(request: str, schema_in_text: bool = False) -> str:
    """The text beside the image; `schema_in_text` spells the JSON schema out, for servers that can't enforce it."""
    schema = json.dumps(SCHEMA) if schema_in_text else None
    return render("annotate", request=quoted(request), actions=ACTIONS, schema=schema)


def question(request: str) -> list[str]:
    """What names the question without the work of rendering it: the prompt without a request, and the request."""
    return [_empty_prompt(), neutralise(request)]


def outcome(completion: dict[str, Any]) -> str:
    """How the server says that the reply ended: its finish reason, or "refusal"."""
    choice = _first_choice(completion)
    if _message(choice).get("refusal") or choice.get("finish_reason") == "content_filter":
        return "refusal"
    return str(choice.get("finish_reason"))


def read_completion(completion: dict[str, Any]) -> Decomposition | Problem:
    """The decomposition in a chat completion. Never raises and never guesses; actions may be empty (no edit asked)."""
    ending = outcome(completion)
    message = _message(_first_choice(completion))
    content = message.get("content")
    if ending == "refusal":
        return Problem(_shown(message.get("refusal") or content), refusal=True)
    if ending == "length":
        return Problem(f"cut off at its length limit: {_shown(content)}")
    if not isinstance(content, str):
        return Problem(f"no text (finish reason {ending})")
    return _read_content(content)


@lru_cache(maxsize=1)
def _empty_prompt() -> str:
    return annotation_prompt("")


def _read_content(content: str) -> Decomposition | Problem:
    try:
        said = Decomposition.from_json(_without_fence(content))
    except ValueError as error:
        return Problem(f"{error}: {_shown(content)}")
    unknown = [action for action in said.actions if action not in ACTIONS]
    if unknown:
        return Problem(f"{_shown(unknown[0])} is not one of the {len(ACTIONS)} actions")
    return Decomposition.of(said.actions, _phrases(said.subjects), _phrases(said.goals))


def _phrases(strings: tuple[str, ...]) -> list[str]:
    """Gold goes through the same neutralising as the request that it may quote; what says nothing is dropped."""
    return [phrase for phrase in map(neutralise, strings) if normalise(phrase)]


def _without_fence(content: str) -> str:
    """Servers that can't enforce a schema tend to wrap JSON in one Markdown code fence."""
    text = content.strip()
    if text.startswith(_FENCE) and text.endswith(_FENCE) and len(text) > 2 * len(_FENCE):
        return text[len(_FENCE) : -len(_FENCE)].removeprefix("json")
    return text


def _first_choice(completion: dict[str, Any]) -> dict[str, Any]:
    choices = completion.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else {}


def _message(choice: dict[str, Any]) -> dict[str, Any]:
    message = choice.get("message")
    return message if isinstance(message, dict) else {}


def _shown(text: Any) -> str:
    return repr(" ".join(str(text).split())[:SHOWN])
