"""Benchmarks by name.

    benchmark = open_benchmark("psr", Options())
    benchmark.ids(), benchmark.drafts(...)     # see benchmark_table.py

A further one is one more entry: `BENCHMARKS["mine"] = maker`, where `maker("what follows mine:", Options(...))` returns
a Benchmark.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from ier1_plugin.evaluation.benchmark_sets import IMGEDIT, JSONL, MOST_COMPLEX, SETS, complex_edit, with_columns
from ier1_plugin.evaluation.benchmark_table import Benchmark, Options, counting, of_lines, table_benchmark
from ier1_plugin.evaluation.benchmark_world import small_world
from ier1_plugin.evaluation.records import EvaluationError
from ier1_plugin.tables import Line, Rejected

__all__ = ["BENCHMARKS", "Benchmark", "Options", "open_benchmark"]


def open_benchmark(spec: str, options: Options) -> Benchmark:
    """The benchmark of NAME or NAME:ARGUMENT. EvaluationError: there is none of that name, or an option is wrong."""
    name, _, argument = spec.partition(":")
    if name not in BENCHMARKS:
        raise EvaluationError(f"there is no benchmark {name!r}; known: {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name](argument, options)


def _public(name: str, argument: str, options: Options) -> Benchmark:
    if argument:
        raise EvaluationError(f"{name} takes nothing after a colon; another copy of it is named with --data")
    return table_benchmark(name, SETS[name], options)


def _jsonl(argument: str, options: Options) -> Benchmark:
    if not Path(argument).is_file():
        raise EvaluationError(f"jsonl:{argument} is no file; wanted jsonl:FILE with a line for each item")
    return replace(table_benchmark("jsonl", JSONL, replace(options, data=argument)), name=Path(argument).stem)


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
    columns = with_columns(IMGEDIT, options.columns)

    def lines(roles: tuple[str, ...]) -> Iterator[Line | Rejected]:
        return counting(_imgedit_lines(file), options.where)

    return of_lines("imgedit", IMGEDIT, columns, lines, str(file.resolve()))


def _imgedit_lines(file: Path) -> Iterator[Line | Rejected]:
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EvaluationError(f"{file} is no JSON: {error}") from None
    if not isinstance(rows, dict) or not all(isinstance(row, dict) for row in rows.values()):
        raise EvaluationError(f"{file} is not as ImgEdit's basic_edit.json: wanted an object of objects")
    for number, (key, row) in enumerate(rows.items(), start=1):
        yield Line(number, {"key": key} | row, file.parent, file.stem, fixed=False)


BENCHMARKS: dict[str, Callable[[str, Options], Benchmark]] = {
    **{name: partial(_public, name) for name in SETS},
    "imgedit": _imgedit,
    "complex-edit": _complex_edit,
    "jsonl": _jsonl,
    "small-world": small_world,
}
