"""Rows that this builder wrote before: how several data sets become one.

    --source rl-rows --input data/psr data/ultraedit
    -> RawRow(id="psr-1f3k", source="psr", request="remove the lamp", image=b"...", gold=..., split="train", ...)

Each row keeps its source, its gold and its split; checks, the search for duplicates and `--exclude` run over the union.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from data_prep.records import SPLITS, BuildError, RawRow, Rejected
from data_prep.settings import Settings
from ier1_plugin.data.tables import read
from ier1_plugin.task.rows import COLUMNS, IMAGE_PLACEHOLDER
from ier1_plugin.task.schema import Decomposition


def rl_rows(settings: Settings) -> Iterator[RawRow | Rejected]:
    """The rows of train.parquet and val.parquet in the folder `settings.input`."""
    folder = Path(settings.input)
    for split in SPLITS:
        file = folder / f"{split}.parquet"
        if not file.is_file():
            raise BuildError(f"--source rl-rows: {file} is missing; wanted a folder that this command has built")
        for line in read(str(file), None):
            if isinstance(line, Rejected) or set(COLUMNS) - set(line.row):
                raise BuildError(f"--source rl-rows: {file} has not the columns {', '.join(COLUMNS)}")
            yield _row(line.row, split)


def _row(row: dict, split: str) -> RawRow | Rejected:
    try:
        gold = Decomposition.from_json(row["answer"])
        request, image = row["problem"].removeprefix(IMAGE_PLACEHOLDER), row["images"][0]["bytes"]
        if not (isinstance(row["id"], str) and isinstance(row["source"], str) and isinstance(image, bytes)):
            raise TypeError("id, source or image bytes are missing")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        return Rejected(str(row["id"]), f"row can't be read: {error}", {"id": str(row["id"])})
    return RawRow(row["id"], row["source"], request, image, group=row["id"], gold=gold, split=split)
