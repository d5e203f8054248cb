"""Sources that are tables: JSONL of your own, and the public sets of edit requests (`ier1_plugin/data/sets.py`).

    {"id": "a1", "image": "photos/cat.jpg", "request": "remove the lamp"}       one line of `--source jsonl`
    {"post_id": "1f3k", "instruction": "remove the lamp", "source_image": {"bytes": b"..."}, ...}   one row of `psr`
    -> RawRow(id="psr-1f3k", source="psr", request="remove the lamp", image=b"...", group="1f3k")

`--columns image=...,request=...` names other columns than the set's own. Gold is read if a row has all of `actions`,
`subjects` and `goals` (in CSV as JSON arrays); otherwise the annotator is asked. What OmniEdit calls `task` and AnyEdit
`edit_type` is not used: it is one label per row, from a vocabulary that fits PSR's fifteen actions only loosely, and
subjects and goals would still be missing.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from data_prep.settings import RawRow, Settings
from ier1_plugin.data.sets import ROLES, SETS, Columns, columns_of, raw_item, texts
from ier1_plugin.data.tables import SHOWN, Line, MissingFile, Rejected, TableError, json_list, read
from ier1_plugin.task.schema import COMPONENTS, Decomposition

OPTIONS = ("image", "request", "id", "group", *COMPONENTS)
"""What `--columns` may name."""


def table_rows(name: str, settings: Settings, input: str, only: Path | None = None) -> Iterator[RawRow | Rejected]:
    """The rows of set `name` in `input`: a JSONL, CSV, parquet or Arrow file, a folder of them, or a hub id.

    `only`: the one file of a folder that is read. TableError: the input can't be read, or a column is missing from all
    rows.
    """
    edit_set = SETS[name]
    if unknown := set(settings.columns) - set(OPTIONS):
        raise TableError(f"--columns: {', '.join(sorted(unknown))} is unknown; known: {', '.join(OPTIONS)}")
    gold = {role: settings.columns.get(role, role) for role in COMPONENTS}
    named = {
        "cluster" if role == "group" else role: column
        for role, column in settings.columns.items()
        if role not in COMPONENTS
    }
    # edits by people and labels are for benchmarks
    used = ("image", "request", "id", "cluster")
    columns = dict.fromkeys(ROLES, ()) | {role: columns_of(edit_set, named)[role] for role in used}
    wanted = [*dict.fromkeys(column for role in used for column in columns[role]), *gold.values(), "source"]
    split = settings.split or (None if Path(input).exists() else edit_set.train_split)
    prefix = settings.prefix(input)
    top = Path(input) if Path(input).is_dir() else Path(input).parent
    seen: set[bytes] = set()
    for line in read(input, split, wanted, settings.image_roots, only):
        if isinstance(line, Rejected):
            row: RawRow | Rejected = replace(line, id=prefix + line.id)
        else:
            row = _row(name, columns, gold, line._replace(name=prefix + line.name))
            if isinstance(row, RawRow) and not row.group:
                # the photo is a group of its own where it is a file that rows share
                file = row.image if isinstance(row.image, Path) else None
                row = replace(row, group=prefix + os.path.relpath(file, top) if file else row.id)
        if edit_set.grouped and isinstance(row, RawRow):
            mark = hashlib.blake2b(f"{row.id}\0{row.request}".encode("utf-8", "replace"), digest_size=8).digest()
            if mark in seen:
                continue
            seen.add(mark)
        yield row


def _row(name: str, columns: Columns, gold_columns: dict[str, str], line: Line) -> RawRow | Rejected:
    row, source = line.row, line.row.get("source")
    parts = texts(columns["id"], row)
    id = f"{line.name}-{line.number}"
    if parts:
        id = parts[0] if name == "jsonl" else "-".join([name, *parts])
    try:
        item = raw_item(id, SETS[name], columns, line)
        gold = {role: json_list(row.get(column)) for role, column in gold_columns.items()}
        # in CSV a cell without a value is empty
        gold = {role: items for role, items in gold.items() if items not in (None, "")}
        for role, items in gold.items():
            if not isinstance(items, (list, tuple)) or not all(isinstance(item, str) for item in items):
                wanted = 'a list of texts, such as ["lamp"]'
                raise ValueError(f"gold can't be read: {role} is not {wanted}: {str(items)[:SHOWN]!r}")
    except TableError:
        raise
    except ValueError as error:
        shown = {str(name): str(cell)[:SHOWN] for name, cell in row.items() if not isinstance(cell, (bytes, dict))}
        return Rejected(id, str(error), shown, error.paths if isinstance(error, MissingFile) else ())
    return RawRow(
        id=id,
        source=source if name == "jsonl" and isinstance(source, str) and source.strip() else name,
        request=item.request,
        image=item.image,  # pyright: ignore[reportArgumentType] tables hold no decoded images
        group=item.cluster,
        # a row with fewer of the three lists is one for the annotator
        gold=Decomposition.of(**gold) if len(gold) == len(COMPONENTS) else None,
    )


SOURCES: dict[str, Callable[[Settings, str], Iterator[RawRow | Rejected]]] = {
    name: partial(table_rows, name) for name, edit_set in SETS.items() if edit_set.train_split
}
