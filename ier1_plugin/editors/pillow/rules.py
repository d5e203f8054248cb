"""Which words make which effect: RULES, in the canonical words of a request (`words.canonical`).

    rule, groups = rule_of("brightness to 80%")     # rule.make(*groups) is the effect
    factor_of(1, "by", "50%")                       # 1.5

"to" and "by", up and down decide what a number means. What can mean two things makes no effect but an EditError.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from PIL import ImageColor, ImageFilter, ImageOps

from ier1_plugin.editors.base import EditError
from ier1_plugin.editors.pillow import operations as do
from ier1_plugin.editors.pillow.operations import ANY, OPERATIONS, PART, WHOLE, Effect
from ier1_plugin.editors.pillow.words import FRACTIONS, SIDES, canonical


@dataclass(frozen=True)
class Rule:
    """One way to say one edit."""

    better_exact: bool
    """The edit's `better_exact`, if it is made to the whole photo."""
    scope: str
    """WHOLE, PART or ANY, as of an Operation."""
    pattern: str
    """Matches the canonical words from the first to the last, so that no part of the request is left over."""
    make: Callable[..., Effect]
    """Groups of the match -> the effect."""


Pattern = tuple[str, Callable[..., Effect]]
"""A Rule's `pattern` and `make`."""

# numbers as `canonical` writes them
NUMBER = r"(\d{1,6}(?:\.\d{1,4})?)"
SIGNED = r"([+-]?\d{1,6}(?:\.\d{1,4})?)"
PIXELS = r"(\d{1,6})(?:px)?"
MAX_BARE_FACTOR, LARGEST_RATIO, SMALLEST_CROP = 10, 32, 100
AMOUNT = rf"([+-]?\d{{1,6}}(?:\.\d{{1,4}})?%|x\d{{1,6}}(?:\.\d{{1,4}})?|{'|'.join(FRACTIONS)})"
LEVELS = "brightness|contrast|saturation|sharpness"
BY_OR_TO = rf"(?:(by|to|at) )?{AMOUNT}(?: original| current)?(?: (?:size|value|level|{LEVELS}))?"
COLOUR = rf"(#[0-9a-f]{{6}}|{'|'.join(sorted(ImageColor.colormap, key=len, reverse=True))})"
OPPOSITE = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}
HALF = rf"({'|'.join(SIDES)}) (?:half|side)"
MIDDLE = r"(?:middle|centre|center)"
DIRECTION = r"(?:to )?(right|clockwise|left|(?:counter|anti)-?clockwise)"


def factor_of(direction: int, preposition: str | None, amount: str) -> float:
    """What a level or a size is multiplied by: up (1) "by" "50%" -> 1.5, "to" "50%" -> 0.5, down (-1) "x2" -> 0.5.

    `direction`: 0 where the words name none. EditError: it can mean two things, or goes the other way.
    """
    share, factor = FRACTIONS.get(amount) or float(amount.strip("x%")) / 100, None
    if amount.startswith("x"):
        factor = float(amount[1:])
        if direction < 0 and preposition != "to" and factor > 1:
            factor = 1 / factor
    elif amount[0] in "+-":
        factor = 1 + share if direction == 0 and preposition in (None, "by") else None
    elif preposition in ("to", "at") or (direction == 0 and not preposition and amount in FRACTIONS):
        factor = share
    # "increase it 150%" is 1.5 times to some and 2.5 times to others
    elif direction and (preposition == "by" or share < 1):
        factor = 1 + direction * share
    if factor is None:
        words = " ".join(filter(None, (preposition, amount)))
        raise EditError(
            f"{words!r} can mean two things here; say to or by how much, and up or down, as in 'set the brightness to "
            "80%' or 'make it 20% smaller'"
        )
    if direction * (factor - 1) < 0 or (direction and preposition == "to" and factor == 1):
        raise EditError("its number goes against the rest of it; which of the two is meant?")
    return factor


def _same(key: str) -> Callable[..., Effect]:
    return lambda *groups: OPERATIONS[key].effect


def _half(side: str, opposite: bool = False) -> Effect:
    kept = SIDES[side]
    return OPERATIONS[f"crop{OPPOSITE[kept] if opposite else kept}"].effect


