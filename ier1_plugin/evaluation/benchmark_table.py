"""A benchmark that is a table: the ids of its items, and those that were sampled with their images, read one by one.

    benchmark = table_benchmark("psr", SETS["psr"], Options())
    next(benchmark.ids())                               # "psr-1f3k"
    next(benchmark.drafts(frozenset(["psr-1f3k"])))
    -> Draft(id="psr-1f3k", request="remove the lamp", cluster="1f3k", image=b"\\x89PNG...", difficulty="low", ...)

A set is passed over twice: first for its ids, where only the columns that make them are read, then for the images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image

from ier1_plugin.evaluation.benchmark_sets import EditSet, texts_of, with_columns
from ier1_plugin.evaluation.records import EvaluationError
from ier1_plugin.image_cells import image_of
from ier1_plugin.rows import order_key
from ier1_plugin.tables import Line, Rejected, TableError, hub_splits, read

# UltraEdit's four million rows are split by two thousand; of so many splits the sample is drawn
SPREAD = 4
NEEDED = ("image", "request")
Pixels = bytes | Path | Image.Image


@dataclass(frozen=True)
class Options:
    """What the command line says about a benchmark."""

    data: str = ""
    """Instead of the hub: a file or folder in the same columns, or another hub id."""
    split: str = ""
    """Of the hub, or of a folder; several with commas between them."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Role -> the column that has it."""
    where: Mapping[str, str] = field(default_factory=dict)
    """Column -> the value that a row must have to count; replaces what the set says of that column."""
    seed: int = 0


@dataclass(frozen=True)
class Draft:
    """An item with its images as they are stored. Several of one id: only the human edits of the later ones count."""

    id: str
    request: str
    cluster: str
    image: Pixels
    actions: tuple[str, ...] = ()
    difficulty: str = ""
    human: tuple[Pixels, ...] = ()
    gold: Pixels | None = None


@dataclass(frozen=True)
class Benchmark:
    """What `open_benchmark` returns; each call of a function reads the set anew, in the same order."""

    name: str
    origin: str
    ids: Callable[[], Iterator[str | Rejected]]
    drafts: Callable[[frozenset[str]], Iterator[Draft | Rejected]]
    hub: str = ""
    """Its id, if it comes from the hub."""


def table_benchmark(name: str, edit_set: EditSet, options: Options) -> Benchmark:
    columns = with_columns(edit_set, options.columns)
    unknown = set(options.columns) - set(columns)
    if unknown:
        raise EvaluationError(f"--columns: there is no {', '.join(sorted(unknown))}; known: {', '.join(columns)}")
    local = bool(options.data) and Path(options.data).exists()
    place = str(Path(options.data).resolve()) if local else options.data or edit_set.hub
    if not place:
        raise EvaluationError(f"{name} is not on the hub in a form that can be read; name its file or folder: --data")
    chosen = replace(edit_set, where={**edit_set.where, **options.where})

    def lines(roles: tuple[str, ...]) -> Iterator[Line | Rejected]:
        wanted = [column for role in roles for column in columns[role]]
        for split in _splits(place, local, chosen, options):
            if local:
                # with all columns, so that the user is shown what there is
                _check_columns(columns, next(read(place, split), None))
            yield from counting(read(place, split, [*wanted, *chosen.where]), chosen.where)

    return of_lines(name, chosen, columns, lines, place, "" if local else place)


def of_lines(
    name: str,
    edit_set: EditSet,
    columns: Mapping[str, tuple[str, ...]],
    lines: Callable[[tuple[str, ...]], Iterator[Line | Rejected]],
    origin: str,
    hub: str = "",
) -> Benchmark:
    def ids() -> Iterator[str | Rejected]:
        seen: set[str] = set()
        for id, line in _named(name, edit_set, columns, lines(("id",))):
            if isinstance(line, Rejected):
                yield line
            elif not edit_set.grouped or id not in seen:
                seen.update([id] if edit_set.grouped else [])
                yield id

    def drafts(wanted: frozenset[str]) -> Iterator[Draft | Rejected]:
        for id, line in _named(name, edit_set, columns, lines(tuple(columns))):
            if id in wanted and isinstance(line, Line):
                yield _draft(id, edit_set, columns, line)

    return Benchmark(name, origin, ids, drafts, hub)


