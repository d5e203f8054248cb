"""Edited images and traces on disk: each file appears complete or not at all, and a PNG carries its own trace.

save_image(Path("red.png"), result.image, result.trace.to_json())
read_trace(Path("red.png"))["plan"]["sub_requests"]       # ["Recoloring coat to scarlet", ...]
"""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from ier1_plugin.runs.errors import one_line
from ier1_plugin.runs.folder import write
from ier1_plugin.task.images import TEXT_KEY, encode, png_bytes
from ier1_plugin.task.schema import Plan, PlanError

PNG, JPEG = ".png", (".jpg", ".jpeg")
FORMATS = (PNG, *JPEG)


def save_image(path: Path, image: Image.Image, trace: str = "") -> None:
    """Writes an RGB image in the format of its suffix; a PNG also gets the trace. OSError, PlanError: it can't be
    written."""
    check_format(path)
    write(path, png_bytes(image, trace) if path.suffix.lower() == PNG else encode(image, lossless=False))


def check_format(path: Path) -> None:
    if path.suffix.lower() not in FORMATS:
        raise PlanError(f"{path} must end in one of {', '.join(FORMATS)}, which decide the image's format")


def read_trace(path: Path) -> dict[str, Any]:
    """A trace, or just a plan, from JSON or from an edited PNG. PlanError: the file holds none."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PlanError(f"{path} can't be read: {error.strerror or error}") from None
    try:
        if data.startswith(b"\x89PNG"):
            with Image.open(BytesIO(data)) as image:
                image.load()
                data = getattr(image, "text", {}).get(TEXT_KEY)
            if data is None:
                raise ValueError("it is a PNG that this program did not make")
        # of bytes it finds the encoding: UTF-8 or UTF-16, with or without a byte order mark
        values = json.loads(data)
    except Exception as error:
        # Pillow's decoders raise whatever they run into
        raise PlanError(f"{path} holds no plan: {one_line(error)}") from None
    if not isinstance(values, dict):
        raise PlanError(f"{path} holds no plan: wanted a JSON object")
    return values


def read_plan(path: Path) -> Plan:
    """The plan in a trace, a plan file or an edited PNG. PlanError: the file holds none."""
    values = read_trace(path)
    try:
        return Plan.from_dict(values)
    except PlanError as error:
        raise PlanError(f"{path}: {error}") from None
