"""A benchmark that is a table: the ids of its items, and those that were sampled with their images, read one by one.

    benchmark = table_benchmark("psr", SETS["psr"], Options())
    next(benchmark.ids())                               # "psr-1f3k"
    next(benchmark.drafts(frozenset(["psr-1f3k"])))
    -> Draft(id="psr-1f3k", request="remove the lamp", cluster="1f3k", image=b"\\x89PNG...", difficulty="low", ...)

A set is passed over twice: first for its ids, where only texts are read, then for the images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ier1_plugin.data.sets import (
    NEEDED,
    Columns,
    EditSet,
    Pixels,
    RawItem,
    check_columns,
    columns_of,
    pick_splits,
    raw_item,
    split_in,
    texts,
)
from ier1_plugin.data.tables import Line, Rejected, TableError, hub_columns, read
from ier1_plugin.evaluation.records import EvaluationError

__all__ = ["Benchmark", "Options", "Pixels", "RawItem", "counting", "of_lines", "table_benchmark"]

Lines = Callable[[tuple[str, ...], frozenset[str]], Iterator[Line | Rejected]]
"""(roles to read, ids that are looked for or none) -> the rows."""


@dataclass(frozen=True)
class Options:
    """What the command line says about a benchmark. Which of these one takes is in `benchmarks.BENCHMARKS`."""

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
class Benchmark:
    """What `open_benchmark` returns; each call of a function reads the set anew, in the same order."""

    name: str
    origin: str
    ids: Callable[[], Iterator[str | Rejected]]
    drafts: Callable[[frozenset[str]], Iterator[RawItem | Rejected]]
    hub: str = ""
    """Its id, if it comes from the hub."""
    splits: Callable[[], tuple[str, ...]] = tuple
    """Those of the hub that have been read up to now: what a sample was drawn from."""


def table_benchmark(name: str, edit_set: EditSet, options: Options) -> Benchmark:
    """EvaluationError: an option is wrong, or there is nowhere to read from."""
    columns = columns_of(edit_set, options.columns)
    local = bool(options.data) and Path(options.data).exists()
    if local and options.split and Path(options.data).is_file():
        raise EvaluationError(f"--split is for sets on the hub and for folders; --data {options.data} is one file")
    place = str(Path(options.data).resolve()) if local else options.data or edit_set.hub
    if not place:
        raise EvaluationError(f"{name} is not on the hub in a form that can be read; name its file or folder: --data")
    chosen = replace(edit_set, where={**edit_set.where, **options.where})
    begun: dict[str, None] = {}

    def lines(roles: tuple[str, ...], wanted: frozenset[str]) -> Iterator[Line | Rejected]:
        # each once: one column may have several roles, and `datasets` trips over a second mention
        cells = list(dict.fromkeys([*(column for role in roles for column in columns[role]), *chosen.where]))
        for split in _splits(name, place, local, chosen, options, wanted):
            # on the hub each look costs seconds, and its splits have the same columns
            if local or not begun:
                _check_columns(place, split, local, columns, options)
            begun[split or "train"] = None
            for line in counting(read(place, split, cells), chosen.where):
                # a row of the hub does not say which split it is of
                yield line if local or isinstance(line, Rejected) else line._replace(stem=split or line.stem)

    several = f", {edit_set.spread} of its splits {edit_set.split}" if edit_set.split.endswith("*") else ""
    origin = place if local or options.split else f"{place}{several}"
    benchmark = of_lines(name, chosen, columns, lines, origin, options.columns)
    return replace(benchmark, hub="" if local else place, splits=lambda: () if local else tuple(begun))


def of_lines(
    name: str, edit_set: EditSet, columns: Columns, lines: Lines, origin: str, named: Mapping[str, str]
) -> Benchmark:
    """The benchmark of rows that come from anywhere. `named`: the columns that the user named, by their roles."""

    def ids() -> Iterator[str | Rejected]:
        seen: set[str] = set()
        # the request is a cheap column to count rows by, where there is none that makes ids
        rows = _with_columns(lines(("id", "request"), frozenset()), named)
        for id, line in _named(name, edit_set, columns, rows):
            if isinstance(line, Rejected):
                yield line
            elif not edit_set.grouped or id not in seen:
                seen.update([id] if edit_set.grouped else [])
                yield id

    def drafts(wanted: frozenset[str]) -> Iterator[RawItem | Rejected]:
        left = set(wanted)
        for id, line in _named(name, edit_set, columns, lines(tuple(columns), wanted)):
            if id in wanted and isinstance(line, Line):
                if line.fixed:
                    check_columns(columns, line.row, dict.fromkeys((*NEEDED, *named)))
                yield _draft(id, edit_set, columns, line)
                left.discard(id)
            if not left and not edit_set.grouped:
                return

    return Benchmark(name, origin, ids, drafts)


def _draft(id: str, edit_set: EditSet, columns: Columns, line: Line) -> RawItem | Rejected:
    try:
        item = raw_item(id, edit_set, columns, line)
    except TableError:
        raise
    except ValueError as error:
        return Rejected(id, str(error))
    request = item.request.strip()
    return replace(item, request=request, cluster=item.cluster or id) if request else Rejected(id, "request is empty")


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


def _check_columns(place: str, split: str | None, local: bool, columns: Columns, options: Options) -> None:
    """EvaluationError: the table has not the columns that are needed or were named, before any of it is read."""
    first = next(read(place, split), None) if local else None
    there = hub_columns(place, split or "train") if not local else first.row if isinstance(first, Line) else ()
    # the lines of a JSONL file may each have other keys, and some sets do not say theirs
    if there and (not isinstance(first, Line) or first.fixed):
        check_columns(columns, there, dict.fromkeys((*NEEDED, *options.columns)))


def _with_columns(lines: Iterator[Line | Rejected], named: Mapping[str, str]) -> Iterator[Line | Rejected]:
    """The lines. EvaluationError at the end: a column that the user named is in none of them."""
    absent, count = dict(named), 0
    for line in lines:
        count += 1
        if isinstance(line, Line):
            absent = {} if line.fixed else {role: name for role, name in absent.items() if name not in line.row}
        yield line
    if absent and count:
        role, column = next(iter(absent.items()))
        raise EvaluationError(f"--columns {role}={column}: none of the {count} rows has {column}")


def _splits(
    name: str, place: str, local: bool, edit_set: EditSet, options: Options, wanted: frozenset[str]
) -> list[str | None]:
    """The splits to read; of a set of very many those that the wanted ids name, or that the seed picks."""
    many = edit_set.split.endswith("*") and not local
    parts = (split_in(id.removeprefix(f"{name}-"), edit_set.split) for id in wanted) if many else ()
    named = sorted({*parts} - {""})
    if options.split:
        given = [part.strip() for part in options.split.split(",")]
        return [*(part for part in given if part in named or not named)]
    if local or not edit_set.split:
        return [None]
    return [*(named or pick_splits(place, edit_set, options.seed))] if many else [edit_set.split]


def _named(
    name: str, edit_set: EditSet, columns: Columns, lines: Iterator[Line | Rejected]
) -> Iterator[tuple[str, Line | Rejected]]:
    """Each line with the id of its item: the same in both passes, and no two of one id unless they are one item."""
    times: Counter[str] = Counter()
    try:
        for number, line in enumerate(lines, start=1):
            if isinstance(line, Rejected):
                yield line.id, line
                continue
            parts, split = texts(columns["id"], line.row), split_in(line.stem, edit_set.split)
            # how many rows come before a split depends on which others are read
            counted = f"{line.number if split else number:05d}"
            own = parts if name == "jsonl" and parts else [name, *filter(None, [split]), *(parts or [counted])]
            id = "-".join(own).encode("utf-8", "replace").decode("utf-8")
            if not edit_set.grouped and parts:
                times[id] += 1
                id = id if times[id] == 1 else f"{id}-{times[id]}"
            yield id, line
    except TableError as error:
        raise EvaluationError(str(error)) from None
