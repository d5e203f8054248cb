"""What is installed and what there is to run on: versions, packages, GPUs, loggers, the model.

vllm 0.13.0: EasyR1 can't drive it; pip install 'vllm>=0.8,<0.13'
"""

from __future__ import annotations

import functools
import importlib.util
import json
import logging
import netrc
import os
import socket
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ier1_plugin.runs.errors import one_line
from ier1_plugin.task.decomposer import HUB_ID
from ier1_plugin.training.preflight.run import Run, Unchecked
from ier1_plugin.training.preflight.settings import get

SOURCE = "EasyR1's current source (https://github.com/hiyouga/EasyR1), not the 0.3.2 of PyPI"
# package -> the versions that EasyR1 can drive, and for what; vLLM lacks from 0.13 on vllm.lora.models, which EasyR1
# imports, and the argument disable_mm_preprocessor_cache, which it passes
ENGINES = {"vllm": (">=0.8,<0.13", "generates"), "flash-attn": (">=2.4.3,<3", "computes attention")}
# loggers whose package EasyR1 imports only if it is there; it fails when it starts to log, once the models are loaded
LOGGER_PACKAGES = ("tensorboard", "wandb", "swanlab", "mlflow")
LOGINS = ("wandb", "swanlab")
# values of WANDB_MODE and SWANLAB_MODE that need no login
OFFLINE = ("offline", "local", "disabled", "dryrun")
# EasyR1 runs a driver, and each reward manager and its runner in processes of their own
RUNNER_CPUS = 1
REWARD_MANAGERS = 2
HUB_SECONDS = 10
CONNECT_SECONDS = 5


def versions(cpu: bool = False) -> Iterator[str]:
    """What has to be right before EasyR1's config can even be read."""
    yield from version("omegaconf", "<2.4", "2.4 refuses EasyR1's own defaults (`logger: Tuple[str]`)")
    yield from version("transformers", ">=4.54,<5", "EasyR1 is written for transformers 4")
    for package, (wanted, _) in {}.items() if cpu else ENGINES.items():
        yield from version(package, wanted, "EasyR1 can't drive it", missing_too=False)
    if not cpu:
        yield from _torch_for_vllm()
    if importlib.util.find_spec("verl") is None:
        yield "EasyR1 is not installed: pip install --no-deps lazyllm-verl==0.3.2.dev2, or its source"
    elif importlib.util.find_spec("verl.trainer.main") is None:
        yield "the installed `verl` is not EasyR1 but another trainer of the same name; use an environment of its own"


def version(package: str, wanted: str, why: str, missing_too: bool = True) -> Iterator[str]:
    from packaging.specifiers import SpecifierSet

    try:
        installed = metadata.version(package)
    except metadata.PackageNotFoundError:
        if missing_too:
            yield f"{package} is not installed: pip install '{package}{wanted}'"
        return
    if not SpecifierSet(wanted).contains(installed, prereleases=True):
        yield f"{package} {installed}: {why}; pip install '{package}{wanted}'"


def _torch_for_vllm() -> Iterator[str]:
    """vLLM's compiled part fits one release of torch, which its own metadata name."""
    from packaging.requirements import Requirement

    try:
        requirements = [Requirement(text) for text in metadata.requires("vllm") or ()]
    except metadata.PackageNotFoundError:
        return
    for needs in requirements:
        if needs.name == "torch" and (needs.marker is None or needs.marker.evaluate({"extra": ""})):
            yield from version("torch", str(needs.specifier), f"vllm {metadata.version('vllm')} is built for another")


def engines(run: Run) -> Iterator[str]:
    """The two packages that need a GPU; the stand-ins take their place. Their versions: `versions`."""
    for package, (wanted, use) in {}.items() if run.cpu else ENGINES.items():
        if run.elsewhere:
            yield Unchecked(package)
        elif importlib.util.find_spec(package.replace("-", "_")) is None:
            cure = f"pip install '{package}{wanted}', or train a tiny model without a GPU with --cpu"
            yield f"{package} is not installed: EasyR1 {use} with it; {cure}"
        elif package == "flash-attn":
            # EasyR1 passes over an error here, and fails in its first step; vllm was imported with EasyR1's config
            try:
                importlib.import_module("flash_attn.bert_padding")
            except Exception as error:  # whatever a library that was built for another torch raises
                reason = f"{type(error).__name__}: {one_line(error)}"
                cure = f"pip install --force-reinstall --no-deps --no-build-isolation '{package}{wanted}'"
                yield f"flash-attn can't be imported ({reason}); build it for the torch that is installed: {cure}"


