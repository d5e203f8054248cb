"""Rows as dictionaries from a file, a folder of files, or a set on the hub; images stay encoded.

    for line in read("data/requests.jsonl", split=None): ...
    -> Line(number=1, row={"id": "a1", "image": "photos/cat.jpg", "request": "remove the lamp"}, folder=Path("data"))
    -> Rejected(id="requests-2", reason="broken line: line 2 is not JSON (Expecting value ...)", row={...})
    image_of("photos/cat.jpg", Path("/data"))     # Path("/data/photos/cat.jpg")

Sets on the hub are streamed with `datasets`, local files are read piece by piece, and a broken line of JSONL or CSV
costs no more than that line.
"""

from __future__ import annotations

import base64
import binascii
import csv
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from ier1_plugin.runs.errors import UserError

# a 64 MiB image as base64 has 86 MiB
MAX_LINE_BYTES = 96 << 20
SHOWN_BYTES = 200
# rows that are in memory at a time
BATCH = 16
DATA_URL = "data:"


class TableError(UserError):
    """A table that can't be read."""


@dataclass(frozen=True)
class Rejected:
    """A row that can't be used, and the reason in one line."""

    id: str
    reason: str
    row: dict[str, Any] = field(default_factory=dict)
    """What is known of the row: JSON values only, no image bytes."""


class Line(NamedTuple):
    """One row of the input."""

    number: int
    """Its position in the file or set, from 1."""
    row: dict[str, Any]
    folder: Path | None
    """The folder that image paths start from and must stay in; None for a set on the hub."""
    stem: str
    """The name of the file without its ending."""
    fixed: bool
    """True if every row has the same columns, so that a column missing here is missing everywhere."""


def read(source: str, split: str | None, columns: Sequence[str] = ()) -> Iterator[Line | Rejected]:
    """The rows of a file, a folder or a hub set, in an order that is the same on every run.

    `columns`: the only ones wanted (those that exist), where reading fewer saves memory; empty for all. TableError: it
    does not exist, or can't be read at all.
    """
    path = Path(source)
    if not path.exists():
        yield from _hub(source, split, columns)
        return
    folder = path if path.is_dir() else path.parent
    for file in _files(path, split):
        if file.suffix in LINES:
            yield from LINES[file.suffix](file, folder)
        else:
            yield from _lines(TABLES[file.suffix](file, columns), folder, file.stem, str(file))


def read_jsonl(file: Path, folder: Path) -> Iterator[Line | Rejected]:
    """The lines of a JSONL file, blank ones left out."""
    with file.open("rb") as lines:
        number = 0
        while line := lines.readline(MAX_LINE_BYTES):
            number += 1
            rest = line
            while len(rest) == MAX_LINE_BYTES and not rest.endswith(b"\n"):
                rest = lines.readline(MAX_LINE_BYTES)
            if not line.strip():
                continue
            row: Any = None
            problem = "is not a JSON object"
            if rest is not line:
                problem = f"is longer than {MAX_LINE_BYTES} bytes"
            else:
                try:
                    row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
                except (ValueError, RecursionError) as error:
                    problem = f"is not JSON ({error})"
            if isinstance(row, dict):
                yield Line(number, row, folder, file.stem, fixed=False)
            else:
                yield _broken(file, f"line {number} {problem}", number, line[:SHOWN_BYTES].decode("utf-8", "replace"))


