"""How far judges agree with human raters, and these with one another (paper, Table 3), with bootstrap intervals.

    agreement(read_ratings(Path("ratings.csv")), seed=0)["fulfilment"]
    -> {"judge:openai:gpt-4o-2024-11-20": {"spearman": {"value": 0.66, "low": 0.52, "high": 0.77, "n": 100}, ...},
        "humans": {"krippendorff_alpha": {"value": 0.71, "low": 0.63, "high": 0.78, "n": 100}, ...}}

A judge is correlated with the mean of the humans who rated the item. `cohen_kappa_quadratic` is the mean over pairs
(judge and a human; two humans). `ceiling_*` is what a judge could reach: each human against the mean of the others,
averaged. `*_by_group` are averages over groups by way of Fisher's z. `n` counts the items that went in. Undefined is
None: constant ratings, one human, fewer than three items.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from zlib import crc32

import numpy as np

from ier1_plugin.evaluation import agreement_measures as measures
from ier1_plugin.evaluation.agreement_measures import CORRELATIONS, LEAST, Array, Measure
from ier1_plugin.evaluation.ratings import JUDGE, Rating

HUMANS = "humans"
RESAMPLES = 1000
CONFIDENCE = 0.95
# the ends of an interval lie in the outer 5 %, so more undefined resamples than that leave them open
MOST_UNDEFINED = 1 - CONFIDENCE
# sums of the same ratings in another order differ in the last digits, and what is tied must stay tied
DECIMALS = 12
Entry = dict[str, float | int | None]
Entries = dict[str, Entry]


@dataclass(frozen=True)
class Table:
    """The ratings of one dimension. `scores`: {rater: [items]}, nan where it did not rate; `groups`: [items]."""

    dimension: str
    scores: dict[str, Array]
    groups: Array

    @property
    def judges(self) -> list[str]:
        return [rater for rater in self.scores if rater.startswith(JUDGE)]

    @property
    def humans(self) -> Array:
        """[raters, items]"""
        rows = [scores for rater, scores in self.scores.items() if not rater.startswith(JUDGE)]
        return np.array(rows).reshape(len(rows), len(self.groups))


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

    def rng(self, name: str) -> np.random.Generator:
        """Of each name its own, so that one more judge or dimension in the file leaves the others' intervals alone."""
        return np.random.default_rng([self.seed, crc32(name.encode())])


def tables(ratings: Sequence[Rating]) -> list[Table]:
    """A table for each dimension; dimensions, raters and items in the order of the file."""
    return [
        _table(name, [rating for rating in ratings if rating.dimension == name])
        for name in dict.fromkeys(rating.dimension for rating in ratings)
    ]


def _table(dimension: str, ratings: list[Rating]) -> Table:
    groups = {rating.item: rating.group for rating in ratings}
    place = {item: number for number, item in enumerate(groups)}
    scores = {rater: np.full(len(groups), np.nan) for rater in dict.fromkeys(rating.rater for rating in ratings)}
    for rating in ratings:
        scores[rating.rater][place[rating.item]] = round(rating.score, DECIMALS)
    return Table(dimension, scores, np.array(list(groups.values()), dtype=object))


def agreement(
    ratings: Sequence[Rating],
    *,
    number: int = RESAMPLES,
    seed: int = 0,
    whole_groups: bool = False,
    told: Callable[[str], object] = lambda what: None,
) -> dict[str, dict[str, Entries]]:
    """{dimension: {"judge:NAME": entries, "humans": entries}}; `told` hears what was done, for a progress bar."""
    how = Bootstrap(number, seed, whole_groups)
    found: dict[str, dict[str, Entries]] = {}
    for table in tables(ratings):
        parts = found[table.dimension] = {}
        for judge in table.judges:
            parts[judge] = judge_entries(table, judge, how)
            told(f"{table.dimension} {judge}")
        parts[HUMANS] = human_entries(table, how)
        told(f"{table.dimension} {HUMANS}")
    return found


def judge_entries(table: Table, judge: str, how: Bootstrap) -> Entries:
    """mean, mean_difference (judge less humans), correlations with the mean human, weighted kappa, by group."""
    scores, humans = table.scores[judge], table.humans
    human = mean_rating(humans)
    both = ~np.isnan(scores) & ~np.isnan(human)
    x, y, groups, name = scores[both], human[both], table.groups[both], f"{table.dimension}/{judge}"
    return {
        "mean": mean_entry(scores, table.groups, how, name),
        **_entries(("mean_difference",), lambda picks: measures.mean(x - y, picks), groups, how, name),
        **_entries(CORRELATIONS, lambda picks: measures.correlations(x, y, picks), groups, how, name),
        "cohen_kappa_quadratic": _kappa(
            np.vstack([scores, humans]), [(0, row + 1) for row in range(len(humans))], table.groups, how, name
        ),
        **_by_group(x, y, groups, how, name),
    }


def human_entries(table: Table, how: Bootstrap) -> Entries:
    """mean, Krippendorff's alpha, Fleiss' kappa, weighted kappa of pairs, and the ceiling."""
    humans, name = table.humans, f"{table.dimension}/{HUMANS}"
    pairs = list(combinations(range(len(humans)), 2))
    return {
        "mean": mean_entry(mean_rating(humans), table.groups, how, name),
        "krippendorff_alpha": _krippendorff(humans, table.groups, how, name),
        "fleiss_kappa": _fleiss(humans, table.groups, how, name),
        "cohen_kappa_quadratic": _kappa(humans, pairs, table.groups, how, name),
        **_ceiling(humans, table.groups, how, name),
    }


def mean_entry(scores: Array, groups: Array, how: Bootstrap, name: str) -> Entry:
    """Of scores [items], nan left out."""
    rated = ~np.isnan(scores)
    values = scores[rated]
    return _entries(("mean",), lambda picks: measures.mean(values, picks), groups[rated], how, name, least=1)["mean"]


