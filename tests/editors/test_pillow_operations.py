"""Every edit of the small world, carried out on real photographs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from ier1_plugin.editors.pillow.operations import ANY, BORDERS, CAPTIONS, COLOURS, OPERATIONS, PART, WHOLE
from ier1_plugin.small_world.pictures import Photo
from ier1_plugin.task.actions import ACTIONS

CAT = Photo("chelsea.png", (60, 10, 340, 290), mirrored=False, light=1.0)
BOX = (20, 40, 120, 200)
Pixels = np.ndarray


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return CAT.open()


def pixels(image: Image.Image) -> Pixels:
    return np.asarray(image, dtype=np.float64)


def light(image: Pixels) -> float:
    return float(image.mean())


def warmth(image: Pixels) -> float:
    return float(image[..., 0].mean() / image[..., 2].mean())


def colourfulness(image: Pixels) -> float:
    return float((image.max(axis=-1) - image.min(axis=-1)).mean())


def detail(image: Pixels) -> float:
    return float(np.abs(np.diff(image, axis=1)).mean())


def hue(colour: str) -> Callable[[Pixels, Pixels], bool]:
    strongest = int(np.argmax(COLOURS[colour]))
    return lambda before, after: bool((after.argmax(axis=-1) == strongest).mean() > 0.9)


def framed(colour: tuple[int, int, int]) -> Callable[[Pixels, Pixels], bool]:
    return lambda before, after: bool(
        after.shape > before.shape
        and (after[0] == colour).all()
        and (after[:, -1] == colour).all()
        and (after[14:-14, 14:-14] == before).all()
    )


def captioned(before: Pixels, after: Pixels) -> bool:
    """Something was written near the lower edge, and nothing above."""
    height = before.shape[0]
    changed = (before != after).any(axis=-1)
    return bool(changed[int(0.75 * height) :].mean() > 0.02 and not changed[: int(0.6 * height)].any())


CHECKS: dict[str, Callable[[Pixels, Pixels], bool]] = {
    "brighter": lambda before, after: light(after) > 1.2 * light(before),
    "darker": lambda before, after: light(after) < 0.7 * light(before),
    "warmer": lambda before, after: warmth(after) > 1.3 * warmth(before),
    "cooler": lambda before, after: warmth(after) < warmth(before) / 1.3,
    "contrast": lambda before, after: bool(after.std() > 1.2 * before.std()),
    "saturate": lambda before, after: colourfulness(after) > 1.3 * colourfulness(before),
    "grey": lambda before, after: colourfulness(after) == 0 and abs(light(after) - light(before)) < 10,
    "sepia": lambda before, after: bool(
        (after[..., 0] >= after[..., 1]).all() and (after[..., 1] >= after[..., 2]).all()
    ),
    "blur": lambda before, after: detail(after) < 0.5 * detail(before) and abs(light(after) - light(before)) < 2,
    "pixelate": lambda before, after: bool((np.diff(after, axis=1) == 0).mean() > 0.85),
    "sharpen": lambda before, after: detail(after) > 1.3 * detail(before),
    "upscale": lambda before, after: bool(
        after.shape == (448, 448, 3) and np.abs(after.reshape(224, 2, 224, 2, 3).mean(axis=(1, 3)) - before).mean() < 3
    ),
    "invert": lambda before, after: bool((after == 255 - before).all()),
    "erase": lambda before, after: bool(after.std(axis=(0, 1)).max() == 0),
    "mirror": lambda before, after: bool((after == before[:, ::-1]).all()),
    "upside": lambda before, after: bool((after == before[::-1]).all()),
    # numpy turns counterclockwise for a positive k
    "rotate": lambda before, after: bool((after == np.rot90(before, -1)).all()),
    "rotateback": lambda before, after: bool((after == np.rot90(before, 1)).all()),
    "cropleft": lambda before, after: bool((after == before[:, :112]).all()),
    "cropright": lambda before, after: bool((after == before[:, 112:]).all()),
    "croptop": lambda before, after: bool((after == before[:112]).all()),
    "cropbottom": lambda before, after: bool((after == before[112:]).all()),
    "cropmiddle": lambda before, after: bool((after == before[56:168, 56:168]).all()),
    "zoom": lambda before, after: bool(
        after.shape == before.shape
        and np.abs(after.reshape(112, 2, 112, 2, 3).mean(axis=(1, 3)) - before[56:168, 56:168]).mean() < 3
    ),
    **{colour: hue(colour) for colour in COLOURS},
    "borderred": framed(COLOURS["red"]),
    "borderwhite": framed((255, 255, 255)),
    "borderblack": framed((0, 0, 0)),
    **{f"caption{text}": captioned for text in CAPTIONS},
}


@pytest.mark.parametrize("key", OPERATIONS)
def test_an_operation_does_to_a_photo_what_it_says(key: str, photo: Image.Image):
    before = pixels(photo)
    after = OPERATIONS[key].apply(photo, None)
    assert after.mode == "RGB"
    assert CHECKS[key](before, pixels(after))
    assert (pixels(photo) == before).all(), "the input was changed"


@pytest.mark.parametrize("key", [key for key, operation in OPERATIONS.items() if operation.scope != WHOLE])
def test_an_operation_on_a_part_leaves_the_rest_alone(key: str, photo: Image.Image):
    left, top, right, bottom = BOX
    before, after = pixels(photo), pixels(OPERATIONS[key].apply(photo, BOX))
    inside = (slice(top, bottom), slice(left, right))
    assert (after[inside] == pixels(OPERATIONS[key].apply(photo.crop(BOX), None))).all()
    assert (after[inside] != before[inside]).any()
    after[inside] = before[inside]
    assert (after == before).all()


@pytest.mark.parametrize("key", [key for key, operation in OPERATIONS.items() if operation.scope == WHOLE])
def test_an_operation_on_the_canvas_takes_no_box(key: str, photo: Image.Image):
    with pytest.raises(ValueError, match="takes no box"):
        OPERATIONS[key].apply(photo, BOX)


@pytest.mark.parametrize("key", OPERATIONS)
@pytest.mark.parametrize("size", [(1, 1), (3, 500), (500, 3), (2, 2)])
def test_tiny_and_narrow_images_are_edited_too(key: str, size: tuple[int, int]):
    edited = OPERATIONS[key].apply(Image.new("RGB", size, (120, 80, 40)), None)
    assert edited.mode == "RGB"


def test_an_erased_part_takes_the_colour_of_its_own_edge():
    image = Image.new("RGB", (20, 20), (10, 200, 30))
    image.paste((255, 0, 0), (5, 5, 15, 15))
    erased = pixels(OPERATIONS["erase"].apply(image, (4, 4, 16, 16)))
    assert (erased == (10, 200, 30)).all()


def test_action_and_goal_name_one_operation_each_and_all_actions_are_known():
    names = [(operation.action, operation.goal) for operation in OPERATIONS.values()]
    assert len(set(names)) == len(names)
    assert {action for action, _ in names} <= set(ACTIONS)
    assert {operation.scope for operation in OPERATIONS.values()} == {WHOLE, PART, ANY}
    assert len(BORDERS) == len(CAPTIONS) == 3
