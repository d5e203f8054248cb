"""Which actions a model names where the gold has others.

    confusion([(frozenset({"delete"}), frozenset({"Replace"}))])    # {"Delete": {"Replace": 1}}

Both sides are sets, so that no answer tells which wrong action stands for which missed one: each missed action counts
once against every action that was said and is not in the gold.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from ier1_plugin.actions import ACTIONS
from ier1_plugin.parsing import parse_response
from ier1_plugin.scoring import normalise, normalised_set

NONE, OTHER, UNREADABLE = "(none)", "(other)", "(unreadable)"
Pairs = Sequence[tuple[frozenset[str], frozenset[str] | None]]
"""For each row the normalised actions of its gold, and what `said` makes of its response."""
_CANONICAL = {normalise(action): action for action in ACTIONS}


def said(response: str | None) -> frozenset[str] | None:
    """The actions of a response by their names; None where it can't be read, or there is no answer."""
    actions = parse_response(response).actions if response is not None else None
    return None if actions is None else frozenset(map(_name, normalised_set(actions)))


def _name(action: str) -> str:
    return _CANONICAL.get(action, OTHER)


def by_action(pairs: Pairs) -> dict[str, dict[str, float]]:
    """Action -> rows that have it in the gold, that say it, that do both; precision, recall and F1 over these."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for normalised, answered in pairs:
        gold, found = frozenset(map(_name, normalised)), answered or frozenset()
        for kind, actions in (("gold", gold), ("said", found), ("both", gold & found)):
            for action in actions:
                counts[action][kind] += 1
    return {action: _rates(counts[action]) for action in [*ACTIONS, OTHER] if action in counts}


def _rates(counts: Counter[str]) -> dict[str, float]:
    gold, said, both = counts["gold"], counts["said"], counts["both"]
    rates = {
        "precision": both / said if said else float("nan"),
        "recall": both / gold if gold else float("nan"),
        "f1": 2 * both / (gold + said),
    }
    return {"gold": gold, "said": said, "both": both} | rates


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
