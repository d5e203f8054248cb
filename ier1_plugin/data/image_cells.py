"""The image of a row: encoded bytes, a base64 data URL, or the path of a file in the folder of its table.

image_of("photos/cat.jpg", Path("/data"))               # Path("/data/photos/cat.jpg")
image_of({"bytes": png_bytes, "path": None}, None)      # png_bytes
"""

from __future__ import annotations

import base64
import binascii
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

DATA_URL = "data:"


def image_of(cell: Any, folder: Path | None) -> bytes | Path:
    """The image of a cell: bytes, or the file that it names; ValueError says why there is none."""
    if isinstance(cell, dict):
        cell = cell.get("bytes") or cell.get("path")
    if isinstance(cell, bytes):
        return cell
    if not isinstance(cell, str) or not cell.strip():
        raise ValueError("no image: wanted a path, a base64 data URL or bytes")
    if cell.startswith(DATA_URL):
        return _decoded(cell)
    if "://" in cell[:12]:
        raise ValueError("image is an address: download it and give its path")
    if folder is None:
        raise ValueError("image is a path: in a set on the hub it has no bytes; download the set and give its folder")
    return inside(folder, cell)


def _decoded(url: str) -> bytes:
    head, comma, body = url.partition(",")
    if not comma or not head.endswith(";base64"):
        raise ValueError("image is a data URL without base64")
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("image is a data URL that is not base64") from None


def inside(folder: Path, name: str) -> Path:
    """The file `name` in `folder`; ValueError: it leaves the folder, also by a link, or is no file."""
    if "\0" in name:
        raise ValueError("image path can't be used: it holds a NUL")
    try:
        path = os.path.realpath(os.path.join(folder, name))
        root = _real(folder)
        if os.path.commonpath([root, path]) != root:
            raise ValueError(f"image lies outside the folder of its input: {name}")
        if not os.path.isfile(path):
            raise ValueError(f"image file is missing: {name}")
    except OSError as error:
        raise ValueError(f"image path can't be used: {error}") from None
    return Path(path)


@lru_cache(maxsize=16)
def _real(folder: Path) -> str:
    return os.path.realpath(folder)
