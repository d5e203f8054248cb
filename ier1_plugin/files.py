"""Edited images and traces on disk: each file is there whole or not at all, and a PNG carries its own trace.

save_image(Path("red.png"), result.image, result.trace.to_json())
read_trace(Path("red.png"))["plan"]["sub_requests"]       # ["Recoloring coat to scarlet", ...]
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image, PngImagePlugin

from ier1_plugin.images import encode
from ier1_plugin.schema import Plan, PlanError

TEXT_KEY = "imageedit_r1"
"""Of the trace in a PNG's international text (iTXt)."""
PNG, JPEG = ".png", (".jpg", ".jpeg")
FORMATS = (PNG, *JPEG)
PART = ".part"
# a third of the time of zlib's usual level 6 for a twentieth more bytes, measured on photographs
PNG_LEVEL = 1


def save_image(path: Path, image: Image.Image, trace: str = "") -> None:
    """Writes an RGB image as its ending says; in a PNG goes the trace as well. OSError, PlanError: it can't be."""
    check_format(path)
    write(path, png_bytes(image, trace) if path.suffix.lower() == PNG else encode(image, lossless=False))


def check_format(path: Path) -> None:
    if path.suffix.lower() not in FORMATS:
        raise PlanError(f"{path} ends in none of {', '.join(FORMATS)}, which say how an image is written")


def png_bytes(image: Image.Image, trace: str = "") -> bytes:
    """An RGB image as PNG, quickly, with the trace in its text."""
    buffer, text = BytesIO(), PngImagePlugin.PngInfo()
    if trace:
        text.add_itxt(TEXT_KEY, trace)
    image.save(buffer, "PNG", pnginfo=text, compress_level=PNG_LEVEL)
    return buffer.getvalue()


def write(path: Path, data: bytes | str) -> None:
    """Writes a file that appears complete."""
    with writing(path) as file:
        file.write(data.encode("utf-8") if isinstance(data, str) else data)


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """A file that appears when it is complete; what a killed process leaves is a hidden one that ends in .part.

    OSError names `path`, whatever could not be written.
    """
    # short, since a name that the file system takes need not leave room for a longer one
    part = path.with_name(f".{os.getpid():x}-{threading.get_ident():x}{PART}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            yield file
        os.replace(part, path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise


def read_trace(path: Path) -> dict[str, Any]:
    """A trace, or a plan alone, from JSON or from an edited PNG. PlanError: there is none in that file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PlanError(f"{path} can't be read: {error.strerror or error}") from None
    try:
        values = json.loads(_png_text(data) if data.startswith(b"\x89PNG") else data.decode("utf-8"))
    except (ValueError, OSError, SyntaxError, RecursionError) as error:
        raise PlanError(f"{path} holds no plan: {error}") from None
    if not isinstance(values, dict):
        raise PlanError(f"{path} holds no plan: wanted a JSON object")
    return values


def read_plan(path: Path) -> Plan:
    """The plan in a trace, a plan file or an edited PNG. PlanError: none is there."""
    values = read_trace(path)
    try:
        return Plan.from_dict(values)
    except PlanError as error:
        raise PlanError(f"{path}: {error}") from None


def _png_text(data: bytes) -> str:
    with Image.open(BytesIO(data)) as image:
        image.load()
        text = getattr(image, "text", {}).get(TEXT_KEY)
    if text is None:
        raise ValueError("it is a PNG that this program did not make")
    return text
