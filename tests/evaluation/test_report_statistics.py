"""Intervals and tests of a report against SciPy's, and what they say where little is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from ier1_plugin.evaluation.statistics import RESAMPLES, Resamples, bootstrap, interval, means, ratios, sign_flips


def whole_numbers(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 11, size=shape).astype(float)


def clusters_of(count: int, each: int) -> np.ndarray:
    return np.arange(count, dtype=np.int64) // each


def bounds(values: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    return interval(Resamples(clusters, 0).means(values[:, None])[1])[:, 0]


def scipy_bounds(values: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """The same interval by scipy.stats.bootstrap over sums and sizes of clusters."""
    there = np.isfinite(values)
    sums = np.bincount(clusters, np.where(there, values, 0))
    sizes = np.bincount(clusters, there)
    found = stats.bootstrap(
        (sums, sizes),
        lambda sums, sizes, axis: sums.sum(axis=axis) / sizes.sum(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=9999,
        method="percentile",
        rng=1,
    ).confidence_interval
    return np.array([found.low, found.high])


@pytest.mark.parametrize("each", [1, 4])
def test_intervals_are_those_of_scipy_up_to_the_luck_of_the_draw(each: int):
    values, clusters = whole_numbers((400,)), clusters_of(400, each)
    values[::7] = np.nan
    ours, theirs = bounds(values, clusters), scipy_bounds(values, clusters)
    # the luck of 2,000 draws moves a percentile by about a thirtieth of the width
    assert ours == pytest.approx(theirs, abs=0.12 * (theirs[1] - theirs[0]))


def test_equal_scores_have_an_interval_without_width_and_one_cluster_has_none():
    assert bounds(np.full(30, 7.0), clusters_of(30, 1)).tolist() == [7.0, 7.0]
    assert np.isnan(bounds(np.array([7.0, 8.0]), np.array([0, 0]))).all()


def test_without_scores_mean_and_interval_are_undefined_not_0():
    found, replicates = Resamples(clusters_of(6, 1), 0).means(np.full((6, 2), np.nan))
    assert np.isnan(found).all()
    assert np.isnan(interval(replicates)).all()
    empty, none = Resamples(np.array([], dtype=np.int64), 0).means(np.empty((0, 1)))
    assert np.isnan(empty).all()
    assert none.shape == (RESAMPLES, 1)


def test_an_interval_is_unknown_only_where_too_many_resamples_have_no_score():
    values = np.full(50, np.nan)
    values[:5] = 2.0, 4.0, 9.0, 3.0, 6.0
    low, high = bounds(values, clusters_of(50, 1))
    assert 2.0 <= low <= 4.8 <= high <= 9.0
    values[2:] = np.nan
    assert np.isnan(bounds(values, clusters_of(50, 1))).all()


def test_any_statistic_of_the_items_has_an_interval_that_is_the_same_for_a_mean():
    values, clusters = whole_numbers((60,)), [f"post-{number // 3}" for number in range(60)]
    (one,) = bootstrap(lambda items: values[items].mean(), Resamples(clusters, 0), 60)
    (mean,) = means(values[:, None], Resamples(clusters, 0))
    assert (one.mean, one.count) == (mean.mean, mean.count) == (values.mean(), 60)
    assert (one.low, one.high) == pytest.approx((mean.low, mean.high), abs=0.05)
    (correlation,) = bootstrap(
        lambda items: stats.spearmanr(values[items], -values[items])[0], Resamples(clusters, 0, number=100), 60
    )
    assert (correlation.mean, correlation.low, correlation.high) == pytest.approx((-1, -1, -1))


def test_a_rate_is_a_sum_over_a_sum_and_undefined_without_anything_to_divide_by():
    over, under = np.array([[1.0, 0], [0, 0], [1, 0], [0, 0]]), np.array([[1.0, 0], [1, 0], [1, 0], [0, 0]])
    rate, nothing = ratios(over, under, Resamples([0, 1, 2, 3], 0))
    assert (rate.mean, rate.count) == (pytest.approx(2 / 3), 3)
    assert 0 <= rate.low < rate.mean < rate.high <= 1
    assert not nothing
    assert np.isnan([nothing.low, nothing.high]).all()
    assert nothing.count == 0


def test_columns_are_paired_as_they_share_the_draws():
    first = whole_numbers((100,))
    _, replicates = Resamples(clusters_of(100, 1), 0).means(np.column_stack([first, first + 1, np.ones(100)]))
    assert np.ptp(replicates[:, 1] - replicates[:, 0] - replicates[:, 2]) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("clusters", "shift", "luck"),
    [(9, 4.0, 1e-12), (9, 5.0, 1e-12), (90, 4.7, 0.02), (90, 5.2, 0.02), (90, 6.0, 0.02)],
)
def test_p_is_that_of_scipy_exactly_of_few_clusters_and_up_to_the_luck_of_the_draw_of_many(
    clusters: int, shift: float, luck: float
):
    differences = whole_numbers((clusters,)) - shift
    options: Any = {"permutation_type": "samples", "vectorized": True, "n_resamples": 9999, "rng": 1}
    wanted = stats.permutation_test((differences,), lambda one, axis: one.sum(axis=axis), **options).pvalue
    assert sign_flips(differences[:, None], 0)[0] == pytest.approx(float(wanted), abs=luck)


def test_no_difference_at_all_has_p_of_1_and_p_is_never_0():
    assert sign_flips(np.zeros((40, 1)), 0)[0] == 1.0
    assert sign_flips(np.ones((40, 1)), 0)[0] == pytest.approx(1e-4)
