"""Rows as dictionaries out of a file, a folder of files, or a set on the hub; images stay encoded.

    for line in read("data/requests.jsonl", split=None): ...
    -> Line(number=1, row={"id": "a1", "image": "photos/cat.jpg", "request": "remove the lamp"}, folder=Path("data"))
    -> Rejected(id="requests-2", reason="broken line: line 2 is not JSON (Expecting value ...)", row={...})

Sets on the hub are streamed with `datasets`, local files are read piece by piece, and a broken line of JSONL or CSV
costs no more than that line.
"""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

# a 64 MiB image as base64 has 86 MiB
MAX_LINE_BYTES = 96 << 20
SHOWN_BYTES = 200
# rows that are in memory at a time
BATCH = 16


class TableError(Exception):
    """A table that can't be read; the message says in one line what came, what was wanted and what to do."""


@dataclass(frozen=True)
class Rejected:
    """A row that can't be used, and why in one line."""

    id: str
    reason: str
    row: dict[str, Any] = field(default_factory=dict)
    """What is known of it: JSON values only, no image bytes."""


class Line(NamedTuple):
    """One row of the input."""

    number: int
    """Its place in the file or set, from 1."""
    row: dict[str, Any]
    folder: Path | None
    """Where image paths start, and what they may not leave; None for a set on the hub."""
    stem: str
    """The name of the file without its ending."""
    fixed: bool
    """True if every row has the same columns, so that one which is missing here is missing everywhere."""


def read(place: str, split: str | None, columns: Sequence[str] = ()) -> Iterator[Line | Rejected]:
    """The rows of a file, a folder or a hub set, in an order that is the same on every run.

    `columns`: the only ones wanted (those that exist), where reading fewer saves memory; empty for all.
    TableError: nothing there, or the whole of it can't be read.
    """
    path = Path(place)
    if not path.exists():
        yield from _hub(place, split, columns)
        return
    for file in _files(path, split):
        folder = path if path.is_dir() else path.parent
        yield from READERS[file.suffix](file, folder, columns)


def _files(path: Path, split: str | None) -> list[Path]:
    """The data files that `path` stands for: those of the kind that comes first in READERS, narrowed to a split."""
    if path.is_file():
        if path.suffix not in READERS:
            raise TableError(f"{path}: wanted a file that ends with {', '.join(READERS)}")
        return [path]
    for suffix in READERS:
        files = sorted(file for file in path.rglob(f"*{suffix}") if file.is_file())
        if files:
            return _of_split(files, split, path)
    raise TableError(f"{path} holds no file that ends with {', '.join(READERS)}")


def _of_split(files: list[Path], split: str | None, path: Path) -> list[Path]:
    """Files of a split are named as on the hub: train-00000-of-00002.parquet, train.jsonl, train/data.arrow."""
    if split is None:
        return files
    chosen = [file for file in files if file.stem.split("-")[0] == split or split in file.relative_to(path).parts[:-1]]
    if not chosen:
        names = ", ".join(file.name for file in files[:5])
        raise TableError(f"{path} has no file of split {split!r} (files: {names}); leave --split out to read them all")
    return chosen


def _jsonl(file: Path, folder: Path, _: Sequence[str]) -> Iterator[Line | Rejected]:
    with file.open("rb") as lines:
        number = 0
        while line := lines.readline(MAX_LINE_BYTES):
            number += 1
            rest = line
            while len(rest) == MAX_LINE_BYTES and not rest.endswith(b"\n"):
                rest = lines.readline(MAX_LINE_BYTES)
            if line.strip():
                yield _json_line(file, folder, number, line, too_long=rest is not line)


def _json_line(file: Path, folder: Path, number: int, line: bytes, too_long: bool) -> Line | Rejected:
    try:
        if too_long:
            raise ValueError(f"is longer than {MAX_LINE_BYTES} bytes")
        row = _json_object(line, "utf-8-sig" if number == 1 else "utf-8")
    except ValueError as error:
        return broken(file, f"line {number} {error}", number, line[:SHOWN_BYTES].decode("utf-8", "replace"))
    return Line(number, row, folder, file.stem, fixed=False)


def _json_object(line: bytes, encoding: str) -> dict[str, Any]:
    try:
        row = json.loads(line.decode(encoding))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is not JSON ({error})") from None
    if not isinstance(row, dict):
        raise ValueError("is not a JSON object")
    return row


