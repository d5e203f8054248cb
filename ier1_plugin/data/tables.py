"""Rows as dictionaries from a file, a folder of files, or a set on the hub; images stay encoded.

    for line in read("data/requests.jsonl", split=None): ...
    -> Line(number=1, row={"id": "a1", "image": "photos/cat.jpg", "request": "remove the lamp"}, folders=(...), ...)
    -> Rejected(id="requests-2", reason="broken line: line 2 is not JSON (Expecting value ...)", row={...})
    image_of("photos/cat.jpg", (Path("/data"),))     # Path("/data/photos/cat.jpg")

Sets on the hub are streamed with `datasets`, local files are read piece by piece, and a broken row costs no more than
that row. Texts are UTF-8, or UTF-16 with a byte order mark.
"""

from __future__ import annotations

import base64
import binascii
import csv
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from ier1_plugin.runs.errors import UserError
from ier1_plugin.runs.folder import LOCK
from ier1_plugin.task.rows import without_surrogates

# a 64 MiB image as base64 has 86 MiB
MAX_LINE_CHARACTERS = 96 << 20
SHOWN = 200
# rows that are in memory at a time
BATCH = 16
DATA_URL = "data:"
NOT_UTF8 = "is not UTF-8 (nor UTF-16 with a byte order mark): save the file as UTF-8"
# a request has 8,000 characters at most; more of a file than this is never read
MAX_TEXT = 100_000
# how base64 of JPEG, PNG, WebP, GIF, TIFF, BMP, and HEIC or AVIF begins
BASE64_IMAGES = ("/9j/", "iVBORw0KGgo", "UklGR", "R0lGOD", "SUkqA", "TU0AK", "Qk", "AAAA")

# the other alphabet of base64
URL_SAFE = str.maketrans("-_", "+/")
# tables that are not read: in a folder they would be left out
OTHER_ENDINGS = (".ndjson", ".tsv", ".feather", ".xls", ".xlsx")
PACKED = (".gz", ".bz2", ".xz", ".zst")


class TableError(UserError):
    """A table that can't be read."""


class MissingFile(ValueError):
    """An image whose file is missing."""

    def __init__(self, paths: Sequence[str], name: str) -> None:
        super().__init__(f"image file is missing: {name[:SHOWN]}")
        self.paths = tuple(paths)


@dataclass(frozen=True)
class Rejected:
    """A row that can't be used, and the reason in one line."""

    id: str
    reason: str
    row: dict[str, Any] = field(default_factory=dict)
    """What is known of the row: JSON values only, no image bytes."""
    missing: tuple[str, ...] = ()
    """Where the file of its image was looked for, if that is what is missing."""


class Line(NamedTuple):
    """One row of the input."""

    number: int
    """Its position in the file or set, from 1."""
    row: dict[str, Any]
    folders: tuple[Path, ...] = ()
    """Where image paths start, the table's own folder first, and what they must stay in; empty for a set on the hub."""
    name: str = ""
    """The path of the file below the input, without its ending."""
    columns: tuple[str, ...] = ()
    """All columns of the table, also those that were not read; empty where each row may have others."""


def read(
    source: str,
    split: str | None,
    columns: Sequence[str] = (),
    roots: Sequence[Path] = (),
    only: Path | None = None,
) -> Iterator[Line | Rejected]:
    """The rows of a file, a folder or a hub set, in an order that is the same on every run.

    `columns`: the only ones wanted (those that exist), where reading fewer saves memory; empty for all. `roots`: other
    folders that images may lie in. `only`: the one of `split_files` that is read. TableError: it does not exist, or
    can't be read at all.
    """
    path = Path(source)
    if not path.exists():
        yield from _hub(source, split, columns)
        return
    top = path if path.is_dir() else path.parent
    for file in [only] if only else split_files(path, split):
        folders = (*dict.fromkeys((file.parent, top)), *roots)
        name, kind, number = file.relative_to(top).with_suffix("").as_posix(), file.suffix.lower(), 0
        try:
            if kind in LINES:
                for line in LINES[kind](file, folders, name):
                    number += 1
                    yield line
                continue
            for names, batch in TABLES[kind](file, columns):
                for position in range(batch.num_rows):
                    number += 1
                    try:
                        row = batch.slice(position, 1).to_pylist()[0]
                    except UnicodeDecodeError:
                        yield _broken(name, f"row {number} {NOT_UTF8}", number, "")
                    else:
                        yield Line(number, row, folders, name, names)
        except TableError:
            raise
        except Exception as error:
            raise TableError(f"{file} can't be read after row {number}: {_first_line(error)}") from None


