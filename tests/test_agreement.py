"""Agreement of judges with raters: every figure against SciPy, scikit-learn, statsmodels and krippendorff."""

from __future__ import annotations

import json
import os
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rating_tables import random_scores, ratings_of
from scipy import stats

pytest.importorskip("krippendorff")
pytest.importorskip("sklearn")
pytest.importorskip("statsmodels")

import krippendorff
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa

from ier1_plugin.evaluation.agreement import HUMANS, agreement
from ier1_plugin.evaluation.ratings import Rating

SHARED = Path(os.environ.get("IER1_SHARED_DATA") or Path(__file__).parents[1] / "../shared/data")
REAL = SHARED / "imagenhub_viescore/text_guided_ie_human_x_gpt4o.jsonl"
needs_real_data = pytest.mark.skipif(
    not REAL.is_file(), reason=f"the real ratings are not in {SHARED}; set IER1_SHARED_DATA"
)
GPT_4O = "judge:gpt-4o"
# over all 1,432 rows, of which REAL has a part: Spearman of GPT-4o with the mean human, of each human with the others
PUBLISHED = {"O": (0.589, (0.725, 0.657, 0.728)), "SC": (0.650, (0.728, 0.668, 0.747)), "PQ": (0.548, (0.653, 0.633))}


def of(ratings: list[Rating], dimension: str = "quality", number: int = 200, **more: Any) -> dict[str, Any]:
    return agreement(ratings, number=number, **more)[dimension]


def assert_inside(entry: dict[str, Any]) -> None:
    assert entry["low"] < entry["value"] < entry["high"]


def matrix(scores: dict[str, list[float | None]]) -> np.ndarray:
    """[humans, items], nan where not rated."""
    return np.array([row for name, row in scores.items() if not name.startswith("judge:")], dtype=float)


@pytest.fixture(scope="module")
def real_ratings() -> list[Rating]:
    found = []
    for line in REAL.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        item = f"{row['uid']}/{row['model']}"
        said = {f"rater-{number + 1}": tuple(scores) for number, scores in enumerate(row["human"])}
        said[GPT_4O] = (min(row["gpt4o_SC"]), min(row["gpt4o_PQ"]))
        for rater, (sc, pq) in said.items():
            for dimension, score in (("SC", sc), ("PQ", pq), ("O", (sc * pq) ** 0.5)):
                found.append(Rating(item, rater, dimension, score, row["model"]))
    return found


def scores_by_rater(ratings: list[Rating], dimension: str) -> dict[str, np.ndarray]:
    found: dict[str, list[float]] = {}
    for rating in ratings:
        if rating.dimension == dimension:
            found.setdefault(rating.rater, []).append(rating.score)
    return {rater: np.array(scores) for rater, scores in found.items()}


@needs_real_data
@pytest.mark.parametrize("dimension", ["SC", "PQ", "O"])
def test_on_real_ratings_every_figure_is_that_of_the_library_called_directly(real_ratings, dimension):
    found = agreement([rating for rating in real_ratings if rating.dimension == dimension], number=100)[dimension]
    scores = scores_by_rater(real_ratings, dimension)
    judge = scores.pop(GPT_4O)
    humans = np.stack(list(scores.values()))
    # the same three ratings in another order add up to a sum that differs in its last digit, and still are a tie
    mean = humans.mean(axis=0).round(12)
    value = {kind: entry["value"] for kind, entry in found[GPT_4O].items()}
    assert value["pearson"] == pytest.approx(stats.pearsonr(judge, mean)[0], abs=1e-12)
    assert value["spearman"] == pytest.approx(stats.spearmanr(judge, mean)[0], abs=1e-12)
    assert value["kendall"] == pytest.approx(stats.kendalltau(judge, mean)[0], abs=1e-12)
    assert value["mean_difference"] == pytest.approx((judge - mean).mean(), abs=1e-12)
    among = {kind: entry["value"] for kind, entry in found[HUMANS].items()}
    alpha = krippendorff.alpha(reliability_data=humans, level_of_measurement="ordinal")
    assert among["krippendorff_alpha"] == pytest.approx(float(alpha), abs=1e-12)
    assert among["fleiss_kappa"] == pytest.approx(fleiss_kappa(aggregate_raters(humans.T)[0]), abs=1e-12)
    rest = [np.delete(humans, row, 0).mean(0).round(12) for row in range(3)]
    ceiling = np.array([stats.spearmanr(humans[row], rest[row])[0] for row in range(3)], dtype=float)
    assert among["ceiling_spearman"] == pytest.approx(np.mean(ceiling), abs=1e-12)
    assert {entry["n"] for entry in [*found[GPT_4O].values(), *found[HUMANS].values()]} <= {len(judge), 0}


