"""The two agents that plan: one takes a request apart, the other puts the parts into an order (paper, section 2).

    decompose(photo, "remove the lamp and make the sofa navy", chat=chat).value
    -> Decomposition(actions=("Delete", "Recoloring"), subjects=("lamp", "sofa"), goals=("navy",))
    sequence(decomposition, photo, request, chat=chat).value
    -> ("Delete lamp", "Recoloring sofa to navy")

A reply that can't be read is asked for once more; then a stated fallback takes its place, which the answer records:
no decomposition (the user's own words become the only sub-request), or the order of `rule`. ChatError passes through.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ier1_plugin.chat import BUDGET, Chat, ChatRequest
from ier1_plugin.prompts import render
from ier1_plugin.task.actions import ACTIONS
from ier1_plugin.task.images import prepare
from ier1_plugin.task.parsing import COMPONENT_TAGS, THINK, FormatError, parse_decomposition
from ier1_plugin.task.rows import IMAGE_PLACEHOLDER, messages, neutralise, problem, quoted
from ier1_plugin.task.schema import SEES_IMAGE, SEES_REQUEST, AgentTrace, Decomposition

if TYPE_CHECKING:
    from PIL import Image

# the same question at temperature 0 gets the same reply
RETRY_TEMPERATURE = 0.7
MAX_SUB_REQUESTS = 32
SHOWN = 120
# what is deleted has no goal
WITHOUT_GOAL = ("Delete",)

_STRINGS = {"type": "array", "items": {"type": "string"}}
_ANY_ACTION = {"type": "array", "items": {"type": "string", "enum": list(ACTIONS)}}
Value = TypeVar("Value")


@dataclass(frozen=True)
class Answer(Generic[Value]):
    """What an agent answered, and how it came to that."""

    value: Value
    trace: AgentTrace


def decompose(image: Image.Image, request: str, *, chat: Chat, constrain: bool = False) -> Answer[Decomposition | None]:
    """Asks `chat` exactly as in training. `constrain` holds an untrained model to the answer's form by a schema.

    None where two replies in a row could not be read or named no edit. ImageError: the image is too narrow.
    """
    question = decomposition_question(image, request, chat, constrain)
    read = _read_json if constrain else _read_tags
    return _ask(chat, question, read, "decomposition", "the request, word for word", None)


def decomposition_question(image: Image.Image, request: str, chat: Chat, constrain: bool = False) -> ChatRequest:
    """The question of the training; with `constrain` held to a schema. ImageError: the image is too narrow."""
    images = (prepare(image, *getattr(chat, "budget", BUDGET)),)
    turns = _messages(request, chat)
    if constrain:
        turns[0]["content"][-1]["text"] += f"\n\n{render('constrain')}"
    schema = _object({THINK: {"type": "string"}, **_components()}) if constrain else None
    return ChatRequest(turns, images, schema=schema)


def sequence(
    decomposition: Decomposition,
    image: Image.Image | None = None,
    request: str = "",
    *,
    chat: Chat,
    sees: tuple[str, ...] = (),
    constrain: bool = False,
) -> Answer[tuple[str, ...]]:
    """The sub-requests in order, from `chat`. Of image and request it is shown what `sees` names (SIGHTS)."""
    shown = (prepare(image, *getattr(chat, "budget", BUDGET)),) if SEES_IMAGE in sees and image else ()
    text = render(
        "sequence",
        **{name: neutralise(json.dumps(getattr(decomposition, name), ensure_ascii=False)) for name in COMPONENT_TAGS},
        request=quoted(request) if SEES_REQUEST in sees else "",
        sees_image=bool(shown),
        constrained=constrain,
    )
    turns = [{"role": "user", "content": [*({"type": "image"} for _ in shown), {"type": "text", "text": text}]}]
    question = ChatRequest(turns, shown, schema=_object({"sub_requests": _STRINGS}) if constrain else None)
    return _ask(chat, question, _read_sub_requests, "order of the edits", "that of the rule", rule(decomposition))


def rule(decomposition: Decomposition, image: Any = None, request: str = "") -> tuple[str, ...]:
    """Sub-requests without a model: the lists side by side, in the order that they have.

    One action for several subjects, or several actions on one subject, is said of each. The lists hold no string twice,
    so a shorter one leaves open what belongs where: then the subject named last counts on, an action becomes "Change",
    and goals that fit no way make it one sub-request.
    """
    actions, subjects, goals = decomposition.actions, decomposition.subjects, decomposition.goals
    rows = max(len(actions), len(subjects), len(goals))
    goal_of = _goals_by_row(actions, goals, rows)
    if goal_of is None:
        return (_sub_request(", ".join(actions), ", ".join(subjects), ", ".join(goals)),)
    said = (_sub_request(_action(actions, row, rows), _last(subjects, row), goal_of[row]) for row in range(rows))
    return tuple(filter(None, said))


def _messages(request: str, chat: Chat) -> list[dict[str, Any]]:
    turns = messages(request)
    own_prompt = getattr(chat, "prompt", None)
    if own_prompt is not None:
        # weights that were trained with another prompt than this package's bring it along
        text = render(str(own_prompt.with_suffix("")), content=problem(request))
        turns[0]["content"][-1]["text"] = text.removeprefix(IMAGE_PLACEHOLDER)
    return turns


def _ask(
    chat: Chat, question: ChatRequest, read: Callable[[str], Any], what: str, instead: str, fallback: Any
) -> Answer[Any]:
    """The first of two replies that `read` takes (ValueError if not), else `fallback`."""
    start, replies, reason = time.perf_counter(), [], ""
    value, told = fallback, ""
    for temperature in (question.temperature, RETRY_TEMPERATURE):
        replies.append(chat(_again(question, temperature, len(replies))))
        try:
            value = read(replies[-1])
            break
        except ValueError as error:
            reason = str(error)
    else:
        told = f"no readable {what} in {len(replies)} replies ({reason}); in its place: {instead}"
    seconds = round(time.perf_counter() - start, 3)
    return Answer(value, AgentTrace(name_of(chat), tuple(replies), told, seconds))


def name_of(part: Any) -> str:
    """What a trace calls an agent or an editor: its own name, or that of the function."""
    while hasattr(part, "func"):
        part = part.keywords.get("chat", part.func)
    return str(getattr(part, "name", None) or getattr(part, "__name__", None) or type(part).__name__)


def _again(question: ChatRequest, temperature: float, seed: int) -> ChatRequest:
    return ChatRequest(question.messages, question.images, temperature, seed, question.max_tokens, question.schema)


def _read_tags(reply: str) -> Decomposition:
    return _with_an_edit(parse_decomposition(reply), reply)


def _read_json(reply: str) -> Decomposition:
    fields = _json(reply)
    if not isinstance(fields, dict):
        raise FormatError(f"no JSON object in {reply[:SHOWN]!r}")
    parts = {name: fields.get(tag) for name, tag in COMPONENT_TAGS.items()}
    return _with_an_edit(Decomposition.from_json(json.dumps(parts)), reply)


def _with_an_edit(decomposition: Decomposition, reply: str) -> Decomposition:
    if not "".join(decomposition.actions + decomposition.subjects + decomposition.goals).strip():
        raise FormatError(f"it names no edit: {reply[-SHOWN:]!r}")
    return decomposition


def _read_sub_requests(reply: str) -> tuple[str, ...]:
    items = _json(reply)
    if isinstance(items, dict) and set(items) == {"sub_requests"}:
        items = items["sub_requests"]
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise ValueError(f"no JSON array of strings in {reply[:SHOWN]!r}")
    sub_requests = tuple(filter(None, map(neutralise, items)))
    if not 0 < len(sub_requests) <= MAX_SUB_REQUESTS:
        raise ValueError(f"{len(sub_requests)} sub-requests; wanted 1 to {MAX_SUB_REQUESTS}")
    return sub_requests


def _json(reply: str) -> Any:
    """The reply as JSON. One Markdown fence around it is no fault: base models like to write one."""
    text = reply.strip()
    if text.startswith("```") and text.endswith("```") and len(text) > 6:
        text = text[3:-3].removeprefix("json")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    """As strict mode of OpenAI's structured outputs wants it: every key required and no others."""
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _components() -> dict[str, Any]:
    return {tag: _ANY_ACTION if name == "actions" else _STRINGS for name, tag in COMPONENT_TAGS.items()}


def _action(actions: tuple[str, ...], row: int, rows: int) -> str:
    if len(actions) == rows or row == 0:
        return _last(actions, row)
    return "Change" if len(actions) > 1 else _last(actions, row)


def _last(items: tuple[str, ...], row: int) -> str:
    """The item of this row, or else the last one; "" of none."""
    return items[min(row, len(items) - 1)] if items else ""


def _goals_by_row(actions: tuple[str, ...], goals: tuple[str, ...], rows: int) -> list[str] | None:
    """A goal ("" for none) for each row; None if they do not line up."""
    takers = [row for row in range(rows) if len(actions) <= 1 or _action(actions, row, rows) not in WITHOUT_GOAL]
    if len(goals) == rows:
        takers = list(range(rows))
    if len(goals) not in (0, 1, len(takers)):
        return None
    return [_last(goals, takers.index(row)) if row in takers else "" for row in range(rows)]


def _sub_request(action: str, subject: str, goal: str) -> str:
    """In the form of the paper's example: "Recoloring coat to scarlet"."""
    return neutralise(" ".join(part for part in (action, subject, f"to {goal}" if goal else "") if part))