def read_jsonl(file: Path, folders: tuple[Path, ...] = (), name: str = "") -> Iterator[Line | Rejected]:
    """The lines of a JSONL file, blank ones left out."""
    with open_text(file, "\n") as lines:
        number = 0
        while line := lines.readline(MAX_LINE_CHARACTERS):
            number += 1
            rest = line
            while len(rest) == MAX_LINE_CHARACTERS and not rest.endswith("\n"):
                rest = lines.readline(MAX_LINE_CHARACTERS)
            if not line.strip():
                continue
            row: Any = None
            problem = "is not a JSON object"
            if rest is not line:
                problem = f"is longer than {MAX_LINE_CHARACTERS} characters"
            elif without_surrogates(line) != line:
                problem = NOT_UTF8
            else:
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:
                    problem = f"is not JSON ({error})"
            if isinstance(row, dict):
                yield Line(number, row, folders, name)
            else:
                yield _broken(name or file.stem, f"line {number} {problem}", number, line)


def image_of(cell: Any, folders: Sequence[Path]) -> bytes | Path:
    """The image of a cell: bytes, base64 with or without `data:`, the path of a file in one of `folders`, or a list of
    one of these. ValueError: there is none.
    """
    if isinstance(cell, (list, tuple)):
        if len(cell) != 1:
            raise ValueError(f"no image: the row holds a list of {len(cell)}; wanted exactly one")
        cell = cell[0]
    if isinstance(cell, dict):
        cell = cell.get("bytes") or cell.get("path") or cell.get("url")
    if isinstance(cell, bytes):
        return cell
    if not isinstance(cell, str) or not cell.strip():
        raise ValueError("no image: wanted a path, base64 or bytes")
    head, body = "", cell
    if cell.startswith((DATA_URL, "base64,")):
        head, _, body = cell.partition(",")
        if not head.endswith("base64"):
            raise ValueError("image is a data URL without base64")
    if head or cell.translate(URL_SAFE).startswith(BASE64_IMAGES):
        try:
            # some writers break it into lines
            return base64.b64decode("".join(body.translate(URL_SAFE).split()), validate=True)
        except (binascii.Error, ValueError):
            if head:
                raise ValueError("image is a data URL that is not base64") from None
    cell = cell.removeprefix("file://")
    if "://" in cell[:12]:
        raise ValueError("image is an address: download it and give its path")
    if not folders:
        raise ValueError("image is a path: in a set on the hub it has no bytes; download the set and give its folder")
    return inside(folders, cell)


def inside(folders: Sequence[Path], name: str) -> Path:
    """The file `name` in the first of the folders that has it. ValueError: it leads out of all of them, also through a
    link, or is not a file.
    """
    if "\0" in name:
        raise ValueError("image path can't be used: it holds a NUL")
    try:
        paths = [os.path.normpath(folder / name) for folder in folders]
        path = next(filter(os.path.lexists, paths), paths[0])
        real = os.path.realpath(path)
        if not any(os.path.commonpath([root, real]) == root for root in _roots(tuple(folders))):
            raise ValueError(f"image lies outside the folder of its input: {name[:SHOWN]}; --image-root DIR allows it")
        if not os.path.isfile(real):
            raise MissingFile(paths, name)
    except OSError as error:
        raise ValueError(f"image path can't be used: {name[:SHOWN]}, {error.strerror}") from None
    return Path(path)


@lru_cache(maxsize=16)
def _roots(folders: tuple[Path, ...]) -> list[str]:
    """The folders without links; in the hub's cache, whose files are links, also what these lead to."""
    above = (parent for folder in folders for parent in (folder.absolute(), *folder.absolute().parents))
    blobs = [parent.parent.parent / "blobs" for parent in above if parent.parent.name == "snapshots"]
    return [os.path.realpath(folder) for folder in (*folders, *blobs)]


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


