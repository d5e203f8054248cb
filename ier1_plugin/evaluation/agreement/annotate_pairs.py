"""Which edits of an evaluation are rated: pairs of an item and a system, drawn by lot.

draw(edited_pairs(Path("evaluations/psr")), sample=100, seed=0)[0]
-> RatedPair(item="psr-1a2b", system="flux", request="remove the lamp", source="inputs/psr-1a2b.png",
        edited="systems/flux/images/psr-1a2b.png", actions=("Delete",), cluster="1a2b")
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ier1_plugin.data.items import Item
from ier1_plugin.evaluation.folder import EVALUATION, read_items, read_run
from ier1_plugin.evaluation.records import BenchmarkItem, EvaluationError
from ier1_plugin.pipeline.batch_folder import Store


@dataclass(frozen=True)
class RatedPair:
    """What is rated: one system's edit of one item. Paths are relative to the evaluation's folder, or absolute."""

    item: str
    system: str
    request: str
    source: str
    edited: str
    actions: tuple[str, ...] = ()
    cluster: str = ""


def edited_pairs(folder: Path, systems: Sequence[str] = ()) -> dict[str, list[RatedPair]]:
    """{system: pairs that have an edited image}, of all systems of an evaluation or of those named.

    EvaluationError: there are none, or there is no such system.
    """
    facts, items = read_run(folder), read_items(folder)
    if not facts:
        raise EvaluationError(f"{folder} holds no {EVALUATION}; wanted a folder that `ier1 evaluate --out` made")
    places = {str(one["name"]): str(one.get("folder") or f"systems/{one['name']}") for one in facts["systems"]}
    unknown = sorted(set(systems) - set(places))
    if unknown:
        raise EvaluationError(f"{folder} has no system {unknown[0]!r}; it has {', '.join(places)}")
    found = {
        name: _of_system(folder, name, place, items) for name, place in places.items() if name in (systems or places)
    }
    if not any(found.values()):
        raise EvaluationError(f"{folder} has no edited images to rate; `ier1 evaluate --out {folder}` makes them")
    return found


def draw(pairs: dict[str, list[RatedPair]], sample: int, seed: int) -> list[RatedPair]:
    """`sample` pairs by lot, or all there are: every item once before any comes twice, systems in turn."""
    by_item: dict[str, dict[str, RatedPair]] = {}
    for system, of_system in pairs.items():
        for pair in of_system:
            by_item.setdefault(pair.item, {})[system] = pair
    items = sorted(by_item)
    random.Random(f"{seed}-items").shuffle(items)
    systems = list(pairs)
    turns = (
        (item, systems[(place + turn) % len(systems)])
        for turn in range(len(systems))
        for place, item in enumerate(items)
    )
    return [by_item[item][system] for item, system in turns if system in by_item[item]][:sample]


def _of_system(folder: Path, system: str, place: str, items: list[BenchmarkItem]) -> list[RatedPair]:
    store = Store(folder / place)
    found = []
    for item in items:
        edited = store.image(Item(item.id))
        if edited.is_file():
            file = str(edited.relative_to(folder) if edited.is_relative_to(folder) else edited)
            found.append(RatedPair(item.id, system, item.request, item.image, file, item.actions, item.cluster))
    return found