def image_of(cell: Any, folder: Path | None) -> bytes | Path:
    """The image of a cell: bytes, a base64 data URL, or the path of a file in `folder`; ValueError: there is none."""
    if isinstance(cell, dict):
        cell = cell.get("bytes") or cell.get("path")
    if isinstance(cell, bytes):
        return cell
    if not isinstance(cell, str) or not cell.strip():
        raise ValueError("no image: wanted a path, a base64 data URL or bytes")
    if cell.startswith(DATA_URL):
        head, comma, body = cell.partition(",")
        if not comma or not head.endswith(";base64"):
            raise ValueError("image is a data URL without base64")
        try:
            return base64.b64decode(body, validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("image is a data URL that is not base64") from None
    if "://" in cell[:12]:
        raise ValueError("image is an address: download it and give its path")
    if folder is None:
        raise ValueError("image is a path: in a set on the hub it has no bytes; download the set and give its folder")
    return inside(folder, cell)


def inside(folder: Path, name: str) -> Path:
    """The file `name` in `folder`; ValueError: it is outside the folder, also through a link, or is not a file."""
    if "\0" in name:
        raise ValueError("image path can't be used: it holds a NUL")
    try:
        path, root = os.path.realpath(os.path.join(folder, name)), _real(folder)
        if os.path.commonpath([root, path]) != root:
            raise ValueError(f"image lies outside the folder of its input: {name}")
        if not os.path.isfile(path):
            raise ValueError(f"image file is missing: {name}")
    except OSError as error:
        raise ValueError(f"image path can't be used: {error}") from None
    return Path(path)


@lru_cache(maxsize=16)
def _real(folder: Path) -> str:
    return os.path.realpath(folder)


def hub_splits(name: str) -> list[str]:
    """The names of a hub set's splits. TableError: the hub can't be reached."""
    import datasets

    try:
        return list(datasets.get_dataset_split_names(name))
    except Exception as error:
        raise TableError(f"hub set {name} can't be opened: {_first_line(error)}; name the path of a copy") from None


def hub_columns(name: str, split: str) -> list[str]:
    """The columns of a hub set; [] if only its rows would show them."""
    import datasets

    try:
        rows: Any = datasets.load_dataset_builder(name).as_streaming_dataset(split)
        return list(rows.column_names or ())
    except Exception:  # whoever reads the rows says what is wrong
        return []


def _files(path: Path, split: str | None) -> list[Path]:
    """The data files that `path` stands for: those of the kind that comes first in ENDINGS, narrowed to a split."""
    if path.is_file():
        if path.suffix not in ENDINGS:
            raise TableError(f"{path}: wanted a file that ends with {', '.join(ENDINGS)}")
        return [path]
    all_files = (sorted(file for file in path.rglob(f"*{suffix}") if file.is_file()) for suffix in ENDINGS)
    files = next(filter(None, all_files), [])
    if not files:
        raise TableError(f"{path} holds no file that ends with {', '.join(ENDINGS)}")
    if split is None:
        return files
    # files of a split are named as on the hub: train-00000-of-00002.parquet, train.jsonl, train/data.arrow
    chosen = [file for file in files if file.stem.split("-")[0] == split or split in file.relative_to(path).parts[:-1]]
    if not chosen:
        names = ", ".join(file.name for file in files[:5])
        raise TableError(f"{path} has no file of split {split!r} (files: {names}); leave --split out to read them all")
    return chosen


def _broken(file: Path, problem: str, number: int, text: str) -> Rejected:
    return Rejected(f"{file.stem}-{number}", f"broken line: {problem}", {"line": number, "text": text})


def _csv(file: Path, folder: Path) -> Iterator[Line | Rejected]:
    with file.open(encoding="utf-8-sig", errors="replace", newline="") as lines:
        rows = csv.DictReader(lines)
        number = 0
        while True:
            number += 1
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                yield _broken(file, f"row {number} is not CSV ({error})", number, "")
                continue
            if None in row or None in row.values():
                problem = f"row {number} has more or fewer cells than the header"
                yield _broken(file, problem, number, str(list(row.values())))
            else:
                yield Line(number, row, folder, file.stem, fixed=True)


def _parquet(file: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    # page by page: whole row groups, as `datasets` reads them, may be gigabytes
    with pq.ParquetFile(file, pre_buffer=False, buffer_size=1 << 20) as table:
        wanted = [name for name in columns if name in table.schema_arrow.names]
        for batch in table.iter_batches(BATCH, columns=wanted or None):
            yield from batch.to_pylist()


def _arrow(file: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    import pyarrow as pa

    with pa.memory_map(str(file)) as mapped:
        try:
            table = pa.ipc.open_stream(mapped)
        except pa.ArrowInvalid:
            reader = pa.ipc.open_file(mapped)
            table = (reader.get_batch(number) for number in range(reader.num_record_batches))
        for batch in table:
            wanted = [name for name in columns if name in batch.schema.names]
            chosen = batch.select(wanted) if wanted else batch
            for start in range(0, chosen.num_rows, BATCH):
                yield from chosen.slice(start, BATCH).to_pylist()


def _hub(name: str, split: str | None, columns: Sequence[str]) -> Iterator[Line]:
    """A streamed set whose images come as {"bytes", "path"}: the checks decode them."""
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise TableError(f"there is no file or folder {name}, and it is not a hub id such as PSRDataset/PSR-328")
    import datasets

    split = split or "train"
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
    yield from _lines(rows, None, name.replace("/", "-"), name)


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


# by the ending of the file: a text whose lines may be broken one by one, or a table of typed columns
LINES = {".jsonl": read_jsonl, ".csv": _csv}
TABLES = {".parquet": _parquet, ".arrow": _arrow}
ENDINGS = (*TABLES, *LINES)
