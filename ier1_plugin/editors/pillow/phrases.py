"""From an instruction to exact edits: every word has to be accounted for, or the instruction is refused.

    parse_instruction("tint the top half blue", PLACES)    # [ExactEdit("tint the top half blue", ...)]
    parse_instruction("make the sofa navy", PLACES)        # EditError: ... it does not know 'sofa' ...

A request is cut down to its canonical words (no articles, no politeness, no "the photo"), and RULES say which edit they
are. Refusing what is only half understood is the point: "crop out the man on the left" must not become a crop.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageColor, ImageFilter, ImageOps

from ier1_plugin.editors.base import EditError, split
from ier1_plugin.editors.pillow import operations as do
from ier1_plugin.editors.pillow.operations import ANY, OPERATIONS, PART, REGIONS, WHOLE, Effect, Fractions
from ier1_plugin.runs.errors import one_line

CAN = "it does crop, flip, rotate, resize, zoom, tone, tint, blur, border and caption, to a photo or a half of it"
MAX_INSTRUCTION, MAX_FRAGMENTS = 2000, 24
PLACES: dict[str, Fractions] = {name: box for called, box in REGIONS.values() for name in called}
"""The name of a part of the photo, and where it is."""


@dataclass(frozen=True)
class ExactEdit:
    """One edit that Pillow can make."""

    words: str
    """The words of the request."""
    effect: Effect
    place: Fractions | None
    """Which part is meant; None: the whole photo."""
    better_exact: bool
    """True for geometry and for the tone of the whole photo, which painting models get wrong (PSR, Table A8)."""

    def __call__(self, image: Image.Image) -> Image.Image:
        return do.apply_in(self.effect, image, do.pixel_box(self.place, image))


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


NUMBER = r"(\d{1,6}(?:\.\d{1,4})?)"
SIGNED = r"([+-]?\d{1,6}(?:\.\d{1,4})?)"
PERCENT = rf"{NUMBER} ?(?:%|percent)"
PIXELS = r"(\d{1,6})(?: ?px| pixels?)?"
COLOUR = rf"(#[0-9a-f]{{6}}|{'|'.join(sorted(ImageColor.colormap, key=len, reverse=True))})"
SIDES = {"left": "left", "right": "right", "top": "top", "upper": "top", "bottom": "bottom", "lower": "bottom"}
OPPOSITE = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}
HALF = rf"({'|'.join(SIDES)}) (?:half|side)"
MIDDLE = r"(?:middle|centre|center)"
_CUT = r"(?:crop and keep|crop|cut down|cut|trim|keep)(?: only| just)?"
_WIDE = r"(?: (\d{1,5})(?: ?px| pixels?)?(?: wide)?)?"


def _same(key: str) -> Callable[..., Effect]:
    return lambda *groups: OPERATIONS[key].effect


def _half(side: str, opposite: bool = False) -> Effect:
    kept = SIDES[side.casefold()]
    return OPERATIONS[f"crop{OPPOSITE[kept] if opposite else kept}"].effect


def _margin(percent: str, side: str | None = None) -> Effect:
    """Cuts one side off, or all four."""
    cut = {name: float(percent) / 100 if side is None or name == side.casefold() else 0.0 for name in OPPOSITE}
    return do.crop_place(cut["left"], cut["top"], 1 - cut["right"], 1 - cut["bottom"])


def _number(groups: tuple[str | None, ...]) -> float:
    return float(next(filter(None, groups)))


def _level(what: str, more: str, less: str, noun: str, up: Effect, down: Effect) -> list[tuple[str, Any]]:
    """Phrases such as "brighter", "darker by 20 %" and "brightness 20 %"."""
    raised, lowered = rf"(?:{more}|(?:raise|increase|boost) {noun})", rf"(?:{less}|(?:lower|reduce|decrease) {noun})"
    return [
        (rf"{raised}(?: up)?", lambda: up),
        (lowered, lambda: down),
        (
            rf"(?:{raised} {PERCENT}|{noun} \+?{PERCENT}|{PERCENT} {raised})",
            lambda *groups: do.enhance(what, 1 + _number(groups) / 100),
        ),
        (
            rf"(?:{lowered} {PERCENT}|{noun} -{PERCENT}|{PERCENT} {lowered})",
            lambda *groups: do.enhance(what, 1 - _number(groups) / 100),
        ),
    ]


_GOALS = [
    Rule(
        operation.action in ("Transform", "Crop", "Zoom", "Relighting", "Adjust") or key in ("upscale", "grey"),
        ANY if operation.scope == PART else operation.scope,
        re.escape(operation.goal),
        _same(key),
    )
    for key, operation in OPERATIONS.items()
    if operation.goal and operation.action not in ("Recoloring", "Add")
]
_GEOMETRY: list[tuple[str, Callable[..., Effect]]] = [
    (rf"{_CUT} {HALF}(?: only)?", _half),
    (rf"(?:only |just ){HALF}", _half),
    (rf"{HALF} only", _half),
    (rf"(?:crop|cut) (?:away|off|out) {HALF}", lambda side: _half(side, opposite=True)),
    (rf"{_CUT} {MIDDLE}(?: only)?|(?:crop|cut away|cut off|trim) edges|trim", _same("cropmiddle")),
    (
        r"crop (?:box |region )?\(?(\d{1,6})[, ]+(\d{1,6})[, ]+(\d{1,6})[, ]+(\d{1,6})\)?",
        lambda *sides: do.crop_pixels(*map(int, sides)),
    ),
    (rf"crop (\d{{1,6}}) ?[x×] ?{PIXELS}", lambda width, height: do.crop_middle(int(width), int(height))),
    (r"crop square(?: ratio)?", lambda: do.crop_to_ratio(1)),
    (
        r"crop (\d{1,3}(?:\.\d+)?) ?: ?(\d{1,3}(?:\.\d+)?)(?: aspect)?(?: ratio)?",
        lambda width, height: do.crop_to_ratio(max(float(width), 0.001) / max(float(height), 0.001)),
    ),
    (rf"(?:crop|trim|cut)(?: away| off)? {PERCENT}(?: off)? (left|right|top|bottom)(?: edge| side)?", _margin),
    (rf"(?:crop|trim|cut)(?: away| off)? {PERCENT}(?: off)?(?: each| all| every)? ?(?:sides?|edges?)?", _margin),
    (r"(?:flip|mirror)(?: left right| horizontally)|mirror|swap left and right", _same("mirror")),
    (
        r"flip(?: and mirror)? (?:top bottom|vertically|upside down)|(?:turn |put )?upside down|flip top and bottom",
        _same("upside"),
    ),
    (
        r"(?:rotate|turn)(?: 90(?: ?°| degrees)?)?(?: quarter)?(?: turn)? (?:right|clockwise)|quarter turn clockwise",
        _same("rotate"),
    ),
    (
        r"(?:rotate|turn)(?: 90(?: ?°| degrees)?)?(?: quarter)?(?: turn)? (?:left|counter-?clockwise|anti-?clockwise)"
        r"|quarter turn (?:counter-?clockwise|anti-?clockwise)",
        _same("rotateback"),
    ),
    (rf"(?:rotated?|turn) {SIGNED}(?: ?°| degrees?)?(?: clockwise| right)?", lambda angle: do.rotate(float(angle))),
    (
        rf"(?:rotated?|turn) {NUMBER}(?: ?°| degrees?)? (?:counter-?clockwise|anti-?clockwise|left)",
        lambda angle: do.rotate(-float(angle)),
    ),
    (
        r"(?:upscale|resize|scale|enlarge)(?: up)?(?: x2| 2x| double size)|double (?:size|resolution)"
        r"|(?:resolution )?twice (?:as )?large|upscale",
        _same("upscale"),
    ),
    (
        rf"(?:upscale|enlarge|scale|resize)(?: up)? (?:x ?{NUMBER}|{NUMBER} ?x|{NUMBER} times)",
        lambda *groups: do.scale(_number(groups)),
    ),
    (rf"(?:resize|scale)(?: down)? {PERCENT}(?: size)?", lambda percent: do.scale(float(percent) / 100)),
    (r"(?:half|halve) (?:size|resolution)|(?:resize|scale)(?: down)? half(?: size)?", lambda: do.scale(0.5)),
    (rf"(?:resize|scale) (\d{{1,6}}) ?[x×] ?{PIXELS}", lambda width, height: do.resize(int(width), int(height))),
    (rf"(?:resize|scale)(?: width)? {PIXELS}(?: wide| width)", lambda width: do.resize(int(width), None)),
    (rf"(?:resize|scale)(?: height)? {PIXELS}(?: high| tall| height)", lambda height: do.resize(None, int(height))),
    (r"zoom(?: in)?(?: x2| 2x)?|(?:zoom )?closer view|come closer|show closer", _same("zoom")),
    (rf"zoom(?: in)? (?:x ?{NUMBER}|{NUMBER} ?x)", lambda *groups: do.zoom(_number(groups))),
]
_TONES: list[tuple[str, Callable[..., Effect]]] = [
    (r"(?:warmer|warm|warmer light|warm(?: light)? up|light warmer|too cold)(?: tones?)?", _same("warmer")),
    (r"(?:cooler|cooler light|cool(?: light)? down|light cooler|too warm)(?: tones?)?", _same("cooler")),
    (
        r"black[ -]and[ -]white|gr[ae]y(?:-?scale)?|monochrome|desaturated?|(?:remove(?: all)?|no) colou?rs?",
        _same("grey"),
    ),
    (rf"gamma {NUMBER}", lambda value: do.gamma(float(value))),
    (r"auto[- ]?(?:contrast|levels?)", lambda: lambda image: ImageOps.autocontrast(image, 1)),
    (r"equali[sz]ed?(?: histogram)?", lambda: ImageOps.equalize),
    (rf"(?:shift |rotate )?hue(?: shift)? {SIGNED}(?: ?°| degrees?)?", lambda degrees: do.hue(float(degrees))),
    *_level(
        "brightness",
        r"brighter|brighten|lighten|lighter|more light|light up|too dark",
        r"darker|darken|dim|less light|less bright|dimmer|(?:take )?light out|too bright",
        "(?:brightness|light|exposure)",
        OPERATIONS["brighter"].effect,
        OPERATIONS["darker"].effect,
    ),
    *_level(
        "contrast",
        r"(?:more|higher|stronger) contrast|flat",
        r"(?:less|lower|weaker) contrast",
        "contrast",
        OPERATIONS["contrast"].effect,
        do.enhance("contrast", 0.7),
    ),
    *_level(
        "saturation",
        r"(?:stronger|richer|more vivid|brighter) colou?rs?|colou?rs (?:stronger|richer|more vivid)"
        r"|more saturat(?:ed|ion)|(?:more )?vivid|(?:raise|increase|boost) colou?rs?|saturated?",
        r"(?:weaker|paler|muted|duller) colou?rs?|less saturat(?:ed|ion)|mute colou?rs?",
        "saturation",
        OPERATIONS["saturate"].effect,
        do.enhance("saturation", 0.6),
    ),
]
_EFFECTS: list[tuple[str, Callable[..., Effect]]] = [
    (r"sepia(?: tone)?", _same("sepia")),
    (r"invert(?:ed)?(?: all)?(?: colou?rs?)?|(?:like )?(?:film )?negative", _same("invert")),
    (r"(?:soft and )?(?:blur(?:red|ry)?|out focus)", _same("blur")),
    (rf"blur(?: radius)? {PIXELS}(?: radius)?", lambda radius: do.blur(int(radius))),
    (r"pixelated?|(?:big |show )*(?:pixels|blocks)|like old video game", _same("pixelate")),
    (
        r"(?:sharp and )?(?:sharpen|sharper|sharp|crisp|crisper)|bring out (?:more )?details?|more details?",
        _same("sharpen"),
    ),
    (rf"sharpen {PERCENT}", lambda percent: do.enhance("sharpness", 1 + float(percent) / 100)),
    (r"denoised?|remove (?:noise|grain)|less (?:noise|grain)", lambda: do.filtered(ImageFilter.MedianFilter(3))),
    (r"posteri[sz]ed?", lambda: lambda image: ImageOps.posterize(image, 3)),
    (r"solari[sz]ed?", lambda: ImageOps.solarize),
    (r"emboss(?:ed)?", lambda: do.filtered(ImageFilter.EMBOSS)),
    (r"(?:find )?edges only|edge detection|outlines? only", lambda: do.filtered(ImageFilter.FIND_EDGES)),
    (
        # a tint of black or white would leave no picture
        rf"(?:tint(?:ed)?|paint|colou?r|turn|shade)? ?(?!black|white\b){COLOUR}(?: tint(?:ed)?| colou?r| shade)?",
        lambda colour: do.tint(colour.casefold()),
    ),
]


def _border(colour: str, width: str | None) -> Effect:
    return do.border(colour.casefold(), int(width) if width else None)


_FRAMES: list[tuple[str, Callable[..., Effect]]] = [
    (rf"(?:draw )?{COLOUR} (?:border|frame)(?: around)?{_WIDE}", _border),
    (rf"(?:draw )?(?:border|frame)(?: around)? {COLOUR}{_WIDE}", _border),
    (
        rf"(\d{{1,5}})(?: ?px| pixels?)(?: wide)? {COLOUR} (?:border|frame)(?: around)?",
        lambda width, colour: _border(colour, width),
    ),
    (
        r"(?:(?:caption|text|words?|title|write|print|say|says|read) )*\"([^\"]{1,200})\""
        r"(?: (?:as )?(?:caption|text|title))?(?: (top|bottom))?",
        lambda text, where: do.caption(text, (where or "").casefold() == "top"),
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
VOCABULARY = {word for rule in RULES for word in re.findall(r"[a-z]{2,}", rule.pattern.casefold())}

_QUOTED = re.compile(r'("[^"]*")')
# the gold of the small world writes captions in capitals and without quotes
_BARE_CAPTION = re.compile(r"\b([Cc]aption) ([A-Z0-9]{2,}(?: [A-Z0-9]+)*)\b")
_POLITE = re.compile(
    r"\b(?:i would like|i'd like|i want|i need|(?:can|could|would) you|hi|hello|thanks|for me)\b", re.I
)
# what would mean something else once its small words are gone
_IDIOMS = {
    r"\bon its head\b": "upside down",
    r"\badd contrast\b": "more contrast",
    r"\blike an old (?:photo|picture)\b": "sepia",
}
# between numbers these belong to them, as in 16:9 and 1.5
_PUNCTUATION = re.compile(r"[,;!?()–—]|[.:](?!\d)|(?<!\d)[.:]")
# words that do not change which edit it is; the names of actions open a sub-request, as in "Adjust photo: ..."
_EMPTY_WORDS = """
a add adjust also an apply are as at be bit by change convert do entire everything filter for from get give
have image in into is it its just kindly little look looks make me my of on operation our photo photograph
pic picture please put quite really recoloring relighting set should slightly so some specialized style
superresolution that the then this to transform us very want we whole with you
"""
_FILLERS = frozenset(_EMPTY_WORDS.split())
_JOINERS = re.compile(r'("[^"]*")|(,? and (?:then |also )?|, then | then |, also |, )', re.IGNORECASE)


def parse_instruction(instruction: str, places: Mapping[str, Fractions]) -> list[ExactEdit]:
    """The edits of an instruction in their order; EditError names what can't be understood or done."""
    if len(instruction) > MAX_INSTRUCTION:
        raise EditError(
            f"pillow: the instruction has {len(instruction):,} characters; wanted {MAX_INSTRUCTION:,} or less"
        )
    known = {canonical(name): box for name, box in places.items()}
    parts = split(_with_quotes(instruction))
    if not parts:
        raise EditError("pillow: the instruction is empty; say what to change")
    return [edit for part in parts for edit in _edits(part, known)]