def table_files(folder: Path) -> list[Path]:
    """The tables in a folder and below, sorted. Hidden files and what other runs wrote there are left out; of a folder
    that the builder wrote, only its rows count.
    """
    found = _below(folder, lambda file: file.suffix.lower() in ENDINGS)
    if (folder / "rejected.jsonl").is_file() and (folder / "report.json").is_file():
        found = [file for file in found if file.suffix == ".parquet"]
    return found


def _below(folder: Path, wanted: Callable[[Path], bool]) -> list[Path]:
    """The wanted files in a folder and below, sorted, without hidden ones and what other runs wrote."""
    found = []
    for file in sorted(file for file in folder.rglob("*") if wanted(file) and file.is_file()):
        below = file.relative_to(folder)
        hidden = any(part.startswith(".") for part in below.parts)
        if not hidden and not any((folder / above / LOCK).exists() for above in list(below.parents)[:-1]):
            found.append(file)
    return found


def _is_unread_table(file: Path) -> bool:
    """True for tables of kinds that are not read. Of JSON those are arrays and lines; one object is no table."""
    endings = [ending.lower() for ending in file.suffixes] or [""]
    if endings[-1] in PACKED:
        return len(endings) > 1 and endings[-2] in (*ENDINGS, *OTHER_ENDINGS, ".json")
    if endings[-1] != ".json":
        return endings[-1] in OTHER_ENDINGS
    with suppress(OSError, UnicodeDecodeError, ValueError), open_text(file, "\n") as lines:
        first = lines.readline(MAX_TEXT).strip()
        return first.startswith("[") or (isinstance(json.loads(first), dict) and bool(lines.readline(2).strip()))
    return False


def split_files(path: Path, split: str | None) -> list[Path]:
    """The files that `path` stands for, narrowed to a split. TableError: there are none, or of several kinds."""
    wanted = f"a file that ends with {', '.join(ENDINGS)}"
    if path.is_file():
        if path.suffix.lower() not in ENDINGS:
            raise TableError(f"{path}: wanted {wanted}")
        return [path]
    files = table_files(path)
    if not files:
        raise TableError(f"{path} holds no {wanted.removeprefix('a ')}")
    if split is not None:
        # files of a split are named as on the hub: train-00000-of-00002.parquet, train.jsonl, train/data.arrow
        names = ", ".join(file.name for file in files[:5])
        files = [file for file in files if split in (file.stem.split("-")[0], *file.relative_to(path).parts[:-1])]
        if not files:
            raise TableError(f"{path} has no file of split {split!r} (files: {names}); leave --split out to read all")
    kinds = {file.suffix.lower(): file.relative_to(path) for file in files}
    if split is None:
        kinds |= {file.suffix.lower(): file.relative_to(path) for file in _below(path, _is_unread_table)}
    if len(kinds) > 1:
        raise TableError(
            f"{path} holds tables of several kinds ({', '.join(map(str, kinds.values()))}); name the files"
        )
    return files


def _broken(name: str, problem: str, number: int, text: str) -> Rejected:
    return Rejected(
        f"{name}-{number}", f"broken line: {problem}", {"line": number, "text": without_surrogates(text[:SHOWN])}
    )


def open_text(file: Path, newline: str) -> TextIO:
    """The text of a file; what is not in its encoding comes as surrogates."""
    with file.open("rb") as data:
        marked = data.read(2) in (b"\xff\xfe", b"\xfe\xff")
    encoding, errors = ("utf-16", "surrogatepass") if marked else ("utf-8-sig", "surrogateescape")
    return file.open(encoding=encoding, errors=errors, newline=newline)


def text_of(file: Path, name: str) -> str:
    """The request in a text file, MAX_TEXT characters at most. ValueError, with `name`: it is in another encoding."""
    try:
        with open_text(file, "") as lines:
            text = lines.read(MAX_TEXT)
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text or without_surrogates(text) != text:
        raise ValueError(f"no request: {name} {NOT_UTF8}")
    return text


