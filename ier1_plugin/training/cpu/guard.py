"""When the CPU stand-ins may be used: asked for, no GPU anywhere in the cluster, a tiny model.

    refusals(cpu_flag=True, model_path="/models/Qwen2.5-VL-7B-Instruct")
    -> ["model /models/Qwen2.5-VL-7B-Instruct has 8,292,166,656 parameters; the CPU stand-ins take models under ..."]

Every problem is one line: what came, what was wanted, what to do. An empty list means go.
"""

from __future__ import annotations

import math
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

MAX_PARAMETERS = 100_000_000
PROBE_SECONDS = 60
DEVICES = Path("/dev")
KFD_NODES = Path("/sys/class/kfd/kfd/topology/nodes")
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


def refusals(cpu_flag: bool, model_path: str, gpu_nodes: list[str] | None = None) -> list[str]:
    """Why the stand-ins must not be used, one line each.

    `gpu_nodes`: names of the nodes with a real GPU, by default found by `gpu_nodes()`; `model_path` as in
    `worker.actor.model.model_path`, a folder or a hub id.
    """
    problems = []
    if not cpu_flag:
        problems.append("no --cpu: the CPU stand-ins are never used unasked; add --cpu, or run where there is a GPU")
    nodes = _nodes_with_gpu(has_gpu) if gpu_nodes is None else gpu_nodes
    if nodes:
        problems.append(
            f"--cpu on a cluster with a GPU (on {', '.join(nodes)}): the stand-ins are for machines without one; "
            "run without --cpu"
        )
    return problems + _model_refusals(model_path)


def config_refusals(config: Any) -> list[str]:
    """Keys of an EasyR1 config (its PPOConfig, an OmegaConf or a nested dict) that the stand-ins do not cover."""
    from omegaconf import OmegaConf

    tree = OmegaConf.create(config)
    found = {key: OmegaConf.select(tree, key) for key in REQUIRED_CONFIG}
    return [
        f"{key}={str(found[key]).lower()} is not covered by the CPU stand-ins; set {key}={str(wanted).lower()}"
        for key, wanted in REQUIRED_CONFIG.items()
        if found[key] is not None and found[key] != wanted
    ]


def has_gpu() -> bool:
    """True if an NVIDIA or AMD GPU can be reached from this machine, whatever CUDA_VISIBLE_DEVICES says."""
    return _has_nvidia() or _has_amd()


def gpu_nodes(probe: Callable[[], bool] = has_gpu) -> list[str]:
    """Names of the nodes with a real GPU: every alive node of the Ray cluster if there is one, else this machine.

    Logical GPUs (`ray start --num-gpus=1`) do not count. A node that can't be asked counts as having a GPU.
    """
    return _nodes_with_gpu(probe)


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


def _model_refusals(model_path: str) -> list[str]:
    if Path(model_path).is_absolute() and not Path(model_path).is_dir():
        return [f"no model folder {model_path}; set worker.actor.model.model_path to a folder or a hub id"]
    try:
        parameters = count_parameters(model_path)
    except ValueError as error:
        return [f"{error}; set worker.actor.model.model_path to a model under {MAX_PARAMETERS:,} parameters"]
    if parameters < MAX_PARAMETERS:
        return []
    return [
        f"model {model_path} has {parameters:,} parameters; the CPU stand-ins take models under {MAX_PARAMETERS:,}; "
        "take a smaller one, or run on a GPU without --cpu"
    ]


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


def _has_nvidia(devices: Path = DEVICES) -> bool:
    # /proc/driver/nvidia also shows in containers that can't use the GPU; the device files don't
    if any(devices.glob("nvidia[0-9]*")):
        return True
    # WSL has no device files
    command = shutil.which("nvidia-smi")
    if command is None:
        return False
    try:
        listed = subprocess.run([command, "-L"], capture_output=True, text=True, timeout=PROBE_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        # only a driver with a (broken) GPU under it hangs
        return True
    return listed.returncode == 0 and listed.stdout.startswith("GPU ")


def _has_amd(devices: Path = DEVICES, topology: Path = KFD_NODES) -> bool:
    if not (devices / "kfd").exists():
        return False
    # the kernel lists CPUs as nodes too; only GPUs have SIMDs
    lines = [line.split() for node in topology.glob("*/properties") for line in node.read_text().splitlines()]
    return any(name == "simd_count" and int(value) > 0 for name, value in lines)


def _nodes_with_gpu(probe: Callable[[], bool]) -> list[str]:
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        return _probe_cluster(ray, probe)
    return [socket.gethostname()] if probe() else []


def _probe_cluster(ray: Any, probe: Callable[[], bool]) -> list[str]:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    def on(node_id: str) -> Any:
        pinned = NodeAffinitySchedulingStrategy(node_id, soft=False)
        return ray.remote(num_cpus=0, scheduling_strategy=pinned, max_retries=0)(probe).remote()

    nodes = [node for node in ray.nodes() if node["Alive"]]
    answers = [(node["NodeManagerHostname"], on(node["NodeID"])) for node in nodes]
    return [name + note for name, answer in answers if (note := _answer(ray, answer)) is not None]


def _answer(ray: Any, answer: Any) -> str | None:
    """None: no GPU; "": a GPU; else why the node could not be asked."""
    try:
        return "" if ray.get(answer, timeout=PROBE_SECONDS) else None
    except Exception as error:  # Ray wraps the node's own exception
        return f" (could not be checked: {type(error).__name__})"
