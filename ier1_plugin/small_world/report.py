"""What a quickstart run has shown: a table of rewards before and after GRPO, the controls, and what it means.

    python -m ier1_plugin.small_world.report --before before.json --after after.json [--no-learning lr0.json]
        [--shuffled shuffled.json] --out report.txt

                     before                 after                  rise
    overall          0.61 [0.59, 0.63]      0.82 [0.80, 0.84]      +0.21 [+0.19, +0.23]

The files are those of `small_world.evaluate`. Intervals are 95 % bootstrap intervals over rows; a rise is taken row by
row, since before and after answer the same rows.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from ier1_plugin.small_world.evaluate import PARTS, interval
from ier1_plugin.small_world.world import is_picture_told

WIDTH = 23
ABOUT = """\
What this is: a test bench. The whole loop runs (rows, rollouts, rewards, GRPO in EasyR1's Ray trainer, merging) with a
model of a million parameters on requests that a program wrote. At this size GRPO mostly sharpens what the warm-up
taught: the sampled reward comes close to the greedy one. These are not the figures of the paper."""


def table(before: dict[str, Any], after: dict[str, Any], how: str) -> list[str]:
    """Lines of one table: a part a row; `how` is "sampled" or "greedy"."""
    lines = ["".join(text.ljust(WIDTH) for text in ("", "before", "after", "rise")).rstrip()]
    for part in PARTS:
        cells = [_cell(before[how][part]), _cell(after[how][part]), _cell(rise(before, after, how, part), "+")]
        lines.append("".join(text.ljust(WIDTH) for text in (part, *cells)).rstrip())
    return lines


def rise(before: dict[str, Any], after: dict[str, Any], how: str, part: str) -> dict[str, float]:
    """Mean difference over rows with its interval. ValueError: the files are about different rows."""
    pairs = list(zip(before["scores"], after["scores"], strict=False))
    if len(before["scores"]) != len(after["scores"]) or any(one["id"] != other["id"] for one, other in pairs):
        raise ValueError("the two evaluations are about different rows; evaluate both models on the same val.parquet")
    return interval([other[how][part] - one[how][part] for one, other in pairs])


def no_learning(before: dict[str, Any], control: dict[str, Any]) -> list[str]:
    """Lines on the run with learning rate 0; its samples are others, its greedy answers must be the same."""
    greedy, sampled = (rise(before, control, how, "overall") for how in ("greedy", "sampled"))
    still = greedy["low"] == greedy["high"] == 0
    meaning = "nothing rises, so what rose above was learnt" if still else "it moved without learning: trust nothing"
    changes = f"greedy reward {_cell(greedy, '+')}, sampled {_cell(sampled, '+')} with other random numbers"
    return [f"control, learning rate 0: {changes}; {meaning}"]


def photos_needed(after: dict[str, Any], shuffled: dict[str, Any]) -> list[str]:
    """Lines on the validation with shuffled photos."""
    own, other = (_told_subject(result) for result in (after, shuffled))
    collapsed = other["high"] < own["low"]
    meaning = "the subject is read off the photo" if collapsed else "the model does not look at the photo"
    return [
        f"control, photos shuffled: greedy subject reward on the {after['picture_told']['rows']} rows whose subject "
        f"only the photo tells: {_cell(own)} -> {_cell(other)}; {meaning}"
    ]


def _told_subject(result: dict[str, Any]) -> dict[str, float]:
    return interval([score["greedy"]["subject"] for score in result["scores"] if is_picture_told(score["id"])])


def _cell(value: dict[str, float], sign: str = "") -> str:
    mean, low, high = (f"{value[name]:{sign}.2f}" for name in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def text(options: argparse.Namespace) -> str:
    before, after = _read(options.before), _read(options.after)
    lines = [
        f"Rewards on {before['rows']} validation rows (wordings and crops not trained on), 95 % intervals over rows"
    ]
    lines += ["", "sampled (temperature 1, top_p 1: what GRPO optimises)", *table(before, after, "sampled")]
    lines += ["", "greedy (the likeliest answer)", *table(before, after, "greedy"), ""]
    if options.no_learning:
        lines += no_learning(before, _read(options.no_learning))
    if options.shuffled:
        lines += photos_needed(after, _read(options.shuffled))
    return "\n".join([*lines, ABOUT, ""])


def _read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8"))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m ier1_plugin.small_world.report", description="Before and after GRPO.")
    parser.add_argument("--before", type=Path, required=True, help="evaluation of the warmed-up model")
    parser.add_argument("--after", type=Path, required=True, help="evaluation of the trained model")
    parser.add_argument("--no-learning", type=Path, help="evaluation after GRPO with learning rate 0")
    parser.add_argument("--shuffled", type=Path, help="evaluation of the trained model with shuffled photos")
    parser.add_argument("--out", type=Path, required=True, help="text file to write; it is printed as well")
    options = parser.parse_args(arguments)
    try:
        report = text(options)
    except (OSError, ValueError, KeyError) as error:
        print(f"report: {error}", file=sys.stderr)
        return 1
    options.out.write_text(report, encoding="utf-8")
    print(report)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
