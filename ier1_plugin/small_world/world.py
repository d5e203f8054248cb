"""Requests of the small world with their photo, their edits and their gold decomposition.

    sample = next(islice(samples("val", seed=0), 4, None))
    sample.id      == "val-00004.brighter@astronaut:12,0,95,100"
    sample.request == "I want you to brighten up what you see in the picture, please"
    sample.gold    == Decomposition(actions=("Relighting",), subjects=("astronaut",), goals=("brighter",))

Every request asks for one to four edits. A share of PICTURE_SHARE speaks of "the main subject": only the photo
shows what that is, and so the gold subject. The id carries the edits, so that the gold edit can be made from a row.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations

from PIL import Image

from ier1_plugin.editors.pillow.operations import ANY, OPERATIONS, PART, REGIONS, Fractions, pixel_box
from ier1_plugin.pipeline.agents import ANY_ACTION, WHOLE_SUBJECT, rule
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
    """Where the subject is, as fractions of width and height; None for the whole photo."""

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
    """The decomposition that asks for these edits, its lists in `told_order`."""
    return _listed(told_order(edits))


def think_of(seen: str, edits: tuple[Edit, ...]) -> str:
    told = (OPERATIONS[edit.operation].goal or edit.operation for edit in told_order(edits))
    return f"I see: {seen}. Edits: {', '.join(told)}."


def told_order(edits: tuple[Edit, ...]) -> tuple[Edit, ...]:
    """The first permutation of `edits` whose lists `rule` puts together as these very edits; `edits` if there is none.

    Every one and two edits have one, and nearly all three and four.
    """
    return next(filter(_pairs_again, permutations(edits)), edits)


def _listed(edits: tuple[Edit, ...]) -> Decomposition:
    operations = [OPERATIONS[edit.operation] for edit in edits]
    return Decomposition.of(
        (operation.action for operation in operations),
        (edit.subject for edit in edits),
        (operation.goal for operation in operations if operation.goal),
    )


def _pairs_again(edits: tuple[Edit, ...]) -> bool:
    """True if `rule` gives a sub-request for each edit in turn: its subject, its goal, and its action or any."""
    plan = rule(_listed(edits))
    return len(plan) == len(edits) and all(map(_says, plan, edits))


def _says(sub_request: str, edit: Edit) -> bool:
    operation, (wanted,) = OPERATIONS[edit.operation], rule(_listed((edit,)))
    any_action = wanted.replace(operation.action, ANY_ACTION, 1)
    return sub_request == wanted or (bool(operation.goal) and sub_request == any_action)


def gold_image(image: Image.Image, edits: tuple[Edit, ...]) -> Image.Image:
    """`image` with every edit made as it was asked for."""
    for edit in edits:
        image = edit.apply(image)
    return image


def samples(split: Split, seed: int, picture_share: float = PICTURE_SHARE, start: int = 0) -> Iterator[Sample]:
    """Endless distinct samples of a split, numbered from `start`; the same for the same arguments."""
    rng, known, seen = random.Random(f"{seed}-{split}-{picture_share}"), photos(split, seed), set()
    number = start
    while True:
        from_picture = int((number + 1) * picture_share) > int(number * picture_share)
        photo = rng.choice(known)
        edits, names = _edits_of_subject(split, photo, rng) if from_picture else _edits_of_regions(photo, rng)
        request, wordings = _words(split, edits, names, rng)
        # the same words about the same picture would be a near-duplicate
        if (photo.picture, request) in seen:
            continue
        seen.add((photo.picture, request))
        yield Sample(sample_id(split, number, edits), request, photo, edits, wordings)
        number += 1


def sample_id(split: Split, number: int, edits: tuple[Edit, ...]) -> str:
    """ "val-00007.brighter@photo.erase@cat:4,0,86,100": the box of a named subject in per cent."""
    parts = [f"{split}-{number:05d}"]
    for edit in edits:
        box = (
            "" if edit.box is None or edit.subject in REGIONS else ",".join(f"{100 * value:.0f}" for value in edit.box)
        )
        parts.append(f"{edit.operation}@{edit.subject.replace(' ', '_')}{':' if box else ''}{box}")
    return ".".join(parts)


def edits_of(id: str) -> tuple[Edit, ...]:
    """The edits that `sample_id` wrote into an id; ValueError if it wrote none there."""
    edits = []
    for part in id.split(".")[1:]:
        match = re.fullmatch(r"(\w+)@(\w+)(?::(\d+),(\d+),(\d+),(\d+))?", part)
        if not match or match[1] not in OPERATIONS:
            raise ValueError(f"{part!r} in the row id {id!r} is no edit of the small world")
        operation, subject = match[1], match[2].replace("_", " ")
        if subject in REGIONS:
            edits.append(Edit(operation, subject, REGIONS[subject][1]))
        elif match[3] is None:
            edits.append(Edit(operation, subject))
        else:
            left, top, right, bottom = (int(value) / 100 for value in match.groups()[2:])
            edits.append(Edit(operation, subject, (left, top, right, bottom)))
    if not edits:
        raise ValueError(f"no edits in the row id {id!r}; wanted one like val-00007.brighter@photo")
    return tuple(edits)


def is_picture_told(id: str) -> bool:
    """True for rows whose gold subject only the picture tells."""
    return any(edit.subject != WHOLE_SUBJECT and edit.subject not in REGIONS for edit in edits_of(id))


def _edits_of_subject(split: Split, photo: Photo, rng: random.Random) -> tuple[tuple[Edit, ...], list[str]]:
    """Edits of the main subject of the photo, and what the request calls it in each."""
    left, top, right, bottom = (round(value, 2) for value in photo.subject_box)
    operations = _operations(PICTURE_EDITS, NUMBER_OF_PICTURE_EDITS, photo, rng)
    it = _pick(MAIN_SUBJECT, split, rng)
    edits = tuple(Edit(key, photo.subject, (left, top, right, bottom)) for key in operations)
    return edits, [it] * len(edits)


def _edits_of_regions(photo: Photo, rng: random.Random) -> tuple[tuple[Edit, ...], list[str]]:
    """Edits of the whole photo or of regions, and what the request calls these."""
    edits, names = [], []
    for key in _operations(tuple(OPERATIONS), NUMBER_OF_EDITS, photo, rng):
        scope = OPERATIONS[key].scope
        if scope == PART or (scope == ANY and rng.random() < REGION_SHARE):
            subject = rng.choice(list(REGIONS))
            region_names, box = REGIONS[subject]
            edits.append(Edit(key, subject, box))
            names.append(rng.choice(region_names))
        else:
            edits.append(Edit(key, WHOLE_SUBJECT))
            names.append(rng.choice(WHOLE_PHOTO))
    return tuple(edits), names


def _operations(known: tuple[str, ...], shares: dict[int, float], photo: Photo, rng: random.Random) -> list[str]:
    """Operations of different families that do something to this photo, as many as `shares` makes likely."""
    count = rng.choices(list(shares), list(shares.values()))[0]
    chosen: dict[str, str] = {}
    for key in rng.sample(known, len(known)):
        if not (photo.grey and OPERATIONS[key].needs_colour) and len(chosen) < count:
            chosen.setdefault(OPERATIONS[key].family, key)
    return list(chosen.values())


def _words(split: Split, edits: tuple[Edit, ...], names: list[str], rng: random.Random) -> tuple[str, tuple[str, ...]]:
    """(the request, the wordings that it uses)"""
    wordings = []
    for edit in edits:
        kind = "hinted" if rng.random() < HINT_SHARE else "asked"
        known: tuple[str, ...] = getattr(WORDINGS[edit.operation], kind if split == "train" else f"held_out_{kind}")
        # a wording that names no subject speaks of the whole photo
        wordings.append((kind, rng.choice([t for t in known if edit.subject == WHOLE_SUBJECT or "{it}" in t])))
    request = wordings[0][1].format(it=names[0])
    for before, (kind, wording), name in zip(wordings, wordings[1:], names[1:], strict=False):
        joiners = JOINERS if before[0] == kind == "asked" else STATEMENT_JOINERS
        request += _pick(joiners, split, rng) + wording.format(it=name)
    frames = POLITE if all(kind == "asked" for kind, _ in wordings) else GREETING
    if rng.random() > PLAIN_SHARE:
        request = _pick(frames, split, rng).format(x=request)
    if rng.random() < TYPO_SHARE and (words := list(re.finditer(r"\b[a-z]{5,}\b", request))):
        # two letters swapped, one doubled or one left out
        word = rng.choice(words)
        at = rng.randrange(word.start() + 1, word.end() - 1)
        typos = (request[at + 1] + request[at], request[at] * 2 + request[at + 1], request[at + 1])
        request = request[:at] + rng.choice(typos) + request[at + 2 :]
    return request, tuple(f"{edit.operation}: {text}" for edit, (_, text) in zip(edits, wordings, strict=True))


def _pick(phrases: Phrases, split: Split, rng: random.Random) -> str:
    """Validation takes what training uses and what is held out, half and half."""
    return rng.choice(phrases.held_out if split == "val" and rng.random() < 0.5 else phrases.train)
