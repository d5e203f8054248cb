"""The small world's own rows as the builder would write them, and a model that gives readable answers to them."""

from __future__ import annotations

import hashlib
import random
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from data_prep.output import write_parquet
from ier1_plugin.small_world.world import Sample, Split, samples
from ier1_plugin.task.images import encode
from ier1_plugin.task.parsing import render_response
from ier1_plugin.task.rows import CASE_IMAGES, Case, format_row
from ier1_plugin.task.schema import Decomposition

GOALS = ("brighter", "darker", "warmer", "cooler", "sharper", "softer")
TAUGHT, LEARNING_RATE, RISING_STEPS = 60, 3e-3, 20


def row_of(sample: Sample, case: Case | None = None) -> dict[str, Any]:
    """The row of a sample, with its gold, or with a case in place of it."""
    image, gold = encode(sample.photo.open(56), lossless=True), None if case else sample.gold
    return format_row(id=sample.id, source="photos", request=sample.request, image=image, gold=gold, case=case)


def write_rows(folder: Path, count: int, split: Split = "val") -> Path:
    """A SPLIT.parquet with the first rows of a split."""
    pytest.importorskip("pyarrow")
    pytest.importorskip("skimage")
    file = folder / f"{split}.parquet"
    write_parquet(file, map(row_of, islice(samples(split, 0), count)))
    return file


def case_of(sample: Sample, folder: Path) -> Case:
    """The case of a sample, whose photo is written to the folder of case images in `folder`."""
    data = encode(sample.photo.open(), lossless=True)
    name = f"{hashlib.sha256(data).hexdigest()}.png"
    (folder / CASE_IMAGES).mkdir(exist_ok=True)
    (folder / CASE_IMAGES / name).write_bytes(data)
    return Case(sample.id, sample.request, name)


def write_cases(folder: Path, count: int, split: Split) -> Path:
    """As `write_rows`, with a case in place of the gold."""
    file = folder / f"{split}.parquet"
    write_parquet(file, (row_of(sample, case_of(sample, folder)) for sample in islice(samples(split, 0), count)))
    return file


def write_model(folder: Path) -> Path:
    """The tiny model, taught to answer every request with one of GOALS; half a minute."""
    import torch

    from ier1_plugin.small_world import tiny_model
    from ier1_plugin.small_world.warm_up import collate

    model, processor = tiny_model.load(tiny_model.build(folder))
    known, tokenizer, rng = list(islice(samples("val", 0), 8)), processor.tokenizer, random.Random(0)
    inputs = tiny_model.encode(processor, [one.request for one in known], [one.photo.open() for one in known])
    grids = inputs["image_grid_thw"]
    patches = inputs["pixel_values"].split(grids.prod(-1).tolist())
    answers = [render_response(Decomposition.of(["Adjust"], ["photo"], [goal]), "So.") for goal in GOALS]
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / RISING_STEPS))
    model.train()
    for _ in range(TAUGHT):
        examples = [
            {
                "prompt": ids[mask.bool()].tolist(),
                "response": [*tokenizer(rng.choice(answers)).input_ids, tokenizer.eos_token_id],
                "pixel_values": pixels,
                "image_grid_thw": grid[None],
            }
            for ids, mask, pixels, grid in zip(
                inputs["input_ids"], inputs["attention_mask"], patches, grids, strict=True
            )
        ]
        model(**collate(examples, tokenizer.pad_token_id), use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    return folder
