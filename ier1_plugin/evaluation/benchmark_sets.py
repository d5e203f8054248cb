"""The public benchmarks: where each lies, which column holds what, which rows count.

    SETS["psr"].hub                # "PSRDataset/PSR-328"
    SETS["psr"].columns["human"]   # ("human_edited_image",)

Columns as the sets' cards and their own evaluation scripts name them, November 2026. Where a set is distributed in
other columns, `--columns request=NAME,image=NAME` names them. RealEdit's card could not be read: its columns are those
of its inference script, and its hub copy may have others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ier1_plugin.batch_items import REQUEST_KEYS
from ier1_plugin.edit_sets import TABLES, Table

ROLES = ("id", "cluster", "image", "request", "actions", "difficulty", "human", "gold")
MOST_COMPLEX = 8
"""Complex-Edit words each edit at eight levels, C1 to C8: how many atomic edits it is made of (its README)."""


@dataclass(frozen=True)
class EditSet:
    """A benchmark that is a table."""

    columns: Mapping[str, tuple[str, ...]]
    """Role -> columns. Those of id and cluster are joined, of the other roles the first that a row has counts."""
    hub: str = ""
    split: str | None = None
    """On the hub. A * at the end: SPREAD of the splits that begin like this, as the seed picks them."""
    where: Mapping[str, str] = field(default_factory=dict)
    """Column -> the value that a row must have to count."""
    grouped: bool = False
    """True: several rows of one id are one item, which has the human edits of all of them."""
    request_of: Callable[[Any], str] | None = None
    """Reads the request out of its cell; None: the cell is the request. ValueError: it holds none."""


def _set(table: Table, more: Mapping[str, str], hub: str, split: str, **rest: Any) -> EditSet:
    known = {"id": table.id, "cluster": table.group, "image": (table.image,), "request": (table.request,)}
    return EditSet(known | {role: (column,) for role, column in more.items()}, hub, split, **rest)


SETS: dict[str, EditSet] = {
    # 10,405 rows: 328 posts x AI edits x human edits
    "psr": _set(
        TABLES["psr"],
        {"difficulty": "creativity_index", "human": "human_edited_image"},
        "PSRDataset/PSR-328",
        "test",
        grouped=True,
    ),
    "realedit": _set(TABLES["realedit"], {}, "peter-sushko/RealEdit", "test"),
    # FreeForm_0, FreeForm_1, ...: 2,000 rows each, 4 million in all
    "ultraedit": _set(TABLES["ultraedit"], {}, "BleachNick/UltraEdit", "FreeForm_*"),
    "gedit": _set(
        Table("input_image_raw", "instruction", id=("key",), group=("key",)),
        {"actions": "task_type"},
        "stepfun-ai/GEdit-Bench",
        "train",
        # the other half are the same requests in Chinese
        where={"instruction_language": "en"},
    ),
    # its test split is a download of its own; target_img was made by people with DALL-E 2
    "magicbrush": _set(TABLES["magicbrush"], {"human": "target_img"}, "osunlp/MagicBrush", "dev"),
}
JSONL = EditSet(
    {
        "id": ("id",),
        "cluster": ("cluster",),
        "image": ("image",),
        "request": REQUEST_KEYS,
        "actions": ("actions",),
        "difficulty": ("difficulty",),
        "human": ("human_images",),
        "gold": ("gold_image",),
    }
)
IMGEDIT = EditSet(
    {"id": ("key",), "cluster": ("id",), "image": ("id",), "request": ("prompt",), "actions": ("edit_type",)}
)
"""Rows of ImgEdit-Bench's basic_edit.json: {"1082": {"id": "animal/000342021.jpg", "prompt": ..., "edit_type": ...}}"""


def complex_edit(level: int) -> EditSet:
    """Complex-Edit at one level: test_real, or with `--split test_syn` the synthetic photos."""

    def request_of(cell: Any) -> str:
        try:
            return cell["compound"][level - 1]["compound_instruction"]
        except (LookupError, TypeError):
            raise ValueError(f"edit holds no compound instruction of level C{level}") from None

    return EditSet(
        {"image": ("image",), "request": ("edit",)}, "UCSC-VLAA/Complex-Edit", "test_real", request_of=request_of
    )


def with_columns(edit_set: EditSet, given: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The columns of every role; those that the user names take the place of the set's own."""
    return {role: (given[role],) if role in given else tuple(edit_set.columns.get(role, ())) for role in ROLES}


def texts_of(cell: Any) -> tuple[str, ...]:
    """One label or a list of them; "Delete, Add" are two."""
    items = re.split(r"\s*[,;]\s*", cell) if isinstance(cell, str) else cell if isinstance(cell, (list, tuple)) else ()
    return tuple(dict.fromkeys(item.strip() for item in items if isinstance(item, str) and item.strip()))
