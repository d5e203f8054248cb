"""Intervals for measures of agreement: percentiles of the measure over resamples of the items, or of whole groups.

    entries(("mean",), lambda picks: measures.mean(scores, picks), groups, Bootstrap(seed=0), "quality/humans")
    -> {"mean": {"value": 2.91, "low": 2.66, "high": 3.14, "n": 100}}

`n` counts the items that went in. What is undefined is None; an interval is, where nothing can be resampled.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np

from ier1_plugin.evaluation.agreement import measures
from ier1_plugin.evaluation.agreement.measures import LEAST, Array, Measure

RESAMPLES = 1000
CONFIDENCE = 0.95
# the ends of an interval lie in the outer 5 %, so more undefined resamples than that leave them open
MOST_UNDEFINED = 1 - CONFIDENCE
# all resamples of a single item, or of a single group, are the same one
LEAST_UNITS = 2
Entry = dict[str, float | int | None]
Entries = dict[str, Entry]


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made: percentiles over `number` resamples of the items or, with `whole_groups`, of groups."""

    number: int = RESAMPLES
    seed: int = 0
    whole_groups: bool = False

    def picks(self, groups: Array, name: str) -> Iterator[Array]:
        if self.whole_groups:
            return measures.of_whole(members(groups), self.number, self.rng(name))
        return measures.resamples(len(groups), self.number, self.rng(name))

    def units(self, groups: Array) -> int:
        """What is drawn from, such as items."""
        return len(set(groups)) if self.whole_groups else len(groups)

    def rng(self, name: str) -> np.random.Generator:
        """Of each name its own, so that one more judge or dimension in the file leaves the others' intervals alone."""
        return np.random.default_rng([self.seed, crc32(name.encode())])


def members(groups: Array) -> list[Array]:
    """Positions of the items of each group."""
    return [np.flatnonzero(groups == group) for group in dict.fromkeys(groups)]


def entries(
    names: Sequence[str], measure: Measure, groups: Array, how: Bootstrap, name: str, least: int = LEAST
) -> Entries:
    """An entry for each value of `measure`; `groups` has as many items as it is to be given."""
    items = len(groups)
    if items < least:
        return {kind: undefined(items) for kind in names}
    values = np.atleast_2d(measure(measures.as_is(items)))[:, 0]
    if np.isnan(values).all():
        return {kind: undefined(items) for kind in names}
    drawn = np.empty((len(names), 0))
    if how.units(groups) >= LEAST_UNITS:
        drawn = np.concatenate([np.atleast_2d(measure(picks)) for picks in how.picks(groups, name)], axis=1)
    return {kind: entry(value, row, items) for kind, value, row in zip(names, values, drawn, strict=True)}


def entry(value: float, drawn: Array, items: int) -> Entry:
    """`drawn`: the value of each resample, nan where undefined; empty where there are none."""
    if np.isnan(value):
        return undefined(items)
    low = high = None
    if len(drawn) and np.isnan(drawn).mean() <= MOST_UNDEFINED:
        tail = (1 - CONFIDENCE) / 2
        low, high = map(float, np.nanquantile(drawn, (tail, 1 - tail)))
    return {"value": float(value), "low": low, "high": high, "n": items}


def undefined(items: int) -> Entry:
    return {"value": None, "low": None, "high": None, "n": items}
