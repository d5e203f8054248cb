"""Parts of a benchmark that are looked at apart: by part of the score, by difficulty, by action.

by_action(study, "psr")[0]      # Slice("Delete", array([True, False, ...]))
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ier1_plugin.evaluation.records import DIMENSIONS, HIGHEST
from ier1_plugin.evaluation.study import Flags, Study

TOTAL = -1
LEVELS = ("low", "medium", "high")


@dataclass(frozen=True)
class Slice:
    """Some items of a benchmark, and which part of their score counts."""

    name: str
    items: Flags
    part: int = TOTAL
    """Its place in DIMENSIONS."""
    highest: int = HIGHEST


def by_dimension(study: Study, benchmark: str) -> list[Slice]:
    everything = np.ones(len(study.benchmarks[benchmark].items), dtype=bool)
    return [
        Slice(f"{name} (0–{highest})", everything, part, highest)
        for part, (name, highest) in enumerate(DIMENSIONS.items())
    ]


def by_difficulty(study: Study, benchmark: str) -> list[Slice]:
    levels = [item.difficulty for item in study.benchmarks[benchmark].items]
    order = sorted({*levels} - {""}, key=lambda level: (LEVELS.index(level) if level in LEVELS else 9, level))
    return [Slice(level, np.array([one == level for one in levels])) for level in order]


def by_action(study: Study, benchmark: str) -> list[Slice]:
    """The most frequent action first; an item counts for each of its actions."""
    actions = [item.actions for item in study.benchmarks[benchmark].items]
    counts = {name: sum(name in those for those in actions) for name in sorted({a for those in actions for a in those})}
    order = sorted(counts, key=lambda name: -counts[name])
    return [Slice(name, np.array([name in those for those in actions])) for name in order]
