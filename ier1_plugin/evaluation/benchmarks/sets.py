"""The public benchmarks: where each lies, which column holds what, which rows count.

    SETS["psr"].hub                # "PSRDataset/PSR-328"
    SETS["psr"].columns["human"]   # ("human_edited_image",)

Columns as the sets' cards and their own evaluation scripts name them, November 2026. Where a set is distributed in
other columns, `--columns request=NAME,image=NAME` names them.

RealEdit's columns are verified for local files only, in both forms that its repository (AyanaBharadwaj/RealEdit) reads
and writes: inference.py reads input_image_name and instruction; data_curation/downloading/create_dataset.py writes
orig_img, instruction and edit_images, the human edits with | between their paths. Its README speaks of a test set of
9,337 requests with one verified edit each; the card of the hub copy could not be read, so that its columns, and whether
they hold images, are not known. Where they are others, the error names those that there are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ier1_plugin.data.items import REQUEST_KEYS
from ier1_plugin.data.sets import TABLES, Table
from ier1_plugin.evaluation.records import EvaluationError

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
    """On the hub. A * at the end: some of the splits that begin like this, as the seed picks them."""
    spread: int = 1
    """Of so many splits, where there are very many."""
    where: Mapping[str, str] = field(default_factory=dict)
    """Column -> the value that a row must have to count."""
    grouped: bool = False
    """True: several rows of one id are one item, which has the human edits of all of them."""
    joined_by: str = ""
    """What stands between the paths of several human edits in one cell."""
    request_of: Callable[[Any], str] | None = None
    """Reads the request out of its cell; None: the cell is the request. ValueError: it holds none."""


def _set(table: Table, more: Mapping[str, str | tuple[str, ...]], hub: str, split: str, **rest: Any) -> EditSet:
    known = {"id": table.id, "cluster": table.group, "image": (table.image,), "request": (table.request,)}
    given = {role: (column,) if isinstance(column, str) else column for role, column in more.items()}
    return EditSet(known | given, hub, split, **rest)


SETS: dict[str, EditSet] = {
    # 10,405 rows: 328 posts x AI edits x human edits
    "psr": _set(
        TABLES["psr"],
        {"difficulty": "creativity_index", "human": "human_edited_image"},
        "PSRDataset/PSR-328",
        "test",
        grouped=True,
    ),
    "realedit": _set(
        TABLES["realedit"],
        {"image": (TABLES["realedit"].image, "orig_img"), "human": "edit_images"},
        "peter-sushko/RealEdit",
        "test",
        joined_by="|",
    ),
    # FreeForm_0, FreeForm_1, ...: 2,000 rows each, 4 million in all
    "ultraedit": _set(TABLES["ultraedit"], {}, "BleachNick/UltraEdit", "FreeForm_*", spread=4),
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
    """The columns of every role; those that the user names take the place of the set's own.

    EvaluationError: the user names a role that there is not.
    """
    unknown = sorted(set(given) - set(ROLES))
    if unknown:
        raise EvaluationError(f"--columns: there is no {', '.join(unknown)}; known: {', '.join(ROLES)}")
    return {role: (given[role],) if role in given else tuple(edit_set.columns.get(role, ())) for role in ROLES}


def texts_of(cell: Any) -> tuple[str, ...]:
    """One label or a list of them; "Delete, Add" are two."""
    items = re.split(r"\s*[,;]\s*", cell) if isinstance(cell, str) else cell if isinstance(cell, (list, tuple)) else ()
    return tuple(dict.fromkeys(item.strip() for item in items if isinstance(item, str) and item.strip()))
