"""One of upstream verl's reward workers, with all samples at once on its event loop.

    .venv-verl/bin/python tests/fakes/verl_reward_worker.py < job.json

Runs in the environment of upstream verl. The job: `model` (a folder with a tokenizer), `reward` (the section
`reward.custom_reward_function`), and `samples` of (response, ground truth). The last line that it prints are the
results in their order: what the worker hands to the rollout, or the error that it raises.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from verl import DataProto  # pyright: ignore[reportAttributeAccessIssue]  # upstream, not EasyR1
from verl.experimental.reward_loop.reward_loop import RewardLoopWorker


async def main(job: dict[str, Any]) -> list[Any]:
    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose("ppo_trainer")
    OmegaConf.set_struct(config, False)
    config.actor_rollout_ref.model.path = job["model"]
    config.reward.custom_reward_function = job["reward"]
    worker = RewardLoopWorker(config)

    def sample(response: str, truth: str) -> DataProto:
        ids = torch.tensor([worker.input_tokenizer.encode(response)], dtype=torch.long)
        # one token of a prompt before it
        mask = torch.ones(1, ids.shape[1] + 1, dtype=torch.long)
        columns = {"data_source": "imageedit_r1", "reward_model": {"ground_truth": truth}, "extra_info": {}}
        arrays = {name: np.array([value], dtype=object) for name, value in columns.items()}
        return DataProto.from_dict({"responses": ids, "attention_mask": mask}, non_tensors=arrays)

    calls = [worker.compute_score(sample(*one)) for one in job["samples"]]
    results = await asyncio.gather(*calls, return_exceptions=True)
    return [f"{type(one).__name__}: {one}" if isinstance(one, BaseException) else one for one in results]


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(json.load(sys.stdin)))))
