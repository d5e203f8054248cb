"""The last stage of a build: the four files, all at once.

write(settings, staging, folder)
data/psr/train.parquet, val.parquet   columns id, source, problem, images, answer; rows in the order of a hash
data/psr/images/5f0c....jpg           photos of the cases, with --case-images
data/psr/rejected.jsonl               {"id": "psr-1f3k", "reason": "request is empty", "row": {...}}
data/psr/report.json                  counts, quantiles, the options used; written last: it marks a finished build
data/psr/.images.json                 {"photos/cat.jpg": "81920 bytes, 1764327461000000000"}: the images that were files
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.duplicates import BITS, THRESHOLD
from data_prep.settings import SPLITS, Settings
from data_prep.staging import Staging
from ier1_plugin.runs.errors import UserError
from ier1_plugin.runs.secrets import without_secrets
from ier1_plugin.runs.workers import progress
from ier1_plugin.task.rows import COLUMNS, Case, format_row, messages
from ier1_plugin.task.schema import COMPONENTS, Decomposition

REPORT = "report.json"
REJECTED = "rejected.jsonl"
IMAGES = ".images.json"
FILES = (*(f"{split}.parquet" for split in SPLITS), REJECTED, REPORT)
# a row group is what readers hold in memory
GROUP_BYTES = 32 << 20
GROUP_ROWS = 1000
SHOWN_CHARACTERS = 1000
QUANTILES = (0.5, 0.9, 0.99, 1.0)


def write(settings: Settings, identity: dict[str, Any], staging: Staging, folder: Path) -> dict[str, Any]:
    """Writes the files into `folder`, then moves them to `settings.output` one right after the other. -> the report"""
    folder.mkdir(exist_ok=True)
    length, unit = _length_function(settings.tokenizer)
    counts: dict[str, Counter] = {
        what: Counter() for what in ("rows", "reason", "source", "action", "parts", "without gold")
    }
    lengths: list[int] = []
    pixels: list[int] = []

    def rows(split: str) -> Iterator[dict[str, Any]]:
        for row in progress(staging.part(split), f"writing {split}"):
            gold = Decomposition.from_json(row.gold) if row.gold and not settings.without_gold else None
            case = Case(row.id, row.request, row.case_image) if row.case_image else None
            counts["rows"][split] += 1
            counts["source"][row.source, split] += 1
            if gold:
                counts["action"].update((action, split) for action in gold.actions)
                counts["parts"][sum(len(getattr(gold, name)) for name in COMPONENTS), split] += 1
            else:
                counts["without gold"][split] += 1
            lengths.append(length(row.request))
            pixels.append(row.pixels)
            image = staging.image(row)
            yield format_row(id=row.id, source=row.source, request=row.request, image=image, gold=gold, case=case)

    for split in SPLITS:
        write_parquet(folder / f"{split}.parquet", rows(split))
    with (folder / REJECTED).open("w", encoding="utf-8") as file:
        for row in staging.rejected():
            counts["rows"]["rejected"] += 1
            # what a reason has in common with others of its kind: the words before a colon or parenthesis
            counts["reason"][re.split(r": | \(", row.reason or "", maxsplit=1)[0]] += 1
            if row.unread is not None:
                known = json.loads(row.unread)
            else:
                known = {"id": row.id, "source": row.source, "request": row.request[:SHOWN_CHARACTERS]}
                known |= {"image": row.image, "group": row.group_key, **(json.loads(row.gold) if row.gold else {})}
            file.write(json.dumps({"id": row.id, "reason": row.reason, "row": known}, ensure_ascii=False) + "\n")

    def by(what: str) -> dict[str, dict[str, int]]:
        names = sorted({name for name, _ in counts[what]})
        return {str(name): {split: counts[what][name, split] for split in SPLITS} for name in names}

    report = {
        "rows": {name: counts["rows"][name] for name in (*SPLITS, "rejected")},
        "rejected_by_reason": dict(counts["reason"].most_common()),
        "by_source": by("source"),
        "by_action": by("action"),
        # strings in the gold: actions, subjects and goals together
        "by_number_of_parts": by("parts"),
        "without_gold": dict(counts["without gold"]),
        "prompt_length": {"unit": unit, "quantiles": _quantiles(lengths)},
        "image_pixels": {"unit": "width x height", "quantiles": _quantiles(pixels)},
        "near_duplicates": {"hash": f"pHash, {BITS} bits", "hamming_threshold": THRESHOLD},
        "options": without_secrets(asdict(settings)),
        "identity": identity,
    }
    # no rows of an earlier build beside the report of this one, nor the other way round
    (settings.output / REPORT).unlink(missing_ok=True)
    (folder / REPORT).write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / IMAGES).write_text(json.dumps(staging.stamps()), encoding="utf-8")
    for name in (IMAGES, *FILES):
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
        group, size = [], 0
        for row in rows:
            group.append(row)
            size += len(row["images"][0]["bytes"])
            if size >= GROUP_BYTES or len(group) >= GROUP_ROWS:
                writer.write_table(pa.Table.from_pylist(group, schema))
                group, size = [], 0
        if group:
            writer.write_table(pa.Table.from_pylist(group, schema))


def _length_function(tokenizer: str | None) -> tuple[Callable[[str], int], str]:
    """What measures a request, and its unit."""
    if tokenizer is None:
        return len, "characters of the request (give --tokenizer for tokens)"
    from tokenizers import Tokenizer

    path = Path(tokenizer)
    file = path / "tokenizer.json" if path.is_dir() else path
    try:
        encode = Tokenizer.from_file(str(file)).encode
    except Exception as error:
        raise UserError(f"--tokenizer: {file} can't be used ({error}); wanted a tokenizer.json or its folder") from None
    unit = "tokens of the rendered prompt, without chat template and image"
    return lambda request: len(encode(messages(request)[0]["content"][1]["text"]).ids), unit


def _quantiles(values: list[int]) -> dict[str, int]:
    if not values:
        return {}
    return {f"{share:g}": int(np.quantile(values, share, method="higher")) for share in QUANTILES}
