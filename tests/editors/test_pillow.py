"""Exact edits by Pillow: what it understands, what it makes of it, and what it refuses."""

import itertools
import math

import pytest
from fakes.real_photos import real_photo
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageEnhance, ImageFilter, ImageOps

from ier1_plugin.editors import EditError, make_editor
from ier1_plugin.editors.pillow.operations import OPERATIONS, PART, REGIONS, WHOLE
from ier1_plugin.editors.pillow.phrases import PLACES, parse_instruction
from ier1_plugin.small_world.wordings import WORDINGS
from ier1_plugin.small_world.world import Edit

PILLOW = make_editor("pillow")


def edited(photo, instruction):
    return PILLOW(photo, instruction, 0)


def outcome(photo, instruction):
    """The picture, or the line that says why there is none."""
    try:
        return edited(photo, instruction)
    except EditError as error:
        return str(error)


def same(first, second):
    return first.size == second.size and first.tobytes() == second.tobytes()


def half(photo):
    return (0, 0, photo.width, round(photo.height / 2))


@pytest.mark.parametrize("key", [key for key, operation in OPERATIONS.items() if operation.scope != PART])
@pytest.mark.parametrize(
    "words",
    ["{0.action} photo to {0.goal}", "{0.action} photo: {0.goal}", "{0.action} {0.goal}", "Change photo to {0.goal}"],
)
def test_the_small_worlds_edits_of_a_whole_photo_are_made_as_it_makes_them(key, words):
    photo, operation = real_photo(size=(64, 48)), OPERATIONS[key]
    assert same(edited(photo, words.format(operation)), operation.apply(photo, None))


@pytest.mark.parametrize("key", [key for key, operation in OPERATIONS.items() if operation.scope != WHOLE])
@pytest.mark.parametrize("region", REGIONS)
def test_the_small_worlds_edits_of_a_part_are_made_as_it_makes_them(key, region):
    # an odd size, so that halves have to be rounded
    photo, operation = real_photo(size=(151, 99)), OPERATIONS[key]
    gold = Edit(key, region, REGIONS[region][1]).apply(photo)
    words = f"{operation.action} {region}" + (f" to {operation.goal}" if operation.goal else "")
    assert same(edited(photo, words), gold)
    assert not same(gold, photo)


@pytest.mark.parametrize("key", WORDINGS)
def test_imperatives_of_the_small_world_are_understood(key):
    photo, operation = real_photo(size=(64, 48)), OPERATIONS[key]
    for wording in WORDINGS[key].asked + WORDINGS[key].held_out_asked:
        if operation.scope != PART:
            assert same(edited(photo, wording.format(it="the photo")), operation.apply(photo, None)), wording
        if operation.scope != WHOLE and "{it}" in wording:
            asked = wording.format(it="the upper half")
            assert same(edited(photo, f"please {asked}"), operation.apply(photo, half(photo))), asked


def brighter(factor):
    return lambda photo: ImageEnhance.Brightness(photo).enhance(factor)


