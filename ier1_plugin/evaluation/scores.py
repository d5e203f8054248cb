"""Folders of `ier1 evaluate` in, one long table out: each judge's scores of each system's edit of each item.

    scores = read_scores([Path("evaluations/psr"), Path("evaluations/realedit")])
    scores.table       # benchmark, item, cluster, system, judge, sample, fulfilment, quality, preservation, total, ...
    scores.by_item     # the same with the mean over the scored samples of an edit, by ASKED

The table has a row for everything that a judge was to score; total is NaN if there is no score, and `unscored` says
why. Benchmarks, systems and judges of several folders are one where their names are equal. Where folders overlap, the
newest judgement of an edit counts, with all judgements in its folder. Nothing is dropped silently: see `notes`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from ier1_plugin.evaluation.folder import EVALUATION, ITEMS, read_items, read_judgements, read_run
from ier1_plugin.evaluation.records import DIMENSIONS, BenchmarkItem, EvaluationError

PARTS = [*DIMENSIONS, "total"]
EDIT = ["benchmark", "item", "system"]
ASKED = [*EDIT, "judge"]
JUDGED = [*ASKED, "sample", *PARTS, "unscored", "reply", "model", "date", "edit", "folder"]
NOT_JUDGED, MISSING = "not judged", "missing image"
LONGEST_REPLY = 1500
Frame: TypeAlias = Any
"""A pandas.DataFrame or Series; the annotations of pandas are unions that a type checker can't follow."""
Facts: TypeAlias = Mapping[str, Mapping[str, Any]]
"""The entry of evaluation.json for a benchmark or judge, by folder."""


@dataclass(frozen=True)
class SystemResult:
    """A system that was evaluated."""

    name: str
    settings: Mapping[str, Any]
    """Keys as of system.System; empty for edits by people."""
    folders: Mapping[str, Path] = field(default_factory=dict)
    """By folder of an evaluation, the output folder of the batch that made the edits."""


@dataclass(frozen=True)
class JudgeInfo:
    """A judge, and what is known of its judgements that count."""

    facts: Facts
    first: str = ""
    """Date of the oldest judgement; "" without any."""
    last: str = ""
    models: Mapping[str, int] = field(default_factory=dict)
    """The models that its server reported, and how often."""


@dataclass(frozen=True)
class Scores:
    """All data of a report."""

    table: Frame
    items: Mapping[str, Mapping[str, BenchmarkItem]]
    """By benchmark and id; paths of images are absolute."""
    benchmarks: Mapping[str, Facts]
    systems: Mapping[str, SystemResult]
    judges: Mapping[str, JudgeInfo]
    notes: tuple[str, ...] = ()

    @cached_property
    def by_item(self) -> Frame:
        """Indexed by ASKED: PARTS, their `spread` between samples (std of total), and why there is no score."""
        groups = self.table.replace({"unscored": {"": None}, "reply": {"": None}}).groupby(ASKED)
        means = groups[PARTS].mean()
        means["spread"] = groups["total"].std()
        means["reason"] = groups["unscored"].first().where(means["total"].isna(), None)
        return means.assign(reply=groups["reply"].first(), given=1.0)

    def matrix(self, benchmark: str, judge: str, part: str, systems: Sequence[str]) -> Frame:
        """(items, systems): a part of the score, NaN where there is none; for "given" 1, NaN where it was not given."""
        columns = pd.MultiIndex.from_tuples([(part, judge, system) for system in systems])
        matrix = self._wide.loc[benchmark].reindex(index=list(self.items[benchmark]), columns=columns)
        return matrix.set_axis(list(systems), axis=1)

    def is_given(self, benchmark: str, item: str, system: str) -> bool:
        """Whether a judge was to score the system's edit of the item."""
        return (benchmark, item, system) in self._homes.index

    def batch(self, benchmark: str, item: str, system: str) -> Path:
        """The output folder of the batch that made the edit which was judged last."""
        return self.systems[system].folders[self._homes[benchmark, item, system]]

    @cached_property
    def _homes(self) -> Frame:
        return self.table.sort_values("date", kind="stable").groupby(EDIT)["folder"].last()

    @cached_property
    def _wide(self) -> Frame:
        return self.by_item[[*PARTS, "given"]].unstack(["judge", "system"])


@dataclass(frozen=True)
class _Folder:
    """What was read from one folder, except the judgements."""

    path: Path
    name: str
    """Its name, or its path if two folders have the same name."""
    run: Mapping[str, Any]
    items: Mapping[str, BenchmarkItem]

    @property
    def benchmark(self) -> str:
        return self.run["benchmark"]["name"]


