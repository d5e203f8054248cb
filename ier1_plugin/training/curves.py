"""Draws how the rewards of a run rise: the paper's Figure 3, and its goal ablation when several runs are given.

    python -m ier1_plugin.training.curves tensorboard_log/easy_r1/qwen25vl_7b "without goal=tensorboard_log/easy_r1/no_goal"
    -> reward_curves.png, and reward_curves.csv: run,split,step,overall,format,action,subject,goal
                                                 qwen25vl_7b,train,1,0.6131,0.6406,...

A RUN is a folder with TensorBoard's event files or EasyR1's experiment_log.jsonl in or below it, or such a file.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

from ier1_plugin.training.logs import REWARDS, TRAIN, VALIDATION, LogError, RunLog, read_runs
from ier1_plugin.training.reward_figure import STYLES, draw
from ier1_plugin.training.run_config import VLLM

FILE_NAME = "reward_curves"


def write_csv(runs: list[RunLog], file: Path) -> None:
    """One row for each run, split and step, as logged; a reward that was not logged is empty."""
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["run", "split", "step", *REWARDS])
        for run in runs:
            for split in (TRAIN, VALIDATION):
                curves = [run.points(split, reward) for reward in REWARDS]
                for step in sorted(set().union(*curves)):
                    writer.writerow([run.name, split, step, *(points.get(step, "") for points in curves)])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ier1_plugin.training.curves", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="folder or file of logs; NAME=RUN names it in the figure"
    )
    parser.add_argument("--out", type=Path, default=Path(), help="folder for the figure and the table; default: here")
    parser.add_argument("--smooth", type=_steps, metavar="N", help="mean over N steps; default: a twentieth of the run")
    options = parser.parse_args(arguments)
    try:
        runs = _distinct_names([run for argument in options.runs for run in _read(argument)])
        window = options.smooth or max(1, max(len(run.points(TRAIN, REWARDS[0])) for run in runs) // 20)
        _write(runs, options.out, window)
    except (LogError, OSError) as error:
        raise SystemExit(f"error: {error}") from None
    except ImportError as error:
        raise SystemExit(f"error: {error.name} is not installed; pip install -e '.[curves]'") from None


def _write(runs: list[RunLog], out: Path, window: int) -> None:
    out.mkdir(parents=True, exist_ok=True)
    writers = {
        "png": lambda file: draw(runs, window).savefig(file, format="png"),
        "csv": lambda file: write_csv(runs, file),
    }
    for suffix, write in writers.items():
        partial = out / f".{FILE_NAME}.{suffix}.partial"
        write(partial)
        os.replace(partial, out / f"{FILE_NAME}.{suffix}")
    for run in runs:
        print(_summary(run))
        for note in run.notes:
            print(f"note: {note}")
    print(f"wrote {out / FILE_NAME}.png and .csv")


def _read(argument: str) -> list[RunLog]:
    name, separator, path = argument.partition("=")
    if Path(argument).exists() or not separator:
        return read_runs(Path(argument))
    runs = read_runs(Path(path))
    return [replace(run, name=name if len(runs) == 1 else f"{name}/{run.name}") for run in runs]


def _distinct_names(runs: list[RunLog]) -> list[RunLog]:
    if len(runs) > len(STYLES):
        names = ", ".join(run.name for run in runs)
        raise LogError(f"{len(runs)} runs ({names}); a figure of more than {len(STYLES)} can't be read, name fewer")
    counts = Counter(run.name for run in runs)
    seen: Counter[str] = Counter()
    distinct = []
    for run in runs:
        seen[run.name] += 1
        distinct.append(run if counts[run.name] == 1 else replace(run, name=f"{run.name} ({seen[run.name]})"))
    return distinct


def _summary(run: RunLog) -> str:
    parts = []
    for split, name in ((TRAIN, "training"), (VALIDATION, "validation")):
        if points := run.points(split, REWARDS[0]):
            first, last = min(points), max(points)
            parts.append(f"{name} {points[first]:.3f} at step {first}, {points[last]:.3f} at step {last}")
    origin = "" if run.rollout == VLLM else f" (rollout={run.rollout})"
    return f"{run.name}{origin}: overall reward, {'; '.join(parts) or 'not logged'}"


def _steps(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; wanted a number of steps, at least 1")
    return int(text)


if __name__ == "__main__":
    main()
