"""Measures of agreement for many resamples at once: SciPy, statsmodels and krippendorff compute them.

`picks` are positions of items, a resample a row; the items as they are is `as_is(n)`, one row. What a measure can't say
(constant ratings, fewer than LEAST items) is nan.

    correlations(numpy.array([4, 0, 3, 2.0]), numpy.array([4, 1, 3, 3.0]), as_is(4))
    # [[0.965], [0.949], [0.913]]: Pearson, Spearman, Kendall's tau-b
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Measure = Callable[[Array], Array]
"""picks [resamples, items] -> values [..., resamples]"""

CORRELATIONS = ("pearson", "spearman", "kendall")
LEAST = 3
"""Items; two points always lie on a line."""
# rows of a batch times items stay in the processor's cache
BATCH_CELLS = 50_000
# of a table of two raters; 500 x 500 take 6 ms a resample
MOST_CATEGORIES = 500
# of different pairs of scores; with more, SciPy is quicker
MOST_CELLS = 300
# a perfect correlation comes out as 1 but for the last digits
ROUNDING = 1e-12


def as_is(items: int) -> Array:
    return np.arange(items)[None]


def resamples(items: int, number: int, rng: np.random.Generator) -> Iterator[Array]:
    """`number` rows of `items` positions, drawn with replacement, in batches."""
    rows = max(1, BATCH_CELLS // max(1, items))
    for start in range(0, number, rows):
        yield rng.integers(items, size=(min(rows, number - start), items))


def within(parts: Sequence[Array], number: int, rng: np.random.Generator) -> Iterator[Array]:
    """As `resamples`, but each part (positions of a group's items) is drawn for itself and keeps its columns."""
    for rows in resamples(max(map(len, parts)), number, rng):
        yield np.concatenate([part[rng.integers(len(part), size=(len(rows), len(part)))] for part in parts], axis=1)


def of_whole(parts: Sequence[Array], number: int, rng: np.random.Generator) -> Iterator[Array]:
    """Whole parts, drawn with replacement; rows differ in length, so each comes alone."""
    for _ in range(number):
        yield np.concatenate([parts[part] for part in rng.integers(len(parts), size=len(parts))])[None]


def mean(values: Array, picks: Array) -> Array:
    return values[picks].mean(axis=1)


def correlations(x: Array, y: Array, picks: Array) -> Array:
    """[3, resamples]: CORRELATIONS of x and y, over the items that have both (nan: not rated)."""
    a, b = x[picks], y[picks]
    both = ~(np.isnan(a) | np.isnan(b))
    if both.all():
        linear = _linear(a, b)
    else:
        rows = zip(a, b, both, strict=True)
        linear = np.concatenate([_linear(one[rated][None], other[rated][None]) for one, other, rated in rows], axis=1)
    return np.vstack([linear, kendalls(x, y, picks)])


def _linear(x: Array, y: Array) -> Array:
    """[2, resamples]: Pearson's and Spearman's of each row."""
    from scipy.stats import pearsonr, rankdata

    found = np.full((2, len(x)), np.nan)
    if x.shape[1] < LEAST:
        return found
    varies = (np.ptp(x, axis=1) > 0) & (np.ptp(y, axis=1) > 0)
    x, y = x[varies], y[varies]
    if len(x):
        found[0, varies] = pearsonr(x, y, axis=1)[0]
        # Spearman's is Pearson's of the ranks; scipy.stats.spearmanr takes one pair of samples a call
        found[1, varies] = pearsonr(rankdata(x, axis=1), rankdata(y, axis=1), axis=1)[0]
    return found


def kendalls(x: Array, y: Array, picks: Array) -> Array:
    """[resamples]: Kendall's tau-b. A single row is SciPy's; many rows come from a quicker form of the same."""
    known = ~(np.isnan(x) | np.isnan(y))
    cells, places = np.unique(np.stack([x, y])[:, known], axis=1, return_inverse=True)
    size = cells.shape[1]
    if len(picks) == 1 or size > MOST_CELLS:
        return np.array([_kendall(x[row[known[row]]], y[row[known[row]]]) for row in picks])
    cell = np.full(len(x), size)
    cell[known] = places.ravel()
    flat = cell[picks] + (size + 1) * np.arange(len(picks))[:, None]
    drawn = np.bincount(flat.ravel(), minlength=len(picks) * (size + 1)).reshape(len(picks), -1)[:, :size].astype(float)
    tau = _from_signs(cells[0], cells[1], drawn)
    return np.where(drawn.sum(axis=1) < LEAST, np.nan, tau)


def _kendall(x: Array, y: Array) -> float:
    from scipy.stats import kendalltau

    if len(x) < LEAST or not np.ptp(x) or not np.ptp(y):
        return np.nan
    tau: Any = kendalltau(x, y, method="asymptotic")
    return float(tau[0])


def _from_signs(x: Array, y: Array, drawn: Array) -> Array:
    """tau-b as the correlation of the signs of all differences (Daniels, 1944).

    `drawn` [resamples, cells]: how often each pair of scores (x, y) was drawn.
    """
    signs = [np.sign(values[:, None] - values) for values in (x, y)]
    products = (signs[0] * signs[1], signs[0] ** 2, signs[1] ** 2)
    both, of_x, of_y = (np.einsum("rc,rc->r", drawn @ product, drawn) for product in products)
    with np.errstate(invalid="ignore"):
        return both / np.sqrt(of_x * of_y)


def highest_correlation(items: Array) -> Array:
    """What |r| of so many items counts as at most in `fisher_mean`: 1 - 2 / (items (items - 1)).

    An r of 1 has no finite z, and leaving it out would punish agreement. As a rate of 1 in N trials is taken for
    1 - 1/(2N) (Macmillan and Kaplan, 1985), so a group of N pairs of items is taken to have half a pair in the wrong
    order: Kendall's tau is then 1 - 1/N.
    """
    return 1 - 2 / (items * (items - 1))


def fisher_mean(found: Array, highest: Array) -> Array:
    """Mean over the first axis by way of Fisher's z, tanh(mean(arctanh(r))). What is undefined does not count.

    `highest`, of a shape that broadcasts: see `highest_correlation`. nan where nothing counts.
    """
    z = np.arctanh(np.clip(found, -highest, highest))
    with np.errstate(invalid="ignore"):
        return np.tanh(np.nansum(z, axis=0) / (~np.isnan(z)).sum(axis=0))


def weighted_kappas(a: Array, b: Array, picks: Array) -> Array:
    """[resamples]: Cohen's kappa of two raters with quadratic weights; nan in `a`, `b`: not rated.

    The weights are the squared distances of the scores themselves, so these may lie unevenly.
    """
    from statsmodels.stats.inter_rater import cohens_kappa

    values, places = np.unique(np.concatenate([a, b]), return_inverse=True)
    values = values[~np.isnan(values)]
    size = len(values)
    if size > MOST_CATEGORIES:
        return np.full(len(picks), np.nan)
    one, other = np.split(places, 2)
    cells = np.where(np.isnan(a) | np.isnan(b), size * size, one * size + other)

    def kappa(row: Array) -> float:
        table = np.bincount(row, minlength=size * size + 1)[: size * size].reshape(size, size)
        if not _vary(table):
            return np.nan
        found: Any = cohens_kappa(table, values, wt="quadratic", return_results=False)
        return float(found)

    return np.array([kappa(row) for row in cells[picks]])


def _vary(table: Array) -> bool:
    """Whether both raters used two categories or more, on enough items."""
    used = [np.count_nonzero(table.sum(axis=axis)) for axis in (0, 1)]
    return bool(table.sum() >= LEAST and min(used) > 1)


def krippendorff_alphas(counts: Array, values: Array, picks: Array) -> Array:
    """[resamples]: Krippendorff's alpha, ordinal. `counts` [items, values]: how many raters gave which value."""
    from krippendorff import alpha

    def one(row: Array) -> float:
        used = counts[row].any(axis=0)
        if len(row) < LEAST or used.sum() < 2:
            return np.nan
        return float(
            alpha(value_counts=counts[row][:, used], value_domain=values[used], level_of_measurement="ordinal")
        )

    return np.array([one(row) for row in picks])


def fleiss_kappas(counts: Array, picks: Array) -> Array:
    """[resamples]: Fleiss' kappa; every item of `counts` [items, values] has the same number of ratings."""
    from statsmodels.stats.inter_rater import fleiss_kappa

    def one(row: Array) -> float:
        if len(row) < LEAST or counts[row].any(axis=0).sum() < 2:
            return np.nan
        return float(fleiss_kappa(counts[row]))

    return np.array([one(row) for row in picks])


def count_values(scores: Array) -> tuple[Array, Array]:
    """Of scores [raters, items]: (counts [items, values], the values in order)."""
    values = np.unique(scores[~np.isnan(scores)])
    return (scores.T[:, :, None] == values).sum(axis=1), values
