"""Folders of `ier1 evaluate` in, one study out: what each judge said of each system's edit of each item, as arrays.

    study = read_study([Path("evaluations/psr"), Path("evaluations/realedit")])
    study.scores["psr", "FLUX.1-Kontext-dev", "openai:gpt-4o-2024-11-20"].total    # array([9., 6.5, nan, ...])

Benchmarks, systems and judges of several folders are one where their names are equal; see report_samples.py for which
judgements count where folders overlap. Nothing is dropped in silence: what did not count is told in `Study.notes`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ier1_plugin.evaluation.folder import EVALUATION, ITEMS, read_items, read_run
from ier1_plugin.evaluation.judges.store import FOLDER, read_judgements
from ier1_plugin.evaluation.records import BenchmarkItem, EvaluationError, Judgement
from ier1_plugin.evaluation.report.samples import Choice, Rating, chosen, said, scores, was_asked
from ier1_plugin.evaluation.study import Benchmark, JudgeInfo, Scores, Study, SystemResult, Triple

Pair = tuple[str, str]
"""Benchmark, system."""


@dataclass
class _Reading:
    """What has been read so far. Folders go by their number."""

    folders: list[Path]
    items: dict[str, dict[str, tuple[BenchmarkItem, Path]]] = field(default_factory=dict)
    facts: dict[str, dict[str, Any]] = field(default_factory=lambda: defaultdict(dict))
    """By benchmark, then folder."""
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Of systems."""
    batches: dict[Pair, dict[int, Path]] = field(default_factory=lambda: defaultdict(dict))
    given: dict[int, frozenset[str]] = field(default_factory=dict)
    """The items of each folder."""
    judges: dict[str, dict[str, Any]] = field(default_factory=lambda: defaultdict(dict))
    """By name, then folder."""
    due: dict[Triple, set[str]] = field(default_factory=lambda: defaultdict(set))
    said: dict[Pair, dict[str, list[Rating]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    """By judge."""
    changed: dict[tuple[str, ...], dict[str, None]] = field(default_factory=lambda: defaultdict(dict))
    """Settings that differ between folders, and the names of the systems."""
    notes: list[str] = field(default_factory=list)

    def called(self, number: int) -> str:
        """A folder's name; its path where two have the same name."""
        folder = self.folders[number]
        return folder.name if [other.name for other in self.folders].count(folder.name) == 1 else str(folder)


def read_study(folders: Sequence[Path]) -> Study:
    """EvaluationError: a folder is not one of an evaluation, or a file in it is damaged."""
    reading = _Reading(list(dict.fromkeys(folder.resolve() for folder in folders)))
    for number in range(len(reading.folders)):
        _read_folder(reading, number)
    if not reading.said:
        raise EvaluationError(
            f"no judgements in {', '.join(map(str, folders))}; `ier1 evaluate` with --judge makes them"
        )
    benchmarks = {name: _benchmark(reading, name) for name in reading.items}
    choices = {pair: chosen(reading.said[pair]) for pair in reading.batches}
    found = {triple: _scores(benchmarks[triple[0]], reading, choices, triple) for triple in reading.due}
    systems = {name: _entrant(reading, benchmarks, choices, name) for name in reading.settings}
    judges = {name: _referee(reading, choices, name) for name in reading.judges}
    notes = [*reading.notes, *_left_out(reading, choices), *_changed_settings(reading)]
    notes += [*_unequal_items(benchmarks, found), *_drift(judges)]
    return Study(benchmarks, systems, judges, found, tuple(notes))


def _read_folder(reading: _Reading, number: int) -> None:
    folder = reading.folders[number]
    facts = read_run(folder)
    if not facts:
        raise EvaluationError(f"{folder} holds no {EVALUATION}; wanted a folder that `ier1 evaluate --out` made")
    name, items = str(facts["benchmark"]["name"]), read_items(folder)
    if not items:
        raise EvaluationError(f"{folder / ITEMS} is missing or empty; run `ier1 evaluate` again")
    _check_kinds(folder, facts["systems"], items)
    reading.facts[name][reading.called(number)] = facts["benchmark"]
    reading.given[number] = frozenset(item.id for item in items)
    _add_items(reading.items.setdefault(name, {}), items, folder)
    _add_systems(reading, number, name, facts["systems"])
    rubrics = _add_judges(reading, number, facts)
    for judge in rubrics:
        for system in facts["systems"]:
            reading.due[name, system["name"], judge] |= reading.given[number]
    _read_judgements(reading, number, name, rubrics)


def _check_kinds(folder: Path, systems: Sequence[Mapping[str, Any]], items: Sequence[BenchmarkItem]) -> None:
    """EvaluationError: a file was changed by hand into something that would surprise whoever reads it later."""
    for system in systems:
        settings = system.get("settings") or {}
        if not isinstance(settings, dict) or not isinstance(settings.get("editor_settings") or {}, dict):
            raise EvaluationError(f"{folder / EVALUATION}: the settings of {system['name']} are no settings")
    for item in items:
        texts = (item.id, item.request, item.image, item.cluster, item.difficulty, *item.actions)
        if not all(isinstance(text, str) for text in texts):
            raise EvaluationError(f"{folder / ITEMS}: item {item.id!r} has something else where text was wanted")


def _add_items(known: dict[str, tuple[BenchmarkItem, Path]], items: Sequence[BenchmarkItem], folder: Path) -> None:
    for item in items:
        before, where = known.setdefault(item.id, (item, folder))
        if before.request != item.request:
            raise EvaluationError(
                f"item {item.id} has one request in {where} and another in {folder}; report them apart"
            )


def _add_systems(reading: _Reading, number: int, benchmark: str, systems: Sequence[Mapping[str, Any]]) -> None:
    for values in systems:
        name, settings = str(values["name"]), dict(values.get("settings") or {})
        place = reading.folders[number] / str(values.get("folder") or f"systems/{name}")
        before = reading.settings.setdefault(name, settings)
        changed = sorted(key for key in {*before, *settings} if before.get(key) != settings.get(key))
        if changed:
            reading.changed[tuple(changed)].setdefault(name)
        reading.batches[benchmark, name][number] = place


def _add_judges(reading: _Reading, number: int, run: Mapping[str, Any]) -> dict[str, str]:
    """{judge: hash of its rubric in this folder, or ""}"""
    rubrics = {}
    for values in run["judges"]:
        name, rubric = str(values["name"]), str(values.get("rubric_sha256") or "")
        others = {str(facts.get("rubric_sha256") or "") for facts in reading.judges[name].values()}
        if others - {rubric}:
            reading.notes.append(
                f"{name} judged {reading.folders[number]} by another rubric: its columns can't be compared"
            )
        reading.judges[name][reading.called(number)] = dict(values)
        rubrics[name] = rubric
    for name, failure in dict(run.get("failed_sanity") or {}).items():
        why = "; ".join(map(str, failure.get("why") or ())) if isinstance(failure, Mapping) else str(failure)
        reading.notes.append(f"{reading.folders[number]}: {name} failed its sanity check{f': {why}' if why else ''}")
    return rubrics


def _read_judgements(reading: _Reading, number: int, benchmark: str, rubrics: Mapping[str, str]) -> None:
    """Tells how many judgements there were that can't count, and why."""
    left_out: Counter[str] = Counter()
    known, folder = reading.given[number], reading.folders[number]
    for file in sorted((folder / FOLDER).glob("*.jsonl")):
        for one in _judgements(file):
            pair = (benchmark, one.system)
            if one.item not in known or one.judge not in rubrics or number not in reading.batches.get(pair, ()):
                left_out[f"{EVALUATION} or {ITEMS} has no such item, system or judge"] += 1
            elif rubrics[one.judge] and one.rubric_sha256 != rubrics[one.judge]:
                left_out[f"{EVALUATION} names another rubric"] += 1
            else:
                reading.said[pair][one.judge].append(said(one, number))
    reading.notes += [f"{folder}: {count:,} judgements don't count: {reason}" for reason, count in left_out.items()]


def _judgements(file: Path) -> Iterator[Judgement]:
    try:
        for one in read_judgements(file):
            texts = (one.system, one.judge, one.date, one.unscored, one.reply, one.model, one.edited_sha256)
            if not (all(isinstance(text, str) for text in texts) and isinstance(one.sample, int)):
                raise TypeError("a number where text was wanted, or text for a number")
            yield one
    except (TypeError, AttributeError) as error:
        raise EvaluationError(f"{file} holds a judgement that nothing can be made of: {error}") from None


def _benchmark(reading: _Reading, name: str) -> Benchmark:
    items, folders = zip(*reading.items[name].values(), strict=True)
    return Benchmark(name, items, folders, reading.facts[name])


def _scores(benchmark: Benchmark, reading: _Reading, choices: Mapping[Pair, Choice], triple: Triple) -> Scores:
    given = np.array([item.id in reading.due[triple] for item in benchmark.items])
    return scores(benchmark, given, choices[triple[:2]].counted.get(triple[2], {}))


def _entrant(
    reading: _Reading, benchmarks: Mapping[str, Benchmark], choices: Mapping[Pair, Choice], name: str
) -> SystemResult:
    folders = {
        benchmark: tuple(_place(reading, (benchmark, name), choices[benchmark, name], item.id) for item in one.items)
        for benchmark, one in benchmarks.items()
        if (benchmark, name) in reading.batches
    }
    return SystemResult(name, reading.settings[name], folders)


def _place(reading: _Reading, pair: Pair, choice: Choice, item: str) -> Path | None:
    batches = reading.batches[pair]
    last = next((number for number in reversed(batches) if item in reading.given[number]), None)
    number = choice.home.get(item, last)
    return None if number is None else batches[number]


def _referee(reading: _Reading, choices: Mapping[Pair, Choice], name: str) -> JudgeInfo:
    counted = [
        one
        for choice in choices.values()
        for samples in choice.counted.get(name, {}).values()
        for one in samples
        if was_asked(one)
    ]
    dates = [one.date for one in counted if one.date] or [""]
    models = Counter(one.model for one in counted if one.model)
    return JudgeInfo(reading.judges[name], min(dates), max(dates), models)


def _left_out(reading: _Reading, choices: Mapping[Pair, Choice]) -> Iterator[str]:
    """What folders that overlap, and edits that were made again, leave without a use."""
    for kind, reason in (
        ("elsewhere", "another folder has newer ones of these items"),
        ("earlier", "they are of an earlier edit"),
    ):
        counts = sum((getattr(choice, kind) for choice in choices.values()), Counter[int]())
        for number, count in sorted(counts.items()):
            yield f"{reading.folders[number]}: {count:,} judgements don't count: {reason}"
    for (benchmark, system), choice in choices.items():
        if choice.apart:
            yield f"{system} on {benchmark}: the judges looked at different edits of {choice.apart:,} items"


def _drift(judges: Mapping[str, JudgeInfo]) -> Iterator[str]:
    for name, judge in judges.items():
        if len(judge.models) > 1:
            answered = ", ".join(f"{model} ({count:,})" for model, count in judge.models.items())
            yield f"{name}: not one model answered but {answered}; what differs between rows may be the judge"


def _changed_settings(reading: _Reading) -> list[str]:
    return [
        f"{', '.join(names)}: the folders differ in {', '.join(keys)}; rows of one name are taken for one system"
        for keys, names in reading.changed.items()
    ]


def _unequal_items(benchmarks: Mapping[str, Benchmark], scores: Mapping[Triple, Scores]) -> list[str]:
    """A line for each benchmark whose systems were not all given the same items."""
    given: dict[str, set[bytes]] = defaultdict(set)
    for (benchmark, _, _), found in scores.items():
        given[benchmark].add(found.given.tobytes())
    return [
        f"{name}: not all systems were given the same items, so their means are of different items; gains are not"
        for name in benchmarks
        if len(given[name]) > 1
    ]
