"""From a folder or a hub id to a diffusers pipeline on the device where it is to compute.

load("black-forest-labs/FLUX.1-Kontext-dev")                                           # all of it on the GPU, bf16
load("models/qwen-image-edit", LocalOptions(offload="model", load_kwargs={"variant": "bf16"}))
build({"_class": "diffusers.FirstBlockCacheConfig", "threshold": 0.12})    # FirstBlockCacheConfig(threshold=0.12)
call_all(pipe, [{"transformer.enable_cache": {"config": {"_class": "diffusers.FirstBlockCacheConfig"}}}])

`build` and `call_all` read JSON that stands for objects and calls: quantisation, caches and schedulers need no options
of their own. Only classes of the packages in LIBRARIES are instantiated, so that a config file can't run any other
code.
"""

from __future__ import annotations

import importlib
import inspect
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ier1_plugin.editors.base import EditError, failing_as, is_installed, need, number
from ier1_plugin.editors.local.qwen_positions import repair_positions

OFFLOADS = ("none", "model", "group")
DTYPES = ("auto", "bfloat16", "float16", "float32")
CLASS, AFTER_LOAD = "_class", "after_load"
LIBRARIES = ("diffusers", "transformers", "torchao", "peft")
PACKAGES = ("torch", "diffusers", "transformers", "accelerate")
# a canvas of less shows nothing, one of more fits on no card
MIN_PIXELS, MAX_PIXELS = 64 * 64, 4096 * 4096
_RANGES = (("steps", 1, 1000, True), ("guidance", 0, 100, False), ("canvas_pixels", MIN_PIXELS, MAX_PIXELS, True))
NUMBERS_OVERFLOWED = (
    'its numbers ran over, as float16 often does: try --editor-settings \'{"dtype": "float32"}\', or bfloat16 there'
)
HINTS = {
    "RuntimeWarning": f"the picture came back with pixels that are no numbers (NaN): {NUMBERS_OVERFLOWED}",
    "OutOfMemoryError": "the GPU's memory is full; try --offload model or --offload group, or a quantised model",
    "GatedRepoError": "the weights ask for consent: accept their licence on the hub's page, then run `hf auth login`",
    "RepositoryNotFoundError": "the hub has no such model, or it is private; check the name, or run `hf auth login`",
    "LocalEntryNotFoundError": "the weights are not on this machine, and the hub can't be reached",
    "OfflineModeIsEnabled": "the weights are not on this machine, and HF_HUB_OFFLINE forbids downloading them",
}


@dataclass(frozen=True)
class LocalOptions:
    """How a user wants a pipeline loaded and called; None uses what its authors recommend."""

    steps: int | None = None
    guidance: float | None = None
    canvas_pixels: int | None = None
    """Pixels of the canvas, if the pipeline leaves that open; models are trained on about a megapixel."""
    device: str | None = None
    """A torch device such as "cuda:1"; None: the GPU, or the CPU where there is none."""
    dtype: str = "auto"
    """One of DTYPES. auto: bfloat16 on a GPU, float32 on a CPU, where bfloat16 saves memory but no time."""
    offload: str = "none"
    """One of OFFLOADS. model: one component at a time on the GPU. group: layer by layer, slower, in little memory."""
    load_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of `DiffusionPipeline.from_pretrained`, as JSON for `build`; the key "after_load" is for `call_all`."""
    call_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of each call, as JSON for `build`."""

    def __post_init__(self) -> None:
        for name, low, high, whole in _RANGES:
            if getattr(self, name) is not None:
                number(getattr(self, name), name, low, high, whole)
        for name, value, known in (("offload", self.offload, OFFLOADS), ("dtype", self.dtype, DTYPES)):
            if value not in known:
                raise EditError(f"{name} is {value!r}; wanted {', '.join(known)}")

    def place(self) -> str:
        """The device to compute on. EditError if offloading is requested and there is no GPU to offload from."""
        import torch

        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        device = self.device or str(accelerator or "cpu")
        if self.offload != "none" and device.startswith("cpu"):
            raise EditError(
                f"--offload {self.offload} moves weights between memory and a GPU, and this machine has no GPU; "
                "leave it out"
            )
        return device


def check_source(source: str, name: str) -> None:
    """EditError if `source` can't be a pipeline: a folder without one, a path that does not exist, no packages."""
    need(name, *PACKAGES)
    folder = Path(source).expanduser()
    if source and folder.is_dir():
        try:
            str(json.loads((folder / "model_index.json").read_text(encoding="utf-8"))["_class_name"])
        except (OSError, ValueError, KeyError, TypeError):
            raise EditError(f"{folder} holds no diffusers pipeline: it has no readable model_index.json") from None
    elif folder.exists() or source.startswith((".", "/", "~")) or source.count("/") != 1:
        raise EditError(f"{name}: {source!r} is neither a folder nor a hub id such as Qwen/Qwen-Image-Edit")
    elif is_offline() and not is_cached(source):
        raise EditError(f"{name}: {HINTS['OfflineModeIsEnabled']} ({source})")