@needs_real_data
@pytest.mark.parametrize("dimension", ["SC", "PQ"])
def test_on_real_ratings_weighted_kappa_is_the_mean_of_scikit_learn_s_over_pairs(real_ratings, dimension):
    found = agreement([rating for rating in real_ratings if rating.dimension == dimension], number=100)[dimension]
    scores = scores_by_rater(real_ratings, dimension)
    halves = {rater: (row * 2).astype(int) for rater, row in scores.items()}
    judge = halves.pop(GPT_4O)

    def kappa(a: np.ndarray, b: np.ndarray) -> float:
        return cohen_kappa_score(a, b, labels=range(21), weights="quadratic")

    pairs = [kappa(a, b) for a, b in combinations(halves.values(), 2)]
    assert found[HUMANS]["cohen_kappa_quadratic"]["value"] == pytest.approx(np.mean(pairs), abs=1e-9)
    of_judge = np.mean([kappa(judge, human) for human in halves.values()])
    assert found[GPT_4O]["cohen_kappa_quadratic"]["value"] == pytest.approx(of_judge, abs=1e-9)


@needs_real_data
def test_on_real_ratings_spearman_is_in_line_with_that_of_all_1432_rows(real_ratings):
    found = agreement(real_ratings, number=100)
    for dimension, (judge, ceilings) in PUBLISHED.items():
        entry = found[dimension][GPT_4O]["spearman"]
        assert entry["low"] <= judge <= entry["high"], dimension
        assert found[dimension][HUMANS]["ceiling_spearman"]["value"] == pytest.approx(np.mean(ceilings), abs=0.08)


@needs_real_data
def test_on_real_ratings_fisher_averages_are_those_of_the_correlations_within_each_system(real_ratings):
    ratings = [rating for rating in real_ratings if rating.dimension == "PQ"]
    scores = scores_by_rater(ratings, "PQ")
    judge, mean = scores.pop(GPT_4O), np.mean(list(scores.values()), axis=0)
    groups = np.array([rating.group for rating in ratings if rating.rater == GPT_4O])
    within = np.array(
        [stats.spearmanr(judge[groups == name], mean[groups == name])[0] for name in set(groups)], dtype=float
    )
    entry = agreement(ratings, number=200)["PQ"][GPT_4O]["spearman_by_group"]
    assert len(within) > 3
    assert entry["value"] == pytest.approx(np.tanh(np.arctanh(within).mean()), abs=1e-12)
    assert_inside(entry)


@pytest.mark.filterwarnings("ignore:Mean of empty slice")
def test_missing_ratings_are_left_out_pair_by_pair():
    scores = random_scores(1, raters=4, missing=0.3)
    found, humans = of(ratings_of(scores)), matrix(scores)
    judge = np.array(scores["judge:j"], dtype=float)
    mean = np.nanmean(humans, axis=0)
    both = ~np.isnan(judge + mean)
    assert found["judge:j"]["pearson"]["value"] == pytest.approx(stats.pearsonr(judge[both], mean[both])[0])
    assert found["judge:j"]["pearson"]["n"] == both.sum()
    alpha = krippendorff.alpha(reliability_data=humans, level_of_measurement="ordinal")
    assert found[HUMANS]["krippendorff_alpha"]["value"] == pytest.approx(float(alpha))
    ceiling = []
    for row in range(len(humans)):
        rest = np.nanmean(np.delete(humans, row, axis=0), axis=0)
        shared = ~np.isnan(humans[row] + rest)
        ceiling.append(stats.kendalltau(humans[row][shared], rest[shared])[0])
    assert found[HUMANS]["ceiling_kendall"]["value"] == pytest.approx(np.mean(ceiling))
    assert found[HUMANS]["ceiling_kendall"]["low"] is not None


def test_raters_may_change_from_item_to_item_as_long_as_each_item_has_as_many():
    rng = np.random.default_rng(3)
    scores: dict[str, list[float | None]] = {f"human-{rater}": [None] * 40 for rater in range(5)}
    for item in range(40):
        for rater in rng.choice(5, 3, replace=False):
            scores[f"human-{rater}"][item] = float(rng.integers(0, 4))
    rows = [[row[item] for row in scores.values() if row[item] is not None] for item in range(40)]
    expected = fleiss_kappa(aggregate_raters(np.array(rows))[0])
    entry = of(ratings_of(scores))[HUMANS]["fleiss_kappa"]
    assert (entry["value"], entry["n"]) == (pytest.approx(expected), 40)


@pytest.mark.filterwarnings("error")
def test_constant_ratings_are_undefined_and_not_zero():
    found = of(ratings_of({"a": [3] * 9, "b": [3] * 9, "judge:j": [2, 3, 1, 2, 3, 1, 2, 3, 1], "judge:k": [3] * 9}))
    for judge in ("judge:j", "judge:k"):
        for kind in ("pearson", "spearman", "kendall", "cohen_kappa_quadratic"):
            assert found[judge][kind] == {"value": None, "low": None, "high": None, "n": 9}, kind
    assert {kind for kind, entry in found[HUMANS].items() if entry["value"] is not None} == {"mean"}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "scores",
    [
        {"a": [1, 2], "b": [2, 1], "judge:j": [1, 2]},
        {"a": [1, 2, 3, 4], "judge:j": [None] * 4 + [1]},
        {"judge:j": [1, 2, 3, 4], "judge:k": [2, 3, 4, 1]},
    ],
    ids=["two items", "nothing in common", "no humans"],
)
def test_what_too_little_is_known_of_is_undefined(scores):
    found = of(ratings_of(scores))
    undefined = [entry for part in found.values() for kind, entry in part.items() if kind[:4] != "mean"]
    assert {entry["value"] for entry in undefined} == {None}
    assert max(entry["n"] for entry in undefined) < 3


