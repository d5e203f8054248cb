"""Which systems stand in which row, and which row each is compared with.

The rows of Table 1 come from the systems' own settings: one group for each editor, and in it every row is compared with
the system that hands the editor the request as it is (`method: original`). So does the comparison of single-turn with
multi-turn, of systems that differ in `mode` alone, unless a file of comparisons has them. What no setting tells
(training rows, rewards, backbones) is named in a YAML file; the first row of a comparison is what the others are
compared with:

    With and without goal:
      with goal: ImageEdit-R1, FLUX.1-Kontext-dev
      without goal: ImageEdit-R1 without goal, FLUX.1-Kontext-dev
    Training rows:                              # numbers as labels: drawn as a curve
      0: ImageEdit-R1 without RL
      4000: [ImageEdit-R1 seed 1, ImageEdit-R1 seed 2]        # several runs are one row, an item's mean over them
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from ier1_plugin.evaluation.records import EvaluationError
from ier1_plugin.evaluation.study import Study, SystemResult
from ier1_plugin.runs.settings import SettingsError, load_yaml
from ier1_plugin.task.schema import CHAIN, MODES, MULTI_TURN, ORIGINAL, SINGLE_TURN

# what makes two systems the same editor in the same settings
EDITOR_SETTINGS = ("steps", "guidance", "load_kwargs", "call_kwargs", "editor_settings")
# what two systems may differ in and still be one system in two modes
NOT_IN_TURNS = ("mode", "offload", "imageedit_r1")
SINGLE, PEOPLE = "Single model", "People"


@dataclass(frozen=True)
class Row:
    """A line of a table: one system, or several runs of one."""

    label: str
    systems: tuple[str, ...]
    group: str = ""
    reference: int | None = None
    """The row that this one is compared with."""


@dataclass(frozen=True)
class Comparison:
    """Rows that belong beside each other."""

    title: str
    rows: tuple[Row, ...]

    @property
    def numbers(self) -> tuple[float, ...]:
        """The labels where all of them are numbers, else none."""
        try:
            return tuple(float(row.label.replace(",", "")) for row in self.rows)
        except ValueError:
            return ()


def main_rows(study: Study) -> tuple[tuple[Row, ...], tuple[str, ...]]:
    """The rows of Table 1 in the paper's order: single models, then a group an editor; and what was left open."""
    groups: dict[str, list[SystemResult]] = {}
    for system in study.systems.values():
        groups.setdefault(_editor(system), []).append(system)
    several = {name: members for name, members in groups.items() if len(members) > 1}
    alone = [member for name, members in groups.items() if name not in several for member in members]
    rows = [Row(member.name, (member.name,), _lone_group(member)) for member in alone]
    notes: list[str] = []
    for name, members in several.items():
        members.sort(key=lambda member: member.settings.get("method") != ORIGINAL)
        first = len(rows)
        for member in members:
            original = _original_of(member, members, notes)
            reference = first + members.index(original) if original else None
            rows.append(Row(member.name, (member.name,), name, reference))
    return tuple(rows), tuple(notes)


def turn_comparison(study: Study, given: Sequence[Comparison] = ()) -> Comparison | None:
    """Systems that are there in both modes, but for those whose modes `given` compares; None without any."""
    rows: list[Row] = []
    by_settings: dict[str, dict[str, str]] = {}
    for system in study.systems.values():
        if system.settings.get("method") == CHAIN:
            by_settings.setdefault(_but_for_turns(system), {}).setdefault(_mode(system), system.name)
    compared = {settings for comparison in given for settings in _compared_in_turns(study, comparison)}
    for settings, modes in by_settings.items():
        if settings not in compared and all(mode in modes for mode in MODES):
            first, group = len(rows), modes[SINGLE_TURN]
            rows.append(Row(SINGLE_TURN, (modes[SINGLE_TURN],), group))
            rows.append(Row(MULTI_TURN, (modes[MULTI_TURN],), group, first))
    return Comparison("Single-turn and multi-turn", tuple(rows)) if rows else None