def _amounts(up: str, down: str, noun: str, like: str, make: Callable[[float], Effect]) -> list[Pattern]:
    """Every way to say how much. `up`, `down`, `noun`: words for more, for less and for the quantity itself; `like`:
    what follows "twice as"; `make`: a factor -> its effect."""

    def changed(direction: int) -> Callable[..., Effect]:
        return lambda preposition, amount: make(factor_of(direction, preposition, amount))

    def from_to(direction: int) -> Callable[..., Effect]:
        def effect(old: str, new: str) -> Effect:
            if not float(old):
                raise EditError("from 0% there is no way up; say what to change it by")
            return make(factor_of(direction, "to", f"{100 * float(new) / float(old):.10f}%"))

        return effect

    rules = []
    for direction, words in ((1, up), (-1, down), (0, noun)):
        rules += [
            (rf"(?:{words}) {BY_OR_TO}", changed(direction)),
            (rf"(?:{words}) from {NUMBER}%? to {NUMBER}%", from_to(direction)),
        ]
    return [
        *rules,
        (rf"(?:(by) )?{AMOUNT} (?:{up})", changed(1)),
        (rf"(?:(by) )?{AMOUNT} (?:{down})", changed(-1)),
        (rf"(?:(to|at) )?{AMOUNT}(?: original| current| much)? (?:{noun})", changed(0)),
        (rf"{AMOUNT} (?:{like})", lambda amount: make(factor_of(0, "to", amount))),
    ]


def _level(what: str, more: str, less: str, noun: str, like: str, up: Effect, down: Effect) -> list[Pattern]:
    """Phrases such as "brighter", "darker by 20 %", "set the brightness to 80 %" and "twice as bright"."""
    turned = r"(?:turn |bring |take )?"
    raised = rf"(?:{more})(?: up)?|(?:raise|increase|boost) {noun}|{turned}up {noun}|{turned}{noun} up"
    lowered = rf"{less}|(?:lower|reduce|decrease|cut) {noun}|{turned}down {noun}|{turned}{noun} down"
    amounts = _amounts(raised, lowered, noun, like, lambda factor: do.enhance(what, factor))
    return [(raised, lambda: up), (lowered, lambda: down), *amounts]


def _scale_by(direction: int) -> Callable[..., Effect]:
    def effect(number: str) -> Effect:
        # of a larger number, a percent sign may be missing
        if float(number) > MAX_BARE_FACTOR:
            raise EditError(f"{number} of what? say '{number}%', '{number}x' or '{number} pixels wide'")
        return do.scale(factor_of(direction, "by", f"x{number}"))

    return effect


def _blur(radius: str) -> Effect:
    if not int(radius):
        raise EditError("a blur of 0 pixels changes nothing")
    return do.blur(int(radius))


def _rotate(angle: str, direction: str | None) -> Effect:
    if direction and angle[0] in "+-":
        raise EditError(f"{angle} degrees to one side can mean two things; leave the sign out")
    if float(angle) % 360 == 0:
        raise EditError(f"a rotation by {angle} degrees changes nothing")
    return do.rotate(float(angle) if direction in (None, "right", "clockwise") else -float(angle))


def _resize_side(pixels: str, side: str) -> Effect:
    return do.resize(int(pixels), None) if side in ("wide", "width") else do.resize(None, int(pixels))


def _crop_ratio(width: str, height: str) -> Effect:
    if not float(width) or not float(height):
        raise EditError(f"{width}:{height} is no shape; wanted one such as 16:9")
    return do.crop_to_ratio(float(width) / float(height))


def _crop_size(width: str, height: str, unit: str | None) -> Effect:
    """Pixels or an aspect ratio: nobody wants 16 x 9 pixels of a photo, or the shape of 300 to 200."""
    sides = round(float(width)), round(float(height))
    if unit or max(sides) >= SMALLEST_CROP:
        return do.crop_to_size(*sides)
    if max(sides) > LARGEST_RATIO or sides[0] == sides[1] != 1:
        raise EditError(f"{width}x{height} can mean pixels or a shape; say '{width}x{height} px' or '{width}:{height}'")
    return _crop_ratio(width, height)


def _keep_share(amount: str, side: str | None = None) -> Effect:
    """The middle, as wide and as high as this share of it, or only as wide, or only as high."""
    cut = (1 - float(amount) / 100) / 2
    across, down = 0.0 if side == "height" else cut, 0.0 if side == "width" else cut
    return do.crop_place(across, down, 1 - across, 1 - down)


