"""From an instruction to exact edits: every word has to be accounted for, or the instruction is refused.

    understood("Recoloring top half to blue tint", PLACES)    # [ExactEdit("Recoloring top half to blue tint", ...)]
    understood("make the sofa navy", PLACES)                  # EditError: ... it does not know "sofa" ...

Refusing what is only half understood is the point: "crop out the man on the left" must not become a crop.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from PIL import Image

from ier1_plugin.editors.base import EditError, split
from ier1_plugin.editors.pillow.operations import Apply
from ier1_plugin.editors.pillow.phrases import EFFECT, VOCABULARY, rule_of
from ier1_plugin.runs.errors import one_line
from ier1_plugin.small_world.operations import PART, WHOLE, Box
from ier1_plugin.small_world.pictures import Fractions
from ier1_plugin.small_world.wordings import REGIONS

CAN = "it does crop, flip, rotate, resize, zoom, tone, tint, blur, border and caption, to a photo or a half of it"
MAX_INSTRUCTION, MAX_FRAGMENTS = 2000, 24
PLACES: dict[str, Fractions] = {name: box for called, box in REGIONS.values() for name in called}
"""What a person calls a part of the photo, and where it is."""

_QUOTED = re.compile(r'("[^"]*")')
# the gold of the small world writes captions in capitals and without quotes
_BARE_CAPTION = re.compile(r"\b([Cc]aption) ([A-Z0-9]{2,}(?: [A-Z0-9]+)*)\b")
_POLITE = re.compile(
    r"\b(?:i would like|i'd like|i want|i need|(?:can|could|would) you|hi|hello|thanks|for me)\b", re.I
)
# what would mean something else once its small words are gone
_IDIOMS = {
    r"\bon its head\b": "upside down",
    r"\badd contrast\b": "more contrast",
    r"\blike an old (?:photo|picture)\b": "sepia",
}
# between numbers these belong to them, as in 16:9 and 1.5
_PUNCTUATION = re.compile(r"[,;!?()–—]|[.:](?!\d)|(?<!\d)[.:]")
# words that do not change which edit it is; the names of actions open a sub-request, as in "Adjust photo: ..."
_EMPTY_WORDS = """
a add adjust also an apply are as at be bit by change convert do entire everything filter for from get give
have image in into is it its just kindly little look looks make me my of on operation our photo photograph
pic picture please put quite really recoloring relighting set should slightly so some specialized style
superresolution that the then this to transform us very want we whole with you
"""
_FILLERS = frozenset(_EMPTY_WORDS.split())
_JOINERS = re.compile(r'("[^"]*")|(,? and (?:then |also )?|, then | then |, also |, )', re.IGNORECASE)


@dataclass(frozen=True)
class ExactEdit:
    """One edit that Pillow can make."""

    words: str
    """What was asked."""
    apply: Apply
    place: Fractions | None
    """Which part is meant, as fractions of width and height; None: the whole photo."""
    better_exact: bool
    """True for geometry and for the tone of the whole photo, which painting models get wrong (PSR, Table A8)."""

    def __call__(self, image: Image.Image) -> Image.Image:
        return self.apply(image, None if self.place is None else _box(self.place, image))


def parse_instruction(instruction: str, places: Mapping[str, Fractions]) -> list[ExactEdit]:
    """The edits of an instruction in their order; EditError names what can't be understood or done."""
    if len(instruction) > MAX_INSTRUCTION:
        raise EditError(
            f"pillow: the instruction has {len(instruction):,} characters; wanted {MAX_INSTRUCTION:,} or less"
        )
    known = {canonical(name): box for name, box in places.items()}
    parts = split(_with_quotes(instruction))
    if not parts:
        raise EditError("pillow: the instruction is empty; say what to change")
    return [edit for part in parts for edit in _part(part, known)]


def canonical(text: str) -> str:
    """The words that say which edit it is; what stands in quotes is left alone."""
    pieces = _QUOTED.split(_with_quotes(text))
    return " ".join(filter(None, (piece if piece.startswith('"') else _plain(piece) for piece in pieces)))


def _plain(text: str) -> str:
    for idiom, plain in _IDIOMS.items():
        text = re.sub(idiom, plain, text, flags=re.IGNORECASE)
    words = _PUNCTUATION.sub(" ", _POLITE.sub(" ", text)).split()
    return " ".join(word for word in words if word.casefold() not in _FILLERS)


def _with_quotes(text: str) -> str:
    """Straight quotes, also around a bare caption."""
    return _BARE_CAPTION.sub(r'\1 "\2"', re.sub("[“”„«»]", '"', text))


def _part(part: str, places: Mapping[str, Fractions]) -> list[ExactEdit]:
    """The edits of one sentence: as few as its words allow, so that "black and white" stays one."""
    fragments = _fragments(part)
    edits: list[list[ExactEdit] | None] = [[], *([None] * len(fragments))]
    for end in range(1, len(fragments) + 1):
        for start in range(end):
            before = edits[start]
            edit = None if before is None else _single("".join(fragments[start:end]), places)
            if before is not None and edit is not None:
                edits[end] = [*before, edit]
                break
    found = edits[-1]
    if found is None:
        raise EditError(f"pillow can't do {one_line(part)[:100]!r}: {_why(part, places)}; {CAN}")
    return found


def _fragments(part: str) -> list[str]:
    """`part` cut before every joiner; joined again they are `part`."""
    cuts = [match.start() for match in _JOINERS.finditer(part) if match[2]]
    edges = [0, *cuts[: MAX_FRAGMENTS - 1], len(part)]
    return [part[start:end] for start, end in pairwise(edges)]


def _single(text: str, places: Mapping[str, Fractions]) -> ExactEdit | None:
    """The one edit that all of these words ask for."""
    opening = _JOINERS.match(text)
    text = text[opening.end() :] if opening and opening[2] else text
    words = canonical(text)
    for asked in (words, re.sub(r"^turn ", "", words, flags=re.IGNORECASE)):
        found = rule_of(asked)
        if found and found[0].scope != PART:
            rule, match = found
            return ExactEdit(text.strip(), rule.make(match), None, rule.kind != EFFECT)
        for name, place in places.items():
            rest = _without(asked, name)
            found = rule_of(rest) if rest is not None else None
            if found and found[0].scope != WHOLE:
                rule, match = found
                return ExactEdit(text.strip(), rule.make(match), place, False)
    return None


def _without(words: str, name: str) -> str | None:
    """`words` without the place `name`, which has to occur once."""
    rest, count = re.subn(rf"(?<!\w){re.escape(name)}(?!\w) ?", "", words, flags=re.IGNORECASE)
    return rest.strip() if count == 1 else None


def _why(part: str, places: Mapping[str, Fractions]) -> str:
    rest = canonical(_JOINERS.sub(" ", part))
    for name in places:
        rest = _without(rest, name) or rest
    strange = [word for word in re.findall(r"[^\W\d_]{2,}", rest) if word.casefold() not in VOCABULARY]
    return f"it does not know {', '.join(strange[:5])!r}" if strange else "it knows no edit that these words make"


def _box(place: Fractions, image: Image.Image) -> Box:
    """The pixels of a place, at least one; rounded as the small world rounds its gold edits."""
    left, top = round(place[0] * image.width), round(place[1] * image.height)
    return left, top, max(left + 1, round(place[2] * image.width)), max(top + 1, round(place[3] * image.height))
