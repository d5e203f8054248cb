"""Turns EasyR1's or verl's console output into one bar and a line for each validation; the full text goes to a file.

    ier1 train ... --cpu 2>&1 | python -m ier1_plugin.small_world.progress --log grpo/log.txt
    (Runner pid=4711) Step 20                     GRPO:  25%|##   | 20/80 [00:58<02:55, reward=0.74]
    (Runner pid=4711) val:                  ->    step 20, validation at temperature 1: overall 0.758 (format 0.92 ...)
    (Runner pid=4711)   overall_reward: 0.758

EasyR1 prints every metric of every step as YAML, verl in one line "step:20 - critic/score/mean:0.74 - ...", both
through Ray, which puts the process before each line.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ier1_plugin.runs.workers import progress

PARTS = ("overall", "format", "action", "subject", "goal")
_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
# greedy: bars of other processes may stand before it in the same line
_FROM_RUNNER = re.compile(r"^.*\((?:Runner|TaskRunnerV1) pid=\d+[^)]*\) ?(.*)$")
_STEP = re.compile(r"^Step (\d+)$")
_TOTAL = re.compile(r"^(?:INFO:.*:)?Total training steps: (\d+)$")
_SECTION = re.compile(r"^(\w+):$")
_VERL_STEP = re.compile(r"^step:(\d+) - (.*)$")
_VERL_METRIC = re.compile(
    r"(critic/score/mean|val-\w+/imageedit_r1/(\w+)/mean@\d+):(?:np\.\w+\()?(-?[\d.]+(?:e-?\d+)?)"
)
_METRIC = re.compile(r"^  (\w+): (-?[\d.]+(?:e-?\d+)?)$")


@dataclass
class Step:
    """What EasyR1 reported of one step: {"reward": {"overall": 0.7, ...}, "val": {"overall_reward": 0.8, ...}, ...}."""

    number: int
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)

    def validation(self) -> str | None:
        """One line for people; None if this step had no validation."""
        found = self.metrics.get("val", {})
        values = {part: found[f"{part}_reward"] for part in PARTS if f"{part}_reward" in found}
        if not values:
            return None
        parts = ", ".join(f"{part} {value:.2f}" for part, value in values.items() if part != "overall")
        return f"step {self.number}, validation at temperature 1: overall {values.get('overall', 0):.3f} ({parts})"


def plain_lines(stream: Iterable[str]) -> Iterator[str]:
    """The lines of EasyR1's runner, without colour and the name of the process; others as "" in their place."""
    # EasyR1's own bars clear themselves with a carriage return, and the runner's words follow on the same line
    for piece in (piece for line in stream for piece in line.split("\r")):
        match = _FROM_RUNNER.match(_COLOUR.sub("", piece).strip("\n"))
        yield match[1] if match else ""


def steps(lines: Iterable[str]) -> Iterator[int | Step]:
    """The total number of steps (int) when it is announced, then every step once it is complete."""
    step: Step | None = None
    section = ""
    for line in lines:
        if match := _TOTAL.match(line):
            yield int(match[1])
        elif match := _VERL_STEP.match(line):
            yield verl_step(int(match[1]), match[2])
        elif match := _STEP.match(line):
            if step is not None:
                yield step
            step, section = Step(int(match[1])), ""
        elif match := _SECTION.match(line):
            section = match[1]
        elif step is not None and (match := _METRIC.match(line)):
            step.metrics.setdefault(section, {})[match[1]] = float(match[2])
        elif step is not None and line == "Start generating batch...":
            yield step
            step = None
    if step is not None:
        yield step


def verl_step(number: int, metrics: str) -> Step:
    step = Step(number)
    for _, part, value in _VERL_METRIC.findall(metrics):
        section, name = ("val", f"{PARTS[0] if part == 'reward' else part}_reward") if part else ("reward", PARTS[0])
        step.metrics.setdefault(section, {})[name] = float(value)
    return step


def follow(stream: Iterable[str], log: Path) -> None:
    """Draws the bar until the stream ends; every line is in `log` as soon as it came."""
    with log.open("w", encoding="utf-8", errors="replace") as file, progress(None, "GRPO", unit="steps") as bar:

        def logged() -> Iterator[str]:
            for line in stream:
                file.write(line)
                file.flush()
                yield line

        for event in steps(plain_lines(logged())):
            if isinstance(event, int):
                bar.reset(event)
                continue
            bar.update(max(0, event.number - bar.n))
            if "reward" in event.metrics:
                bar.set_postfix(reward=f"{event.metrics['reward'].get('overall', 0):.2f}")
            if line := event.validation():
                bar.write(line)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m ier1_plugin.small_world.progress", description="Follows EasyR1.")
    parser.add_argument("--log", type=Path, required=True, help="file for the full output")
    options = parser.parse_args(arguments)
    sys.stdin.reconfigure(errors="replace")  # pyright: ignore[reportAttributeAccessIssue]
    follow(sys.stdin, options.log)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
