"""Which actions a model names where the gold has others.

    confusion([(frozenset({"delete"}), frozenset({"Replace"}))])    # {"Delete": {"Replace": 1}}

Both sides are sets, so that no answer tells which wrong action stands for which missed one: each missed action counts
once against every action that was said and is not in the gold.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ier1_plugin.evaluation.shares import Share, ratios
from ier1_plugin.evaluation.statistics import Floats, Resamples
from ier1_plugin.task.actions import ACTIONS
from ier1_plugin.task.parsing import parse_response
from ier1_plugin.task.scoring import normalise, normalised_set

NONE, OTHER, UNREADABLE = "(none)", "(other)", "(unreadable)"
NAMES = (*ACTIONS, OTHER)
Pairs = Sequence[tuple[frozenset[str], frozenset[str] | None]]
"""For each row the normalised actions of its gold, and what `said` makes of its response."""
_CANONICAL = {normalise(action): action for action in ACTIONS}


def said(response: str | None) -> frozenset[str] | None:
    """The actions of a response by their names; None where it can't be read, or there is no answer."""
    actions = parse_response(response).actions if response is not None else None
    return None if actions is None else frozenset(map(_name, normalised_set(actions)))


def _name(action: str) -> str:
    return _CANONICAL.get(action, OTHER)


@dataclass(frozen=True)
class Rates:
    """How well one action is found: rows that have it in the gold, that say it, that do both, and their ratios."""

    gold: int
    said: int
    both: int
    precision: Share
    recall: Share
    f1: Share


def by_action(pairs: Pairs, clusters: NDArray[np.int64]) -> dict[str, Rates]:
    """The rates of every action that is in a gold or was said. `clusters`: a number for the photo of each pair."""
    gold, said = (_there(pairs, side) for side in (0, 1))
    both, resamples = gold * said, Resamples(clusters, seed=0)
    ratio_of = ((both, said), (both, gold), (2 * both, gold + said))
    rates = zip(*(ratios(over, under, resamples) for over, under in ratio_of), strict=True)
    counts = zip(*(each.sum(axis=0).astype(int).tolist() for each in (gold, said, both)), strict=True)
    named = zip(NAMES, counts, rates, strict=True)
    return {name: Rates(*count, *shares) for name, count, shares in named if count[0] or count[1]}


def _there(pairs: Pairs, side: int) -> Floats:
    """(pairs, NAMES): 1 where the gold (side 0) or the response (side 1) has the action."""
    found = np.zeros((len(pairs), len(NAMES)))
    for number, pair in enumerate(pairs):
        actions = map(_name, pair[0]) if side == 0 else pair[1] or ()
        found[number, [NAMES.index(action) for action in actions]] = 1
    return found


def confusion(pairs: Pairs) -> dict[str, dict[str, int]]:
    """Gold action -> {what was said: rows}: itself where it was said, else every action that the gold has not.

    "(none)" on the left: nothing was missed, and yet more was said; on the right: nothing was said in its place.
    """
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for normalised, found in pairs:
        gold, named = frozenset(map(_name, normalised)), found or frozenset()
        for action in gold & named:
            table[action][action] += 1
        wrong = [UNREADABLE] if found is None else sorted(named - gold)
        for action in gold - named:
            table[action].update(wrong or [NONE])
        if gold <= named:
            table[NONE].update(wrong)
    return {action: dict(counts) for action, counts in sorted(table.items()) if counts}
