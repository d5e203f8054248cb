"""A folder of images, each with its request in a text file of the same name beside it.

    photos/cat.jpg and photos/cat.txt ("remove the lamp")
    -> RawRow(id="cat.jpg", source="folder", request="remove the lamp", image=Path("photos/cat.jpg"), group="cat.jpg")

The whole text is one request. Subfolders are read too, in the order of the names. Several requests for one
image, or gold, need a JSONL file (`--source jsonl`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from data_prep.settings import RawRow, Settings
from ier1_plugin.data.tables import Rejected, inside
from ier1_plugin.runs.errors import UserError
from ier1_plugin.task.images import SUFFIXES

# what cameras and editors write, whether Pillow opens it or not: one that it doesn't is rejected, not passed over
IMAGES = {*SUFFIXES, ".heic", ".heif", ".avif", ".jp2"}
# a request has 8,000 characters at most; more of a file than this is never read
READ_CHARACTERS = 100_000


def folder_rows(settings: Settings, input: str) -> Iterator[RawRow | Rejected]:
    """One row for each image; texts without an image are rejected, all other files ignored."""
    folder = Path(input)
    if not folder.is_dir():
        raise UserError(f"--source folder: there is no folder {folder}")
    files = sorted(path for path in folder.rglob("*") if not path.name.startswith("."))
    images = [path for path in files if path.suffix.lower() in IMAGES]
    for path in images:
        name, text = path.relative_to(folder), path.relative_to(folder).with_suffix(".txt")
        try:
            image = inside(folder, str(name))
            if not (folder / text).is_file():
                raise ValueError(f"no request: {text} is missing")
            with inside(folder, str(text)).open(encoding="utf-8-sig", errors="replace") as file:
                request = file.read(READ_CHARACTERS)
        except OSError as error:
            yield Rejected(str(name), f"no request: {text.name} can't be read, {error.strerror}", {"image": str(name)})
        except ValueError as error:
            yield Rejected(str(name), str(error), {"image": str(name)})
        else:
            yield RawRow(str(name), "folder", request, image, group=str(name))
    named = {path.with_suffix("") for path in images}
    for path in files:
        if path.suffix == ".txt" and path.with_suffix("") not in named:
            name = str(path.relative_to(folder))
            yield Rejected(name, f"no image: there is none for {name}", {"text": name})
