"""Supervised warm-up of the tiny model: right answers to fewer requests than there are, for GRPO to go on from.

    python -m ier1_plugin.small_world.warm_up --out quickstart/warm --seed 0 --rows 4000 --steps 600

It sees the training split's photos and wordings, its targets are the gold decompositions, and it ends long before it
has seen all there is: what GRPO can mend is what the model has not learnt yet. More of its rows than in RL are about
the main subject of the photo (PICTURE_SHARE), or the model would not learn in this time to look at it.

With `--other-words`, a share of the goals stands in a word that means the same and that the small world's editor does
not know (OTHER_GOALS): a pretrained model has many words for a thing, and which of them an editor understands is what
a reward on pictures can tell it, and an annotator with words of their own can't.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from ier1_plugin.runs.folder import write
from ier1_plugin.runs.workers import progress
from ier1_plugin.small_world.tiny_model import PIXELS, build, encode, load, use_cores
from ier1_plugin.small_world.wordings import OTHER_GOALS
from ier1_plugin.small_world.world import Sample, samples
from ier1_plugin.task.images import prepare
from ier1_plugin.task.parsing import render_response
from ier1_plugin.training.export import with_head

ROWS, STEPS = 4000, 600
PICTURE_SHARE = 0.35
BATCH = 32
SORTED_TOGETHER = 8
LEARNING_RATE = 3e-3
RISING_STEPS = 20
FALLING = 0.2
"""The last share of the steps, in which the rate falls to 0: at a high one the last step decides how good it is."""
ENCODED_TOGETHER = 64
BETAS = (0.9, 0.98)
IGNORED = -100
"""The label that transformers leaves out of the loss."""


def target(sample: Sample, rng: random.Random, other_words: float = 0.0) -> str:
    """The right response; each goal in its other word with probability `other_words`."""
    response = render_response(sample.gold, sample.think)
    for goal, other in OTHER_GOALS.items():
        if rng.random() < other_words:
            response = response.replace(goal, other)
    return response


def warm_up(
    model: Any, processor: Any, seed: int, rows: int = ROWS, steps: int = STEPS, other_words: float = 0.0
) -> list[float]:
    """Trains `model` in place and returns the loss of every step."""
    import torch

    rng = random.Random(f"{seed}-warm-up")
    examples = encoded(processor, list(islice(samples("train", seed, PICTURE_SHARE), rows)), rng, other_words)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=BETAS, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / RISING_STEPS, (steps - step) / (FALLING * steps))
    )
    losses = []
    model.train()
    with progress(None, "warm-up", total=steps, unit="steps") as bar:
        for examples_of_step in islice(batches(examples, rng), steps):
            loss = model(**collate(examples_of_step, processor.tokenizer.pad_token_id), use_cache=False).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            losses.append(loss.item())
            bar.set_postfix(loss=f"{losses[-1]:.2f}", refresh=False)
            bar.update()
    return losses


def encoded(processor: Any, rows: list[Sample], rng: random.Random, other_words: float) -> list[dict[str, Any]]:
    """Token ids of prompt and response, and the inputs of the vision tower: one dict for each row."""
    tokenizer, examples = processor.tokenizer, []
    # thousands of rows share a few hundred photos
    photos = {photo: prepare(photo.open(), PIXELS, PIXELS) for photo in {row.photo for row in rows}}
    for start in progress(range(0, len(rows), ENCODED_TOGETHER), "encoding", unit="batches"):
        part = rows[start : start + ENCODED_TOGETHER]
        inputs = encode(processor, [row.request for row in part], [photos[row.photo] for row in part])
        grids = inputs["image_grid_thw"]
        pixels = inputs["pixel_values"].split(grids.prod(-1).tolist())
        for row, ids, mask, patches, grid in zip(
            part, inputs["input_ids"], inputs["attention_mask"], pixels, grids, strict=True
        ):
            answer = tokenizer(target(row, rng, other_words), add_special_tokens=False).input_ids
            example = {"prompt": ids[mask.bool()].tolist(), "response": [*answer, tokenizer.eos_token_id]}
            examples.append(example | {"pixel_values": patches, "image_grid_thw": grid[None]})
    return examples


def batches(examples: list[dict[str, Any]], rng: random.Random) -> Iterator[list[dict[str, Any]]]:
    """Endless random batches of examples that are about equally long, so that little is padding."""
    while True:
        several = rng.sample(examples, BATCH * SORTED_TOGETHER)
        several.sort(key=lambda example: len(example["prompt"]) + len(example["response"]))
        yield from rng.sample(
            [several[start : start + BATCH] for start in range(0, len(several), BATCH)], SORTED_TOGETHER
        )


def collate(examples: list[dict[str, Any]], pad: int) -> dict[str, Any]:
    """Model inputs of a batch, padded on the right; only responses count in the loss."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    def padded(rows: list[list[int]], value: int) -> torch.Tensor:
        return pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=value)

    ids, labels = [], []
    for example in examples:
        prompt, answer = example["prompt"], example["response"]
        ids.append([*prompt, *answer])
        labels.append([*[IGNORED] * len(prompt), *answer])
    return {
        "input_ids": padded(ids, pad),
        "labels": padded(labels, IGNORED),
        "attention_mask": padded([[1] * len(row) for row in ids], 0),
        "pixel_values": torch.cat([example["pixel_values"] for example in examples]),
        "image_grid_thw": torch.cat([example["image_grid_thw"] for example in examples]),
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        "python -m ier1_plugin.small_world.warm_up", description="Builds the tiny model and warms it up."
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the warmed-up model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--rows", type=int, default=ROWS, help="different requests that it learns from")
    parser.add_argument(
        "--other-words", type=float, default=0.0, help="share of goals in words the editor doesn't know"
    )
    options = parser.parse_args(arguments)
    unfinished = options.out.with_name(options.out.name + ".part")
    use_cores()
    model, processor = load(build(unfinished, options.seed))
    warm_up(model, processor, options.seed, options.rows, options.steps, options.other_words)
    model.save_pretrained(unfinished)
    file = unfinished / "config.json"
    write(file, json.dumps(with_head(json.loads(file.read_text(encoding="utf-8"))), indent=2) + "\n")
    shutil.rmtree(options.out, ignore_errors=True)
    unfinished.rename(options.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
