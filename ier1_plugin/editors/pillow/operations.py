"""Exact edits by Pillow: functions with numbers in them, and the table of the small world's edits.

    crop_to_ratio(16 / 9)(photo)                             # 4000 x 3000 -> 4000 x 2250, from the middle
    OPERATIONS["brighter"].apply(photo, None)                # the whole photo
    OPERATIONS["brighter"].apply(photo, (0, 0, 224, 112))    # its upper half; left, top, right, bottom in pixels

OPERATIONS also says what the gold decomposition calls an edit (`action`, `goal`) and what a judge expects to see.
`(action, goal)` names one operation; a goal of "" means that the action alone describes the edit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass

from PIL import Image, ImageColor, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps, ImageStat

from ier1_plugin.editors.base import EditError
from ier1_plugin.task.images import MAX_SOURCE_PIXELS

Box = tuple[int, int, int, int]
Fractions = tuple[float, float, float, float]
"""Left, top, right, bottom as fractions of width and height."""
Effect = Callable[[Image.Image], Image.Image]
"""RGB image -> a new RGB image; the input is left alone."""

WHOLE, PART, ANY = "whole", "part", "any"
MAX_FACTOR = 100.0
COLOURS = {"red": (220, 30, 30), "green": (30, 170, 60), "blue": (40, 70, 220)}
"""These names mean a photographer's colours; all others are Pillow's."""
BORDERS = ("red", "white", "black")
CAPTIONS = ("HELLO", "SALE", "SUMMER")
# the matrix of sepia(100%) in W3C's Filter Effects Module Level 1, section 8.6, as Pillow's 3 x 4 colour matrix
SEPIA = (0.393, 0.769, 0.189, 0, 0.349, 0.686, 0.168, 0, 0.272, 0.534, 0.131, 0)
WARMTH = 1.25
# gold subject -> names that people give it, and where it is
REGIONS: dict[str, tuple[tuple[str, str], Fractions]] = {
    "top half": (("the top half", "the upper half"), (0.0, 0.0, 1.0, 0.5)),
    "bottom half": (("the bottom half", "the lower half"), (0.0, 0.5, 1.0, 1.0)),
    "left half": (("the left half", "the left side"), (0.0, 0.0, 0.5, 1.0)),
    "right half": (("the right half", "the right side"), (0.5, 0.0, 1.0, 1.0)),
}
_ENHANCERS = {
    "brightness": ImageEnhance.Brightness,
    "contrast": ImageEnhance.Contrast,
    "saturation": ImageEnhance.Color,
    "sharpness": ImageEnhance.Sharpness,
}


def apply_in(effect: Effect, image: Image.Image, box: Box | None) -> Image.Image:
    """`image` with the effect on the pixels of `box`, or on all where that is None."""
    if box is None:
        return effect(image)
    edited = image.copy()
    edited.paste(effect(image.crop(box)), box)
    return edited


def pixel_box(place: Fractions | None, image: Image.Image) -> Box | None:
    """The pixels of a place, at least one; None, which stands for the whole image, stays None."""
    if place is None:
        return None
    left, top = round(place[0] * image.width), round(place[1] * image.height)
    return left, top, max(left + 1, round(place[2] * image.width)), max(top + 1, round(place[3] * image.height))


def crop_pixels(left: int, top: int, right: int, bottom: int) -> Effect:
    def effect(image: Image.Image) -> Image.Image:
        box = (left, top, min(right, image.width), min(bottom, image.height))
        if box[0] >= box[2] or box[1] >= box[3]:
            raise EditError(
                f"the crop ({left}, {top}, {right}, {bottom}) has no pixel of a {image.width} x {image.height} image; "
                "wanted left, top, right, bottom"
            )
        return image.crop(box)

    return effect


def crop_place(left: float, top: float, right: float, bottom: float) -> Effect:
    """The part between these fractions of width and height; it may have no pixels."""

    def effect(image: Image.Image) -> Image.Image:
        width, height = image.size
        first, second = round(left * width), round(top * height)
        return image.crop((first, second, max(first, round(right * width)), max(second, round(bottom * height))))

    return effect


def cut_off(amount: float, in_pixels: bool, sides: Collection[str]) -> Effect:
    """Takes so many pixels, or so many percent, off each of `sides` (left, top, right, bottom); may leave none."""

    def effect(image: Image.Image) -> Image.Image:
        width, height = image.size
        across, down = (round(amount if in_pixels else amount / 100 * side) for side in image.size)
        left, right = across * ("left" in sides), across * ("right" in sides)
        top, bottom = down * ("top" in sides), down * ("bottom" in sides)
        return image.crop((left, top, max(left, width - right), max(top, height - bottom)))

    return effect


def crop_middle(width: int, height: int) -> Effect:
    """The middle of the image, at most as large as it is."""

    def effect(image: Image.Image) -> Image.Image:
        across, down = min(width, image.width), min(height, image.height)
        left, top = (image.width - across) // 2, (image.height - down) // 2
        return image.crop((left, top, left + across, top + down))

    return effect


def crop_to_size(width: int, height: int) -> Effect:
    """So many pixels from the middle. EditError: the image has fewer."""

    def effect(image: Image.Image) -> Image.Image:
        if width > image.width or height > image.height:
            raise EditError(f"a {image.width} x {image.height} image can't be cropped to {width} x {height} pixels")
        return crop_middle(width, height)(image)

    return effect


def crop_to_ratio(ratio: float) -> Effect:
    """The largest middle part whose width is `ratio` times its height."""
    return lambda image: crop_middle(max(1, round(image.height * ratio)), max(1, round(image.width / ratio)))(image)


def rotate(clockwise: float) -> Effect:
    """Quarter turns move pixels; other angles interpolate, on a white canvas that holds the whole image."""
    angle = -clockwise % 360
    quarters = {90.0: Image.Transpose.ROTATE_90, 180.0: Image.Transpose.ROTATE_180, 270.0: Image.Transpose.ROTATE_270}
    if angle == 0:
        return lambda image: image.copy()
    if angle in quarters:
        return lambda image: image.transpose(quarters[angle])
    return lambda image: image.rotate(angle, Image.Resampling.BICUBIC, expand=True, fillcolor="white")


def resize(width: int | None, height: int | None) -> Effect:
    """Resizes to pixels; one side alone keeps the aspect ratio."""

    def effect(image: Image.Image) -> Image.Image:
        across = round(image.width * (height or 0) / image.height) if width is None else width
        down = round(image.height * (width or 0) / image.width) if height is None else height
        _check_size(across, down)
        return image.resize((across, down), Image.Resampling.LANCZOS)

    return effect


def scale(factor: float) -> Effect:
    return lambda image: resize(round(factor * image.width), round(factor * image.height))(image)


def zoom(factor: float) -> Effect:
    """The middle of the image, enlarged to its own size."""
    if not 1 <= factor <= MAX_FACTOR:
        raise EditError(f"a zoom of {factor:g} is out of range; wanted 1 to {MAX_FACTOR:g}")

    def effect(image: Image.Image) -> Image.Image:
        part = crop_middle(max(1, round(image.width / factor)), max(1, round(image.height / factor)))(image)
        return part.resize(image.size, Image.Resampling.LANCZOS)

    return effect


def enhance(what: str, factor: float) -> Effect:
    """Brightness, contrast, saturation or sharpness times `factor`; 1 changes nothing."""
    if not 0 <= factor <= MAX_FACTOR:
        raise EditError(f"{what} can't be multiplied by {factor:g}; wanted 0 to {MAX_FACTOR:g}")
    return lambda image: _ENHANCERS[what](image).enhance(factor)


def warmth(factor: float) -> Effect:
    """More red and less blue by `factor`; below 1 the opposite."""
    return lambda image: image.convert("RGB", (factor, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1 / factor, 0))


def gamma(value: float) -> Effect:
    if not 0.01 <= value <= MAX_FACTOR:
        raise EditError(f"a gamma of {value:g} is out of range; wanted 0.01 to {MAX_FACTOR:g}")
    table = [round(255 * (level / 255) ** (1 / value)) for level in range(256)]
    return lambda image: image.point(table * 3)


def hue(degrees: float) -> Effect:
    shift = round(degrees / 360 * 256)

    def effect(image: Image.Image) -> Image.Image:
        turned, saturation, value = image.convert("HSV").split()
        turned = turned.point([(level + shift) % 256 for level in range(256)])
        return Image.merge("HSV", (turned, saturation, value)).convert("RGB")

    return effect


def blur(radius: float | None = None) -> Effect:
    """Blurs by a radius in pixels; None: one that suits the size of the image."""

    def effect(image: Image.Image) -> Image.Image:
        pixels = max(2, min(image.size) / 40) if radius is None else min(radius, max(image.size))
        return image.filter(ImageFilter.GaussianBlur(pixels))

    return effect


def filtered(kind: ImageFilter.Filter | type[ImageFilter.Filter]) -> Effect:
    return lambda image: image.filter(kind)


def tint(colour: str) -> Effect:
    """Shades of `colour` in place of all colours; black and white stay."""
    middle = COLOURS.get(colour) or ImageColor.getrgb(colour)[:3]
    return lambda image: ImageOps.colorize(ImageOps.grayscale(image), black="black", mid=middle, white="white")


def border(colour: str, width: int | None = None) -> Effect:
    """A frame around the image; None: a sixteenth of its shorter side."""
    if width is not None and width < 1:
        raise EditError(f"a border of {width} pixels is none; wanted 1 or more")
    fill = COLOURS.get(colour) or ImageColor.getrgb(colour)[:3]

    def effect(image: Image.Image) -> Image.Image:
        across = max(1, min(image.size) // 16) if width is None else width
        _check_size(image.width + 2 * across, image.height + 2 * across)
        return ImageOps.expand(image, border=across, fill=fill)

    return effect


def caption(text: str, at_top: bool = False) -> Effect:
    """White letters with a black outline, centred near the lower or upper edge, small enough to fit."""

    def drawn(letter: str) -> bytes:
        paper = Image.new("L", (40, 40))
        ImageDraw.Draw(paper).text((8, 8), letter, fill="white", font=ImageFont.load_default(16))
        return paper.tobytes()

    def effect(image: Image.Image) -> Image.Image:
        # the font draws every letter that it lacks as it draws this one
        lacking = drawn("\U0010ffff")
        missing = "".join(dict.fromkeys(letter for letter in text if drawn(letter) == lacking))
        if missing or not text.strip():
            raise EditError(f"Pillow's built-in font can't write {missing or text!r}; captions are in Latin letters")
        captioned, size = image.copy(), max(8, image.height // 8)
        width, room = ImageFont.load_default(size).getlength(text), 0.9 * image.width
        if width > room:
            size = max(8, int(size * room / width))
        ImageDraw.Draw(captioned).text(
            (image.width / 2, size if at_top else image.height - size),
            text,
            fill="white",
            font=ImageFont.load_default(size),
            anchor="mm",
            stroke_width=max(1, size // 10),
            stroke_fill="black",
        )
        return captioned

    return effect


def grey(image: Image.Image) -> Image.Image:
    return ImageOps.grayscale(image).convert("RGB")


def pixelate(image: Image.Image) -> Image.Image:
    small = image.resize((max(1, image.width // 12), max(1, image.height // 12)), Image.Resampling.BOX)
    return small.resize(image.size, Image.Resampling.NEAREST)


def erase(image: Image.Image) -> Image.Image:
    """Fills everything with the average colour of the image's own edge, as if its surroundings showed through."""
    edge = Image.new("L", image.size, 255)
    edge.paste(0, (1, 1, max(2, image.width - 1), max(2, image.height - 1)))
    return Image.new("RGB", image.size, tuple(round(mean) for mean in ImageStat.Stat(image, edge).mean))


