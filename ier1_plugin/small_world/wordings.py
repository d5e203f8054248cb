"""How people of the small world say what they want: direct, indirect, polite.

    WORDINGS["brighter"].asked[0] -> "make {it} brighter"        direct
    WORDINGS["brighter"].hinted[1] -> "it is too dark in here"   indirect

`{it}` stands for what is to be edited; a wording without it speaks of the whole photo. What is marked as held out
is used for validation only. Its words occur in training, since a model that starts from nothing can't know others;
their combinations do not.
"""

from __future__ import annotations

from dataclasses import dataclass

from ier1_plugin.editors.pillow.operations import BORDERS, CAPTIONS, COLOURS


@dataclass(frozen=True)
class Wording:
    """All ways to ask for one operation."""

    asked: tuple[str, ...]
    """Imperatives, so that "please" and "could you" fit before them."""
    hinted: tuple[str, ...]
    """Statements from which the edit has to be concluded."""
    held_out_asked: tuple[str, ...]
    held_out_hinted: tuple[str, ...]


@dataclass(frozen=True)
class Phrases:
    """Variants for training, and those that only validation uses."""

    train: tuple[str, ...]
    held_out: tuple[str, ...]


WHOLE_PHOTO = ("it", "the photo", "the picture", "this image")
# only the photo tells what these mean
MAIN_SUBJECT = Phrases(
    train=("the main subject", "what the photo shows", "the thing in the picture", "whatever you see in the photo"),
    held_out=("the main thing in the photo", "what you see in the picture"),
)
# {x}: a whole request; those that ask fit only before imperatives
POLITE = Phrases(
    train=("please {x}", "{x}, please", "can you {x}?", "I want you to {x}", "could you {x} for me?", "kindly {x}"),
    held_out=("could you please {x}?", "I want you to {x}, please"),
)
GREETING = Phrases(train=("hi, {x}", "hello! {x}", "{x}, thanks"), held_out=("hello, {x}", "hi! {x}, thanks"))
# between two imperatives, and where one side is a statement
JOINERS = Phrases(train=(" and ", ", then ", " and then ", ", also "), held_out=(", and also ", ", and then "))
STATEMENT_JOINERS = Phrases(train=(", and ", ". also, ", "; "), held_out=("; also, ", ". and "))


def _half(half: str, other: str) -> Wording:
    return Wording(
        (
            f"crop {{it}} to the {half} half",
            f"keep only the {half} half of {{it}}",
            f"cut {{it}} down to the {half} half",
            f"cut away the {other} half of {{it}}",
            f"crop {{it}} and keep the {half} half",
        ),
        (f"I only need the {half} half of {{it}}", f"the {other} half of {{it}} is of no use"),
        (f"cut {{it}} to the {half} half", f"keep the {half} half of {{it}}"),
        (f"only the {half} half of {{it}} is of use",),
    )


def _quarter(side: str, other: str, clockwise: str) -> Wording:
    return Wording(
        (
            f"rotate {{it}} 90 degrees {clockwise}",
            f"turn {{it}} a quarter to the {side}",
            f"rotate {{it}} to the {side}",
            f"turn {{it}} {clockwise}",
            f"give {{it}} a quarter turn {clockwise}",
        ),
        (f"{{it}} has tipped over to the {other}", f"{{it}} lies on its {other} side"),
        (f"rotate {{it}} a quarter {clockwise}", f"turn {{it}} 90 degrees to the {side}"),
        (f"{{it}} is tipped over to the {other}",),
    )


def _colour(colour: str) -> Wording:
    return Wording(
        (
            f"paint {{it}} {colour}",
            f"make {{it}} {colour}",
            f"colour {{it}} {colour}",
            f"change the colour of {{it}} to {colour}",
        ),
        (f"{{it}} should be {colour}", f"I would like {{it}} in {colour}"),
        (f"turn {{it}} {colour}", f"change {{it}} to {colour}"),
        (f"I want {{it}} in {colour}",),
    )


