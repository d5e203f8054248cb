"""The items of a batch: an image and a request each, from JSON lines or from a folder.

    {"id": "object_removal_5", "image": "images/object_removal_5.jpg", "request": "Remove the boat"}
    -> Item(id="object_removal_5", image="/data/images/object_removal_5.jpg", request="Remove the boat")

Paths are relative to the file that names them. A missing id is made from the line's number: "line-000001". A line
that can't be read becomes an Item with a `problem`. The input is read as it is needed and never held in memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

from ier1_plugin.data.sets import SETS
from ier1_plugin.data.tables import Rejected, open_text, read_jsonl, text_of
from ier1_plugin.runs.errors import UserError, log
from ier1_plugin.task.images import USUAL_SUFFIXES, image_suffixes, no_image_file
from ier1_plugin.task.rows import without_surrogates

# most file systems end a name at 255 bytes
LONGEST_NAME = 150


@dataclass(frozen=True)
class Item:
    """One image to edit."""

    id: str
    image: str = ""
    """Absolute path."""
    request: str = ""
    problem: str = ""
    """Why it can't be used, or ""."""

    @property
    def name(self) -> str:
        """The id as a file name: characters that file systems may reject are percent-encoded."""
        name = quote(self.id, safe=" @+,=:()")
        if len(name) > LONGEST_NAME:
            name = f"{name[:100]}-{sha256(self.id.encode()).hexdigest()[:16]}"
        return f"%2E{name[1:]}" if name.startswith(".") else name

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


def read_items(source: Path, request: str = "") -> Iterator[Item]:
    """The items of a .jsonl file or of a folder of images, always in the same order.

    `request`: for items without one. In a folder the request of photo.jpg may be in photo.txt beside it.
    """
    source = source.resolve()
    if source.is_dir():
        # sorted by name: the directory's own order differs between file systems
        names = sorted(path.name for path in source.iterdir() if _is_image(path))
        times = Counter(Path(name).stem for name in names)
        for name in names:
            stem = Path(name).stem
            beside = source / f"{stem}.txt"
            words, problem = request, ""
            try:
                words = text_of(beside, beside.name).strip() if beside.is_file() else request
                if not words:
                    problem = f"no request: write one into {beside.name}, or give --request"
            except OSError as error:
                problem = f"{beside.name} can't be read: {error.strerror}"
            except ValueError as error:
                problem = str(error)
            yield Item(stem if times[stem] == 1 else name, str(source / name), words, problem)
        return
    keys = SETS["jsonl"].columns["request"]
    for line in read_jsonl(source):
        if isinstance(line, Rejected):
            yield Item(f"line-{line.row['line']:06d}", problem=line.reason)
            continue
        own_id = line.row.get("id")
        id = f"line-{line.number:06d}" if own_id is None or own_id == "" else without_surrogates(str(own_id))
        image, words = line.row.get("image"), next((line.row[key] for key in keys if line.row.get(key)), request)
        if not isinstance(image, str) or not image or "\0" in image or without_surrogates(image) != image:
            yield Item(id, problem=f"image is {image!r}; wanted the path of a file")
        elif mistaken := no_image_file(image):
            yield Item(id, problem=f"image: {mistaken}")
        elif not isinstance(words, str) or not words:
            yield Item(id, problem=f"no request: {' or '.join(keys)} is missing or not a string")
        else:
            yield Item(id, str(source.parent / image), without_surrogates(words))


def _is_image(path: Path) -> bool:
    """True for what is taken from a folder; a Mac leaves a hidden ._photo.jpg beside a photo on other disks."""
    return path.suffix.lower() in image_suffixes() and not path.name.startswith(".")


def count_items(source: Path) -> int:
    """How many items there are; quick, as nothing is parsed. UserError: none, or no such file or folder."""
    if mistaken := no_image_file(str(source)):
        raise UserError(mistaken)
    if source.is_dir():
        count = sum(map(_is_image, source.iterdir()))
    elif source.suffix.lower() in image_suffixes():
        raise UserError(f"{source} is one image; edit it with ier1 edit, or name its folder")
    elif source.is_file():
        with open_text(source, "\n") as lines:
            count = sum(bool(line.strip()) for line in lines)
    else:
        raise UserError(f"{source} is neither a folder nor a file; wanted a folder of images or a .jsonl file")
    if not count:
        endings = f"; wanted images: {', '.join(USUAL_SUFFIXES)} and others" if source.is_dir() else ""
        raise UserError(f"{source} holds nothing to edit{endings}")
    return count


def note_left_out(names: list[str]) -> None:
    """Logs how many files of a folder are passed over, and the first of their names."""
    if names:
        log(f"note: {len(names)} left out as no images: {', '.join(names[:5])}{', …' * (len(names) > 5)}")


def left_out(source: Path) -> list[str]:
    """The files of a folder of images that are neither an image nor the request of one, by name; [] for a file."""
    if not source.is_dir():
        return []
    files = sorted(path for path in source.iterdir() if path.is_file() and not path.name.startswith("."))
    images = {path.stem for path in files if path.suffix.lower() in image_suffixes()}
    return [
        path.name
        for path in files
        if path.suffix.lower() not in image_suffixes() and not (path.suffix == ".txt" and path.stem in images)
    ]