def read_scores(folders: Sequence[Path]) -> Scores:
    """EvaluationError: a folder is not one of an evaluation, or a file in it is damaged."""
    paths = list(dict.fromkeys(folder.resolve() for folder in folders))
    names = Counter(path.name for path in paths)
    read = [_read_folder(path, path.name if names[path.name] == 1 else str(path)) for path in paths]
    notes: list[str] = []
    items = _merged_items(read)
    systems = _merged_systems(read, notes)
    judged: Frame = pd.DataFrame(_judgements(read, notes), columns=JUDGED)
    if judged.empty:
        raise EvaluationError(
            f"no judgements in {', '.join(map(str, folders))}; `ier1 evaluate` with --judge makes them"
        )
    judged = _newest(judged, read, notes)
    asked = pd.concat(
        pd.MultiIndex.from_product(
            [
                [one.benchmark],
                list(one.items),
                *([each["name"] for each in one.run[of]] for of in ("systems", "judges")),
            ],
            names=ASKED,
        )
        .to_frame(index=False)
        .assign(last=number)
        for number, one in enumerate(read)
    ).drop_duplicates(ASKED, keep="last")
    table = asked.merge(judged, on=ASKED, how="left")
    table["unscored"] = table["unscored"].mask(table["sample"].isna(), NOT_JUDGED)
    table["folder"] = table["folder"].fillna(table.pop("last")).map(lambda number: str(read[int(number)].path))
    table = table.fillna({"sample": 0, "reply": "", "model": "", "date": "", "edit": ""})
    table["cluster"] = [items[one][id].cluster for one, id in zip(table["benchmark"], table["item"], strict=True)]
    for name, benchmark in table.groupby("benchmark", sort=False):
        if benchmark.groupby("system")["item"].agg(frozenset).nunique() > 1:
            notes.append(
                f"{name}: not all systems were given the same items, so their means are of different items; "
                "gains are not"
            )
    facts: dict[str, dict[str, Any]] = defaultdict(dict)
    for one in read:
        facts[one.benchmark][one.name] = one.run["benchmark"]
    return Scores(table, items, facts, systems, _judges(read, table, notes), tuple(notes))


def _read_folder(path: Path, name: str) -> _Folder:
    run, items = read_run(path), read_items(path)
    if not run:
        raise EvaluationError(f"{path} holds no {EVALUATION}; wanted a folder that `ier1 evaluate --out` made")
    if not items:
        raise EvaluationError(f"{path / ITEMS} is missing or empty; run `ier1 evaluate` again")
    return _Folder(path, name, run, {item.id: item for item in items})


def _merged_items(folders: Sequence[_Folder]) -> dict[str, dict[str, BenchmarkItem]]:
    items: dict[str, dict[str, BenchmarkItem]] = defaultdict(dict)
    first_in: dict[tuple[str, str], Path] = {}
    for folder in folders:
        known = items[folder.benchmark]
        for item in folder.items.values():
            where = first_in.setdefault((folder.benchmark, item.id), folder.path)
            if known.get(item.id, item).request != item.request:
                raise EvaluationError(
                    f"item {item.id} has one request in {where} and another in {folder.path}; report them apart"
                )
            gold = str(folder.path / item.gold_image) if item.gold_image else None
            known.setdefault(item.id, replace(item, image=str(folder.path / item.image), gold_image=gold))
    return items


def _merged_systems(folders: Sequence[_Folder], notes: list[str]) -> dict[str, SystemResult]:
    settings: dict[str, dict[str, Any]] = {}
    batches: dict[str, dict[str, Path]] = defaultdict(dict)
    changed: dict[str, dict[str, None]] = defaultdict(dict)
    for folder in folders:
        for values in folder.run["systems"]:
            name, own = values["name"], dict(values.get("settings") or {})
            before = settings.setdefault(name, own)
            batches[name][str(folder.path)] = folder.path / (values.get("folder") or f"systems/{name}")
            keys = ", ".join(sorted(key for key in {*before, *own} if before.get(key) != own.get(key)))
            if keys:
                changed[keys].setdefault(name)
    for keys, names in changed.items():
        notes.append(f"{', '.join(names)}: the folders differ in {keys}; rows of one name are taken for one system")
    return {name: SystemResult(name, own, batches[name]) for name, own in settings.items()}


