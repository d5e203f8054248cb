"""Which systems make which row, and which row each is compared with.

The rows of Table 1 come from the systems' own settings: one group for each editor, and in it every row is compared with
the system that passes the request to the editor unchanged (`method: original`). The same holds for the comparison of
single-turn with multi-turn systems that differ only in `mode`, unless a file of comparisons has them. What no setting
records (training rows, rewards, backbones) is named in a YAML file; the first row of a comparison is what the others
are compared with:

    With and without goal:
      with goal: ImageEdit-R1, FLUX.1-Kontext-dev
      without goal: ImageEdit-R1 without goal, FLUX.1-Kontext-dev
    Training rows:                              # numbers as labels: drawn as a curve
      0: ImageEdit-R1 without RL
      4000: [ImageEdit-R1 seed 1, ImageEdit-R1 seed 2]        # several runs are one row, with the mean over them for
      each item
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations, product
from pathlib import Path

from ier1_plugin.evaluation.records import EvaluationError
from ier1_plugin.evaluation.scores import SystemResult
from ier1_plugin.runs.settings import load_yaml
from ier1_plugin.task.schema import CHAIN, MODES, MULTI_TURN, ORIGINAL, SINGLE_TURN

Systems = Mapping[str, SystemResult]
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
    """Rows to be shown side by side."""

    title: str
    rows: tuple[Row, ...]

    @property
    def numbers(self) -> tuple[float, ...]:
        """The labels if all of them are numbers, else none."""
        try:
            return tuple(float(row.label.replace(",", "")) for row in self.rows)
        except ValueError:
            return ()


def main_rows(systems: Systems) -> tuple[list[Row], list[str]]:
    """The rows of Table 1 in the paper's order: single models, then a group for each editor; and notes on rows without
    a gain. The reference is the one system that passes the request unchanged to the same editor in the same settings.
    """
    groups: dict[str, list[SystemResult]] = defaultdict(list)
    for system in systems.values():
        editor = str(system.settings.get("editor") or "")
        model = (system.settings.get("editor_settings") or {}).get("model")
        groups[f"{editor} ({model})" if editor and model else editor or PEOPLE].append(system)
    alone = [members[0] for members in groups.values() if len(members) == 1]
    rows = [Row(one.name, (one.name,), SINGLE if one.settings.get("editor") else PEOPLE) for one in alone]
    notes = []
    for group, members in groups.items():
        if len(members) == 1:
            continue
        members.sort(key=lambda member: member.settings.get("method") != ORIGINAL)
        first = len(rows)
        for system in members:
            reference = None
            if system.settings.get("method") == CHAIN:
                same = [
                    place
                    for place, one in enumerate(members)
                    if one.settings.get("method") == ORIGINAL and _are_equal(one, system, EDITOR_SETTINGS)
                ]
                if len(same) > 1:
                    # the seed is the last thing that can tell them apart
                    same = [place for place in same if _are_equal(members[place], system, ("seed",))] or same
                if len(same) == 1:
                    reference = first + same[0]
                else:
                    count = f"{len(same)} systems hand" if same else "no system hands"
                    notes.append(
                        f"{system.name} has no gain: {count} its editor, in its settings, the request as it is"
                    )
            rows.append(Row(system.name, (system.name,), group, reference))
    return rows, notes


def _are_equal(one: SystemResult, other: SystemResult, keys: Sequence[str]) -> bool:
    return all((one.settings.get(key) or None) == (other.settings.get(key) or None) for key in keys)


def turn_comparison(systems: Systems, requested: Sequence[Comparison] = ()) -> Comparison | None:
    """Systems that exist in both modes, except those in two rows of one of `requested`; None without any."""
    pairs_of_rows = [pair for comparison in requested for pair in permutations(comparison.rows, 2)]
    compared = {pair for one, other in pairs_of_rows for pair in product(one.systems, other.systems)}
    by_settings: dict[str, dict[str, str]] = defaultdict(dict)
    for system in systems.values():
        if system.settings.get("method") == CHAIN:
            same = {key: value for key, value in system.settings.items() if key not in NOT_IN_TURNS}
            mode = str(system.settings.get("mode", SINGLE_TURN))
            by_settings[repr(sorted(same.items(), key=str))].setdefault(mode, system.name)
    rows: list[Row] = []
    for modes in by_settings.values():
        if {*MODES} <= {*modes} and (modes[SINGLE_TURN], modes[MULTI_TURN]) not in compared:
            first, group = len(rows), modes[SINGLE_TURN]
            rows.append(Row(SINGLE_TURN, (modes[SINGLE_TURN],), group))
            rows.append(Row(MULTI_TURN, (modes[MULTI_TURN],), group, first))
    return Comparison("Single-turn and multi-turn", tuple(rows)) if rows else None


def read_comparisons(file: Path, systems: Systems) -> list[Comparison]:
    """The comparisons in a YAML file. UserError: it can't be read, or names an unknown system."""
    values = load_yaml(file)
    if not isinstance(values, dict) or not values:
        raise EvaluationError(f"{file} holds no comparison; wanted TITLE: and below it lines LABEL: SYSTEM")
    comparisons = []
    for title, labels in values.items():
        if not isinstance(labels, dict) or len(labels) < 2:
            raise EvaluationError(f"{file}: {title!r} compares nothing; wanted two or more lines LABEL: SYSTEM")
        if len({*map(str, labels)}) < len(labels):
            raise EvaluationError(f"{file}: {title!r} has two labels that are printed alike; wanted different ones")
        rows: list[Row] = []
        for label, named in labels.items():
            names = tuple(map(str, named)) if isinstance(named, list) else (str(named),)
            unknown = [name for name in names if name not in systems]
            if unknown or not names:
                raise EvaluationError(
                    f"{file}: {title!r} names {', '.join(unknown) or 'no system'} at {label!r}; "
                    f"the systems are: {'; '.join(systems)}"
                )
            rows.append(Row(str(label), names, reference=0 if rows else None))
        comparisons.append(Comparison(str(title), tuple(rows)))
    return comparisons
