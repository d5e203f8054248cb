"""Which items of a benchmark are evaluated: the first of them in the order of a hash of (seed, id).

    sampled(["psr-1", "psr-2", "psr-3"], seed=0, count=2)    # ["psr-3", "psr-1"]

So a sample is random, the same for everyone who names the same seed, and the beginning of every larger one.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from ier1_plugin.evaluation.records import EvaluationError
from ier1_plugin.task.rows import order_key


def sampled(ids: Iterable[str], seed: int, count: int | None = None) -> list[str]:
    """`count` of the ids, or all of them for None; no more are held than are kept."""
    order = partial(order_key, seed)
    return sorted(ids, key=order) if count is None else heapq.nsmallest(count, ids, key=order)


def read_ids(file: Path) -> list[str]:
    """The ids in a file, one a line, as sample.txt has them. EvaluationError: no such file, or none in it."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluationError(f"--ids: {file} can't be read: {getattr(error, 'strerror', None) or error}") from None
    ids = list(dict.fromkeys(filter(None, map(str.strip, lines))))
    if not ids:
        raise EvaluationError(f"--ids: {file} is empty; wanted an id a line, as sample.txt has them")
    return ids
