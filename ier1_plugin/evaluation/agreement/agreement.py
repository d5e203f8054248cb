"""How well judges agree with human raters, and the raters with one another (paper, Table 3), with bootstrap intervals.

    agreement(read_ratings(Path("ratings.csv")), seed=0)["fulfilment"]
    -> {"judge:openai:gpt-4o-2024-11-20": {"spearman": {"value": 0.66, "low": 0.52, "high": 0.77, "n": 100}, ...},
        "humans": {"krippendorff_alpha": {"value": 0.71, "low": 0.63, "high": 0.78, "n": 100}, ...}}

A judge is correlated with the mean of the humans who rated the item. `cohen_kappa_quadratic` is the mean over pairs (a
judge and a human, or two humans). `ceiling_*` is what a judge could reach: each human against the mean of the others,
averaged. `*_by_group` are averages over `groups` groups by Fisher's z. `n` counts the items that a figure is based on.
Undefined is None: constant ratings, no human or one, fewer than three items.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ier1_plugin.evaluation import statistics
from ier1_plugin.evaluation.agreement.ratings import JUDGE, Rating
from ier1_plugin.evaluation.statistics import Floats, Resamples, seeded

Pair: TypeAlias = tuple[Floats, Floats]
"""Scores [items] of two raters, NaN if not rated."""
Measures: TypeAlias = dict[str, tuple[float, int]]
"""{name: (value, number of items that it is based on)}; NaN: undefined."""
Entry: TypeAlias = dict[str, Any]
"""{"value": ..., "low": ..., "high": ..., "n": ...}"""

HUMANS, GROUPS = "humans", "groups"
CORRELATIONS = ("pearson", "spearman", "kendall")
RESAMPLES = 1000
# two points always lie on a line
MIN_ITEMS = 3
# sums of the same ratings in another order differ in their last digits, but are tied
DECIMALS = 12


@dataclass(frozen=True)
class Resampling:
    """Intervals over `number` resamples of the items or, with `whole_groups`, of whole groups."""

    number: int = RESAMPLES
    seed: int = 0
    whole_groups: bool = False


@dataclass(frozen=True)
class Table:
    """The ratings of one dimension, or a resample of them."""

    dimension: str
    scores: dict[str, Floats]
    """{rater: [items]}, NaN where not rated."""
    groups: NDArray[np.int64]
    """[items]: the number of the item's group; -1: none."""

    @property
    def judges(self) -> list[str]:
        return [rater for rater in self.scores if rater.startswith(JUDGE)]

    @property
    def humans(self) -> Floats:
        """[raters, items]"""
        rows = [scores for rater, scores in self.scores.items() if not rater.startswith(JUDGE)]
        return np.array(rows).reshape(len(rows), len(self.groups))

    def resampled(self, items: NDArray[np.int64], whole_groups: bool) -> Table:
        """The items at these positions. With whole groups, a group that was drawn twice counts as two groups."""
        names, members = np.unique(self.groups, return_counts=True)
        if whole_groups:
            order = np.argsort(items, kind="stable")
            copies = np.empty(len(items), int)
            copies[order] = np.arange(len(items)) - np.searchsorted(items[order], items[order])
            groups = self.groups[items] + (names.max() + 1) * copies
        else:
            # drawing the same two items again and again does not make a group large enough
            groups = np.where(np.isin(self.groups, names[members >= MIN_ITEMS]), self.groups, -1)[items]
        return Table(self.dimension, {rater: scores[items] for rater, scores in self.scores.items()}, groups)


def tables(ratings: Sequence[Rating]) -> list[Table]:
    """A table for each dimension; dimensions, raters and items in the order of `ratings`."""
    result = []
    for dimension, rows in pd.DataFrame(ratings).groupby("dimension", sort=False):
        scores: Any = rows.pivot(index="item", columns="rater", values="score").round(DECIMALS)
        items = rows.drop_duplicates("item")
        groups = pd.factorize(items["group"].replace("", np.nan), sort=True)[0]
        columns = {rater: scores.loc[items["item"], rater].to_numpy() for rater in rows["rater"].unique()}
        result.append(Table(str(dimension), columns, groups.astype(np.int64)))
    return result