def _margin(amount: str, unit: str, *sides: str | None) -> Effect:
    """Cuts so much off one side, off two, or off all four."""
    if not float(amount):
        raise EditError(f"to cut off 0{unit} changes nothing")
    named = [SIDES[side] for side in sides if side]
    return do.cut_off(float(amount), unit == "px", [side for side in OPPOSITE if not named or side in named])


def _which_part(*groups: str) -> Effect:
    raise EditError("what goes and what stays? say 'crop to ...', 'keep ...' or 'cut ... off'")


_GOALS = [
    Rule(
        operation.action in ("Transform", "Crop", "Zoom", "Relighting", "Adjust") or key in ("upscale", "grey"),
        ANY if operation.scope == PART else operation.scope,
        re.escape(canonical(operation.goal)),
        _same(key),
    )
    for key, operation in OPERATIONS.items()
    if operation.goal and operation.action not in ("Recoloring", "Add")
]
SIDE = r"(\d{1,4}(?:\.\d+)?)"
_CUT = r"(?:crop and keep|crop to|cut(?: down)? to|trim(?: down)? to|keep)(?: only| just)?"
_OFF = r"(?:(?:crop|trim|cut)(?: away| off)?)"
_PART = r"(\d{1,6}(?:\.\d{1,4})?)(%|px)"
_EDGE = rf"({'|'.join(SIDES)})"
_ALL_EDGES = r"(?:(?:each|all|every) (?:sides?|edges?)|edges)"
_GEOMETRY: list[Pattern] = [
    (rf"(?:{_CUT}|only|just) {HALF}", _half),
    (rf"(?:(?:{_CUT}|crop|to) )?{HALF} only", _half),
    (
        rf"(?:crop (?:away|off|out)|cut (?:away|off)|trim(?: away| off)?|cut) {HALF}(?: off| away)?",
        lambda side: _half(side, opposite=True),
    ),
    (rf"(?:crop|cut down|cut|trim|keep)(?: only| just)? {MIDDLE}(?: only)?", _same("cropmiddle")),
    (r"(?:crop|cut away|cut off|trim) edges|trim", _same("cropmiddle")),
    (
        r"crop (?:box |region )?(?:to |from )?(\d{1,6})[, ]+(\d{1,6})[, ]+(\d{1,6})[, ]+(\d{1,6})",
        lambda *sides: do.crop_pixels(*map(int, sides)),
    ),
    (rf"crop (?:to )?{NUMBER}x{NUMBER}(px)?", _crop_size),
    (rf"crop (?:to |at )?{SIDE}x{SIDE}(?: aspect)? ratio", _crop_ratio),
    (rf"crop (?:by )?{_PART}|crop {_EDGE}(?: half| side| {_PART})", _which_part),
    (r"crop square(?: ratio)?", lambda: do.crop_to_ratio(1)),
    (rf"crop (?:aspect )?(?:ratio )?(?:to |of |at )?{SIDE} ?[:/] ?{SIDE}(?: aspect)?(?: ratio)?", _crop_ratio),
    (rf"crop (?:down )?to {NUMBER}%(?: (?:(?:original |current )?size|original|current|(width|height)))?", _keep_share),
    (
        rf"{_OFF} (?:by )?{_PART}(?: off| away)? (?:(?:off|from|at) )?{_EDGE}(?: and {_EDGE})?(?: edges?| sides?)?",
        _margin,
    ),
    (rf"{_OFF} (?:by )?{_PART}(?: off| away)? (?:(?:off|from|at|of) )?{_ALL_EDGES}", _margin),
    (rf"{_OFF} {_ALL_EDGES} by {_PART}", _margin),
    (
        rf"{_OFF} {_EDGE}(?:(?: edge| side)? by)? {_PART}(?: off| away)?",
        lambda side, amount, unit: _margin(amount, unit, side),
    ),
    (
        rf"{_CUT} {_EDGE} {NUMBER}%(?: only)?",
        lambda side, percent: _margin(f"{100 - float(percent)}", "%", OPPOSITE[SIDES[side]]),
    ),
    (r"(?:flip|mirror)(?: left (?:to )?right| horizontally)|mirror|swap left and right", _same("mirror")),
    (
        r"flip(?: and mirror)? (?:top (?:to )?bottom|vertically|upside down)|(?:turn |put )?upside down"
        r"|flip top and bottom",
        _same("upside"),
    ),
    (rf"(?:rotated?|turn) (?:by |to )?{SIGNED}°?(?: {DIRECTION})?", _rotate),
    (rf"(?:rotated?|turn) {DIRECTION} (?:by )?{SIGNED}°?", lambda direction, angle: _rotate(angle, direction)),
    (rf"(?:(?:rotate|turn)(?: quarter)?(?: turn)?|quarter turn) {DIRECTION}", lambda side: _rotate("90", side)),
    (
        r"(?:upscale|resize|scale|enlarge)(?: up)?(?: to)? double size|double (?:size|resolution)|resolution x2 large"
        r"|upscale",
        _same("upscale"),
    ),
    (rf"(?:resize|scale) {NUMBER}%(?: size)?", lambda percent: do.scale(float(percent) / 100)),
    (rf"(?:scale|resize) by {NUMBER}", _scale_by(0)),
    (rf"(?:scale up|upscale) by {NUMBER}", _scale_by(1)),
    (rf"(?:scale down|downscale) by {NUMBER}", _scale_by(-1)),
    *_amounts(
        r"enlarge|upscale|(?:scale|resize|size) up|increase (?:size|resolution)|larger|bigger",
        r"shrink|downscale|(?:scale|resize|size) down|(?:reduce|decrease)(?: size| resolution)?|smaller",
        r"(?:resize|scale)(?: size)?|size|resolution",
        "large|big",
        do.scale,
    ),
    (rf"(?:resize|scale) (?:to )?(\d{{1,6}})x{PIXELS}", lambda width, height: do.resize(int(width), int(height))),
    (rf"(?:(?:resize|scale) (?:to )?)?{PIXELS} (wide|width|high|tall|height)", _resize_side),
    (
        rf"(?:resize|scale) (width|height) (?:to |of )?{PIXELS}(?: wide| high)?",
        lambda side, pixels: _resize_side(pixels, side),
    ),
    (r"zoom|(?:zoom )?closer view|come closer|show closer", _same("zoom")),
    (rf"zoom (?:by |to )?x{NUMBER}", lambda factor: do.zoom(float(factor))),
    (rf"zoom (by|to) {NUMBER}%", lambda word, percent: do.zoom((word == "by") + float(percent) / 100)),
]
_TONES: list[Pattern] = [
    (r"(?:warmer|warm|warmer light|warm(?: light)? up|light warmer|too cold)(?: tones?)?", _same("warmer")),
    (r"(?:cooler|cooler light|cool(?: light)? down|light cooler|too warm)(?: tones?)?", _same("cooler")),
    (
        r"black[ -]and[ -]white|gr[ae]y(?:-?scale)?|monochrome|desaturated?|(?:remove(?: all)?|no) colou?rs?",
        _same("grey"),
    ),
    (rf"gamma (?:to |of )?{NUMBER}", lambda value: do.gamma(float(value))),
    (r"auto[- ]?(?:contrast|levels?)", lambda: lambda image: ImageOps.autocontrast(image, 1)),
    (r"equali[sz]ed?(?: histogram)?", lambda: ImageOps.equalize),
    (
        rf"(?:(?:shift|rotate) hue|hue shift|hue(?= (?:by )?[+-])) (?:by |of )?{SIGNED}°?",
        lambda degrees: do.hue(float(degrees)),
    ),
    *_level(
        "brightness",
        r"brighter|brighten|lighten|lighter|more (?:light|bright|brightness)|light up|too dark",
        r"darker|darken|dim|less (?:light|bright|brightness)|dimmer|(?:take )?light out|too bright",
        "(?:brightness|light|exposure)",
        "bright",
        OPERATIONS["brighter"].effect,
        OPERATIONS["darker"].effect,
    ),
    *_level(
        "contrast",
        r"(?:more|higher|stronger) contrast|flat",
        r"(?:less|lower|weaker) contrast",
        "contrast",
        "contrasty",
        OPERATIONS["contrast"].effect,
        do.enhance("contrast", 0.7),
    ),
    *_level(
        "saturation",
        r"(?:stronger|richer|more vivid|brighter) colou?rs?|colou?rs (?:stronger|richer|more vivid)"
        r"|more saturat(?:ed|ion)|(?:more )?vivid|(?:raise|increase|boost) colou?rs?|saturated?",
        r"(?:weaker|paler|muted|duller) colou?rs?|less saturat(?:ed|ion)|desaturated?|mute colou?rs?",
        "saturation",
        "saturated|vivid|colou?rful",
        OPERATIONS["saturate"].effect,
        do.enhance("saturation", 0.6),
    ),
]
_EFFECTS: list[Pattern] = [
    (r"sepia(?: tone)?", _same("sepia")),
    (r"invert(?:ed)?(?: all)?(?: colou?rs?)?|(?:like )?(?:film )?negative", _same("invert")),
    (r"(?:soft and )?(?:blur(?:red|ry)?|out focus)", _same("blur")),
    (rf"blur(?: radius)? (?:by |of )?{PIXELS}(?: radius)?", _blur),
    (r"pixelated?|(?:big |show )*(?:pixels|blocks)|like old video game", _same("pixelate")),
    (
        r"(?:sharp and )?(?:sharpen|sharper|sharp|crisp|crisper)|bring out (?:more )?details?|more details?",
        _same("sharpen"),
    ),
    *_level(
        "sharpness",
        "sharpen|sharper|crisper",
        "less sharp|softer",
        "sharpness",
        "sharp|crisp",
        OPERATIONS["sharpen"].effect,
        do.enhance("sharpness", 0.5),
    ),
    (r"denoised?|remove (?:noise|grain)|less (?:noise|grain)", lambda: do.filtered(ImageFilter.MedianFilter(3))),
    (r"posteri[sz]ed?", lambda: lambda image: ImageOps.posterize(image, 3)),
    (r"solari[sz]ed?", lambda: ImageOps.solarize),
    (r"emboss(?:ed)?", lambda: do.filtered(ImageFilter.EMBOSS)),
    (r"(?:find )?edges only|edge detection|outlines? only", lambda: do.filtered(ImageFilter.FIND_EDGES)),
    (
        # a tint of black or white would leave no picture
        rf"(?:tint(?:ed)?|paint|colou?r|turn|shade)? ?(?!black|white\b){COLOUR}(?: tint(?:ed)?| colou?r| shade)?",
        do.tint,
    ),
]


