"""Several annotations of one request -> the one that most of them agree on.

settle([Decomposition.of(["Delete"], ["the lamp"], []),
        Decomposition.of(["Delete"], ["lamp"], []),
        Decomposition.of(["Delete", "Add"], ["Lamp"], ["plain wall"])], asked=3)
-> Decomposition(actions=("Delete",), subjects=("the lamp",), goals=())
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ier1_plugin.task.schema import COMPONENTS, Decomposition
from ier1_plugin.task.scoring import normalise, token_f1

# without a majority, the vote closest to the others stands for them if it shares half of its words with them
MIN_AGREEMENT = 0.5
NO_EDIT = "the annotator found no edit in the request"

Phrases = tuple[str, ...]


def settle(votes: Sequence[Decomposition | str], asked: int) -> Decomposition | str:
    """The decomposition that the votes agree on, or the reason why there is none. A vote is a decomposition or the
    reason why it failed; of the `asked` votes more than half must have been readable.
    """
    read = [vote for vote in votes if isinstance(vote, Decomposition)]
    if 2 * len(read) <= asked:
        return Counter(vote for vote in votes if isinstance(vote, str)).most_common(1)[0][0]
    agreed = {}
    for name in COMPONENTS:
        phrases = agreement([getattr(vote, name) for vote in read], closest=name != "actions")
        if phrases is None:
            shown = " | ".join(", ".join(getattr(vote, name)) or "none" for vote in read)
            return f"annotators disagree on the {name}: {shown[:200]}"
        agreed[name] = phrases
    return Decomposition(**agreed) if agreed["actions"] else NO_EDIT


def agreement(votes: Sequence[Phrases], closest: bool) -> Phrases | None:
    """The phrases that more than half of the votes hold, compared as the rewards compare them (`normalise`).

    A phrase is written as most votes write it. Without such a phrase: nothing, if most votes are empty; else, if
    `closest`, the vote whose mean token-F1 with the others is highest and at least MIN_AGREEMENT; else None.
    """
    spellings = [_by_meaning(vote) for vote in votes]
    holders = Counter(meaning for vote in spellings for meaning in vote)
    kept = [meaning for meaning, count in holders.items() if 2 * count > len(votes)]
    if kept or 2 * spellings.count({}) > len(votes):
        written = {meaning: Counter(vote[meaning] for vote in spellings if meaning in vote) for meaning in kept}
        return tuple(spelling.most_common(1)[0][0] for spelling in written.values())
    if not closest:
        return None
    means = []
    for position, vote in enumerate(spellings):
        others = spellings[:position] + spellings[position + 1 :]
        means.append(sum(token_f1(frozenset(vote), frozenset(other)) for other in others) / max(1, len(others)))
    best = max(means)
    return tuple(spellings[means.index(best)].values()) if best >= MIN_AGREEMENT else None


def _by_meaning(vote: Phrases) -> dict[str, str]:
    """Normalised phrase -> as the vote spells it, first spelling first."""
    spelled: dict[str, str] = {}
    for phrase in vote:
        spelled.setdefault(normalise(phrase), phrase)
    spelled.pop("", None)
    return spelled
