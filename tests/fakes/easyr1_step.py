"""GRPO by EasyR1's own dataset, worker, reward manager and loss in one process, without Ray and without a GPU.

    python tests/fakes/easyr1_step.py MODEL ROWS.parquet REPORT.json key=value ...

takes one step on the plugin's reward and one on a reward that a random model can earn, saves a checkpoint beside the
report and writes what happened. `verl` is the one that the environment offers: the installed one, or the source on
PYTHONPATH. A process of its own, since the stand-ins can't be taken back.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from fakes.chat_fakes import free_port
from fakes.easyr1 import dataset, reward_manager

LETTERS_REWARD = '''
"""Share of lower-case letters: a random model can earn it, and samples differ in it."""
REWARD_TYPE = "batch"


def compute_score(reward_inputs):
    shares = [sum(map(str.islower, row["response"])) / max(1, len(row["response"])) for row in reward_inputs]
    return [{"overall": share, "letters": share} for share in shares]
'''
PROMPTS, SAMPLES = 4, 4
# packed (padding_free), sdpa would need one mask over the tokens of all sequences
SETTINGS = f"""
data: {{max_prompt_length: 480, max_response_length: 16, rollout_batch_size: {PROMPTS},
       min_pixels: 784, max_pixels: 50176}}
algorithm: {{adv_estimator: grpo, use_kl_loss: true, kl_penalty: low_var_kl}}
worker:
  actor: {{global_batch_size: {PROMPTS}, micro_batch_size_per_device_for_update: 16, padding_free: false,
          micro_batch_size_per_device_for_experience: 16, optim: {{lr: 0.001}}, fsdp: {{mp_param_dtype: fp32}}}}
  ref: {{fsdp: {{mp_param_dtype: fp32, torch_dtype: fp32}}}}
  rollout: {{dtype: fp32, n: {SAMPLES}, disable_tqdm: true}}
"""


def start() -> None:
    """Arms the stand-ins and plays rank 0 of 1."""
    from ier1_plugin.training import cpu

    cpu.install()
    rank = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
    os.environ.update(rank | {"MASTER_PORT": str(free_port())})


def load_config(model: str, overrides: list[str]) -> Any:
    """EasyR1's PPOConfig with SETTINGS, the values that the CPU needs, and `key=value` overrides."""
    from omegaconf import OmegaConf
    from verl.trainer.config import PPOConfig

    from ier1_plugin.training.cpu.guard import REQUIRED_CONFIG
    from ier1_plugin.training.easyr1 import defaults

    config: Any = OmegaConf.merge(OmegaConf.structured(PPOConfig()), defaults(), OmegaConf.create(SETTINGS))
    for key, value in (REQUIRED_CONFIG | {"worker.actor.model.model_path": model}).items():
        OmegaConf.update(config, key, value)
    config = OmegaConf.to_object(OmegaConf.merge(config, OmegaConf.from_dotlist(overrides)))
    config.deep_post_init()
    config.worker.actor.optim.training_steps = 2
    return config


def make_loader(config: Any, rows: str) -> Any:
    """Batches of EasyR1's dataset over a parquet file of rows, in the file's order."""
    from torch.utils.data import DataLoader
    from verl.utils.dataset import collate_fn
    from verl.utils.tokenizer import get_processor, get_tokenizer

    data, model = config.data, config.worker.actor.model.model_path
    readers = get_tokenizer(model, use_fast=True), get_processor(model, use_fast=True)
    limits = {name: getattr(data, name) for name in ("max_prompt_length", "min_pixels", "max_pixels")}
    loaded = dataset(Path(rows), *readers, **limits)
    return DataLoader(loaded, batch_size=data.rollout_batch_size, drop_last=True, collate_fn=collate_fn)


def make_reward(config: Any, file: Path | None = None) -> Any:
    """The reward manager of this EasyR1, for the config's function or for `compute_score` in `file`."""
    from copy import copy

    from verl.utils.tokenizer import get_tokenizer

    settings = copy(config.worker.reward)
    if file is not None:
        settings.reward_function, settings.reward_function_name = str(file), "compute_score"
    return reward_manager()(settings, get_tokenizer(config.worker.actor.model.model_path, use_fast=True))


