"""Measures of agreement for many resamples at once: SciPy, scikit-learn, statsmodels and krippendorff compute them.

`picks` are positions of items, a resample a row; the items as they are is `as_is(n)`, one row. What a measure can't say
(constant ratings, fewer than LEAST items) is nan.

    correlations(numpy.array([4, 0, 3, 2.0]), numpy.array([4, 1, 3, 3.0]), as_is(4))
    # [[0.965], [0.949], [0.913]]: Pearson, Spearman, Kendall's tau-b
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from inspect import signature
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
MOST_CATEGORIES = 1000
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
    x, y = x[picks], y[picks]
    missing = np.isnan(x) | np.isnan(y)
    if not missing.any():
        return _correlations(x, y)
    pairs = zip(x, y, ~missing, strict=True)
    return np.concatenate([_correlations(a[both][None], b[both][None]) for a, b, both in pairs], axis=1)


def _correlations(x: Array, y: Array) -> Array:
    from scipy.stats import pearsonr, rankdata

    found = np.full((len(CORRELATIONS), len(x)), np.nan)
    if x.shape[1] < LEAST:
        return found
    varies = (np.ptp(x, axis=1) > 0) & (np.ptp(y, axis=1) > 0)
    x, y = x[varies], y[varies]
    if len(x):
        found[0, varies] = pearsonr(x, y, axis=1)[0]
        # Spearman's is Pearson's of the ranks; scipy.stats.spearmanr takes one pair of samples a call
        found[1, varies] = pearsonr(rankdata(x, axis=1), rankdata(y, axis=1), axis=1)[0]
        found[2, varies] = _kendalls(x, y)
    return found


def _kendalls(x: Array, y: Array) -> Any:
    """Of each row. SciPy before 1.16, the last for Python 3.10, takes one row a call and twice the time."""
    from scipy import stats

    kendalltau: Any = stats.kendalltau
    if "axis" in signature(kendalltau).parameters:
        return kendalltau(x, y, method="asymptotic", axis=1)[0]
    return [kendalltau(a, b, method="asymptotic")[0] for a, b in zip(x, y, strict=True)]


def fisher_average(x: Array, y: Array, sizes: Sequence[int], picks: Array) -> Array:
    """[3, resamples]: CORRELATIONS within each group, averaged. Columns of `picks`: group after group."""
    ends = np.cumsum(sizes)[:-1]
    within_groups = [correlations(x, y, columns) for columns in np.split(picks, ends, axis=1)]
    return fisher_mean(np.stack(within_groups))


def fisher_mean(found: Array) -> Array:
    """Mean over the first axis by way of Fisher's z, tanh(mean(arctanh(r))). What is undefined does not count.

    Undefined where none counts, and where an r is exactly 1 or -1, of which z is infinite.
    """
    perfect = np.abs(found) > 1 - ROUNDING
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.arctanh(np.where(perfect, np.sign(found), found))
        average = np.nansum(z, axis=0) / (~np.isnan(z)).sum(axis=0)
    return np.where(np.isfinite(average), np.tanh(average), np.nan)


def on_grid(scores: Array) -> Array | None:
    """Scores as categories 0, 1, 2 ... of an even scale, nan kept; None where they lie on no such scale.

    Quadratic weights see only distances, so the scale may be finer than the one that was rated on.
    """
    known = np.unique(scores[~np.isnan(scores)])
    if len(known) < 2:
        return scores * 0
    steps = (scores - known[0]) / np.diff(known).min()
    rounded = np.round(steps)
    if np.nanmax(steps) >= MOST_CATEGORIES or np.nanmax(np.abs(steps - rounded)) > 1e-6:
        return None
    return rounded


def weighted_kappa(a: Array, b: Array) -> float:
    """Cohen's kappa of two raters with quadratic weights; `a`, `b`: categories of `on_grid`, nan where not rated."""
    from sklearn.metrics import cohen_kappa_score

    both = ~(np.isnan(a) | np.isnan(b))
    a, b = a[both].astype(int), b[both].astype(int)
    if len(a) < LEAST or not np.ptp(a) or not np.ptp(b):
        return np.nan
    labels = np.arange(max(a.max(), b.max()) + 1)
    return float(cohen_kappa_score(a, b, labels=labels, weights="quadratic"))


def weighted_kappas(a: Array, b: Array, picks: Array) -> Array:
    """[resamples]: `weighted_kappa` of each, from its table of counts; statsmodels is 20 times as quick."""
    from statsmodels.stats.inter_rater import cohens_kappa

    size = int(max(np.nanmax(a), np.nanmax(b))) + 1
    cells = np.where(np.isnan(a) | np.isnan(b), size * size, a * size + b)
    cells = np.nan_to_num(cells, nan=size * size).astype(int)
    tables = [np.bincount(row, minlength=size * size + 1)[:-1].reshape(size, size) for row in cells[picks]]
    return np.array(
        [cohens_kappa(table, wt="quadratic", return_results=False) if _vary(table) else np.nan for table in tables]
    )


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
