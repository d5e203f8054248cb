"""Reads the rewards of a run from EasyR1's or verl's logs: TensorBoard event files, or EasyR1's experiment_log.jsonl.

    read_runs(Path("tensorboard_log/easy_r1/qwen25vl_7b"))
    -> [RunLog("qwen25vl_7b", {"train": {"overall": {1: 0.61, 2: 0.63, ...}, "format": ...}, "val": ...}, "vllm", ())]

EasyR1 logs `reward/<key>` at every training step and `val/<key>_reward` at every validation (0.3.2 and 0.3.3,
verl/trainer/ray_trainer.py). Upstream verl logs a training step's score without its parts, a validation's with them,
and how well the probabilities of the sampled tokens agree between vLLM and the trainer. A resumed run continues in a
further event file, or, where the launcher keeps the earlier logs, in experiment_log.jsonl after
experiment_log.part1.jsonl, experiment_log.part2.jsonl ...
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ier1_plugin.runs.errors import UserError
from ier1_plugin.training.run_config import VLLM

REWARDS = ("overall", "format", "action", "subject", "goal")
PICTURES = ("picture", "cached", "renders", "unjudged")
"""What a reward on pictures logs as well."""
TRAIN, VALIDATION = "train", "val"
TAGS = {f"reward/{reward}": (TRAIN, reward) for reward in REWARDS + PICTURES} | {
    f"val/{reward}_reward": (VALIDATION, reward) for reward in REWARDS + PICTURES
}
AGREEMENT, DIFFERENCE = "agreement", "difference"
"""Of each sampled token's probability in the rollout and in the trainer: Pearson's correlation, the largest difference
of a step (verl/utils/debug/metrics.py)."""
_VERL_SOURCE = "imageedit_r1"
# mean@N: of N responses a row
for _samples in (1, 2, 4, 8, 16):
    TAGS |= {f"val-aux/{_VERL_SOURCE}/{reward}/mean@{_samples}": (VALIDATION, reward) for reward in REWARDS + PICTURES}
    TAGS[f"val-core/{_VERL_SOURCE}/reward/mean@{_samples}"] = (VALIDATION, REWARDS[0])
TAGS |= {
    "critic/score/mean": (TRAIN, REWARDS[0]),
    "training/rollout_actor_probs_pearson_corr": (TRAIN, AGREEMENT),
    "training/rollout_probs_diff_max": (TRAIN, DIFFERENCE),
}
EVENT_FILES = "events.out.tfevents.*"
_JSONL = re.compile(r"experiment_log(?:\.(?:part)?(\d+))?\.jsonl")
_HPARAMS_TAG = "_hparams_/session_start_info"

Points = dict[int, float]
"""Value by step."""
Part = dict[str, Points]
"""Points by tag: what one log file holds."""


@dataclass(frozen=True)
class RunLog:
    name: str
    curves: dict[str, dict[str, Points]]
    """Split (train, val) -> reward -> points; a reward that was not logged is missing."""
    rollout: str
    notes: tuple[str, ...]
    """What a reader should know: lines that could not be read, steps that were trained twice."""

    def points(self, split: str, reward: str) -> Points:
        return self.curves[split].get(reward, {})


def read_runs(path: Path) -> list[RunLog]:
    """Every run whose logs lie at or below `path`; a log file stands for itself. UserError: none holds rewards."""
    if not path.exists():
        raise UserError(f"{path} does not exist; wanted a run's folder, or a folder of TensorBoard's or EasyR1's logs")
    files: list[Path] = []
    for pattern, read in ((EVENT_FILES, _read_events), ("experiment_log*.jsonl", _read_jsonl)):
        logs = list(path.rglob(pattern)) if path.is_dir() else [path] if path.match(pattern) else []
        folders: dict[Path, list[Path]] = {}
        for file in sorted(logs, key=_age):
            folders.setdefault(file.resolve().parent, []).append(file)
        if runs := [run for folder in sorted(folders) if (run := read(folder, folders[folder])) is not None]:
            return runs
        files += logs
    if files:
        names = ", ".join(map(str, files[:3]))
        raise UserError(f"no rewards in {names}: the run logged no step yet, or not with EasyR1's names")
    raise UserError(
        f"no logs at or below {path}: looked for {EVENT_FILES} and experiment_log.jsonl. TensorBoard's lie in "
        "$TENSORBOARD_DIR/<project>/<experiment>, the other with the checkpoints if trainer.logger holds 'file'"
    )


def join(parts: Iterable[Part]) -> tuple[Part, int]:
    """One log out of the parts of a resumed run, and how many steps were trained twice.

    A part replaces what earlier parts logged from its own first step on: those steps belong to weights that the resume
    threw away, even where the new part has not come as far yet.
    """
    joined: Part = {}
    repeated: set[int] = set()
    for part in parts:
        for tag, points in part.items():
            earlier = joined.get(tag, {})
            dropped = {step for step in earlier if step >= min(points)}
            repeated |= dropped if TAGS[tag][0] == TRAIN else set()
            joined[tag] = {step: value for step, value in earlier.items() if step not in dropped} | points
    return joined, len(repeated)


def _age(file: Path) -> tuple[float, int, str]:
    """Sorts event files by the time in their name, and numbered parts before the log that is being written."""
    if match := _JSONL.fullmatch(file.name):
        return (float(match[1]) if match[1] else math.inf), 0, file.name
    # events.out.tfevents.<seconds>.<host>.<process>.<number>
    parts = file.name.split(".")
    seconds, number = (int(part) if part.isdecimal() else 0 for part in (parts[3], parts[-1]))
    return seconds, number, file.name


def _run(folder: Path, parts: list[Part], rollout: str, notes: list[str]) -> RunLog | None:
    joined, repeated = join(part for part in parts if part)
    if not joined:
        return None
    if repeated:
        notes = [*notes, f"{folder.name}: {repeated} steps were trained again after a resume; the later ones count"]
    curves: dict[str, dict[str, Points]] = {TRAIN: {}, VALIDATION: {}}
    for tag, points in joined.items():
        split, reward = TAGS[tag]
        curves[split][reward] = dict(sorted(points.items()))
    return RunLog(folder.name, curves, rollout, tuple(notes))


def _read_events(folder: Path, files: list[Path]) -> RunLog | None:
    from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator
    from tensorboard.plugins.hparams import metadata

    parts: list[Part] = []
    for file in files:
        events = EventAccumulator(str(file), size_guidance={SCALARS: 0}).Reload()
        part: Part = {}
        for tag in TAGS.keys() & set(events.Tags()[SCALARS]):
            if points := {event.step: event.value for event in events.Scalars(tag) if math.isfinite(event.value)}:
                part[tag] = points
        parts.append(part)
    rollout = VLLM
    # among the hyperparameters, which EasyR1 writes into a folder of their own for every start
    for file in sorted(folder.glob(f"*/{EVENT_FILES}"), key=_age) if any(parts) else ():
        summaries = EventAccumulator(str(file)).Reload().summary_metadata
        if _HPARAMS_TAG in summaries:
            info = metadata.parse_session_start_info_plugin_data(summaries[_HPARAMS_TAG].plugin_data.content)
            if "rollout" in info.hparams:
                rollout = info.hparams["rollout"].string_value
                break
    return _run(folder, parts, rollout, [])


def _read_jsonl(folder: Path, files: list[Path]) -> RunLog | None:
    notes: list[str] = []
    parts: list[Part] = []
    for file in files:
        part: Part = {}
        text = file.read_text(encoding="utf-8", errors="replace") if _JSONL.fullmatch(file.name) else ""
        for number, line in enumerate(text.splitlines(), 1):
            try:
                entry = json.loads(line)
                step = int(entry["step"])
            except (ValueError, TypeError, KeyError, OverflowError):
                # a run that is killed while it logs leaves half a line
                notes.append(f"{file}: line {number} is not a whole log entry and was skipped")
                continue
            # EasyR1's file logger nests TensorBoard's tags at the slashes
            for tag in TAGS:
                group, _, name = tag.partition("/")
                value = entry[group].get(name) if isinstance(entry.get(group), dict) else None
                if isinstance(value, int | float) and math.isfinite(value):
                    part.setdefault(tag, {})[step] = float(value)
        parts.append(part)
    try:
        rollout = json.loads((folder / "experiment_config.json").read_text(encoding="utf-8")).get("rollout", VLLM)
    except (OSError, ValueError, AttributeError):
        rollout = VLLM
    return _run(folder, parts, str(rollout), notes)
