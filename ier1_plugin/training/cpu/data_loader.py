"""In place of the eight worker processes that EasyR1's data loaders start: none, or IER1_CPU_LOADER_WORKERS of them.

Two loaders with eight processes each are more than a small machine has memory and cores for; at this model size the
trainer prepares a batch itself in a few milliseconds.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from types import ModuleType
from typing import Any


def replace_worker_count(stateful_dataloader: Any) -> None:
    loader = stateful_dataloader.StatefulDataLoader
    init = loader.__init__

    @functools.wraps(init)
    def with_few_workers(self: Any, *args: Any, **kwargs: Any) -> None:
        if "num_workers" in kwargs:
            kwargs["num_workers"] = int(os.environ.get("IER1_CPU_LOADER_WORKERS", "0"))
        init(self, *args, **kwargs)

    loader.__init__ = with_few_workers


HOOKS: dict[str, Callable[[ModuleType], None]] = {"torchdata.stateful_dataloader": replace_worker_count}
