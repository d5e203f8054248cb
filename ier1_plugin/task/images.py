"""One image preparation for the builder, the trainer's rows and inference.

    prepare(open_image(Path("portrait.jpg")), min_pixels=3136, max_pixels=1003520)   # a 4000 x 3000 photo -> 1156 x 867

Pixel budgets are numbers of pixels (width x height), as in EasyR1's `data.min_pixels` and `data.max_pixels`.
"""

from __future__ import annotations

import base64
import math
import re
import warnings
from contextlib import suppress
from functools import cache
from io import BytesIO
from pathlib import Path

from PIL import Image, PngImagePlugin, UnidentifiedImageError

from ier1_plugin.runs.errors import UserError, one_line
from ier1_plugin.task.pixels import NOTES, as_seen, turn_of

# a 10,000 x 10,000 scan still opens; what is larger is more likely a decompression bomb than a photo
MAX_SOURCE_PIXELS = 100_000_000
JPEG_QUALITY = 95
USUAL_SUFFIXES = (".png", ".webp", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif")
# vectors, which start Ghostscript, and containers that Pillow itself can't decode
NOT_RASTER = frozenset(("EPS", "WMF", "BUFR", "GRIB", "HDF5", "IPTC", "MPEG"))
PNG_START = b"\x89PNG\r\n\x1a\n"
TABLES = (".csv", ".tsv", ".xlsx", ".ods", ".parquet")
SHOWN = 80
"""Characters of a name that are shown of what is none."""
_STARTS = {
    b"%PDF": "a PDF",
    b"ftypavif": "an AVIF photo",
    b"\xff\x0a": "a JPEG XL photo",
    b"JXL \r\n\x87\n": "a JPEG XL photo",
    b"II*\0": "this kind of TIFF",
    b"MM\0*": "this kind of TIFF",
}
TEXT_KEY = "imageedit_r1"
"""Of the trace in a PNG's international text (iTXt)."""
# a third of the time of zlib's usual level 6 for a twentieth more bytes, measured on photographs
PNG_LEVEL = 1
# Qwen's image processors refuse more (transformers, models/qwen2_vl/image_processing_qwen2_vl.py, smart_resize)
MAX_ASPECT_RATIO = 200

Size = tuple[int, int]
"""Width and height in pixels."""
Photo = Image.Image | str | Path | bytes


class ImageError(UserError):
    """An image that can't be used."""


def open_image(source: Photo, keep_alpha: bool = False) -> Image.Image:
    """The image in a file, in encoded bytes or of Pillow, as people see it: its first frame, upright, in sRGB, as RGB
    with transparent parts on white (on black where they would not show); with `keep_alpha` as RGBA if it has any.

    `info` of the result holds a line for everything that could not be kept, as `info["notes"]`; no profile, no EXIF.
    An image of Pillow that is so already is returned itself. ImageError: empty, not an image, damaged, or more than
    MAX_SOURCE_PIXELS pixels (checked before decoding).
    """
    if isinstance(source, Image.Image):
        try:
            return as_seen(source, keep_alpha)
        except Exception as error:
            raise ImageError(f"image is damaged: {one_line(error)}") from None
    data = source if isinstance(source, bytes) else read_file(source)
    if not data:
        raise ImageError("image is empty (0 bytes)")
    reason = ""
    # texts of any size, and other ancillary chunks that are damaged, say nothing about the pixels of a PNG
    for kept in (None, (b"tRNS", b"iCCP", b"eXIf"), (b"tRNS",)) if data.startswith(PNG_START) else (None,):
        try:
            with warnings.catch_warnings():
                # of odd tags, and above Pillow's own limit of pixels; ours is stricter and raises
                warnings.simplefilter("ignore")
                return _decoded(data if kept is None else _png_with(data, kept), keep_alpha)
        except ImageError:
            raise
        except Image.DecompressionBombError as error:
            raise ImageError(f"image is too large: {error}") from None
        except UnidentifiedImageError:
            reason = reason or _no_image(data)
        except Exception as error:
            # decoders raise whatever they run into
            reason = reason or f"image is damaged: {one_line(error)}"
    raise ImageError(reason)


def _decoded(data: bytes, keep_alpha: bool) -> Image.Image:
    if _is_heif(data):
        with suppress(ImportError):
            import pillow_heif  # pyright: ignore[reportMissingImports]

            pillow_heif.register_heif_opener()
    image = Image.open(BytesIO(data))
    if image.format in NOT_RASTER:
        raise ImageError(f"{image.format} files are not read here; save the image as PNG or JPEG")
    if image.width * image.height > MAX_SOURCE_PIXELS:
        size = f"{image.width} x {image.height}"
        raise ImageError(f"image is too large: {size} pixels, at most {MAX_SOURCE_PIXELS:,} are accepted")
    frames = 1
    # what a phone or Photoshop packs beside the image is no frame of it
    if image.format not in ("MPO", "PSD", "HEIF"):
        with suppress(Exception):
            frames = getattr(image, "n_frames", 1)
    tags, turn = getattr(image, "tag_v2", None), None
    if tags is not None:
        # Pillow turns a TIFF while it loads it and would write its EXIF anew, which fails where a value is odd
        turn = turn_of(lambda: tags)
        vars(image)["getexif"] = Image.Exif
        image.load()
        image.info.pop("xmp", None)
    if turn is not None:
        image = image.transpose(turn)
    if frames > 1:
        image.info[NOTES] = (f"it has {frames} frames or pages: only the first one is used",)
    image = as_seen(image, keep_alpha)
    image.info = {NOTES: image.info[NOTES]} if NOTES in image.info else {}
    return image


def _png_with(data: bytes, ancillary: tuple[bytes, ...]) -> bytes:
    """A PNG without its ancillary chunks, except these. A chunk: 4 bytes of length, 4 of name, data, 4 of CRC."""
    parts, place = [data[: len(PNG_START)]], len(PNG_START)
    while place < len(data):
        end = place + 12 + int.from_bytes(data[place : place + 4], "big")
        name = data[place + 4 : place + 8]
        # critical chunks begin with a capital
        if name[:1].isupper() or name in ancillary:
            parts.append(data[place:end])
        place = end
    return b"".join(parts)


def _is_heif(data: bytes) -> bool:
    """True for HEIC and its like, by the brands in the first box; AVIF is of another kind, which Pillow reads."""
    brands = data[8 : int.from_bytes(data[:4], "big")][:256]
    return (
        data[4:8] == b"ftyp"
        and any(brand in brands for brand in (b"heic", b"heix", b"hevc", b"heim", b"mif1"))
        and b"avif" not in brands
    )


def _no_image(data: bytes) -> str:
    """What the bytes are instead of an image that Pillow knows, with the cure where there is one."""
    if _is_heif(data):
        return "a HEIC photo can't be read here yet: pip install pillow-heif, or save it as JPEG"
    if b"<svg" in data[:1000]:
        return "an SVG drawing can't be read here: save it as PNG or JPEG"
    for start, what in _STARTS.items():
        if data.startswith(start) or data[4:12] == start:
            return f"{what} can't be read here: save it as PNG or JPEG"
    return f"not an image ({len(data)} bytes)"


@cache
def image_suffixes() -> tuple[str, ...]:
    """The endings of image files, the usual ones first: of every raster format that Pillow decodes itself, and HEIC."""
    Image.init()
    formats = {*Image.OPEN, "MPO"} - NOT_RASTER
    known = {suffix for suffix, name in Image.registered_extensions().items() if name in formats}
    return tuple(dict.fromkeys((*USUAL_SUFFIXES, ".heic", ".heif", ".hif", ".avif", *sorted(known))))


def read_file(path: str | Path) -> bytes:
    if mistaken := no_image_file(str(path)):
        raise ImageError(mistaken)
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"image file {one_line(str(path))} can't be read: {reason}") from None


