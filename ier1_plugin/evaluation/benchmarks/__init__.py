"""Benchmarks by name.

    benchmark = open_benchmark("psr", Options())
    benchmark.ids(), benchmark.drafts(...)     # see benchmark_table.py

A further one is one more entry: `BENCHMARKS["mine"] = Known(maker, options=("data",))`, where
`maker("what follows mine:", Options(...))` returns a Benchmark. What it does not take is refused, not ignored.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ier1_plugin.data.sets import MOST_COMPLEX, SETS, columns_of, complex_edit
from ier1_plugin.data.tables import Line, Rejected
from ier1_plugin.evaluation.benchmarks.small_world import small_world
from ier1_plugin.evaluation.benchmarks.table import Benchmark, Options, counting, of_lines, table_benchmark
from ier1_plugin.evaluation.records import EvaluationError

__all__ = ["BENCHMARKS", "Benchmark", "BenchmarkSpec", "Options", "open_benchmark"]


TABLE = ("data", "split", "columns", "where")


@dataclass(frozen=True)
class BenchmarkSpec:
    """A benchmark and what may be said about it."""

    make: Callable[[str, Options], Benchmark]
    options: tuple[str, ...] = TABLE
    """The fields of Options that it takes; `seed` they all take."""
    argument: bool = False
    """Whether something may follow its name and a colon."""
    instead: str = ""
    """What to do without an option that it has not."""


def open_benchmark(spec: str, options: Options) -> Benchmark:
    """The benchmark of NAME or NAME:ARGUMENT.

    EvaluationError: there is none of that name, or an option or argument is wrong or is not for it.
    """
    name, colon, argument = spec.partition(":")
    if name not in BENCHMARKS:
        raise EvaluationError(f"there is no benchmark {name!r}; known: {', '.join(BENCHMARKS)}")
    known = BENCHMARKS[name]
    if colon and not known.argument:
        raise EvaluationError(f"{name} takes nothing after a colon, got {spec!r}")
    unwanted = [f"--{option}" for option in TABLE if getattr(options, option) and option not in known.options]
    if unwanted:
        raise EvaluationError(f"{name} takes no {', '.join(unwanted)}{known.instead and f'; {known.instead}'}")
    return known.make(argument, options)


def _public(name: str, argument: str, options: Options) -> Benchmark:
    return table_benchmark(name, SETS[name], options)


def _jsonl(argument: str, options: Options) -> Benchmark:
    if not Path(argument).is_file():
        raise EvaluationError(f"jsonl:{argument} is no file; wanted jsonl:FILE with a line for each item")
    return replace(table_benchmark("jsonl", SETS["jsonl"], replace(options, data=argument)), name=Path(argument).stem)


def _complex_edit(argument: str, options: Options) -> Benchmark:
    level = argument.upper().removeprefix("C") or str(MOST_COMPLEX)
    if not level.isdecimal() or not 1 <= int(level) <= MOST_COMPLEX:
        raise EvaluationError(f"complex-edit:{argument} has no such level; wanted C1 to C{MOST_COMPLEX}")
    return replace(table_benchmark("complex-edit", complex_edit(int(level)), options), name=f"complex-edit C{level}")


def _imgedit(argument: str, options: Options) -> Benchmark:
    """ImgEdit-Bench is a tar on the hub: a JSON file and a folder of images."""
    file = Path(options.data) if options.data else None
    if file is None or not file.is_file():
        raise EvaluationError("imgedit is a tar on the hub (sysuyy/ImgEdit): unpack it, and --data basic_edit.json")
    columns = columns_of(SETS["imgedit"], options.columns)

    def lines(roles: tuple[str, ...], wanted: frozenset[str]) -> Iterator[Line | Rejected]:
        return counting(_imgedit_lines(file), options.where)

    return of_lines("imgedit", SETS["imgedit"], columns, lines, str(file.resolve()), options.columns)


def _imgedit_lines(file: Path) -> Iterator[Line | Rejected]:
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EvaluationError(f"{file} is no JSON: {error}") from None
    if not isinstance(rows, dict) or not all(isinstance(row, dict) for row in rows.values()):
        raise EvaluationError(f"{file} is not as ImgEdit's basic_edit.json: wanted an object of objects")
    for number, (key, row) in enumerate(rows.items(), start=1):
        yield Line(number, {"key": key} | row, file.parent, file.stem, fixed=False)


BENCHMARKS: dict[str, BenchmarkSpec] = {
    **{name: BenchmarkSpec(partial(_public, name)) for name, edit_set in SETS.items() if edit_set.split},
    "imgedit": BenchmarkSpec(_imgedit, ("data", "columns", "where"), instead="it is one JSON file"),
    "complex-edit": BenchmarkSpec(_complex_edit, argument=True),
    "jsonl": BenchmarkSpec(_jsonl, ("columns", "where"), True, "the file is named after the colon"),
    "small-world": BenchmarkSpec(small_world, (), True, "its items are made, and a range after the colon picks some"),
}
