"""Requests of the small world with their photo, their edits and their gold decomposition.

    sample = next(islice(samples("val", seed=0), 4, None))
    sample.id      == "val-00004.brighter@astronaut:12,0,95,100"
    sample.request == "I want you to brighten up what you see in the picture, please"
    sample.gold    == Decomposition(actions=("Relighting",), subjects=("astronaut",), goals=("brighter",))

Every request asks for one to four edits. A share of PICTURE_SHARE speaks of "the main subject": what that is, and so
the gold subject, only the photo tells. The id carries the edits, so that whoever has a row can make the gold edit.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image

from ier1_plugin.editors.pillow.operations import ANY, OPERATIONS, PART, REGIONS, Fractions, pixel_box
from ier1_plugin.small_world.pictures import Photo, Split, photos
from ier1_plugin.small_world.wordings import (
    GREETING,
    JOINERS,
    MAIN_SUBJECT,
    POLITE,
    STATEMENT_JOINERS,
    WHOLE_PHOTO,
    WORDINGS,
    Phrases,
)
from ier1_plugin.task.schema import Decomposition

PICTURE_SHARE = 0.2
"""Share of the rows whose gold only the picture tells; every fifth row, exactly."""
WHOLE_SUBJECT = "photo"
NUMBER_OF_EDITS = {1: 0.38, 2: 0.34, 3: 0.19, 4: 0.09}
NUMBER_OF_PICTURE_EDITS = {1: 0.6, 2: 0.4}
REGION_SHARE, HINT_SHARE, PLAIN_SHARE, TYPO_SHARE = 0.35, 0.3, 0.4, 0.12
# picture-told rows must not move the subject, or its box would point elsewhere afterwards
PICTURE_EDITS = tuple(key for key, operation in OPERATIONS.items() if operation.scope in (PART, ANY))


@dataclass(frozen=True)
class Edit:
    """One operation on one subject."""

    operation: str
    """A key of OPERATIONS."""
    subject: str
    box: Fractions | None = None
    """Where the subject stands, as fractions of width and height; None for the whole photo."""

    def apply(self, image: Image.Image) -> Image.Image:
        """`image` (RGB, any size) with this edit made."""
        return OPERATIONS[self.operation].apply(image, pixel_box(self.box, image))


@dataclass(frozen=True)
class Sample:
    """A request, the photo that it is about, and what has to be done."""

    id: str
    request: str
    photo: Photo
    edits: tuple[Edit, ...]
    wordings: tuple[str, ...]
    """The keys into WORDINGS that were used, as "brighter: make {it} brighter"."""

    @property
    def gold(self) -> Decomposition:
        return gold_of(self.edits)

    @property
    def think(self) -> str:
        """A reasoning that leads to the gold: what the photo shows, then the edits."""
        return think_of(self.photo.subject, self.edits)


def gold_of(edits: tuple[Edit, ...]) -> Decomposition:
    operations = [OPERATIONS[edit.operation] for edit in edits]
    return Decomposition.of(
        (operation.action for operation in operations),
        (edit.subject for edit in edits),
        (operation.goal for operation in operations if operation.goal),
    )


def think_of(seen: str, edits: tuple[Edit, ...]) -> str:
    return f"I see: {seen}. Edits: {', '.join(OPERATIONS[edit.operation].goal or edit.operation for edit in edits)}."


def samples(split: Split, seed: int, picture_share: float = PICTURE_SHARE, start: int = 0) -> Iterator[Sample]:
    """Endless distinct samples of a split, numbered from `start`; the same for the same arguments."""
    rng, known, seen = random.Random(f"{seed}-{split}-{picture_share}"), photos(split, seed), set()
    number = start
    while True:
        told = int((number + 1) * picture_share) > int(number * picture_share)
        photo = rng.choice(known)
        draft = _picture_told(split, photo, rng) if told else _told_in_words(split, photo, rng)
        # the same words about the same picture would be a near-duplicate
        if (photo.picture, draft.request) in seen:
            continue
        seen.add((photo.picture, draft.request))
        yield Sample(sample_id(split, number, draft.edits), draft.request, photo, draft.edits, draft.wordings)
        number += 1


def sample_id(split: Split, number: int, edits: tuple[Edit, ...]) -> str:
    """ "val-00007.brighter@photo.erase@cat:4,0,86,100": the box of a named subject in per cent."""
    return ".".join([f"{split}-{number:05d}", *map(_written, edits)])


def edits_of(id: str) -> tuple[Edit, ...]:
    """The edits that `sample_id` wrote into an id; ValueError if it wrote none there."""
    edits = tuple(_read(part, id) for part in id.split(".")[1:])
    if not edits:
        raise ValueError(f"no edits in the row id {id!r}; wanted one like val-00007.brighter@photo")
    return edits


def is_picture_told(id: str) -> bool:
    """True for rows whose gold subject only the picture tells."""
    return any(edit.subject != WHOLE_SUBJECT and edit.subject not in REGIONS for edit in edits_of(id))


@dataclass(frozen=True)
class _Draft:
    request: str
    edits: tuple[Edit, ...]
    wordings: tuple[str, ...]


def _picture_told(split: Split, photo: Photo, rng: random.Random) -> _Draft:
    """A request about the main subject of the photo."""
    left, top, right, bottom = (round(value, 2) for value in photo.subject_box)
    edit_keys = _keys(PICTURE_EDITS, _count(NUMBER_OF_PICTURE_EDITS, rng), photo, rng)
    it = _pick(MAIN_SUBJECT, split, rng)
    edits = tuple(Edit(key, photo.subject, (left, top, right, bottom)) for key in edit_keys)
    return _worded(split, edits, [it] * len(edits), rng)


def _told_in_words(split: Split, photo: Photo, rng: random.Random) -> _Draft:
    """A request about the whole photo or about regions that it names."""
    edits, names = [], []
    for key in _keys(tuple(OPERATIONS), _count(NUMBER_OF_EDITS, rng), photo, rng):
        scope = OPERATIONS[key].scope
        if scope == PART or (scope == ANY and rng.random() < REGION_SHARE):
            subject = rng.choice(list(REGIONS))
            called, box = REGIONS[subject]
            edits.append(Edit(key, subject, box))
            names.append(rng.choice(called))
        else:
            edits.append(Edit(key, WHOLE_SUBJECT))
            names.append(rng.choice(WHOLE_PHOTO))
    return _worded(split, tuple(edits), names, rng)


def _keys(known: tuple[str, ...], count: int, photo: Photo, rng: random.Random) -> list[str]:
    """`count` operations of different families that do something to this photo."""
    chosen: dict[str, str] = {}
    for key in rng.sample(known, len(known)):
        if not (photo.grey and OPERATIONS[key].needs_colour) and len(chosen) < count:
            chosen.setdefault(OPERATIONS[key].family, key)
    return list(chosen.values())


def _worded(split: Split, edits: tuple[Edit, ...], names: list[str], rng: random.Random) -> _Draft:
    wordings = [_wording(split, edit, rng) for edit in edits]
    request = wordings[0][1].format(it=names[0])
    for before, (kind, wording), name in zip(wordings, wordings[1:], names[1:], strict=False):
        joiners = JOINERS if before[0] == kind == "asked" else STATEMENT_JOINERS
        request += _pick(joiners, split, rng) + wording.format(it=name)
    frames = POLITE if all(kind == "asked" for kind, _ in wordings) else GREETING
    if rng.random() > PLAIN_SHARE:
        request = _pick(frames, split, rng).format(x=request)
    if rng.random() < TYPO_SHARE:
        request = _with_typo(request, rng)
    used = tuple(f"{edit.operation}: {wording}" for edit, (_, wording) in zip(edits, wordings, strict=True))
    return _Draft(request, edits, used)


def _wording(split: Split, edit: Edit, rng: random.Random) -> tuple[str, str]:
    """("asked" or "hinted", a wording of the split for this edit)."""
    wording, kind = WORDINGS[edit.operation], "hinted" if rng.random() < HINT_SHARE else "asked"
    known: tuple[str, ...] = getattr(wording, kind if split == "train" else f"held_out_{kind}")
    # a wording that names no subject speaks of the whole photo
    fitting = [text for text in known if edit.subject == WHOLE_SUBJECT or "{it}" in text]
    return kind, rng.choice(fitting)


def _pick(phrases: Phrases, split: Split, rng: random.Random) -> str:
    """Validation draws from what training uses and from what is held out, half and half."""
    return rng.choice(phrases.held_out if split == "val" and rng.random() < 0.5 else phrases.train)


def _count(shares: dict[int, float], rng: random.Random) -> int:
    return rng.choices(list(shares), list(shares.values()))[0]


def _with_typo(request: str, rng: random.Random) -> str:
    """One longer word of lower-case letters gets two letters swapped, one doubled or one left out."""
    words = list(re.finditer(r"\b[a-z]{5,}\b", request))
    if not words:
        return request
    word = rng.choice(words)
    at = rng.randrange(word.start() + 1, word.end() - 1)
    kinds = (request[at + 1] + request[at], request[at] * 2 + request[at + 1], request[at + 1])
    return request[:at] + rng.choice(kinds) + request[at + 2 :]


def _written(edit: Edit) -> str:
    name = f"{edit.operation}@{edit.subject.replace(' ', '_')}"
    if edit.box is None or edit.subject in REGIONS:
        return name
    return f"{name}:{','.join(str(round(100 * value)) for value in edit.box)}"


def _read(part: str, id: str) -> Edit:
    match = re.fullmatch(r"(\w+)@(\w+)(?::(\d+),(\d+),(\d+),(\d+))?", part)
    if not match or match[1] not in OPERATIONS:
        raise ValueError(f"{part!r} in the row id {id!r} is no edit of the small world")
    subject = match[2].replace("_", " ")
    if subject in REGIONS:
        return Edit(match[1], subject, REGIONS[subject][1])
    if match[3] is None:
        return Edit(match[1], subject)
    left, top, right, bottom = (int(value) / 100 for value in match.groups()[2:])
    return Edit(match[1], subject, (left, top, right, bottom))
