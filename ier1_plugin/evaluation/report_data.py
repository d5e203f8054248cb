"""Folders of `ier1 evaluate` in, one study out: what each judge said of each system's edit of each item, as arrays.

    study = read_study([Path("evaluations/psr"), Path("evaluations/realedit")])
    study.scores["psr", "FLUX.1-Kontext-dev", "openai:gpt-4o-2024-11-20"].total    # array([9., 6.5, nan, ...])

Benchmarks, systems and judges of several folders are one where their names are equal. Nothing is dropped in silence:
what did not count is told in `Study.notes`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ier1_plugin.evaluation.inputs import ITEMS, read_items
from ier1_plugin.evaluation.judge_store import FOLDER, read_judgements
from ier1_plugin.evaluation.records import DIMENSIONS, BenchmarkItem, EvaluationError, Judgement
from ier1_plugin.evaluation.run_file import EVALUATION, read_run
from ier1_plugin.evaluation.study import Benchmark, Entrant, Scores, Study, Triple

NOT_JUDGED = "not judged"
LONGEST_REPLY = 1500


class _Said(NamedTuple):
    """What is kept of a judgement; with all replies and hashes it would be most of the memory."""

    date: str
    score: tuple[int, ...] | None
    unscored: str
    reply: str


@dataclass
class _Reading:
    """What has been read so far."""

    items: dict[str, dict[str, tuple[BenchmarkItem, Path]]] = field(default_factory=dict)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    systems: dict[str, Entrant] = field(default_factory=dict)
    judges: dict[str, dict[str, Any]] = field(default_factory=dict)
    due: dict[Triple, set[str]] = field(default_factory=lambda: defaultdict(set))
    said: dict[Triple, dict[tuple[str, int], _Said]] = field(default_factory=lambda: defaultdict(dict))
    changed: dict[tuple[str, ...], dict[str, None]] = field(default_factory=lambda: defaultdict(dict))
    """Settings that differ between folders, and the names of the systems."""
    notes: list[str] = field(default_factory=list)


def read_study(folders: Sequence[Path]) -> Study:
    """EvaluationError: a folder is not one of an evaluation, or a file in it is damaged."""
    reading = _Reading()
    for folder in dict.fromkeys(folder.resolve() for folder in folders):
        _read_folder(reading, folder)
    if not any(reading.said.values()):
        raise EvaluationError(
            f"no judgements in {', '.join(map(str, folders))}; `ier1 evaluate` with --judge makes them"
        )
    benchmarks = {name: _benchmark(reading, name) for name in reading.items}
    scores = {triple: _scores(benchmarks[triple[0]], reading, triple) for triple in reading.due}
    notes = (*reading.notes, *_changed_settings(reading), *_unequal_items(benchmarks, scores))
    return Study(benchmarks, reading.systems, reading.judges, scores, notes)


def _read_folder(reading: _Reading, folder: Path) -> None:
    facts = read_run(folder)
    if not facts:
        raise EvaluationError(f"{folder} holds no {EVALUATION}; wanted a folder that `ier1 evaluate --out` made")
    name, items = str(facts["benchmark"]["name"]), read_items(folder)
    if not items:
        raise EvaluationError(f"{folder / ITEMS} is missing or empty; run `ier1 evaluate` again")
    _check_kinds(folder, facts["systems"], items)
    reading.facts.setdefault(name, facts["benchmark"])
    _add_items(reading.items.setdefault(name, {}), items, folder)
    _add_systems(reading, folder, name, facts["systems"])
    rubrics = _add_judges(reading, folder, facts["judges"])
    for judge in rubrics:
        for system in facts["systems"]:
            reading.due[name, system["name"], judge].update(item.id for item in items)
    _read_judgements(reading, folder, name, rubrics, {item.id for item in items})


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


def _add_systems(reading: _Reading, folder: Path, benchmark: str, systems: Sequence[Mapping[str, Any]]) -> None:
    for values in systems:
        name, settings = str(values["name"]), dict(values.get("settings") or {})
        place = folder / str(values.get("folder") or f"systems/{name}")
        before = reading.systems.get(name, Entrant(name, settings, {}))
        changed = sorted(key for key in {*before.settings, *settings} if before.settings.get(key) != settings.get(key))
        if changed:
            reading.changed[tuple(changed)].setdefault(name)
        folders = {**before.folders, benchmark: (*before.folders.get(benchmark, ()), place)}
        reading.systems[name] = Entrant(name, before.settings, folders)


def _add_judges(reading: _Reading, folder: Path, judges: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """{judge: hash of its rubric in this folder, or ""}"""
    rubrics = {}
    for values in judges:
        name, rubric = str(values["name"]), str(values.get("rubric_sha256") or "")
        before = reading.judges.setdefault(name, dict(values))
        if rubric != str(before.get("rubric_sha256") or ""):
            reading.notes.append(f"{name} judged {folder} by another rubric: its columns can't be compared")
        rubrics[name] = rubric
    return rubrics


def _read_judgements(
    reading: _Reading, folder: Path, benchmark: str, rubrics: Mapping[str, str], known: set[str]
) -> None:
    """Keeps the newest judgement of each sample, and tells how many others there were and why they don't count."""
    left_out: Counter[str] = Counter()
    for file in sorted((folder / FOLDER).glob("*.jsonl")):
        for one in _judgements(file):
            triple, key = (benchmark, one.system, one.judge), (one.item, one.sample)
            if one.item not in known or one.judge not in rubrics or triple not in reading.due:
                left_out[f"don't count: {EVALUATION} or {ITEMS} has no such item, system or judge"] += 1
            elif rubrics[one.judge] and one.rubric_sha256 != rubrics[one.judge]:
                left_out[f"don't count: {EVALUATION} names another rubric"] += 1
            else:
                before = reading.said[triple].get(key)
                left_out["are there in another folder too: the newer one counts"] += before is not None
                if not before or one.date >= before.date:
                    reading.said[triple][key] = _said(one)
    for reason, count in left_out.items():
        if count:
            reading.notes.append(f"{folder}: {count:,} judgements {reason}")


