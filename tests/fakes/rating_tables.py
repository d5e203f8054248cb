"""Made-up ratings: raters and a judge who see the same truth through noise.

ratings_of({"rater-1": [3, 2, None], "judge:j": [3, 1, 0]})    # five Ratings of items "0", "1" and "2"
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from ier1_plugin.evaluation.agreement.agreement import Resampling, agreement
from ier1_plugin.evaluation.agreement.ratings import Rating


def ratings_of(
    scores: Mapping[str, Iterable[float | None]],
    dimension: str = "quality",
    group: Callable[[int], str] = lambda item: "",
) -> list[Rating]:
    """Ratings of items 0, 1, 2 ... by rater; None: not rated."""
    return [
        Rating(str(item), rater, dimension, score, group(item))
        for rater, row in scores.items()
        for item, score in enumerate(row)
        if score is not None
    ]


def random_scores(seed: int, raters: int = 3, items: int = 60, missing: float = 0.0) -> dict[str, list[float | None]]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 5, items)
    names = [*(f"human-{number}" for number in range(raters)), "judge:j"]
    noisy = {name: np.clip(truth + rng.integers(-1, 2, items), 0, 4) for name in names}
    return {name: [None if rng.random() < missing else float(score) for score in row] for name, row in noisy.items()}


def of(ratings: list[Rating], dimension: str = "quality", number: int = 100, **more: Any) -> dict[str, Any]:
    """The agreement on one dimension."""
    return agreement(ratings, Resampling(number, **more))[dimension]


def assert_inside(entry: dict[str, Any]) -> None:
    """The value has an interval around it."""
    assert entry["low"] < entry["value"] < entry["high"]
