"""Benchmarks by name.

    benchmark = open_benchmark(EvaluationConfig(benchmark="psr"))
    benchmark.ids(), benchmark.raw_items(...)     # see table.py

To add one, add an entry: `BENCHMARKS["mine"] = BenchmarkSpec(make, options=("data",))`, where
`make("what follows mine:", config)` returns a Benchmark. Options that it does not take are refused, not ignored.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ier1_plugin.data.sets import MOST_COMPLEX, SETS, complex_edit
from ier1_plugin.data.tables import Line, Rejected
from ier1_plugin.evaluation.benchmarks.small_world import small_world
from ier1_plugin.evaluation.benchmarks.table import Benchmark, table_benchmark
from ier1_plugin.evaluation.config import EvaluationConfig
from ier1_plugin.evaluation.records import EvaluationError

OPTIONS = ("data", "split", "columns", "where")


@dataclass(frozen=True)
class BenchmarkSpec:
    """A benchmark and the options that it takes."""

    make: Callable[[str, EvaluationConfig], Benchmark]
    options: tuple[str, ...] = OPTIONS
    argument: bool = False
    """Whether something may follow its name and a colon."""
    instead: str = ""
    """What to do instead of giving an option that it does not take."""


def open_benchmark(config: EvaluationConfig) -> Benchmark:
    """The benchmark of `config.benchmark`, which is NAME or NAME:ARGUMENT.

    EvaluationError, TableError: there is none of that name, or an option or argument is wrong or not one of its own.
    """
    name, colon, argument = config.benchmark.partition(":")
    if name not in BENCHMARKS:
        raise EvaluationError(f"there is no benchmark {name!r}; known: {', '.join(BENCHMARKS)}")
    known = BENCHMARKS[name]
    if colon and not known.argument:
        raise EvaluationError(f"{name} takes nothing after a colon, got {config.benchmark!r}")
    unwanted = [f"--{option}" for option in OPTIONS if getattr(config, option) and option not in known.options]
    if unwanted:
        raise EvaluationError(f"{name} takes no {', '.join(unwanted)}{known.instead and f'; {known.instead}'}")
    return known.make(argument, config)


def _public(name: str, argument: str, config: EvaluationConfig) -> Benchmark:
    return table_benchmark(name, SETS[name], config)


def _jsonl(argument: str, config: EvaluationConfig) -> Benchmark:
    if not Path(argument).is_file():
        raise EvaluationError(f"jsonl:{argument} is not a file; wanted jsonl:FILE with a line for each item")
    return replace(table_benchmark("jsonl", SETS["jsonl"], replace(config, data=argument)), name=Path(argument).stem)


def _complex_edit(argument: str, config: EvaluationConfig) -> Benchmark:
    level = argument.upper().removeprefix("C") or str(MOST_COMPLEX)
    if not level.isdecimal() or not 1 <= int(level) <= MOST_COMPLEX:
        raise EvaluationError(f"complex-edit:{argument} has no such level; wanted C1 to C{MOST_COMPLEX}")
    return replace(table_benchmark("complex-edit", complex_edit(int(level)), config), name=f"complex-edit C{level}")


def _imgedit(argument: str, config: EvaluationConfig) -> Benchmark:
    """ImgEdit-Bench is a tar on the hub: a JSON file and a folder of images."""
    file = Path(config.data)
    if not config.data or not file.is_file():
        raise EvaluationError("imgedit is a tar on the hub (sysuyy/ImgEdit): unpack it, and --data basic_edit.json")

    def rows() -> Iterator[Line | Rejected]:
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise EvaluationError(f"{file} is not JSON: {error}") from None
        if not isinstance(values, dict) or not all(isinstance(row, dict) for row in values.values()):
            raise EvaluationError(f"{file} is not as ImgEdit's basic_edit.json: wanted an object of objects")
        for number, (key, row) in enumerate(values.items(), start=1):
            yield Line(number, {"key": key} | row, (file.parent,), file.stem)

    return table_benchmark("imgedit", SETS["imgedit"], config, rows)


BENCHMARKS: dict[str, BenchmarkSpec] = {
    **{name: BenchmarkSpec(partial(_public, name)) for name, edit_set in SETS.items() if edit_set.split},
    "imgedit": BenchmarkSpec(_imgedit, ("data", "columns", "where"), instead="it is one JSON file"),
    "complex-edit": BenchmarkSpec(_complex_edit, argument=True),
    "jsonl": BenchmarkSpec(_jsonl, ("columns", "where"), True, "the file is named after the colon"),
    "small-world": BenchmarkSpec(small_world, (), True, "its items are made, and a range after the colon picks some"),
}
