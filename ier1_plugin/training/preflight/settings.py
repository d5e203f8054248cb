"""Settings that EasyR1 refuses, or accepts and then trains something else: numbers, names, lengths.

    data.rollout_batch_size = 100 is not a multiple of worker.actor.global_batch_size = 32: ...

The numbers are compared as `verl/trainer/ray_trainer.py`, `verl/workers/fsdp_workers.py` and `verl/protocol.py` do,
most of which raise only after the models are loaded.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from functools import reduce
from typing import Any

from ier1_plugin.training.preflight.run import Note, Run

POSITIVE = (
    "data.max_prompt_length",
    "data.max_response_length",
    "data.rollout_batch_size",
    "trainer.nnodes",
    "trainer.n_gpus_per_node",
    "trainer.total_epochs",
    "worker.rollout.n",
    "worker.rollout.tensor_parallel_size",
    "worker.actor.global_batch_size",
    "worker.actor.micro_batch_size_per_device_for_update",
    "worker.actor.micro_batch_size_per_device_for_experience",
    "worker.actor.ulysses_size",
    "worker.actor.ppo_epochs",
)
# names that EasyR1 looks up while it runs; `loss_type` it does not even look up: an unknown one trains default PPO
NAMES: dict[str, tuple[str, ...]] = {
    "algorithm.kl_type": ("fixed", "adaptive"),
    "algorithm.kl_penalty": ("kl", "abs", "mse", "low_var_kl", "full"),
    "worker.actor.loss_avg_mode": ("token", "seq"),
    "worker.actor.loss_type": ("default", "gspo", "gspo_token", "cispo", "sapo"),
    "worker.actor.optim.strategy": ("adamw", "adamw_bf16"),
    "worker.actor.optim.lr_scheduler_type": ("constant", "cosine"),
    "worker.rollout.dtype": ("bf16", "bfloat16", "fp16", "float16", "fp32", "float32"),
}
# what EasyR1 sets of vLLM's SamplingParams for validation; another name it ignores
SAMPLING = """
n temperature top_p top_k min_p seed presence_penalty frequency_penalty repetition_penalty stop stop_token_ids bad_words
include_stop_str_in_output ignore_eos max_tokens min_tokens logprobs prompt_logprobs detokenize skip_special_tokens
spaces_between_special_tokens truncate_prompt_tokens logit_bias allowed_token_ids extra_args guided_decoding
structured_outputs output_kind logits_processors best_of
"""
GROUP_ESTIMATORS = ("grpo", "grpo_passk", "rloo")
# a number and what it is called
Quantity = tuple[str, int]


def get(config: Any, key: str) -> Any:
    """The value of a dotted key; None where this EasyR1 has no such key."""
    return reduce(lambda node, name: getattr(node, name, None), key.split("."), config)


def positive(run: Run) -> Iterator[str]:
    for key in POSITIVE:
        if get(run.config, key) < 1:
            yield f"{key}={get(run.config, key)}: wanted at least 1"
    size = run.config.data.val_batch_size
    if size < 1 and size != -1:
        yield f"data.val_batch_size={size}: wanted at least 1, or -1 for all rows at once"
    steps = run.config.trainer.max_steps
    if steps is not None and steps < 1:
        yield f"trainer.max_steps={steps}: would train nothing; wanted at least 1, or null for trainer.total_epochs"


def names(run: Run) -> Iterator[str]:
    from verl.trainer.core_algos import AdvantageEstimator

    allowed = NAMES | {"algorithm.adv_estimator": tuple(estimator.value for estimator in AdvantageEstimator)}
    for key, values in allowed.items():
        value = get(run.config, key)
        if value is not None and value not in values:
            yield f"{key}={value}: this EasyR1 knows {', '.join(values)}"


def batches(run: Run) -> Iterator[str]:
    """Every batch must split evenly, and the sizes must go with the way weights are kept."""
    if any(get(run.config, key) < 1 for key in POSITIVE):
        return
    data, actor, answers = run.config.data, run.config.worker.actor, run.config.worker.rollout.n

    def number(key: str) -> Quantity:
        return key, get(run.config, key)

    prompts, update = number("data.rollout_batch_size"), number("worker.actor.global_batch_size")
    per_draw = prompts if data.mini_rollout_batch_size is None else number("data.mini_rollout_batch_size")
    gpus = "trainer.nnodes * trainer.n_gpus_per_node", run.ranks
    # those of one sequence-parallel group see the same samples
    groups = "the number of GPUs / worker.actor.ulysses_size", max(run.ranks // actor.ulysses_size, 1)
    samples = f"{prompts[0]} * worker.rollout.n", prompts[1] * answers
    updated = f"{update[0]} * worker.rollout.n", update[1] * answers
    update_share = f"{updated[0]} for each GPU", updated[1] // groups[1]
    micro = number("worker.actor.micro_batch_size_per_device_for_experience")
    micro_update = number("worker.actor.micro_batch_size_per_device_for_update")
    # (whole, part, why): the first must be a multiple of the second
    rules = [
        (prompts, update, "a batch of prompts is cut into whole updates"),
        (samples, micro, "log probabilities are computed in whole micro batches"),
        (per_draw, gpus, "each GPU generates for as many prompts"),
        (samples, gpus, "each GPU trains on as many samples"),
        (gpus, number("worker.rollout.tensor_parallel_size"), "vLLM spans whole groups of GPUs"),
        (gpus, number("worker.actor.ulysses_size"), "a sequence is split over whole groups of GPUs"),
        (updated, groups, "each GPU updates on as many samples"),
        (update_share, micro_update, "an update is cut into whole micro batches"),
    ]
    if not actor.dynamic_batching:
        share = "samples for each GPU", samples[1] * actor.ulysses_size // run.ranks
        rules.append((share, micro, "without dynamic_batching no micro batch is smaller than the others"))
    if 0 < actor.fsdp.fsdp_size < run.ranks:
        rules.append((gpus, number("worker.actor.fsdp.fsdp_size"), "weights are sharded over whole groups of GPUs"))
    if run.config.algorithm.adv_estimator == "gae":
        why = "gae trains a critic in the same way"
        rules.append((prompts, number("worker.critic.global_batch_size"), why))
        rules.append((samples, number("worker.critic.micro_batch_size_per_device_for_experience"), why))
    for (whole, size), (part, parts), why in rules:
        if parts < 1 or size % parts:
            yield f"{whole} = {size} is not a multiple of {part} = {parts}: {why}; change one of them"
    if actor.fsdp.enable_cpu_offload and update_share[1] != micro_update[1]:
        yield (
            "worker.actor.fsdp.enable_cpu_offload=true does not go with several micro batches an update; set it to "
            "false and worker.actor.offload.offload_params=true instead"
        )


def sampling(run: Run) -> Iterator[str]:
    """How answers are sampled in training and in validation."""
    rollout, estimator = run.config.worker.rollout, run.config.algorithm.adv_estimator
    if estimator in GROUP_ESTIMATORS and rollout.n < 2:
        yield f"worker.rollout.n={rollout.n}: {estimator} compares the answers to one prompt; set it to 2 or more"
    if rollout.temperature <= 0:
        yield f"worker.rollout.temperature={rollout.temperature}: training has to sample; set it to 1.0"
    validation = dict(rollout.val_override_config)
    if rollout.n > 1 and "n" not in validation:
        yield (
            "worker.rollout.val_override_config names no n: validation then draws worker.rollout.n answers a row and "
            "EasyR1 fails to match them to the rows; set worker.rollout.val_override_config.n=1"
        )
    for name in validation:
        if name not in (known := SAMPLING.split()):
            near = difflib.get_close_matches(name, known, n=1) or ["none"]
            yield f"worker.rollout.val_override_config.{name}: vLLM has no such setting; nearest: {near[0]}"
    temperature = validation.get("temperature", rollout.temperature)
    if temperature != rollout.temperature:
        yield Note(
            f"validation samples at temperature {temperature}, training at {rollout.temperature}: their rewards are "
            "not the same quantity"
        )


def lengths(run: Run) -> Iterator[str]:
    data, rollout = run.config.data, run.config.worker.rollout
    total = data.max_prompt_length + data.max_response_length
    what = f"data.max_prompt_length + data.max_response_length = {total}"
    if rollout.max_num_batched_tokens < total:
        yield f"{what} is more than worker.rollout.max_num_batched_tokens={rollout.max_num_batched_tokens}; raise that"
    if rollout.max_model_len is not None and rollout.max_model_len < total:
        yield f"{what} is more than worker.rollout.max_model_len={rollout.max_model_len}; raise that or leave it out"
    if data.filter_overlong_prompts:
        yield Note(
            "data.filter_overlong_prompts=true decodes every image in forked processes, which can hang; the prompt "
            "lengths are measured here, so false is safe"
        )


def ranges(run: Run) -> Iterator[str]:
    for key in ("worker.rollout.top_p", "worker.rollout.gpu_memory_utilization"):
        if not 0 < get(run.config, key) <= 1:
            yield f"{key}={get(run.config, key)}: wanted more than 0 and at most 1"
    for key in ("worker.actor.optim.lr", "worker.actor.max_grad_norm"):
        if not get(run.config, key) > 0:
            yield f"{key}={get(run.config, key)}: wanted more than 0"
    yield from pixels(run)
    algorithm = run.config.algorithm
    low, high = algorithm.filter_low, algorithm.filter_high
    if algorithm.online_filtering and low >= high:
        yield f"algorithm.filter_low={low} algorithm.filter_high={high}: no group lies between them; wanted low < high"


def pixels(run: Run) -> Iterator[str]:
    least, most = run.config.data.min_pixels, run.config.data.max_pixels
    if (least is not None and least < 1) or (most is not None and most < max(least or 1, 1)):
        yield f"data.min_pixels={least} data.max_pixels={most}: wanted 1 <= min_pixels <= max_pixels"
