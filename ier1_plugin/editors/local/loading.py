"""From a folder or a hub id to a diffusers pipeline that stands where it is to compute.

load("black-forest-labs/FLUX.1-Kontext-dev", Placement())                        # the whole of it on the GPU, bf16
load("models/qwen-image-edit", Placement(offload="model"), {"variant": "bf16"})  # in memory, parts go to the GPU
"""

from __future__ import annotations

import inspect
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ier1_plugin.editors.base import EditError, failing_as, is_installed, need
from ier1_plugin.editors.local.objects import build, call_all
from ier1_plugin.editors.local.qwen_positions import repair_positions

OFFLOADS = ("none", "model", "group")
DTYPES = ("auto", "bfloat16", "float16", "float32")
AFTER_LOAD = "after_load"
PACKAGES = ("torch", "diffusers", "transformers", "accelerate")
HINTS = {
    "OutOfMemoryError": "the GPU's memory is full; try --offload model or --offload group, or a quantised model",
    "GatedRepoError": "the weights ask for consent: accept their licence on the hub's page, then run `hf auth login`",
    "RepositoryNotFoundError": "the hub has no such model, or it is private; check the name, or run `hf auth login`",
    "LocalEntryNotFoundError": "the weights are not on this machine, and the hub can't be reached",
    "OfflineModeIsEnabled": "the weights are not on this machine, and HF_HUB_OFFLINE forbids to fetch them",
}


@dataclass(frozen=True)
class Placement:
    """Where a pipeline computes and how its numbers are stored."""

    device: str | None = None
    """A torch device such as "cuda:1"; None: the GPU, or the CPU where there is none."""
    dtype: str = "auto"
    """One of DTYPES. auto: bfloat16 on a GPU, float32 on a CPU, where bfloat16 saves memory but no time."""
    offload: str = "none"
    """One of OFFLOADS. model: one component at a time on the GPU. group: layer by layer, slower, in little memory."""

    def __post_init__(self) -> None:
        for name, value, known in (("offload", self.offload, OFFLOADS), ("dtype", self.dtype, DTYPES)):
            if value not in known:
                raise EditError(f"{name} is {value!r}; wanted {', '.join(known)}")


def check_source(source: str, name: str) -> None:
    """EditError where `source` can't be a pipeline: a folder without one, a path that is not there, no packages."""
    need(name, *PACKAGES)
    folder = Path(source).expanduser()
    if source and folder.is_dir():
        class_name(folder)
    elif folder.exists() or source.startswith((".", "/", "~")) or source.count("/") != 1:
        raise EditError(f"{name}: {source!r} is neither a folder nor a hub id such as Qwen/Qwen-Image-Edit")
    elif is_offline() and not is_cached(source):
        raise EditError(f"{name}: {HINTS['OfflineModeIsEnabled']} ({source})")


def is_offline() -> bool:
    """True if the hub's client is told to fetch nothing (huggingface_hub.constants.HF_HUB_OFFLINE)."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def is_cached(hub_id: str) -> bool:
    """True if a model of the hub was downloaded before; asks the file system alone."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    cache = Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()
    return any((cache / f"models--{hub_id.replace('/', '--')}" / "snapshots").glob("*"))


def class_name(folder: Path) -> str:
    """The pipeline class that a folder holds; EditError where it holds none."""
    try:
        return str(json.loads((folder / "model_index.json").read_text(encoding="utf-8"))["_class_name"])
    except (OSError, ValueError, KeyError, TypeError):
        raise EditError(f"{folder} holds no diffusers pipeline: it has no readable model_index.json") from None


def check_placement(placement: Placement) -> str:
    """The device to compute on. EditError where offloading is asked for and there is no GPU to offload from."""
    import torch

    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    device = placement.device or (str(found) if found else "cpu")
    if placement.offload != "none" and device.startswith("cpu"):
        raise EditError(
            f"--offload {placement.offload} moves weights between memory and a GPU, and there is no GPU here; "
            "leave it out"
        )
    return device


def load(source: str, placement: Placement, load_kwargs: Mapping[str, Any] | None = None) -> Any:
    """The pipeline in `source`, ready to be called.

    `load_kwargs` goes to `DiffusionPipeline.from_pretrained`, as JSON (see `objects.py`); its key "after_load" lists
    methods to call on the loaded pipeline, for LoRA, step caches, compilation. EditError says what went wrong.
    """
    device = check_placement(placement)
    _make_torchvision_importable(device)
    given = dict(load_kwargs or {})
    calls = given.pop(AFTER_LOAD, ())
    with failing_as(source, HINTS):
        from diffusers.pipelines.pipeline_utils import DiffusionPipeline

        folder = Path(source).expanduser()
        arguments = {"torch_dtype": _dtype(placement.dtype, device), **build(given)}
        with _unknown_arguments_are_errors(source), _quiet():
            pipe = DiffusionPipeline.from_pretrained(str(folder) if folder.is_dir() else source, **arguments)
        repair_positions(pipe)
        call_all(pipe, calls)
        _place(pipe, device, placement.offload)
        # None: a progress bar in a terminal, none in a log
        pipe.set_progress_bar_config(disable=None, leave=False)
    return pipe


def parameters(pipe: Any) -> set[str]:
    """What the pipeline can be called with."""
    return set(inspect.signature(type(pipe).__call__).parameters) - {"self"}


def own_dimensions(pipe: Any) -> Any:
    """`calculate_dimensions` of the module that defines the pipeline: (area, aspect ratio) -> (width, height, ...)."""
    return getattr(sys.modules[type(pipe).__module__], "calculate_dimensions", None)


def free_memory() -> None:
    """Gives back what a pipeline that nobody holds any more has occupied."""
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def versions() -> dict[str, str]:
    """The libraries that pixels depend on."""
    from importlib.metadata import version

    return {package: version(package) for package in ("torch", "diffusers", "transformers")}


def _dtype(name: str, device: str) -> Any:
    import torch

    if name == "auto":
        name = "float32" if device.startswith("cpu") else "bfloat16"
    return getattr(torch, name)


def _place(pipe: Any, device: str, offload: str) -> None:
    import torch

    if offload == "model":
        pipe.enable_model_cpu_offload(device=device)
    elif offload == "group":
        pipe.enable_group_offload(
            onload_device=torch.device(device), offload_device=torch.device("cpu"), offload_type="leaf_level"
        )
    # a pipeline that was loaded with a device_map stands where it should
    elif getattr(pipe, "hf_device_map", None) is None:
        pipe.to(device)


def _make_torchvision_importable(device: str) -> None:
    if device.startswith("cpu") and is_installed("torchvision"):
        import torch

        from ier1_plugin.chat.torchvision_ops import define_missing_schemas

        define_missing_schemas(torch)


@contextmanager
def _unknown_arguments_are_errors(source: str) -> Iterator[None]:
    """EditError for arguments of `from_pretrained` that diffusers does not know: it only logs them, and a misspelt
    quantisation would load the full model."""
    unknown: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        line = record.getMessage()
        if "not expected" in line and "ignored" in line:
            unknown.append(line.partition(" and will be ignored")[0])
            return False
        return True

    logger = logging.getLogger("diffusers.pipelines.pipeline_utils")
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)
    if unknown:
        raise EditError(f"{source}: load_kwargs: {unknown[0]}")


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bar of the loading, unless somebody watches a terminal."""
    from diffusers.utils import logging as diffusers_logging

    shown = diffusers_logging.is_progress_bar_enabled()
    if not sys.stderr.isatty():
        diffusers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            diffusers_logging.enable_progress_bar()