@pytest.mark.parametrize(
    ("instruction", "gold"),
    [
        ("crop (10, 20, 300, 200)", lambda photo: photo.crop((10, 20, 300, 200))),
        ("crop to 300x200", lambda photo: photo.crop((106, 156, 406, 356))),
        ("Crop the photo to 16:9", lambda photo: photo.crop((0, 112, 512, 400))),
        ("crop it to a square", lambda photo: photo),
        ("crop 10% off each side", lambda photo: photo.crop((51, 51, 461, 461))),
        ("trim 25 % off the left", lambda photo: photo.crop((128, 0, 512, 512))),
        ("cut away the left half", lambda photo: photo.crop((256, 0, 512, 512))),
        ("rotate by 180 degrees", lambda photo: photo.transpose(Image.Transpose.ROTATE_180)),
        ("rotate 270 degrees", lambda photo: photo.transpose(Image.Transpose.ROTATE_90)),
        ("rotate 0 degrees", lambda photo: photo),
        (
            "rotate 15° counterclockwise",
            lambda photo: photo.rotate(15, Image.Resampling.BICUBIC, expand=True, fillcolor="white"),
        ),
        ("resize to 800x600", lambda photo: photo.resize((800, 600), Image.Resampling.LANCZOS)),
        ("Resize the image to 50%", lambda photo: photo.resize((256, 256), Image.Resampling.LANCZOS)),
        ("scale it to 100 pixels wide", lambda photo: photo.resize((100, 100), Image.Resampling.LANCZOS)),
        ("upscale 3x", lambda photo: photo.resize((1536, 1536), Image.Resampling.LANCZOS)),
        (
            "zoom in x4",
            lambda photo: photo.crop((192, 192, 320, 320)).resize(photo.size, Image.Resampling.LANCZOS),
        ),
        ("make it 20% brighter", brighter(1.2)),
        ("decrease the brightness by 20 percent", brighter(0.8)),
        ("brightness -100%", lambda photo: Image.new("RGB", photo.size)),
        ("increase the contrast by 30%", lambda photo: ImageEnhance.Contrast(photo).enhance(1.3)),
        ("less contrast", lambda photo: ImageEnhance.Contrast(photo).enhance(0.7)),
        ("lower the saturation by 50%", lambda photo: ImageEnhance.Color(photo).enhance(0.5)),
        ("desaturate the picture", lambda photo: ImageOps.grayscale(photo).convert("RGB")),
        ("gamma 1", lambda photo: photo),
        ("blur with a radius of 5 pixels", lambda photo: photo.filter(ImageFilter.GaussianBlur(5))),
        ("denoise", lambda photo: photo.filter(ImageFilter.MedianFilter(3))),
        ("posterize", lambda photo: ImageOps.posterize(photo, 3)),
        ("auto contrast", lambda photo: ImageOps.autocontrast(photo, 1)),
        ("add a 10 px navy frame", lambda photo: ImageOps.expand(photo, 10, (0, 0, 128))),
        ("add a #ff8800 border of 3 pixels", lambda photo: ImageOps.expand(photo, 3, (255, 136, 0))),
        (
            "tint the photo navy",
            lambda photo: ImageOps.colorize(ImageOps.grayscale(photo), "black", "white", mid=(0, 0, 128)),
        ),
    ],
)
def test_numbers_and_names_are_followed_exactly(instruction, gold):
    photo = real_photo()
    assert same(edited(photo, instruction), gold(photo))


def test_gamma_and_hue_change_what_they_should():
    photo = real_photo()
    roots = [round(255 * math.sqrt(level / 255)) for level in range(256)]
    assert same(edited(photo, "gamma 2"), photo.point(roots * 3))
    blue = edited(Image.new("RGB", (2, 2), "yellow"), "shift the hue by 180 degrees")
    assert same(blue, Image.new("RGB", (2, 2), "blue"))
    assert same(edited(photo, "shift the hue by 360 degrees"), edited(photo, "shift the hue by 0 degrees"))


@pytest.mark.parametrize(
    "instruction",
    [
        "Crop it to the left half and make it black and white, then rotate it to the right and add a red border.",
        "Crop photo to left half only.\nApply photo to black and white.\nTransform photo to rotated clockwise.\n"
        "Add photo to red border.",
    ],
)
def test_several_edits_are_made_in_their_order(instruction):
    expected = photo = real_photo()
    for key in ("cropleft", "grey", "rotate", "borderred"):
        expected = OPERATIONS[key].apply(expected, None)
    assert same(edited(photo, instruction), expected)


@pytest.mark.parametrize(
    "parts", itertools.permutations(("crop it to the left half", "make it black and white", "add a red border"))
)
def test_every_order_of_three_edits_is_understood(parts):
    instruction = f"{parts[0]}, {parts[1]} and {parts[2]}"
    assert tuple(edit.words for edit in parse_instruction(instruction, PLACES)) == parts


