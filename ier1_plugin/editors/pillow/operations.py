"""Edits with numbers in them, carried out exactly by Pillow: what the small world's fixed table does not hold.

    crop_to_ratio(16 / 9)(photo, None)         # 4000 x 3000 -> 4000 x 2250, from the middle
    brightness(1.2)(photo, (0, 0, 100, 50))    # its upper left corner 20 % brighter

Every function here returns (RGB image, box or None) -> a new RGB image, like `Operation.apply` of the small world.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from PIL import Image, ImageColor, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

from ier1_plugin.editors.base import EditError
from ier1_plugin.small_world.operations import OPERATIONS, Box, on_part
from ier1_plugin.task.images import MAX_SOURCE_PIXELS

Apply = Callable[[Image.Image, Box | None], Image.Image]
Effect = Callable[[Image.Image], Image.Image]

MAX_FACTOR = 100.0
_ENHANCERS = {
    "brightness": ImageEnhance.Brightness,
    "contrast": ImageEnhance.Contrast,
    "saturation": ImageEnhance.Color,
    "sharpness": ImageEnhance.Sharpness,
}


def on_whole(effect: Effect) -> Apply:
    """An effect that makes another canvas, and so takes no box."""
    return lambda image, box: effect(image)


def crop_pixels(left: int, top: int, right: int, bottom: int) -> Apply:
    def effect(image: Image.Image) -> Image.Image:
        box = (left, top, min(right, image.width), min(bottom, image.height))
        if box[0] >= box[2] or box[1] >= box[3]:
            raise EditError(
                f"the crop ({left}, {top}, {right}, {bottom}) has no pixel of a {image.width} x {image.height} image; "
                "wanted left, top, right, bottom"
            )
        return image.crop(box)

    return on_whole(effect)


def crop_middle(width: int, height: int) -> Apply:
    """The middle of the image, at most as large as it is."""

    def effect(image: Image.Image) -> Image.Image:
        size = (min(width, image.width), min(height, image.height))
        left, top = (image.width - size[0]) // 2, (image.height - size[1]) // 2
        return image.crop((left, top, left + size[0], top + size[1]))

    return on_whole(effect)


def crop_to_ratio(ratio: float) -> Apply:
    """The largest middle part whose width is `ratio` times its height."""

    def effect(image: Image.Image) -> Image.Image:
        width, height = min(image.width, round(image.height * ratio)), min(image.height, round(image.width / ratio))
        return crop_middle(max(1, width), max(1, height))(image, None)

    return on_whole(effect)


def crop_margins(left: float, top: float, right: float, bottom: float) -> Apply:
    """Cuts these fractions of width and height away."""

    def effect(image: Image.Image) -> Image.Image:
        (width, height) = image.size
        edges = (left * width, top * height, width - right * width, height - bottom * height)
        first, second, third, fourth = (round(edge) for edge in edges)
        return crop_pixels(first, second, third, fourth)(image, None)

    return on_whole(effect)


def rotate(clockwise: float) -> Apply:
    """Quarter turns move pixels; other angles interpolate, on a white canvas that holds the whole image."""
    angle = -clockwise % 360
    quarters = {90.0: Image.Transpose.ROTATE_90, 180.0: Image.Transpose.ROTATE_180, 270.0: Image.Transpose.ROTATE_270}
    quarter = quarters.get(angle)
    if angle == 0:
        return on_whole(lambda image: image.copy())
    if quarter is not None:
        return on_whole(lambda image: image.transpose(quarter))
    return on_whole(lambda image: image.rotate(angle, Image.Resampling.BICUBIC, expand=True, fillcolor="white"))


def scale(factor: float) -> Apply:
    return on_whole(lambda image: _resized(image, round(factor * image.width), round(factor * image.height)))


def resize(width: int | None, height: int | None) -> Apply:
    """To a size in pixels; one side alone keeps the aspect ratio."""

    def effect(image: Image.Image) -> Image.Image:
        across = round(image.width * (height or 0) / image.height) if width is None else width
        down = round(image.height * (width or 0) / image.width) if height is None else height
        return _resized(image, across, down)

    return on_whole(effect)


def zoom(factor: float) -> Apply:
    """The middle of the image, enlarged to its own size."""
    if not 1 <= factor <= MAX_FACTOR:
        raise EditError(f"a zoom of {factor:g} is out of range; wanted 1 to {MAX_FACTOR:g}")

    def effect(image: Image.Image) -> Image.Image:
        part = crop_middle(max(1, round(image.width / factor)), max(1, round(image.height / factor)))(image, None)
        return part.resize(image.size, Image.Resampling.LANCZOS)

    return on_whole(effect)


def enhance(what: str, factor: float) -> Apply:
    """Brightness, contrast, saturation or sharpness times `factor`; 1 changes nothing."""
    if not 0 <= factor <= MAX_FACTOR:
        raise EditError(f"{what} can't be multiplied by {factor:g}; wanted 0 to {MAX_FACTOR:g}")
    return on_part(lambda image: _ENHANCERS[what](image).enhance(factor))


def gamma(value: float) -> Apply:
    if not 0.01 <= value <= MAX_FACTOR:
        raise EditError(f"a gamma of {value:g} is out of range; wanted 0.01 to {MAX_FACTOR:g}")
    table = [round(255 * (level / 255) ** (1 / value)) for level in range(256)]
    return on_part(lambda image: image.point(table * 3))


def hue(degrees: float) -> Apply:
    shift = round(degrees / 360 * 256)

    def effect(image: Image.Image) -> Image.Image:
        hue, saturation, value = image.convert("HSV").split()
        turned = hue.point([(level + shift) % 256 for level in range(256)])
        return Image.merge("HSV", (turned, saturation, value)).convert("RGB")

    return on_part(effect)


def blur(radius: float) -> Apply:
    return on_part(lambda image: image.filter(ImageFilter.GaussianBlur(min(radius, max(image.size)))))


def filtered(kind: ImageFilter.Filter) -> Apply:
    return on_part(lambda image: image.filter(kind))


def toned(effect: Callable[..., Image.Image], *arguments: float) -> Apply:
    """One of ImageOps, such as autocontrast."""
    return on_part(lambda image: effect(image, *arguments))


def tint(colour: str) -> Apply:
    """Shades of `colour` in place of the colours that are there; black and white stay."""
    if colour in OPERATIONS and OPERATIONS[colour].action == "Recoloring":
        return OPERATIONS[colour].apply
    middle = ImageColor.getrgb(colour)[:3]
    return on_part(lambda image: ImageOps.colorize(ImageOps.grayscale(image), black="black", mid=middle, white="white"))


def border(colour: str, width: int | None) -> Apply:
    """A frame around the image; None: as wide as the small world's."""
    known = OPERATIONS.get(f"border{colour}")
    if width is None and known:
        return known.apply

    def effect(image: Image.Image) -> Image.Image:
        across = max(1, min(image.size) // 16) if width is None else width
        _check_size(image.width + 2 * across, image.height + 2 * across)
        return ImageOps.expand(image, border=across, fill=ImageColor.getrgb(colour)[:3])

    return on_whole(effect)


def caption(text: str, at_top: bool) -> Apply:
    """White letters with a black outline across the image; the small world's own captions as it writes them."""
    known = OPERATIONS.get(f"caption{text}")
    _check_letters(text)
    return known.apply if known and not at_top else on_whole(partial(_write, text, at_top))


def _write(text: str, at_top: bool, image: Image.Image) -> Image.Image:
    captioned, room = image.copy(), 0.9 * image.width
    size = max(8, image.height // 8)
    font = ImageFont.load_default(size)
    width = font.getlength(text)
    if width > room:
        size = max(8, int(size * room / width))
        font = ImageFont.load_default(size)
    ImageDraw.Draw(captioned).text(
        (image.width / 2, size if at_top else image.height - size),
        text,
        fill="white",
        font=font,
        anchor="mm",
        stroke_width=max(1, size // 10),
        stroke_fill="black",
    )
    return captioned


def _check_letters(text: str) -> None:
    # a letter that the font lacks is drawn as this one is
    lacking = _drawn("\U0010ffff")
    missing = "".join(dict.fromkeys(letter for letter in text if _drawn(letter) == lacking))
    if missing or not text.strip():
        raise EditError(f"Pillow's built-in font can't write {missing or text!r}; captions are in Latin letters")


def _drawn(letter: str) -> bytes:
    paper = Image.new("L", (40, 40))
    ImageDraw.Draw(paper).text((8, 8), letter, fill="white", font=ImageFont.load_default(16))
    return paper.tobytes()


def _resized(image: Image.Image, width: int, height: int) -> Image.Image:
    _check_size(width, height)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _check_size(width: int, height: int) -> None:
    if min(width, height) < 1 or math.prod((width, height)) > MAX_SOURCE_PIXELS:
        raise EditError(f"the result would be {width} x {height} pixels; wanted 1 to {MAX_SOURCE_PIXELS:,} in all")
