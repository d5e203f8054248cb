"""From an instruction to exact edits: every word has to be accounted for, or the instruction is refused.

    parse_instruction("tint the top half blue", PLACES)    # [ExactEdit("tint the top half blue", ...)]
    parse_instruction("make the sofa navy", PLACES)        # EditError: ... it does not know 'sofa' ...

A request is cut at its joiners into as few parts as the rules can read. Refusing what is only half understood is the
point: "crop out the man on the left" must not become a crop.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from PIL import Image

from ier1_plugin.editors.base import EditError, split
from ier1_plugin.editors.pillow import operations as do
from ier1_plugin.editors.pillow.operations import PART, REGIONS, WHOLE, Effect, Fractions
from ier1_plugin.editors.pillow.rules import VOCABULARY, rule_of
from ier1_plugin.editors.pillow.words import canonical, with_quotes
from ier1_plugin.runs.errors import one_line

CAN = "it does crop, flip, rotate, resize, zoom, tone, tint, blur, border and caption, to a photo or a half of it"
MAX_INSTRUCTION, MAX_FRAGMENTS = 2000, 24
PLACES: dict[str, Fractions] = {name: box for called, box in REGIONS.values() for name in called}
"""The name of a part of the photo, and where it is."""
_JOINERS = re.compile(r'("[^"]*")|(,? and (?:then |also )?|, then | then |, also |, )', re.IGNORECASE)


@dataclass(frozen=True)
class ExactEdit:
    """One edit that Pillow can make."""

    words: str
    """The words of the request."""
    effect: Effect
    place: Fractions | None
    """Which part is meant; None: the whole photo."""
    better_exact: bool
    """True for geometry and for the tone of the whole photo, which painting models get wrong (PSR, Table A8)."""
    takes_alpha: bool
    """True if the effect itself treats transparency rightly; otherwise it is put back afterwards."""

    def __call__(self, image: Image.Image) -> Image.Image:
        """A new image, in RGB or RGBA as `image` is."""
        plain = image if self.takes_alpha or image.mode == "RGB" else image.convert("RGB")
        edited = do.apply_in(self.effect, plain, do.pixel_box(self.place, image))
        if edited.mode != image.mode:
            edited.putalpha(image.getchannel("A"))
        return edited


def parse_instruction(instruction: str, places: Mapping[str, Fractions]) -> list[ExactEdit]:
    """The edits of an instruction in their order; EditError names what can't be understood or done."""
    if len(instruction) > MAX_INSTRUCTION:
        raise EditError(
            f"pillow: the instruction has {len(instruction):,} characters; wanted {MAX_INSTRUCTION:,} or less"
        )
    known = {canonical(name): box for name, box in places.items()}
    parts = split(with_quotes(instruction))
    if not parts:
        raise EditError("pillow: the instruction is empty; say what to change")
    return [edit for part in parts for edit in _edits(part, known)]


def _edits(part: str, places: Mapping[str, Fractions]) -> list[ExactEdit]:
    """The edits of one sentence: as few as its words allow, so that "black and white" stays one."""
    # cut before every joiner; joined again, the fragments are `part`
    cuts = [match.start() for match in _JOINERS.finditer(part) if match[2]]
    edges = [0, *cuts[: MAX_FRAGMENTS - 1], len(part)]
    # shortest[n]: the edits that the first n fragments ask for; None: they make no edits
    shortest: list[list[ExactEdit] | None] = [[], *([None] * (len(edges) - 1))]
    reason = ""
    for end in range(1, len(edges)):
        for start in range(end):
            before = shortest[start]
            if before is None:
                continue
            try:
                edit = _single(part[edges[start] : edges[end]], places)
            except EditError as error:
                reason = reason or str(error)
                continue
            if edit is not None:
                shortest[end] = [*before, edit]
                break
    edits = shortest[-1]
    if edits is None:
        rest = canonical(_JOINERS.sub(" ", part))
        for name in places:
            rest = _without(rest, name) or rest
        strange = [word for word in re.findall(r"[^\W\d_]{2,}", rest) if word not in VOCABULARY]
        why = f"it does not know {', '.join(strange[:5])!r}" if strange else "it knows no edit that these words make"
        raise EditError(f"pillow can't do {one_line(part)[:100]!r}: {reason or f'{why}; {CAN}'}")
    return edits


def _single(text: str, places: Mapping[str, Fractions]) -> ExactEdit | None:
    """The one edit that all of these words ask for. EditError: it can't be made."""
    opening = _JOINERS.match(text)
    text = text[opening.end() :] if opening and opening[2] else text
    words = canonical(text)
    for asked in (words, words.removeprefix("turn ")):
        candidates = [(asked, None), *((_without(asked, name), place) for name, place in places.items())]
        for rest, place in candidates:
            match = rule_of(rest) if rest is not None else None
            if match and match[0].scope != (PART if place is None else WHOLE):
                rule, groups = match
                better_exact = rule.better_exact and place is None
                return ExactEdit(text.strip(), rule.make(*groups), place, better_exact, rule.scope == WHOLE)
    return None


def _without(words: str, name: str) -> str | None:
    """`words` without the place `name`, which has to occur once."""
    place = rf"(?<!\w)(?:(?:to|of|at|from) )?{re.escape(name)}(?!\w) ?"
    rest, count = re.subn(place, "", words)
    return rest.strip() if count == 1 else None
