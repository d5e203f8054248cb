"""The files behind `data.train_files` and `data.val_files`, read as EasyR1 will select from them.

open_source("rl/train.parquet@train[:4000]", ("problem", "answer", "images")).total   # 4000
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ier1_plugin.task.decomposer import HUB_ID

BATCH = 128
_ROW_NUMBER = re.compile(r"\d+(?![\d%])")
BUILD = "python data_prep/build_rl_dataset.py builds one"
READ_AS = {".parquet": "parquet", ".jsonl": "lines", ".json": "lines"}


class FileProblem(ValueError):
    """A data file that EasyR1 could not use; the message says why and what to do."""


@dataclass(frozen=True)
class Source:
    """The selected rows of one local file."""

    path: Path
    spans: list[tuple[int, int]]
    """Half-open ranges of row numbers, in order."""
    columns: tuple[str, ...]

    @property
    def total(self) -> int:
        return sum(end - start for start, end in self.spans)

    def rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """(name, row) of each selected row; names hold the row number and the id if there is one."""
        read = _parquet_rows if READ_AS[self.path.suffix] == "parquet" else _json_rows
        last = max((end for _, end in self.spans), default=0)
        for number, row in enumerate(read(self.path, self.columns)):
            if number >= last:
                break
            if any(start <= number < end for start, end in self.spans):
                yield f"row {number}" + (f" ({row['id']})" if "id" in row else ""), row


def open_source(value: str, columns: tuple[str, ...]) -> Source | None:
    """The rows that `value` (a path, or path@split) selects, with `columns`; None if it is no local file.

    FileProblem: missing, another kind of file, no such split, columns that are not there.
    """
    name, at, split = value.partition("@")
    path = Path(name)
    if "@" in split:
        raise FileProblem("more than one @, of which EasyR1 takes none; rename the file or folder")
    if not path.exists():
        # a hub id looks like a path; it is taken for one where its first part is a folder here
        if HUB_ID.fullmatch(name) and not path.parent.exists():
            return None
        raise FileProblem(f"there is no such file; {BUILD}")
    if path.is_dir():
        raise FileProblem("is a folder, of which EasyR1 reads whatever kind of file it lists first; name the file")
    if path.suffix not in READ_AS:
        raise FileProblem(f"is no parquet or jsonl file; {BUILD}")
    found, total = (_parquet_columns if READ_AS[path.suffix] == "parquet" else _json_columns)(path)
    _require(columns, found)
    kept = tuple(column for column in ("id", *columns) if column in found)
    return Source(path, _spans(split if at else "train", total), kept)


def _require(columns: tuple[str, ...], found: list[str]) -> None:
    missing = [column for column in columns if column not in found]
    if missing:
        raise FileProblem(
            f"has no column {', '.join(missing)}, but {', '.join(found) or 'none'}; set data.prompt_key, "
            "data.answer_key and data.image_key to what they are called"
        )


def _spans(split: str, total: int) -> list[tuple[int, int]]:
    """Row ranges of a split such as train[:4000]; a single file always is the split `train`."""
    if split == "train":
        return [(0, total)]
    from datasets import ReadInstruction

    # `datasets` would take what there is, and a run with fewer rows than its name says
    if any(int(number) > total for number in _ROW_NUMBER.findall(split)):
        raise FileProblem(f"split {split!r} can't be taken: there are only {total:,} rows")
    try:
        chosen = ReadInstruction.from_spec(split).to_absolute({"train": total})
    except (ValueError, AssertionError, KeyError) as error:
        reason = str(error).strip("'\"").splitlines()[0]
        raise FileProblem(f"split {split!r} can't be taken ({reason}); wanted e.g. train[:4000]") from None
    return [(part.from_ or 0, total if part.to is None else part.to) for part in chosen]


def _parquet_columns(path: Path) -> tuple[list[str], int]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise FileProblem(f"is no readable parquet file ({str(error).splitlines()[0]}); {BUILD}") from None
    return file.schema_arrow.names, file.metadata.num_rows


def _parquet_rows(path: Path, columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        for batch in parquet.ParquetFile(path).iter_batches(batch_size=BATCH, columns=list(columns)):
            yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise FileProblem(f"is damaged ({str(error).splitlines()[0]}); {BUILD}") from None


def _json_columns(path: Path) -> tuple[list[str], int]:
    names: dict[str, None] = {}
    total = 0
    for row in _json_rows(path, ()):
        names.update(dict.fromkeys(row))
        total += 1
    return list(names), total


def _json_rows(path: Path, _: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
            except ValueError as error:
                raise FileProblem(f"line {number} is not JSON ({error}); wanted one object a line") from None
            if not isinstance(row, dict):
                raise FileProblem(f"line {number} is a {type(row).__name__}; wanted one JSON object a line")
            yield row
