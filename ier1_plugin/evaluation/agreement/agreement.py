"""How far judges agree with human raters, and these with one another (paper, Table 3), with bootstrap intervals.

    agreement(read_ratings(Path("ratings.csv")), seed=0)["fulfilment"]
    -> {"judge:openai:gpt-4o-2024-11-20": {"spearman": {"value": 0.66, "low": 0.52, "high": 0.77, "n": 100}, ...},
        "humans": {"krippendorff_alpha": {"value": 0.71, "low": 0.63, "high": 0.78, "n": 100}, ...}}

A judge is correlated with the mean of the humans who rated the item. `cohen_kappa_quadratic` is the mean over pairs
(judge and a human; two humans). `ceiling_*` is what a judge could reach: each human against the mean of the others,
averaged. `*_by_group` are averages over groups by way of Fisher's z; `groups*` say how many groups those are. `n`
counts the items that went in. Undefined is None: constant ratings, one human, fewer than three items.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from ier1_plugin.evaluation.agreement import measures
from ier1_plugin.evaluation.agreement.bootstrap import RESAMPLES, Bootstrap, Entries, Entry, entries, undefined
from ier1_plugin.evaluation.agreement.groups import Pair, by_group
from ier1_plugin.evaluation.agreement.measures import CORRELATIONS, LEAST, Array
from ier1_plugin.evaluation.agreement.ratings import JUDGE, Rating

HUMANS = "humans"
# sums of the same ratings in another order differ in the last digits, and what is tied must stay tied
DECIMALS = 12


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
        **entries(("mean_difference",), lambda picks: measures.mean(x - y, picks), groups, how, name),
        **entries(CORRELATIONS, lambda picks: measures.correlations(x, y, picks), groups, how, name),
        "cohen_kappa_quadratic": _kappa(
            np.vstack([scores, humans]), [(0, row + 1) for row in range(len(humans))], table.groups, how, name
        ),
        **by_group([(x, y)], groups, how, name),
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
    return entries(("mean",), lambda picks: measures.mean(values, picks), groups[rated], how, name, least=1)["mean"]


def mean_rating(scores: Array) -> Array:
    """[items]: mean of [raters, items] over those who rated the item; nan if none did."""
    rated = ~np.isnan(scores)
    with np.errstate(invalid="ignore"):
        return np.round(np.where(rated, scores, 0).sum(axis=0) / rated.sum(axis=0), DECIMALS)


def _krippendorff(humans: Array, groups: Array, how: Bootstrap, name: str) -> Entry:
    paired = (~np.isnan(humans)).sum(axis=0) > 1
    counts, values = measures.count_values(humans[:, paired])
    return entries(
        ("alpha",), lambda picks: measures.krippendorff_alphas(counts, values, picks), groups[paired], how, name
    )["alpha"]


def _fleiss(humans: Array, groups: Array, how: Bootstrap, name: str) -> Entry:
    """Fleiss' kappa wants as many ratings of every item: the most usual number counts, of two the larger."""
    ratings = (~np.isnan(humans)).sum(axis=0)
    usual = max(set(ratings[ratings > 1]), key=lambda number: ((ratings == number).sum(), number), default=-1)
    counts, _ = measures.count_values(humans[:, ratings == usual])
    return entries(
        ("kappa",), lambda picks: measures.fleiss_kappas(counts, picks), groups[ratings == usual], how, name
    )["kappa"]


def _kappa(scores: Array, pairs: list[tuple[int, int]], groups: Array, how: Bootstrap, name: str) -> Entry:
    """Mean of the weighted kappas of `pairs` (rows of `scores`) that share LEAST items or more."""
    rated = ~np.isnan(scores)
    pairs = [(a, b) for a, b in pairs if (rated[a] & rated[b]).sum() >= LEAST]
    if not pairs:
        return undefined(0)
    shared = np.any([rated[a] & rated[b] for a, b in pairs], axis=0)
    columns = scores[:, shared]

    def kappas(picks: Array) -> Array:
        return np.mean([measures.weighted_kappas(columns[a], columns[b], picks) for a, b in pairs], axis=0)

    return entries(("kappa",), kappas, groups[shared], how, name)["kappa"]


def _ceiling(humans: Array, groups: Array, how: Bootstrap, name: str) -> Entries:
    others = [mean_rating(np.delete(humans, row, axis=0)) for row in range(len(humans))]
    every: list[Pair] = list(zip(humans, others, strict=True))
    pairs = [pair for pair in every if (~np.isnan(sum(pair))).sum() >= LEAST]
    shared = np.any([~np.isnan(sum(pair)) for pair in pairs], axis=0) if pairs else np.zeros(len(groups), bool)

    def averages(picks: Array) -> Array:
        return np.mean([measures.correlations(own[shared], rest[shared], picks) for own, rest in pairs], axis=0)

    return {
        **entries([f"ceiling_{kind}" for kind in CORRELATIONS], averages, groups[shared], how, name),
        **by_group(every, groups, how, name, "ceiling_"),
    }
