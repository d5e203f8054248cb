"""The items of a batch: an image and a request each, from JSON lines or from a folder.

    {"id": "object_removal_5", "image": "images/object_removal_5.jpg", "request": "Remove the boat"}
    -> Item(id="object_removal_5", image="/data/images/object_removal_5.jpg", request="Remove the boat")

Paths are relative to the file that names them. An id that is missing is the number of its line: "line-000001". A line
that can't be read becomes an Item with a `problem`. The input is read as it is needed and never held.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ier1_plugin.editors.finished import SUFFIXES
from ier1_plugin.task.images import read_file

REQUEST_KEYS = ("request", "instruction")
# most file systems end a name at 255 bytes
LONGEST_NAME = 150


class BatchError(Exception):
    """The batch can't go on; the message says in one line what came, what was wanted and what to do."""


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
        """The id as the name of a file: what file systems may not take is percent-encoded."""
        name = quote(self.id, safe=" @+,=:()")
        if len(name) > LONGEST_NAME:
            name = f"{name[:100]}-{sha256(self.id.encode()).hexdigest()[:16]}"
        return f"%2E{name[1:]}" if name.startswith(".") else name

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


def read_items(source: Path, request: str = "") -> Iterator[Item]:
    """The items of a .jsonl file or of a folder of images, always in the same order.

    `request`: for items that bring none. In a folder the request of photo.jpg may stand beside it, in photo.txt.
    """
    source = source.resolve()
    return _of_folder(source, request) if source.is_dir() else _of_lines(source, request)


def _of_folder(folder: Path, request: str) -> Iterator[Item]:
    # sorted by name: the directory's own order differs between file systems
    names = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    times = Counter(Path(name).stem for name in names)
    for name in names:
        stem = Path(name).stem
        beside = folder / f"{stem}.txt"
        words = _text(beside) if beside.is_file() else request
        id = stem if times[stem] == 1 else name
        problem = "" if words else f"no request: write one into {beside.name}, or give --request"
        yield Item(id, str(folder / name), words, problem)


def _of_lines(file: Path, request: str) -> Iterator[Item]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _of_line(line, f"line-{number:06d}", file, request)


def _of_line(line: bytes, default_id: str, file: Path, request: str) -> Item:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Item(default_id, problem=f"not JSON: {error}")
    if not isinstance(values, dict):
        return Item(default_id, problem='not a JSON object; wanted {"image": "photo.jpg", "request": "..."}')
    given = values.get("id")
    id = _writable(default_id if given is None or given == "" else str(given))
    image = values.get("image")
    if not isinstance(image, str) or not image or "\0" in image or _writable(image) != image:
        return Item(id, problem=f"image is {image!r}; wanted the path of a file")
    words = next((values[key] for key in REQUEST_KEYS if values.get(key)), request)
    if not isinstance(words, str) or not words:
        return Item(id, problem=f"no request: {' or '.join(REQUEST_KEYS)} is missing or no string")
    return Item(id, str(file.parent / image), _writable(words))


def _writable(text: str) -> str:
    """Without lone surrogates, which JSON can hold and no file can."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _text(file: Path) -> str:
    return read_file(file).decode("utf-8", "replace").strip()


def count_items(source: Path) -> int:
    """How many there are; quick, as nothing is parsed. BatchError: none, or no such file or folder."""
    if source.is_dir():
        count = sum(path.suffix.lower() in SUFFIXES for path in source.iterdir())
    elif source.suffix.lower() in SUFFIXES:
        raise BatchError(f"{source} is one image; edit it with ier1 edit, or name its folder")
    elif source.is_file():
        with source.open("rb") as lines:
            count = sum(bool(line.strip()) for line in lines)
    else:
        raise BatchError(f"{source} is neither a folder nor a file; wanted a folder of images or a .jsonl file")
    if not count:
        endings = f"; known endings: {', '.join(SUFFIXES)}" if source.is_dir() else ""
        raise BatchError(f"{source} holds nothing to edit{endings}")
    return count


def item_of(values: dict[str, Any]) -> Item:
    """The inverse of `as_dict`."""
    return Item(**values)
