"""From scores to estimates: a long table with a row for each cell of a printed table, as scores.csv has it.

    table = estimates(scores, main_columns(scores, rows), rows, seed=0, title="Table 1", average=True)
    table.query("row == 'ImageEdit-R1' and column == 'psr'")[["judge", "mean", "low", "high", "gain", "p"]]

Every measure appears twice: over the items with a score, and (names that end in FAILURES_AS_0) over all items, those
without a score as 0. What is undefined is NaN here and n/a in print; it never becomes 0.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import pandas as pd

from ier1_plugin.evaluation.records import DIMENSIONS
from ier1_plugin.evaluation.report.comparisons import Row
from ier1_plugin.evaluation.scores import Frame, Scores
from ier1_plugin.evaluation.statistics import Floats, Resamples, interval, ratio, seeded, sign_flips

AVERAGE = "Average"
FAILURES_AS_0 = "_failures_as_0"
KINDS = ("", FAILURES_AS_0)
MEASURES = ("mean", "low", "high", "gain", "gain_low", "gain_high", "p", "common_items")
LEVELS = ("low", "medium", "high")


@dataclass(frozen=True)
class Column:
    """A benchmark and a judge, or a slice of them."""

    benchmark: str
    judge: str
    head: str
    sub: str
    """The second line of the heading; for a whole benchmark the judge."""
    part: str = "total"
    items: tuple[str, ...] | None = None
    """None: all of the benchmark."""


def main_columns(scores: Scores, rows: Sequence[Row]) -> list[Column]:
    """Every benchmark by every judge that was to score an edit of these rows."""
    names = {name for row in rows for name in row.systems}
    asked = scores.table.loc[scores.table["system"].isin(names), ["benchmark", "judge"]].drop_duplicates()
    pairs = {*asked.itertuples(index=False, name=None)}
    order = [(benchmark, judge) for benchmark in scores.items for judge in scores.judges]
    return [Column(*pair, *pair) for pair in order if pair in pairs]


def slices(scores: Scores, benchmark: str, judge: str) -> dict[str, list[Column]]:
    """The columns of its breakdowns: by part of the score, by difficulty, by action with the most frequent first."""
    items = scores.items[benchmark]
    by_level, by_action = defaultdict(list), defaultdict(list)
    for id, item in items.items():
        if item.difficulty:
            by_level[item.difficulty].append(id)
        for action in item.actions:
            by_action[action].append(id)
    levels = sorted(by_level, key=lambda level: (LEVELS.index(level) if level in LEVELS else len(LEVELS), level))
    actions = sorted(by_action, key=lambda action: (-len(by_action[action]), action))

    def columns(groups: dict[str, list[str]], names: list[str]) -> list[Column]:
        return [Column(benchmark, judge, n, f"{len(groups[n]):,} items", items=tuple(groups[n])) for n in names]

    kinds = {
        "part of the score": [
            Column(benchmark, judge, f"{part} (0–{highest})", f"{len(items):,} items", part)
            for part, highest in DIMENSIONS.items()
        ],
        "difficulty": columns(by_level, levels),
        "action": columns(by_action, actions),
    }
    return {kind: own for kind, own in kinds.items() if own}


def estimates(
    scores: Scores, columns: Sequence[Column], rows: Sequence[Row], seed: int, title: str, average: bool
) -> Frame:
    """A row for each row and column; empty without columns.

    `average`: with p of every gain, and the plain mean of the columns as one more, undefined where one of them is.
    """
    size, names = 2 * len(rows), list(dict.fromkeys(name for row in rows for name in row.systems))
    resamples: dict[str, Resamples] = {}
    totals, means, replicates, shares, common, counts = [], [], [], [], [], []
    for column in columns:
        ids = list(scores.items[column.benchmark] if column.items is None else column.items)
        total, given = (
            scores.matrix(column.benchmark, column.judge, part, names).loc[ids] for part in (column.part, "given")
        )
        values, runs = _values(total, given, rows)
        name = column.benchmark if column.items is None else f"{column.benchmark} {column.head}"
        if name not in resamples:
            clusters = [scores.items[column.benchmark][id].cluster for id in ids]
            resamples[name] = Resamples(clusters, seeded(seed, name))
        # one draw for scores and gains, and for all judges of a benchmark
        mean, drawn = resamples[name].means(values)
        sums, by_cluster = resamples[name].sums(values[:, size:])
        totals.append(total)
        means.append(mean)
        replicates.append(drawn)
        common.append(by_cluster.sum(axis=0))
        shares.append(np.nan_to_num(ratio(sums, np.broadcast_to(common[-1], sums.shape))))
        counts.append(runs)
    groups = [(column.head, column.sub, [place]) for place, column in enumerate(columns)]
    if average and columns:
        groups.append((AVERAGE, "", list(range(len(columns)))))
    cells = []
    for head, sub, places in groups:
        mean = np.mean([means[place] for place in places], axis=0)
        low, high = interval(np.mean([replicates[place] for place in places], axis=0))
        p = np.full(size, np.nan)
        tested = np.flatnonzero(np.isfinite(mean[size:]))
        if average and len(tested):
            # columns of one benchmark share its clusters: their signs are flipped together
            of = {
                name: sum(shares[place] for place in places if columns[place].benchmark == name) / len(places)
                for name in dict.fromkeys(columns[place].benchmark for place in places)
            }
            p[tested] = sign_flips(np.vstack([*of.values()])[:, tested], seeded(seed, f"{head} {sub}".strip()))
        both = np.sum([common[place] for place in places], axis=0)
        scored, items = np.sum([counts[place] for place in places], axis=0)
        for number, row in enumerate(rows):
            cell = {
                "table": title,
                "group": row.group,
                "row": row.label,
                "reference": "" if row.reference is None else rows[row.reference].label,
                "column": head,
                "judge": sub,
                "scored": int(scored[number]),
                "items": int(items[number]),
                "coverage": scored[number] / items[number] if items[number] else np.nan,
            }
            for start, kind in zip((0, len(rows)), KINDS, strict=True):
                at, gain = start + number, start + number + size
                n = both[at] if np.isfinite(mean[gain]) else np.nan
                values = (mean[at], low[at], high[at], mean[gain], low[gain], high[gain], p[at], n)
                cell |= {f"{name}{kind}": value for name, value in zip(MEASURES, values, strict=True)}
            runs = [_runs(totals[place], rows, row) for place in places]
            for name, of_columns in zip(("runs", "gain_of_runs"), zip(*runs, strict=True), strict=True):
                cell[name] = tuple(map(fmean, zip(*of_columns, strict=True)))
            cells.append(cell)
    return pd.DataFrame(cells)


def _values(totals: Frame, given: Frame, rows: Sequence[Row]) -> tuple[Floats, Floats]:
    """(items, 4 x rows): scores, the same with failures as 0, gains of both; and (2, rows): runs scored, runs given."""
    values = np.full((len(totals), 2, len(rows)), np.nan)
    counts = np.zeros((2, len(rows)))
    for number, row in enumerate(rows):
        runs, asked = totals[list(row.systems)].to_numpy(), given[list(row.systems)].to_numpy()
        sums, scored, asked = np.nansum(runs, axis=1), np.isfinite(runs).sum(axis=1), np.nansum(asked, axis=1)
        values[:, 0, number], values[:, 1, number] = ratio(sums, scored), ratio(sums, asked)
        counts[:, number] = scored.sum(), asked.sum()
    gains = np.full_like(values, np.nan)
    for number, row in enumerate(rows):
        if row.reference is not None:
            gains[:, :, number] = values[:, :, number] - values[:, :, row.reference]
    return np.hstack([values.reshape(len(totals), -1), gains.reshape(len(totals), -1)]), counts


def _runs(totals: Frame, rows: Sequence[Row], row: Row) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The means of single runs, and what each gains over the same run of the reference; empty for one system."""
    if len(row.systems) < 2:
        return (), ()
    reference = rows[row.reference].systems if row.reference is not None else ()
    pairs = zip(row.systems, reference, strict=True) if len(reference) == len(row.systems) else ()
    means = tuple(totals[name].mean() for name in row.systems)
    return means, tuple((totals[name] - totals[other]).mean() for name, other in pairs)