def read_comparisons(file: Path, study: Study) -> tuple[Comparison, ...]:
    """The comparisons in a YAML file. EvaluationError: it can't be read, or names a system that is not there."""
    try:
        values = load_yaml(file)
    except SettingsError as error:
        raise EvaluationError(str(error)) from None
    if not isinstance(values, dict) or not values:
        raise EvaluationError(f"{file} holds no comparison; wanted TITLE: and below it lines LABEL: SYSTEM")
    _check_names(file, "the title", values)
    return tuple(_comparison(file, str(title), rows, study) for title, rows in values.items())


def _check_names(file: Path, what: str, names: Mapping[Any, Any]) -> None:
    """EvaluationError: two of them are printed alike, as 500 and "500" are."""
    twice = [name for name, times in Counter(map(str, names)).items() if times > 1]
    if twice:
        raise EvaluationError(f"{file}: {what} {twice[0]!r} is there twice; wanted different ones")


def _comparison(file: Path, title: str, rows: Any, study: Study) -> Comparison:
    if not isinstance(rows, Mapping) or len(rows) < 2:
        raise EvaluationError(f"{file}: {title!r} compares nothing; wanted two or more lines LABEL: SYSTEM")
    _check_names(file, f"{title!r}: the label", rows)
    made = []
    for label, systems in rows.items():
        names = tuple(map(str, systems)) if isinstance(systems, list) else (str(systems),)
        unknown = [name for name in names if name not in study.systems]
        if unknown or not names:
            raise EvaluationError(
                f"{file}: {title!r} names {', '.join(unknown) or 'no system'} at {label!r}; "
                f"the systems are: {'; '.join(study.systems)}"
            )
        made.append(Row(str(label), names, reference=0 if made else None))
    return Comparison(title, tuple(made))


def _compared_in_turns(study: Study, comparison: Comparison) -> set[str]:
    """Settings of the systems of which two rows differ in their mode alone."""
    compared: set[str] = set()
    for one, other in combinations(comparison.rows, 2):
        first, second = ([study.systems[name] for name in row.systems] for row in (one, other))
        if sorted(map(_but_for_turns, first)) == sorted(map(_but_for_turns, second)):
            modes = {*map(_mode, first)}, {*map(_mode, second)}
            compared |= {*map(_but_for_turns, first)} if modes[0] != modes[1] else set()
    return compared


def _but_for_turns(system: SystemResult) -> str:
    same = {key: value for key, value in system.settings.items() if key not in NOT_IN_TURNS}
    return repr(sorted(same.items(), key=str))


def _mode(system: SystemResult) -> str:
    return str(system.settings.get("mode", SINGLE_TURN))


def _editor(system: SystemResult) -> str:
    """What heads the group of a system."""
    editor = str(system.settings.get("editor") or "")
    model = (system.settings.get("editor_settings") or {}).get("model")
    return f"{editor} ({model})" if editor and model else editor or PEOPLE


def _lone_group(system: SystemResult) -> str:
    return SINGLE if system.settings.get("editor") else PEOPLE


def _original_of(system: SystemResult, members: list[SystemResult], notes: list[str]) -> SystemResult | None:
    """The system that hands the same editor the request as it is."""
    if system.settings.get("method") != CHAIN:
        return None
    originals = [member for member in members if member.settings.get("method") == ORIGINAL]
    same = [one for one in originals if all(_equal(one, system, key) for key in EDITOR_SETTINGS)]
    if len(same) > 1:
        # the seed is the last thing that can tell them apart
        same = [one for one in same if _equal(one, system, "seed")] or same
    if len(same) == 1:
        return same[0]
    found = f"{len(same)} systems hand" if same else "no system hands"
    notes.append(f"{system.name} has no gain: {found} its editor, in its settings, the request as it is")
    return None


def _equal(one: SystemResult, other: SystemResult, key: str) -> bool:
    return (one.settings.get(key) or None) == (other.settings.get(key) or None)
