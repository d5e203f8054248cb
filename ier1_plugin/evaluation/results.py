"""Rows of systems in, tables of numbers out: every mean with its interval, coverage, both ways to count failures, gain.

    table = main_table(study, rows, seed=0)
    cell = table.cells[3][0]      # ImageEdit-R1 on psr by GPT-4o
    cell.scored.mean, cell.scored.low, cell.scored.high      # 7.92, 7.70, 8.13
    cell.as_zero.mean, cell.count, cell.items                # 7.87, 326, 328
    cell.scored.gain, cell.scored.p                          # Estimate(1.63, 1.41, 1.86), 0.0001

What is undefined is NaN here and n/a in print; it never becomes 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ier1_plugin.evaluation.comparisons import Row
from ier1_plugin.evaluation.records import HIGHEST
from ier1_plugin.evaluation.slices import TOTAL, Slice
from ier1_plugin.evaluation.statistics import Resamples, interval, ratio, sign_flips
from ier1_plugin.evaluation.study import Floats, Study

AVERAGE = "Average"
FULL_COVERAGE = 0.95
"""Below this a table says in its title how much of it is missing."""


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95 % interval; NaN: undefined."""

    mean: float = math.nan
    low: float = math.nan
    high: float = math.nan

    def __bool__(self) -> bool:
        return math.isfinite(self.mean)


@dataclass(frozen=True)
class Measure(Estimate):
    """A mean, and what a row gains over its reference."""

    gain: Estimate = Estimate()
    """Mean paired difference to the reference, over the items that both have a value for."""
    p: float = math.nan
    """Of a sign-flip permutation test of the gain."""
    common: int = 0
    """Items that both have a value for."""


@dataclass(frozen=True)
class Cell:
    """What is known about one row in one column."""

    scored: Measure = Measure()
    """Over the items with a score."""
    as_zero: Measure = Measure()
    """Over all items, those without a score as 0."""
    count: int = 0
    """Items with a score."""
    items: int = 0
    """Items that were to get one."""

    @property
    def coverage(self) -> float:
        return self.count / self.items if self.items else math.nan


@dataclass(frozen=True)
class Column:
    """A benchmark and a judge, or a slice of them."""

    head: str
    sub: str = ""
    highest: int = HIGHEST


