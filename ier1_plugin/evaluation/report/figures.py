"""The figures of a report: all systems at a glance, and one for each comparison.

    overview(table, judges).savefig("overview.png")       # a line a system: its judges, their mean, the interval
    compared(table, judges, numbers=(0, 500, 4000))       # a curve over the numbers; without, marks side by side

Colours, lines and markers as in the reward curves, so that they read with any colour vision and in print.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ier1_plugin.evaluation.report.cells import AVERAGE, Cell, Column, Estimate, Table
from ier1_plugin.evaluation.study import Floats
from ier1_plugin.training.curves import GREY, INK, RULE, STYLES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 160
TITLE: dict[str, Any] = {"loc": "left", "fontsize": 12, "fontweight": "bold", "color": INK, "pad": 10}


def overview(table: Table, judges: Mapping[str, str]) -> Figure:
    """Each system's average, and each judge's mean over the benchmarks beside it, with their intervals."""
    places, heads = _places(table)
    figure, axes = _panel(9.5, 1.35 + 0.4 * (max(places, default=0) + 1))
    for number, place in enumerate(places):
        axes.axhline(place, color=RULE, linewidth=0.8, zorder=0)
        for judge, (colour, _, marker), shift in zip(judges, _styles(judges), _shifts(len(judges), 0.4), strict=True):
            if judge in table.averages:
                _point(axes, table.averages[judge][number].scored, place + shift, colour, marker)
        _bar(axes, table.cells[number][-1].scored, place)
    axes.set_yticks(places, [row.label for row in table.rows], fontsize=9, color=INK)
    for place, head in heads:
        axes.text(0, place, head, transform=axes.get_yaxis_transform(), ha="right", va="center", fontsize=9, color=GREY)
    axes.set_ylim(max(places, default=0) + 0.7, -0.9)
    axes.set_xlabel("score, 0 to 10", color=GREY, fontsize=9)
    axes.grid(axis="x", color=RULE, linewidth=0.8)
    styles = zip(judges.values(), _styles(judges), strict=True)
    handles = [_handle(name, colour, marker) for name, (colour, _, marker) in styles]
    _legend(figure, [*handles, _handle("average; lines: 95 % intervals", INK, "|", "-")])
    return figure


def compared(table: Table, judges: Mapping[str, str], numbers: Sequence[float]) -> Figure:
    """The rows of a comparison, each benchmark and judge apart."""
    return _curve(table, judges, numbers) if numbers else _side_by_side(table, judges)


def _curve(table: Table, judges: Mapping[str, str], numbers: Sequence[float]) -> Figure:
    """Score over the numbers: a panel for each benchmark, a line for each judge."""
    benchmarks = list(dict.fromkeys(column.head for column in table.columns if column.head != AVERAGE))
    figure, panels = _panels(len(benchmarks))
    order = [int(row) for row in np.argsort(numbers)]
    at, evenly = _spread(np.array(numbers)[order])
    for benchmark, axes in zip(benchmarks, panels[: len(benchmarks)], strict=True):
        axes.set_title(benchmark, **TITLE)
        for judge, (colour, line, marker) in zip(judges, _styles(judges), strict=True):
            if Column(benchmark, judge) not in table.columns:
                continue
            of = [table.cells[row][table.columns.index(Column(benchmark, judge))] for row in order]
            cells = [cell.scored for cell in of]
            for place, cell in zip(at, of, strict=True):
                _dots(axes, cell, place, colour)
            axes.plot(at, [one.mean for one in cells], color=colour, linestyle=line, marker=marker, **_open(colour))
            lows, highs = [one.low for one in cells], [one.high for one in cells]
            axes.fill_between(at, lows, highs, color=colour, alpha=0.13, linewidth=0)
        axes.set_xticks(at, [table.rows[row].label for row in order])
        axes.set_xlabel(table.title + (" (evenly spaced)" if evenly else ""), color=GREY, fontsize=9)
        axes.grid(axis="y", color=RULE, linewidth=0.8)
    panels[0].set_ylabel("score, 0 to 10", color=GREY, fontsize=9)
    names = zip(judges.values(), _styles(judges), strict=True)
    handles = [_handle(name, colour, marker, line) for name, (colour, line, marker) in names]
    _legend(figure, [*handles, _shade("95 % interval"), *_of_runs(table)])
    return figure


def _side_by_side(table: Table, judges: Mapping[str, str]) -> Figure:
    """Marks with intervals, the rows beside each other at every benchmark and judge."""
    figure, axes = _panel(9.5, 4.4)
    shifts = (np.arange(len(table.rows)) - (len(table.rows) - 1) / 2) * min(0.16, 0.7 / len(table.rows))
    handles = []
    for number, (row, (colour, _, marker)) in enumerate(zip(table.rows, _styles(table.rows), strict=True)):
        for place in range(len(table.columns)):
            _mark(axes, table.cells[number][place], place + shifts[number], colour, marker)
        handles.append(_handle(f"{row.group}: {row.label}" if row.group else row.label, colour, marker))
    names = [f"{column.head}\n{judges.get(column.sub, column.sub)}" for column in table.columns]
    axes.set_xticks(range(len(names)), names, fontsize=8.5)
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_ylabel("score, 0 to 10", color=GREY, fontsize=9)
    axes.grid(axis="y", color=RULE, linewidth=0.8)
    _legend(figure, [*handles, _handle("95 % interval", GREY, "", "-"), *_of_runs(table)])
    return figure


def _styles(of: Collection[Any]) -> list[tuple[Any, Any, Any]]:
    """A style for each; where the colours begin again, with the next line and marker."""
    count = len(STYLES)
    around = [STYLES[(number + number // count) % count] for number in range(len(of))]
    return [(STYLES[number % count][0], *style[1:]) for number, style in enumerate(around)]


def _dots(axes: Any, cell: Cell, place: float, colour: str) -> None:
    """The means of single runs."""
    axes.plot([place] * len(cell.runs), cell.runs, ".", color=colour, markersize=5, alpha=0.6)


def _of_runs(table: Table) -> list[Any]:
    some = any(cell.runs for cells in table.cells for cell in cells)
    return [_handle("single runs", GREY, ".")] if some else []


def _places(table: Table) -> tuple[list[float], list[tuple[float, str]]]:
    """Where rows stand, with room above each group for its name."""
    places: list[float] = []
    heads: list[tuple[float, str]] = []
    here, group = 0.0, None
    for row in table.rows:
        if row.group != group and row.group:
            heads.append((here, f"{row.group}  "))
            here += 0.8
        group = row.group
        places.append(here)
        here += 1
    return places, heads


def _panel(width: float, height: float) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white", layout="constrained")
    return figure, _plain(figure.add_subplot())


def _panels(count: int) -> tuple[Figure, list[Any]]:
    """`count` panels, three in a row, that share the scale of scores."""
    from matplotlib.figure import Figure

    columns, rows = min(3, count), math.ceil(count / 3)
    figure = Figure(figsize=(9.5, 0.5 + 3.1 * rows), dpi=DPI, facecolor="white", layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel().tolist()
    for spare in panels[count:]:
        spare.set_visible(False)
    return figure, [_plain(axes) for axes in panels]


def _plain(axes: Any) -> Any:
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(GREY)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=9, labelcolor=GREY)
    return axes


def _spread(numbers: Floats) -> tuple[Floats, bool]:
    """Where the numbers stand: to scale, or evenly where their labels would run into each other."""
    crowded = len(numbers) > 1 and np.diff(numbers).min() < 0.14 * (numbers[-1] - numbers[0])
    return (np.arange(len(numbers), dtype=float), True) if crowded else (numbers, False)


def _shifts(count: int, most: float) -> list[float]:
    """Where `count` marks stand beside each other, `most` from the first to the last."""
    return [most * (number / (count - 1) - 0.5) for number in range(count)] if count > 1 else [0.0] * count


def _point(axes: Any, estimate: Estimate, place: float, colour: str, marker: str) -> None:
    if estimate:
        axes.plot([estimate.low, estimate.high], [place, place], color=colour, linewidth=1.1, zorder=3)
        axes.plot([estimate.mean], [place], marker, color=colour, markersize=5, markeredgecolor="white", zorder=4)


def _bar(axes: Any, estimate: Estimate, place: float) -> None:
    if estimate:
        axes.plot(
            [estimate.low, estimate.high], [place, place], color=INK, linewidth=2.2, solid_capstyle="butt", zorder=3
        )
        axes.plot([estimate.mean], [place], "|", color=INK, markersize=11, markeredgewidth=2.2, zorder=3)


def _mark(axes: Any, cell: Cell, place: float, colour: str, marker: str) -> None:
    if cell.scored:
        axes.plot([place, place], [cell.scored.low, cell.scored.high], color=colour, linewidth=1.8)
        axes.plot([place], [cell.scored.mean], marker, **_open(colour))
        _dots(axes, cell, place, colour)


def _open(colour: str) -> dict[str, Any]:
    return {"markersize": 6.5, "markerfacecolor": "white", "markeredgecolor": colour, "markeredgewidth": 1.7}


def _handle(name: str, colour: str, marker: str, line: Any = "none") -> Any:
    from matplotlib.lines import Line2D

    marks = {"|": {"markersize": 10, "markeredgewidth": 2.2}, ".": {"markersize": 5, "alpha": 0.6}}
    mark: dict[str, Any] = marks.get(marker) or _open(colour)
    return Line2D([], [], color=colour, linestyle=line, linewidth=2, marker=marker or "none", label=name, **mark)


def _shade(name: str) -> Any:
    from matplotlib.patches import Patch

    return Patch(facecolor=GREY, alpha=0.25, label=name)


def _legend(figure: Any, handles: list[Any]) -> None:
    """Above the panels, so that it hides nothing."""
    longest = max((len(handle.get_label()) for handle in handles), default=1)
    columns = max(1, min(len(handles), 110 // (longest + 6)))
    style: dict[str, Any] = {"frameon": False, "fontsize": 9, "handlelength": 2.2, "columnspacing": 1.6}
    figure.legend(handles=handles, ncols=columns, loc="outside upper left", **style)