def _check_size(width: int, height: int) -> None:
    if min(width, height) < 1 or math.prod((width, height)) > MAX_SOURCE_PIXELS:
        raise EditError(f"the result would be {width} x {height} pixels; wanted 1 to {MAX_SOURCE_PIXELS:,} in all")


@dataclass(frozen=True)
class Operation:
    """An edit: how the gold names it, where it makes sense, and what it does."""

    action: str
    """A name from `task.actions.ACTIONS`."""
    goal: str
    scope: str
    """WHOLE: only the whole photo. PART: only a part of it. ANY: both."""
    family: str
    """Two edits of one family undo or hide each other, so no request asks for both."""
    effect: Effect
    needs_colour: bool = False
    """True if it does nothing to a photo that is grey already."""

    def apply(self, image: Image.Image, box: Box | None) -> Image.Image:
        """A new RGB image: the whole edited, or the pixels of `box`. ValueError: a box, and the scope is WHOLE."""
        if box is not None and self.scope == WHOLE:
            raise ValueError(f"this edit changes the canvas and takes no box, got {box}")
        return apply_in(self.effect, image, box)


OPERATIONS: dict[str, Operation] = {
    "brighter": Operation("Relighting", "brighter", ANY, "light", enhance("brightness", 1.5)),
    "darker": Operation("Relighting", "darker", ANY, "light", enhance("brightness", 0.6)),
    "warmer": Operation("Relighting", "warmer", ANY, "colour", warmth(WARMTH)),
    "cooler": Operation("Relighting", "cooler", ANY, "colour", warmth(1 / WARMTH)),
    "contrast": Operation("Adjust", "higher contrast", WHOLE, "contrast", enhance("contrast", 1.6)),
    "saturate": Operation("Adjust", "stronger colours", WHOLE, "colour", enhance("saturation", 1.8), True),
    "grey": Operation("Apply", "black and white", ANY, "colour", grey, True),
    "sepia": Operation("Apply", "sepia tone", ANY, "colour", lambda image: image.convert("RGB", SEPIA)),
    "blur": Operation("Apply", "blurred", ANY, "detail", blur()),
    "pixelate": Operation("Apply", "pixelated", ANY, "detail", pixelate),
    "sharpen": Operation("Superresolution", "sharper", ANY, "detail", filtered(ImageFilter.UnsharpMask(2, 200, 0))),
    "upscale": Operation("Superresolution", "double resolution", WHOLE, "size", scale(2)),
    "invert": Operation("Specialized operation", "inverted colours", ANY, "colour", ImageOps.invert),
    "erase": Operation("Delete", "", PART, "detail", erase),
    "mirror": Operation("Transform", "flipped horizontally", WHOLE, "flip", ImageOps.mirror),
    "upside": Operation("Transform", "flipped vertically", WHOLE, "flip", ImageOps.flip),
    "rotate": Operation("Transform", "rotated clockwise", WHOLE, "turn", rotate(90)),
    "rotateback": Operation("Transform", "rotated counterclockwise", WHOLE, "turn", rotate(-90)),
    "cropleft": Operation("Crop", "left half only", WHOLE, "crop", crop_place(0, 0, 0.5, 1)),
    "cropright": Operation("Crop", "right half only", WHOLE, "crop", crop_place(0.5, 0, 1, 1)),
    "croptop": Operation("Crop", "top half only", WHOLE, "crop", crop_place(0, 0, 1, 0.5)),
    "cropbottom": Operation("Crop", "bottom half only", WHOLE, "crop", crop_place(0, 0.5, 1, 1)),
    "cropmiddle": Operation("Crop", "middle only", WHOLE, "crop", crop_place(0.25, 0.25, 0.75, 0.75)),
    "zoom": Operation("Zoom", "closer view", WHOLE, "crop", zoom(2)),
    **{colour: Operation("Recoloring", colour, PART, "colour", tint(colour)) for colour in COLOURS},
    **{f"border{name}": Operation("Add", f"{name} border", WHOLE, "border", border(name)) for name in BORDERS},
    **{f"caption{text}": Operation("Add", f"caption {text}", WHOLE, "caption", caption(text)) for text in CAPTIONS},
}