def grpo_step(worker: Any, reward: Any, config: Any, rows: dict[str, Any]) -> dict[str, float]:
    """One step as in EasyR1's trainer: rollout, old and reference log probabilities, reward, advantage, update."""
    import numpy as np
    from verl.protocol import DataProto
    from verl.trainer.core_algos import AdvantageEstimator
    from verl.trainer.metrics import reduce_metrics
    from verl.trainer.ray_trainer import compute_advantage

    pixels = {"min_pixels": config.data.min_pixels, "max_pixels": config.data.max_pixels, "video_fps": 2.0}
    batch: Any = DataProto.from_single_dict(dict(rows), meta_info=dict(pixels))
    batch.non_tensor_batch["uid"] = np.array([str(index) for index in range(len(batch))], dtype=object)
    prompts = batch.pop(
        batch_keys=["input_ids", "attention_mask", "position_ids"],
        non_tensor_batch_keys=["raw_prompt_ids", "multi_modal_data"],
        meta_info_keys=list(pixels),
    )
    worker.prepare_rollout_engine()
    responses = worker.generate_sequences(prompts)
    worker.release_rollout_engine()
    batch = batch.repeat(config.worker.rollout.n, interleave=True).union(responses)
    batch.meta_info["global_token_num"] = batch.batch["attention_mask"].sum(-1).tolist()
    batch = batch.union(worker.compute_log_probs(batch))
    batch = batch.union(worker.compute_ref_log_probs(batch))
    scores, metrics = reward.compute_reward(batch)
    batch.batch["token_level_scores"] = batch.batch["token_level_rewards"] = scores
    batch = compute_advantage(batch, adv_estimator=AdvantageEstimator.GRPO)
    update = reduce_metrics(worker.update_actor(batch).non_tensor_batch)
    rewards = {f"reward/{name}": values for name, values in reduce_metrics(metrics).items()}
    return {name: float(value) for name, value in (rewards | update).items()}


def synchronisation(worker: Any, model: str) -> dict[str, float]:
    """Largest change of a weight since `model`, and largest difference between actor and rollout after a sync."""
    from safetensors.torch import load_file
    from torch.distributed.fsdp import FullyShardedDataParallel as FSDP

    worker.prepare_rollout_engine()
    worker.release_rollout_engine()
    rollout = worker.rollout.inference_engine.model.state_dict()
    start = load_file(Path(model) / "model.safetensors")
    with FSDP.summon_full_params(worker.fsdp_module, writeback=False):
        actor = worker.fsdp_module._fsdp_wrapped_module
        if hasattr(actor, "merge_adapter"):
            actor.merge_adapter()
        weights = {_plain(name): weight.detach().float() for name, weight in actor.named_parameters()}
        weights = {name: weight for name, weight in weights.items() if name in rollout}
        # names as in the checkpoint -> names as in the model
        rename = worker.rollout.inference_engine._weights.module_name
        moved = max(_distance(weights[rename(name)], weight) for name, weight in start.items())
        return {"moved": moved, "apart": max(_distance(weights[name], rollout[name]) for name in weights)}


def main(model: str, rows: str, report: str, overrides: list[str]) -> None:
    start()
    from verl.workers.fsdp_workers import FSDPWorker

    config = load_config(model, overrides)
    worker = FSDPWorker(config=config.worker, role="actor_rollout_ref")
    worker.init_model()
    batches = list(make_loader(config, rows))
    letters = Path(report).with_name("letters_reward.py")
    letters.write_text(LETTERS_REWARD)
    found: dict[str, Any] = {"plugin": grpo_step(worker, make_reward(config), config, batches[0])}
    found["letters"] = grpo_step(worker, make_reward(config, letters), config, batches[1])
    worker.save_checkpoint(str(Path(report).with_name("actor")))
    found["weights"] = synchronisation(worker, model)
    Path(report).write_text(json.dumps(found))


def _distance(left: Any, right: Any) -> float:
    return float((left.float() - right.float()).abs().max())


def _plain(name: str) -> str:
    for part in ("_fsdp_wrapped_module.", "base_model.model.", "base_layer."):
        name = name.replace(part, "")
    return name


if __name__ == "__main__":
    main(*sys.argv[1:4], overrides=sys.argv[4:])