def _judgements(folders: Sequence[_Folder], notes: list[str]) -> Iterator[tuple[Any, ...]]:
    """Values for JUDGED; `folder` is its number. Replies and hashes are left out, since they would take most of the
    memory."""
    for number, folder in enumerate(folders):
        left_out: Counter[str] = Counter()
        systems = {values["name"] for values in folder.run["systems"]}
        rubrics = {values["name"]: values.get("rubric_sha256") for values in folder.run["judges"]}
        for one in read_judgements(folder.path):
            if one.item not in folder.items or one.system not in systems or one.judge not in rubrics:
                left_out[f"{EVALUATION} or {ITEMS} has no such item, system or judge"] += 1
            elif rubrics[one.judge] and one.rubric_sha256 != rubrics[one.judge]:
                left_out[f"{EVALUATION} names another rubric"] += 1
            else:
                score = [getattr(one.score, part) if one.score else np.nan for part in PARTS]
                reply = one.reply if one.sample == 0 else ""
                reply = reply if len(reply) <= LONGEST_REPLY else f"{reply[:LONGEST_REPLY]} …"
                edit = one.edited_sha256[:16]
                of = (folder.benchmark, one.item, one.system, one.judge, one.sample)
                yield (*of, *score, one.unscored, reply, one.model, one.date, edit, number)
        for reason, count in left_out.items():
            notes.append(f"{folder.path}: {count:,} judgements don't count: {reason}")


def _newest(judged: Frame, folders: Sequence[_Folder], notes: list[str]) -> Frame:
    """The judgements that count, the newest last.

    The folder with the newest judgement of an edit is the edit's home, and every judge that scored it there counts from
    there; only a judge that did not is taken from where it scored last. All samples are of the same edit.
    """
    # dates are whole seconds; within a folder the newest come first
    judged = judged[::-1].sort_values(["date", "folder"], kind="stable")
    home = judged.groupby(EDIT)["folder"].transform("last")
    at_home = (judged["folder"] == home).groupby([judged[name] for name in ASKED]).transform("any")
    home = home.where(at_home, judged.groupby(ASKED)["folder"].transform("last"))
    here = judged[judged["folder"] == home]
    current = here["edit"] == here.groupby(ASKED)["edit"].transform("last")
    for reason, dropped in (
        ("another folder has newer ones of these items", judged[judged["folder"] != home]),
        ("they are of an earlier edit", here[~current]),
    ):
        for number, count in dropped["folder"].value_counts(sort=False).sort_index().items():
            notes.append(f"{folders[int(str(number))].path}: {count:,} judgements don't count: {reason}")
    counted = here[current].drop_duplicates([*ASKED, "sample"], keep="last")
    apart = counted.groupby(EDIT)["edit"].nunique() > 1
    for (benchmark, system), items in apart[apart].groupby(["benchmark", "system"]):
        notes.append(f"{system} on {benchmark}: the judges looked at different edits of {len(items):,} items")
    return counted


def _judges(folders: Sequence[_Folder], table: Frame, notes: list[str]) -> dict[str, JudgeInfo]:
    facts: dict[str, dict[str, Mapping[str, Any]]] = defaultdict(dict)
    for folder in folders:
        for values in folder.run["judges"]:
            own = facts[values["name"]]
            if any(other.get("rubric_sha256") != values.get("rubric_sha256") for other in own.values()):
                notes.append(f"{values['name']} judged {folder.path} by another rubric: its columns can't be compared")
            own[folder.name] = values
        for name, failure in dict(folder.run.get("failed_sanity") or {}).items():
            why = "; ".join(map(str, failure.get("why") or ())) if isinstance(failure, Mapping) else str(failure)
            notes.append(f"{folder.path}: {name} failed its sanity check{f': {why}' if why else ''}")
    judges = {}
    # where there was no image nobody was asked
    asked = table[~table["unscored"].str.startswith((MISSING, NOT_JUDGED))]
    for name, own in facts.items():
        judged = asked[asked["judge"] == name]
        dates = judged["date"][judged["date"] != ""]
        models = Counter(model for model in judged["model"] if model)
        judges[name] = JudgeInfo(own, dates.min() if len(dates) else "", dates.max() if len(dates) else "", models)
        if len(models) > 1:
            answered = ", ".join(f"{model} ({count:,})" for model, count in models.items())
            notes.append(f"{name}: not one model answered but {answered}; what differs between rows may be the judge")
    return judges
