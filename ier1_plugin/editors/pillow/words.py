"""The canonical words of a request: no articles, no politeness, no "the photo", and numbers in one form.

    canonical("Please make the photo 50 percent brighter")     # "50% brighter"
    canonical("resize it to 800 by 600 pixels")                # "resize to 800x600px"
    canonical("make it twice as large, by a factor of 1,5")    # "x2 large by x1.5"

Small words that decide stay: "to 50%" and "by 50%", "cut to the left half" and "cut the left half" are two things.
"""

from __future__ import annotations

import re
from collections.abc import Callable

FRACTIONS = {"half": 1 / 2, "third": 1 / 3, "quarter": 1 / 4, "two thirds": 2 / 3, "three quarters": 3 / 4}
SIDES = {"left": "left", "right": "right", "top": "top", "upper": "top", "bottom": "bottom", "lower": "bottom"}

_QUOTED = re.compile(r'("[^"]*")')
# the gold of the small world writes captions in capitals and without quotes
_BARE_CAPTION = re.compile(r"\b([Cc]aption) ([A-Z0-9]{2,}(?: [A-Z0-9]+)*)\b")
_POLITE = re.compile(r"\b(?:i would like|i'd like|i want|i need|(?:can|could|would) you|hi|hello|thanks|for me)\b")
_NUMBER_WORDS = {"two": 2, "three": 3, "four": 4, "five": 5, "ten": 10, "fifteen": 15, "twenty": 20, "thirty": 30}
_NUMBER_WORDS |= {"forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90}


def _edge_share(match: re.Match[str]) -> str:
    return f"{match[1]} {100 * FRACTIONS[match[2]]:.4f}%"


# what would mean something else once its small words or its punctuation are gone
_REWRITES: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    (r"\bon its head\b", "upside down"),
    (r"\badd contrast\b", "more contrast"),
    (r"\blike an old (?:photo|picture)\b", "sepia"),
    ("−", "-"),
    (r"(?<![\d.])\.(?=\d)", "0."),
    # decimal commas, and those between thousands; "10,20,300,200" has neither
    (r"(?<![\d,])(\d+),(\d{1,2})(?![\d,])", r"\1.\2"),
    (r"(?<![\d,])(\d{1,3}),(\d{3})(?![\d,])", r"\1\2"),
    (r"\bone[ -](?=half\b|third\b|quarter\b)", ""),
    (r"\b(two|three)-(?=thirds|quarters)", r"\1 "),
    (
        rf"\b(?:{'|'.join(_NUMBER_WORDS)})\b(?=[ -](?:percent|per cent|%|degrees?|pixels?|px|times)\b)"
        rf"|(?:(?<=\bof )|(?<=\bby ))(?:{'|'.join(_NUMBER_WORDS)})\b(?! thirds| quarters)",
        lambda match: str(_NUMBER_WORDS[match[0]]),
    ),
    # a half is a place of its own
    (r"\b(left|right|top|upper|bottom|lower) (two thirds|three quarters|third|quarter)\b", _edge_share),
    (r"(?<=\d)[ -]?(?:%|percent\b|per cent\b)", "%"),
    (r"(?<=\d)[ -]?(?:°|degrees?\b)", "°"),
    (r"(?<=\d) ?(?:[x×*]|by) ?(?=\d)", "x"),
    (r"(?<=\d) ?: ?(?=\d)", ":"),
    (r"(?<=\d)[ -]?(?:px|pixels?)\b", "px"),
    (r"(?<![\w.])[x×] ?(?=\d)", "x"),
    (r"(?<![\w.])(\d+(?:\.\d+)?) ?(?:[x×]|times)(?!\w)", r"x\1"),
    (r"\b(?:a )?factor (?:of )?x?(?=\d)", "x"),
    (r"\btwice\b|\bdouble(?= (?:the|its)\b)", "x2"),
    (r"\btriple(?= (?:the|its)\b)", "x3"),
    (r"\bhalve\b", "half"),
    (r"\bin (?:a )?half\b", "by half"),
    # "50% of the brightness" is what is left; "by 50% of it" and "10% of each side" are not
    (
        r"(?<!to )(?<!by )(?<![\d.])(\d+(?:\.\d+)?%) of (?:the|its) (?!left|right|top|bottom|width|height)",
        r"at \1 ",
    ),
]
# between numbers these belong to them, as in 16:9 and 1.5
_PUNCTUATION = re.compile(r"[,;!?()–—]|[.:](?!\d)|(?<!\d)[.:]")
# words that do not change which edit it is; the names of actions open a sub-request, as in "Adjust photo: ..."
_EMPTY_WORDS = """
a add adjust also an apply are as be bit change convert do entire everything filter for get give
have image in into is it its just kindly little look looks make me my on operation our photo photograph
pic picture please put quite really recoloring relighting set should slightly so some specialized style
superresolution that the then this transform us very want we whole with you
"""
_FILLERS = frozenset(_EMPTY_WORDS.split())
# "to 50%" and "by 50%", "cut to the left half" and "cut the left half" are two things; elsewhere these words are empty
_DECISIVE = "|".join((*FRACTIONS, *SIDES, "each", "all", "every"))
_EMPTY_PREPOSITIONS = re.compile(
    rf"\b(?:to|by|of|at|from)\b(?! (?:(?:an?|the|its) )?(?:[+-]?\d|x\d|(?:{_DECISIVE})\b))"
)


def canonical(text: str) -> str:
    """The words that identify the edit, in small letters; quoted text is left alone."""
    kept: list[str] = []
    for piece in _QUOTED.split(with_quotes(text)):
        if piece.startswith('"'):
            kept.append(piece)
            continue
        piece = piece.lower()
        for pattern, plain in _REWRITES:
            piece = re.sub(pattern, plain, piece)
        piece = " ".join(_PUNCTUATION.sub(" ", _POLITE.sub(" ", piece)).split())
        kept += [word for word in _EMPTY_PREPOSITIONS.sub("", piece).split() if word not in _FILLERS]
    return " ".join(kept)


def with_quotes(text: str) -> str:
    """Straight quotes, also around a bare caption."""
    return _BARE_CAPTION.sub(r'\1 "\2"', re.sub("[“”„«»]", '"', text))
