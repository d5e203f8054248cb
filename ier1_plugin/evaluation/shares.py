"""Shares and means over rows, each with its 95 % bootstrap interval over the photos that the rows are about.

ratios(over, under, Resamples(clusters, seed=0))[0]      # Share(mean=0.87, low=0.85, high=0.89, count=400)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ier1_plugin.evaluation.statistics import Resamples, interval, ratio
from ier1_plugin.evaluation.study import Floats


@dataclass(frozen=True)
class Share:
    """A mean over rows, or a rate among them, with its interval; NaN where it is undefined."""

    mean: float
    low: float
    high: float
    count: int
    """The rows that it is about: for a precision, those where it was said."""


def ratios(over: Floats, under: Floats, resamples: Resamples) -> list[Share]:
    """(rows, columns) each -> for every column the sum of `over` by the sum of `under`.

    The interval is undefined where fewer than two photos have anything to divide by.
    """
    (above, above_drawn), (below, below_drawn) = resamples.means(over), resamples.means(under)
    drawn = ratio(above_drawn, below_drawn)
    drawn[:, (resamples.sums(under)[0] > 0).sum(axis=0) < 2] = np.nan
    (low, high), counts = interval(drawn), (under > 0).sum(axis=0)
    columns = zip(ratio(above, below), low, high, counts, strict=True)
    return [Share(float(mean), float(least), float(most), int(count)) for mean, least, most, count in columns]


def means(values: Floats, resamples: Resamples) -> list[Share]:
    """(rows, columns) -> the mean of every column over the rows where it is not NaN."""
    there = np.isfinite(values)
    return ratios(np.where(there, values, 0.0), there.astype(np.float64), resamples)
