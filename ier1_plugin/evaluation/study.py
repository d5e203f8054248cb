"""What a report is made of: benchmarks, systems, and every judge's scores as arrays over the items of a benchmark.

study.scores["psr", "FLUX.1-Kontext-dev", "openai:gpt-4o-2024-11-20"].total    # array([9., 6.5, nan, ...])
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ier1_plugin.evaluation.records import BenchmarkItem
from ier1_plugin.evaluation.statistics import Floats

__all__ = ["Floats"]
Flags: TypeAlias = NDArray[np.bool_]
Triple: TypeAlias = tuple[str, str, str]
"""Benchmark, system, judge."""


@dataclass(frozen=True)
class Scores:
    """What one judge said of one system's edits of one benchmark; all arrays follow the benchmark's items."""

    given: Flags
    """True where the system was to edit the item and the judge to look at it."""
    parts: Floats
    """(items, 3): fulfilment, quality, preservation; means over the scored samples, NaN where none is scored."""
    spread: float
    """Standard deviation of the total between samples of an item, mean over items; NaN with one sample an item."""
    reasons: Mapping[int, str]
    """Why a given item has no score, such as "missing image: the editor gave up"."""
    replies: Mapping[int, str]
    """What the judge wrote of an item, as of its first sample; the beginning of it where that is long."""

    @property
    def total(self) -> Floats:
        """0 to 10; NaN: unscored."""
        return self.parts.sum(axis=1)


@dataclass(frozen=True)
class Benchmark:
    """Items and the clusters in which they are resampled."""

    name: str
    items: tuple[BenchmarkItem, ...]
    folders: tuple[Path, ...]
    """The evaluation that each item's images are in."""
    facts: Mapping[str, Mapping[str, Any]]
    """What each evaluation's evaluation.json says of the benchmark, by folder."""

    @property
    def clusters(self) -> NDArray[np.int64]:
        """A number for each item; items of one cluster have the same."""
        numbers: dict[str, int] = {}
        return np.array([numbers.setdefault(item.cluster, len(numbers)) for item in self.items], dtype=np.int64)


@dataclass(frozen=True)
class SystemResult:
    """A system that was evaluated."""

    name: str
    settings: Mapping[str, Any]
    """Keys as of system.System; empty for edits by people."""
    folders: Mapping[str, tuple[Path | None, ...]]
    """By benchmark, for each of its items the output folder of the batch whose edit was judged; None: not given."""


@dataclass(frozen=True)
class JudgeInfo:
    """A judge, and what there is to know of its judgements that count."""

    facts: Mapping[str, Mapping[str, Any]]
    """What each evaluation's evaluation.json says of it, by folder."""
    first: str = ""
    """Date of the oldest judgement; "" without any."""
    last: str = ""
    models: Mapping[str, int] = field(default_factory=dict)
    """What its server said had answered, and how often."""


@dataclass(frozen=True)
class Study:
    """All that a report is made of."""

    benchmarks: Mapping[str, Benchmark]
    systems: Mapping[str, SystemResult]
    judges: Mapping[str, JudgeInfo]
    scores: Mapping[Triple, Scores]
    notes: tuple[str, ...]
