"""Estimates with 95 % bootstrap intervals, and a paired permutation test; both resample whole clusters, never items.

    resamples = Resamples(["post-1", "post-1", "post-2", "post-3"], seed=seeded(0, "psr"))
    means(np.array([[7.0], [8.0], [9.0], [np.nan]]), resamples)    # [Estimate(mean=8.0, low=7.5, high=9.0, count=3)]
    ratios(hits, predictions, resamples)                           # sum over sum, such as a precision
    bootstrap(lambda items: spearmanr(x[items], y[items]).statistic, resamples)    # any other statistic
    sign_flips(contributions, seed)                                # p of paired differences

A resample draws clusters (posts, photos, crops) with replacement, as many as there are, and takes the statistic over
the items in them (Efron and Tibshirani, 1993, sections 6.4 and 13.3). One draw serves all columns, so that differences
and averages of columns stay paired; scipy.stats.bootstrap and permutation_test draw anew for every column (0.6 s for
one test of 1,000 clusters, and a report has many). The tests hold both equal to SciPy's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, TypeAlias
from zlib import crc32

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats: TypeAlias = NDArray[np.float64]
Seed: TypeAlias = int | Sequence[int]

CONFIDENCE = 0.95
RESAMPLES = 2000
# the ends of an interval lie in the outer 5 %: with more undefined resamples than that they are not known
MOST_UNDEFINED = 1 - CONFIDENCE
PERMUTATIONS = 9999
# up to 2 ** 13 = 8,192 sign patterns all of them are tried, as there are no more than would be drawn
EXACT = 13
CHUNK = 1000


@dataclass(frozen=True)
class Estimate:
    """A mean, rate or other statistic with its 95 % interval; NaN: undefined."""

    mean: float = math.nan
    low: float = math.nan
    high: float = math.nan
    count: int = 0
    """The number of items that it covers: for a precision, those where something was predicted."""

    def __bool__(self) -> bool:
        return math.isfinite(self.mean)


def seeded(seed: int, name: str) -> list[int]:
    """A seed of its own for each name: two benchmarks with equally many clusters must not share their draws."""
    return [seed, crc32(name.encode())]


class Resamples:
    """Draws of whole clusters; the same for every column of values."""

    def __init__(self, clusters: ArrayLike, seed: Seed, number: int = RESAMPLES) -> None:
        """`clusters`: a number or name for each item, in the order of the items."""
        names, codes = np.unique(np.asarray(clusters), return_inverse=True)
        self.count = len(names)
        self.number = number
        self._codes = codes.ravel()
        self._seed = seed

    def items(self) -> Iterator[NDArray[np.int64]]:
        """The positions of the items in each resample, resample by resample."""
        members = [np.flatnonzero(self._codes == code) for code in range(self.count)]
        random = np.random.default_rng(self._seed)
        for _ in range(self.number):
            yield np.concatenate([members[code] for code in random.integers(0, self.count, size=self.count)])

    def means(self, values: Floats) -> tuple[Floats, Floats]:
        """(items, columns) -> means (columns,) and those of the resamples (number, columns); NaN items are left out.

        A column has NaN for what is undefined: the mean without items, the resamples of a single cluster.
        """
        sums, counts = self.sums(values)
        replicates = ratio(self._times @ sums, self._times @ counts)
        if self.count < 2:
            replicates[:] = np.nan
        return ratio(sums.sum(axis=0), counts.sum(axis=0)), replicates

    def sums(self, values: Floats) -> tuple[Floats, Floats]:
        """(items, columns) -> sums and numbers of the values that are not NaN, each (clusters, columns)."""
        defined = np.isfinite(values)
        sums = np.zeros((self.count, values.shape[1]))
        counts = np.zeros_like(sums)
        np.add.at(sums, self._codes, np.where(defined, values, 0.0))
        np.add.at(counts, self._codes, defined.astype(np.float64))
        return sums, counts

    @cached_property
    def _times(self) -> Floats:
        """(number, clusters): how often each resample has each cluster."""
        drawn = np.random.default_rng(self._seed).integers(0, max(1, self.count), size=(self.number, self.count))
        rows = self.count * np.arange(self.number)[:, None]
        times = np.bincount((drawn + rows).ravel(), minlength=self.number * self.count)
        return times.reshape(self.number, self.count).astype(np.float64)


def means(values: Floats, resamples: Resamples) -> list[Estimate]:
    """(items, columns) -> the mean of every column over the items where it is not NaN."""
    means, replicates = resamples.means(values)
    return _estimates(means, replicates, np.isfinite(values).sum(axis=0))


def ratios(over: Floats, under: Floats, resamples: Resamples) -> list[Estimate]:
    """(items, columns) each -> for every column the sum of `over` divided by the sum of `under`."""
    (above, above_drawn), (below, below_drawn) = resamples.means(over), resamples.means(under)
    return _estimates(ratio(above, below), ratio(above_drawn, below_drawn), (under > 0).sum(axis=0))


def bootstrap(statistic: Callable[[NDArray[np.int64]], Any], resamples: Resamples, items: int) -> list[Estimate]:
    """Any statistic of `items` items: it gets their positions, and returns a number or several, NaN where undefined."""
    results = np.atleast_1d(statistic(np.arange(items))).astype(float)
    replicates = np.full((resamples.number, len(results)), np.nan)
    if resamples.count > 1:
        for number, drawn in enumerate(resamples.items()):
            replicates[number] = statistic(drawn)
    return _estimates(results, replicates, np.full(len(results), items))


def _estimates(results: Floats, replicates: Floats, counts: NDArray[Any]) -> list[Estimate]:
    low, high = np.where(np.isfinite(results), interval(replicates), np.nan)
    columns = zip(results.tolist(), low.tolist(), high.tolist(), counts.tolist(), strict=True)
    return [Estimate(*column) for column in columns]


def interval(replicates: Floats) -> Floats:
    """(resamples, columns) -> (2, columns): the percentiles that hold CONFIDENCE; NaN where undefined."""
    bounds = np.full((2, replicates.shape[1]), np.nan)
    # a resample is undefined where it drew only clusters without a score
    known = np.isnan(replicates).mean(axis=0) <= MOST_UNDEFINED
    if known.any():
        bounds[:, known] = np.nanquantile(replicates[:, known], ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2), axis=0)
    return bounds


def sign_flips(contributions: Floats, seed: Seed) -> Floats:
    """(clusters, tests) -> two-sided p of each test: how often flipped signs give a sum as far from 0 as the real one.

    A cluster's contribution is its share of a mean paired difference. Up to EXACT clusters: all sign patterns; more:
    PERMUTATIONS at random, the real one counted among them, so that p is never 0 (Phipson and Smyth, 2010).
    """
    clusters = len(contributions)
    real = np.abs(contributions.sum(axis=0))
    # equal sums must count as equal, whatever the order of their terms
    bar = real - 1e-9 * np.maximum(real, 1e-9)
    if clusters <= EXACT:
        signs = np.array(list(product((-1.0, 1.0), repeat=clusters))).reshape(-1, clusters)
        return (np.abs(signs @ contributions) >= bar).mean(axis=0)
    extreme = np.ones(contributions.shape[1])
    random = np.random.default_rng(seed)
    for start in range(0, PERMUTATIONS, CHUNK):
        size = (min(CHUNK, PERMUTATIONS - start), clusters)
        signs = 2.0 * random.integers(0, 2, size=size, dtype=np.int8) - 1.0
        extreme += (np.abs(signs @ contributions) >= bar).sum(axis=0)
    return extreme / (PERMUTATIONS + 1)


def ratio(sums: Floats, counts: Floats) -> Floats:
    """sums / counts; NaN where there is nothing to divide by."""
    return np.divide(sums, counts, out=np.full(np.shape(sums), np.nan), where=counts > 0)
