"""What a judge is and what it looks at: one pair of images with its request, read from disk and made ready.

question = question_of(Pair(item, "flux", Path("/study/systems/flux/images/psr-1a2b.png")), judge)
question.blank.key       # what makes it the same question as another one: hashes of images, request and rubric ...
question.case.edited     # 1024 x 683 RGB, as large as question.case.source
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ier1_plugin.evaluation.judges.store import MISSING
from ier1_plugin.evaluation.records import BenchmarkItem, Judgement, Score
from ier1_plugin.task.images import ImageError, fitted, open_image, read_file

if TYPE_CHECKING:
    from PIL import Image

ATTEMPTS = 3
REQUESTS = 5
# what a PNG says in words, such as a trace, makes no other picture (PNG specification, 11.3)
PNG_SIGNATURE, PNG_WORDS = b"\x89PNG\r\n\x1a\n", (b"tEXt", b"zTXt", b"iTXt", b"tIME")


@dataclass(frozen=True)
class Case:
    """What a judge looks at: RGB images, both of the source's size where the judge has a `max_side`."""

    source: Image.Image
    edited: Image.Image
    request: str
    gold: Image.Image | None = None
    """The edit as it should be, for judges that compare with it."""


@dataclass(frozen=True)
class Reply:
    """One reply of a judge."""

    score: Score | None
    unscored: str = ""
    """Why there is no score: its kind, a colon, more words."""
    text: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    model: str = ""
    final: bool = False
    """True: asking again would bring the same."""


@dataclass(frozen=True)
class Judge:
    """Something that scores edits."""

    name: str
    ask: Callable[[Any, int, int], Reply]
    """(what `show` made, sample, how many replies could not be read) -> one reply, at the cost of one request.

    TransientError: a bad moment of the server. RequestRejected: it won't take this case. ChatError: it will take none.
    """
    rubric_sha256: str
    show: Callable[[Case], Any] = lambda case: case
    """What `ask` needs of a case, such as the encoded images: made once for all samples and attempts."""
    max_side: int | None = None
    """Longest side in pixels of what it is shown; None: the images as they are."""
    compares_with_gold: bool = False
    attempts: int = ATTEMPTS
    """Replies to a case before it stays unscored."""
    requests: int = REQUESTS
    """Requests for one reply while the server fails."""
    backoff: float = 1.0
    """Longest wait in seconds before the second request, doubled for each further one."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What evaluation.json keeps of it. Holds no secret."""
    close: Callable[[], None] = lambda: None


class Pair(NamedTuple):
    """What shall be judged: the paths in `item` and `edited` are absolute."""

    item: BenchmarkItem
    system: str
    edited: Path | str
    """The edited image; a string is the reason why there is none."""


@dataclass(frozen=True)
class Question:
    """A pair with its files read, and the judgement of it but for what the judge says."""

    blank: Judgement
    files: Mapping[str, bytes]
    request: str
    judge: Judge
    problem: str = ""

    @cached_property
    def case(self) -> Case:
        """ImageError: a file is no image."""
        images = {name: _opened(name, data) for name, data in self.files.items()}
        case = Case(request=self.request, **images)
        if self.judge.max_side is None:
            return case
        size = bounded(case.source.size, self.judge.max_side)
        return replace(case, source=fitted(case.source, size), edited=fitted(case.edited, size))

    @cached_property
    def shown(self) -> Any:
        """What the judge is asked with. ImageError: a file is no image."""
        return self.judge.show(self.case)


def bounded(size: tuple[int, int], max_side: int) -> tuple[int, int]:
    """(width, height) with the longer side at most `max_side` and the shape kept; never larger than it was."""
    factor = min(1.0, max_side / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def content_sha256(data: bytes) -> str:
    """Of an encoded image; of a PNG without its text, so that a trace inside makes no other image of it."""
    if not data.startswith(PNG_SIGNATURE):
        return hashlib.sha256(data).hexdigest()
    digest, start = hashlib.sha256(PNG_SIGNATURE), len(PNG_SIGNATURE)
    while start < len(data):
        # a chunk: length (4 bytes), type (4), data, checksum (4)
        end = start + 12 + int.from_bytes(data[start : start + 4], "big")
        if data[start + 4 : start + 8] not in PNG_WORDS:
            digest.update(memoryview(data)[start:end])
        start = end
    return digest.hexdigest()


def question_of(pair: Pair, judge: Judge) -> Question:
    """Reads the files of the pair; one that can't be read is the `problem` of the question."""
    paths: dict[str, Path | str | None] = {"source": Path(pair.item.image), "edited": pair.edited}
    if judge.compares_with_gold:
        paths["gold"] = Path(pair.item.gold_image) if pair.item.gold_image else "no gold edit"
    files, problem = _read(paths)
    hashes = {name: content_sha256(data) for name, data in files.items()}
    # with another gold edit it is another question
    asked = hashlib.sha256(pair.item.request.encode("utf-8", "replace") + hashes.get("gold", "").encode())
    blank = Judgement(
        item=pair.item.id,
        system=pair.system,
        judge=judge.name,
        sample=0,
        source_sha256=hashes.get("source", ""),
        edited_sha256=hashes.get("edited", ""),
        request_sha256=asked.hexdigest(),
        rubric_sha256=judge.rubric_sha256,
        score=None,
    )
    return Question(blank, files, pair.item.request, judge, problem)


def _read(paths: Mapping[str, Path | str | None]) -> tuple[dict[str, bytes], str]:
    """The files, and what is wrong if one is missing."""
    files, problem = {}, ""
    for name, path in paths.items():
        try:
            if not isinstance(path, Path):
                raise ImageError(str(path))
            files[name] = read_file(path)
        except ImageError as error:
            problem = problem or f"{MISSING}: {error}"
    return files, problem


def _opened(name: str, data: bytes) -> Image.Image:
    try:
        return open_image(data)
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from None
