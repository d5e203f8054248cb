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
from ier1_plugin.data.items import note_left_out
from ier1_plugin.data.tables import Rejected, inside, text_of
from ier1_plugin.runs.errors import UserError
from ier1_plugin.task.images import image_suffixes

TEXT = ".txt"


def files_of(folder: Path) -> list[Path]:
    """The images and texts in a folder and below, sorted; hidden ones are left out."""
    return [path for path in _visible(folder) if path.suffix.lower() in (*image_suffixes(), TEXT)]


def _visible(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return [path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)]


def folder_rows(settings: Settings, input: str) -> Iterator[RawRow | Rejected]:
    """One row for each image; texts without an image are rejected, all other files named in a note."""
    folder = Path(input)
    if not folder.is_dir():
        raise UserError(f"--source folder: there is no folder {folder}")
    files = files_of(folder)
    images = [path for path in files if path.suffix.lower() in image_suffixes()]
    note_left_out([str(path.relative_to(folder)) for path in sorted({*_visible(folder)} - {*files})])
    roots, prefix = (folder, *settings.image_roots), settings.prefix(input)
    for path in images:
        name, text = str(path.relative_to(folder)), str(path.relative_to(folder).with_suffix(TEXT))
        try:
            image = inside(roots, name)
            if not (folder / text).is_file():
                raise ValueError(f"no request: {text} is missing")
            request = text_of(inside(roots, text), text)
        except OSError as error:
            yield Rejected(prefix + name, f"no request: {text} can't be read, {error.strerror}", {"image": name})
        except ValueError as error:
            yield Rejected(prefix + name, str(error), {"image": name})
        else:
            yield RawRow(prefix + name, "folder", request, image, group=prefix + name)
    named = {path.with_suffix("") for path in images}
    for path in files:
        if path.suffix == TEXT and path.with_suffix("") not in named:
            name = str(path.relative_to(folder))
            yield Rejected(prefix + name, f"no image: there is none for {name}", {"text": name})
