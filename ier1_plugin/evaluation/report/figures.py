"""The figures of a report: all systems at a glance, and one for each comparison.

    overview(estimates, by_judge, judges).savefig("overview.png")   # systems: judges, mean, interval
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


def overview(estimates: Frame, by_judge: Mapping[str, Frame], judges: Mapping[str, str]) -> Figure:
    """Each system's average, and that of each judge's columns beside it, with their intervals."""
    averages = estimates[estimates["column"] == AVERAGE]
    # room above each group for its name
    starts = (averages["group"] != averages["group"].shift()) & (averages["group"] != "")
    places = np.arange(len(averages)) + 0.8 * starts.cumsum().to_numpy()
    figure, (axes,) = _panels(1, 1.35 + 0.4 * (places[-1] + 1))
    styles = _styles(len(judges))
    shifts = np.linspace(-0.2, 0.2, len(judges)) if len(judges) > 1 else [0.0]
    axes.hlines(places, 0, 1, transform=axes.get_yaxis_transform(), color=RULE, linewidth=0.8, zorder=0)
    for (judge, (colour, _, marker)), shift in zip(zip(judges, styles, strict=True), shifts, strict=True):
        if judge in by_judge:
            own = by_judge[judge][by_judge[judge]["column"] == AVERAGE]
            at = places + shift
            axes.hlines(at, own["low"], own["high"], color=colour, linewidth=1.1, zorder=3)
            axes.plot(own["mean"], at, marker, color=colour, markersize=5, markeredgecolor="white", zorder=4)
    axes.hlines(places, averages["low"], averages["high"], color=INK, linewidth=2.2, zorder=3)
    axes.plot(averages["mean"], places, "|", color=INK, markersize=11, markeredgewidth=2.2, zorder=3)
    axes.set_yticks(places, averages["row"], fontsize=9, color=INK)
    beside = {"transform": axes.get_yaxis_transform(), "ha": "right", "va": "center", "fontsize": 9, "color": GREY}
    for place, group in zip(places[starts], averages["group"][starts], strict=True):
        axes.text(0, place - 0.8, f"{group}  ", **beside)
    axes.set_ylim(places[-1] + 0.7, -0.9)
    axes.set_xlabel(SCORE, color=GREY, fontsize=9)
    axes.grid(axis="x", color=RULE, linewidth=0.8)
    handles = [_handle(name, colour, marker) for name, (colour, _, marker) in zip(judges.values(), styles, strict=True)]
    _legend(figure, [*handles, _handle("average; lines: 95 % intervals", INK, "|", "-")])
    return figure


def compared(estimates: Frame, judges: Mapping[str, str], numbers: Sequence[float]) -> Figure:
    """The rows of a comparison, each benchmark and judge apart."""
    figure, handles = _curve(estimates, judges, numbers) if numbers else _side_by_side(estimates, judges)
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
            _dots(axes, at, cells["runs"], colour)
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
        at = np.arange(len(own)) + shift
        axes.vlines(at, own["low"], own["high"], color=colour, linewidth=1.8)
        axes.plot(at, own["mean"], marker, **_open(colour))
        _dots(axes, at, own["runs"], colour)
        handles.append(_handle(f"{group}: {label}" if group else label, colour, marker))
    heads = dict.fromkeys(zip(estimates["column"], estimates["judge"], strict=True))
    axes.set_xticks(range(len(heads)), [f"{head}\n{judges.get(judge, '')}" for head, judge in heads], fontsize=8.5)
    axes.set_xlim(-0.5, len(heads) - 0.5)
    axes.set_ylabel(SCORE, color=GREY, fontsize=9)
    axes.grid(axis="y", color=RULE, linewidth=0.8)
    return figure, [*handles, _handle("95 % interval", GREY, "", "-")]


def _dots(axes: Any, places: Any, runs: Any, colour: str) -> None:
    """The means of single runs."""
    for place, means in zip(places, runs, strict=True):
        axes.plot([place] * len(means), means, ".", color=colour, markersize=5, alpha=0.6)


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
