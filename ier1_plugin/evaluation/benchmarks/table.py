"""A benchmark that is a table: the ids of its items, and the sampled items with their images, read one by one.

    benchmark = table_benchmark("psr", SETS["psr"], EvaluationConfig(sample=100))
    next(benchmark.ids())                               # "psr-1f3k"
    next(benchmark.raw_items(frozenset(["psr-1f3k"])))
    -> RawItem(id="psr-1f3k", request="remove the lamp", cluster="1f3k", image=b"\\x89PNG...", difficulty="low", ...)

A set is read twice: first for its ids, when only texts are read, then for the images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ier1_plugin.data.sets import (
    NEEDED,
    EditSet,
    RawItem,
    check_columns,
    columns_of,
    pick_splits,
    raw_item,
    split_in,
    texts,
)
from ier1_plugin.data.tables import Line, Rejected, TableError, hub_columns, read
from ier1_plugin.evaluation.config import EvaluationConfig
from ier1_plugin.evaluation.records import EvaluationError
from ier1_plugin.task.rows import without_surrogates


@dataclass(frozen=True)
class Benchmark:
    """What `open_benchmark` returns; each call of a function reads the set anew, in the same order."""

    name: str
    origin: str
    ids: Callable[[], Iterator[str | Rejected]]
    raw_items: Callable[[frozenset[str]], Iterator[RawItem | Rejected]]
    hub: str = ""
    """Its id, if it comes from the hub."""
    splits: Callable[[], tuple[str, ...]] = tuple
    """The hub splits that have been read so far, from which a sample was drawn."""


def table_benchmark(
    name: str, edit_set: EditSet, config: EvaluationConfig, rows: Callable[[], Iterator[Line | Rejected]] | None = None
) -> Benchmark:
    """The benchmark of a set on the hub, or of `config.data`. `rows`: what to read if `config.data` is not a table.
    Used from `config`: data, split, columns, where and seed. EvaluationError, TableError: one of them is wrong, or
    there is nowhere to read from; from the benchmark's functions also: the table has no such column.
    """
    columns = columns_of(edit_set, config.columns)
    local = bool(config.data) and Path(config.data).exists()
    if local and config.split and Path(config.data).is_file():
        raise EvaluationError(f"--split is for sets on the hub and for folders; --data {config.data} is one file")
    source = str(Path(config.data).resolve()) if local else config.data or edit_set.hub
    if not source:
        raise EvaluationError(f"{name} is not on the hub in a form that can be read; name its file or folder: --data")
    where = {**edit_set.where, **config.where}
    roles = dict.fromkeys((*NEEDED, *config.columns))
    # so many splits that only some are read
    many = edit_set.split.endswith("*") and not local
    begun: dict[str, None] = {}

    def splits(wanted: frozenset[str]) -> list[str | None]:
        """The splits to read; of very many, those that the wanted ids name, or that the seed picks."""
        parts = {split_in(id.removeprefix(f"{name}-"), edit_set.split) for id in wanted} if many else set()
        named = sorted(parts - {""})
        if config.split:
            given = [part.strip() for part in config.split.split(",")]
            return [part for part in given if part in named or not named]
        if many:
            return [*(named or pick_splits(source, edit_set, config.seed))]
        return [None if local or not edit_set.split else edit_set.split]

    def check(split: str | None) -> None:
        """TableError: a required or named column is missing, which is found before any of the table is read."""
        first = next(read(source, split), None) if local else None
        there = hub_columns(source, split or "train") if not local else first.columns if isinstance(first, Line) else ()
        # the lines of a JSONL file may each have other keys, and some sets do not say theirs
        if there:
            check_columns(columns, there, roles)

    def lines(of: tuple[str, ...], wanted: frozenset[str]) -> Iterator[Line | Rejected]:
        """The rows that count, with the columns of the roles `of`."""
        # each once: one column may have several roles, and `datasets` trips over a second mention
        cells = list(dict.fromkeys([*(column for role in of for column in columns[role]), *where]))
        for split in splits(wanted):
            # on the hub each look costs seconds, and its splits have the same columns
            if rows is None and (local or not begun):
                check(split)
            begun[split or "train"] = None
            for line in rows() if rows else read(source, split, cells):
                if isinstance(line, Line):
                    absent = [column for column in where if column not in line.row]
                    if absent and line.columns:
                        found = ", ".join(line.columns)
                        raise EvaluationError(f"there is no column {absent[0]} (found: {found})")
                    if any(str(line.row.get(column)) != value for column, value in where.items()):
                        continue
                    if not local:
                        # a row of the hub does not say which split it is of
                        line = line._replace(name=split or line.name)
                yield line

    def with_ids(of: tuple[str, ...], wanted: frozenset[str]) -> Iterator[tuple[str, Line | Rejected]]:
        """Each line with the id of its item: the same in both passes, and no two of one id unless they are one item."""
        times: Counter[str] = Counter()
        for number, line in enumerate(lines(of, wanted), start=1):
            if isinstance(line, Rejected):
                yield line.id, line
                continue
            file = line.name.rpartition("/")[2]
            parts, split = texts(columns["id"], line.row), split_in(file, edit_set.split)
            # how many rows come before a split depends on which others are read
            counted = f"{line.number if split else number:05d}"
            own = parts if name == "jsonl" and parts else [name, *filter(None, [split]), *(parts or [counted])]
            id = without_surrogates("-".join(own))
            if not edit_set.grouped and parts:
                times[id] += 1
                id = id if times[id] == 1 else f"{id}-{times[id]}"
            yield id, line

    def ids() -> Iterator[str | Rejected]:
        seen: set[str] = set()
        absent, count = dict(config.columns), 0
        # the request is a cheap column to count rows by, where there is none that makes ids
        for id, line in with_ids(("id", "request"), frozenset()):
            count += 1
            if isinstance(line, Rejected):
                yield line
                continue
            absent = {} if line.columns else {role: name for role, name in absent.items() if name not in line.row}
            if not edit_set.grouped or id not in seen:
                seen.update([id] if edit_set.grouped else [])
                yield id
        if absent and count:
            role, column = next(iter(absent.items()))
            raise EvaluationError(f"--columns {role}={column}: none of the {count} rows has {column}")

    def raw_items(wanted: frozenset[str]) -> Iterator[RawItem | Rejected]:
        left = set(wanted)
        for id, line in with_ids(tuple(columns), wanted):
            if id in wanted and isinstance(line, Line):
                if line.columns:
                    check_columns(columns, line.columns, roles)
                try:
                    item = raw_item(id, edit_set, columns, line)
                    item = replace(item, request=item.request.strip(), cluster=item.cluster or id)
                    yield item if item.request else Rejected(id, "request is empty")
                except TableError:
                    raise
                except ValueError as error:
                    yield Rejected(id, str(error))
                left.discard(id)
            if not left and not edit_set.grouped:
                return

    several = f", {edit_set.spread} of its splits {edit_set.split}" if many and not config.split else ""
    hub = "" if local else source
    return Benchmark(name, source + several, ids, raw_items, hub, lambda: () if local else tuple(begun))
