"""The two agents that plan: one takes a request apart, the other puts the parts into an order (paper, section 2).

    decompose(photo, "remove the lamp and make the sofa navy", chat=chat).value
    -> Decomposition(actions=("Delete", "Recoloring"), subjects=("lamp", "sofa"), goals=("navy",))
    sequence(decomposition, photo, request, chat=chat).value
    -> ("Delete lamp", "Recoloring sofa to navy")

A reply that can't be read is asked for once more; then a documented fallback takes its place, which the answer records:
no decomposition (the user's own words become the only sub-request), or the order of `rule`. ChatError passes through.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ier1_plugin.chat import Chat, ChatRequest
from ier1_plugin.chat.reply import json_in_reply
from ier1_plugin.prompts import render
from ier1_plugin.task.actions import ACTIONS
from ier1_plugin.task.images import prepare
from ier1_plugin.task.parsing import COMPONENT_TAGS, THINK, FormatError, parse_decomposition
from ier1_plugin.task.rows import IMAGE_PLACEHOLDER, messages, neutralise, problem, quoted
from ier1_plugin.task.schema import SEES_IMAGE, SEES_REQUEST, AgentTrace, Decomposition

if TYPE_CHECKING:
    from PIL import Image

# the same request at temperature 0 gets the same reply
RETRY_TEMPERATURE = 0.7
MAX_SUB_REQUESTS = 32
SHOWN = 120
# what is deleted has no goal
WITHOUT_GOAL = ("Delete",)
# in place of an action that is not known for sure
ANY_ACTION = "Change"
WHOLE_SUBJECT = "photo"
"""What the prompts call the whole image among the subjects."""
# what the definitions of these actions are about: one element, or as a rule the whole image
OF_AN_ELEMENT, OF_THE_WHOLE = ("Delete", "Recoloring"), ("Adjust", "Crop", "Zoom", "Transform")

_STRINGS = {"type": "array", "items": {"type": "string"}}
_ACTIONS = {"type": "array", "items": {"type": "string", "enum": list(ACTIONS)}}
Value = TypeVar("Value")


@dataclass(frozen=True)
class Answer(Generic[Value]):
    """An agent's answer, and how it was reached."""

    value: Value
    trace: AgentTrace


def decompose(image: Image.Image, request: str, *, chat: Chat, constrain: bool = False) -> Answer[Decomposition | None]:
    """Asks `chat` exactly as in training. `constrain` holds an untrained model to the answer's form by a schema.

    None if two replies in a row could not be read or named no edit. ImageError: the image is too narrow.
    """

    def read(reply: str) -> Decomposition:
        if constrain:
            fields = json_in_reply(reply)
            if not isinstance(fields, dict):
                raise FormatError(f"no JSON object in {reply[:SHOWN]!r}")
            parts = {name: fields.get(tag) for name, tag in COMPONENT_TAGS.items()}
            decomposition = Decomposition.from_json(json.dumps(parts))
        else:
            decomposition = parse_decomposition(reply)
        if not "".join(decomposition.actions + decomposition.subjects + decomposition.goals).strip():
            raise FormatError(f"it names no edit: {reply[-SHOWN:]!r}")
        return decomposition

    question = decomposition_request(image, request, chat, constrain)
    return _ask(chat, question, read, "decomposition", "the request, word for word", None)


def decomposition_request(image: Image.Image, request: str, chat: Chat, constrain: bool = False) -> ChatRequest:
    """What a decomposer is asked, as in training; with `constrain` held to a schema. ImageError: as in `decompose`."""
    turns, schema = messages(request), None
    if chat.prompt is not None:
        # weights that were trained with another prompt than this package's bring it along
        text = render(str(chat.prompt.with_suffix("")), content=problem(request))
        turns[0]["content"][-1]["text"] = text.removeprefix(IMAGE_PLACEHOLDER)
    if constrain:
        turns[0]["content"][-1]["text"] += f"\n\n{render('constrain')}"
        components = {tag: _ACTIONS if name == "actions" else _STRINGS for name, tag in COMPONENT_TAGS.items()}
        schema = _object({THINK: {"type": "string"}, **components})
    return ChatRequest(turns, (prepare(image, *chat.budget),), max_tokens=chat.max_tokens, schema=schema)


