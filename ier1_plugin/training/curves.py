"""Draws how the rewards of a run rise: the paper's Figure 3, and its goal ablation when several runs are given.

    write_curves(["tensorboard_log/easy_r1/full", "without goal=tensorboard_log/easy_r1/no_goal"], Path("out"))
    -> out/reward_curves.png, and out/reward_curves.csv: run,split,step,overall,format,action,subject,goal
                                                         full,train,1,0.6131,0.6406,...

Runs differ by colour, line and marker, so that the figure reads with any colour vision and in print.
"""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ier1_plugin.runs.errors import UserError
from ier1_plugin.runs.folder import write, writing
from ier1_plugin.training.logs import (
    AGREEMENT,
    DIFFERENCE,
    PICTURES,
    REWARDS,
    TRAIN,
    VALIDATION,
    Points,
    RunLog,
    read_runs,
)
from ier1_plugin.training.run_config import VLLM

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FILE_NAME = "reward_curves"
# Okabe and Ito (2008), "Color Universal Design": distinct with any colour vision; each with a line and a marker
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


def write_curves(runs: Sequence[str], out: Path, window: int | None = None) -> list[str]:
    """Writes figure and table into `out`; returns lines on what the runs hold, for people to read.

    `runs`: folders or files of logs, or NAME=RUN; `window`: steps of the mean, by default a twentieth of the longest
    run. UserError: no rewards, or more runs than a figure can show.
    """
    logs: list[RunLog] = []
    for argument in runs:
        name, equals, path = argument.partition("=")
        named = bool(equals) and not Path(argument).exists()
        read = read_runs(Path(path if named else argument))
        if named:
            read = [replace(run, name=name if len(read) == 1 else f"{name}/{run.name}") for run in read]
        logs += read
    if len(logs) > len(STYLES):
        names = ", ".join(run.name for run in logs)
        raise UserError(f"{len(logs)} runs ({names}); a figure of more than {len(STYLES)} can't be read, name fewer")
    counts, seen = Counter(run.name for run in logs), Counter[str]()
    for index, run in enumerate(logs):
        if counts[run.name] > 1:
            seen[run.name] += 1
            logs[index] = replace(run, name=f"{run.name} ({seen[run.name]})")
    window = window or max(1, max(len(run.points(TRAIN, REWARDS[0])) for run in logs) // 20)
    with writing(out / f"{FILE_NAME}.png") as file:
        draw(logs, window).savefig(file, format="png")
    write(out / f"{FILE_NAME}.csv", _table(logs))
    lines = []
    for run in logs:
        parts = []
        for split, name in ((TRAIN, "training"), (VALIDATION, "validation")):
            if points := run.points(split, REWARDS[0]):
                first, last = min(points), max(points)
                parts.append(f"{name} {points[first]:.3f} at step {first}, {points[last]:.3f} at step {last}")
        origin = "" if run.rollout == VLLM else f" (rollout={run.rollout})"
        lines.append(f"{run.name}{origin}: overall reward, {'; '.join(parts) or 'not logged'}")
        if agreement := run.points(TRAIN, AGREEMENT):
            largest = max(run.points(TRAIN, DIFFERENCE).values(), default=math.nan)
            lines.append(
                f"{run.name}: probabilities of the sampled tokens in rollout and trainer: 1 - correlation at most "
                f"{1 - min(agreement.values()):.1e}, largest difference {largest:.1e}, over {len(agreement)} steps"
            )
        lines += [f"note: {note}" for note in run.notes]
    return [*lines, f"wrote {out / FILE_NAME}.png and .csv"]


def draw(runs: list[RunLog], window: int) -> Figure:
    """The figure: overall large, the others as small multiples, runs overlaid. `window`: steps of the mean."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    labels = [run.name if run.rollout == VLLM else f"{run.name}  [rollout={run.rollout}]" for run in runs]
    # as many as fit side by side; about 130 characters fill the width
    columns = min(len(runs), max(1, 130 // (12 + max(map(len, labels)))))
    header = 0.85 + 0.24 * math.ceil(len(runs) / columns)
    overall_name, *names = logged(runs)
    rows = len(names) // 2
    height = 4.5 * rows / 2 + header
    figure = Figure(figsize=(11, height), dpi=160, facecolor="white")
    margins: dict[str, Any] = {"left": LEFT, "right": 0.955, "top": 1 - header / height, "bottom": 0.78 / height}
    large, rest = figure.add_gridspec(1, 2, width_ratios=(1, 1.12), wspace=0.19, **margins)
    overall = figure.add_subplot(large)
    small = [figure.add_subplot(cell) for cell in rest.subgridspec(rows, 2, wspace=0.46, hspace=0.46)]
    # every step pale behind its mean, unless that would hide what is to be compared
    shows_steps = window > 1 and len(runs) <= 2
    for axes, reward in zip([overall, *small], [overall_name, *names], strict=True):
        _panel(axes, runs, reward, window, shows_steps)
    for axes in (overall, *small[-2:]):
        axes.set_xlabel("training step", color=GREY, fontsize=9)

    title: dict[str, Any] = {"fontsize": 15, "fontweight": "bold", "color": INK, "va": "top"}
    figure.text(LEFT, 1 - 0.17 / height, "Rewards during GRPO", **title)
    handles = [
        Line2D([], [], color=colour, linestyle=line, marker=marker, markersize=5.5, label=label, **_marker(colour))
        for label, (colour, line, marker) in zip(labels, STYLES, strict=False)
    ]
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (LEFT, 1 - 0.44 / height)}
    place |= {"borderaxespad": 0, "borderpad": 0}
    figure.legend(handles=handles, ncols=columns, frameon=False, fontsize=10, handlelength=3, **place)
    mean = f"Line: training, mean over {window} steps." if window > 1 else "Line: training."
    steps = " Pale: every step." if shows_steps else ""
    marks = " Markers: validation." if any(run.curves[VALIDATION] for run in runs) else ""
    caption = f"{mean}{steps}{marks} Numbers: where the line ends."
    figure.text(LEFT, 0.13 / height, caption, fontsize=8.5, color=GREY)
    return figure


def logged(runs: list[RunLog]) -> tuple[str, ...]:
    """The rewards that a figure or a table of these runs shows."""
    has_pictures = any(run.points(split, PICTURES[0]) for run in runs for split in (TRAIN, VALIDATION))
    return REWARDS + PICTURES if has_pictures else REWARDS


def smooth(points: Points, window: int) -> Points:
    """The mean of each point and the up to `window` - 1 points before it."""
    values = list(points.values())
    recent = [values[max(0, index + 1 - window) : index + 1] for index in range(len(values))]
    return {step: sum(part) / len(part) for step, part in zip(points, recent, strict=True)}


def spread(values: list[float], height: float, top: float) -> list[float]:
    """Places for labels at `values`, moved apart so that none covers another and none is above `top`."""
    places = list(values)
    order = sorted(range(len(values)), key=values.__getitem__)
    for lower, upper in pairwise(order):
        places[upper] = max(places[upper], places[lower] + height)
    for index in reversed(order):
        places[index] = min(places[index], top)
        top = places[index] - height
    return places


def _table(runs: list[RunLog]) -> str:
    """One row for each run, split and step, as logged; a reward that was not logged is empty."""
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(["run", "split", "step", *logged(runs)])
    for run in runs:
        for split in (TRAIN, VALIDATION):
            curves = [run.points(split, reward) for reward in logged(runs)]
            for step in sorted(set().union(*curves)):
                writer.writerow([run.name, split, step, *(points.get(step, "") for points in curves)])
    return table.getvalue()


def _panel(axes: Any, runs: list[RunLog], reward: str, window: int, shows_steps: bool) -> None:
    large = reward == REWARDS[0]
    axes.set_title(reward.capitalize(), loc="left", fontsize=11, fontweight="bold", color=INK, pad=6)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(GREY)
    axes.grid(axis="y", color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=9, labelcolor=GREY)
    ends: list[tuple[float, str]] = []
    # rewards are between 0 and 1; a reward function of one's own may leave that
    low, high = 0.0, 1.0
    for run, (colour, line, marker) in zip(runs, STYLES, strict=False):
        train, validation = run.points(TRAIN, reward), run.points(VALIDATION, reward)
        values = [*train.values(), *validation.values()]
        low, high = min([low, *values]), max([high, *values])
        mean = smooth(train, window)
        if shows_steps:
            axes.plot(train.keys(), train.values(), color=colour, alpha=0.22, linewidth=0.9)
        axes.plot(mean.keys(), mean.values(), color=colour, linestyle=line, linewidth=2)
        size = (5.5 if large else 4.5) * (1 if len(validation) <= 20 else 0.7)
        axes.plot(validation.keys(), validation.values(), marker, markersize=size, **_marker(colour))
        ends += [(list(mean.values())[-1], colour)] if mean else []
    span = high - low
    axes.set_ylim(low - 0.03 * span, high + 0.05 * span)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.locator_params(axis="both", nbins=6 if large else 4)
    if not any(reward in run.curves[split] for run in runs for split in (TRAIN, VALIDATION)):
        axes.text(0.5, 0.5, "not logged", transform=axes.transAxes, ha="center", color=GREY)
    places = spread([value for value, _ in ends], (0.045 if large else 0.095) * span, high)
    text: dict[str, Any] = {"textcoords": "offset points", "xytext": (5, 0), "va": "center", "fontsize": 9}
    for (value, colour), place in zip(ends, places, strict=True):
        at = axes.get_yaxis_transform()
        axes.annotate(f"{value:.2f}", (1, place), xycoords=at, color=colour, fontweight="bold", **text)


def _marker(colour: str) -> dict[str, Any]:
    return {"markerfacecolor": "white", "markeredgecolor": colour, "markeredgewidth": 1.5}
