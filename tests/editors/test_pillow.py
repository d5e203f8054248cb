"""Exact edits by Pillow: what it understands, what it makes of it, and what it refuses."""

import itertools
import math
import time
from random import Random

import pytest
from fakes.real_photos import real_photo
from PIL import Image, ImageChops, ImageEnhance, ImageFilter, ImageOps

from ier1_plugin.editors import EditError, make_editor
from ier1_plugin.editors.pillow.operations import OPERATIONS, PART, REGIONS, WHOLE
from ier1_plugin.editors.pillow.phrases import PLACES, parse_instruction
from ier1_plugin.editors.pillow.rules import VOCABULARY
from ier1_plugin.editors.pillow.words import FRACTIONS
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


@pytest.mark.parametrize(
    ("instruction", "gold"),
    [
        ("crop (10, 20, 300, 200)", lambda photo: photo.crop((10, 20, 300, 200))),
        ("Crop the photo to 16:9", lambda photo: photo.crop((0, 112, 512, 400))),
        ("crop it to a square", lambda photo: photo),
        ("crop 10% off each side", lambda photo: photo.crop((51, 51, 461, 461))),
        ("rotate by 180 degrees", lambda photo: photo.transpose(Image.Transpose.ROTATE_180)),
        *(
            (words, lambda photo: photo.transpose(Image.Transpose.ROTATE_90))
            for words in ("rotate 270 degrees", "rotate left by 90 degrees", "turn 90° to the left", "rotate by -90")
        ),
        (
            "rotate 15° counterclockwise",
            lambda photo: photo.rotate(15, Image.Resampling.BICUBIC, expand=True, fillcolor="white"),
        ),
        ("resize to 800x600", lambda photo: photo.resize((800, 600), Image.Resampling.LANCZOS)),
        *(
            (words, lambda photo: photo.crop((192, 192, 320, 320)).resize(photo.size, Image.Resampling.LANCZOS))
            for words in ("zoom in x4", "zoom in by 4x", "zoom in to 400%", "zoom in by 300%")
        ),
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


# what becomes of a grey of 100; None: refused
LEVELS = {
    50: """set brightness to 50% | reduce brightness by 50% | half the brightness | make it half as bright
        | darken by half | cut the brightness in half | reduce brightness to half | at 50% brightness
        | reduce brightness from 100% to 50% | lower brightness by .5x | turn the brightness down 50%
        | reduce brightness to 50% of its original value""",
    80: """reduce brightness to 80% | set the brightness to 80 per cent | brightness -20% | darken by 20% | 20% darker
        | make it 80% as bright | make it 80% of its current brightness
        | bring the brightness down to 80% | change the brightness by −20%""",
    90: "darken to 90% | dim by ten percent",
    100: "brightness to 100% | increase the brightness by 0%",
    20: "reduce brightness by 80% | darken to 20%",
    120: """increase brightness to 120% | increase brightness by 20% | increase brightness 20% | brighten up by 20%
        | make it twenty percent brighter | brightness +20% | turn up the brightness by 20% | brighten by 1,2x""",
    150: "increase brightness by half | brightness x1.5",
    200: """double the brightness | make it twice as bright | twice as much brightness | 2x brighter
        | increase the brightness by a factor of two | increase brightness by 100%""",
    33: "lower the brightness by two thirds | a third of the brightness",
    None: """brightness 50% | 50% brightness | brightness 150% | increase brightness 150% | change brightness by 20%
        | increase the brightness to 80% | reduce the brightness to 120% | lighten to 50% | brightness to +20%
        | reduce brightness from 50% to 100% | increase brightness from 0% to 50% | reduce brightness by 20-30%
        | reduce brightness by 150% | increase brightness by -20% | set brightness to 1.5 | add a double exposure
        | reduce brightness by about 20% | brightness by half | sharpen to 50% | set the hue to 180""",
}
# what becomes of 400 x 200 pixels
SIZES = {
    (320, 160): """scale down by 20% | scale to 80% | make it 20% smaller | reduce the size by 20% | reduce to 80%
        | crop 10% off each side | crop every side by 10% | crop to 80%""",
    (80, 40): "scale down to 20% | reduce the size by 80% | crop to 20% of its size",
    (200, 100): """resize 50% | shrink by half | half the size | scale by .5 | downscale by 2 | scale it down 2x
        | scale down by a factor of 2 | make it half as large | 2x smaller | resize to half its size""",
    (600, 300): "scale up by 50% | enlarge to 150% | make it 50% larger | enlarge by half | scale by 1.5",
    (800, 400): "make it twice as large | double the size | scale by 2 | enlarge by 100% | resize to 800 px wide",
    (800, 600): "resize to 800 by 600 | resize to 800×600 px | scale to 800 x 600 pixels",
    (1000, 500): "resize to 1,000x500 | make it 1000 px wide | resize to a height of 500 pixels",
    (356, 200): """crop 16x9 | crop to 16 by 9 | crop to 16:9 | crop to a 16/9 ratio | crop to an aspect ratio of 16:9
        | crop to 1920:1080 | crop to 8x4.5 | crop to 16 : 9""",
    (160, 200): "crop to 4x5 | crop to 4:5 | crop it to 40% of the width",
    (200, 200): """trim the left half | cut the left half | cut off the left half | crop out the left half
        | cut away the left half | crop to 1x1
        | crop to the left half | cut to the left half | keep only the left half | cut the left 50% off""",
    (300, 200): "cut the left 25% off | trim 25 % off the left | cut 100 px off the left | crop the left side by 25%",
    (100, 200): "crop to the left 25% | keep only the left 25%",
    (400, 150): "trim 50 pixels from the top | crop by 25% on the top",
    (400, 160): "cut 10% from the top and bottom | crop to 80% of the height",
    (300, 100): "crop to 300x100 | crop to 300 x 100 pixels",
    (400, 133): "cut off the bottom third | keep only the top two thirds",
    (50, 40): "crop to 50x40 px",
    (410, 210): "add a 5 px white border | add a white border of 5 pixels | add a white frame with a width of 5 px",
    None: """scale by 50% | resize by 50% | resize by half | scale up to 50% | scale down to 150% | scale by 50
        | resize to 800 px | make it 800x600 | crop by 40% | crop 40% | crop the left half | crop the left 25%
        | crop to half | crop to 32x32 | crop to 50x40 | crop to 0:1 | add a 0 px white border | add a 5% white border
        | rotate -90 degrees clockwise | rotate 90% | rotate by 0 degrees | rotate 360° | blur by 0 px
        | trim 0 px off the left | zoom to 50% | crop 10% of the left | crop 10% off the sides""",
}


@pytest.mark.parametrize("table", [LEVELS, SIZES])
def test_numbers_mean_what_people_mean_and_what_can_mean_two_things_is_refused(table):
    grey = Image.new("RGB", (400, 200), (100, 100, 100))
    for expected, instructions in table.items():
        for instruction in (" ".join(part.split()) for part in instructions.split("|")):
            result = outcome(grey, instruction)
            if isinstance(result, str):
                assert expected is None, result
                assert "\n" not in result
            else:
                assert (result.tobytes()[0] if table is LEVELS else result.size) == expected, instruction


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


def test_every_order_of_three_edits_is_understood():
    for parts in itertools.permutations(("crop it to the left half", "make it black and white", "add a red border")):
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
        ("crop to 600x300", "a 512 x 512 image can't be cropped to 600 x 300"),
        ("crop to 0x10 px", "nothing of a 512"),
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


@pytest.mark.parametrize("mode", ["L", "P", "CMYK"])
def test_the_picture_may_have_any_mode_and_is_not_changed(mode):
    photo = real_photo().convert(mode)
    before = photo.tobytes()
    instruction = "make it black and white, add a red border and the caption HELLO"
    assert edited(photo, instruction).mode == "RGB"
    assert photo.tobytes() == before


@pytest.mark.parametrize(
    ("instruction", "gold"),
    [
        ("mirror it", lambda alpha: ImageOps.mirror(alpha)),
        ("crop to the left half", lambda alpha: alpha.crop((0, 0, 20, 30))),
        ("resize to 50%", lambda alpha: alpha.resize((20, 15), Image.Resampling.LANCZOS)),
        ("make it black and white", lambda alpha: alpha),
        ("set the brightness of the top half to 50%", lambda alpha: alpha),
        ("more contrast", lambda alpha: alpha),
        ("blur it", lambda alpha: alpha),
        # what is added is there
        ("add a 2 px red border", lambda alpha: ImageOps.expand(alpha, 2, 255)),
    ],
)
def test_transparent_parts_stay_transparent(instruction, gold):
    alpha = Image.linear_gradient("L").resize((40, 30))
    photo = real_photo(size=(40, 30))
    photo.putalpha(alpha)
    result = edited(photo, instruction)
    assert result.mode == "RGBA"
    assert same(result.getchannel("A"), gold(alpha))
    opaque = edited(real_photo(size=(40, 30)), instruction)
    if "resize" not in instruction:
        assert same(result.convert("RGB"), opaque)


@pytest.mark.parametrize("count", [200, pytest.param(10_000, marks=pytest.mark.full)])
def test_no_request_of_many_breaks_or_hangs(count):
    random, photo = Random(0), Image.new("RGBA", (40, 30), (10, 100, 200, 128))
    numbers = "0 1 2 3.5 .5 1,5 -20 −20 50 100 150 400 16:9 16x9 4/5 ٣ ½"
    glue = 'to by of off from at the and , . ; " “ ( % px x × times twice half double 🎩'
    words = [*sorted(VOCABULARY), *2 * f"{numbers} {glue}".split(), *FRACTIONS, "\x00", "\n", "\u202e"]
    asked = [
        instruction.split() for table in (LEVELS, SIZES) for line in table.values() for instruction in line.split("|")
    ]
    for number in range(count):
        # known requests with other words in them, and words alone
        text = [*random.choice(asked)] if number % 2 else random.choices(words, k=random.randrange(1, 12))
        for _ in range(random.randrange(3)):
            text[random.randrange(len(text))] = random.choice(words)
            text.insert(random.randrange(len(text)), random.choice(words))
        text = random.choice((" ", " ", "")).join(text)
        begun = time.perf_counter()
        result = outcome(photo, text)
        assert time.perf_counter() - begun < 20, text
        if isinstance(result, str):
            assert "\n" not in result, text
        else:
            assert result.mode == "RGBA", text