def agreement(
    ratings: Sequence[Rating], resampling: Resampling | None = None, on_progress: Callable[[], object] = lambda: None
) -> dict[str, dict[str, dict[str, Entry]]]:
    """{dimension: {"judge:NAME": entries, "humans": entries}}; `on_progress` is called after each entry."""
    result: dict[str, dict[str, dict[str, Entry]]] = {}
    for table in tables(ratings):
        result[table.dimension] = {}
        for rater in (*table.judges, HUMANS):
            measures = human_measures if rater == HUMANS else partial(judge_measures, judge=rater)
            result[table.dimension][rater] = estimates(measures, table, resampling or Resampling())
            on_progress()
    return result


def estimates(measures: Callable[[Table], Measures], table: Table, resampling: Resampling) -> dict[str, Entry]:
    """An entry for each of the measures of a table."""
    items = np.arange(len(table.groups))
    resamples = Resamples(
        table.groups if resampling.whole_groups else items, seeded(resampling.seed, table.dimension), resampling.number
    )
    intervals = statistics.bootstrap(
        lambda drawn: [value for value, _ in measures(table.resampled(drawn, resampling.whole_groups)).values()],
        resamples,
        len(items),
    )
    entries = {}
    for (name, (value, count)), estimate in zip(measures(table).items(), intervals, strict=True):
        if name == GROUPS:
            # a count, not an estimate
            entries[name] = {"value": value, "low": None, "high": None, "n": count}
            continue
        numbers = {"value": value, "low": estimate.low, "high": estimate.high}
        entries[name] = {key: None if np.isnan(number) else float(number) for key, number in numbers.items()}
        entries[name]["n"] = count
    return entries


def judge_measures(table: Table, judge: str) -> Measures:
    """mean, mean_difference (judge minus humans), correlations with the mean human, weighted kappa, by group."""
    scores, humans = table.scores[judge], table.humans
    people = mean_rating(humans)
    return {
        "mean": mean(scores),
        "mean_difference": mean(scores - people, MIN_ITEMS),
        **correlations([(scores, people)]),
        "cohen_kappa_quadratic": mean_over_pairs([(scores, human) for human in humans], weighted_kappa),
        **correlations_by_group([(scores, people)], table.groups),
    }


def human_measures(table: Table) -> Measures:
    """mean, Krippendorff's alpha, Fleiss' kappa, weighted kappa of pairs, and the ceiling."""
    humans = table.humans
    each_and_others = [(own, mean_rating(np.delete(humans, row, axis=0))) for row, own in enumerate(humans)]
    return {
        "mean": mean(mean_rating(humans)),
        "krippendorff_alpha": krippendorff_alpha(humans),
        "fleiss_kappa": fleiss_kappa(humans),
        "cohen_kappa_quadratic": mean_over_pairs([*combinations(humans, 2)], weighted_kappa),
        **correlations(each_and_others, "ceiling_"),
        **correlations_by_group(each_and_others, table.groups, "ceiling_"),
    }


def mean_rating(scores: Floats) -> Floats:
    """[items]: mean of [raters, items] over those who rated the item; NaN if nobody did."""
    rated = ~np.isnan(scores)
    with np.errstate(invalid="ignore"):
        return np.round(np.where(rated, scores, 0).sum(axis=0) / rated.sum(axis=0), DECIMALS)


def mean(scores: Floats, least: int = 1) -> tuple[float, int]:
    rated = scores[~np.isnan(scores)]
    return (float(rated.mean()) if len(rated) >= least else np.nan), len(rated)


def mean_over_pairs(pairs: Sequence[Pair], statistic: Callable[[Floats, Floats], Any]) -> tuple[Any, int]:
    """(mean of a statistic over the pairs with MIN_ITEMS items in common or more, items that any pair has in common)"""
    shared = [~np.isnan(x + y) for x, y in pairs]
    enough = [(x[both], y[both]) for (x, y), both in zip(pairs, shared, strict=True) if both.sum() >= MIN_ITEMS]
    items = int(np.any(shared, axis=0).sum()) if shared else 0
    return np.mean([statistic(x, y) for x, y in enough], axis=0) if enough else np.nan, items


