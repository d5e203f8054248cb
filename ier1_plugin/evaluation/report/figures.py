"""The figures of a report: all systems at a glance, and one for each comparison.

    overview(estimates, judges).savefig("overview.png")   # a line for each system: its judges, their mean, the interval
    compared(estimates, judges, numbers=(0, 500, 4000))   # a curve over the numbers; without, marks side by side

Colours, lines and markers as in the reward curves, so that they read with any colour vision and in print.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ier1_plugin.evaluation.report.estimates import AVERAGE
from ier1_plugin.evaluation.scores import Frame
from ier1_plugin.training.curves import GREY, INK, RULE, STYLES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI, WIDTH = 160, 9.5
SCORE = "score, 0 to 10"


def overview(estimates: Frame, judges: Mapping[str, str]) -> Figure:
    """Each system's average, and each judge's mean over the benchmarks beside it, with their intervals."""
    averages = estimates[estimates["column"] == AVERAGE]
    rows = [*averages.groupby(["group", "row"], sort=False)]
    # room above each group for its name
    place, group, places = 0.0, "", []
    heads: list[tuple[float, str]] = []
    for (name, _), _ in rows:
        if name != group and name:
            heads.append((place, f"{name}  "))
            place += 0.8
        group = name
        places.append(place)
        place += 1
    figure, (axes,) = _panels(1, 1.35 + 0.4 * (max(places, default=0) + 1))
    styles = _styles(len(judges))
    shifts = np.linspace(-0.2, 0.2, len(judges)) if len(judges) > 1 else [0.0]
    for place, (_, own) in zip(places, rows, strict=True):
        axes.axhline(place, color=RULE, linewidth=0.8, zorder=0)
        cells = own.set_index("judge")
        for judge, (colour, _, marker), shift in zip(judges, styles, shifts, strict=True):
            if judge in cells.index:
                mean, low, high = cells.loc[judge, ["mean", "low", "high"]]
                axes.plot([low, high], [place + shift] * 2, color=colour, linewidth=1.1, zorder=3)
                axes.plot(
                    [mean], [place + shift], marker, color=colour, markersize=5, markeredgecolor="white", zorder=4
                )
        mean, low, high = cells.loc["", ["mean", "low", "high"]]
        axes.plot([low, high], [place] * 2, color=INK, linewidth=2.2, solid_capstyle="butt", zorder=3)
        axes.plot([mean], [place], "|", color=INK, markersize=11, markeredgewidth=2.2, zorder=3)
    axes.set_yticks(places, [label for (_, label), _ in rows], fontsize=9, color=INK)
    for place, head in heads:
        axes.text(0, place, head, transform=axes.get_yaxis_transform(), ha="right", va="center", fontsize=9, color=GREY)
    axes.set_ylim(max(places, default=0) + 0.7, -0.9)
    axes.set_xlabel(SCORE, color=GREY, fontsize=9)
    axes.grid(axis="x", color=RULE, linewidth=0.8)
    handles = [_handle(name, colour, marker) for name, (colour, _, marker) in zip(judges.values(), styles, strict=True)]
    _legend(figure, [*handles, _handle("average; lines: 95 % intervals", INK, "|", "-")])
    return figure


def compared(estimates: Frame, judges: Mapping[str, str], numbers: Sequence[float]) -> Figure:
    """The rows of a comparison, each benchmark and judge apart."""
    printed = estimates[(estimates["column"] != AVERAGE) | (estimates["judge"] == "")]
    figure, handles = _curve(printed, judges, numbers) if numbers else _side_by_side(printed, judges)
    if estimates["runs"].map(len).any():
        handles.append(_handle("single runs", GREY, "."))
    _legend(figure, handles)
    return figure


def _curve(estimates: Frame, judges: Mapping[str, str], numbers: Sequence[float]) -> tuple[Figure, list[Any]]:
    """Score over the numbers: a panel for each benchmark, a line for each judge."""
    from matplotlib.patches import Patch

    columns = estimates[estimates["judge"] != ""]
    benchmarks = [*columns.groupby("column", sort=False)]
    figure, panels = _panels(len(benchmarks), 0.5 + 3.1 * math.ceil(len(benchmarks) / 3))
    labels = np.array(list(dict.fromkeys(estimates["row"])))
    order = np.argsort(numbers)
    at = np.array(numbers, dtype=float)[order]
    # evenly where labels to scale would run into each other
    evenly = bool(len(at) > 1 and np.diff(at).min() < 0.14 * (at[-1] - at[0]))
    at = np.arange(len(at), dtype=float) if evenly else at
    styles = dict(zip(judges, _styles(len(judges)), strict=True))
    for axes, (benchmark, own) in zip(panels, benchmarks, strict=True):
        axes.set_title(benchmark, loc="left", fontsize=12, fontweight="bold", color=INK, pad=10)
        for judge, cells in own.groupby("judge", sort=False):
            colour, line, marker = styles[str(judge)]
            cells = cells.set_index("row").loc[labels[order]]
            for place, runs in zip(at, cells["runs"], strict=True):
                axes.plot([place] * len(runs), runs, ".", color=colour, markersize=5, alpha=0.6)
            axes.plot(at, cells["mean"], color=colour, linestyle=line, marker=marker, **_open(colour))
            axes.fill_between(at, cells["low"], cells["high"], color=colour, alpha=0.13, linewidth=0)
        axes.set_xticks(at, labels[order].tolist())
        axes.set_xlabel(estimates["table"].iloc[0] + (" (evenly spaced)" if evenly else ""), color=GREY, fontsize=9)
        axes.grid(axis="y", color=RULE, linewidth=0.8)
    panels[0].set_ylabel(SCORE, color=GREY, fontsize=9)
    handles = [_handle(judges[judge], colour, marker, line) for judge, (colour, line, marker) in styles.items()]
    return figure, [*handles, Patch(facecolor=GREY, alpha=0.25, label="95 % interval")]


def _side_by_side(estimates: Frame, judges: Mapping[str, str]) -> tuple[Figure, list[Any]]:
    """Marks with intervals, the rows beside each other at every benchmark and judge."""
    figure, (axes,) = _panels(1, 4.4)
    rows = [*estimates.groupby(["group", "row"], sort=False)]
    shifts = (np.arange(len(rows)) - (len(rows) - 1) / 2) * min(0.16, 0.7 / len(rows))
    handles = []
    for ((group, label), own), shift, (colour, _, marker) in zip(rows, shifts, _styles(len(rows)), strict=True):
        for place, cell in enumerate(own.to_dict("records")):
            at = place + shift
            axes.plot([at, at], [cell["low"], cell["high"]], color=colour, linewidth=1.8)
            axes.plot([at], [cell["mean"]], marker, **_open(colour))
            axes.plot([at] * len(cell["runs"]), cell["runs"], ".", color=colour, markersize=5, alpha=0.6)
        handles.append(_handle(f"{group}: {label}" if group else label, colour, marker))
    heads = dict.fromkeys(zip(estimates["column"], estimates["judge"], strict=True))
    axes.set_xticks(range(len(heads)), [f"{head}\n{judges.get(judge, '')}" for head, judge in heads], fontsize=8.5)
    axes.set_xlim(-0.5, len(heads) - 0.5)
    axes.set_ylabel(SCORE, color=GREY, fontsize=9)
    axes.grid(axis="y", color=RULE, linewidth=0.8)
    return figure, [*handles, _handle("95 % interval", GREY, "", "-")]


def _panels(count: int, height: float) -> tuple[Figure, list[Any]]:
    """`count` panels, three in a row, that share the scale of scores."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white", layout="constrained")
    panels = figure.subplots(math.ceil(count / 3), min(3, count), sharey=True, squeeze=False).ravel().tolist()
    for axes in panels:
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color(GREY)
        axes.set_axisbelow(True)
        axes.tick_params(length=0, labelsize=9, labelcolor=GREY)
    for spare in panels[count:]:
        spare.set_visible(False)
    return figure, panels[:count]


