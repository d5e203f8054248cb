"""Which judgements of an edit count: all samples from one folder and of one edit, where folders overlap.

    home, counted = chosen({"openai:gpt-4o": [Said("psr-1", 0, 0, "2026-11-24T...", ...), ...]})
    home["psr-1"]                          # 0, the folder that picture and plan come from
    counted["openai:gpt-4o"]["psr-1"]      # [Said(...), ...], its samples in order

The folder with the newest judgement of an item is the item's home: its edit is shown, and every judge that looked at it
there counts from there. Only a judge that did not is taken from where it looked last.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ier1_plugin.evaluation.judges.store import MISSING
from ier1_plugin.evaluation.records import DIMENSIONS, Judgement
from ier1_plugin.evaluation.study import Benchmark, Flags, Scores

NOT_JUDGED = "not judged"
LONGEST_REPLY = 1500


class Rating(NamedTuple):
    """What is kept of a judgement; with all replies and hashes it would be most of the memory."""

    item: str
    folder: int
    sample: int
    date: str
    score: tuple[int, ...] | None
    unscored: str
    reply: str
    model: str
    edit: bytes
    """Beginning of the hash of the edit; empty where there was none."""

    @property
    def newness(self) -> tuple[str, int]:
        return self.date, self.folder


Samples = dict[str, list[Rating]]
"""By item."""


@dataclass
class Choice:
    """What counts of one system's edits of one benchmark."""

    home: dict[str, int] = field(default_factory=dict)
    """{item: folder}"""
    counted: dict[str, Samples] = field(default_factory=dict)
    """By judge."""
    elsewhere: Counter[int] = field(default_factory=Counter)
    """{folder: judgements that don't count, as another folder's do}"""
    earlier: Counter[int] = field(default_factory=Counter)
    """{folder: judgements that don't count, as the edit has changed since}"""

    @property
    def apart(self) -> int:
        """Items of which the judges looked at different edits."""
        edits: dict[str, set[bytes]] = defaultdict(set)
        for samples in self.counted.values():
            for item, found in samples.items():
                edits[item].add(found[0].edit)
        return sum(len(different) > 1 for different in edits.values())


def said(judgement: Judgement, folder: int) -> Rating:
    score = judgement.score
    parts = tuple(getattr(score, part) for part in DIMENSIONS) if score else None
    words = judgement.reply if judgement.sample == 0 else ""
    reply = words if len(words) <= LONGEST_REPLY else f"{words[:LONGEST_REPLY]} …"
    edit, one = judgement.edited_sha256[:16].encode(), judgement
    return Rating(one.item, folder, one.sample, one.date, parts, one.unscored, reply, one.model, edit)


def chosen(by_judge: Mapping[str, Sequence[Rating]]) -> Choice:
    """Of all that the judges said of one system's edits of one benchmark."""
    choice, newest = Choice(), {}
    for found in by_judge.values():
        for one in found:
            newest[one.item] = max(newest.get(one.item, one.newness), one.newness)
    choice.home = {item: folder for item, (_, folder) in newest.items()}
    for judge, found in by_judge.items():
        items: Samples = defaultdict(list)
        for one in found:
            items[one.item].append(one)
        choice.counted[judge] = {item: _of_one_edit(choice, several) for item, several in items.items()}
    return choice


def _of_one_edit(choice: Choice, found: list[Rating]) -> list[Rating]:
    """One judge's samples of one item."""
    home = choice.home[found[0].item]
    if all(one.folder != home for one in found):
        home = max(found, key=lambda one: one.newness).folder
    here = [one for one in found if one.folder == home]
    edit = max(here, key=lambda one: one.newness).edit
    same = {one.sample: one for one in sorted(here, key=lambda one: one.newness) if one.edit == edit}
    choice.elsewhere.update(one.folder for one in found if one.folder != home)
    choice.earlier.update(one.folder for one in here if one.edit != edit)
    return [same[sample] for sample in sorted(same)]


def was_asked(one: Rating) -> bool:
    """False where there was no image to show."""
    return one.unscored.partition(":")[0] != MISSING


def scores(benchmark: Benchmark, given: Flags, samples: Mapping[str, Sequence[Rating]]) -> Scores:
    """`samples`: of one judge and one system, by item."""
    parts = np.full((len(given), len(DIMENSIONS)), np.nan)
    reasons, replies, spreads = {}, {}, []
    for number in np.flatnonzero(given).tolist():
        found = samples.get(benchmark.items[number].id, ())
        scored = [one.score for one in found if one.score]
        if scored:
            parts[number] = np.array(scored).mean(axis=0)
            spreads += [float(np.std(np.sum(scored, axis=1), ddof=1))] if len(scored) > 1 else []
        else:
            reasons[number] = next((one.unscored for one in found if one.unscored), NOT_JUDGED)
        if found and found[0].reply:
            replies[number] = found[0].reply
    return Scores(given, parts, float(np.mean(spreads)) if spreads else float("nan"), reasons, replies)