def is_offline() -> bool:
    """True if the hub's client must not download anything (huggingface_hub.constants.HF_HUB_OFFLINE)."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def is_cached(hub_id: str) -> bool:
    """True if a model of the hub was downloaded before; checks the file system only."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    cache = Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()
    return any((cache / f"models--{hub_id.replace('/', '--')}" / "snapshots").glob("*"))


def load(source: str, options: LocalOptions | None = None) -> Any:
    """The pipeline in `source`, ready to be called. EditError says what went wrong."""
    import torch

    options = options or LocalOptions()
    device = options.place()
    if device.startswith("cpu") and is_installed("torchvision"):
        from ier1_plugin.chat.torchvision_ops import define_missing_schemas

        define_missing_schemas(torch)
    usual_dtype = "float32" if device.startswith("cpu") else "bfloat16"
    settings = dict(options.load_kwargs)
    calls = settings.pop(AFTER_LOAD, ())
    with failing_as(source, HINTS):
        from diffusers.pipelines.pipeline_utils import DiffusionPipeline

        folder = Path(source).expanduser()
        dtype = getattr(torch, usual_dtype if options.dtype == "auto" else options.dtype)
        arguments = {"torch_dtype": dtype, **build(settings)}
        with _strictly_and_quietly(source):
            pipe: Any = DiffusionPipeline.from_pretrained(str(folder) if folder.is_dir() else source, **arguments)
        repair_positions(pipe)
        call_all(pipe, calls)
        if options.offload == "model":
            pipe.enable_model_cpu_offload(device=device)
        elif options.offload == "group":
            devices = {"onload_device": torch.device(device), "offload_device": torch.device("cpu")}
            pipe.enable_group_offload(**devices, offload_type="leaf_level")
        # a pipeline that was loaded with a device_map is in its place already
        elif getattr(pipe, "hf_device_map", None) is None:
            pipe.to(device)
        # None: a progress bar in a terminal, none in a log
        pipe.set_progress_bar_config(disable=None, leave=False)
    return pipe


def parameters(pipe: Any) -> dict[str, Any]:
    """What the pipeline can be called with, and the defaults."""
    known = inspect.signature(type(pipe).__call__).parameters
    return {name: parameter.default for name, parameter in known.items() if name != "self"}


def build(value: Any) -> Any:
    """`value` with {"_class": ...} made into that object and "torch.NAME" into that dtype. EditError: no such class or
    dtype."""
    if isinstance(value, str) and value.startswith("torch."):
        import torch

        dtype = getattr(torch, value.removeprefix("torch."), None)
        if not isinstance(dtype, torch.dtype):
            raise EditError(f"{value!r} is not a dtype of torch, as torch.bfloat16 is")
        return dtype
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [build(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    arguments = {key: build(item) for key, item in value.items() if key != CLASS}
    if CLASS not in value:
        return arguments
    path = str(value[CLASS])
    library, _, names = path.partition(".")
    if library not in LIBRARIES or not names:
        raise EditError(f"{CLASS} is {path!r}; wanted a class of {', '.join(LIBRARIES)}, as diffusers.TorchAoConfig")
    with failing_as(path):
        kind: Any = importlib.import_module(library)
        for name in names.split("."):
            kind = getattr(kind, name)
        if not isinstance(kind, type):
            raise EditError(f"{path} is not a class")
        return kind(**arguments)


def call_all(target: Any, calls: Any) -> None:
    """Calls methods of `target` in order, from a list of {"dotted.method": {argument: value}}. EditError: a call
    fails."""
    if not isinstance(calls, Sequence) or not all(isinstance(call, Mapping) for call in calls):
        raise EditError(f"after_load is {calls!r}; wanted a list of {{method: {{argument: value}}}}")
    for path, arguments in (pair for call in calls for pair in call.items()):
        method = target
        for name in str(path).split("."):
            method = None if name.startswith("_") else getattr(method, name, None)
        if not callable(method):
            raise EditError(f"after_load: {type(target).__name__} has no method {path}")
        with failing_as(f"after_load: {path}"):
            method(**build(arguments or {}))


@contextmanager
def _strictly_and_quietly(source: str) -> Iterator[None]:
    """Loading without a progress bar, unless a terminal shows it, and with an EditError for unknown arguments.

    diffusers only logs arguments of `from_pretrained` that it does not know: a misspelt quantisation would load the
    full model.
    """
    from diffusers.utils import logging as diffusers_logging

    unknown: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        line = record.getMessage()
        if "not expected" in line and "ignored" in line:
            unknown.append(line.partition(" and will be ignored")[0])
            return False
        return True

    logger = logging.getLogger("diffusers.pipelines.pipeline_utils")
    logger.addFilter(keep)
    if not sys.stderr.isatty():
        diffusers_logging.disable_progress_bar()
    try:
        yield
    finally:
        logger.removeFilter(keep)
    if unknown:
        raise EditError(f"{source}: load_kwargs: {unknown[0]}")
