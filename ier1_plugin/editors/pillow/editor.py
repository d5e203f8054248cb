"""The editor that computes: exact edits by Pillow, and a clear refusal of everything else.

pillow_editor("")(photo, "Crop photo to left half only\nAdjust photo: black and white", 0)
pillow_editor("", places={"coffee cup": (0.1, 0.0, 0.8, 0.9)})(photo, "blur the coffee cup", 0)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from ier1_plugin.editors.base import EditError, Editor, failing_as, number
from ier1_plugin.editors.pillow.operations import Fractions
from ier1_plugin.editors.pillow.phrases import PLACES, parse_instruction
from ier1_plugin.runs.errors import one_line


def pillow_editor(argument: str, *, places: Mapping[str, Fractions] | None = None) -> Editor:
    """The editor. `places`: further parts of the photo that it can find, as fractions left, top, right, bottom."""
    if argument:
        raise EditError(f"pillow takes no argument, got {argument!r}")
    if not isinstance(places, Mapping | None):
        raise EditError(f"places is {one_line(repr(places))}; wanted {{NAME: [left, top, right, bottom]}}")
    known = PLACES | {str(name): _fractions(name, box) for name, box in (places or {}).items()}

    def edit(image: Image.Image, instruction: str, seed: int) -> Image.Image:
        result = image if image.mode == "RGBA" else image.convert("RGB")
        for exact_edit in parse_instruction(instruction, known):
            with failing_as(f"pillow: {exact_edit.words}"):
                result = exact_edit(result)
            if not all(result.size):
                size = f"{image.width} x {image.height}"
                raise EditError(f"pillow: {exact_edit.words} would leave nothing of a {size} image")
        return result

    def supports(sub_request: str) -> bool:
        try:
            return all(exact_edit.better_exact for exact_edit in parse_instruction(sub_request, known))
        except EditError:
            return False

    return Editor("pillow", edit, preserves_size=False, keeps_alpha=True, supports=supports)


def _fractions(name: Any, box: Any) -> Fractions:
    if isinstance(box, str) or not isinstance(box, Sequence) or len(box) != 4:
        raise EditError(f"the place {name!r} is {one_line(repr(box))}; wanted left, top, right, bottom from 0 to 1")
    left, top, right, bottom = (float(number(side, f"a side of the place {name!r}", 0, 1)) for side in box)
    if left >= right or top >= bottom:
        raise EditError(f"the place {name!r} has nothing in it: {list(box)}; wanted left < right and top < bottom")
    return left, top, right, bottom
