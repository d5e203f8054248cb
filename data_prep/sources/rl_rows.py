"""Rows that this builder wrote before: how several data sets become one.

    --source rl-rows --input data/psr data/ultraedit
    -> RawRow(id="psr-1f3k", source="psr", request="remove the lamp", image=b"...", gold=..., split="train", ...)

Each row keeps its source, its gold, its case and its split; checks, the search for duplicates and `--exclude` run over
the union.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from data_prep.settings import SPLITS, RawRow, Settings
from ier1_plugin.data.tables import Rejected, image_of, read
from ier1_plugin.runs.errors import UserError
from ier1_plugin.task.rows import CASE_IMAGES, COLUMNS, read_answer


def rl_rows(settings: Settings, input: str) -> Iterator[RawRow | Rejected]:
    """The rows of train.parquet and val.parquet in the folder `input`."""
    for split in SPLITS:
        file = Path(input) / f"{split}.parquet"
        if not file.is_file():
            raise UserError(f"--source rl-rows: {file} is missing; wanted a folder that this command has built")
        for line in read(str(file), None):
            if isinstance(line, Rejected) or set(COLUMNS) - set(line.row):
                raise UserError(f"--source rl-rows: {file} lacks the columns {', '.join(COLUMNS)}")
            row, id = line.row, line.row["id"]
            try:
                gold, case = read_answer(row["answer"])
                request, image = row["problem"], image_of(row["images"], ())
                if not all(isinstance(text, str) for text in (id, row["source"], request)):
                    raise TypeError("id, source or problem is missing")
            except (ValueError, LookupError, TypeError, AttributeError) as error:
                yield Rejected(str(id), f"row can't be read: {error}", {"id": str(id)})
            else:
                photo = Path(input, CASE_IMAGES, case.image) if case else None
                yield RawRow(id, row["source"], request, image, id, gold, split, photo)
