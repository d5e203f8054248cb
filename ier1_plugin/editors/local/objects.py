"""JSON that stands for objects of diffusers: quantisation, caches and schedulers without options of our own.

    build({"_class": "diffusers.FirstBlockCacheConfig", "threshold": 0.12})    # FirstBlockCacheConfig(threshold=0.12)
    build("torch.bfloat16")                                                    # torch.bfloat16
    call_all(pipe, [{"transformer.enable_cache": {"config": {"_class": "diffusers.FirstBlockCacheConfig"}}}])

Only classes of the libraries in LIBRARIES are made, so that a config file can't run any other code.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from ier1_plugin.editors.base import EditError, failing_as

CLASS = "_class"
LIBRARIES = ("diffusers", "transformers", "torchao", "peft")
_TORCH = "torch."


def build(value: Any) -> Any:
    """`value` with {"_class": ...} made into that object and "torch.NAME" into that dtype. EditError: it can't be."""
    if isinstance(value, Mapping):
        built = {key: build(item) for key, item in value.items() if key != CLASS}
        return _made(value[CLASS], built) if CLASS in value else built
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [build(item) for item in value]
    return _dtype(value) if isinstance(value, str) and value.startswith(_TORCH) else value


def call_all(target: Any, calls: Any) -> None:
    """Calls methods of `target` in order, from a list of {"dotted.method": {argument: value}}. EditError: it can't."""
    if not isinstance(calls, Sequence) or not all(isinstance(call, Mapping) for call in calls):
        raise EditError(f"after_load is {calls!r}; wanted a list of {{method: {{argument: value}}}}")
    for call in calls:
        for path, arguments in call.items():
            method = _method(target, path)
            with failing_as(f"after_load: {path}"):
                method(**build(arguments or {}))


def _method(target: Any, path: str) -> Any:
    found = target
    for name in str(path).split("."):
        found = None if name.startswith("_") else getattr(found, name, None)
    if not callable(found):
        raise EditError(f"after_load: {type(target).__name__} has no method {path}")
    return found


def _made(path: Any, arguments: dict[str, Any]) -> Any:
    library, _, names = str(path).partition(".")
    if library not in LIBRARIES or not names:
        raise EditError(f"{CLASS} is {path!r}; wanted a class of {', '.join(LIBRARIES)}, as diffusers.TorchAoConfig")
    with failing_as(str(path)):
        found: Any = importlib.import_module(library)
        for name in names.split("."):
            found = getattr(found, name)
        if not isinstance(found, type):
            raise EditError(f"{path} is no class")
        return found(**arguments)


def _dtype(name: str) -> Any:
    import torch

    found = getattr(torch, name.removeprefix(_TORCH), None)
    if not isinstance(found, torch.dtype):
        raise EditError(f"{name!r} is no dtype of torch, as torch.bfloat16 is")
    return found
