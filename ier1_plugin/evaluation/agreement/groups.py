"""Correlations within groups, such as systems or actions, averaged over the groups by way of Fisher's z.

    by_group([(judge, mean_human)], groups, Bootstrap(), "quality/judge:j")
    -> {"pearson_by_group": {"value": 0.56, ...}, "spearman_by_group": ..., "kendall_by_group": ...,
        "groups": {"value": 7, "low": None, "high": None, "n": 640}, "groups_too_small": {"value": 1, ...},
        "groups_constant": {"value": 0, ...}, "groups_perfect": {"value": 1, ...}}

A group counts unless it has fewer than LEAST items or constant ratings. One that agrees perfectly counts too, though
its z is infinite: see `measures.highest_correlation`. `groups_perfect` says how many of `groups` those are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ier1_plugin.evaluation.agreement import measures
from ier1_plugin.evaluation.agreement.bootstrap import LEAST_UNITS, Bootstrap, Entries, entry, members, undefined
from ier1_plugin.evaluation.agreement.measures import CORRELATIONS, LEAST, ROUNDING, Array

Pair = tuple[Array, Array]
"""Scores [items] of two raters, nan where not rated."""
COUNTED, TOO_SMALL, CONSTANT, PERFECT = "groups", "groups_too_small", "groups_constant", "groups_perfect"


@dataclass(frozen=True)
class _Within:
    """A pair of raters within each group."""

    pair: Pair
    parts: list[Array]
    """Positions of the items that both rated, by group."""
    found: Array
    """[groups, 3]: CORRELATIONS, nan where undefined."""

    @property
    def highest(self) -> Array:
        """[groups, 1]"""
        return measures.highest_correlation(np.array([max(len(part), LEAST) for part in self.parts]))[:, None]

    @property
    def counts(self) -> Array:
        return np.asarray(~np.isnan(self.found).any(axis=1))

    @property
    def perfect(self) -> Array:
        return self.counts & (np.abs(self.found) > 1 - ROUNDING).any(axis=1)


def by_group(pairs: Sequence[Pair], groups: Array, how: Bootstrap, name: str, prefix: str = "") -> Entries:
    """The average over the groups of each pair, averaged over the pairs; items of no group ("") are left out."""
    names = [f"{prefix}{kind}_by_group" for kind in CORRELATIONS]
    parts = [part for part in members(groups) if groups[part[0]]]
    within = [_within(pair, parts) for pair in pairs]
    shared = [np.unique(np.concatenate([one.parts[place] for one in within])) for place in range(len(parts))]
    told, counting = _counted(within, shared)
    within = [_only(one, counting) for one in within if one.counts.any()]
    if not within:
        return {kind: undefined(0) for kind in names} | told
    values = np.mean([measures.fisher_mean(one.found, one.highest) for one in within], axis=0)
    drawn = _drawn(within, [shared[place] for place in counting], how, how.rng(f"{name}/groups"))
    items = sum(len(shared[place]) for place in counting)
    return {kind: entry(value, row, items) for kind, value, row in zip(names, values, drawn, strict=True)} | told


def _within(pair: Pair, parts: Sequence[Array]) -> _Within:
    both = ~np.isnan(pair[0] + pair[1])
    shared = [part[both[part]] for part in parts]
    found = [measures.correlations(*pair, part[None])[:, 0] for part in shared]
    return _Within(pair, shared, np.array(found).reshape(len(parts), len(CORRELATIONS)))


def _only(within: _Within, places: Sequence[int]) -> _Within:
    return _Within(within.pair, [within.parts[place] for place in places], within.found[places])


def _counted(within: Sequence[_Within], shared: Sequence[Array]) -> tuple[Entries, list[int]]:
    """(how many groups of which kind, and the items in them; the places of those that count for a pair or more)"""
    kinds = []
    for place in range(len(shared)):
        if any(one.counts[place] for one in within):
            kinds.append(COUNTED)
        elif all(len(one.parts[place]) < LEAST for one in within):
            kinds.append(TOO_SMALL)
        else:
            kinds.append(CONSTANT)
    perfect = [place for place in range(len(shared)) if any(one.perfect[place] for one in within)]
    places = {
        kind: [place for place, found in enumerate(kinds) if found == kind] for kind in (COUNTED, TOO_SMALL, CONSTANT)
    } | {PERFECT: perfect}
    told = {
        kind: undefined(sum(len(shared[place]) for place in of)) | {"value": len(of)} for kind, of in places.items()
    }
    return told, places[COUNTED]


def _drawn(within: Sequence[_Within], shared: list[Array], how: Bootstrap, rng: np.random.Generator) -> Array:
    """[3, resamples], or [3, 0] where there is only one group to draw whole groups from."""
    if not how.whole_groups:
        ends = np.cumsum([len(part) for part in shared])[:-1]
        batches = measures.within(shared, how.number, rng)
        return np.concatenate([_of_items(within, np.split(picks, ends, axis=1)) for picks in batches], axis=1)
    if len(shared) < LEAST_UNITS:
        return np.empty((len(CORRELATIONS), 0))
    picks = rng.integers(len(shared), size=(len(shared), how.number))
    return np.mean([measures.fisher_mean(one.found[picks], one.highest[picks]) for one in within], axis=0).T


def _of_items(within: Sequence[_Within], picks: Sequence[Array]) -> Array:
    """[3, resamples]; `picks`: [resamples, items] of each group."""
    found = [np.stack([measures.correlations(*one.pair, columns) for columns in picks]) for one in within]
    averages = [measures.fisher_mean(rows, one.highest[:, None]) for rows, one in zip(found, within, strict=True)]
    return np.mean(averages, axis=0)
