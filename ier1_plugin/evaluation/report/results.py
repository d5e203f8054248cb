"""Rows of systems in, tables of numbers out: every mean with its interval, coverage, both ways to count failures, gain.

table = main_table(study, rows, seed=0)
table.cells[3][0].scored.mean      # 7.92, of ImageEdit-R1 on psr by GPT-4o; see cells.py
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

import numpy as np

from ier1_plugin.evaluation.report.cells import AVERAGE, Cell, Column, Estimate, Measure, Table
from ier1_plugin.evaluation.report.comparisons import Row
from ier1_plugin.evaluation.report.slices import TOTAL, Slice
from ier1_plugin.evaluation.statistics import Resamples, Seed, interval, ratio, seeded, sign_flips
from ier1_plugin.evaluation.study import Flags, Floats, Study


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


def columns_of(study: Study, rows: Sequence[Row]) -> list[Column]:
    """Every benchmark by every judge that was to look at an edit of these rows."""
    systems = dict.fromkeys(name for row in rows for name in row.systems)
    return [
        Column(benchmark, judge)
        for benchmark in study.benchmarks
        for judge in study.judges
        if any((found := study.scores.get((benchmark, name, judge))) and found.given.any() for name in systems)
    ]


def main_table(study: Study, rows: Sequence[Row], seed: int, title: str = "Scores") -> Table:
    """All benchmarks by all judges, and the average of them; without a column where no judge was ever asked."""
    columns = columns_of(study, rows)
    if not columns:
        return Table(title, (), tuple(rows), tuple(() for _ in rows))
    resamples = {name: Resamples(one.clusters, seeded(seed, name)) for name, one in study.benchmarks.items()}
    blocks = [
        _block(study, rows, column.head, column.sub, Slice("", _all_of(study, column.head)), resamples[column.head])
        for column in columns
    ]
    tested = [
        _cells([block], seeded(seed, f"{column.head} {column.sub}"))
        for column, block in zip(columns, blocks, strict=True)
    ]
    averages = _cells(blocks, seeded(seed, AVERAGE))
    runs = runs_of(study, rows, columns)
    cells = [
        tuple(
            replace(cell, runs=means, run_gains=gains)
            for cell, (means, gains) in zip((*(cells[row] for cells in tested), averages[row]), runs[row], strict=True)
        )
        for row in range(len(rows))
    ]
    return Table(title, (*columns, Column(AVERAGE)), tuple(rows), tuple(cells), _by_judge(columns, blocks))


def _by_judge(columns: Sequence[Column], blocks: Sequence[_Block]) -> dict[str, tuple[Cell, ...]]:
    own: dict[str, list[_Block]] = {}
    for column, block in zip(columns, blocks, strict=True):
        own.setdefault(column.sub, []).append(block)
    return {judge: tuple(_cells(several, None)) for judge, several in own.items()}


def runs_of(
    study: Study, rows: Sequence[Row], columns: Sequence[Column]
) -> list[list[tuple[tuple[float, ...], tuple[float, ...]]]]:
    """[rows][columns and their average]: (means, gains) of the single runs; empty for a row that is one system."""
    found = []
    for row in rows:
        reference = rows[row.reference].systems if row.reference is not None else ()
        cells = [_runs(study, row.systems, reference, column) for column in columns]
        # an average is undefined where one of its columns is
        averages = tuple(tuple(map(fmean, zip(*kind, strict=True))) for kind in zip(*cells, strict=True))
        found.append([*cells, (averages[0], averages[1])])
    return found


def _runs(
    study: Study, systems: Sequence[str], reference: Sequence[str], column: Column
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if len(systems) < 2:
        return (), ()

    def totals(name: str) -> Floats:
        one = study.scores.get((column.head, name, column.sub))
        return one.total if one else np.full(len(study.benchmarks[column.head].items), np.nan)

    means = tuple(_mean(totals(name)) for name in systems)
    if len(systems) != len(reference):
        return means, ()
    pairs = zip(systems, reference, strict=True)
    return means, tuple(_mean(totals(name) - totals(other)) for name, other in pairs)


def _mean(values: Floats) -> float:
    """Of what is there; NaN where nothing is."""
    there = values[np.isfinite(values)]
    return float(there.mean()) if len(there) else math.nan


def _all_of(study: Study, benchmark: str) -> Flags:
    return np.ones(len(study.benchmarks[benchmark].items), dtype=bool)


def slice_table(
    study: Study, rows: Sequence[Row], benchmark: str, judge: str, slices: Sequence[Slice], seed: int, title: str
) -> Table:
    """One benchmark by one judge, a column for each slice; without tests."""
    clusters = study.benchmarks[benchmark].clusters
    found = []
    for part in slices:
        resamples = Resamples(clusters[part.items], seeded(seed, f"{benchmark} {part.name}"))
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


def _cells(blocks: Sequence[_Block], seed: Seed | None) -> list[Cell]:
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
    return [Cell(measures[row], measures[row + rows], int(counts[0, row]), int(counts[1, row])) for row in range(rows)]


def _p(blocks: Sequence[_Block], gains: Floats, seed: Seed) -> Floats:
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
