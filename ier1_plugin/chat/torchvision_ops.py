"""Defines the operator schemas that torchvision's compiled library would register, if that library can't be loaded.

A CUDA build of torchvision beside a CPU build of torch fails on import with "operator torchvision::nms does not exist":
it describes two operators whose schemas are in its compiled library, which asks for CUDA. With the schemas defined the
Python part works, and that is all that transformers' image processors use. Calling the operators still fails.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.machinery import PathFinder
from importlib.util import find_spec
from types import ModuleType
from typing import Any

# the ones that torchvision 0.28 describes without asking whether its library loaded (_meta_registrations.py)
OPERATORS = ("nms", "qnms")
_libraries: list[Any] = []


def define_missing_schemas(torch: Any) -> None:
    """Defines the schemas if torchvision is installed and its own library does not load; else does nothing."""
    torchvision = find_spec("torchvision")
    if torchvision is None or not torchvision.submodule_search_locations:
        return
    compiled = PathFinder.find_spec("_C", list(torchvision.submodule_search_locations))
    if compiled is not None:
        try:
            torch.ops.load_library(str(compiled.origin))
            return
        except OSError:
            pass
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in OPERATORS:
        if not hasattr(torch.ops.torchvision, name):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    # schemas live as long as the object
    _libraries.append(library)


HOOKS: dict[str, Callable[[ModuleType], None]] = {"torch": define_missing_schemas}
