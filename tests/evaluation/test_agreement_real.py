"""Agreement on real ratings, three humans and GPT-4o: figures of the libraries called directly, and published ones."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.rating_tables import assert_inside
from scipy import stats

pytest.importorskip("krippendorff")
pytest.importorskip("sklearn")
pytest.importorskip("statsmodels")

import krippendorff
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa

from ier1_plugin.evaluation.agreement.agreement import HUMANS, Resampling, agreement
from ier1_plugin.evaluation.agreement.ratings import Rating

SHARED = Path(os.environ.get("IER1_SHARED_DATA") or Path(__file__).parents[2] / "../shared/data")
REAL = SHARED / "imagenhub_viescore/text_guided_ie_human_x_gpt4o.jsonl"
needs_real_data = pytest.mark.skipif(
    not REAL.is_file(), reason=f"the real ratings are not in {SHARED}; set IER1_SHARED_DATA"
)
GPT_4O = "judge:gpt-4o"
HUMAN_PAIRS = (("rater-1", "rater-2"), ("rater-1", "rater-3"), ("rater-2", "rater-3"))
# pooled Spearman over all 1,432 rows: of GPT-4o with the mean human, and of HUMAN_PAIRS
OF_ALL_ROWS = {
    "O": (0.589, (0.725, 0.657, 0.728)),
    "SC": (0.650, (0.728, 0.668, 0.747)),
    "PQ": (0.548, (0.653, 0.556, 0.633)),
}


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
    found = agreement([rating for rating in real_ratings if rating.dimension == dimension], Resampling(2))[dimension]
    scores = scores_by_rater(real_ratings, dimension)
    judge = scores.pop(GPT_4O)
    humans = np.stack(list(scores.values()))
    # the same three ratings in another order add up to a sum that differs in its last digit, and still are a tie
    mean = humans.mean(axis=0).round(12)
    rest = [np.delete(humans, row, 0).mean(0).round(12) for row in range(3)]
    ceiling = np.array([stats.spearmanr(humans[row], rest[row])[0] for row in range(3)], dtype=float)
    of_judge: dict[str, Any] = {
        "pearson": stats.pearsonr(judge, mean)[0],
        "spearman": stats.spearmanr(judge, mean)[0],
        "kendall": stats.kendalltau(judge, mean)[0],
        "mean_difference": (judge - mean).mean(),
    }
    of_humans: dict[str, Any] = {
        "krippendorff_alpha": krippendorff.alpha(reliability_data=humans, level_of_measurement="ordinal"),
        "fleiss_kappa": fleiss_kappa(aggregate_raters(humans.T)[0]),
        "ceiling_spearman": np.mean(ceiling),
    }
    if dimension != "O":

        def kappa(a: np.ndarray, b: np.ndarray) -> float:
            return cohen_kappa_score(*((2 * row).astype(int) for row in (a, b)), labels=range(21), weights="quadratic")

        of_judge["cohen_kappa_quadratic"] = np.mean([kappa(judge, human) for human in humans])
        of_humans["cohen_kappa_quadratic"] = np.mean([kappa(a, b) for a, b in combinations(humans, 2)])
    for part, expected in ((GPT_4O, of_judge), (HUMANS, of_humans)):
        for kind, value in expected.items():
            assert found[part][kind]["value"] == pytest.approx(float(value), abs=1e-9), (part, kind)
            assert found[part][kind]["n"] == len(judge)


@needs_real_data
@pytest.mark.slow
def test_on_real_ratings_spearman_is_in_line_with_that_of_all_1432_rows(real_ratings):
    """Each of the twelve figures of all rows lies inside the 95 % bootstrap interval of its counterpart here.

    REAL has n of those N rows, so a figure here differs from that of all rows by sqrt(1 - n/N) of its standard error:
    the interval is +-2.8 standard errors of the difference for 744 of 1,432, and one of twelve figures falls outside by
    chance at most once in 17 times. Nothing was left out or tuned.
    """
    for dimension, (of_judge, of_pairs) in OF_ALL_ROWS.items():
        ratings = [replace(rating, group="") for rating in real_ratings if rating.dimension == dimension]
        figures = [(ratings, of_judge)]
        for (one, other), published in zip(HUMAN_PAIRS, of_pairs, strict=True):
            # the other human in the place of the judge
            judge = [replace(rating, rater=f"judge:{other}") for rating in ratings if rating.rater == other]
            figures.append(([*judge, *(rating for rating in ratings if rating.rater == one)], published))
        for part, published in figures:
            entry = next(iter(agreement(part, Resampling(200))[dimension].values()))["spearman"]
            assert entry["low"] <= published <= entry["high"], (dimension, published, entry)


@needs_real_data
def test_on_real_ratings_averages_by_group_are_fisher_averages_of_the_correlations_within_each_system(real_ratings):
    ratings = [rating for rating in real_ratings if rating.dimension == "SC"]
    scores = scores_by_rater(ratings, "SC")
    judge, humans = scores.pop(GPT_4O), np.stack(list(scores.values()))
    groups = np.array([rating.group for rating in ratings if rating.rater == GPT_4O])

    def fisher(one: np.ndarray, other: np.ndarray) -> float:
        places = [groups == name for name in set(groups) if one[groups == name].any()]
        within = np.array([stats.kendalltau(one[place], other[place].round(12))[0] for place in places], dtype=float)
        return float(np.tanh(np.arctanh(within).mean()))

    found = agreement(ratings, Resampling(50))["SC"]
    ceiling = np.mean([fisher(own, np.delete(humans, row, 0).mean(0)) for row, own in enumerate(humans)])
    for entry, expected in (
        (found[GPT_4O]["kendall_by_group"], fisher(judge, humans.mean(0))),
        (found[HUMANS]["ceiling_kendall_by_group"], ceiling),
    ):
        assert entry["value"] == pytest.approx(expected, abs=1e-12)
        assert_inside(entry)
    assert found[HUMANS]["groups"] == {"value": 8, "low": None, "high": None, "n": 744}