def _splits(place: str, local: bool, edit_set: EditSet, options: Options) -> list[str | None]:
    if options.split:
        return [part.strip() for part in options.split.split(",")]
    if local or not edit_set.split:
        return [None]
    if not edit_set.split.endswith("*"):
        return [edit_set.split]
    known = [split for split in hub_splits(place) if split.startswith(edit_set.split[:-1])]
    if not known:
        raise EvaluationError(f"{place} has no split {edit_set.split}; name one with --split")
    return [*sorted(known, key=lambda split: order_key(options.seed, split))[:SPREAD]]


def counting(lines: Iterator[Line | Rejected], where: Mapping[str, str]) -> Iterator[Line | Rejected]:
    """Those that count."""
    for line in lines:
        if isinstance(line, Line):
            for column in where:
                if column not in line.row and line.fixed:
                    raise EvaluationError(f"there is no column {column} (found: {', '.join(map(str, line.row))})")
            if any(str(line.row.get(column)) != value for column, value in where.items()):
                continue
        yield line


def _named(
    name: str, edit_set: EditSet, columns: Mapping[str, tuple[str, ...]], lines: Iterator[Line | Rejected]
) -> Iterator[tuple[str, Line | Rejected]]:
    """Each line with the id of its item: the same in both passes, and no two of one id unless they are one item."""
    times: Counter[str] = Counter()
    try:
        for number, line in enumerate(lines, start=1):
            if isinstance(line, Rejected):
                yield line.id, line
                continue
            parts = _texts(columns["id"], line.row)
            id = "-".join(parts if name == "jsonl" and parts else [name, *(parts or [f"{number:05d}"])])
            id = id.encode("utf-8", "replace").decode("utf-8")
            if not edit_set.grouped and parts:
                times[id] += 1
                id = id if times[id] == 1 else f"{id}-{times[id]}"
            yield id, line
    except TableError as error:
        raise EvaluationError(str(error)) from None


def _draft(id: str, edit_set: EditSet, columns: Mapping[str, tuple[str, ...]], line: Line) -> Draft | Rejected:
    gold, human = _found("gold", columns, line), _found("human", columns, line)
    try:
        return Draft(
            id=id,
            request=_request(_cell("request", columns, line), edit_set),
            cluster="-".join(_texts(columns["cluster"], line.row)) or id,
            image=image_of(_cell("image", columns, line), line.folder),
            actions=texts_of(_found("actions", columns, line)),
            difficulty=str(_found("difficulty", columns, line) or ""),
            human=tuple(
                image_of(cell, line.folder) for cell in (human if isinstance(human, list) else [human]) if cell
            ),
            gold=image_of(gold, line.folder) if gold else None,
        )
    except ValueError as error:
        if isinstance(error, EvaluationError):
            raise
        return Rejected(id, str(error))


def _request(cell: Any, edit_set: EditSet) -> str:
    words = edit_set.request_of(cell) if edit_set.request_of else cell
    if not isinstance(words, str) or not words.strip():
        raise ValueError(f"request is {words!r}; wanted a text")
    return words.strip()


def _cell(role: str, columns: Mapping[str, tuple[str, ...]], line: Line) -> Any:
    """What the row has of `role`. EvaluationError: no row of this table has it; ValueError: this one has not."""
    cell = _found(role, columns, line)
    if cell is not None:
        return cell
    _check_columns(columns, line)
    raise ValueError(f"no {role}: {' or '.join(columns[role])} is missing")


def _check_columns(columns: Mapping[str, tuple[str, ...]], line: Line | Rejected | None) -> None:
    """EvaluationError: the table has no column for what an item can't do without."""
    if not isinstance(line, Line) or not line.fixed:
        return
    for role in NEEDED:
        if not any(column in line.row for column in columns[role]):
            found, asked = ", ".join(map(str, line.row)) or "none", " or ".join(columns[role])
            raise EvaluationError(f"there is no column {asked} (found: {found}); name the one: --columns {role}=NAME")


def _found(role: str, columns: Mapping[str, tuple[str, ...]], line: Line) -> Any:
    return next((line.row[column] for column in columns[role] if line.row.get(column) is not None), None)


def _texts(columns: tuple[str, ...], row: Mapping[str, Any]) -> list[str]:
    """The cells as texts; [] unless each is a text that is not blank, or a number."""
    cells = [row.get(column) for column in columns]
    usable = all(isinstance(cell, (str, int)) and str(cell).strip() for cell in cells)
    return [str(cell).strip() for cell in cells] if usable else []