def sequence(
    decomposition: Decomposition,
    image: Image.Image | None = None,
    request: str = "",
    *,
    chat: Chat,
    inputs: tuple[str, ...] = (),
    constrain: bool = False,
) -> Answer[tuple[str, ...]]:
    """The sub-requests in order, from `chat`. It also gets the image and the request if `inputs` names them
    (SEQUENCER_INPUTS)."""
    images = (prepare(image, *chat.budget),) if SEES_IMAGE in inputs and image else ()
    text = render(
        "sequence",
        **{name: neutralise(json.dumps(getattr(decomposition, name), ensure_ascii=False)) for name in COMPONENT_TAGS},
        request=quoted(request) if SEES_REQUEST in inputs else "",
        sees_image=bool(images),
        constrained=constrain,
    )
    turns = [{"role": "user", "content": [*({"type": "image"} for _ in images), {"type": "text", "text": text}]}]

    def read(reply: str) -> tuple[str, ...]:
        items = json_in_reply(reply)
        if isinstance(items, dict) and set(items) == {"sub_requests"}:
            items = items["sub_requests"]
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            raise ValueError(f"no JSON array of strings in {reply[:SHOWN]!r}")
        sub_requests = tuple(filter(None, map(neutralise, items)))
        if not 0 < len(sub_requests) <= MAX_SUB_REQUESTS:
            raise ValueError(f"{len(sub_requests)} sub-requests; wanted 1 to {MAX_SUB_REQUESTS}")
        return sub_requests

    schema = _object({"sub_requests": _STRINGS}) if constrain else None
    question = ChatRequest(turns, images, max_tokens=chat.max_tokens, schema=schema)
    return _ask(chat, question, read, "order of the edits", "that of the rule", rule(decomposition))


def rule(decomposition: Decomposition, image: Any = None, request: str = "") -> tuple[str, ...]:
    """Sub-requests without a model: the lists side by side, in the given order. One action for several subjects, or
    several actions on one subject, is repeated for each. The lists hold no string twice, so a shorter one leaves open
    what belongs where: then the subjects go where `_subjects` puts them, an action becomes "Change", and goals that
    can't be matched make it one sub-request.
    """
    actions, subjects, goals = decomposition.actions, decomposition.subjects, decomposition.goals
    count = max(len(actions), len(subjects), len(goals))
    if 1 < len(actions) < count:
        action_of = [actions[0], *[ANY_ACTION] * (count - 1)]
    else:
        action_of = [*actions, *(actions[-1:] or ("",)) * (count - len(actions))]
    subject_of = _subjects(action_of, subjects)
    takers = [row for row in range(count) if len(actions) <= 1 or action_of[row] not in WITHOUT_GOAL]
    if len(goals) == count:
        takers = list(range(count))
    if len(goals) in (0, 1, len(takers)):
        goal_of = dict(zip(takers, goals * len(takers) if len(goals) == 1 else goals, strict=False))
        rows = [(action_of[row], subject_of[row], goal_of.get(row, "")) for row in range(count)]
    else:
        rows = [(", ".join(actions), ", ".join(subjects), ", ".join(goals))]
    # in the form of the paper's example: "Recoloring coat to scarlet"
    lines = (" ".join(filter(None, (action, subject, goal and f"to {goal}"))) for action, subject, goal in rows)
    return tuple(filter(None, map(neutralise, lines)))


def _subjects(action_of: Sequence[str], subjects: tuple[str, ...]) -> list[str]:
    """A subject for each action; where there are too few, "photo" is used again, or without it the last one.

    What stands first belongs together. The other subjects keep their order, and each goes to an action that changes an
    element, if there is one, rather than to one that changes the whole image.
    """
    count = len(action_of)
    if WHOLE_SUBJECT not in subjects or len(subjects) == count:
        return [*subjects, *(subjects[-1:] or ("",)) * (count - len(subjects))]
    elements = [subject for subject in subjects if subject != WHOLE_SUBJECT]

    def rank(row: int) -> int:
        if row == 0:
            return 3 if subjects[0] == WHOLE_SUBJECT else 0
        return 0 if action_of[row] in OF_AN_ELEMENT else 2 if action_of[row] in OF_THE_WHOLE else 1

    wanted = max(len(elements), sum(rank(row) == 0 for row in range(count)))
    rows = sorted(sorted(range(count), key=rank)[: min(wanted, count - 1)])
    element_of = dict(zip(rows, [*elements, *elements[-1:] * count], strict=False))
    return [element_of.get(row, WHOLE_SUBJECT) for row in range(count)]


def _ask(
    chat: Chat, request: ChatRequest, read: Callable[[str], Any], what: str, instead: str, fallback: Any
) -> Answer[Any]:
    """The first of two replies that `read` accepts (it raises ValueError otherwise), else `fallback`."""
    start, replies, reason = time.perf_counter(), [], ""
    value, note = fallback, ""
    for temperature in (request.temperature, RETRY_TEMPERATURE):
        completion = chat(replace(request, temperature=temperature, seed=len(replies)))
        replies.append(completion.text or completion.refusal)
        try:
            value = read(replies[-1])
            break
        except ValueError as error:
            reason = completion.flaw(request.max_tokens) or str(error)
    else:
        note = f"no readable {what} in {len(replies)} replies ({reason}); in its place: {instead}"
    return Answer(value, AgentTrace(chat.name, tuple(replies), note, round(time.perf_counter() - start, 3)))


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    """A schema for strict mode of OpenAI's structured outputs: every key required and no others."""
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
