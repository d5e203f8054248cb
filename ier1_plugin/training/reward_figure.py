"""The figure of reward curves: the overall reward large, its parts as small multiples, runs overlaid.

    draw(read_runs(Path("tensorboard_log")), window=5).savefig("reward_curves.png")

Runs are told apart by colour, line and marker, so that the figure reads with any colour vision and in print.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ier1_plugin.training.logs import REWARDS, TRAIN, VALIDATION, Points, RunLog
from ier1_plugin.training.run_config import VLLM

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito (2008), "Color Universal Design": told apart with any colour vision; each with a line and a marker
STYLES: tuple[tuple[Any, Any, Any], ...] = (
    ("#0072B2", "-", "o"),
    ("#D55E00", "--", "s"),
    ("#009E73", "-.", "^"),
    ("#CC79A7", ":", "D"),
    ("#E69F00", "-", "v"),
    ("#56B4E9", "--", "P"),
)
LEFT = 0.05
INK, GREY, RULE = "#222222", "#666666", "#DDDDDD"
TITLES = {"overall": "Overall", "format": "Format", "action": "Action", "subject": "Subject", "goal": "Goal"}


def smooth(points: Points, window: int) -> Points:
    """The mean of each point and the up to `window` - 1 points before it."""
    values = list(points.values())
    means = {}
    for index, step in enumerate(points):
        recent = values[max(0, index + 1 - window) : index + 1]
        means[step] = sum(recent) / len(recent)
    return means


def draw(runs: list[RunLog], window: int) -> Figure:
    """The figure: overall large, the four parts as small multiples, runs overlaid. `window`: steps of the mean."""
    from matplotlib.figure import Figure

    columns = _legend_columns(runs)
    header = 0.85 + 0.24 * math.ceil(len(runs) / columns)
    height = 4.5 + header
    figure = Figure(figsize=(11, height), dpi=160, facecolor="white")
    margins: dict[str, Any] = {"left": LEFT, "right": 0.955, "top": 1 - header / height, "bottom": 0.78 / height}
    large, rest = figure.add_gridspec(1, 2, width_ratios=(1, 1.12), wspace=0.19, **margins)
    overall = figure.add_subplot(large)
    small = [figure.add_subplot(cell) for cell in rest.subgridspec(2, 2, wspace=0.46, hspace=0.46)]
    for axes, reward in zip([overall, *small], REWARDS, strict=True):
        _panel(axes, runs, reward, window)
        axes.locator_params(axis="both", nbins=6 if axes is overall else 4)
    for axes in (overall, *small[2:]):
        axes.set_xlabel("training step", color=GREY, fontsize=9)
    _captions(figure, runs, window, columns, height)
    return figure


def _panel(axes: Any, runs: list[RunLog], reward: str, window: int) -> None:
    axes.set_title(TITLES[reward], loc="left", fontsize=11, fontweight="bold", color=INK, pad=6)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(GREY)
    axes.grid(axis="y", color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=9, labelcolor=GREY)
    ends = []
    for run, (colour, line, marker) in zip(runs, STYLES, strict=False):
        train, validation = run.points(TRAIN, reward), run.points(VALIDATION, reward)
        mean = smooth(train, window)
        if _shows_steps(runs, window):
            axes.plot(train.keys(), train.values(), color=colour, alpha=0.22, linewidth=0.9)
        axes.plot(mean.keys(), mean.values(), color=colour, linestyle=line, linewidth=2)
        size = (5.5 if reward == REWARDS[0] else 4.5) * (1 if len(validation) <= 20 else 0.7)
        axes.plot(validation.keys(), validation.values(), marker, markersize=size, **_marker(colour))
        ends += [(list(mean.values())[-1], colour)] if mean else []
    _finish_panel(axes, runs, reward, ends)


def _shows_steps(runs: list[RunLog], window: int) -> bool:
    """Every step is drawn pale behind its mean, unless that would hide what is to be compared."""
    return window > 1 and len(runs) <= 2


def _marker(colour: str) -> dict[str, Any]:
    return {"markerfacecolor": "white", "markeredgecolor": colour, "markeredgewidth": 1.5}


def _finish_panel(axes: Any, runs: list[RunLog], reward: str, ends: list[tuple[float, str]]) -> None:
    values = [value for run in runs for split in (TRAIN, VALIDATION) for value in run.points(split, reward).values()]
    # rewards are between 0 and 1; a reward function of one's own may leave that
    low, high = min([0.0, *values]), max([1.0, *values])
    span = high - low
    axes.set_ylim(low - 0.03 * span, high + 0.05 * span)
    axes.xaxis.get_major_locator().set_params(integer=True)
    if not values:
        axes.text(0.5, 0.5, "not logged", transform=axes.transAxes, ha="center", color=GREY)
    places = _spread([value for value, _ in ends], (0.045 if reward == REWARDS[0] else 0.095) * span, high)
    for (value, colour), place in zip(ends, places, strict=True):
        text: dict[str, Any] = {
            "textcoords": "offset points",
            "xytext": (5, 0),
            "va": "center",
            "fontsize": 9,
            "fontweight": "bold",
        }
        axes.annotate(f"{value:.2f}", (1, place), xycoords=axes.get_yaxis_transform(), color=colour, **text)


def _spread(values: list[float], height: float, top: float) -> list[float]:
    """Places for labels at `values`, moved apart so that none covers another and none is above `top`."""
    places = list(values)
    order = sorted(range(len(values)), key=values.__getitem__)
    for lower, upper in pairwise(order):
        places[upper] = max(places[upper], places[lower] + height)
    ceiling = top
    for index in reversed(order):
        places[index] = min(places[index], ceiling)
        ceiling = places[index] - height
    return places


def _label(run: RunLog) -> str:
    return run.name if run.rollout == VLLM else f"{run.name}  [rollout={run.rollout}]"


def _legend_columns(runs: list[RunLog]) -> int:
    """As many as fit side by side; about 130 characters fill the width."""
    return min(len(runs), max(1, 130 // (12 + max(len(_label(run)) for run in runs))))


def _captions(figure: Any, runs: list[RunLog], window: int, columns: int, height: float) -> None:
    from matplotlib.lines import Line2D

    title: dict[str, Any] = {"fontsize": 15, "fontweight": "bold", "color": INK, "va": "top"}
    figure.text(LEFT, 1 - 0.17 / height, "Rewards during GRPO", **title)
    handles = [
        Line2D(
            [], [], color=colour, linestyle=line, marker=marker, markersize=5.5, label=_label(run), **_marker(colour)
        )
        for run, (colour, line, marker) in zip(runs, STYLES, strict=False)
    ]
    place: dict[str, Any] = {
        "loc": "upper left",
        "bbox_to_anchor": (LEFT, 1 - 0.44 / height),
        "borderaxespad": 0,
        "borderpad": 0,
    }
    figure.legend(handles=handles, ncols=columns, frameon=False, fontsize=10, handlelength=3, **place)
    mean = f"Line: training, mean over {window} steps." if window > 1 else "Line: training."
    steps = " Pale: every step." if _shows_steps(runs, window) else ""
    marks = " Markers: validation." if any(run.curves[VALIDATION] for run in runs) else ""
    caption = f"{mean}{steps}{marks} Numbers: where the line ends."
    figure.text(LEFT, 0.13 / height, caption, fontsize=8.5, color=GREY)
