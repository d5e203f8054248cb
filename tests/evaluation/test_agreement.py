"""Agreement of judges with raters: every figure against SciPy, scikit-learn, statsmodels and krippendorff."""

from __future__ import annotations

import numpy as np
import pytest
from fakes.rating_tables import assert_inside, of, random_scores, ratings_of
from scipy import stats

pytest.importorskip("krippendorff")
pytest.importorskip("sklearn")
pytest.importorskip("statsmodels")

import krippendorff
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa

from ier1_plugin.evaluation.agreement.agreement import HUMANS
from ier1_plugin.evaluation.agreement.measures import kendalls


def matrix(scores: dict[str, list[float | None]]) -> np.ndarray:
    """[humans, items], nan where not rated."""
    return np.array([row for name, row in scores.items() if not name.startswith("judge:")], dtype=float)


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
    assert {kind for kind, entry in found[HUMANS].items() if entry["value"]} == {"mean"}


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
    undefined = [entry for part in found.values() for kind, entry in part.items() if kind[:4] not in ("mean", "grou")]
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


def test_intervals_cover_the_value_and_are_the_same_for_the_same_seed():
    ratings = ratings_of(random_scores(5), group=lambda item: f"g{item % 3}")
    first = of(ratings, seed=7)
    assert first == of(ratings, seed=7)
    assert first != of(ratings, seed=8)
    for part in first.values():
        for kind, entry in part.items():
            if not kind.startswith("groups"):
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


def test_the_scale_may_be_halves_or_samples_of_a_judge_averaged():
    a, b = [0, 0.5, 1, 1, 0.5, 0], [0.5, 0.5, 1, 0, 0.5, 0]
    kappa = of(ratings_of({"a": a, "b": b}))[HUMANS]["cohen_kappa_quadratic"]["value"]
    doubled = [[int(2 * score) for score in row] for row in (a, b)]
    assert kappa == pytest.approx(cohen_kappa_score(*doubled, weights="quadratic"))


@pytest.mark.parametrize("values", [(4, 6, 9), (0, 2, 3.5), (0, 3, 10)])
def test_ratings_that_lie_unevenly_on_their_scale_have_the_weighted_kappa_of_the_whole_scale(values):
    rng = np.random.default_rng(12)
    a = rng.choice(values, 50)
    b = np.where(rng.random(50) < 0.6, a, rng.choice(values, 50))
    entry = of(ratings_of({"a": a.tolist(), "b": b.tolist()}))[HUMANS]["cohen_kappa_quadratic"]
    halves = [(2 * row).astype(int) for row in (a, b)]
    expected = cohen_kappa_score(*halves, labels=range(21), weights="quadratic")
    assert (entry["value"], entry["n"]) == (pytest.approx(expected, abs=1e-12), 50)
    assert_inside(entry)


def test_weighted_kappa_needs_no_scale_at_all():
    a, b = [0, 0.5, 1, 1, 0.5, 0], [0, 2**0.5, 1, 1, 3**0.5, 0]
    entry = of(ratings_of({"a": a, "judge:j": b}))["judge:j"]["cohen_kappa_quadratic"]
    # with quadratic weights kappa is the concordance correlation (Fleiss and Cohen, 1973; Lin, 1989)
    spread = np.var(a) + np.var(b) + (np.mean(a) - np.mean(b)) ** 2
    assert entry["value"] == pytest.approx(2 * np.cov(a, b, bias=True)[0, 1] / spread)
    assert entry["n"] == 6


def test_one_item_or_one_whole_group_has_no_interval():
    alone = of(ratings_of({"a": [2.0], "b": [3.0], "judge:j": [2.0]}))
    for part, mean in (("judge:j", 2.0), (HUMANS, 2.5)):
        assert alone[part]["mean"] == {"value": mean, "low": None, "high": None, "n": 1}
    ratings = ratings_of(random_scores(5), group=lambda item: "the only one")
    found = of(ratings, whole_groups=True)
    for part in found.values():
        for kind, entry in part.items():
            assert entry["low"] is entry["high"] is None, kind
            assert entry["value"] is not None, kind
    assert_inside(of(ratings)["judge:j"]["spearman"])


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_kendalls_tau_of_many_resamples_is_scipy_s(missing):
    rng = np.random.default_rng(13)
    x, y = (np.where(rng.random(40) < missing, np.nan, rng.integers(0, 5, 40)) for _ in range(2))
    picks = rng.integers(40, size=(200, 40))
    picks[0] = picks[0, 0]
    expected = []
    for row in picks:
        both = ~np.isnan(x[row] + y[row])
        expected.append(stats.kendalltau(x[row][both], y[row][both])[0] if both.any() else np.nan)
    assert kendalls(x, y, picks) == pytest.approx(np.array(expected, dtype=float), abs=1e-12, nan_ok=True)
    assert np.isnan(kendalls(x, y, picks)[0])


def test_the_json_alone_has_what_a_report_shows_beside_the_paper_s_table_3():
    found = of(ratings_of(random_scores(14), group=lambda item: f"g{item % 3}"))
    judge = {"mean", "mean_difference", "pearson", "spearman", "kendall", "cohen_kappa_quadratic", "spearman_by_group"}
    humans = {"mean", "krippendorff_alpha", "fleiss_kappa", "ceiling_pearson", "ceiling_spearman", "ceiling_kendall"}
    for part, kinds in (("judge:j", judge), (HUMANS, humans | {"ceiling_spearman_by_group"})):
        for kind in kinds:
            assert found[part][kind]["n"] == 60
            assert_inside(found[part][kind])
