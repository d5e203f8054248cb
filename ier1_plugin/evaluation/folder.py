"""The folder of an evaluation: what was evaluated and who judged it, and the three readers that reports use.

    read_run(folder)           # evaluation.json
    read_items(folder)         # [BenchmarkItem(id="psr-1a2b", ...), ...], in the order of the sample
    read_judgements(folder)    # Judgement(item="psr-1a2b", system="FLUX.1-Kontext-dev", ...), of all judges

    evaluation.json                                      benchmark, systems, judges, prices
    sample.txt, items.jsonl, inputs/, left_out.jsonl     see benchmarks/sample.py
    systems/NAME/                                        output of a batch: images/, traces/, errors/, results.jsonl
    judgements.sqlite, judgements.jsonl                  every reply of every judge; the second is a copy for people
    sanity/                                              the same of the judges' sanity check

evaluation.json:

    {"benchmark": {"name": "psr", "origin": "PSRDataset/PSR-328", "seed": 0, "sampled": 328, ...},
     "systems": [{"name": "FLUX.1-Kontext-dev", "folder": "systems/FLUX.1-Kontext-dev", "settings": {...}}],
     "judges": [{"name": "openai:gpt-4o-2024-11-20", "rubric_sha256": "5e1f...", "samples": 1, "date": "2026-11-25",
                 "sanity": "passed on 12 items, 2026-11-25"}],
     "failed_sanity": {}, "prices": null, "imageedit_r1": "0.1.0"}

Further systems and judges may join an existing evaluation; those already in it must keep their settings. A judge that
fails its sanity check does not join.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ier1_plugin import __version__
from ier1_plugin.evaluation.records import BenchmarkItem, EvaluationError, Judgement
from ier1_plugin.runs.folder import changes, write
from ier1_plugin.runs.secrets import without_secrets
from ier1_plugin.runs.store import Store

EVALUATION, ITEMS = "evaluation.json", "items.jsonl"
JUDGEMENTS, EXPORT = "judgements.sqlite", "judgements.jsonl"
SANITY = "sanity"
# where earlier versions kept judgements, a file for each judge
OLD_JUDGEMENTS = "judgements"
# what a later run need not have, or has anew; of a rubric its hash counts, not its path
FREE = {
    "benchmark": ("revision", "splits", "sampled"),
    "systems": (),
    "judges": ("date", "samples", "sanity", "rubric", "max_tokens"),
}
NOT_TRIED = "not tried"


def read_run(folder: Path) -> dict[str, Any]:
    """The contents of evaluation.json; {} if nothing was started. EvaluationError: it is damaged, or of an earlier
    version.

    `benchmark` has "name" and "origin", and from the first run with systems on "sampled", the number of items.
    `systems` and `judges`, each with a "name", stand in the order in which they joined. A system's images lie in
    FOLDER/images, as a batch leaves them; its "settings" are the fields of `pipeline.system.System`, {} for the edits
    by people, which are called "human". "samples" is the largest number of judgements of an edit that a judge was
    asked for; not all of them need exist.
    """
    file = folder / EVALUATION
    if not file.is_file():
        return {}
    if (folder / OLD_JUDGEMENTS).is_dir():
        raise EvaluationError(f"{folder} holds {OLD_JUDGEMENTS}/ of an earlier version; evaluate into another --out")
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        if all(isinstance(one["name"], str) for one in (values["benchmark"], *values["systems"], *values["judges"])):
            return values
    except (ValueError, TypeError, KeyError):
        pass
    raise EvaluationError(f"{file} is damaged; choose another --out")


def read_items(folder: Path) -> list[BenchmarkItem]:
    """The items of an evaluation, in the order of the sample; [] if there are none yet.

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
    """The judgements of all judges that count: the last of each (item, system, judge, sample), the newest first. They
    are read as they are needed. Yields nothing if nothing was judged. Judgements of systems or samples that are not in
    evaluation.json may be among them. RunError: the file is not a store; EvaluationError: it holds something else.
    """
    file = folder / JUDGEMENTS
    if not file.is_file():
        return
    seen = set()
    with Store(file, read_only=True) as store:
        for _, record in reversed(store):
            try:
                judgement = Judgement.from_dict(record)
                counts = not judgement.asked_again and judgement.who not in seen
            except (ValueError, TypeError, AttributeError):
                raise EvaluationError(f"{file} holds a record that is not a judgement; choose another folder") from None
            if counts:
                seen.add(judgement.who)
                yield judgement


def joined(
    before: Mapping[str, Any],
    benchmark: Mapping[str, Any],
    systems: Sequence[Mapping[str, Any]],
    judges: Sequence[Mapping[str, Any]],
    prices: Mapping[str, Any] | None,
    folder: Path,
) -> dict[str, Any]:
    """The new contents of evaluation.json. EvaluationError: it already has other settings for one of these."""
    before = without_secrets(before)
    plain = without_secrets({"benchmark": benchmark, "systems": systems, "judges": judges})

    def check(known: Mapping[str, Any], now: Mapping[str, Any], kind: str) -> None:
        if changed := changes(known, now, FREE[kind]):
            what = "" if kind == "benchmark" else f"{kind[:-1]} {now['name']}: "
            raise EvaluationError(
                f"{folder} was begun with other settings ({what}{', '.join(changed)}); choose another --out"
            )

    # before the first sample there are no items that others would have to be like
    if "sampled" in before.get("benchmark", {}):
        check(before["benchmark"], plain["benchmark"], "benchmark")
        plain["benchmark"] = before["benchmark"]
    for kind in ("systems", "judges"):
        known = {one["name"]: dict(one) for one in before.get(kind, [])}
        for one in plain[kind]:
            there = known.setdefault(one["name"], one)
            rubrics = [str(which.get("rubric_sha256"))[:8] for which in (there, one)]
            if rubrics[0] != rubrics[1]:
                raise EvaluationError(
                    f"{folder} was judged by another rubric ({', now '.join(rubrics)}), of another version of this "
                    f"program or another --rubric: the scores of {one['name']} can't be compared; choose another --out"
                )
            check(there, one, kind)
            if kind == "judges":
                # further judgements of an edit take nothing from those that are there
                there["samples"] = max(there["samples"], one["samples"])
                there["max_tokens"] = one.get("max_tokens")
        plain[kind] = list(known.values())
    return plain | {
        "failed_sanity": dict(before.get("failed_sanity", {})),
        "prices": prices if prices is not None else before.get("prices"),
        "imageedit_r1": __version__,
    }


def write_run(folder: Path, values: Mapping[str, Any]) -> None:
    write(folder / EVALUATION, json.dumps(values, indent=2, ensure_ascii=False) + "\n")