def test_sums_that_differ_in_their_last_digit_are_ties():
    third = [0.1, 0.2, 0.3, 0.1], [0.2, 0.3, 0.1, 0.3], [0.3, 0.1, 0.2, 0.2]
    found = of(ratings_of(dict(zip("abc", third, strict=True)) | {"judge:j": [1, 2, 3, 4]}))
    assert len({sum(column) for column in zip(*third, strict=True)}) > 1
    assert found["judge:j"]["spearman"]["value"] is None


def test_one_human_can_be_compared_with_a_judge_and_with_nobody_else():
    found = of(ratings_of({"a": [1, 2, 3, 4, 2], "judge:j": [1, 3, 3, 4, 1]}))
    assert found["judge:j"]["spearman"]["value"] == pytest.approx(stats.spearmanr([1, 2, 3, 4, 2], [1, 3, 3, 4, 1])[0])
    assert found[HUMANS]["krippendorff_alpha"]["value"] is found[HUMANS]["ceiling_pearson"]["value"] is None


def test_a_constant_group_does_not_count_in_the_average_over_groups():
    scores = random_scores(4, items=60)
    for rater in scores:
        scores[rater][:20] = [2.0] * 20
    entry = of(ratings_of(scores, group=lambda item: f"g{item // 20}"))["judge:j"]["pearson_by_group"]
    assert entry["n"] == 40
    assert 0 < entry["low"] < entry["value"] < entry["high"] < 1


def test_a_group_that_agrees_perfectly_has_no_finite_z_so_the_average_is_undefined():
    scores = {"a": [1, 2, 3, 1, 3, 2, 4], "judge:j": [1, 2, 3, 2, 3, 1, 4]}
    entry = of(ratings_of(scores, group=lambda item: "g1" if item < 3 else "g2"))["judge:j"]["pearson_by_group"]
    assert entry["value"] is None


def test_intervals_cover_the_value_and_are_the_same_for_the_same_seed():
    ratings = ratings_of(random_scores(5), group=lambda item: f"g{item % 3}")
    first = of(ratings, seed=7)
    assert first == of(ratings, seed=7)
    assert first != of(ratings, seed=8)
    for part in first.values():
        for kind, entry in part.items():
            assert entry["low"] <= entry["value"] <= entry["high"], kind


def test_intervals_are_those_of_scipy_s_bootstrap_but_for_chance():
    scores = random_scores(6, items=150)
    entry = of(ratings_of(scores), number=2000)["judge:j"]["pearson"]
    judge, mean = np.array(scores["judge:j"], dtype=float), matrix(scores).mean(axis=0)
    low, high = stats.bootstrap(
        (judge, mean),
        lambda x, y, axis: stats.pearsonr(x, y, axis=axis)[0],
        paired=True,
        n_resamples=2000,
        method="percentile",
        rng=0,
    ).confidence_interval
    assert (entry["low"], entry["high"]) == (pytest.approx(low, abs=0.02), pytest.approx(high, abs=0.02))


def test_one_more_judge_or_dimension_leaves_the_other_figures_alone():
    scores = random_scores(8)
    alone = of(ratings_of(scores))
    more = of([*ratings_of(scores | {"judge:other": scores["human-0"]}), *ratings_of(scores, "fulfilment")])
    assert {who: more[who] for who in alone} == alone


def test_resampling_whole_groups_widens_the_interval_where_items_of_a_group_are_alike():
    rng = np.random.default_rng(9)
    post = np.repeat(rng.integers(0, 5, 12), 10)
    scores = {name: np.clip(post + rng.integers(0, 2, 120), 0, 5).astype(float) for name in ("a", "b", "judge:j")}
    ratings = ratings_of(scores, group=lambda item: f"post-{item // 10}")
    items, groups = of(ratings)["judge:j"]["mean"], of(ratings, whole_groups=True)["judge:j"]["mean"]
    assert groups["value"] == items["value"]
    assert groups["high"] - groups["low"] > 1.5 * (items["high"] - items["low"])


def test_the_scale_may_be_halves_or_samples_of_a_judge_averaged():
    a, b = [0, 0.5, 1, 1, 0.5, 0], [0.5, 0.5, 1, 0, 0.5, 0]
    kappa = of(ratings_of({"a": a, "b": b}))[HUMANS]["cohen_kappa_quadratic"]["value"]
    doubled = [[int(2 * score) for score in row] for row in (a, b)]
    assert kappa == pytest.approx(cohen_kappa_score(*doubled, weights="quadratic"))
    uneven = of(ratings_of({"a": a, "judge:j": [0, 2**0.5, 1, 1, 3**0.5, 0]}))["judge:j"]
    assert uneven["cohen_kappa_quadratic"]["value"] is None
    assert uneven["pearson"]["value"] is not None