_WIDE = r"(?: (?:width )?(?:of )?(\d{1,5})(?:px)?(?: wide)?)?"


def _border(colour: str, width: str | None) -> Effect:
    return do.border(colour, int(width) if width else None)


_FRAMES: list[Pattern] = [
    (rf"(?:draw )?{COLOUR} (?:border|frame)(?: around)?{_WIDE}", _border),
    (rf"(?:draw )?(?:border|frame)(?: around)? {COLOUR}{_WIDE}", _border),
    (
        rf"(\d{{1,5}})px(?: wide)? {COLOUR} (?:border|frame)(?: around)?",
        lambda width, colour: _border(colour, width),
    ),
    (
        r"(?:(?:caption|text|words?|title|write|print|say|says|read) )*\"([^\"]{1,200})\""
        r"(?: (?:as )?(?:caption|text|title))?(?: (?:at |to )?(top|bottom))?",
        lambda text, where: do.caption(text, where == "top"),
    ),
]
RULES: list[Rule] = [
    *_GOALS,
    *(Rule(True, WHOLE, pattern, make) for pattern, make in _GEOMETRY),
    *(Rule(True, ANY, pattern, make) for pattern, make in _TONES),
    *(Rule(False, ANY, pattern, make) for pattern, make in _EFFECTS),
    *(Rule(False, WHOLE, pattern, make) for pattern, make in _FRAMES),
    Rule(False, PART, r"(?:delete|erase|remove|wipe out)(?: completely| all)?", _same("erase")),
]
VOCABULARY = {word for rule in RULES for word in re.findall(r"[a-z]{2,}", rule.pattern)}


def rule_of(words: str) -> tuple[Rule, tuple[str, ...]] | None:
    """The first rule that matches all of the canonical `words`, and the groups of its match."""
    matches = ((rule, re.fullmatch(rule.pattern, words)) for rule in RULES)
    return next(((rule, match.groups()) for rule, match in matches if match), None)
