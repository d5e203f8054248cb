"""What is recorded of a training run, beside and inside its checkpoints.

    config = read_run_config(run / "global_step_80")      EasyR1's config, or verl's, as nested dicts
    find_budget(config, None, None)            -> (3136, 1003520)
    find_prompt(config, None)                  -> Path(".../ier1_plugin/prompts/decompose.jinja")
    read_rollout(actor / "huggingface")        -> "vllm", or "cpu-standin"

EasyR1 keeps its config in the checkpoint folder only with `logger=["file"]`; the launcher leaves `ier1_config.yaml`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ier1_plugin import prompts
from ier1_plugin.training.checkpoint import CheckpointError, read_json

# the launcher's, in `trainer.save_checkpoint_path` and in each of its steps, then that of EasyR1's file logger
RUN_CONFIG = "ier1_config.yaml"
RUN_CONFIGS = (RUN_CONFIG, "experiment_config.json")
VLLM, CPU_STANDIN = "vllm", "cpu-standin"
# written by the CPU stand-ins beside the policy's config
ROLLOUT_MARK = "rollout.json"
# EasyR1's names for the precision of a rollout (verl/utils/torch_dtypes.py)
DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}

# EasyR1's name of what is read here and looked at before a run -> that of upstream verl
VERL_NAMES = {
    "data.train_files": "data.train_files",
    "data.val_files": "data.val_files",
    "data.prompt_key": "data.prompt_key",
    "data.answer_key": "data.answer_key",
    "data.image_key": "data.image_key",
    "data.format_prompt": "data.format_prompt",
    "data.min_pixels": "data.min_pixels",
    "data.max_pixels": "data.max_pixels",
    "data.max_prompt_length": "data.max_prompt_length",
    "data.max_response_length": "data.max_response_length",
    "data.filter_overlong_prompts": "data.filter_overlong_prompts",
    "data.rollout_batch_size": "data.train_batch_size",
    "worker.actor.model.model_path": "actor_rollout_ref.model.path",
    "worker.actor.model.trust_remote_code": "actor_rollout_ref.model.trust_remote_code",
    "worker.rollout.n": "actor_rollout_ref.rollout.n",
    "worker.rollout.dtype": "actor_rollout_ref.rollout.dtype",
    "worker.rollout.temperature": "actor_rollout_ref.rollout.temperature",
    "worker.actor.global_batch_size": "actor_rollout_ref.actor.ppo_mini_batch_size",
    "worker.actor.optim.lr": "actor_rollout_ref.actor.optim.lr",
    "worker.actor.model.lora.rank": "actor_rollout_ref.model.lora_rank",
    "algorithm.adv_estimator": "algorithm.adv_estimator",
    "algorithm.kl_coef": "actor_rollout_ref.actor.kl_loss_coef",
    "worker.reward.reward_function_kwargs": "reward.custom_reward_function.reward_kwargs",
    "trainer.save_checkpoint_path": "trainer.default_local_dir",
    "trainer.max_steps": "trainer.total_training_steps",
    "trainer.total_epochs": "trainer.total_epochs",
    "trainer.nnodes": "trainer.nnodes",
    "trainer.n_gpus_per_node": "trainer.n_gpus_per_node",
    "trainer.project_name": "trainer.project_name",
    "trainer.experiment_name": "trainer.experiment_name",
    "trainer.logger": "trainer.logger",
}


def read_run_config(step: Path, file: Path | None = None) -> dict[str, Any]:
    """The EasyR1 config that a step was trained with, as nested dicts; {} if there is none.

    From `file`, else from the folder of the step (`global_step_80`), else from the run's folder that it lies in.
    """
    folders = [step, step.parent] if step.name.startswith("global_step_") else [step]
    places = [folder / name for folder in folders for name in RUN_CONFIGS]
    files = [file] if file else [place for place in places if place.is_file()]
    if not files:
        return {}
    from omegaconf import OmegaConf

    try:
        config = OmegaConf.to_container(OmegaConf.load(files[0]))
    except OSError as error:
        raise CheckpointError(f"config {files[0]} can't be read ({error.strerror})") from None
    except Exception as error:  # yaml and omegaconf each raise their own
        reason = str(error).strip().split("\n")[0]
        raise CheckpointError(f"config {files[0]} is not YAML ({reason})") from None
    if not isinstance(config, dict):
        raise CheckpointError(f"config {files[0]} holds no keys; wanted EasyR1's, such as data.max_pixels")
    return {str(key): value for key, value in config.items()}


def look_up(config: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted `key` in nested dicts, under EasyR1's name or verl's; None if it is not there."""
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    other = VERL_NAMES.get(key, key)
    return look_up(config, other) if value is None and other != key else value


def find_budget(config: Mapping[str, Any], min_pixels: int | None, max_pixels: int | None) -> tuple[int, int]:
    """The pixel budget of the training: the argument, else `data.min_pixels` and `data.max_pixels`."""
    low = look_up(config, "data.min_pixels") if min_pixels is None else min_pixels
    high = look_up(config, "data.max_pixels") if max_pixels is None else max_pixels
    if low is None or high is None:
        wanted = "pass --min-pixels and --max-pixels, or --config with the YAML of the run"
        raise CheckpointError(f"the pixel budget of the training is not in the checkpoint; {wanted}")
    if type(low) is not int or type(high) is not int or not 0 < low <= high:
        raise CheckpointError(f"wanted 0 < min_pixels <= max_pixels, got {low} and {high}")
    return low, high


def find_prompt(config: Mapping[str, Any], file: Path | None) -> Path:
    """The prompt file of the training: the argument, else `data.format_prompt`, else the one of this package."""
    own = prompts.path("decompose")
    trained_with = look_up(config, "data.format_prompt")
    prompt = file or Path(trained_with or own)
    if not prompt.is_file() and file is None and prompt.name == own.name:
        # the run was elsewhere, with the package installed at another path
        return own
    if not prompt.is_file():
        raise CheckpointError(f"no prompt file {prompt}, which the training used; name it with --prompt")
    return prompt


def find_dtype(config: Mapping[str, Any], name: str | None) -> str:
    """The weights' dtype: the argument, else that of the rollouts, in which the policy acted; EasyR1's is bfloat16."""
    rollout = str(look_up(config, "worker.rollout.dtype") or "bf16")
    dtype = name or DTYPES.get(rollout, rollout)
    if dtype not in DTYPES.values():
        raise CheckpointError(f"worker.rollout.dtype is {rollout}; name the dtype of the weights with --dtype")
    return dtype


def read_rollout(huggingface: Path) -> str:
    """What generated the responses: the CPU stand-in leaves a mark, EasyR1's vLLM none."""
    mark = huggingface / ROLLOUT_MARK
    return str(read_json(mark).get("rollout", VLLM)) if mark.is_file() else VLLM