def correlate(x: Floats, y: Floats) -> Floats:
    """CORRELATIONS of x and y, which have no NaN."""
    from scipy.stats import kendalltau, rankdata

    if len(x) < MIN_ITEMS or not np.ptp(x) or not np.ptp(y):
        return np.full(len(CORRELATIONS), np.nan)
    # pearsonr and spearmanr give the same, but take five times as long for their p-values
    pearson = np.corrcoef(x, y)[0, 1]
    spearman = np.corrcoef(rankdata([x, y], axis=1))[0, 1]
    kendall: Any = kendalltau(x, y, method="asymptotic")
    return np.array([pearson, spearman, kendall.statistic])


def correlations(pairs: Sequence[Pair], prefix: str = "") -> Measures:
    values, items = mean_over_pairs(pairs, correlate)
    values = np.broadcast_to(values, len(CORRELATIONS)).tolist()
    return {f"{prefix}{kind}": (value, items) for kind, value in zip(CORRELATIONS, values, strict=True)}


def correlations_by_group(pairs: Sequence[Pair], groups: NDArray[np.int64], prefix: str = "") -> Measures:
    """Correlations within each group, averaged over the groups by Fisher's z, tanh(mean(arctanh(r))), then over pairs.

    A group of fewer than MIN_ITEMS items or of constant ratings does not count. An r of 1 has no finite z, and leaving
    the group out would punish agreement. As a rate of 1 in N trials is taken for 1 - 1/(2N) (Macmillan and Kaplan,
    1985), a group of N pairs of items is taken to have half a pair in the wrong order: |r| is at most 1 - 1/N.
    """
    averages, counted = [], np.zeros(len(groups), bool)
    for x, y in pairs:
        z = []
        for group in np.unique(groups[groups >= 0]):
            part = (groups == group) & ~np.isnan(x + y)
            within, items = correlate(x[part], y[part]), part.sum()
            if not np.isnan(within).any():
                highest = 1 - 2 / (items * (items - 1))
                z.append(np.arctanh(np.clip(within, -highest, highest)))
                counted |= part
        if z:
            averages.append(np.tanh(np.mean(z, axis=0)))
    values = np.mean(averages, axis=0).tolist() if averages else [np.nan] * len(CORRELATIONS)
    items = int(counted.sum())
    result: Measures = {
        f"{prefix}{kind}_by_group": (value, items) for kind, value in zip(CORRELATIONS, values, strict=True)
    }
    return result | {GROUPS: (len(np.unique(groups[counted])), items)}


def weighted_kappa(x: Floats, y: Floats) -> float:
    """Cohen's kappa with quadratic weights of x and y, which have no NaN.

    The weights are the squared distances of the scores, so that kappa is the concordance correlation (Fleiss and Cohen,
    1973) and needs no categories.
    """
    if not np.ptp(x) or not np.ptp(y):
        return np.nan
    return 1 - float(np.mean((x - y) ** 2) / (x.var() + y.var() + (x.mean() - y.mean()) ** 2))


def krippendorff_alpha(humans: Floats) -> tuple[float, int]:
    """Krippendorff's alpha, ordinal, of [raters, items]; items with one rating are left out."""
    from krippendorff import alpha

    data = humans[:, (~np.isnan(humans)).sum(axis=0) > 1]
    values = np.unique(data[~np.isnan(data)])
    if data.shape[1] < MIN_ITEMS or len(values) < 2:
        return np.nan, data.shape[1]
    return float(alpha(reliability_data=data, level_of_measurement="ordinal")), data.shape[1]