def lora(run: Run) -> Iterator[str]:
    if (get(run.config, "worker.actor.model.lora.rank") or 0) > 0:
        lines = version("peft", "<0.21", "from 0.21 on EasyR1 silently trains no LoRA weights")
        yield from [Unchecked("peft's version")] if run.elsewhere else lines


def stand_ins(run: Run) -> Iterator[str]:
    if run.cpu:
        from ier1_plugin.training.cpu import guard

        yield from guard.config_refusals(run.config)


def loggers(run: Run) -> Iterator[str]:
    for name in run.config.trainer.logger:
        if name not in (known := known_loggers()):
            more = f"; `file` needs {SOURCE}" if name == "file" else ""
            yield f"trainer.logger: this EasyR1 has no logger {name!r}, but {', '.join(known)}{more}"
        elif name in LOGGER_PACKAGES and run.elsewhere:
            yield Unchecked(f"the logger {name}")
        elif name in LOGGER_PACKAGES and importlib.util.find_spec(name) is None:
            yield f"trainer.logger: {name} needs a package: pip install {name}, or take {name} out"
        # a cluster's workers have an environment of their own
        elif name in LOGINS and not run.in_job and run.address is None and not _logged_in(run, name):
            login = f"set {name.upper()}_API_KEY, run `{name} login`, or set {name.upper()}_MODE=offline"
            yield f"trainer.logger: {name} has no login and would fail once the models are loaded; {login}"


def known_loggers() -> Sequence[str]:
    try:
        from verl.utils.logger.logger import LOGGERS
    except ImportError:  # upstream verl
        from verl.utils.tracking import Tracking

        return Tracking.supported_backend
    return list(LOGGERS)


def _logged_in(run: Run, name: str) -> bool:
    """True if the logger finds a key, or needs none in its mode."""
    home = Path(run.env.get("HOME") or Path.home())
    if run.env.get(f"{name.upper()}_API_KEY") or run.env.get(f"{name.upper()}_MODE") in OFFLINE:
        return True
    if name == "swanlab":
        return (home / ".swanlab" / ".netrc").is_file()
    # written by `wandb offline`, and by a login for this folder alone
    if Path("wandb", "settings").is_file():
        return True
    address = run.env.get("WANDB_BASE_URL") or "https://api.wandb.ai"
    try:
        logins = netrc.netrc(run.env.get("NETRC") or home / ".netrc")
    except (OSError, netrc.NetrcParseError):
        return False
    return logins.authenticators(urlsplit(address).hostname or "") is not None


def gpus(run: Run) -> Iterator[str]:
    """Enough GPUs, and enough logical CPUs: with too few of them Ray waits for ever."""
    if run.address is None and (run.cpu or run.elsewhere):
        yield from [Unchecked("GPUs and CPUs")] if run.elsewhere else ()
        return
    try:
        gpu_count, cpu_count, where = resources(run.address)
    except (OSError, ValueError) as error:
        yield (
            f"no Ray cluster answers at {run.address} ({one_line(error)}); start it, or unset RAY_ADDRESS and end "
            "what is left of it with `ray stop`"
        )
        return
    trainer, there = run.config.trainer, f"there are {gpu_count:.0f} GPUs, {cpu_count:.0f} CPUs ({where})"
    if gpu_count < run.ranks:
        yield (
            f"trainer.nnodes={trainer.nnodes} trainer.n_gpus_per_node={trainer.n_gpus_per_node}: {there}; lower "
            "trainer.n_gpus_per_node, or start more nodes"
        )
    cpus = run.ranks + RUNNER_CPUS + REWARD_MANAGERS * run.config.worker.reward.num_cpus
    if cpu_count < cpus:
        yield f"EasyR1 needs {cpus} logical CPUs and would wait for ever: {there}; `ray start --num-cpus={cpus}`"