def _border(colour: str) -> Wording:
    return Wording(
        (
            f"add a {colour} border to {{it}}",
            f"put a {colour} frame around {{it}}",
            f"frame {{it}} in {colour}",
            f"draw a {colour} border around {{it}}",
        ),
        (f"{{it}} needs a {colour} frame", f"a {colour} border would suit {{it}}"),
        (f"put a {colour} border around {{it}}", f"give {{it}} a {colour} frame"),
        (f"{{it}} needs a {colour} border",),
    )


def _caption(text: str) -> Wording:
    return Wording(
        (
            f'add the caption "{text}" to {{it}}',
            f'write "{text}" on {{it}}',
            f'put the word "{text}" on {{it}}',
            f'print "{text}" on {{it}}',
        ),
        (f'{{it}} should say "{text}"', f'I want to read "{text}" on {{it}}'),
        (f'put the caption "{text}" on {{it}}', f'add the word "{text}" to {{it}}'),
        (f'I want {{it}} to say "{text}"',),
    )


WORDINGS: dict[str, Wording] = {
    "brighter": Wording(
        ("make {it} brighter", "brighten {it}", "add more light to {it}", "brighten {it} a bit", "light {it} up"),
        ("{it} is too dark", "it is too dark in here", "I can hardly see anything"),
        ("brighten up {it}", "give {it} more light"),
        ("{it} is much too dark",),
    ),
    "darker": Wording(
        ("make {it} darker", "darken {it}", "take some light out of {it}", "darken {it} a bit", "dim {it}"),
        ("{it} is too bright", "it is too bright in here", "the light is much too strong"),
        ("make {it} a bit darker", "take light out of {it}"),
        ("{it} is much too bright",),
    ),
    "warmer": Wording(
        ("make {it} warmer", "warm up {it}", "give {it} warmer light", "make the light in {it} warmer"),
        ("{it} looks too cold", "it feels cold in here"),
        ("warm {it} up a bit", "make {it} a bit warmer"),
        ("{it} feels too cold",),
    ),
    "cooler": Wording(
        ("make {it} cooler", "cool down {it}", "give {it} cooler light", "make the light in {it} cooler"),
        ("{it} looks too warm", "it feels hot in here"),
        ("cool {it} down a bit", "make {it} a bit cooler"),
        ("{it} feels too warm",),
    ),
    "contrast": Wording(
        ("raise the contrast of {it}", "give {it} more contrast", "increase the contrast of {it}", "add contrast"),
        ("{it} looks flat", "everything looks washed out"),
        ("add contrast to {it}", "raise the contrast"),
        ("{it} looks washed out",),
    ),
    "saturate": Wording(
        ("make the colours of {it} stronger", "boost the colours of {it}", "give {it} stronger colours"),
        ("{it} looks pale", "the colours are too pale"),
        ("make the colours stronger", "boost the colours"),
        ("the colours of {it} are too pale",),
    ),
    "grey": Wording(
        (
            "make {it} black and white",
            "turn {it} black and white",
            "convert {it} to greyscale",
            "remove all colour from {it}",
        ),
        ("I do not want any colour in {it}", "colour does not suit {it}"),
        ("convert {it} to black and white", "turn {it} to greyscale"),
        ("I do not want colour in {it}",),
    ),
    "sepia": Wording(
        (
            "give {it} a sepia tone",
            "make {it} look sepia",
            "put a sepia filter on {it}",
            "make {it} look like an old photo",
        ),
        ("I wish {it} looked a hundred years old", "{it} should look like an old photo"),
        ("put a sepia tone on {it}", "make {it} sepia"),
        ("{it} should look a hundred years old",),
    ),
    "blur": Wording(
        ("blur {it}", "make {it} blurry", "put a blur on {it}", "put {it} out of focus"),
        ("{it} should be out of focus", "I want {it} soft and blurry"),
        ("make {it} soft and blurry", "add a blur to {it}"),
        ("I want {it} out of focus",),
    ),
    "pixelate": Wording(
        ("pixelate {it}", "turn {it} into big pixels", "show {it} in blocks", "turn {it} into blocks"),
        ("{it} should look like an old video game", "I want to see only blocks in {it}"),
        ("show {it} in big pixels", "make {it} look like an old video game"),
        ("I want to see only big pixels in {it}",),
    ),
    "sharpen": Wording(
        ("sharpen {it}", "make {it} sharper", "make {it} crisp", "bring out the detail in {it}"),
        ("{it} is not sharp", "the detail in {it} is hard to see"),
        ("make {it} sharp and crisp", "bring out more detail in {it}"),
        ("{it} is not crisp",),
    ),
    "upscale": Wording(
        ("upscale {it} x2", "double the resolution of {it}", "make {it} twice as large", "double the size of {it}"),
        ("{it} is too small to print", "the resolution of {it} is too low"),
        ("upscale {it} to double the size", "make the resolution of {it} twice as large"),
        ("the resolution is too low to print {it}",),
    ),
    "invert": Wording(
        ("invert {it}", "invert the colours of {it}", "make a negative of {it}", "turn {it} into a negative"),
        ("{it} should look like a film negative", "I want to see {it} as a negative"),
        ("invert all colours of {it}", "make {it} look like a film negative"),
        ("I want {it} as a negative",),
    ),
    "erase": Wording(
        ("erase {it}", "delete {it}", "remove {it}", "remove {it} completely", "wipe {it} out"),
        ("{it} has to go", "I do not want to see {it}"),
        ("delete {it} completely", "erase all of {it}"),
        ("{it} should go",),
    ),
    "mirror": Wording(
        ("flip {it} horizontally", "mirror {it}", "flip {it} left to right", "swap left and right in {it}"),
        ("left and right are the wrong way round", "{it} should face the other way"),
        ("mirror {it} left to right", "swap left and right"),
        ("left and right are the wrong way round in {it}",),
    ),
    "upside": Wording(
        ("flip {it} vertically", "turn {it} upside down", "flip {it} top to bottom", "put {it} on its head"),
        ("{it} is upside down", "I held the camera upside down"),
        ("flip {it} upside down", "flip top and bottom of {it}"),
        ("{it} is on its head",),
    ),
    "rotate": _quarter("right", "left", "clockwise"),
    "rotateback": _quarter("left", "right", "counterclockwise"),
    "cropleft": _half("left", "right"),
    "cropright": _half("right", "left"),
    "croptop": _half("top", "bottom"),
    "cropbottom": _half("bottom", "top"),
    "cropmiddle": Wording(
        ("crop {it} to the middle", "keep only the middle of {it}", "cut away the edges of {it}", "trim {it}"),
        ("the edges of {it} are of no use", "I only need the middle of {it}"),
        ("cut {it} down to the middle", "trim the edges of {it}"),
        ("only the middle of {it} is of use",),
    ),
    "zoom": Wording(
        ("zoom in on {it}", "zoom in x2", "come closer", "show {it} from closer", "zoom {it} in"),
        ("everything is too far away", "I stood too far away"),
        ("zoom {it} in x2", "come closer in {it}"),
        ("everything in {it} is too far away",),
    ),
    **{colour: _colour(colour) for colour in COLOURS},
    **{f"border{colour}": _border(colour) for colour in BORDERS},
    **{f"caption{text}": _caption(text) for text in CAPTIONS},
}

# what some people call a goal, and the editor of the small world does not understand
OTHER_GOALS = {
    "brighter": "radiant",
    "darker": "gloomy",
    "warmer": "cosy",
    "cooler": "frosty",
    "higher contrast": "punchy",
    "stronger colours": "lively",
    "sepia tone": "nostalgic",
    "blurred": "hazy",
    "pixelated": "blocky",
    "sharper": "clear-cut",
}
