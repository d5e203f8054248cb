"""The edits that the Pillow editor understands: a pattern of canonical words, and what it stands for.

    rule_of("rotate 15 degrees clockwise")    # a Rule for geometry, and the match with its numbers
    rule_of("paint sofa navy")                # None

Canonical words are those that `exact_words.canonical` leaves of a request: no articles, no politeness, no "the photo".
The goals of the small world are in the table by themselves.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from PIL import ImageColor, ImageFilter, ImageOps

from ier1_plugin.editors.pillow import operations as do
from ier1_plugin.editors.pillow.operations import Apply
from ier1_plugin.small_world.operations import ANY, OPERATIONS, PART, WHOLE

GEOMETRY, TONE, EFFECT = "geometry", "tone", "effect"
Match = re.Match[str]


@dataclass(frozen=True)
class Rule:
    """One way to say one edit."""

    kind: str
    """GEOMETRY, TONE or EFFECT."""
    scope: str
    """WHOLE, PART or ANY, as in the small world."""
    pattern: str
    """Matches the canonical words from the first to the last, so that nothing that was asked is left over."""
    make: Callable[[Match], Apply]


NUMBER = r"(\d{1,6}(?:\.\d{1,4})?)"
SIGNED = r"([+-]?\d{1,6}(?:\.\d{1,4})?)"
PERCENT = rf"{NUMBER} ?(?:%|percent)"
PIXELS = r"(\d{1,6})(?: ?px| pixels?)?"
COLOURS = sorted({*ImageColor.colormap, *do.OPERATIONS} & {*ImageColor.colormap}, key=len, reverse=True)
COLOUR = rf"(#[0-9a-f]{{6}}|{'|'.join(COLOURS)})"
SIDES = {"left": "left", "right": "right", "top": "top", "upper": "top", "bottom": "bottom", "lower": "bottom"}
OPPOSITE = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}
HALF = rf"({'|'.join(SIDES)}) (?:half|side)"
MIDDLE = r"(?:middle|centre|center)"
_CUT = r"(?:crop and keep|crop|cut down|cut|trim|keep)(?: only| just)?"


def rule_of(words: str) -> tuple[Rule, Match] | None:
    """The first rule that matches all of the canonical `words`."""
    matches = ((rule, _compiled(rule.pattern).fullmatch(words)) for rule in RULES)
    return next(((rule, match) for rule, match in matches if match), None)


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


def _same(key: str) -> Callable[[Match], Apply]:
    return lambda match: OPERATIONS[key].apply


def _float(match: Match, group: int = 1) -> float:
    return float(match[group])


def _half(side: str) -> Apply:
    return OPERATIONS[f"crop{SIDES[side.casefold()]}"].apply


def _margin(percent: float, side: str) -> Apply:
    fraction, named = percent / 100, SIDES.get(side.casefold())
    margins = {name: fraction if named in (None, name) else 0.0 for name in OPPOSITE}
    return do.crop_margins(**margins)


def _level(what: str, more: str, less: str, noun: str, up: str, down: str) -> list[Rule]:
    """Rules for "brighter", "darker by 20 %" and "brightness 20 %"; `up`, `down`: an operation or a factor."""
    raised, lowered = rf"(?:{more}|(?:raise|increase|boost) {noun})", rf"(?:{less}|(?:lower|reduce|decrease) {noun})"
    return [
        Rule(TONE, ANY, rf"{raised}(?: up)?", _strength(what, up)),
        Rule(TONE, ANY, lowered, _strength(what, down)),
        Rule(TONE, ANY, rf"(?:{raised} {PERCENT}|{noun} \+?{PERCENT}|{PERCENT} {raised})", _percent(what, 1)),
        Rule(TONE, ANY, rf"(?:{lowered} {PERCENT}|{noun} -{PERCENT}|{PERCENT} {lowered})", _percent(what, -1)),
    ]


def _strength(what: str, how: str) -> Callable[[Match], Apply]:
    return _same(how) if how in OPERATIONS else lambda match: do.enhance(what, float(how))


def _percent(what: str, sign: int) -> Callable[[Match], Apply]:
    return lambda match: do.enhance(what, 1 + sign * float(next(group for group in match.groups() if group)) / 100)


_GOALS = [
    Rule(
        {"Transform": GEOMETRY, "Crop": GEOMETRY, "Zoom": GEOMETRY, "Relighting": TONE, "Adjust": TONE}.get(
            operation.action, GEOMETRY if key == "upscale" else TONE if key == "grey" else EFFECT
        ),
        ANY if operation.scope == PART else operation.scope,
        re.escape(operation.goal),
        _same(key),
    )
    for key, operation in OPERATIONS.items()
    if operation.goal and operation.action not in ("Recoloring", "Add")
]
_GEOMETRY: list[tuple[str, Callable[[Match], Apply]]] = [
    (rf"{_CUT} {HALF}(?: only)?", lambda match: _half(match[1])),
    (rf"(?:only |just ){HALF}", lambda match: _half(match[1])),
    (rf"{HALF} only", lambda match: _half(match[1])),
    (rf"(?:crop|cut) (?:away|off|out) {HALF}", lambda match: _half(OPPOSITE[SIDES[match[1].casefold()]])),
    (rf"{_CUT} {MIDDLE}(?: only)?|(?:crop|cut away|cut off|trim) edges|trim", _same("cropmiddle")),
    (
        r"crop (?:box |region )?\(?(\d{1,6})[, ]+(\d{1,6})[, ]+(\d{1,6})[, ]+(\d{1,6})\)?",
        lambda match: do.crop_pixels(*map(int, match.groups())),
    ),
    (rf"crop (\d{{1,6}}) ?[x×] ?{PIXELS}", lambda match: do.crop_middle(int(match[1]), int(match[2]))),
    (r"crop square(?: ratio)?", lambda match: do.crop_to_ratio(1)),
    (
        r"crop (\d{1,3}(?:\.\d+)?) ?: ?(\d{1,3}(?:\.\d+)?)(?: aspect)?(?: ratio)?",
        lambda match: do.crop_to_ratio(max(_float(match), 0.001) / max(_float(match, 2), 0.001)),
    ),
    (
        rf"(?:crop|trim|cut)(?: away| off)? {PERCENT}(?: off)? (left|right|top|bottom)(?: edge| side)?",
        lambda match: _margin(_float(match), match[2]),
    ),
    (
        rf"(?:crop|trim|cut)(?: away| off)? {PERCENT}(?: off)?(?: each| all| every)? ?(?:sides?|edges?)?",
        lambda match: _margin(_float(match), "all"),
    ),
    (r"(?:flip|mirror)(?: left right| horizontally)|mirror|swap left and right", _same("mirror")),
    (r"flip(?: and mirror)? (?:top bottom|vertically|upside down)|(?:turn |put )?upside down", _same("upside")),
    (r"flip top and bottom", _same("upside")),
    (
        r"(?:rotate|turn)(?: 90(?: ?°| degrees)?)?(?: quarter)?(?: turn)? (?:right|clockwise)|quarter turn clockwise",
        _same("rotate"),
    ),
    (
        r"(?:rotate|turn)(?: 90(?: ?°| degrees)?)?(?: quarter)?(?: turn)? (?:left|counter-?clockwise|anti-?clockwise)"
        r"|quarter turn (?:counter-?clockwise|anti-?clockwise)",
        _same("rotateback"),
    ),
    (
        rf"(?:rotated?|turn) {SIGNED}(?: ?°| degrees?)?(?: clockwise| right)?",
        lambda match: do.rotate(_float(match)),
    ),
    (
        rf"(?:rotated?|turn) {NUMBER}(?: ?°| degrees?)? (?:counter-?clockwise|anti-?clockwise|left)",
        lambda match: do.rotate(-_float(match)),
    ),
    (
        r"(?:upscale|resize|scale|enlarge)(?: up)?(?: x2| 2x| double size)|double (?:size|resolution)"
        r"|(?:resolution )?twice (?:as )?large|upscale",
        _same("upscale"),
    ),
    (
        rf"(?:upscale|enlarge|scale|resize)(?: up)? (?:x ?{NUMBER}|{NUMBER} ?x|{NUMBER} times)",
        lambda match: do.scale(float(next(filter(None, match.groups())))),
    ),
    (rf"(?:resize|scale)(?: down)? {PERCENT}(?: size)?", lambda match: do.scale(_float(match) / 100)),
    (r"(?:half|halve) (?:size|resolution)|(?:resize|scale)(?: down)? half(?: size)?", lambda match: do.scale(0.5)),
    (rf"(?:resize|scale) (\d{{1,6}}) ?[x×] ?{PIXELS}", lambda match: do.resize(int(match[1]), int(match[2]))),
    (rf"(?:resize|scale)(?: width)? {PIXELS}(?: wide| width)", lambda match: do.resize(int(match[1]), None)),
    (rf"(?:resize|scale)(?: height)? {PIXELS}(?: high| tall| height)", lambda match: do.resize(None, int(match[1]))),
    (r"zoom(?: in)?(?: x2| 2x)?|(?:zoom )?closer view|come closer|show closer", _same("zoom")),
    (rf"zoom(?: in)? (?:x ?{NUMBER}|{NUMBER} ?x)", lambda match: do.zoom(float(next(filter(None, match.groups()))))),
]
_TONES: list[tuple[str, Callable[[Match], Apply]]] = [
    (r"(?:warmer|warm|warmer light|warm(?: light)? up|light warmer|too cold)(?: tones?)?", _same("warmer")),
    (r"(?:cooler|cooler light|cool(?: light)? down|light cooler|too warm)(?: tones?)?", _same("cooler")),
    (
        r"black[ -]and[ -]white|gr[ae]y(?:-?scale)?|monochrome|desaturated?|(?:remove(?: all)?|no) colou?rs?",
        _same("grey"),
    ),
    (rf"gamma {NUMBER}", lambda match: do.gamma(_float(match))),
    (r"auto[- ]?(?:contrast|levels?)", lambda match: do.toned(ImageOps.autocontrast, 1)),
    (r"equali[sz]ed?(?: histogram)?", lambda match: do.toned(ImageOps.equalize)),
    (
        rf"(?:shift |rotate )?hue(?: shift)? {SIGNED}(?: ?°| degrees?)?",
        lambda match: do.hue(_float(match)),
    ),
]
_LEVELS = [
    *_level(
        "brightness",
        r"brighter|brighten|lighten|lighter|more light|light up|too dark",
        r"darker|darken|dim|less light|less bright|dimmer|(?:take )?light out|too bright",
        "(?:brightness|light|exposure)",
        "brighter",
        "darker",
    ),
    *_level(
        "contrast",
        r"(?:more|higher|stronger) contrast|flat",
        r"(?:less|lower|weaker) contrast",
        "contrast",
        "contrast",
        "0.7",
    ),
    *_level(
        "saturation",
        r"(?:stronger|richer|more vivid|brighter) colou?rs?|colou?rs (?:stronger|richer|more vivid)"
        r"|more saturat(?:ed|ion)|(?:more )?vivid|(?:raise|increase|boost) colou?rs?|saturated?",
        r"(?:weaker|paler|muted|duller) colou?rs?|less saturat(?:ed|ion)|mute colou?rs?",
        "saturation",
        "saturate",
        "0.6",
    ),
]
_EFFECTS: list[tuple[str, Callable[[Match], Apply]]] = [
    (r"sepia(?: tone)?", _same("sepia")),
    (r"invert(?:ed)?(?: all)?(?: colou?rs?)?|(?:like )?(?:film )?negative", _same("invert")),
    (r"(?:soft and )?(?:blur(?:red|ry)?|out focus)", _same("blur")),
    (rf"blur(?: radius)? {PIXELS}(?: radius)?", lambda match: do.blur(int(match[1]))),
    (r"pixelated?|(?:big |show )*(?:pixels|blocks)|like old video game", _same("pixelate")),
    (
        r"(?:sharp and )?(?:sharpen|sharper|sharp|crisp|crisper)|bring out (?:more )?details?|more details?",
        _same("sharpen"),
    ),
    (rf"sharpen {PERCENT}", lambda match: do.enhance("sharpness", 1 + _float(match) / 100)),
    (r"denoised?|remove (?:noise|grain)|less (?:noise|grain)", lambda match: do.filtered(ImageFilter.MedianFilter(3))),
    (r"posteri[sz]ed?", lambda match: do.toned(ImageOps.posterize, 3)),
    (r"solari[sz]ed?", lambda match: do.toned(ImageOps.solarize, 128)),
    (r"emboss(?:ed)?", lambda match: do.filtered(ImageFilter.EMBOSS())),
    (r"(?:find )?edges only|edge detection|outlines? only", lambda match: do.filtered(ImageFilter.FIND_EDGES())),
    (
        # a tint of black or white would leave no picture
        rf"(?:tint(?:ed)?|paint|colou?r|turn|shade)? ?(?!black|white\b){COLOUR}(?: tint(?:ed)?| colou?r| shade)?",
        lambda match: do.tint(match[1].casefold()),
    ),
]
_FRAMES: list[tuple[str, Callable[[Match], Apply]]] = [
    (
        rf"(?:draw )?{COLOUR} (?:border|frame)(?: around)?(?: (\d{{1,5}})(?: ?px| pixels?)?(?: wide)?)?",
        lambda match: do.border(match[1].casefold(), int(match[2]) if match[2] else None),
    ),
    (
        rf"(?:draw )?(?:border|frame)(?: around)? {COLOUR}(?: (\d{{1,5}})(?: ?px| pixels?)?(?: wide)?)?",
        lambda match: do.border(match[1].casefold(), int(match[2]) if match[2] else None),
    ),
    (
        rf"(\d{{1,5}})(?: ?px| pixels?)(?: wide)? {COLOUR} (?:border|frame)(?: around)?",
        lambda match: do.border(match[2].casefold(), int(match[1])),
    ),
    (
        r"(?:(?:caption|text|words?|title|write|print|say|says|read) )*\"([^\"]{1,200})\""
        r"(?: (?:as )?(?:caption|text|title))?(?: (top|bottom))?",
        lambda match: do.caption(match[1], (match[2] or "").casefold() == "top"),
    ),
]
_ERASE = r"(?:delete|erase|remove|wipe out)(?: completely| all)?"


def _rules(kind: str, scope: str, table: list[tuple[str, Any]]) -> list[Rule]:
    return [Rule(kind, scope, pattern, make) for pattern, make in table]


RULES: list[Rule] = [
    *_GOALS,
    *_rules(GEOMETRY, WHOLE, _GEOMETRY),
    *_rules(TONE, ANY, _TONES),
    *_LEVELS,
    *_rules(EFFECT, ANY, _EFFECTS),
    *_rules(EFFECT, WHOLE, _FRAMES),
    Rule(EFFECT, PART, _ERASE, _same("erase")),
]
VOCABULARY = {word for rule in RULES for word in re.findall(r"[a-z]{2,}", rule.pattern.casefold())}