def fleiss_kappa(humans: Floats) -> tuple[float, int]:
    """Fleiss' kappa of [raters, items]. It requires the same number of ratings for every item: only items with the
    commonest number count."""
    from statsmodels.stats import inter_rater

    ratings = (~np.isnan(humans)).sum(axis=0)
    numbers = set(ratings[ratings > 1])
    data = humans[:, ratings == max(numbers, key=lambda number: ((ratings == number).sum(), number), default=-1)]
    values = np.unique(data[~np.isnan(data)])
    if data.shape[1] < MIN_ITEMS or len(values) < 2:
        return np.nan, data.shape[1]
    counts = (data.T[:, :, None] == values).sum(axis=1)
    return float(inter_rater.fleiss_kappa(counts)), data.shape[1]


MEASURES = {
    "mean": "mean rating",
    "pearson": "Pearson",
    "spearman": "Spearman",
    "kendall": "Kendall's tau-b",
    "cohen_kappa_quadratic": "Cohen's kappa, quadratic",
    "krippendorff_alpha": "Krippendorff's alpha, ordinal",
    "fleiss_kappa": "Fleiss' kappa",
    "mean_difference": "judge minus mean human",
    "pearson_by_group": "Pearson by group",
    "spearman_by_group": "Spearman by group",
    "kendall_by_group": "Kendall's tau-b by group",
    GROUPS: "groups that count",
}
NOTES = """\
Judges are compared with the mean of the humans. The correlations of the humans are the ceiling: each human
against the mean of the others, averaged. Cohen's kappa is the mean over pairs of raters."""
NOTES_BY_GROUP = f"""\
By group: the correlation within each group, averaged by Fisher's z. Groups of constant ratings, or of
fewer than {MIN_ITEMS} items, do not count. In a group of n items |r| is at most 1 - 2/(n(n-1)), as
the z of 1 is infinite."""


def agreement_text(
    tables: Sequence[Table], result: Mapping[str, Mapping[str, Mapping[str, Entry]]], resampling: Resampling
) -> str:
    """What `ier1 agreement` prints; `result` is that of `agreement` for the same tables.

    fulfilment: 100 items, 3 humans

      measure         judge:gpt-4o       humans
      mean rating     3.43 [3.22, 3.62]  2.84 [2.70, 2.97]
      Spearman        0.66 [0.52, 0.77]  0.74 [0.63, 0.82]
      items           100                100

      mean rating of rater-1: 2.80 (100 items)
    """
    lines = []
    for table in tables:
        raters = result[table.dimension]
        rows = [["measure", *raters]]
        grouped = bool((table.groups >= 0).any())
        for name, label in MEASURES.items():
            entries = [raters[rater].get(name) or raters[rater].get(f"ceiling_{name}") for rater in raters]
            if any(entries) and (grouped or not name.endswith(("_by_group", GROUPS))):
                rows.append([label, *(_cell(entry) if entry else "" for entry in entries)])
        correlated = [entries.get("pearson") or entries["ceiling_pearson"] for entries in raters.values()]
        rows.append(["items", *(str(entry["n"]) for entry in correlated)])
        lines += [f"{table.dimension}: {len(table.groups):,} items, {len(table.humans)} humans", ""]
        if len(table.humans):
            widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
            for row in rows:
                cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
                lines.append("  " + "  ".join(cells).rstrip())
            lines.append("")
        else:
            lines += [f"  {table.dimension}: no person rated it, so there is nothing to compare judges with", ""]
        for rater, scores in table.scores.items():
            value, count = mean(scores)
            lines.append(f"  mean rating of {rater}: {value:.2f} ({count:,} items)")
        lines.append("")
    units = "whole groups" if resampling.whole_groups else "items"
    lines.append(f"[ ]: 95 % bootstrap intervals, {resampling.number:,} resamples of {units}, seed {resampling.seed}.")
    lines.append(NOTES)
    if any((table.groups >= 0).any() for table in tables):
        lines.append(NOTES_BY_GROUP)
    return "\n".join(lines)


def _cell(entry: Entry) -> str:
    if entry["value"] is None:
        return "undefined"
    if isinstance(entry["value"], int):
        return str(entry["value"])
    bounds = "undefined" if entry["low"] is None else f"{entry['low']:.2f}, {entry['high']:.2f}"
    return f"{entry['value']:.2f} [{bounds}]"
