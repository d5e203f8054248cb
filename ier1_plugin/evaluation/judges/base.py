"""A judge, and what it looks at: a pair of images with its request.

judge.ask(judge.prepare(Case(source, edited, "remove the lamp")), 0, 0)
-> Completion(text='{"reasoning": "It is gone.", "fulfilment": 4, "quality": 2, "preservation": 3}', ...)
read_verdict(completion)     # (Score(4, 2, 3), "")
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ier1_plugin.chat.reply import json_in_reply
from ier1_plugin.chat.request import Completion
from ier1_plugin.evaluation.records import DIMENSIONS, BenchmarkItem, Score
from ier1_plugin.runs.errors import one_line

if TYPE_CHECKING:
    from PIL import Image

PIXEL = "pixel"
ATTEMPTS = 3
# kinds of reasons why there is no score
REFUSAL, UNREADABLE, OUT_OF_RANGE, MISSING, HTTP = "refusal", "unreadable", "out of range", "missing image", "http"
SHOWN = 80
# a PNG's text, such as a trace, makes no other picture (PNG specification, 11.3)
PNG_SIGNATURE, PNG_TEXTS = b"\x89PNG\r\n\x1a\n", (b"tEXt", b"zTXt", b"iTXt", b"tIME")


@dataclass(frozen=True)
class Case:
    """What a judge looks at: RGB images, both of the source's size where the judge has a `max_side`."""

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


class Pair(NamedTuple):
    """One edit to judge: the paths in `item` and `edited` are absolute."""

    item: BenchmarkItem
    system: str
    edited: Path | str
    """The edited image, or, as a string, the reason why there is none."""


def read_verdict(completion: Completion) -> tuple[Score | None, str]:
    """The score in a reply, or None and the reason, which begins with its kind and a colon. Nothing is guessed.

    A score is exactly one JSON object with a whole number in range for each of DIMENSIONS; other keys are ignored.
    """
    if completion.refusal:
        return None, f"{REFUSAL}: {one_line(completion.refusal)[:SHOWN]!r}"
    if completion.cut_off:
        return None, f"{UNREADABLE}: cut off at its length limit: {one_line(completion.text[-SHOWN:])!r}"
    try:
        values = json_in_reply(completion.text)
    except ValueError as error:
        return None, f"{UNREADABLE}: {one_line(error)}"
    if not isinstance(values, dict) or not set(DIMENSIONS) <= set(values):
        wanted = ", ".join(DIMENSIONS)
        return None, f"{UNREADABLE}: {one_line(completion.text)[:SHOWN]!r}; wanted an object with {wanted}"
    for name, highest in DIMENSIONS.items():
        value = values[name]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value % 1:
            return None, f"{UNREADABLE}: {name} is {str(value)[:SHOWN]!r}; wanted a whole number from 0 to {highest}"
        if not 0 <= value <= highest:
            return None, f"{OUT_OF_RANGE}: {name} is {str(value)[:SHOWN]}; wanted 0 to {highest}"
    return Score(*(int(values[name]) for name in DIMENSIONS)), ""


def bounded(size: tuple[int, int], max_side: int) -> tuple[int, int]:
    """(width, height) with the longer side at most `max_side` and the shape kept; never larger than it was."""
    factor = min(1.0, max_side / max(size))
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
