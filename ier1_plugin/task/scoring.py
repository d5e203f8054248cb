"""How two sets of phrases are compared: normalisation, set-F1, token-F1. Pure functions, no framework.

normalise("  The Coat!") == "coat"
set_f1({"coat", "hair"}, {"coat"}) == 2/3
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

from ier1_plugin.task.parsing import COMPONENT_TAGS, parse_response
from ier1_plugin.task.schema import Decomposition

ARTICLES = ("a ", "an ", "the ")
# UAX #15, Stream-Safe Text Format: real text has no longer run of combining marks. Longer ones are broken up, since
# canonical ordering takes quadratic time in the length of such a run.
MAX_COMBINING_RUN = 30
GRAPHEME_JOINER = "\u034f"
CACHED_LENGTH = 128

Set = frozenset[str]


def normalise(text: str) -> str:
    """Case, width, whitespace, outer punctuation and leading articles carry no meaning; "50%" keeps its sign."""
    # only short phrases are worth remembering: a cache of megabyte-long ones would be a leak
    return _cached_normalise(text) if len(text) <= CACHED_LENGTH else _normalise(text)


def normalised_set(strings: Iterable[str]) -> Set:
    """The normalised strings; those that normalise to nothing are dropped."""
    return frozenset(map(normalise, strings)) - {""}


def set_f1(predicted: Set, gold: Set) -> float:
    """2|P&G| / (|P|+|G|) (paper, section 2.2); two empty sets agree."""
    if not predicted and not gold:
        return 1.0
    return 2 * len(predicted & gold) / (len(predicted) + len(gold))


def token_f1(predicted: Set, gold: Set) -> float:
    """Soft set-F1: phrases are paired one to one so that the sum of their token similarities is greatest.

    The similarity of two phrases is the F1 of their whitespace tokens as multisets.
    """
    if not predicted or not gold:
        return set_f1(predicted, gold)
    from scipy.optimize import linear_sum_assignment

    rows, columns = ([Counter(phrase.split()) for phrase in sorted(phrases)] for phrases in (predicted, gold))
    similarity = [[2 * (row & column).total() / (row.total() + column.total()) for column in columns] for row in rows]
    pairs = zip(*linear_sum_assignment(similarity, maximize=True), strict=True)
    return 2 * sum(similarity[row][column] for row, column in pairs) / (len(predicted) + len(gold))


GOAL_MATCHES: dict[str, Callable[[Set, Set], float]] = {"exact": set_f1, "token": token_f1}


@dataclass(frozen=True)
class Gold:
    """A ground truth with its components normalised once, for all rollouts of a prompt."""

    actions: Set
    subjects: Set
    goals: Set

    @classmethod
    def of(cls, decomposition: Decomposition) -> Gold:
        return cls(*(normalised_set(getattr(decomposition, name)) for name in COMPONENT_TAGS))


def score_response(text: str, gold: Gold, goal_match: str = "exact") -> dict[str, float]:
    """The four rewards of a response, each in [0, 1]. A bad response scores low, it never raises."""
    response = parse_response(text)
    return {
        "format": float(response.well_formed),
        "action": _score(response.actions, gold.actions, set_f1),
        "subject": _score(response.subjects, gold.subjects, set_f1),
        "goal": _score(response.goals, gold.goals, GOAL_MATCHES[goal_match]),
    }


def _score(strings: tuple[str, ...] | None, gold: Set, compare: Callable[[Set, Set], float]) -> float:
    return 0.0 if strings is None else compare(normalised_set(strings), gold)


def _normalise(text: str) -> str:
    if text.isascii():
        text = text.lower()
    else:
        pieces, run = [], 0
        for character in text if len(text) > MAX_COMBINING_RUN else "":
            run = run + 1 if unicodedata.combining(character) else 0
            if run > MAX_COMBINING_RUN:
                pieces.append(GRAPHEME_JOINER)
                run = 1
            pieces.append(character)
        text = "".join(pieces) or text
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    text = " ".join(text.split())
    start, end = 0, len(text)

    def is_outer(index: int) -> bool:
        """True for whitespace and punctuation that may be dropped at the edge of text[start:end]."""
        character = text[index]
        if character == "%" and any(text[i].isdecimal() for i in (index - 1, index + 1) if start <= i < end):
            return False
        return character == " " or unicodedata.category(character).startswith("P")

    # indices, not slices: a long run of articles would otherwise be copied once for each of them
    while True:
        while start < end and not text[start].isalnum() and is_outer(start):
            start += 1
        while start < end and not text[end - 1].isalnum() and is_outer(end - 1):
            end -= 1
        if not text.startswith(ARTICLES, start, end):
            return text[start:end]
        start = text.index(" ", start) + 1


_cached_normalise = lru_cache(maxsize=1 << 16)(_normalise)
