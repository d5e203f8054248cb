"""What a report prints: numbers of a Table in, Grids of words out; and every number once more as rows for a CSV.

scores_grid(table, short_names(study.judges))    # 8.23 [8.11, 8.34] 100 %, +1.02 [+0.90, +1.13] p < 0.001, n = 328
long_rows(tables)                                # [["table", "group", "row", "benchmark", ...], [...], ...]
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from ier1_plugin.evaluation.report.cells import AVERAGE, FULL_COVERAGE, Cell, Column, Estimate, Measure, Table
from ier1_plugin.evaluation.report.comparisons import Row
from ier1_plugin.evaluation.report.results import columns_of
from ier1_plugin.evaluation.report.tables import GROUP, LABEL, UNDEFINED, Grid, Head, Line, Text, percent
from ier1_plugin.evaluation.study import Scores, Study

GAIN = "Gain"
INTERVALS = (
    "Mean [95 % bootstrap interval over requests, resampled by cluster: post, photo or crop] and coverage: the share "
    "of items that have a score."
)
RUNS = "Runs: the mean of each run, the gain of each over the same run of the reference; intervals are over requests, "
RUNS += "not over trainings."
WIDE = ("", " low", " high", " coverage", " failures as 0", " failures as 0 low", " failures as 0 high")
MEASURED = ("mean", "low", "high", "gain", "gain_low", "gain_high", "p", "common_items")
LONG_HEADER = (
    *("table", "group", "row", "column", "judge", *MEASURED, "scored", "items", "coverage"),
    *(f"{name}_failures_as_0" for name in MEASURED),
    *("runs", "gain_of_runs"),
)


def short_names(judges: Iterable[str]) -> dict[str, str]:
    """Judges without the way to reach them, where that leaves them apart: "gpt-4o" for "openai:gpt-4o"."""
    names = {judge: judge.rpartition("#")[2] if "#" in judge else judge.partition(":")[2] or judge for judge in judges}
    times = Counter(names.values())
    return {judge: name if times[name] == 1 else judge for judge, name in names.items()}


def scores_grid(table: Table, judges: Mapping[str, str], as_zero: bool = False) -> Grid:
    """Means over scored items, or with failures as 0; the gain beside the average where a row has a reference."""
    kind = "as_zero" if as_zero else "scored"
    gains = any(row.reference is not None for row in table.rows) and table.columns[-1].head == AVERAGE
    heads = [Head(column.head, judges.get(column.sub, column.sub)) for column in table.columns]
    what = (
        "Items without a score count as 0, those that are not judged yet among them"
        if as_zero
        else "Items without a score are left out"
    )
    caption = f"{INTERVALS} {what}."
    if gains:
        heads.append(Head(GAIN, "over the reference"))
        items = "all items that both were given" if as_zero else "the items that both have a score for"
        caption += f" Gain: mean paired difference on {items}; p: sign-flip permutation test; n: pairs of scores."
    if not as_zero and any(len(row.systems) > 1 for row in table.rows):
        caption += f" {RUNS}"
    best = _best(table, kind)
    lines = [
        Line(
            row.group,
            row.label,
            (
                *(_mean_text(cell, kind, best[place] == number) for place, cell in enumerate(table.cells[number])),
                *([gain_text(table.cells[number][-1], row.reference is None, kind)] if gains else []),
            ),
        )
        for number, row in enumerate(table.rows)
    ]
    return Grid(table.full_title, tuple(heads), tuple(lines), caption)


def gains_grid(table: Table, judges: Mapping[str, str], title: str) -> Grid:
    """The gain in every column, of the rows that have a reference."""
    heads = tuple(Head(column.head, judges.get(column.sub, column.sub)) for column in table.columns)
    lines = tuple(
        Line(row.group, row.label, tuple(gain_text(cell, False) for cell in table.cells[number]))
        for number, row in enumerate(table.rows)
        if row.reference not in (None, number)
    )
    caption = (
        "Mean paired difference on the items that both have a score for [95 % bootstrap interval by cluster: post, "
        "photo or crop], two-sided p of a sign-flip permutation test by cluster, not corrected for the number of "
        "tests; n: pairs of scores."
    )
    return Grid(table.warned(title), heads, lines, caption)


def coverage_grid(study: Study, rows: Sequence[Row], judges: Mapping[str, str], title: str) -> Grid:
    """How many items have a score, and why the others have none."""
    columns = [(column.head, column.sub) for column in columns_of(study, rows)]
    heads = tuple(Head(benchmark, judges[judge]) for benchmark, judge in columns)
    lines = tuple(
        Line(row.group, row.label, tuple(_coverage_text(_runs(study, row, *column)) for column in columns))
        for row in rows
    )
    return Grid(title, heads, lines, "Items with a score of those given, and why the others have none.")


def long_rows(tables: Iterable[Table]) -> list[list[object]]:
    """Header and a row for each cell of each table; what is undefined is an empty field."""
    rows: list[list[object]] = [list(LONG_HEADER)]
    for table in tables:
        for row, cells in zip(table.rows, table.cells, strict=True):
            rows += [
                [table.full_title, row.group, row.label, *_long_cell(column, cell)]
                for column, cell in zip(table.columns, cells, strict=True)
            ]
    return rows


def wide_rows(table: Table, judges: Mapping[str, str]) -> list[list[object]]:
    """The table in its own layout: for each column mean, coverage and the mean with failures as 0, with intervals."""
    names = [
        f"{column.head}, {judges.get(column.sub, column.sub)}" if column.sub else column.head
        for column in table.columns
    ]
    header = [f"{name}{what}" for name in names for what in WIDE]
    rows: list[list[object]] = [[GROUP, LABEL, *header, GAIN, f"{GAIN} low", f"{GAIN} high", f"{GAIN} p"]]
    for row, cells in zip(table.rows, table.cells, strict=True):
        shown = [v for c in cells for v in (*_three(c.scored), c.coverage, *_three(c.as_zero))]
        rows.append([row.group, row.label, *map(_number, (*shown, *_three(cells[-1].scored.gain), cells[-1].scored.p))])
    return rows


def gain_text(cell: Cell, is_reference: bool, kind: str = "scored") -> Text:
    measure: Measure = getattr(cell, kind)
    gain = measure.gain
    if is_reference:
        return Text("")
    if not gain:
        return Text(UNDEFINED)
    tone = "up" if gain.low > 0 else "down" if gain.high < 0 else ""
    tested = ", ".join(part for part in (p_text(measure.p), f"n = {measure.common:,}") if part)
    runs = _run_texts(cell.run_gains, signed) if kind == "scored" else ""
    return Text(signed(gain.mean), _interval(gain, signed), tested, runs, tone=tone)


def p_text(p: float) -> str:
    if not math.isfinite(p):
        return ""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def signed(value: float) -> str:
    """ "+1.02", "−0.18", and "0.00" for what rounds to nothing."""
    text = f"{value:+.2f}"
    return "0.00" if text in ("+0.00", "-0.00") else text.replace("-", "−")


def _mean_text(cell: Cell, kind: str, best: bool) -> Text:
    estimate: Estimate = getattr(cell, kind)
    coverage = percent(cell.coverage) if cell.items else ""
    warn = cell.items > 0 and cell.coverage < FULL_COVERAGE
    if not estimate:
        return Text(UNDEFINED, "", coverage, warn=warn)
    runs = _run_texts(cell.runs, "{:.2f}".format) if kind == "scored" else ""
    return Text(f"{estimate.mean:.2f}", _interval(estimate, "{:.2f}".format), coverage, runs, best, warn)


def _run_texts(values: Sequence[float], form: Callable[[float], str]) -> str:
    shown = ", ".join(form(value) if math.isfinite(value) else UNDEFINED for value in values)
    return f"runs {shown}" if shown else ""


def _interval(estimate: Estimate, form: Callable[[float], str]) -> str:
    if not math.isfinite(estimate.low):
        return f"[{UNDEFINED}]"
    return f"[{form(estimate.low)}, {form(estimate.high)}]"


def _best(table: Table, kind: str) -> list[int]:
    """The row with the highest mean in each column; -1 where there is nothing to compare."""
    best = []
    for place in range(len(table.columns)):
        means = [getattr(cells[place], kind).mean for cells in table.cells]
        comparable = len(means) > 1 and any(map(math.isfinite, means))
        best.append(int(np.nanargmax(means)) if comparable else -1)
    return best


def _runs(study: Study, row: Row, benchmark: str, judge: str) -> list[Scores]:
    return [study.scores[key] for name in row.systems if (key := (benchmark, name, judge)) in study.scores]


def _coverage_text(runs: list[Scores]) -> Text:
    given = sum(int(run.given.sum()) for run in runs)
    if not given:
        return Text(UNDEFINED)
    reasons = Counter(reason.partition(":")[0] for run in runs for reason in run.reasons.values())
    share = 1 - sum(reasons.values()) / given
    small = [f"{count:,} {reason}" for reason, count in reasons.most_common()] or [f"all {given:,}"]
    spreads = [run.spread for run in runs if math.isfinite(run.spread)]
    if spreads:
        small.append(f"± {np.mean(spreads):.2f} between samples")
    return Text(percent(share), note=", ".join(small), warn=share < FULL_COVERAGE)


def _long_cell(column: Column, cell: Cell) -> list[object]:
    counts = [cell.count, cell.items, _number(cell.coverage)]
    runs = ("; ".join(str(_number(value)) for value in values) for values in (cell.runs, cell.run_gains))
    return [column.head, column.sub, *_long_measure(cell.scored), *counts, *_long_measure(cell.as_zero), *runs]


def _long_measure(measure: Measure) -> list[object]:
    values = (*_three(measure), *_three(measure.gain), measure.p)
    return [*map(_number, values), measure.common if measure.gain else ""]


def _three(estimate: Estimate) -> tuple[float, float, float]:
    return estimate.mean, estimate.low, estimate.high


def _number(value: float) -> object:
    return f"{value:.6g}" if math.isfinite(value) else ""