def _csv(file: Path, folders: tuple[Path, ...], name: str) -> Iterator[Line | Rejected]:
    csv.field_size_limit(MAX_LINE_CHARACTERS)
    with open_text(file, "") as lines:
        rows = csv.DictReader(lines)
        header = ",".join(rows.fieldnames or ())
        if without_surrogates(header) != header or "\0" in header:
            raise TableError(f"{file} {NOT_UTF8}")
        number = 0
        while True:
            number += 1
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                yield _broken(name, f"row {number} is not CSV ({error})", number, "")
                continue
            problem = ""
            if None in row or None in row.values():
                problem = "has more or fewer cells than the header"
            elif any(without_surrogates(cell) != cell for cell in row.values()):
                problem = NOT_UTF8
            if problem:
                yield _broken(name, f"row {number} {problem}", number, str(list(row.values())))
            else:
                cells = {column: json_list(cell) for column, cell in row.items()}
                yield Line(number, cells, folders, name, tuple(row))


def json_list(cell: Any) -> Any:
    """The list in a text that is a JSON array, else the cell."""
    if isinstance(cell, str) and cell.lstrip().startswith("["):
        try:
            return json.loads(cell)
        except (ValueError, RecursionError):
            pass
    return cell


Batches = Iterator[tuple[tuple[str, ...], Any]]
"""The names of all columns, and an Arrow batch of the wanted ones."""


def _parquet(file: Path, columns: Sequence[str]) -> Batches:
    import pyarrow.parquet as pq

    # page by page: whole row groups, as `datasets` reads them, may be gigabytes
    with pq.ParquetFile(file, pre_buffer=False, buffer_size=1 << 20) as table:
        names = tuple(table.schema_arrow.names)
        wanted = [name for name in columns if name in names]
        for batch in table.iter_batches(BATCH, columns=wanted or None):
            yield names, batch


def _arrow(file: Path, columns: Sequence[str]) -> Batches:
    import pyarrow as pa

    with pa.memory_map(str(file)) as mapped:
        try:
            batches = pa.ipc.open_stream(mapped)
        except pa.ArrowInvalid:
            reader = pa.ipc.open_file(mapped)
            batches = (reader.get_batch(number) for number in range(reader.num_record_batches))
        for batch in batches:
            names = tuple(batch.schema.names)
            wanted = [name for name in columns if name in names]
            yield names, batch.select(wanted) if wanted else batch


def _hub(name: str, split: str | None, columns: Sequence[str]) -> Iterator[Line]:
    """A streamed set whose images come as {"bytes", "path"}: the checks decode them."""
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise TableError(f"there is no file or folder {name}, and it is not a hub id such as PSRDataset/PSR-328")
    import datasets

    split = split or "train"
    try:
        builder = datasets.load_dataset_builder(name)
        rows: Any = builder.as_streaming_dataset(split)
        names = tuple(rows.column_names or ())
        wanted = [column for column in columns if column in names]
        if wanted and hasattr(builder.config, "columns"):
            # a set of parquet files: the edited images, two thirds of the bytes, then stay where they are
            rows = datasets.load_dataset_builder(name, columns=wanted).as_streaming_dataset(split)
        for column, kind in (rows.features or {}).items():
            if isinstance(kind, datasets.Image):
                rows = rows.cast_column(column, datasets.Image(decode=False))
    except Exception as error:
        cure = "name a split that it has, or the path of a copy"
        raise TableError(f"hub set {name}, split {split}, can't be opened: {_first_line(error)}; {cure}") from None
    number = 0
    try:
        for row in rows:
            number += 1
            yield Line(number, row, name=name.replace("/", "-"), columns=names)
    except Exception as error:
        raise TableError(f"hub set {name} can't be read after row {number}: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__


# by the ending of the file: a text whose lines may be broken one by one, or a table of typed columns
LINES = {".jsonl": read_jsonl, ".csv": _csv}
TABLES = {".parquet": _parquet, ".arrow": _arrow}
ENDINGS = (*TABLES, *LINES)
