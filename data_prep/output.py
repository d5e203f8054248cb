"""Stage four of a build: the four files, all at once.

write(settings, spool, folder)
data/psr/train.parquet, val.parquet   columns id, source, problem, images, answer; rows in the order of a hash
data/psr/rejected.jsonl               {"id": "psr-1f3k", "reason": "request is empty", "row": {...}}
data/psr/report.json                  counts, quantiles, the options used; written last: it marks a finished build
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.near import BITS, THRESHOLD
from data_prep.progress import bar
from data_prep.records import SPLITS, BuildError
from data_prep.settings import Settings, for_report, identity
from data_prep.spool import Entry, Spool
from ier1_plugin.task.rows import COLUMNS, format_row, messages
from ier1_plugin.task.schema import COMPONENTS, Decomposition

REPORT = "report.json"
FILES = (*(f"{split}.parquet" for split in SPLITS), "rejected.jsonl", REPORT)
# a row group is what readers hold in memory
GROUP_BYTES = 32 << 20
GROUP_ROWS = 1000
SHOWN_CHARACTERS = 1000
QUANTILES = (0.5, 0.9, 0.99, 1.0)


def write(settings: Settings, spool: Spool, folder: Path) -> dict[str, Any]:
    """Writes the files into `folder`, then moves them to `settings.output` one right after the other. -> the report"""
    folder.mkdir(exist_ok=True)
    statistics = Statistics(settings.tokenizer)
    for split in SPLITS:
        rows = bar(spool.part(split), f"writing {split}")
        write_parquet(folder / f"{split}.parquet", (_row(row, spool, statistics, split) for row in rows))
    _write_rejected(folder / "rejected.jsonl", spool, statistics)
    near = {"hash": f"pHash, {BITS} bits", "hamming_threshold": THRESHOLD}
    report = statistics.report() | {"near_duplicates": near}
    report |= {"options": for_report(settings), "identity": identity(settings)}
    # no rows of an earlier build beside the report of this one, nor the other way round
    (settings.output / REPORT).unlink(missing_ok=True)
    (folder / REPORT).write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for name in FILES:
        os.replace(folder / name, settings.output / name)
    return report


def write_parquet(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    """Writes RL rows in row groups of some 32 MB."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([(name, pa.list_(image) if name == "images" else pa.string()) for name in COLUMNS])
    # images are compressed already, and no two are alike
    options: dict[str, Any] = {"use_dictionary": ["source"], "write_statistics": ["id", "source"]}
    compression: Any = {name: "snappy" for name in COLUMNS if name != "images"} | {"images.list.element.bytes": "none"}
    with pq.ParquetWriter(path, schema, compression=compression, **options) as writer:
        for group in _groups(rows):
            writer.write_table(pa.Table.from_pylist(group, schema))


def kind(reason: str) -> str:
    """What a reason has in common with others of its kind: the words before a colon or parenthesis."""
    return re.split(r": | \(", reason, maxsplit=1)[0]


class Statistics:
    """Counts of the rows that are written, and of those that are not."""

    def __init__(self, tokenizer: str | None) -> None:
        self._length, self._unit = _length_function(tokenizer)
        self._counts: dict[str, Counter] = defaultdict(Counter)
        self._lengths: list[int] = []
        self._pixels: list[int] = []

    def add(self, row: Entry, split: str, gold: Decomposition) -> None:
        parts = sum(len(getattr(gold, name)) for name in COMPONENTS)
        for what, values in {"source": [row.source], "action": gold.actions, "parts": [str(parts)]}.items():
            self._counts[what].update((value, split) for value in values)
        self._counts["rows"][split] += 1
        self._lengths.append(self._length(row.request))
        self._pixels.append(row.pixels)

    def reject(self, reason: str) -> None:
        self._counts["rows"]["rejected"] += 1
        self._counts["reason"][kind(reason)] += 1

    def report(self) -> dict[str, Any]:
        rows = self._counts["rows"]
        return {
            "rows": {name: rows[name] for name in (*SPLITS, "rejected")},
            "rejected_by_reason": dict(self._counts["reason"].most_common()),
            "by_source": self._by("source"),
            "by_action": self._by("action"),
            # strings in the gold: actions, subjects and goals together
            "by_number_of_parts": self._by("parts", key=int),
            "prompt_length": {"unit": self._unit, "quantiles": _quantiles(self._lengths)},
            "image_pixels": {"unit": "width x height", "quantiles": _quantiles(self._pixels)},
        }

    def _by(self, what: str, key: Callable[[str], Any] = str) -> dict[str, dict[str, int]]:
        counts = self._counts[what]
        names = sorted({name for name, _ in counts}, key=key)
        return {name: {split: counts[name, split] for split in SPLITS} for name in names}


def _row(row: Entry, spool: Spool, statistics: Statistics, split: str) -> dict[str, Any]:
    gold = Decomposition.from_json(row.gold or "")
    statistics.add(row, split, gold)
    return format_row(id=row.id, source=row.source, request=row.request, image=spool.image(row), gold=gold)


def _groups(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    group, size = [], 0
    for row in rows:
        group.append(row)
        size += len(row["images"][0]["bytes"])
        if size >= GROUP_BYTES or len(group) >= GROUP_ROWS:
            yield group
            group, size = [], 0
    if group:
        yield group


def _write_rejected(path: Path, spool: Spool, statistics: Statistics) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in spool.rejected():
            statistics.reject(row.reason or "")
            shown = {"id": row.id, "reason": row.reason, "row": _shown(row)}
            file.write(json.dumps(shown, ensure_ascii=False) + "\n")


def _shown(row: Entry) -> dict[str, Any]:
    if row.unread is not None:
        return json.loads(row.unread)
    gold = json.loads(row.gold) if row.gold else {}
    request = row.request[:SHOWN_CHARACTERS]
    return {"id": row.id, "source": row.source, "request": request, "image": row.image, "group": row.group_key, **gold}


def _length_function(tokenizer: str | None) -> tuple[Callable[[str], int], str]:
    if tokenizer is None:
        return len, "characters of the request (give --tokenizer for tokens)"
    from tokenizers import Tokenizer

    path = Path(tokenizer)
    file = path / "tokenizer.json" if path.is_dir() else path
    try:
        encode = Tokenizer.from_file(str(file)).encode
    except Exception as error:
        raise BuildError(
            f"--tokenizer: {file} can't be used ({error}); wanted a tokenizer.json or its folder"
        ) from None
    unit = "tokens of the rendered prompt, without chat template and image"
    return lambda request: len(encode(messages(request)[0]["content"][1]["text"]).ids), unit


def _quantiles(values: list[int]) -> dict[str, int]:
    if not values:
        return {}
    return {f"{share:g}": int(np.quantile(values, share, method="higher")) for share in QUANTILES}
