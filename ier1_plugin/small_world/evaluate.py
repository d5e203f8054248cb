"""Responses of a model of the small world to validation rows, sampled and greedy, for the scorer of the training.

    python -m ier1_plugin.small_world.evaluate quickstart/warm --rows quickstart/rows/val.parquet --out before
    -> before/sampled.jsonl    {"id": "val-00000...", "responses": ["<think> ...", "<think> ..."]}
       before/greedy.jsonl     {"id": "val-00000...", "responses": ["<think> ..."]}
    ier1 evaluate --decomposition before/greedy.jsonl --rows quickstart/rows/val.parquet --out scores

Sampled: temperature 1, top_p 1, which is what GRPO optimises. Greedy: the likeliest answer. With `--shuffle-photos`
every request gets the photo of another row: the score that is lost then came from looking at the photo.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from ier1_plugin.runs.folder import write
from ier1_plugin.small_world.tiny_model import encode, generate, load, use_cores
from ier1_plugin.task.images import open_image
from ier1_plugin.task.rows import IMAGE_PLACEHOLDER, read_gold
from ier1_plugin.task.scoring import Gold

BATCH = 128
SAMPLES = 2


@dataclass(frozen=True)
class Row:
    """A validation row, ready to be asked."""

    id: str
    request: str
    photo: Image.Image
    gold: Gold


def read_rows(file: Path, limit: int | None = None) -> list[Row]:
    """The first `limit` RL rows of a parquet file (`id`, `problem`, `images`, `answer`)."""
    from pyarrow import parquet

    table = parquet.read_table(file, columns=["id", "problem", "images", "answer"])
    return [
        Row(
            id=row["id"],
            request=row["problem"].removeprefix(IMAGE_PLACEHOLDER),
            photo=open_image(row["images"][0]["bytes"]),
            gold=read_gold(row["answer"]),
        )
        for row in table.slice(0, limit).to_pylist()
    ]


def with_shuffled_photos(rows: list[Row], seed: int) -> list[Row]:
    """The same requests, each with the photo of a row that the seed picks."""
    order = list(range(len(rows)))
    random.Random(f"{seed}-photos").shuffle(order)
    return [replace(row, photo=rows[other].photo) for row, other in zip(rows, order, strict=True)]


def responses(model: Any, processor: Any, rows: list[Row], samples: int, seed: int) -> dict[str, list[list[str]]]:
    """{"sampled": [responses to a row, ...], "greedy": [[response], ...]}; the same seed samples the same."""
    import torch
    from tqdm import trange

    def answers(sampled: bool, name: str) -> Iterator[str]:
        for start in trange(0, len(rows), BATCH, desc=name, unit="batch"):
            batch = rows[start : start + BATCH]
            inputs = encode(processor, [row.request for row in batch], [row.photo for row in batch])
            yield from generate(model, processor, inputs, sampled)

    torch.manual_seed(seed)
    sampled = [list(answers(True, f"sampled {number + 1}/{samples}")) for number in range(samples)]
    return {
        "sampled": list(map(list, zip(*sampled, strict=True))),
        "greedy": [[text] for text in answers(False, "greedy")],
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        "python -m ier1_plugin.small_world.evaluate", description="Responses of a small-world model to validation rows."
    )
    parser.add_argument("model", type=Path, help="folder with weights, tokenizer and processor")
    parser.add_argument("--rows", type=Path, required=True, help="val.parquet of the small world")
    parser.add_argument("--out", type=Path, required=True, help="folder for sampled.jsonl and greedy.jsonl")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="sampled responses to each prompt")
    parser.add_argument("--limit", type=int, help="first rows only")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shuffle-photos", action="store_true", help="give every request the photo of another row")
    options = parser.parse_args(arguments)
    try:
        rows = read_rows(options.rows, options.limit)
        model, processor = load(options.model)
    except (OSError, ValueError, KeyError) as error:
        print(f"evaluate: {str(error).splitlines()[0]}", file=sys.stderr)
        return 1
    if options.shuffle_photos:
        rows = with_shuffled_photos(rows, options.seed)
    use_cores()
    for how, each in responses(model, processor, rows, options.samples, options.seed).items():
        lines = (json.dumps({"id": row.id, "responses": texts}) for row, texts in zip(rows, each, strict=True))
        write(options.out / f"{how}.jsonl", "".join(f"{line}\n" for line in lines))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
