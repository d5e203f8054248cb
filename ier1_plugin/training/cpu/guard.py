"""When the CPU stand-ins may be used: no GPU anywhere in the cluster, a tiny model. Nothing but `--cpu` asks for them.

    refusals("/models/Qwen2.5-VL-7B-Instruct")
    -> ["model /models/Qwen2.5-VL-7B-Instruct has 8,292,166,656 parameters; the CPU stand-ins take models under ..."]

Every problem is one line: what came, what was wanted, what to do. An empty list means go.
"""

from __future__ import annotations

import math
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ier1_plugin.runs.hardware import PROBE_SECONDS, has_gpu

MAX_PARAMETERS = 100_000_000
# set otherwise, EasyR1 or FSDP asks for a real CUDA device, torch compiles for a minute, or one rank is not enough
REQUIRED_CONFIG: dict[str, Any] = {
    "worker.actor.fsdp.enable_rank0_init": False,
    "worker.ref.fsdp.enable_rank0_init": False,
    "worker.actor.fsdp.enable_cpu_offload": False,
    "worker.ref.fsdp.enable_cpu_offload": False,
    "worker.actor.offload.offload_params": False,
    "worker.actor.offload.offload_optimizer": False,
    "worker.ref.offload.offload_params": False,
    "worker.actor.use_torch_compile": False,
    "worker.actor.ulysses_size": 1,
    "worker.rollout.tensor_parallel_size": 1,
}


def refusals(
    model_path: str, gpu_nodes: list[str] | None = None, model_key: str = "worker.actor.model.model_path"
) -> list[str]:
    """Why a run must not be one on the CPU, one line each.

    `gpu_nodes`: names of the nodes with a real GPU, by default those of `find_gpu_nodes()`; `model_path` as in
    `model_key`, a folder or a hub id.
    """
    problems = []
    if nodes := find_gpu_nodes() if gpu_nodes is None else gpu_nodes:
        problems.append(
            f"--cpu on a cluster with a GPU (on {', '.join(nodes)}): the stand-ins are for machines without one; "
            "run without --cpu"
        )
    if Path(model_path).is_absolute() and not Path(model_path).is_dir():
        return [*problems, f"no model folder {model_path}; set {model_key} to a folder or a hub id"]
    try:
        parameters = count_parameters(model_path)
    except ValueError as error:
        return [*problems, f"{error}; set {model_key} to a model under {MAX_PARAMETERS:,} parameters"]
    if parameters >= MAX_PARAMETERS:
        problems.append(
            f"model {model_path} has {parameters:,} parameters; the CPU stand-ins take models under "
            f"{MAX_PARAMETERS:,}; take a smaller one, or run on a GPU without --cpu"
        )
    return problems


def config_refusals(config: Any) -> list[str]:
    """Keys of an EasyR1 config (its PPOConfig, an OmegaConf or a nested dict) that the stand-ins do not cover."""
    from omegaconf import OmegaConf

    tree = OmegaConf.create(config)
    values = {key: OmegaConf.select(tree, key) for key in REQUIRED_CONFIG}
    return [
        f"{key}={str(values[key]).lower()} is not covered by the CPU stand-ins; set {key}={str(wanted).lower()}"
        for key, wanted in REQUIRED_CONFIG.items()
        if values[key] is not None and values[key] != wanted
    ]


def find_gpu_nodes(probe: Callable[[], bool] | None = None) -> list[str]:
    """Names of the nodes with a real GPU: every alive node of the Ray cluster if there is one, else this machine.

    Logical GPUs (`ray start --num-gpus=1`) do not count. A node that can't be asked counts as having a GPU.
    """
    probe = probe or has_gpu
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return [socket.gethostname()] if probe() else []
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    answers = []
    for node in ray.nodes():
        if node["Alive"]:
            pinned = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            remote = ray.remote(num_cpus=0, scheduling_strategy=pinned, max_retries=0)(probe)
            answers.append((node["NodeManagerHostname"], remote.remote()))
    names = []
    for name, answer in answers:
        try:
            names += [name] if ray.get(answer, timeout=PROBE_SECONDS) else []
        except Exception as error:  # Ray wraps the node's own exception
            names.append(f"{name} (could not be checked: {type(error).__name__})")
    return names


def count_parameters(model_path: str) -> int:
    """Parameters of a model: from the headers of its safetensors files, else from its config. Loads no weights.

    ValueError: neither can be read.
    """
    files = sorted(Path(model_path).glob("*.safetensors"))
    try:
        return sum(map(_count_in_file, files)) if files else _count_from_config(model_path)
    except Exception as error:  # safetensors, transformers and the hub client each raise their own
        reason = str(error).strip().split("\n")[0]
        raise ValueError(f"the size of model {model_path} can't be read: {reason}") from error


def _count_in_file(file: Path) -> int:
    from safetensors import safe_open

    with safe_open(file, framework="numpy") as tensors:
        return sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118


def _count_from_config(model_path: str) -> int:
    # without one transformers guesses a model from words in the path
    if Path(model_path).is_dir() and not (Path(model_path) / "config.json").is_file():
        raise FileNotFoundError("it holds neither *.safetensors nor config.json")
    import torch

    from ier1_plugin.chat import torchvision_ops

    torchvision_ops.define_missing_schemas(torch)
    from accelerate import init_empty_weights
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    config = AutoConfig.from_pretrained(model_path)
    is_vlm = type(config) in AutoModelForImageTextToText._model_mapping
    with init_empty_weights():
        model = (AutoModelForImageTextToText if is_vlm else AutoModelForCausalLM).from_config(config)
    # outside: inside, every assignment makes a new parameter
    model.tie_weights()
    return sum(parameter.numel() for parameter in model.parameters())
