"""The checks that a raw row must pass: its request, its image, its gold.

picture(jpeg_bytes, 3136, 1003520) -> Picture(data=jpeg_bytes, hash=0xafbc7d88a0b0b0d9, pixels=262144)
request_problem("  ") == "request is empty"
gold_problem(Decomposition(("Brighten",))) == "gold holds an unknown action: 'Brighten' is not one of Delete, ..."
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from data_prep.settings import SPLITS, RawRow, Settings
from data_prep.staging import Entry, stamp_of
from ier1_plugin.data.tables import Rejected
from ier1_plugin.runs.errors import UserError, one_line
from ier1_plugin.runs.folder import write as write_file
from ier1_plugin.task.actions import ACTIONS
from ier1_plugin.task.images import MAX_ASPECT_RATIO, ImageError, encode, media_type, open_image, prepare, read_file
from ier1_plugin.task.parsing import render_response
from ier1_plugin.task.pixels import shows_as_stored
from ier1_plugin.task.rows import CASE_IMAGES, neutralise, order_key, read_gold, without_surrogates
from ier1_plugin.task.schema import Decomposition
from ier1_plugin.task.scoring import normalise, score_response

# about 2,000 tokens: a longer one would not fit a max_prompt_length of 2,048, the usual choice for one image
MAX_REQUEST_CHARACTERS = 8_000
# several of these are in memory at a time
MAX_IMAGE_BYTES = 64 << 20
# JPEG and WebP; HEIC and AVIF have "ftyp" behind their length
LOSSY = (b"\xff\xd8\xff", b"RIFF")
# LLaVA-like sets say where the image stands; here it always comes first, and `format_row` puts it there
_PLACEHOLDER = (
    r"(?:<\|?(?:image|img)(?:[_ ]?(?:\d+|pad|placeholder|here|token))?\|?>(?:</(?:image|img)>)?"
    r"|<\|vision_start\|>(?:<\|image_pad\|>)*<\|vision_end\|>)"
)
# white space, and what has no width
_SPACE = r"[\s\u200b\u2060\ufeff]*"
_OUTER_PLACEHOLDERS = re.compile(
    rf"^(?:{_SPACE}{_PLACEHOLDER})+{_SPACE}|(?:{_SPACE}{_PLACEHOLDER})+{_SPACE}$", re.IGNORECASE
)
# letters that nobody sees: fillers of Hangul, and Braille without a dot
BLANK_LETTERS = "\u115f\u1160\u3164\uffa0\u2800"
# pHash looks at 32 x 32 pixels; a JPEG is decoded to twice that or more
HASHED_SIDE = 32
# steps of 255 between the lightest and the darkest part of a picture that shows nothing
FLAT = 4
NO_GOLD = "no gold: give actions, subjects and goals, or name an annotator with --annotator MODEL"


class Picture(NamedTuple):
    """An image as it goes into a row."""

    data: bytes
    """Encoded, within the pixel budget."""
    hash: int
    pixels: int


def check(row: RawRow | Rejected, settings: Settings) -> tuple[Entry, bytes]:
    """The entry of a row, without its position, and its image; a row that fails a check gets a reason and no image."""
    if isinstance(row, Rejected):
        unread = without_surrogates(json.dumps(row.row, ensure_ascii=False, default=str))
        entry = Entry(0, without_surrogates(row.id), settings.source, "", "", b"", unread=unread)
        if row.missing:
            # a name that is not UTF-8 could not be found again
            places = "\0".join(path for path in row.missing if path == without_surrogates(path))
            entry = entry._replace(image=places, stamp="")
        return entry._replace(reason=one_line(row.reason)), b""
    if row.split not in (None, *SPLITS):
        raise UserError(f"source {settings.source} puts row {row.id} into split {row.split!r}; known: {SPLITS}")
    id, request = without_surrogates(row.id), clean_request(row.request)
    file = str(row.image) if isinstance(row.image, Path) else ""
    entry = Entry(
        0,
        id,
        without_surrogates(row.source),
        request,
        without_surrogates(row.group),
        order_key(settings.seed, id),
        split=row.split,
        image=without_surrogates(file) or f"{len(bytes(row.image))} bytes",
        # a name that is not UTF-8 could not be found again
        stamp=stamp_of(file) if file and file == without_surrogates(file) else None,
        # a gold that UTF-8 can't carry is rejected right after
        gold=without_surrogates(row.gold.to_json()) if row.gold else None,
        request_key=request_key(request),
    )
    reason = request_problem(request)
    if not reason and row.gold:
        reason = gold_problem(row.gold)
    elif not reason and not (settings.annotator or settings.case_images or row.case_image):
        reason = NO_GOLD
    if reason:
        return entry._replace(reason=reason), b""
    try:
        image = picture(row.image, settings.min_pixels, settings.max_pixels)
        if row.case_image:
            entry = entry._replace(case_image=keep_case_image(settings.output, read_file(row.case_image)))
        elif settings.case_images:
            photo = picture(row.image, 1, settings.case_max_pixels)
            entry = entry._replace(case_image=keep_case_image(settings.output, photo.data))
    except ImageError as error:
        return entry._replace(reason=one_line(error)), b""
    signed = int.from_bytes(image.hash.to_bytes(8, "big"), "big", signed=True)
    return entry._replace(image_hash=signed, pixels=image.pixels), image.data


def keep_case_image(output: Path, data: bytes) -> str:
    """Writes an encoded photo into OUTPUT/images under the hash of its bytes; returns the file's name."""
    name = f"{hashlib.sha256(data).hexdigest()}.{'png' if media_type(data) == 'image/png' else 'jpg'}"
    file = output / CASE_IMAGES / name
    if not file.is_file():
        write_file(file, data)
    return name


