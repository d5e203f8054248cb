"""What people see of an image's stored numbers: upright, in sRGB, of the light that they mean, on a ground.

as_seen(Image.open("p3.jpg"), keep_alpha=False).getpixel((0, 0))     # (219, 37, 13), stored as (200, 60, 40)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from io import BytesIO
from itertools import product
from typing import Any

from PIL import ExifTags, Image, ImageChops, ImageCms, ImageStat

from ier1_plugin.runs.errors import one_line

SRGB: Any = ImageCms.createProfile("sRGB")
NOTES = "notes"
"""Key of `Image.info`: lines about what an opened image could not keep."""
# mean brightness of the visible pixels above which white would hide them
FAINT = 230
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""By EXIF's Orientation."""


def as_seen(image: Image.Image, keep_alpha: bool) -> Image.Image:
    """RGB, or RGBA if `keep_alpha` and it has transparency: see `images.open_image`. Raises what Pillow raises."""
    image.load()
    profile, notes = image.info.get("icc_profile"), list(image.info.get(NOTES, ()))
    gamma, turn = _gamma(image), turn_of(image.getexif)
    if image.mode == "RGB" and not profile and shows_as_stored(image):
        return image
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        image = _eight_bits(image)
    if image.mode in ("La", "RGBa"):
        image = image.convert(image.mode.upper())
    grey, alpha = image.mode in ("1", "L", "LA"), None
    if image.has_transparency_data:
        image = image.convert("LA" if grey else "RGBA")
        alpha = image.getchannel("A")
    if image.mode not in ("CMYK", "LAB"):
        image = image.convert("L" if grey else "RGB")
    try:
        image = _to_srgb(image, profile)
    except Exception as error:
        # a profile of another kind than the pixels, or a damaged one; LittleCMS says what it dislikes in many ways
        notes.append(f"its colour profile can't be applied ({one_line(error)}): its colours are taken as sRGB")
        image = image.convert("RGB")
    if gamma:
        image = image.point([round(255 * (value / 255) ** (1 / (2.2 * gamma))) for value in range(256)] * 3)
    if alpha and alpha.getextrema() != (255, 255):
        if keep_alpha:
            image.putalpha(alpha)
        else:
            # white on white would be an empty picture
            faint = ImageStat.Stat(image.convert("L"), mask=alpha.point(lambda value: value and 255)).mean[0] > FAINT
            ground = "black" if faint else "white"
            notes.append(f"its transparent parts are shown on {ground}")
            image = Image.composite(image, Image.new("RGB", image.size, ground), alpha)
    if turn is not None:
        image = image.transpose(turn)
    image.info = {NOTES: tuple(notes)} if notes else {}
    return image


def shows_as_stored(image: Image.Image) -> bool:
    """True if no profile, gamma, transparency or orientation changes how the pixels of a loaded image look."""
    profile = image.info.get("icc_profile")
    plain = not image.has_transparency_data and not _gamma(image) and turn_of(image.getexif) is None
    return plain and (not profile or _means_srgb(profile))


def _gamma(image: Image.Image) -> float:
    """What a PNG may say in place of a profile: its samples are light to the power of this; 0.0 for about sRGB's."""
    gamma = float(image.info.get("gamma", 0))
    if "icc_profile" in image.info or "srgb" in image.info or abs(2.2 * gamma - 1) < 0.05:
        return 0.0
    # what no monitor comes near is a mistake
    return gamma if 0.2 < gamma < 2 else 0.0


@lru_cache(maxsize=64)
def _means_srgb(profile: bytes) -> bool:
    """True for the many profiles that change no colour of an RGB image, or by rounding alone."""
    every_51 = bytes(value for rgb in product(range(0, 256, 51), repeat=3) for value in rgb)
    probe = Image.frombytes("RGB", (6, 36), every_51)
    try:
        seen = ImageCms.profileToProfile(probe, ImageCms.getOpenProfile(BytesIO(profile)), SRGB) or probe
    except ImageCms.PyCMSError:
        return False
    return max(high for _, high in ImageStat.Stat(ImageChops.difference(probe, seen)).extrema) <= 1


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """RGB in sRGB, of an image in L, RGB, CMYK or LAB and its profile. Whatever LittleCMS raises: they don't fit."""
    if image.mode == "LAB":
        source: Any = ImageCms.createProfile("LAB")
    elif profile and not (image.mode == "RGB" and _means_srgb(profile)):
        source = ImageCms.getOpenProfile(BytesIO(profile))
        if source.profile.xcolor_space.strip() == "RGB" and image.mode == "L":
            image = image.convert("RGB")
    else:
        return image.convert("RGB")
    return ImageCms.profileToProfile(image, source, SRGB, outputMode="RGB") or image


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 or 32 bits or in floating point as L, as bright as it is; Pillow's own way clips all above 255."""
    import numpy as np

    values = np.nan_to_num(np.asarray(image, dtype=np.float64), posinf=0.0, neginf=0.0)
    top = values.max(initial=0.0)
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        white = 65535.0
    elif image.mode == "F" and np.percentile(values, 99) <= 1:
        # 0 to 1, perhaps with highlights above it
        white = 1.0
    else:
        white = next((limit for limit in (255.0, 65535.0) if top <= limit), top)
    return Image.fromarray(np.clip(values / white * 255 + 0.5, 0, 255).astype(np.uint8))


def turn_of(tags: Callable[[], Mapping[int, Any]]) -> Image.Transpose | None:
    """What makes an image with such tags upright; None also for tags that can't be read."""
    with suppress(Exception):
        return _TURNS.get(tags()[ExifTags.Base.Orientation])
    return None
