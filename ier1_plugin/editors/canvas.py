"""Which size an editing pipeline works at: size of the original image -> the canvas of the whole chain.

    kontext((1600, 1200))                        # (1184, 880)
    megapixel(32)((1600, 1200))                  # (1184, 896)
    at_most(1024 * 1024, 16)((64, 48))           # (64, 48)

A canvas is one that the pipeline leaves alone when the next turn brings it back: left to themselves, pipelines resize
their input a little differently at each turn, which stretches the picture and lets it drift.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from ier1_plugin.editors.base import EditError
from ier1_plugin.task.images import Size

Canvas = Callable[[Size], Size]

MEGAPIXEL = 1024 * 1024
# the sizes that FLUX.1-Kontext was trained on, PREFERRED_KONTEXT_RESOLUTIONS in diffusers' pipeline_flux_kontext.py;
# the wide ones are these on their side
_TALL = (
    (672, 1568),
    (688, 1504),
    (720, 1456),
    (752, 1392),
    (800, 1328),
    (832, 1248),
    (880, 1184),
    (944, 1104),
    (1024, 1024),
)
KONTEXT_SIZES: tuple[Size, ...] = (*_TALL, *((height, width) for width, height in reversed(_TALL[:-1])))
# how often a rule is followed until it repeats itself: twice for photographs, more often for very narrow pictures
MAX_STEPS = 64


def nearest(sizes: Sequence[Size]) -> Canvas:
    """The one of `sizes` that is nearest in aspect ratio."""

    def canvas(size: Size) -> Size:
        return min(sizes, key=lambda other: (abs(size[0] / size[1] - other[0] / other[1]), other))

    return canvas


kontext: Canvas = nearest(KONTEXT_SIZES)


def megapixel(multiple: int, area: int = MEGAPIXEL) -> Canvas:
    """About `area` pixels in the aspect ratio of the original, both sides rounded to a multiple of `multiple`."""

    def canvas(size: Size) -> Size:
        width = math.sqrt(area * size[0] / size[1])
        height = width * size[1] / size[0]
        return max(multiple, round(width / multiple) * multiple), max(multiple, round(height / multiple) * multiple)

    return canvas


def at_most(area: int, multiple: int) -> Canvas:
    """The size itself, scaled down to `area` pixels where it has more; both sides cut to a multiple of `multiple`."""

    def canvas(size: Size) -> Size:
        scale = min(1.0, math.sqrt(area / math.prod(size)))
        # a multiple that a rounding error made a hair smaller counts in full
        sides = (int(side * scale / multiple + 1e-6) * multiple for side in size)
        width, height = (max(multiple, side) for side in sides)
        # a side that can't get smaller leaves the other one less room
        room = max(multiple, area // min(width, height) // multiple * multiple)
        return min(width, room), min(height, room)

    return canvas


def within_ratio(limit: float, canvas: Canvas) -> Canvas:
    """`canvas` of the size, with the longer side limited to `limit` times the shorter one: the picture is squeezed."""

    def limited(size: Size) -> Size:
        width, height = size
        return canvas((round(min(width, limit * height)), round(min(height, limit * width))))

    return limited


def settled(canvas: Canvas) -> Canvas:
    """`canvas`, applied until the size no longer changes; EditError if a side reaches 0 or the size never settles."""

    def followed(size: Size) -> Size:
        sizes = [size]
        for _ in range(MAX_STEPS):
            sizes.append(canvas(sizes[-1]))
            if min(sizes[-1]) < 1:
                raise EditError(f"a {size[0]} x {size[1]} image is too narrow for this editor; crop it first")
            if sizes[-1] == sizes[-2]:
                break
        if all(before != after for before, after in pairwise(sizes)):
            raise EditError(f"no canvas suits a {size[0]} x {size[1]} image in this editor; crop it first")
        return sizes[-1]

    return followed