def clean_request(request: str) -> str:
    """The request as it goes into a row: without placeholders at its ends, others and control tokens neutralised."""
    return neutralise(_OUTER_PLACEHOLDERS.sub("", request))


def request_problem(request: str) -> str | None:
    """Why this clean request can't be used, or None."""
    if len(request) > MAX_REQUEST_CHARACTERS:
        return f"request is too long: {len(request)} characters, at most {MAX_REQUEST_CHARACTERS} are accepted"
    return None if _has_words(request) else "request is empty"


def _has_words(text: str) -> bool:
    """False for white space, signs and characters of no width."""
    seen = (char for char in normalise(text) if char not in BLANK_LETTERS)
    return any(unicodedata.category(char)[0] in "LNS" for char in seen)


def request_key(request: str) -> bytes:
    """Equal for requests that are equal after normalisation."""
    return hashlib.blake2b(normalise(clean_request(request)).encode(), digest_size=16).digest()


@lru_cache(maxsize=1 << 12)
def gold_problem(gold: Decomposition) -> str | None:
    """Why this gold can't be used, or None: it must keep to the vocabulary and score 1.0 when scored as a response."""
    unknown = [action for action in gold.actions if action not in ACTIONS]
    if unknown:
        return f"gold holds an unknown action: {unknown[0]!r} is not one of {', '.join(ACTIONS)}"
    if not gold.actions:
        return "gold names no action"
    if not all(map(_has_words, (*gold.subjects, *gold.goals))):
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
    lossless = not data.startswith(LOSSY) and data[4:8] != b"ftyp"
    return Picture(encode(image, lossless), image_hash(image), image.width * image.height)


def image_hash(image: Image.Image, encoded: bytes = b"") -> int:
    """The perceptual hash (pHash) of an image, as an unsigned 64-bit number; images that look alike differ in few bits.

    image_hash(photo) == 0xafbc7d88a0b0b0d9

    pHash sees shapes only, and would take all pictures without any for one photo: those get a hash of their colour.
    `encoded` is where the colours are if `image` is grey.
    """
    from imagehash import phash

    # as phash does first
    grey = image.convert("L").resize((HASHED_SIDE, HASHED_SIDE), Image.Resampling.LANCZOS)
    values = np.asarray(grey).astype(int)
    if np.ptp(values) > FLAT:
        return int.from_bytes(np.packbits(phash(grey).hash).tobytes(), "big")
    coloured = Image.open(BytesIO(encoded)) if encoded else image
    # in steps of 8, as compression changes it a little
    colour = bytes(value >> 3 for value in coloured.convert("RGB").resize((1, 1), Image.Resampling.BOX).tobytes())
    return int.from_bytes(hashlib.blake2b(colour, digest_size=8).digest(), "big")


def _unchanged(data: bytes, min_pixels: int, max_pixels: int) -> Picture | None:
    """The picture with its bytes kept, or None if its pixels have to change or it can't be decoded."""
    try:
        image = Image.open(BytesIO(data), formats=("JPEG", "PNG"))
        pixels = image.width * image.height
        narrow = max(image.size) > MAX_ASPECT_RATIO * min(image.size)
        if image.mode != "RGB" or not min_pixels <= pixels <= max_pixels or narrow:
            return None
        # libjpeg reads every coefficient, so damage still shows, but skips most of the inverse transform
        image.draft("L", (2 * HASHED_SIDE, 2 * HASHED_SIDE))
        image.load()
        # a trainer reads the bytes as they are: whatever `open_image` would change, or note, has to be made anew
        if getattr(image, "n_frames", 1) > 1 or not shows_as_stored(image):
            return None
        return Picture(data, image_hash(image, data), pixels)
    except Exception:
        # open_image finds the same fault and words it
        return None
