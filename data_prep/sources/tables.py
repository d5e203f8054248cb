"""Sources that are tables: JSONL of your own, and the public sets of edit requests.

    {"id": "a1", "image": "photos/cat.jpg", "request": "remove the lamp"}       one line of `--source jsonl`
    {"post_id": "1f3k", "instruction": "remove the lamp", "source_image": {"bytes": b"..."}, ...}   one row of `psr`
    -> RawRow(id="psr-1f3k", source="psr", request="remove the lamp", image=b"...", group="1f3k")

Each table names its columns; `--columns image=...,request=...` names others. Gold is read where a row has all of
`actions`, `subjects` and `goals`; else the annotator is asked. What OmniEdit calls `task` and AnyEdit `edit_type` is
not used: it is one label a row, of a vocabulary that fits PSR's fifteen actions only loosely, and subjects and goals
would be missing still.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from data_prep.records import BuildError, RawRow, Rejected
from data_prep.settings import Settings
from ier1_plugin.data.image_cells import DATA_URL, image_of
from ier1_plugin.data.sets import TABLES
from ier1_plugin.data.tables import Line, read
from ier1_plugin.task.schema import COMPONENTS, Decomposition

ROLES = ("image", "request", "id", "group", *COMPONENTS)


def table_rows(name: str, settings: Settings) -> Iterator[RawRow | Rejected]:
    """The rows of table `name` in `settings.input`: a JSONL, CSV, parquet or Arrow file, a folder of them, or a hub id.

    BuildError: the input can't be read, or a column is missing from all rows.
    """
    table, columns = TABLES[name], _columns(name, settings.columns)
    wanted = [column for role in columns.values() for column in role]
    seen: set[bytes] = set()
    on_hub = not Path(settings.input).exists()
    for line in read(settings.input, settings.split or (table.split if on_hub else None), (*wanted, "source")):
        row = line if isinstance(line, Rejected) else _row(name, columns, line)
        if table.once and isinstance(row, RawRow):
            mark = hashlib.blake2b(f"{row.id}\0{row.request}".encode("utf-8", "replace"), digest_size=8).digest()
            if mark in seen:
                continue
            seen.add(mark)
        yield row


def _columns(name: str, given: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The columns of each role; those that the user names come first."""
    unknown = set(given) - set(ROLES)
    if unknown:
        raise BuildError(f"--columns: {', '.join(sorted(unknown))} is unknown; known: {', '.join(ROLES)}")
    table = TABLES[name]
    own = {"image": (table.image,), "request": (table.request,), "id": table.id, "group": table.group}
    return {role: (given[role],) if role in given else own.get(role, (role,)) for role in ROLES}


def _row(name: str, columns: dict[str, tuple[str, ...]], line: Line) -> RawRow | Rejected:
    id = _id(name, columns["id"], line)
    try:
        return RawRow(
            id=id,
            source=_source(name, line.row),
            request=_request(_cell(line, columns["request"][0], "request")),
            image=image_of(_cell(line, columns["image"][0], "image"), line.folder),
            group=_group(columns, line) or id,
            gold=_gold(columns, line.row),
        )
    except ValueError as error:
        return Rejected(id, str(error), _shown(line.row))


def _id(name: str, columns: tuple[str, ...], line: Line) -> str:
    parts = _texts(columns, line.row)
    if not parts:
        return f"{line.stem}-{line.number}"
    return parts[0] if name == "jsonl" else "-".join([name, *parts])


def _group(columns: dict[str, tuple[str, ...]], line: Line) -> str | None:
    """The post or the photo: a photo's file where the image is one."""
    parts = _texts(columns["group"], line.row)
    image = line.row.get(columns["image"][0])
    path = image if isinstance(image, str) and not image.startswith(DATA_URL) else None
    return "-".join(parts) if parts else path


def _texts(columns: tuple[str, ...], row: dict[str, Any]) -> list[str]:
    """The cells as texts; [] unless each is a text that is not blank, or a number."""
    cells = [row.get(column) for column in columns]
    usable = all(isinstance(cell, (str, int)) and str(cell).strip() for cell in cells)
    return [str(cell).strip() for cell in cells] if usable else []


def _source(name: str, row: dict[str, Any]) -> str:
    own = row.get("source")
    return own if name == "jsonl" and isinstance(own, str) and own.strip() else name


def _cell(line: Line, column: str, role: str) -> Any:
    cell = line.row.get(column)
    if cell is not None:
        return cell
    if column in line.row:
        raise ValueError(f"no {role}: {column} is null")
    found = ", ".join(map(str, line.row)) or "none"
    problem = f"no {role}: there is no column {column} (found: {found}); name the one to read: --columns {role}=NAME"
    raise BuildError(problem) if line.fixed else ValueError(problem)


def _request(cell: Any) -> str:
    if isinstance(cell, (list, tuple)):
        # OmniEdit gives several wordings of one request
        cell = next((text for text in cell if isinstance(text, str) and text.strip()), "")
    if not isinstance(cell, str):
        raise ValueError(f"request is not a text: {type(cell).__name__}")
    return cell


def _gold(columns: dict[str, tuple[str, ...]], row: dict[str, Any]) -> Decomposition | None:
    """The gold of a row that has all three lists; a row with fewer is one for the annotator."""
    lists = {role: row[columns[role][0]] for role in COMPONENTS if row.get(columns[role][0]) is not None}
    for role, items in lists.items():
        if not isinstance(items, (list, tuple)) or not all(isinstance(item, str) for item in items):
            raise ValueError(f"gold can't be read: {role} is not a list of texts")
    return Decomposition.of(**lists) if len(lists) == len(COMPONENTS) else None


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """The row without its images."""
    return {str(name): str(cell)[:200] for name, cell in row.items() if not isinstance(cell, (bytes, dict))}


SOURCES: dict[str, Callable[[Settings], Iterator[RawRow | Rejected]]] = {
    name: partial(table_rows, name) for name in TABLES
}
