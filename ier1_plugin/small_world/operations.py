"""The edits of the small world, each carried out exactly by Pillow.

    OPERATIONS["brighter"].apply(photo, None)             # the whole photo
    OPERATIONS["brighter"].apply(photo, (0, 0, 224, 112)) # its upper half; a box is left, top, right, bottom in pixels

The same table says what the gold decomposition calls an edit (`action`, `goal`), what the Pillow editor does for it and
what a judge expects to see. `(action, goal)` names one operation; a goal of "" means that the action says it all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps, ImageStat

Box = tuple[int, int, int, int]
Effect = Callable[[Image.Image], Image.Image]

WHOLE, PART, ANY = "whole", "part", "any"
COLOURS = {"red": (220, 30, 30), "green": (30, 170, 60), "blue": (40, 70, 220)}
BORDERS = ("red", "white", "black")
CAPTIONS = ("HELLO", "SALE", "SUMMER")
# the matrix of sepia(100%) in W3C's Filter Effects Module Level 1, section 8.6, as Pillow's 3 x 4 colour matrix
SEPIA = (0.393, 0.769, 0.189, 0, 0.349, 0.686, 0.168, 0, 0.272, 0.534, 0.131, 0)
WARMTH = 1.25


@dataclass(frozen=True)
class Operation:
    """An edit: how the gold names it, where it makes sense, and what it does."""

    action: str
    """A name out of `actions.ACTIONS`."""
    goal: str
    scope: str
    """WHOLE: only the whole photo. PART: only a part of it. ANY: both."""
    family: str
    """Two edits of one family undo or hide each other, so no request asks for both."""
    apply: Callable[[Image.Image, Box | None], Image.Image]
    """(RGB image, box or None) -> a new RGB image; the input is left alone."""
    needs_colour: bool = False
    """True if it does nothing to a photo that is grey already."""


def on_part(effect: Effect) -> Callable[[Image.Image, Box | None], Image.Image]:
    """An effect that keeps the size, inside the box or on the whole image."""

    def apply(image: Image.Image, box: Box | None) -> Image.Image:
        if box is None:
            return effect(image)
        edited = image.copy()
        edited.paste(effect(image.crop(box)), box)
        return edited

    return apply


def _on_whole(effect: Effect) -> Callable[[Image.Image, Box | None], Image.Image]:
    def apply(image: Image.Image, box: Box | None) -> Image.Image:
        if box is not None:
            raise ValueError(f"this edit changes the canvas and takes no box, got {box}")
        return effect(image)

    return apply


def _light(factor: float, image: Image.Image) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(factor)


def _warmth(factor: float, image: Image.Image) -> Image.Image:
    return image.convert("RGB", (factor, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1 / factor, 0))


def _contrast(image: Image.Image) -> Image.Image:
    return ImageEnhance.Contrast(image).enhance(1.6)


def _saturation(image: Image.Image) -> Image.Image:
    return ImageEnhance.Color(image).enhance(1.8)


def _grey(image: Image.Image) -> Image.Image:
    return ImageOps.grayscale(image).convert("RGB")


def _sepia(image: Image.Image) -> Image.Image:
    return image.convert("RGB", SEPIA)


def _blur(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(max(2, min(image.size) / 40)))


def _pixelate(image: Image.Image) -> Image.Image:
    small = image.resize((max(1, image.width // 12), max(1, image.height // 12)), Image.Resampling.BOX)
    return small.resize(image.size, Image.Resampling.NEAREST)


def _sharpen(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.UnsharpMask(radius=2, percent=200, threshold=0))


def _recolour(colour: tuple[int, int, int], image: Image.Image) -> Image.Image:
    return ImageOps.colorize(ImageOps.grayscale(image), black="black", mid=colour, white="white")


def _erase(image: Image.Image) -> Image.Image:
    """The part, filled with the average colour of its own edge: what lies around it shines through."""
    inner = (1, 1, max(2, image.width - 1), max(2, image.height - 1))
    edge = Image.new("L", image.size, 255)
    edge.paste(0, inner)
    return Image.new("RGB", image.size, tuple(round(mean) for mean in ImageStat.Stat(image, edge).mean))


def _turn(how: Image.Transpose, image: Image.Image) -> Image.Image:
    return image.transpose(how)


def _crop(left: float, top: float, right: float, bottom: float, image: Image.Image) -> Image.Image:
    """The part between the given fractions of width and height."""
    return image.crop(
        (round(left * image.width), round(top * image.height), round(right * image.width), round(bottom * image.height))
    )


def _zoom(image: Image.Image) -> Image.Image:
    return _crop(0.25, 0.25, 0.75, 0.75, image).resize(image.size, Image.Resampling.LANCZOS)


def _upscale(image: Image.Image) -> Image.Image:
    return image.resize((2 * image.width, 2 * image.height), Image.Resampling.LANCZOS)


def _border(colour: str, image: Image.Image) -> Image.Image:
    return ImageOps.expand(image, border=max(1, min(image.size) // 16), fill=COLOURS.get(colour, colour))


def _caption(text: str, image: Image.Image) -> Image.Image:
    """White letters with a black outline, centred near the lower edge."""
    captioned, size = image.copy(), max(8, image.height // 8)
    ImageDraw.Draw(captioned).text(
        (image.width / 2, image.height - size),
        text,
        fill="white",
        font=ImageFont.load_default(size),
        anchor="mm",
        stroke_width=max(1, size // 10),
        stroke_fill="black",
    )
    return captioned


def _part(action: str, goal: str, family: str, effect: Effect, scope: str = ANY, **more: bool) -> Operation:
    return Operation(action, goal, scope, family, on_part(effect), **more)


def _whole(action: str, goal: str, family: str, effect: Effect, **more: bool) -> Operation:
    return Operation(action, goal, WHOLE, family, _on_whole(effect), **more)


OPERATIONS: dict[str, Operation] = {
    "brighter": _part("Relighting", "brighter", "light", partial(_light, 1.5)),
    "darker": _part("Relighting", "darker", "light", partial(_light, 0.6)),
    "warmer": _part("Relighting", "warmer", "colour", partial(_warmth, WARMTH)),
    "cooler": _part("Relighting", "cooler", "colour", partial(_warmth, 1 / WARMTH)),
    "contrast": _whole("Adjust", "higher contrast", "contrast", _contrast),
    "saturate": _whole("Adjust", "stronger colours", "colour", _saturation, needs_colour=True),
    "grey": _part("Apply", "black and white", "colour", _grey, needs_colour=True),
    "sepia": _part("Apply", "sepia tone", "colour", _sepia),
    "blur": _part("Apply", "blurred", "detail", _blur),
    "pixelate": _part("Apply", "pixelated", "detail", _pixelate),
    "sharpen": _part("Superresolution", "sharper", "detail", _sharpen),
    "upscale": _whole("Superresolution", "double resolution", "size", _upscale),
    "invert": _part("Specialized operation", "inverted colours", "colour", ImageOps.invert),
    "erase": _part("Delete", "", "detail", _erase, scope=PART),
    "mirror": _whole("Transform", "flipped horizontally", "flip", partial(_turn, Image.Transpose.FLIP_LEFT_RIGHT)),
    "upside": _whole("Transform", "flipped vertically", "flip", partial(_turn, Image.Transpose.FLIP_TOP_BOTTOM)),
    "rotate": _whole("Transform", "rotated clockwise", "turn", partial(_turn, Image.Transpose.ROTATE_270)),
    "rotateback": _whole("Transform", "rotated counterclockwise", "turn", partial(_turn, Image.Transpose.ROTATE_90)),
    "cropleft": _whole("Crop", "left half only", "crop", partial(_crop, 0, 0, 0.5, 1)),
    "cropright": _whole("Crop", "right half only", "crop", partial(_crop, 0.5, 0, 1, 1)),
    "croptop": _whole("Crop", "top half only", "crop", partial(_crop, 0, 0, 1, 0.5)),
    "cropbottom": _whole("Crop", "bottom half only", "crop", partial(_crop, 0, 0.5, 1, 1)),
    "cropmiddle": _whole("Crop", "middle only", "crop", partial(_crop, 0.25, 0.25, 0.75, 0.75)),
    "zoom": _whole("Zoom", "closer view", "crop", _zoom),
    **{
        colour: _part("Recoloring", colour, "colour", partial(_recolour, value), scope=PART)
        for colour, value in COLOURS.items()
    },
    **{f"border{c}": _whole("Add", f"{c} border", "border", partial(_border, c)) for c in BORDERS},
    **{f"caption{c}": _whole("Add", f"caption {c}", "caption", partial(_caption, c)) for c in CAPTIONS},
}