def canonical(text: str) -> str:
    """The words that identify the edit; quoted text is left alone."""
    kept: list[str] = []
    for piece in _QUOTED.split(_with_quotes(text)):
        if piece.startswith('"'):
            kept.append(piece)
            continue
        for idiom, plain in _IDIOMS.items():
            piece = re.sub(idiom, plain, piece, flags=re.IGNORECASE)
        words = _PUNCTUATION.sub(" ", _POLITE.sub(" ", piece)).split()
        kept += [word for word in words if word.casefold() not in _FILLERS]
    return " ".join(kept)


def _with_quotes(text: str) -> str:
    """Straight quotes, also around a bare caption."""
    return _BARE_CAPTION.sub(r'\1 "\2"', re.sub("[“”„«»]", '"', text))


def _edits(part: str, places: Mapping[str, Fractions]) -> list[ExactEdit]:
    """The edits of one sentence: as few as its words allow, so that "black and white" stays one."""
    # cut before every joiner; joined again, the fragments are `part`
    cuts = [match.start() for match in _JOINERS.finditer(part) if match[2]]
    edges = [0, *cuts[: MAX_FRAGMENTS - 1], len(part)]
    # shortest[n]: the edits that the first n fragments ask for; None: they make no edits
    shortest: list[list[ExactEdit] | None] = [[], *([None] * (len(edges) - 1))]
    for end in range(1, len(edges)):
        for start in range(end):
            before = shortest[start]
            edit = None if before is None else _single(part[edges[start] : edges[end]], places)
            if before is not None and edit is not None:
                shortest[end] = [*before, edit]
                break
    edits = shortest[-1]
    if edits is None:
        rest = canonical(_JOINERS.sub(" ", part))
        for name in places:
            rest = _without(rest, name) or rest
        strange = [word for word in re.findall(r"[^\W\d_]{2,}", rest) if word.casefold() not in VOCABULARY]
        why = f"it does not know {', '.join(strange[:5])!r}" if strange else "it knows no edit that these words make"
        raise EditError(f"pillow can't do {one_line(part)[:100]!r}: {why}; {CAN}")
    return edits


