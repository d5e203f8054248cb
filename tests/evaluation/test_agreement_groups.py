"""Agreement within groups and with whole groups drawn: averages by way of Fisher's z, and what counts in them."""

from __future__ import annotations

import numpy as np
import pytest
from fakes.rating_tables import assert_inside, of, random_scores, ratings_of
from scipy import stats

pytest.importorskip("krippendorff")
pytest.importorskip("sklearn")
pytest.importorskip("statsmodels")

from ier1_plugin.evaluation.agreement.agreement import HUMANS


def test_a_constant_group_does_not_count_in_the_average_over_groups():
    scores = random_scores(4, items=60)
    for rater in scores:
        scores[rater][:20] = [2.0] * 20
    entry = of(ratings_of(scores, group=lambda item: f"g{item // 20}"))["judge:j"]["pearson_by_group"]
    assert entry["n"] == 40
    assert 0 < entry["low"] < entry["value"] < entry["high"] < 1


def test_a_group_that_agrees_perfectly_counts_as_if_half_a_pair_of_items_stood_the_other_way_round():
    scores = {"a": [1, 2, 3, 1, 3, 2, 4], "judge:j": [1, 2, 3, 2, 3, 1, 4]}
    found = of(ratings_of(scores, group=lambda item: "g1" if item < 3 else "g2"))["judge:j"]
    # of the 3 pairs of 3 items 2.5 are in order and 0.5 are not; of 4 items, no more than 5.5 of 6 pairs
    for kind, measure in (("kendall", stats.kendalltau), ("spearman", stats.spearmanr)):
        other = min(measure([1, 3, 2, 4], [2, 3, 1, 4])[0], 5 / 6)
        expected = np.tanh((np.arctanh(2 / 3) + np.arctanh(other)) / 2)
        assert found[f"{kind}_by_group"]["value"] == pytest.approx(expected, abs=1e-12)
        assert found[f"{kind}_by_group"]["low"] is not None
    assert (found["groups"]["value"], found["groups_perfect"]["value"]) == (2, 1)


def test_a_perfect_group_never_lowers_the_average_below_that_of_a_good_one():
    good, worse = [1, 2, 3, 4, 5, 6], [1, 2, 4, 3, 5, 6]
    rest = {"a": [3, 1, 2, 4, 1, 2], "judge:j": [1, 3, 2, 4, 2, 1]}
    averages = []
    for judge in (good, worse):
        scores = {"a": good + rest["a"], "judge:j": judge + rest["judge:j"]}
        found = of(ratings_of(scores, group=lambda item: f"g{item // 6}"))["judge:j"]
        averages.append([found[f"{kind}_by_group"]["value"] for kind in ("pearson", "spearman", "kendall")])
    assert all(perfect >= other for perfect, other in zip(*averages, strict=True))


def test_the_ceiling_by_group_leaves_out_items_that_were_not_rated_twice():
    scores = random_scores(11, raters=3, items=80, missing=0.2)
    found = of(ratings_of(scores, group=lambda item: f"g{item % 2}"))[HUMANS]
    rated = np.sum([[score is not None for score in row] for name, row in scores.items() if name != "judge:j"], axis=0)
    assert found["groups"] == {"value": 2, "low": None, "high": None, "n": int((rated > 1).sum())}
    assert_inside(found["ceiling_spearman_by_group"])


def test_resampling_whole_groups_widens_the_interval_where_items_of_a_group_are_alike():
    rng = np.random.default_rng(9)
    post = np.repeat(rng.integers(0, 5, 12), 10)
    scores = {name: np.clip(post + rng.integers(0, 2, 120), 0, 5).astype(float) for name in ("a", "b", "judge:j")}
    ratings = ratings_of(scores, group=lambda item: f"post-{item // 10}")
    items, groups = of(ratings)["judge:j"]["mean"], of(ratings, whole_groups=True)["judge:j"]["mean"]
    assert groups["value"] == items["value"]
    assert groups["high"] - groups["low"] > 1.5 * (items["high"] - items["low"])
