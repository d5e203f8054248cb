"""Supervised warm-up of the tiny model on the tag format, from the notes of a sloppy annotator.

    python -m ier1_plugin.small_world.warm_up --out quickstart/warm --seed 0
    before: a model with random weights; after: one that decomposes most requests when it decodes greedily (overall
    reward about 0.75), but often errs when it samples (about 0.55)

GRPO can only reward what the policy tries, so it needs a model that sometimes succeeds and sometimes fails. Three of
four targets therefore hold one mistake of an annotator in a hurry (`MISTAKES`). Each single decision is right in the
majority, so the likeliest answer is good while samples vary: that gap is what GRPO can close. Half of the warm-up rows,
more than in RL, are about the main subject of the photo, or the model would not learn in this time to look at it.
"""

from __future__ import annotations

import argparse
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from ier1_plugin.editors.pillow.operations import OPERATIONS, REGIONS
from ier1_plugin.runs.workers import progress
from ier1_plugin.small_world.pictures import PICTURES
from ier1_plugin.small_world.tiny_model import PIXELS, build, encode, load, use_cores
from ier1_plugin.small_world.world import WHOLE_SUBJECT, Edit, Sample, gold_of, samples, think_of
from ier1_plugin.task.images import prepare
from ier1_plugin.task.parsing import COMPONENT_TAGS, render_response

ROWS = 4000
PICTURE_SHARE = 0.5
NOISE = 0.75
"""Share of the targets that hold a mistake."""
STEPS = 600
BATCH = 32
SORTED_TOGETHER = 8
# constant after the rise: a rate that falls to a tenth leaves GRPO less to improve (measured: +0.22 instead of +0.28)
LEARNING_RATE = 3e-3
RISING_STEPS = 20
ENCODED_TOGETHER = 64
BETAS = (0.9, 0.98)
IGNORED = -100
"""The label that transformers leaves out of the loss."""

Mistake = Callable[[Sample, random.Random], str]


def target(sample: Sample, rng: random.Random, noise: float = NOISE) -> str:
    """The response to learn: the right one, or with probability `noise` one with a single mistake."""
    if rng.random() >= noise:
        return response(sample, sample.edits)
    return rng.choices(list(MISTAKES), list(MISTAKES.values()))[0](sample, rng)


def response(sample: Sample, edits: Sequence[Edit]) -> str:
    """As if the sample asked for these edits."""
    return render_response(gold_of(tuple(edits)), think_of(sample.photo.subject, tuple(edits)))


def other_operation(sample: Sample, rng: random.Random) -> str:
    edits = list(sample.edits)
    at = rng.randrange(len(edits))
    edits[at] = replace(edits[at], operation=rng.choice(list(OPERATIONS)))
    return response(sample, edits)


def other_subject(sample: Sample, rng: random.Random) -> str:
    edits = list(sample.edits)
    at = rng.randrange(len(edits))
    known = [WHOLE_SUBJECT, *REGIONS, *(picture.subject for picture in PICTURES.values())]
    edits[at] = replace(edits[at], subject=rng.choice(known))
    return response(sample, edits)


def edit_left_out(sample: Sample, rng: random.Random) -> str:
    edits = list(sample.edits)
    if len(edits) > 1:
        edits.pop(rng.randrange(len(edits)))
    return response(sample, edits)


def other_goal(sample: Sample, rng: random.Random) -> str:
    goals = [operation.goal for operation in OPERATIONS.values() if operation.goal]
    gold = sample.gold
    return render_response(replace(gold, goals=(*gold.goals[:-1], rng.choice(goals))), sample.think)


def lines_swapped(sample: Sample, rng: random.Random) -> str:
    think, action, subjects, goals = response(sample, sample.edits).split("\n")
    return "\n".join([think, goals, subjects, action])


def plain_words(sample: Sample, rng: random.Random) -> str:
    """One component without its JSON."""
    lines = response(sample, sample.edits).split("\n")
    at = rng.randrange(1, len(lines))
    lines[at] = lines[at].replace('["', "").replace('"]', "").replace('", "', ", ").replace("[]", "none")
    return "\n".join(lines)


def tag_not_closed(sample: Sample, rng: random.Random) -> str:
    return response(sample, sample.edits).replace(f"</{rng.choice(list(COMPONENT_TAGS.values()))}>", "")


# mistake -> how often it is made, relative to the others; with more wrong subjects the photo is not learnt in this time
MISTAKES: dict[Mistake, int] = {
    other_operation: 2,
    other_subject: 1,
    edit_left_out: 1,
    other_goal: 1,
    lines_swapped: 1,
    plain_words: 2,
    tag_not_closed: 2,
}


def warm_up(model: Any, processor: Any, seed: int, steps: int = STEPS, noise: float = NOISE) -> list[float]:
    """Trains `model` in place and returns the loss of every step. `noise`: share of the targets with a mistake."""
    import torch

    rng = random.Random(f"{seed}-warm-up")
    examples = encoded(processor, list(islice(samples("train", seed, PICTURE_SHARE), ROWS)), rng, noise)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=BETAS, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / RISING_STEPS))
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


def encoded(processor: Any, rows: list[Sample], rng: random.Random, noise: float) -> list[dict[str, Any]]:
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
            answer = tokenizer(target(row, rng, noise), add_special_tokens=False).input_ids
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
    parser.add_argument("--clean", action="store_true", help="learn right answers only")
    options = parser.parse_args(arguments)
    unfinished = options.out.with_name(options.out.name + ".part")
    use_cores()
    model, processor = load(build(unfinished, options.seed))
    warm_up(model, processor, options.seed, options.steps, 0.0 if options.clean else NOISE)
    model.save_pretrained(unfinished)
    shutil.rmtree(options.out, ignore_errors=True)
    unfinished.rename(options.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
