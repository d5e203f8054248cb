"""The bars of a build, on standard error.

for entry in bar(entries, "reading", total=1000): ...
reading:  42%|####      | 420/1000 [00:01<00:01, 402.31 rows/s]
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def bar(items: Iterable[Item], name: str, total: int | None = None, initial: int = 0) -> Iterable[Item]:
    """The items, with a bar that says how many have passed and how fast."""
    # a log file wants a line now and then, a terminal a live bar
    every = 0.5 if sys.stderr.isatty() else 30.0
    return tqdm(items, desc=name, unit=" rows", total=total, initial=initial, mininterval=every)
