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

from ier1_plugin.task.schema import Decomposition, distinct

THINK = "think"
# the tag is singular for actions, as in the paper's section 2.2
COMPONENT_TAGS = {"actions": "action", "subjects": "subjects", "goals": "goals"}
TAGS = (THINK, *COMPONENT_TAGS.values())
MARKERS = tuple(f"<{slash}{tag}>" for tag in TAGS for slash in ("", "/"))


class FormatError(ValueError):
    """A response without a readable decomposition; the message shows what is missing."""


@dataclass(frozen=True)
class Response:
    """A response as far as it could be read."""

    well_formed: bool
    """True if the whole text keeps the format, think included (the format reward)."""
    think: str | None
    """The text between the first <think> and the first </think> after it."""
    actions: tuple[str, ...] | None
    subjects: tuple[str, ...] | None
    goals: tuple[str, ...] | None


def parse_response(text: str) -> Response:
    """Reads think and components; None stands for a part that can't be read."""
    before, think, after = _split_think(text)
    rest = before + after
    spans = {name: _span(rest, tag) for name, tag in COMPONENT_TAGS.items()}
    read = {name: _strings(rest[slice(*span)]) if span else None for name, span in spans.items()}
    well_formed = (
        _is_clean_think(think)
        and not before.strip()
        and all(items is not None for items in read.values())
        and _only_components(rest, list(spans.values()))
    )
    return Response(well_formed, think, **read)


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


def _split_think(text: str) -> tuple[str, str | None, str]:
    """Text before the think, the think (None without one), text after it."""
    before, opened, inside = text.partition(f"<{THINK}>")
    think, closed, after = inside.partition(f"</{THINK}>")
    # an unclosed think swallows everything after it
    return before, think if opened and closed else None, after


def _span(text: str, tag: str) -> tuple[int, int] | None:
    """Start and end of what stands between the only pair of `tag`; None without exactly one pair in order."""
    opening, closing = f"<{tag}>", f"</{tag}>"
    if text.count(opening) != 1 or text.count(closing) != 1:
        return None
    start, end = text.index(opening) + len(opening), text.index(closing)
    return (start, end) if start <= end else None


def _strings(array: str) -> tuple[str, ...] | None:
    try:
        items = json.loads(array)
    except (ValueError, RecursionError):
        return None
    if not isinstance(items, list) or not set(map(type, items)) <= {str}:
        return None
    return distinct(items)


def _is_clean_think(think: str | None) -> bool:
    return think is not None and bool(think.strip()) and not any(marker in think for marker in MARKERS)


def _only_components(rest: str, spans: list[tuple[int, int] | None]) -> bool:
    """True if the components stand in their order in `rest` with nothing but whitespace around them."""
    position = 0
    for tag, span in zip(COMPONENT_TAGS.values(), spans, strict=True):
        if span is None or span[0] - len(f"<{tag}>") < position:
            return False
        if rest[position : span[0] - len(f"<{tag}>")].strip():
            return False
        position = span[1] + len(f"</{tag}>")
    return not rest[position:].strip()