@dataclass(frozen=True)
class Table:
    """Cells by row and column."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    cells: tuple[tuple[Cell, ...], ...]

    @property
    def coverage(self) -> float:
        """Of the cell that misses most; NaN where nothing was to be scored."""
        return min((cell.coverage for row in self.cells for cell in row if cell.items), default=math.nan)

    @property
    def full_title(self) -> str:
        """The title, with a warning where scores are missing."""
        if not self.coverage < FULL_COVERAGE:
            return self.title
        return f"{self.title} [incomplete: a cell covers only {100 * self.coverage:.1f} % of its items]"


@dataclass(frozen=True)
class _Block:
    """Rows on one benchmark by one judge. Columns of arrays: the rows scored, then the rows with failures as 0."""

    means: Floats
    """(2 x rows,)"""
    gains: Floats
    """(2 x rows,)"""
    replicates: Floats
    """(RESAMPLES, 4 x rows): of means, then of gains."""
    shares: Floats
    """(clusters, 2 x rows): of each cluster in a gain."""
    common: Floats
    """(2 x rows,): items in a gain."""
    counts: Floats
    """(2, rows): items with a score, items that were to get one."""
    resamples: Resamples = field(repr=False)


def main_table(study: Study, rows: Sequence[Row], seed: int, title: str = "Scores") -> Table:
    """All benchmarks by all judges, and the average of them."""
    blocks: list[_Block] = []
    columns: list[Column] = []
    for name, benchmark in study.benchmarks.items():
        resamples = Resamples(benchmark.clusters, seed)
        for judge in study.judges:
            everything = Slice("", np.ones(len(benchmark.items), dtype=bool))
            blocks.append(_block(study, rows, name, judge, everything, resamples))
            columns.append(Column(name, judge))
    tested = [_cells([block], seed) for block in blocks]
    averages = _cells(blocks, seed)
    cells = [(*(cells[row] for cells in tested), averages[row]) for row in range(len(rows))]
    return Table(title, (*columns, Column(AVERAGE)), tuple(rows), tuple(cells))


def slice_table(
    study: Study, rows: Sequence[Row], benchmark: str, judge: str, slices: Sequence[Slice], seed: int, title: str
) -> Table:
    """One benchmark by one judge, a column for each slice; without tests."""
    clusters = study.benchmarks[benchmark].clusters
    found = []
    for part in slices:
        resamples = Resamples(clusters[part.items], seed)
        found.append(_cells([_block(study, rows, benchmark, judge, part, resamples)], None))
    columns = tuple(Column(part.name, f"{int(part.items.sum()):,} items", part.highest) for part in slices)
    return Table(title, columns, tuple(rows), tuple(zip(*found, strict=True)))


def row_values(study: Study, row: Row, benchmark: str, judge: str, part: int = TOTAL) -> tuple[Floats, Floats, Floats]:
    """Per item: the score (NaN: none), the score with failures as 0 (NaN: not given), and [scored, given] runs (2,)."""
    runs = [study.scores[key] for name in row.systems if (key := (benchmark, name, judge)) in study.scores]
    if not runs:
        nothing = np.full(len(study.benchmarks[benchmark].items), np.nan)
        return nothing, nothing, np.zeros((2, len(nothing)))
    totals = np.array([run.total if part == TOTAL else run.parts[:, part] for run in runs])
    given = np.array([run.given for run in runs])
    there = np.isfinite(totals)
    filled = np.where(there, totals, 0.0).sum(axis=0)
    counts = np.array([there.sum(axis=0), given.sum(axis=0)], dtype=float)
    return ratio(filled, counts[0]), ratio(filled, counts[1]), counts


def _block(study: Study, rows: Sequence[Row], benchmark: str, judge: str, part: Slice, resamples: Resamples) -> _Block:
    found = [row_values(study, row, benchmark, judge, part.part) for row in rows]
    values = np.array([scores[part.items] for kind in (0, 1) for scores in (one[kind] for one in found)]).T
    gains = np.full_like(values, np.nan)
    for number, row in enumerate(rows):
        if row.reference is not None and row.reference != number:
            for start in (0, len(rows)):
                gains[:, start + number] = values[:, start + number] - values[:, start + row.reference]
    means, replicates = resamples.means(np.hstack([values, gains]))
    sums, counts = resamples.sums(gains)
    common = counts.sum(axis=0)
    return _Block(
        means=means[: len(means) // 2],
        gains=means[len(means) // 2 :],
        replicates=replicates,
        shares=ratio(sums, np.broadcast_to(common, sums.shape)),
        common=common,
        counts=np.array([runs[:, part.items].sum(axis=1) for _, _, runs in found]).T,
        resamples=resamples,
    )


def _cells(blocks: Sequence[_Block], seed: int | None) -> list[Cell]:
    """A cell a row: of one block, or the plain mean over several, undefined where one of them is. `seed`: for p."""
    rows = blocks[0].counts.shape[1]
    bounds = interval(np.mean([block.replicates for block in blocks], axis=0))
    means, gains = (np.mean([getattr(block, name) for block in blocks], axis=0) for name in ("means", "gains"))
    ps = _p(blocks, gains, seed) if seed is not None else np.full(2 * rows, np.nan)
    common = np.sum([block.common for block in blocks], axis=0)
    counts = np.sum([block.counts for block in blocks], axis=0)
    measures = [
        Measure(
            *_estimate(means[number], bounds[:, number]),
            gain=Estimate(*_estimate(gains[number], bounds[:, number + 2 * rows])),
            p=float(ps[number]),
            common=int(common[number]),
        )
        for number in range(2 * rows)
    ]
    return [Cell(measures[row], measures[row + rows], *map(int, counts[:, row])) for row in range(rows)]


def _p(blocks: Sequence[_Block], gains: Floats, seed: int) -> Floats:
    """p of each gain; NaN where there is none to test."""
    # blocks of one benchmark share its clusters: their signs are flipped together
    shares: dict[int, Floats] = {}
    for block in blocks:
        key = id(block.resamples)
        shares[key] = shares.get(key, 0.0) + np.nan_to_num(block.shares) / len(blocks)
    found = np.full(len(gains), np.nan)
    tests = np.flatnonzero(np.isfinite(gains))
    if len(tests):
        found[tests] = sign_flips(np.vstack(list(shares.values()))[:, tests], seed)
    return found


def _estimate(mean: float, bounds: Floats) -> tuple[float, float, float]:
    low, high = map(float, bounds) if math.isfinite(mean) else (math.nan, math.nan)
    return float(mean), low, high
