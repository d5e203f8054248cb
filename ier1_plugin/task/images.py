"""One image preparation for the builder, the trainer's rows and inference.

    prepare(open_image(Path("portrait.jpg")), min_pixels=3136, max_pixels=1003520)   # a 4000 x 3000 photo -> 1156 x 867

Pixel budgets are numbers of pixels (width x height), as in EasyR1's `data.min_pixels` and `data.max_pixels`.
"""

from __future__ import annotations

import base64
import math
import warnings
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from ier1_plugin.runs.errors import UserError

# a 10,000 x 10,000 scan still opens; what is larger is more likely a decompression bomb than a photo
MAX_SOURCE_PIXELS = 100_000_000
JPEG_QUALITY = 95
SUFFIXES = (".png", ".webp", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif")
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


def open_image(source: Photo) -> Image.Image:
    """The image in a file, in encoded bytes or of Pillow: upright, RGB, transparency on white, first frame. One that
    is so already is returned itself.

    ImageError: empty, not an image, damaged, or more than MAX_SOURCE_PIXELS pixels (checked before decoding).
    """
    if isinstance(source, Image.Image):
        return _to_rgb(ImageOps.exif_transpose(source))
    data = source if isinstance(source, bytes) else read_file(source)
    if not data:
        raise ImageError("image is empty (0 bytes)")
    try:
        with warnings.catch_warnings():
            # Pillow warns above its own limit; ours is stricter and raises
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(BytesIO(data))
            if image.width * image.height > MAX_SOURCE_PIXELS:
                size = f"{image.width} x {image.height}"
                raise ImageError(f"image is too large: {size} pixels, at most {MAX_SOURCE_PIXELS:,} are accepted")
            # in place: a copy less of what may be 300 MB
            ImageOps.exif_transpose(image, in_place=True)
            return _to_rgb(image)
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(f"not an image ({len(data)} bytes)") from None
    except Image.DecompressionBombError as error:
        raise ImageError(f"image is too large: {error}") from None
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, MemoryError) as error:
        # what Pillow's decoders raise on damaged files
        raise ImageError(f"image is damaged: {error}") from None


def read_file(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ImageError(f"image file {path} can't be read: {error.strerror or error}") from None


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
    """The image as RGB at `size`; no pixel changes where it has that size."""
    image = image if image.mode == "RGB" else image.convert("RGB")
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)


def encode(image: Image.Image, lossless: bool) -> bytes:
    """PNG where `lossless`, else JPEG without chroma subsampling. The same pixels give the same bytes."""
    buffer = BytesIO()
    if lossless:
        image.save(buffer, "PNG")
    else:
        image.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()


def png_bytes(image: Image.Image, trace: str = "") -> bytes:
    """An RGB image as PNG, quickly, with the trace in its text."""
    buffer, text = BytesIO(), PngImagePlugin.PngInfo()
    if trace:
        text.add_itxt(TEXT_KEY, trace)
    image.save(buffer, "PNG", pnginfo=text, compress_level=PNG_LEVEL)
    return buffer.getvalue()


def data_url(encoded: bytes) -> str:
    """PNG or JPEG bytes as the address of themselves, for chat servers and web pages."""
    kind = "png" if encoded.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(encoded).decode()}"


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        import numpy as np

        # 16-bit and float grey: Pillow's own conversion would clip everything above 255 to white
        values = np.asarray(image, dtype=np.float64)
        top = 65535.0 if values.max(initial=0.0) > 255 else 255.0
        image = Image.fromarray(np.clip(values / top * 255, 0, 255).astype(np.uint8), mode="L")
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


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
