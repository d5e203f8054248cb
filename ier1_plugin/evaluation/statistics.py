"""Means with their uncertainty: 95 % bootstrap intervals and a paired permutation test, both by clusters.

    resamples = Resamples(np.array([0, 0, 1, 2]), seed=0)
    means, replicates = resamples.means(np.array([[7.0], [8.0], [9.0], [np.nan]]))    # [8.0], (RESAMPLES, 1)
    interval(replicates)    # [[7.5], [9.0]]

A resample draws whole clusters (posts, photos, crops) with replacement, as many as there are, and takes the mean over
the items in them (Efron and Tibshirani, 1993, sections 6.4 and 13.3). One draw serves all columns, so that differences
and averages of columns are paired as they should be; scipy.stats.bootstrap and permutation_test draw anew for every
column (0.6 s for one test of 1,000 clusters, and a report has many). The tests hold both equal to SciPy's.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TypeAlias
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from ier1_plugin.evaluation.study import Floats

CONFIDENCE = 0.95
RESAMPLES = 2000
PERMUTATIONS = 9999
# up to 2 ** 13 = 8,192 sign patterns all of them are tried, as there are no more than would be drawn
EXACT = 13
CHUNK = 1000


Seed: TypeAlias = int | Sequence[int]


def seeded(seed: int, name: str) -> list[int]:
    """A seed of its own for each name: two benchmarks with as many clusters must not have the same luck."""
    return [seed, crc32(name.encode())]


class Resamples:
    """Draws of whole clusters; the same for every column of values."""

    def __init__(self, clusters: NDArray[np.int64], seed: Seed) -> None:
        """`clusters`: a number for each item."""
        self._codes = np.unique(clusters, return_inverse=True)[1].ravel()
        self.count = int(self._codes.max(initial=-1)) + 1
        drawn = np.random.default_rng(seed).integers(0, max(1, self.count), size=(RESAMPLES, self.count))
        rows = self.count * np.arange(RESAMPLES)[:, None]
        times = np.bincount((drawn + rows).ravel(), minlength=RESAMPLES * self.count)
        self._times = times.reshape(RESAMPLES, self.count).astype(np.float64)

    def means(self, values: Floats) -> tuple[Floats, Floats]:
        """(items, columns) -> means (columns,) and those of the resamples (RESAMPLES, columns); NaN items are left out.

        A column has NaN for what is undefined: the mean without items, the resamples of fewer than two clusters.
        """
        sums, counts = self.sums(values)
        replicates = ratio(self._times @ sums, self._times @ counts)
        replicates[:, (counts > 0).sum(axis=0) < 2] = np.nan
        return ratio(sums.sum(axis=0), counts.sum(axis=0)), replicates

    def sums(self, values: Floats) -> tuple[Floats, Floats]:
        """(items, columns) -> sums and numbers of the values that are there, each (clusters, columns)."""
        there = np.isfinite(values)
        sums = np.zeros((self.count, values.shape[1]))
        counts = np.zeros_like(sums)
        np.add.at(sums, self._codes, np.where(there, values, 0.0))
        np.add.at(counts, self._codes, there.astype(np.float64))
        return sums, counts


def interval(replicates: Floats) -> Floats:
    """(resamples, columns) -> (2, columns): the percentiles that hold CONFIDENCE; NaN where a column is undefined."""
    bounds = np.full((2, replicates.shape[1]), np.nan)
    tails = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)
    complete = np.isfinite(replicates).all(axis=0)
    if complete.any():
        bounds[:, complete] = np.quantile(replicates[:, complete], tails, axis=0)
    for column in np.flatnonzero(~complete & np.isfinite(replicates).any(axis=0)):
        # a resample may have drawn only clusters without a score
        bounds[:, column] = np.nanquantile(replicates[:, column], tails)
    return bounds


def sign_flips(contributions: Floats, seed: Seed) -> Floats:
    """(clusters, tests) -> two-sided p of each test: how often flipped signs give a sum as far from 0 as the real one.

    A cluster's contribution is its share of a mean paired difference. As many as EXACT clusters: all sign patterns;
    more: PERMUTATIONS at random, the real one counted among them, so that p is never 0 (Phipson and Smyth, 2010).
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
