"""Tagged text <-> Decomposition: the only parser of what the decomposition agent writes.

    <think> The coat and the hair change colour. </think>
    <action>["Recoloring"]</action>
    <subjects>["coat", "hair"]</subjects>
    <goals>["scarlet or copper red"]</goals>

Never repairs and never guesses: a component that is not a JSON array of strings between one pair of tags is unreadable
(None). Every step is linear in the length of the text and nothing a policy can emit raises.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ier1_plugin.runs.errors import UserError
from ier1_plugin.task.schema import Decomposition, distinct

THINK = "think"
# the tag is singular for actions, as in the paper's section 2.2
COMPONENT_TAGS = {"actions": "action", "subjects": "subjects", "goals": "goals"}
TAGS = (THINK, *COMPONENT_TAGS.values())
MARKERS = tuple(f"<{slash}{tag}>" for tag in TAGS for slash in ("", "/"))


class FormatError(UserError):
    """A response without a readable decomposition; the message shows what is missing."""


@dataclass(frozen=True)
class Response:
    """A response as far as it could be read."""

    well_formed: bool
    """True if the whole text keeps the format, think included (the format reward)."""
    actions: tuple[str, ...] | None
    subjects: tuple[str, ...] | None
    goals: tuple[str, ...] | None


def parse_response(text: str) -> Response:
    """Reads the components; None stands for a part that can't be read."""
    before, _, inside = text.partition(f"<{THINK}>")
    # an unclosed think swallows everything after it
    think, closed, after = inside.partition(f"</{THINK}>")
    clean = bool(closed and think.strip()) and not any(marker in think for marker in MARKERS)
    well_formed = clean and not before.strip()
    rest, position = before + after, 0
    components: dict[str, tuple[str, ...] | None] = {}
    for name, tag in COMPONENT_TAGS.items():
        opening, closing = f"<{tag}>", f"</{tag}>"
        start, end = rest.find(opening), rest.find(closing)
        items: Any = None
        # exactly one pair, in order
        if rest.count(opening) == rest.count(closing) == 1 and start + len(opening) <= end:
            try:
                items = json.loads(rest[start + len(opening) : end])
            except (ValueError, RecursionError):
                items = None
        readable = isinstance(items, list) and set(map(type, items)) <= {str}
        components[name] = distinct(items) if readable else None
        # in the order of the tags, with nothing but whitespace between them
        well_formed = well_formed and readable and start >= position and not rest[position:start].strip()
        position = end + len(closing)
    return Response(well_formed and not rest[position:].strip(), **components)


def parse_decomposition(text: str) -> Decomposition:
    """The decomposition in `text`; FormatError names the components that can't be read."""
    response = parse_response(text)
    unreadable = [f"<{tag}>" for name, tag in COMPONENT_TAGS.items() if getattr(response, name) is None]
    if unreadable:
        raise FormatError(f"no readable {', '.join(unreadable)} in {text[:200]!r}")
    return Decomposition(response.actions or (), response.subjects or (), response.goals or ())


def render_response(decomposition: Decomposition, think: str) -> str:
    """The response text that says `decomposition`; the inverse of `parse_decomposition`."""
    arrays = {tag: json.dumps(getattr(decomposition, name)) for name, tag in COMPONENT_TAGS.items()}
    return "\n".join([f"<{THINK}> {think} </{THINK}>", *(f"<{tag}>{array}</{tag}>" for tag, array in arrays.items())])