def resources(address: str | None) -> tuple[float, float, str]:
    """GPUs, CPUs and where they are: of a Ray cluster, or of this machine. OSError, ValueError: no cluster answers."""
    if address is None:
        import torch

        return torch.cuda.device_count(), os.cpu_count() or 1, "this machine"
    import ray

    joined = not ray.is_initialized()
    if joined:
        if address != "auto":
            # Ray itself would try for minutes
            name, _, port = address.removeprefix("ray://").rpartition(":")
            socket.create_connection((name, int(port)), timeout=CONNECT_SECONDS).close()
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    try:
        resources = ray.cluster_resources()
    finally:
        if joined:
            ray.shutdown()
    return resources.get("GPU", 0), resources.get("CPU", 0), f"Ray cluster {address}"


def model(run: Run) -> Iterator[str]:
    path = run.config.worker.actor.model.model_path
    key = f"worker.actor.model.model_path={path}"
    if not path:
        yield f"{key}: wanted a folder or a hub id such as Qwen/Qwen2.5-VL-7B-Instruct"
        return
    if run.cpu and not Path(path).is_dir():
        return  # the stand-ins' guard has looked for it already
    if not Path(path).is_dir() and (path.startswith(("/", ".", "~")) or not HUB_ID.fullmatch(path)):
        yield f"{key}: there is no such folder (paths count from the current one), and it is not a hub id"
        return
    config, problem = model_config(path)
    if config is None:
        yield Unchecked(f"the model {path}") if run.elsewhere and not Path(path).is_dir() else f"{key}: {problem}"
        return
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from verl.models.monkey_patch import SUPPORTED_MODEL_TYPE

    kind = str(config.get("model_type"))
    known = CONFIG_MAPPING[kind]() if kind in CONFIG_MAPPING else None
    if known is not None and not hasattr(known, "vision_config"):
        yield f"{key}: a {kind} sees no images; take a vision-language model such as Qwen/Qwen2.5-VL-7B-Instruct"
    for name in run.config.worker.actor.model.override_config:
        if known is not None and not hasattr(known, name):
            yield f"worker.actor.model.override_config.{name}: a {kind} has no such key, and transformers ignores it"
    patched = run.config.worker.actor.padding_free or kind.endswith(("_vl", "_vl_moe"))
    if patched and kind not in SUPPORTED_MODEL_TYPE:
        more = f"; it needs {SOURCE}" if kind in ("qwen3_vl", "qwen3_vl_moe") else ""
        yield f"{key}: this EasyR1 can't train a {kind}, only {', '.join(SUPPORTED_MODEL_TYPE)}{more}"
    elif kind.startswith("qwen3_vl"):
        yield from version("transformers", ">=4.57,<5", "older ones know no Qwen3-VL")
        if not run.cpu:
            yield from version("vllm", ">=0.11,<0.13", "older ones know no Qwen3-VL", missing_too=False)


@functools.cache
def model_config(path: str) -> tuple[dict[str, Any] | None, str]:
    """The model's `config.json` and "", or None and why it can't be read. From the hub only this file is loaded."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    file: Any = Path(path) / "config.json"
    if Path(path).is_dir() and not file.is_file():
        return None, "the folder has no config.json; give the folder of a transformers model"
    try:
        if not file.is_file():
            file = try_to_load_from_cache(path, "config.json")
        if not isinstance(file, str | Path):
            ask_hub(path)
            file = hf_hub_download(path, "config.json")
        return json.loads(Path(file).read_text(encoding="utf-8")), ""
    except Exception as error:  # the hub client raises its own, and those of its HTTP client
        return None, (
            f"config.json can't be read ({type(error).__name__}: {one_line(error)}); give a folder, or load the "
            f"model first: hf download {path}"
        )


def ask_hub(model_id: str) -> None:
    """Raises at once where the hub or the model can't be reached; its downloads would try again for half a minute."""
    from huggingface_hub import HfApi

    HfApi().model_info(model_id, timeout=HUB_SECONDS)