def _judgements(file: Path) -> Iterator[Judgement]:
    try:
        for one in read_judgements(file):
            if not all(isinstance(text, str) for text in (one.system, one.judge, one.date, one.unscored, one.reply)):
                raise TypeError("a number where text was wanted")
            yield one
    except (TypeError, AttributeError) as error:
        raise EvaluationError(f"{file} holds a judgement that nothing can be made of: {error}") from None


def _said(judgement: Judgement) -> _Said:
    score = judgement.score
    parts = tuple(getattr(score, part) for part in DIMENSIONS) if score else None
    words = judgement.reply if judgement.sample == 0 else ""
    reply = words if len(words) <= LONGEST_REPLY else f"{words[:LONGEST_REPLY]} …"
    return _Said(judgement.date, parts, judgement.unscored, reply)


def _benchmark(reading: _Reading, name: str) -> Benchmark:
    items, folders = zip(*reading.items[name].values(), strict=True)
    return Benchmark(name, items, folders, reading.facts[name])


def _scores(benchmark: Benchmark, reading: _Reading, triple: Triple) -> Scores:
    index = {item.id: number for number, item in enumerate(benchmark.items)}
    samples: dict[int, list[_Said]] = defaultdict(list)
    for (item, _), said in sorted(reading.said[triple].items(), key=lambda entry: entry[0]):
        samples[index[item]].append(said)
    given = np.array([item.id in reading.due[triple] for item in benchmark.items])
    parts = np.full((len(index), len(DIMENSIONS)), np.nan)
    reasons, spreads = {}, []
    for number in np.flatnonzero(given).tolist():
        found = samples.get(number, [])
        scored = [said.score for said in found if said.score]
        if scored:
            parts[number] = np.array(scored).mean(axis=0)
            spreads += [float(np.std(np.sum(scored, axis=1), ddof=1))] if len(scored) > 1 else []
        else:
            reasons[number] = next((said.unscored for said in found if said.unscored), NOT_JUDGED)
    replies = {number: found[0].reply for number, found in samples.items() if found[0].reply}
    return Scores(given, parts, float(np.mean(spreads)) if spreads else float("nan"), reasons, replies)


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
