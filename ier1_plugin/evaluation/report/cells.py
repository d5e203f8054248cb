"""What stands in a table of results: a mean with its interval, its gain, coverage, the means of single runs.

    cell = table.cells[3][0]      # ImageEdit-R1 on psr by GPT-4o
    cell.scored.mean, cell.scored.low, cell.scored.high      # 7.92, 7.70, 8.13
    cell.as_zero.mean, cell.count, cell.items                # 7.87, 326, 328
    cell.scored.gain, cell.scored.p                          # Estimate(1.63, 1.41, 1.86), 0.0001

What is undefined is NaN here and n/a in print; it never becomes 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from ier1_plugin.evaluation.records import HIGHEST
from ier1_plugin.evaluation.report.comparisons import Row
from ier1_plugin.evaluation.report.tables import percent

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
    runs: tuple[float, ...] = ()
    """Where a row is several runs, the mean of each over its scored items."""
    run_gains: tuple[float, ...] = ()
    """What each of these runs gains over the reference's."""

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
    averages: Mapping[str, tuple[Cell, ...]] = field(default_factory=dict)
    """By judge: each row's mean over the columns of that judge."""

    @property
    def coverage(self) -> float:
        """Of the cell that misses most; NaN where nothing was to be scored."""
        return min((cell.coverage for row in self.cells for cell in row if cell.items), default=math.nan)

    @property
    def full_title(self) -> str:
        """The title, with a warning where scores are missing."""
        return self.warned(self.title)

    def warned(self, title: str) -> str:
        """A title of what shows these cells, with the warning."""
        if not self.coverage < FULL_COVERAGE:
            return title
        return f"{title} [incomplete: a cell covers only {percent(self.coverage)} of its items]"