def broken(file: Path, problem: str, number: int, text: str) -> Rejected:
    return Rejected(f"{file.stem}-{number}", f"broken line: {problem}", {"line": number, "text": text})


def _csv(file: Path, folder: Path, _: Sequence[str]) -> Iterator[Line | Rejected]:
    with file.open(encoding="utf-8-sig", errors="replace", newline="") as lines:
        rows = csv.DictReader(lines)
        for number in itertools.count(1):
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                yield broken(file, f"row {number} is not CSV ({error})", number, "")
                continue
            if None in row or None in row.values():
                yield broken(file, f"row {number} has not as many cells as the header", number, str(list(row.values())))
            else:
                yield Line(number, row, folder, file.stem, fixed=True)


def _parquet(file: Path, folder: Path, columns: Sequence[str]) -> Iterator[Line]:
    import pyarrow.parquet as pq

    def batches() -> Iterator[Any]:
        # page by page: whole row groups, as `datasets` reads them, may be gigabytes
        with pq.ParquetFile(file, pre_buffer=False, buffer_size=1 << 20) as table:
            wanted = [name for name in columns if name in table.schema_arrow.names]
            yield from table.iter_batches(BATCH, columns=wanted or None)

    yield from _lines(_rows_of(batches()), folder, file.stem, str(file))


def _arrow(file: Path, folder: Path, columns: Sequence[str]) -> Iterator[Line]:
    import pyarrow as pa

    def batches() -> Iterator[Any]:
        with pa.memory_map(str(file)) as mapped:
            try:
                table = pa.ipc.open_stream(mapped)
            except pa.ArrowInvalid:
                reader = pa.ipc.open_file(mapped)
                table = (reader.get_batch(number) for number in range(reader.num_record_batches))
            for batch in table:
                wanted = [name for name in columns if name in batch.schema.names]
                yield batch.select(wanted) if wanted else batch

    yield from _lines(_rows_of(batches()), folder, file.stem, str(file))


def _hub(name: str, split: str | None, columns: Sequence[str]) -> Iterator[Line]:
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise TableError(f"there is no file or folder {name}, and it is not a hub id such as PSRDataset/PSR-328")
    yield from _lines(_stream(name, split or "train", columns), None, name.replace("/", "-"), name)


def hub_splits(name: str) -> list[str]:
    """The names of a hub set's splits. TableError: it can't be reached."""
    import datasets

    try:
        return list(datasets.get_dataset_split_names(name))
    except Exception as error:
        raise TableError(f"hub set {name} can't be opened: {_first_line(error)}; name the path of a copy") from None


def _stream(name: str, split: str, columns: Sequence[str]) -> Any:
    """A streamed set whose images come as {"bytes", "path"}: decoding is the checks' work."""
    import datasets

    try:
        builder = datasets.load_dataset_builder(name)
        rows: Any = builder.as_streaming_dataset(split)
        wanted = [column for column in columns if column in (rows.column_names or ())]
        if wanted and hasattr(builder.config, "columns"):
            # a set of parquet files: the edited images, two thirds of the bytes, then stay where they are
            rows = datasets.load_dataset_builder(name, columns=wanted).as_streaming_dataset(split)
        for column, kind in (rows.features or {}).items():
            if isinstance(kind, datasets.Image):
                rows = rows.cast_column(column, datasets.Image(decode=False))
    except Exception as error:
        cure = "name a split that it has, or the path of a copy"
        raise TableError(f"hub set {name}, split {split}, can't be opened: {_first_line(error)}; {cure}") from None
    return rows


def _rows_of(batches: Iterable[Any]) -> Iterator[dict[str, Any]]:
    for batch in batches:
        for start in range(0, batch.num_rows, BATCH):
            yield from batch.slice(start, BATCH).to_pylist()


def _lines(rows: Iterable[dict[str, Any]], folder: Path | None, stem: str, name: str) -> Iterator[Line]:
    number = 0
    try:
        for row in rows:
            number += 1
            yield Line(number, row, folder, stem, fixed=True)
    except Exception as error:
        raise TableError(f"{name} can't be read after row {number}: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__


READERS: dict[str, Callable[[Path, Path, Sequence[str]], Iterator[Line | Rejected]]] = {
    ".parquet": _parquet,
    ".arrow": _arrow,
    ".jsonl": _jsonl,
    ".csv": _csv,
}
