"""A judge, and what it looks at: a pair of images with its request.

judge.ask(judge.question(Case(source, edited, "remove the lamp")), 0, 0)
-> Completion(text='{"images_seen": 2, "reasoning": "It is gone.", "fulfilment": 4, "quality": 2, "preservation": 3}')
read_verdict(completion)     # (Score(4, 2, 3), "")
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ier1_plugin.chat.reply import json_in_reply
from ier1_plugin.chat.request import Completion
from ier1_plugin.evaluation.records import DIMENSIONS, BenchmarkItem, Score
from ier1_plugin.runs.errors import one_line

if TYPE_CHECKING:
    from PIL import Image

    from ier1_plugin.task.images import Size

PIXEL = "pixel"
ATTEMPTS = 3
# kinds of reasons why there is no score
REFUSAL, CUT_OFF, UNREADABLE, OUT_OF_RANGE = "refusal", "cut off", "unreadable", "out of range"
NOT_SEEN, MISSING, HTTP, UNFORESEEN = "images not seen", "missing image", "http", "error"
# what a judge has to say beside its scores: how many images reached it
IMAGES_SEEN, IMAGES = "images_seen", 2
SHOWN = 80
# two shapes count as one where they differ by no more, as editors round sizes to multiples of 8 or 16
SAME_SHAPE = 0.01
# a PNG's text, such as a trace, makes no other picture (PNG specification, 11.3)
PNG_SIGNATURE, PNG_TEXTS = b"\x89PNG\r\n\x1a\n", (b"tEXt", b"zTXt", b"iTXt", b"tIME")


@dataclass(frozen=True)
class Case:
    """What a judge looks at: RGB images; both with one longest side where the judge has a `max_side`."""

    source: Image.Image
    edited: Image.Image
    request: str
    gold: Image.Image | None = None
    """The correct edit, for judges that compare with it."""


@dataclass(frozen=True)
class Judge:
    """Something that scores edits; it may be asked from several threads."""

    name: str
    ask: Callable[[Any, int, int], Completion]
    """(what `prepare` returned, sample, number of replies to it that had no score) -> one more reply.

    TransientError: no answer after all retries. RequestRejected: it won't take this case. ChatError: it takes none.
    """
    rubric_sha256: str
    prepare: Callable[[Case], Any] = lambda case: case
    """What `ask` needs from a case, such as the encoded images: computed once for all samples and attempts."""
    max_side: int | None = None
    """Longest side in pixels of the images that it is shown; None: the images as they are."""
    compares_with_gold: bool = False
    attempts: int = ATTEMPTS
    """Replies to a case before it stays unscored."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Its settings in evaluation.json. Holds no secret."""
    close: Callable[[], None] = lambda: None

    def question(self, case: Case) -> Any:
        """What `ask` needs for a case: `prepare` of its images at the judge's size, the edit in its own shape."""
        from ier1_plugin.task.images import fitted

        if self.max_side is not None:
            source = fitted(case.source, bounded(case.source.size, self.max_side))
            edited = fitted(case.edited, shown_size(case.edited.size, source.size))
            case = replace(case, source=source, edited=edited)
        return self.prepare(case)


class Pair(NamedTuple):
    """One edit to judge: the paths in `item` and `edited` are absolute."""

    item: BenchmarkItem
    system: str
    edited: Path | str
    """The edited image, or, as a string, the reason why there is none."""


def read_verdict(completion: Completion) -> tuple[Score | None, str]:
    """The score in a reply, or None and the reason, which begins with its kind and a colon. Nothing is guessed.

    A score is exactly one JSON object with a whole number in range for each of DIMENSIONS, by a judge that says that it
    saw both images; other keys are ignored.
    """
    if completion.refusal:
        return None, f"{REFUSAL}: {one_line(completion.refusal)[:SHOWN]!r}"
    if completion.cut_off:
        end = one_line(completion.text[-SHOWN:])
        return None, f"{CUT_OFF}: the reply reached its length limit, which --judge-max-tokens sets, after {end!r}"
    if completion.only_thoughts:
        return None, f"{UNREADABLE}: {completion.flaw(0)}"
    try:
        values = json_in_reply(completion.text)
    except ValueError as error:
        return None, f"{UNREADABLE}: {one_line(error)}"
    numbers = {IMAGES_SEEN: IMAGES, **DIMENSIONS}
    seen = values.get(IMAGES_SEEN) if isinstance(values, dict) else None
    if type(seen) in (int, float) and seen in range(IMAGES):
        words = one_line(str(values.get("reasoning", "")))[:SHOWN]
        return None, f"{NOT_SEEN}: the judge says that it saw {seen} of {IMAGES}: {words!r}"
    if not isinstance(values, dict) or not set(numbers) <= set(values):
        return None, f"{UNREADABLE}: {one_line(completion.text)[:SHOWN]!r}; wanted an object with {', '.join(numbers)}"
    for name, highest in numbers.items():
        value = values[name]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value % 1:
            return None, f"{UNREADABLE}: {name} is {str(value)[:SHOWN]!r}; wanted a whole number from 0 to {highest}"
        if not 0 <= value <= highest:
            return None, f"{OUT_OF_RANGE}: {name} is {str(value)[:SHOWN]}; wanted 0 to {highest}"
    return Score(*(int(values[name]) for name in DIMENSIONS)), ""


def bounded(size: Size, max_side: int) -> Size:
    """The size with its longer side at most `max_side` and its shape kept; never larger than it was."""
    return _scaled(size, min(1.0, max_side / max(size)))


def shown_size(edited: Size, source: Size) -> Size:
    """The size at which an edit is shown beside its source, so that the number of pixels tells nothing and the shape
    everything: the source's own where both have one shape, else the edit's shape with the source's longest side.
    """
    across, down = edited[0] * source[1], edited[1] * source[0]
    # a pixel more or less is rounding, too
    if abs(across - down) <= max(*edited, *source, SAME_SHAPE * across):
        return source
    return _scaled(edited, max(source) / max(edited))


def _scaled(size: Size, factor: float) -> Size:
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def content_sha256(data: bytes) -> str:
    """Hash of an encoded image; for a PNG without its text, so that the trace inside does not change it."""
    if not data.startswith(PNG_SIGNATURE):
        return hashlib.sha256(data).hexdigest()
    digest, start = hashlib.sha256(PNG_SIGNATURE), len(PNG_SIGNATURE)
    while start < len(data):
        # a chunk: length (4 bytes), type (4), data, checksum (4)
        end = start + 12 + int.from_bytes(data[start : start + 4], "big")
        if data[start + 4 : start + 8] not in PNG_TEXTS:
            digest.update(memoryview(data)[start:end])
        start = end
    return digest.hexdigest()
