"""Reward of the decomposition agent by what its plan does to the photo: rendered by an editor, scored by a judge.

    compute_score([{"response": "<think> ... </goals>", "response_length": 61,
                    "ground_truth": '{"case": {"id": "psr-1a2b", "request": "...", "image": "5f0c....jpg"}}'}],
                  editor="images-api:http://127.0.0.1:8100/v1#editor", judge="openai:http://127.0.0.1:8101/v1#judge",
                  image_root="rl/images", store="checkpoints/run/pictures")
    -> [{"overall": 0.86, "score": 0.86, "format": 1.0, "picture": 0.81, "renders": 1.0, ...}]

In EasyR1's dialect: `worker.reward.reward_function=reward_fns/picture.py:compute_score`; in verl's:
`reward.custom_reward_function.path=reward_fns/picture.py`, `.name=score_one`. Rows come from the builder with
`--case-images`; a gold decomposition is not needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ier1_plugin.evaluation.picture import PictureReward, PictureSettings, Weights

REWARD_NAME = "imageedit_r1_picture"
REWARD_TYPE = "batch"
# what it reads of an answer, for the checks before a training
NEEDS = "case"
_rewards: dict[str, PictureReward] = {}


def compute_score(
    reward_inputs: list[dict[str, Any]],
    *,
    editor: str,
    judge: str,
    store: str,
    image_root: str | Sequence[str],
    **options: Any,
) -> list[dict[str, float]]:
    """Scores a batch; `overall` is the weighted mean of the parts, unless `normalise="components"`.

    `options`: `format_weight`, `action_weight`, `subject_weight`, `goal_weight`, `picture_weight`, `goal_match`,
    `normalise`, and further fields of `PictureSettings`. Words have no weight in a row without gold. ValueError: a row
    without a case, or settings that can't be used; EvaluationError: too many samples could not be rendered or judged.
    """
    return _reward(editor, judge, store, image_root, **options)(reward_inputs)


async def score_one(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: dict[str, Any] | None = None,
    *,
    editor: str,
    judge: str,
    store: str,
    image_root: str | Sequence[str],
    reward_router_address: str | None = None,
    reward_model_tokenizer: Any = None,
    **options: Any,
) -> dict[str, float]:
    """Scores one sample, as verl asks: the `score` and parts that `compute_score` gives it, without what needs its
    group. What else verl passes is not used.

    EvaluationError: the sample could not be rendered or judged; verl leaves it out of its group.
    """
    return await _reward(editor, judge, store, image_root, **options).score_one(solution_str, ground_truth)


def check(**kwargs: Any) -> None:
    """Asks the editor and the judge a question. `kwargs` as above. UserError: one of them gave no answer."""
    _reward(**kwargs).check()


def _reward(
    editor: str,
    judge: str,
    store: str,
    image_root: str | Sequence[str],
    format_weight: float = 1.0,
    action_weight: float = 1.0,
    subject_weight: float = 1.0,
    goal_weight: float = 1.0,
    picture_weight: float = 3.0,
    goal_match: str = "exact",
    normalise: str = "",
    **settings: Any,
) -> PictureReward:
    """The one reward of these settings in this process."""
    folders = (image_root,) if isinstance(image_root, str) else tuple(image_root)
    weights = Weights(
        format_weight, action_weight, subject_weight, goal_weight, picture_weight, goal_match, normalise or ""
    )
    wanted = PictureSettings(editor=editor, judge=judge, store=store, image_root=folders, **settings)
    key = repr((wanted, weights))
    if key not in _rewards:
        _rewards[key] = PictureReward(wanted, weights)
    return _rewards[key]
