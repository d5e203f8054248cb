"""The rows that responses are scored against: a parquet file of RL rows, as data_prep builds them.

    read_gold_rows(Path("data/rl/val.parquet"))["psr-1f3k"]
    -> GoldRow(id="psr-1f3k", gold=Gold(...), operations=2, photo="9f2c...")

The rows carry no name of their photo. Those whose images are the same bytes are about one photo, which they say less
about together than as many photos would; two crops of one picture are two photos.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ier1_plugin.data.tables import Line, TableError, read
from ier1_plugin.evaluation.records import EvaluationError
from ier1_plugin.task.schema import Decomposition
from ier1_plugin.task.scoring import Gold

NEEDED = ("id", "answer")


@dataclass(frozen=True)
class GoldRow:
    """What a response is scored against."""

    id: str
    gold: Gold
    operations: int
    """The longest of the gold's three lists."""
    photo: str = ""
    """sha256 of its image, or "" of a row that brings none."""


def read_gold_rows(file: Path) -> dict[str, GoldRow]:
    """All rows of a parquet file by their ids. EvaluationError: it is none of RL rows, or a gold is damaged."""
    if not file.is_file():
        raise EvaluationError(f"--rows: there is no file {file}; wanted a parquet file of data_prep")
    found: dict[str, GoldRow] = {}
    try:
        for line in read(str(file), None, (*NEEDED, "images")):
            row = line.row if isinstance(line, Line) else {}
            if not set(NEEDED) <= set(row):
                raise EvaluationError(f"--rows: {file} has not the columns id and answer (found: {', '.join(row)})")
            if row["id"] in found:
                raise EvaluationError(f"--rows: {file} has the id {row['id']!r} twice")
            found[row["id"]] = _gold_row(row)
    except (TableError, ValueError) as error:
        raise error if isinstance(error, EvaluationError) else EvaluationError(f"--rows: {error}") from None
    if not found:
        raise EvaluationError(f"--rows: {file} has no rows")
    return found


def check_photos(rows: Iterable[GoldRow], file: Path) -> None:
    """EvaluationError: a row has no image to ask about."""
    without = [row.id for row in rows if not row.photo]
    if without:
        more = f" (nor have {len(without) - 1} others)" if without[1:] else ""
        raise EvaluationError(f"--rows: row {without[0]!r} of {file} has no image{more}; a model is asked with one")


def by_photo(rows: Iterable[GoldRow]) -> NDArray[np.int64]:
    """(rows,): a number for each photo; a row without an image stands alone."""
    return np.unique([row.photo or f"row {row.id}" for row in rows], return_inverse=True)[1].ravel().astype(np.int64)


def _gold_row(row: dict[str, Any]) -> GoldRow:
    try:
        gold = Decomposition.from_json(row["answer"])
    except (ValueError, TypeError) as error:
        raise ValueError(f"the gold of row {row['id']} is damaged: {error}") from None
    operations = max(len(gold.actions), len(gold.subjects), len(gold.goals))
    return GoldRow(row["id"], Gold.of(gold), operations, _photo(row.get("images")))


def _photo(images: Any) -> str:
    first = images[0] if isinstance(images, list) and images else None
    data = first.get("bytes") if isinstance(first, dict) else None
    return sha256(data).hexdigest() if isinstance(data, bytes) and data else ""
