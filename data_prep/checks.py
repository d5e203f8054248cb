"""The checks that a raw row must pass: its request, its image, its gold.

picture(jpeg_bytes, 3136, 1003520) -> Picture(data=jpeg_bytes, hash=0xafbc7d88a0b0b0d9, pixels=262144)
request_problem("  ") == "request is empty"
gold_problem(Decomposition(("Brighten",))) == "gold holds an unknown action: 'Brighten' is not one of Delete, ..."
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ier1_plugin.task.actions import ACTIONS
from ier1_plugin.task.images import MAX_ASPECT_RATIO, ImageError, encode, open_image, prepare
from ier1_plugin.task.parsing import render_response
from ier1_plugin.task.rows import neutralise, read_gold
from ier1_plugin.task.schema import Decomposition
from ier1_plugin.task.scoring import normalise, score_response

# about 2,000 tokens: a longer one would not fit a max_prompt_length of 2,048, the usual choice for one image
MAX_REQUEST_CHARACTERS = 8_000
# several of these are in memory at a time
MAX_IMAGE_BYTES = 64 << 20
LOSSLESS = {"PNG", "BMP", "GIF", "PPM", "TIFF"}
EXIF_ORIENTATION = 0x0112
# the smallest size that a JPEG is decoded to for its hash; the hash itself looks at 32 x 32 pixels
HASHED_SIDE = 64


class Picture(NamedTuple):
    """An image as it goes into a row."""

    data: bytes
    """Encoded, within the pixel budget."""
    hash: int
    pixels: int


def request_problem(request: str) -> str | None:
    """Why this request can't be used, or None."""
    if len(request) > MAX_REQUEST_CHARACTERS:
        return f"request is too long: {len(request)} characters, at most {MAX_REQUEST_CHARACTERS} are accepted"
    return None if normalise(neutralise(request)) else "request is empty"


def request_key(request: str) -> bytes:
    """Equal for requests that are equal after normalisation."""
    return hashlib.blake2b(normalise(neutralise(request)).encode(), digest_size=16).digest()


@lru_cache(maxsize=1 << 12)
def gold_problem(gold: Decomposition) -> str | None:
    """Why this gold can't be used, or None: it must keep to the vocabulary and score 1.0 when scored as a response."""
    unknown = [action for action in gold.actions if action not in ACTIONS]
    if unknown:
        return f"gold holds an unknown action: {unknown[0]!r} is not one of {', '.join(ACTIONS)}"
    if not gold.actions:
        return "gold names no action"
    if not all(map(normalise, (*gold.subjects, *gold.goals))):
        return "gold holds an empty phrase"
    try:
        answer = gold.to_json()
        answer.encode()
    except UnicodeEncodeError:
        return "gold holds characters that UTF-8 can't encode"
    scores = score_response(render_response(gold, "gold"), read_gold(answer))
    short = [name for name, score in scores.items() if score < 1]
    return f"gold does not score 1.0 as a response: {', '.join(short)}" if short else None


def picture(source: bytes | Path, min_pixels: int, max_pixels: int) -> Picture:
    """The image of a row. One that needs no change keeps its encoded bytes. ImageError says why it can't be used."""
    try:
        if isinstance(source, Path):
            with source.open("rb") as file:
                data = file.read(MAX_IMAGE_BYTES + 1)
        else:
            data = source
    except OSError as error:
        raise ImageError(f"image file can't be read: {source}, {error.strerror or error}") from None
    if len(data) > MAX_IMAGE_BYTES:
        raise ImageError(f"image file is too large: {len(data)} bytes, at most {MAX_IMAGE_BYTES} are accepted")
    kept = _unchanged(data, min_pixels, max_pixels)
    if kept:
        return kept
    image = prepare(open_image(data), min_pixels, max_pixels)
    with Image.open(BytesIO(data)) as original:
        lossless = original.format in LOSSLESS
    return Picture(encode(image, lossless), image_hash(image), image.width * image.height)


def image_hash(image: Image.Image) -> int:
    """The perceptual hash (pHash) of an image, as an unsigned 64-bit number; images that look alike differ in few bits.

    image_hash(photo) == 0xafbc7d88a0b0b0d9
    """
    from imagehash import phash

    return int.from_bytes(np.packbits(phash(image).hash).tobytes(), "big")


def _unchanged(data: bytes, min_pixels: int, max_pixels: int) -> Picture | None:
    """The picture with its bytes kept, or None if its pixels have to change or it can't be decoded."""
    try:
        image = Image.open(BytesIO(data), formats=("JPEG", "PNG"))
        pixels = image.width * image.height
        narrow = max(image.size) > MAX_ASPECT_RATIO * min(image.size)
        if image.mode != "RGB" or not min_pixels <= pixels <= max_pixels or narrow:
            return None
        # libjpeg reads every coefficient, so damage still shows, but skips most of the inverse transform
        image.draft("L", (HASHED_SIDE, HASHED_SIDE))
        image.load()
        # transparency, several frames and a camera that was held sideways are known only after loading
        several = getattr(image, "n_frames", 1) > 1 or "transparency" in image.info
        if several or image.getexif().get(EXIF_ORIENTATION, 1) != 1:
            return None
        return Picture(data, image_hash(image), pixels)
    except Exception:
        # open_image finds the same fault and words it
        return None