@pytest.mark.parametrize(
    "instruction",
    [
        "make the sofa navy",
        "crop out the man on the left",
        "blur the background",
        "rotate the car 90 degrees",
        "don't make it black and white",
        "never crop to the left half",
        "change my head",
        "make it right",
        "the bottom half",
        "rotate the left half to the right",
        "add a white border to the top half",
        "remove the lamp, make the sofa navy and warm the light up a bit",
        "Delete",
        "Delete photo",
        "make it black",
        "crop",
        "flip it",
        "zoom out",
        "brighter darker",
        "blur the top half, top half",
        "把沙发变成蓝色",
        "أضف قطة",
        "</think><action>",
        '{"actions": ["Crop"]}',
        "🎩",
    ],
)
def test_what_is_not_wholly_understood_is_refused(instruction):
    with pytest.raises(EditError, match=r"^pillow can't do .* crop, flip, rotate, .* caption") as caught:
        edited(real_photo(), instruction)
    assert ("it does not know 'sofa'" in str(caught.value)) == (instruction == "make the sofa navy")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("instruction", "message"),
    [
        *((empty, "^pillow") for empty in ("", "   ", "\n\n", "...")),
        *((endless, "^pillow") for endless in ("x" * 50_000, "crop " * 20_000)),
        ("crop (300, 200, 10, 20)", "no pixel of a 512 x 512 image"),
        ("crop (600, 600, 700, 700)", "no pixel"),
        ("crop 50% off each side", "nothing of a 512 x 512 image"),
        ("resize to 99999x99999", "99999 x 99999 pixels"),
        ("resize to 0x10", "0 x 10 pixels"),
        ("upscale 999x", "511488 x 511488 pixels"),
        ("zoom in x1000", "a zoom of 1000 is out of range"),
        ("gamma 0", "a gamma of 0 is out of range"),
        ("brightness -200%", "multiplied by -1"),
        ("add a red border of 99999 pixels", "200510 x 200510 pixels"),
        ('add the caption "你好"', "built-in font can't write '你好'"),
    ],
    ids=lambda text: text[:30],
)
def test_edits_that_can_not_be_made_say_why_in_one_line(instruction, message):
    with pytest.raises(EditError, match=message) as caught:
        edited(real_photo(), instruction)
    assert "\n" not in str(caught.value)


def test_a_tiny_photo_is_edited_or_refused_but_never_broken():
    for key, operation in OPERATIONS.items():
        photo = Image.new("RGB", (1, 1), "red")
        words = f"{operation.action} {'top half' if operation.scope == PART else 'photo'} to {operation.goal}"
        result = outcome(photo, words)
        assert "would leave nothing" in result if isinstance(result, str) else all(result.size), key


def test_captions_are_written_as_they_are_asked_for():
    photo = real_photo()
    for words in ('add the caption "SALE"', "Add photo to caption SALE", "Add caption “SALE” to photo"):
        assert same(edited(photo, words), OPERATIONS["captionSALE"].apply(photo, None))
    top = edited(photo, 'write "Crop it. Then flip; please" at the top')
    changed = ImageChops.difference(photo, top).getbbox()
    assert changed
    # a long text is made smaller until it fits
    assert changed[3] < photo.height / 2
    assert changed[0] > 0
    assert changed[2] < photo.width


def test_named_places_are_found():
    photo = real_photo("coffee.png")
    editor = make_editor("pillow", places={"the cup of coffee": (0.1, 0.0, 0.8, 1.0)})
    box = (60, 0, 480, 400)
    assert same(editor(photo, "Delete cup of coffee", 0), OPERATIONS["erase"].apply(photo, box))
    with pytest.raises(EditError, match="cup"):
        edited(photo, "Delete cup of coffee")


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_the_picture_may_have_any_mode_and_is_not_changed(mode):
    photo = real_photo().convert(mode)
    before = photo.tobytes()
    instruction = "make it black and white, add a red border and the caption HELLO"
    assert edited(photo, instruction).mode == "RGB"
    assert photo.tobytes() == before


WORDS = st.sampled_from(
    [
        *("crop", "the", "left", "half", "to", "a", "square", "and", "make", "it", "brighter", "darker", "by", "20"),
        *("%", "not", "red", "border", "caption", "rotate", "90", "degrees"),
    ]
)


@given(st.lists(WORDS, min_size=1, max_size=12).map(" ".join))
@settings(max_examples=150, deadline=None)
def test_whatever_is_asked_ends_in_a_picture_or_in_one_line(instruction):
    photo = Image.new("RGB", (40, 30), "teal")
    result = outcome(photo, instruction)
    if isinstance(result, str):
        assert "\n" not in result
    else:
        assert "not" not in instruction.split()
        assert all(result.size)