def _styles(count: int) -> list[tuple[Any, Any, Any]]:
    """Colour, line and marker for each; where the colours begin again, with the next line and marker."""
    known = len(STYLES)
    around = [STYLES[(number + number // known) % known] for number in range(count)]
    return [(STYLES[number % known][0], *style[1:]) for number, style in enumerate(around)]


def _open(colour: str) -> dict[str, Any]:
    return {"markersize": 6.5, "markerfacecolor": "white", "markeredgecolor": colour, "markeredgewidth": 1.7}


def _handle(name: str, colour: str, marker: str, line: Any = "none") -> Any:
    from matplotlib.lines import Line2D

    marks = {"|": {"markersize": 10, "markeredgewidth": 2.2}, ".": {"markersize": 5, "alpha": 0.6}}
    mark: dict[str, Any] = marks.get(marker) or _open(colour)
    return Line2D([], [], color=colour, linestyle=line, linewidth=2, marker=marker or "none", label=name, **mark)


def _legend(figure: Any, handles: list[Any]) -> None:
    """Above the panels, so that it hides nothing."""
    longest = max((len(handle.get_label()) for handle in handles), default=1)
    columns = max(1, min(len(handles), 110 // (longest + 6)))
    style: dict[str, Any] = {"frameon": False, "fontsize": 9, "handlelength": 2.2, "columnspacing": 1.6}
    figure.legend(handles=handles, ncols=columns, loc="outside upper left", **style)
