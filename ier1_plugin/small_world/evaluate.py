"""Validation of a model of the small world: sampled and greedy rewards by part, with 95 % intervals over rows.

    python -m ier1_plugin.small_world.evaluate quickstart/warm --rows quickstart/rows/val.parquet --out before.json
    -> {"model": "quickstart/warm", "rows": 400, "photos": "own",
        "sampled": {"overall": {"mean": 0.61, "low": 0.59, "high": 0.63}, "format": ...}, "greedy": ...,
        "picture_told": {"rows": 80, "sampled": ..., "greedy": ...}, "scores": [{"id": "val-00000...", ...}, ...]}

Sampled: temperature 1, top_p 1, which is what GRPO optimises; a row's score is the mean over its samples. Greedy: the
likeliest answer. With `--shuffle-photos` every request gets the photo of another row: what falls then was read off the
photo. "picture_told" are the rows whose gold subject only the picture tells.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from PIL import Image

from ier1_plugin.small_world.tiny_model import encode, generate, load, use_cores
from ier1_plugin.small_world.world import is_picture_told
from ier1_plugin.task.images import open_image
from ier1_plugin.task.rows import IMAGE_PLACEHOLDER, read_gold
from ier1_plugin.task.scoring import Gold, score_response

PARTS = ("overall", "format", "action", "subject", "goal")
BATCH = 128
SAMPLES = 2
CONFIDENCE = 0.95
RESAMPLES = 2000


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
    return [Row(row.id, row.request, rows[other].photo, row.gold) for row, other in zip(rows, order, strict=True)]


def evaluate(model: Any, processor: Any, rows: list[Row], samples: int, seed: int) -> list[dict[str, Any]]:
    """Scores of each row: {"id", "sampled": {part: mean over samples}, "greedy": {part: score}, "response"}."""
    import torch

    torch.manual_seed(seed)
    sampled = [
        list(_answers(model, processor, rows, True, f"sampled {number + 1}/{samples}")) for number in range(samples)
    ]
    greedy = list(_answers(model, processor, rows, False, "greedy"))
    return [
        {
            "id": row.id,
            "sampled": _mean([_score(text, row.gold) for text in texts]),
            "greedy": _score(likeliest, row.gold),
            "response": likeliest,
        }
        for row, texts, likeliest in zip(rows, zip(*sampled, strict=True), greedy, strict=True)
    ]


def summary(scores: list[dict[str, Any]]) -> dict[str, Any]:
    """Means with intervals, over all rows and over those that only the picture tells."""
    told = [score for score in scores if is_picture_told(score["id"])]
    return {
        "rows": len(scores),
        **{how: intervals([score[how] for score in scores]) for how in ("sampled", "greedy")},
        "picture_told": {
            "rows": len(told),
            **{how: intervals([score[how] for score in told]) for how in ("sampled", "greedy")},
        },
    }


def intervals(scores: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """{part: {"mean", "low", "high"}}; see `interval`."""
    return {part: interval([score[part] for score in scores]) for part in PARTS} if scores else {}


def interval(values: list[float]) -> dict[str, float]:
    """Mean of `values` and its 95 % bootstrap interval (percentile, scipy); no width where all are equal."""
    from scipy.stats import bootstrap

    mean = fmean(values)
    if min(values) == max(values):
        return {"mean": mean, "low": mean, "high": mean}
    found = bootstrap(
        (values,), _row_mean, confidence_level=CONFIDENCE, n_resamples=RESAMPLES, method="percentile", rng=0
    ).confidence_interval
    return {"mean": mean, "low": float(found.low), "high": float(found.high)}


def _row_mean(values: Any, axis: int) -> Any:
    return values.mean(axis=axis)


def _answers(model: Any, processor: Any, rows: list[Row], sampled: bool, what: str) -> Iterator[str]:
    from tqdm import trange

    for start in trange(0, len(rows), BATCH, desc=what, unit="batch"):
        batch = rows[start : start + BATCH]
        inputs = encode(processor, [row.request for row in batch], [row.photo for row in batch])
        yield from generate(model, processor, inputs, sampled)


def _score(response: str, gold: Gold) -> dict[str, float]:
    """As `reward_fns/decomposition.py` scores with its default weights, all 1."""
    parts = score_response(response, gold)
    return {"overall": fmean(parts.values()), **parts}


def _mean(scores: list[dict[str, float]]) -> dict[str, float]:
    return {part: fmean(score[part] for score in scores) for part in PARTS}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m ier1_plugin.small_world.evaluate", description="Rewards of a small-world model on validation rows."
    )
    parser.add_argument("model", type=Path, help="folder with weights, tokenizer and processor")
    parser.add_argument("--rows", type=Path, required=True, help="val.parquet of the small world")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="sampled responses to each prompt")
    parser.add_argument("--limit", type=int, help="first rows only")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shuffle-photos", action="store_true", help="give every request the photo of another row")
    return parser


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        rows = read_rows(options.rows, options.limit)
        model, processor = load(options.model)
    except (OSError, ValueError, KeyError) as error:
        print(f"evaluate: {str(error).splitlines()[0]}", file=sys.stderr)
        return 1
    if options.shuffle_photos:
        rows = with_shuffled_photos(rows, options.seed)
    use_cores()
    scores = evaluate(model, processor, rows, options.samples, options.seed)
    result = {
        "model": str(options.model),
        "photos": "shuffled" if options.shuffle_photos else "own",
        "samples": options.samples,
        "seed": options.seed,
        **summary(scores),
        "scores": scores,
    }
    unfinished = options.out.with_name(options.out.name + ".part")
    unfinished.write_text(json.dumps(result, indent=1, ensure_ascii=False), encoding="utf-8")
    os.replace(unfinished, options.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
