"""Reward of the decomposition agent: format, and set-F1 of actions, subjects and goals (paper, section 2.2).

    compute_score([{"response": "<think> ... </goals>", "response_length": 61,
                    "ground_truth": '{"actions": ["Delete"], "subjects": ["lamp"], "goals": []}'}])
    -> [{"overall": 1.0, "format": 1.0, "action": 1.0, "subject": 1.0, "goal": 1.0}]

In EasyR1's dialect: `worker.reward.reward_function=reward_fns/decomposition.py:compute_score`, weights through
`worker.reward.reward_function_kwargs`. In verl's: `reward.custom_reward_function.path=reward_fns/decomposition.py`,
`.name=score_one`, weights through `.reward_kwargs`.
"""

from __future__ import annotations

from typing import Any

from ier1_plugin.task.rows import read_gold, read_truth
from ier1_plugin.task.scoring import GOAL_MATCHES, score_response

REWARD_NAME = "imageedit_r1"
# EasyR1 0.3.3 reads this; 0.3.2 reads worker.reward.reward_type, whose default is batch as well
REWARD_TYPE = "batch"
# what it reads of an answer, for the checks before a training
NEEDS = "gold"


def compute_score(
    reward_inputs: list[dict[str, Any]],
    format_weight: float = 1.0,
    action_weight: float = 1.0,
    subject_weight: float = 1.0,
    goal_weight: float = 1.0,
    goal_match: str = "exact",
) -> list[dict[str, float]]:
    """Scores a batch; `overall` is the weighted mean of the parts, all in [0, 1].

    A weight of 0 takes a part out of `overall` and still logs it. A bad response scores low and never raises.
    ValueError: a negative weight, all weights 0, an unknown `goal_match`, or a ground truth that can't be read.
    """
    weights = {"format": format_weight, "action": action_weight, "subject": subject_weight, "goal": goal_weight}
    if not all(weight >= 0 for weight in weights.values()) or not 0 < sum(weights.values()) < float("inf"):
        raise ValueError(f"reward weights must be >= 0, finite and not all 0, got {weights}")
    if goal_match not in GOAL_MATCHES:
        raise ValueError(f"goal_match={goal_match!r}; known: {', '.join(GOAL_MATCHES)}")
    total = sum(weights.values())
    scores = []
    for position, reward_input in enumerate(reward_inputs):
        gold = read_truth(read_gold, reward_input["ground_truth"], position)
        parts = score_response(reward_input["response"], gold, goal_match)
        scores.append({"overall": sum(weights[name] * value for name, value in parts.items()) / total, **parts})
    return scores


async def score_one(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: dict[str, Any] | None = None,
    *,
    reward_router_address: str | None = None,
    reward_model_tokenizer: Any = None,
    **options: Any,
) -> dict[str, float]:
    """Scores one sample, as verl asks; `score` is what `compute_score` calls `overall`. `options` and ValueError are
    those of `compute_score`; what else verl passes is not used.
    """
    (parts,) = compute_score([{"response": solution_str, "ground_truth": ground_truth}], **options)
    return {"score": parts.pop("overall"), **parts}