def no_image_file(name: str) -> str:
    """What a name given for an image file is instead, with the cure: an address, a data URL, a table; "" if it may be
    one."""
    shown = name if len(name) <= SHOWN else f"{name[:SHOWN]}…"
    if re.match(r"data:[\w/+.;=-]*,", name, re.IGNORECASE):
        return f"{shown} is an image as a data URL; write it to a file and give that"
    # a path has one slash where an address had two
    if address := re.match(r"([a-z][a-z0-9+.-]+):/", name, re.IGNORECASE):
        cure = "give the path alone" if address[1].lower() == "file" else "download the image and give its file"
        return f"{shown} is an address; {cure}"
    if name.lower().endswith(TABLES):
        return (
            f"{shown} is a table; give an image, or for a batch a .jsonl file with a line "
            '{"image": "photo.jpg", "request": "..."} for each'
        )
    return ""


def prepare(image: Image.Image, min_pixels: int, max_pixels: int) -> Image.Image:
    """The image scaled into the pixel budget with its aspect ratio kept; unchanged where it fits already.

    The same formula as EasyR1's `process_image` (verl/utils/dataset.py), repeated until it changes nothing, so that
    the trainer's loader leaves the result alone. ImageError: too narrow for the model.
    """
    if not 0 < min_pixels <= max_pixels:
        raise ValueError(f"wanted 0 < min_pixels <= max_pixels, got {min_pixels} and {max_pixels}")
    size, before = image.size, None
    while size != before:
        size, before = fit_size(size, min_pixels, max_pixels), size
    if max(size) > MAX_ASPECT_RATIO * min(size):
        raise ImageError(f"image is too narrow: {image.width} x {image.height}, at most {MAX_ASPECT_RATIO} : 1 works")
    return image if size == image.size else image.resize(size)


