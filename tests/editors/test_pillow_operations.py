"""Every edit of the small world, carried out on real photographs."""

import numpy as np
import pytest
from PIL import Image

from ier1_plugin.editors.pillow.operations import ANY, BORDERS, CAPTIONS, COLOURS, OPERATIONS, PART, WHOLE
from ier1_plugin.small_world.pictures import Photo
from ier1_plugin.task.actions import ACTIONS

# 224 x 224
CAT = Photo("chelsea.png", (60, 10, 340, 290), mirrored=False, light=1.0)
BOX = (20, 40, 120, 200)


@pytest.fixture(scope="module")
def photo():
    return CAT.open()


def pixels(image):
    return np.asarray(image, dtype=np.float64)


def light(image):
    return image.mean()


def warmth(image):
    return image[..., 0].mean() / image[..., 2].mean()


def colourfulness(image):
    return (image.max(axis=-1) - image.min(axis=-1)).mean()


def detail(image):
    return np.abs(np.diff(image, axis=1)).mean()


def halved(image):
    """The mean of each 2 x 2 pixels."""
    return image.reshape(image.shape[0] // 2, 2, image.shape[1] // 2, 2, 3).mean(axis=(1, 3))


def is_sepia(image):
    red, green, blue = np.moveaxis(image, -1, 0)
    return (red >= green).all() and (green >= blue).all()


def hue(colour):
    strongest = int(np.argmax(COLOURS[colour]))
    return lambda before, after: (after.argmax(axis=-1) == strongest).mean() > 0.9


def framed(colour):
    return lambda before, after: (
        after.shape > before.shape
        and (after[0] == colour).all()
        and (after[:, -1] == colour).all()
        and (after[14:-14, 14:-14] == before).all()
    )


def captioned(before, after):
    """Something was written near the lower edge, and nothing above."""
    height = before.shape[0]
    changed = (before != after).any(axis=-1)
    return changed[int(0.75 * height) :].mean() > 0.02 and not changed[: int(0.6 * height)].any()


CHECKS = {
    "brighter": lambda before, after: light(after) > 1.2 * light(before),
    "darker": lambda before, after: light(after) < 0.7 * light(before),
    "warmer": lambda before, after: warmth(after) > 1.3 * warmth(before),
    "cooler": lambda before, after: warmth(after) < warmth(before) / 1.3,
    "contrast": lambda before, after: after.std() > 1.2 * before.std(),
    "saturate": lambda before, after: colourfulness(after) > 1.3 * colourfulness(before),
    "grey": lambda before, after: colourfulness(after) == 0 and abs(light(after) - light(before)) < 10,
    "sepia": lambda before, after: is_sepia(after),
    "blur": lambda before, after: detail(after) < 0.5 * detail(before) and abs(light(after) - light(before)) < 2,
    "pixelate": lambda before, after: (np.diff(after, axis=1) == 0).mean() > 0.85,
    "sharpen": lambda before, after: detail(after) > 1.3 * detail(before),
    "upscale": lambda before, after: np.abs(halved(after) - before).mean() < 3,
    "zoom": lambda before, after: np.abs(halved(after) - before[56:168, 56:168]).mean() < 3,
    "invert": lambda before, after: (after == 255 - before).all(),
    "erase": lambda before, after: after.std(axis=(0, 1)).max() == 0,
    "mirror": lambda before, after: (after == before[:, ::-1]).all(),
    "upside": lambda before, after: (after == before[::-1]).all(),
    # numpy turns counterclockwise for a positive k
    "rotate": lambda before, after: (after == np.rot90(before, -1)).all(),
    "rotateback": lambda before, after: (after == np.rot90(before, 1)).all(),
    "cropleft": lambda before, after: (after == before[:, :112]).all(),
    "cropright": lambda before, after: (after == before[:, 112:]).all(),
    "croptop": lambda before, after: (after == before[:112]).all(),
    "cropbottom": lambda before, after: (after == before[112:]).all(),
    "cropmiddle": lambda before, after: (after == before[56:168, 56:168]).all(),
    **{colour: hue(colour) for colour in COLOURS},
    "borderred": framed(COLOURS["red"]),
    "borderwhite": framed((255, 255, 255)),
    "borderblack": framed((0, 0, 0)),
    **{f"caption{text}": captioned for text in CAPTIONS},
}


@pytest.mark.parametrize("key", OPERATIONS)
def test_an_operation_does_to_a_photo_what_it_says(key, photo):
    before = pixels(photo)
    after = OPERATIONS[key].apply(photo, None)
    assert after.mode == "RGB"
    assert CHECKS[key](before, pixels(after))
    assert (pixels(photo) == before).all(), "the input was changed"


@pytest.mark.parametrize("key", [key for key, operation in OPERATIONS.items() if operation.scope != WHOLE])
def test_an_operation_on_a_part_leaves_the_rest_alone(key, photo):
    left, top, right, bottom = BOX
    before, after = pixels(photo), pixels(OPERATIONS[key].apply(photo, BOX))
    inside = (slice(top, bottom), slice(left, right))
    assert (after[inside] == pixels(OPERATIONS[key].apply(photo.crop(BOX), None))).all()
    assert (after[inside] != before[inside]).any()
    after[inside] = before[inside]
    assert (after == before).all()


@pytest.mark.parametrize("key", [key for key, operation in OPERATIONS.items() if operation.scope == WHOLE])
def test_an_operation_on_the_canvas_takes_no_box(key, photo):
    with pytest.raises(ValueError, match="takes no box"):
        OPERATIONS[key].apply(photo, BOX)


@pytest.mark.parametrize("key", OPERATIONS)
@pytest.mark.parametrize("size", [(1, 1), (3, 500), (500, 3), (2, 2)])
def test_tiny_and_narrow_images_are_edited_too(key, size):
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
