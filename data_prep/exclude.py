"""What `--exclude` takes out of a benchmark, so that no row of it is trained on: post ids, requests, image hashes.

    post_ids_in("Reddit.com_4wfxf2_before.jpg") == {"4wfxf2"}
    list(marks("psr_328.parquet", settings)) -> [("post", "1f3kab"), ("request", b"..."), ("image", -5782334...), ...]

IER, GIER, PSR, RealEdit and PhotoshopRequests are all drawn from one forum, and their file names and columns carry its
post ids (base 36). So a row is recognised by its post even where the photo was cropped and the request rewritten.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from data_prep.checks import picture
from data_prep.collect import request_key
from data_prep.progress import bar
from data_prep.records import BuildError, Rejected
from data_prep.settings import Settings
from data_prep.spool import Spool
from ier1_plugin.data.tables import Line, image_of, read
from ier1_plugin.task.images import ImageError
from ier1_plugin.task.rows import IMAGE_PLACEHOLDER

# the names that these benchmarks use: PSR, PhotoshopRequests, IER, GIER, RealEdit, UltraEdit, MagicBrush, OmniEdit,
# AnyEdit, ImgEdit, GEdit, EditEval, Emu Edit, and the rows of this builder
POSTS = ("post_id", "reddit_id", "submission_id")
NAMES = ("id", "uid", "name", "key", "image_id", "image", "img0", "input", "input_image", "input_image_name", "path")
REQUESTS = ("request", "instruction", "simplified_instruction", "edit_prompt", "prompt", "edit", "description")
REQUESTS += ("detailed_request", "sents", "edited_prompt_list", "problem")
IMAGES = ("image", "source_image", "original_image", "input_image", "input_image_raw", "input_image_name", "images")
IMAGES += ("src_img", "source_img", "image_file", "img0", "input", "image_path")
# 2008 ("5yyyy") to today ("1xxxxxx"); a word and a number, such as img001, is a file name more often than a post
_POST = r"(?![a-z]+\d+\b)(?=[a-z]*\d)(?=\d*[a-z])(?:[0-9a-z]{5,6}|1[0-9a-z]{6})"
_NAMED = (
    re.compile(r"reddit\.com_([0-9a-z]{5,7})_"),
    re.compile(r"(?:/comments/|redd\.it/|\bt3_)([0-9a-z]{5,7})\b"),
    re.compile(r"(?:^|/)([0-9a-z]{5,7})_\1\b"),
    re.compile(rf"(?:^|/)(?:psr-|realedit-)?({_POST})(?:\.[a-z]+)?$"),
)
_TOKEN = re.compile(r"[0-9a-z]{5,7}")


def exclude(settings: Settings, spool: Spool) -> None:
    """Reads the files of `--exclude` into the spool, once a build."""
    if spool.note("excluded"):
        return
    for place in settings.exclude:
        spool.exclude(marks(place, settings))
    spool.set_note("excluded", "yes")


def marks(place: str, settings: Settings) -> Iterator[tuple[str, Any]]:
    """(kind, value) of everything in a benchmark file (jsonl, csv, parquet, arrow, or a txt with an id or a request a
    line) or a folder of such files. BuildError: it can't be read, or has no column that is known.
    """
    path = Path(place)
    if not path.exists():
        raise BuildError(f"--exclude: there is no file or folder {place}")
    if path.suffix == ".txt":
        for line in path.read_text(encoding="utf-8-sig", errors="replace").splitlines():
            yield from _of_text(line.strip())
        return
    seen: set[bytes] = set()
    for line in bar(read(place, None, (*POSTS, *NAMES, *REQUESTS, *IMAGES)), f"excluding {path.name}"):
        if isinstance(line, Rejected):
            raise BuildError(f"--exclude: {place} has a {line.reason}")
        found = list(_of_row(line, settings, seen))
        if not found and not {*POSTS, *NAMES, *REQUESTS, *IMAGES} & set(line.row):
            raise BuildError(f"--exclude: {place} has no column that is known (found: {', '.join(line.row)})")
        yield from found


def post_ids_in(name: str) -> set[str]:
    """The post ids that a name, path or address surely carries."""
    return {found for pattern in _NAMED for found in pattern.findall(name.lower())}


def post_ids_of(id: str, group: str) -> set[str]:
    """Everything in a row's id and group that could be a post id; to be compared with the sure ones of a benchmark."""
    return set(_TOKEN.findall(f"{id} {group}".lower()))


def _of_text(text: str) -> Iterator[tuple[str, Any]]:
    if not text:
        return
    if _TOKEN.fullmatch(text.lower()):
        yield "post", text.lower()
    yield from (("post", post) for post in post_ids_in(text))
    yield "request", request_key(text)


def _of_row(line: Line, settings: Settings, seen: set[bytes]) -> Iterator[tuple[str, Any]]:
    row = line.row
    for name in POSTS:
        if isinstance(row.get(name), str):
            yield "post", row[name].lower().removeprefix("t3_")
    for text in _texts(row, NAMES):
        yield from (("post", post) for post in post_ids_in(text))
    for text in _texts(row, REQUESTS):
        # the key of an empty request would match nothing that gets in
        yield "request", request_key(text.removeprefix(IMAGE_PLACEHOLDER))
    for name in IMAGES:
        image_hash = _image_hash(row.get(name), line.folder, settings, seen)
        if image_hash is not None:
            yield "image", image_hash


def _texts(row: dict[str, Any], names: Iterable[str]) -> Iterator[str]:
    for name in names:
        cell = row.get(name)
        cells = cell if isinstance(cell, (list, tuple)) else [cell]
        for text in cells:
            if isinstance(text, dict):
                text = text.get("path")
            if isinstance(text, str):
                yield text


def _image_hash(cell: Any, folder: Path | None, settings: Settings, seen: set[bytes]) -> int | None:
    """The hash of an image, signed as SQLite wants it; None for one that is not at hand or was hashed before."""
    if isinstance(cell, (list, tuple)):
        cell = cell[0] if cell else None
    if cell is None:
        return None
    try:
        source = image_of(cell, folder)
        data = source if isinstance(source, bytes) else source.read_bytes()
        digest = hashlib.blake2b(data, digest_size=8).digest()
        if digest in seen:
            return None
        seen.add(digest)
        found = picture(data, settings.min_pixels, settings.max_pixels).hash
    except (ImageError, ValueError, OSError):
        # a name without a file, or a picture that nothing opens: neither can be among the rows
        return None
    return int.from_bytes(found.to_bytes(8, "big"), "big", signed=True)