def _single(text: str, places: Mapping[str, Fractions]) -> ExactEdit | None:
    """The one edit that all of these words ask for."""
    opening = _JOINERS.match(text)
    text = text[opening.end() :] if opening and opening[2] else text
    words = canonical(text)
    for asked in (words, re.sub(r"^turn ", "", words, flags=re.IGNORECASE)):
        candidates = [(asked, None), *((_without(asked, name), place) for name, place in places.items())]
        for rest, place in candidates:
            rule, match = _rule(rest) if rest is not None else (None, None)
            if rule and match and rule.scope != (PART if place is None else WHOLE):
                return ExactEdit(text.strip(), rule.make(*match.groups()), place, rule.better_exact and place is None)
    return None


def _rule(words: str) -> tuple[Rule, re.Match[str]] | tuple[None, None]:
    """The first rule that matches all of the canonical `words`."""
    matches = ((rule, re.fullmatch(rule.pattern, words, re.IGNORECASE)) for rule in RULES)
    return next(((rule, match) for rule, match in matches if match), (None, None))


def _without(words: str, name: str) -> str | None:
    """`words` without the place `name`, which has to occur once."""
    rest, count = re.subn(rf"(?<!\w){re.escape(name)}(?!\w) ?", "", words, flags=re.IGNORECASE)
    return rest.strip() if count == 1 else None
