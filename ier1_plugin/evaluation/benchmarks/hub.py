"""What a set on the hub has: which of its splits are read, and which columns there are.

    picked("BleachNick/UltraEdit", "FreeForm_*", count=4, seed=0)     # ["FreeForm_1207", "FreeForm_91", ...]
    named_in(["ultraedit-FreeForm_91-7"], "ultraedit", "FreeForm_*")  # ["FreeForm_91"]

UltraEdit's four million rows lie in two thousand splits of two thousand rows. To draw from all of them is to download
all of them, so a sample is drawn from a few that the seed picks: it stands for these, and for the whole set only as far
as its splits are alike. Of each split the ids and requests are read first, then the source images up to the last item
of the sample. The id of an item names its split, so that a list of ids is enough to find the items again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ier1_plugin.data.tables import Line, hub_splits
from ier1_plugin.evaluation.records import EvaluationError
from ier1_plugin.task.rows import order_key


def picked(place: str, pattern: str, count: int, seed: int) -> list[str]:
    """`count` of the splits that fit the pattern, the same for a seed. EvaluationError: there are none.

    TableError: the hub can't be asked.
    """
    known = [split for split in hub_splits(place) if _fits(split, pattern)]
    if not known:
        raise EvaluationError(f"{place} has no split {pattern}; name one with --split")
    return sorted(known, key=lambda split: order_key(seed, split))[:count]


def named_in(ids: Iterable[str], name: str, pattern: str) -> list[str]:
    """The splits that the ids of a benchmark's items name."""
    parts = {id.removeprefix(f"{name}-").partition("-")[0] for id in ids}
    return sorted(part for part in parts if _fits(part, pattern))


def split_of(line: Line, pattern: str | None) -> str:
    """The split that the id of a row's item must name, or "". Local files are called SPLIT-00000-of-00001.parquet."""
    part = line.stem.partition("-")[0]
    return part if is_pattern(pattern) and _fits(part, pattern or "") else ""


def is_pattern(split: str | None) -> bool:
    return bool(split) and str(split).endswith("*")


def _fits(split: str, pattern: str) -> bool:
    return split.startswith(pattern[:-1]) and len(split) >= len(pattern)


def columns_of(place: str, split: str) -> list[str]:
    """The columns of a set on the hub; [] where only its rows would tell."""
    import datasets

    try:
        rows: Any = datasets.load_dataset_builder(place).as_streaming_dataset(split)
        return list(rows.column_names or ())
    except Exception:  # whoever reads the rows says what is wrong
        return []