def mean_rating(scores: Array) -> Array:
    """[items]: mean of [raters, items] over those who rated the item; nan if none did."""
    rated = ~np.isnan(scores)
    with np.errstate(invalid="ignore"):
        return np.round(np.where(rated, scores, 0).sum(axis=0) / rated.sum(axis=0), DECIMALS)


def members(groups: Array) -> list[Array]:
    """Positions of the items of each group."""
    return [np.flatnonzero(groups == group) for group in dict.fromkeys(groups)]


def _krippendorff(humans: Array, groups: Array, how: Bootstrap, name: str) -> Entry:
    paired = (~np.isnan(humans)).sum(axis=0) > 1
    counts, values = measures.count_values(humans[:, paired])
    return _entries(
        ("alpha",), lambda picks: measures.krippendorff_alphas(counts, values, picks), groups[paired], how, name
    )["alpha"]


def _fleiss(humans: Array, groups: Array, how: Bootstrap, name: str) -> Entry:
    """Fleiss' kappa wants as many ratings of every item: the most usual number counts, of two the larger."""
    ratings = (~np.isnan(humans)).sum(axis=0)
    usual = max(set(ratings[ratings > 1]), key=lambda number: ((ratings == number).sum(), number), default=-1)
    counts, _ = measures.count_values(humans[:, ratings == usual])
    return _entries(
        ("kappa",), lambda picks: measures.fleiss_kappas(counts, picks), groups[ratings == usual], how, name
    )["kappa"]


def _kappa(scores: Array, pairs: list[tuple[int, int]], groups: Array, how: Bootstrap, name: str) -> Entry:
    """Mean of the weighted kappas of `pairs` (rows of `scores`) that share LEAST items or more."""
    rated = ~np.isnan(scores)
    pairs = [(a, b) for a, b in pairs if (rated[a] & rated[b]).sum() >= LEAST]
    grid = measures.on_grid(scores) if pairs else None
    if grid is None:
        return _undefined(0)
    shared = np.any([rated[a] & rated[b] for a, b in pairs], axis=0)
    columns = grid[:, shared]

    def kappas(picks: Array) -> Array:
        return np.mean([measures.weighted_kappas(columns[a], columns[b], picks) for a, b in pairs], axis=0)

    value = float(np.mean([measures.weighted_kappa(columns[a], columns[b]) for a, b in pairs]))
    return _entries(("kappa",), kappas, groups[shared], how, name)["kappa"] | {"value": _defined(value)}


def _ceiling(humans: Array, groups: Array, how: Bootstrap, name: str) -> Entries:
    others = [mean_rating(np.delete(humans, row, axis=0)) for row in range(len(humans))]
    pairs = [(own, rest) for own, rest in zip(humans, others, strict=True) if (~np.isnan(own + rest)).sum() >= LEAST]
    shared = np.any([~np.isnan(own + rest) for own, rest in pairs], axis=0) if pairs else np.zeros(len(groups), bool)

    def averages(picks: Array) -> Array:
        return np.mean([measures.correlations(own[shared], rest[shared], picks) for own, rest in pairs], axis=0)

    return _entries([f"ceiling_{kind}" for kind in CORRELATIONS], averages, groups[shared], how, name)


def _by_group(x: Array, y: Array, groups: Array, how: Bootstrap, name: str) -> Entries:
    """Groups whose own correlation is undefined do not count; `n` counts the items of those that do."""
    names = [f"{kind}_by_group" for kind in CORRELATIONS]
    found = [(part, measures.correlations(x, y, part[None])) for part in members(groups) if groups[part[0]]]
    found = [(part, values) for part, values in found if not np.isnan(values).any()]
    if not found:
        return {kind: _undefined(0) for kind in names}
    parts, values = [part for part, _ in found], np.stack([values for _, values in found])
    sizes = [len(part) for part in parts]
    rng = how.rng(f"{name}/groups")
    if how.whole_groups:
        drawn = measures.fisher_mean(values[rng.integers(len(parts), size=(len(parts), how.number)), :, 0]).T
    else:
        drawn = np.concatenate(
            [measures.fisher_average(x, y, sizes, picks) for picks in measures.within(parts, how.number, rng)], axis=1
        )
    average = measures.fisher_mean(values)[:, 0]
    return {kind: _entry(value, row, sum(sizes)) for kind, value, row in zip(names, average, drawn, strict=True)}


def _entries(
    names: Sequence[str], measure: Measure, groups: Array, how: Bootstrap, name: str, least: int = LEAST
) -> Entries:
    """An entry for each value of `measure`; `groups` has as many items as it is to be given."""
    items = len(groups)
    if items < least:
        return {kind: _undefined(items) for kind in names}
    values = np.atleast_2d(measure(measures.as_is(items)))[:, 0]
    if np.isnan(values).all():
        return {kind: _undefined(items) for kind in names}
    drawn = np.concatenate([np.atleast_2d(measure(picks)) for picks in how.picks(groups, name)], axis=1)
    return {kind: _entry(value, row, items) for kind, value, row in zip(names, values, drawn, strict=True)}


def _entry(value: float, drawn: Array, items: int) -> Entry:
    if np.isnan(value):
        return _undefined(items)
    low = high = None
    if len(drawn) and np.isnan(drawn).mean() <= MOST_UNDEFINED:
        tail = (1 - CONFIDENCE) / 2
        low, high = map(float, np.nanquantile(drawn, (tail, 1 - tail)))
    return {"value": float(value), "low": low, "high": high, "n": items}


def _undefined(items: int) -> Entry:
    return {"value": None, "low": None, "high": None, "n": items}


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else value