def fitted(image: Image.Image, size: Size) -> Image.Image:
    """The image as RGB, or RGBA, at `size`; no pixel changes where it has that size."""
    image = image if image.mode in ("RGB", "RGBA") else image.convert("RGB")
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)


def encode(image: Image.Image, lossless: bool) -> bytes:
    """PNG where `lossless`, else JPEG without chroma subsampling. The same pixels give the same bytes."""
    buffer = BytesIO()
    if lossless:
        image.save(buffer, "PNG")
    else:
        open_image(image).save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()


def png_bytes(image: Image.Image, trace: str = "") -> bytes:
    """An RGB or RGBA image as PNG, quickly, with the trace in its text."""
    buffer, text = BytesIO(), PngImagePlugin.PngInfo()
    if trace:
        text.add_itxt(TEXT_KEY, trace)
    image.save(buffer, "PNG", pnginfo=text, compress_level=PNG_LEVEL)
    return buffer.getvalue()


def media_type(encoded: bytes) -> str:
    """Of PNG or JPEG bytes."""
    return "image/png" if encoded.startswith(PNG_START) else "image/jpeg"


def preview_url(image: Image.Image, side: int) -> str:
    """The image as a JPEG within `side` x `side` pixels, as the address of itself, for web pages."""
    small = image.copy()
    small.thumbnail((side, side))
    return data_url(encode(small, lossless=False))


def data_url(encoded: bytes) -> str:
    """PNG or JPEG bytes as the address of themselves, for chat servers and web pages."""
    return f"data:{media_type(encoded)};base64,{base64.b64encode(encoded).decode()}"


def fit_size(size: tuple[int, int], min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """(width, height) after one pass of EasyR1's own scaling into the pixel budget."""
    if math.prod(size) > max_pixels:
        size = _scaled(size, max_pixels)
    if math.prod(size) < min_pixels:
        size = _scaled(size, min_pixels)
    return size


def _scaled(size: tuple[int, int], pixels: int) -> tuple[int, int]:
    factor = math.sqrt(pixels / math.prod(size))
    return max(1, int(size[0] * factor)), max(1, int(size[1] * factor))
