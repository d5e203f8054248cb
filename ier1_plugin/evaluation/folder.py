"""The folder of an evaluation: what was evaluated, by what and by whom, and the three readers that reports use.

    read_run(folder)           # evaluation.json
    read_items(folder)         # [BenchmarkItem(id="psr-1a2b", ...), ...], in the order of the sample
    read_judgements(folder)    # Judgement(item="psr-1a2b", system="FLUX.1-Kontext-dev", ...), of all judges

evaluation.json:

    {"benchmark": {"name": "psr", "origin": "PSRDataset/PSR-328", "seed": 0, "sampled": 328, ...},
     "systems": [{"name": "FLUX.1-Kontext-dev", "folder": "systems/FLUX.1-Kontext-dev", "settings": {...}}],
     "judges": [{"name": "openai:gpt-4o-2024-11-20", "rubric_sha256": "5e1f...", "samples": 1, "date": "2026-11-25",
                 "sanity": "passed on 12 items, 2026-11-25"}],
     "failed_sanity": {}, "prices": null, "imageedit_r1": "0.1.0"}

Further systems and judges may join an evaluation that is there; what is known must be as it was. Each stands here from
when it is known to work: a system that can't be had or a judge that fails its sanity check leaves no row behind.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ier1_plugin import __version__
from ier1_plugin.evaluation.judges import store
from ier1_plugin.evaluation.records import BenchmarkItem, EvaluationError, Judgement
from ier1_plugin.runs.folder import write

EVALUATION, ITEMS = "evaluation.json", "items.jsonl"
# what a later run need not have, or has anew; of a rubric its hash counts, not its path
FREE = {
    "benchmark": ("revision", "splits", "sampled"),
    "systems": (),
    "judges": ("date", "samples", "sanity", "rubric"),
}
NOT_TRIED = "not tried"


@contextmanager
def taken(folder: Path) -> Iterator[None]:
    """Keeps a second run out of the folder. EvaluationError: there is one."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _take(lock, folder)
        yield
    finally:
        os.close(lock)


def _take(lock: int, folder: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise EvaluationError(f"another run is evaluating into {folder}; wait for it or choose another --out") from None


def read_run(folder: Path) -> dict[str, Any]:
    """evaluation.json; {} where nothing was begun. EvaluationError: it is damaged.

    `benchmark` has "name" and "origin", and from the first run with systems on "sampled", the number of items.
    `systems` and `judges`, each with a "name", stand in the order in which they joined. A system's images lie in
    FOLDER/images, as a batch leaves them; its "settings" are the fields of `pipeline.system.System`, {} for the edits
    by people, which are called "human". "samples" is the largest number of judgements of an edit that a judge was
    asked for; not all of them need be there.
    """
    file = folder / EVALUATION
    if not file.is_file():
        return {}
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        if all(isinstance(one["name"], str) for one in (values["benchmark"], *values["systems"], *values["judges"])):
            return values
    except (ValueError, TypeError, KeyError):
        pass
    raise EvaluationError(f"{file} is damaged; choose another --out")


def read_items(folder: Path) -> list[BenchmarkItem]:
    """The items of an evaluation that was begun, in the order of the sample; [] where there are none yet.

    Paths of images are relative to `folder`, or absolute. EvaluationError: items.jsonl is damaged.
    """
    file = folder / ITEMS
    if not file.is_file():
        return []
    try:
        # as a file: str.splitlines would cut a request at the line separators that JSON lets stand
        with file.open(encoding="utf-8", newline="\n") as lines:
            return [BenchmarkItem.from_dict(json.loads(line)) for line in lines]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise EvaluationError(f"{file} is damaged ({error}); choose another --out") from None


def read_judgements(folder: Path) -> Iterator[Judgement]:
    """What counts of all judges in evaluation.json: the last judgement of each (item, system, judge, sample).

    In no particular order, and not all in memory. Judgements of systems that are not in evaluation.json, or of more
    samples than it says, may be among them. EvaluationError: a judge's file is not there or is damaged.
    """
    for judge in read_run(folder).get("judges", []):
        yield from store.read_judgements(store.judgements_file(folder, judge["name"]))


def joined(
    before: Mapping[str, Any],
    benchmark: Mapping[str, Any],
    systems: Sequence[Mapping[str, Any]],
    judges: Sequence[Mapping[str, Any]],
    prices: Mapping[str, Any] | None,
    folder: Path,
) -> dict[str, Any]:
    """What evaluation.json says from now on. EvaluationError: it says something else of one of these already."""
    plain = json.loads(json.dumps({"benchmark": benchmark, "systems": systems, "judges": judges}, default=str))
    known = before.get("benchmark", {})
    # without a sample there are no items yet that others would have to be like
    sampled = "sampled" in known
    if sampled:
        _check(known, plain["benchmark"], "benchmark", folder)
    return {
        "benchmark": dict(known if sampled else plain["benchmark"]),
        **{kind: _merged(before.get(kind, []), plain[kind], kind, folder) for kind in ("systems", "judges")},
        "failed_sanity": dict(before.get("failed_sanity", {})),
        "prices": prices if prices is not None else before.get("prices"),
        "imageedit_r1": __version__,
    }


def write_run(folder: Path, values: Mapping[str, Any]) -> None:
    write(folder / EVALUATION, json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def _merged(before: Sequence[Any], now: Sequence[Any], kind: str, folder: Path) -> list[dict[str, Any]]:
    known = {one["name"]: dict(one) for one in before}
    for one in now:
        if one["name"] in known:
            _check(known[one["name"]], one, kind, folder)
        there = known.setdefault(one["name"], dict(one))
        if "samples" in one:
            # further judgements of an edit take nothing from those that are there
            there["samples"] = max(there["samples"], one["samples"])
        if one.get("sanity", NOT_TRIED) != NOT_TRIED:
            there["sanity"] = one["sanity"]
    return list(known.values())


def _check(before: Mapping[str, Any], now: Mapping[str, Any], kind: str, folder: Path) -> None:
    changed = list(_changes(before, now, FREE[kind]))
    if changed:
        what = "" if kind == "benchmark" else f"{kind[:-1]} {now['name']}: "
        raise EvaluationError(
            f"{folder} was begun with other settings ({what}{', '.join(changed)}); choose another --out"
        )


def _changes(before: Mapping[str, Any], now: Mapping[str, Any], free: Sequence[str] = ()) -> Iterator[str]:
    for key in sorted({*before, *now} - set(free)):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _changes(old, new)
        elif old != new:
            yield f"{key} {old!r}, now {new!r}"
