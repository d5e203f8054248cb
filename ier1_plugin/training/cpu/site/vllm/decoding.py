"""Samples from a transformers model with a KV cache: each prompt is read once, finished rows leave the batch.

    generate(model, [Prompt([5, 6, 7])], SamplingParams(n=2, max_tokens=3), ...)  -> [[9, 4, 0], [9, 2]]

n token lists for each prompt, in order; each ends with its end-of-sequence token if it reached one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from vllm.prompts import Prompt, left_padded
from vllm.sampling import SamplingParams, choose


@dataclass
class _Rows:
    """The samples still being written."""

    logits: torch.Tensor
    """(rows, vocabulary), of the next token."""
    mask: torch.Tensor
    """(rows, tokens so far)."""
    positions: torch.Tensor
    """(3, rows, 1), of the last token."""
    cache: Any
    owner: torch.Tensor
    """(rows,), which sample each row writes."""


@torch.no_grad()
def generate(
    model: Any,
    prompts: list[Prompt],
    params: SamplingParams,
    end_tokens: list[int],
    pad_token: int,
    generator: torch.Generator,
) -> list[list[int]]:
    rows = _prefill(model, left_padded(prompts, pad_token), params.n)
    samples: list[list[int]] = [[] for _ in rows.owner]
    ends = torch.tensor([] if params.ignore_eos else end_tokens, dtype=torch.long)
    while True:
        tokens = choose(rows.logits, params, generator)
        for sample, token in zip(rows.owner.tolist(), tokens.tolist(), strict=True):
            samples[sample].append(token)
        going_on = (~torch.isin(tokens, ends)).nonzero()[:, 0]
        if not len(going_on) or len(samples[rows.owner[going_on[0]]]) >= params.max_tokens:
            return samples
        if len(going_on) < len(tokens):
            rows.cache.batch_select_indices(going_on)
            rows.mask, rows.owner = rows.mask[going_on], rows.owner[going_on]
            rows.positions = rows.positions[:, going_on]
        _step(model, rows, tokens[going_on])


def _prefill(model: Any, batch: dict[str, torch.Tensor], n: int) -> _Rows:
    """Reads each prompt once; n rows for each."""
    if "pixel_values" in batch:
        batch["pixel_values"] = batch["pixel_values"].to(model.dtype)
    # (3, rows, tokens): Qwen-VL counts time, height and width; padding holds any number
    positions = model.model.get_rope_index(
        batch["input_ids"], image_grid_thw=batch.get("image_grid_thw"), attention_mask=batch["attention_mask"]
    )[0]
    output = model(**batch, position_ids=positions, use_cache=True, logits_to_keep=1)
    if n > 1:
        output.past_key_values.batch_repeat_interleave(n)
    logits = output.logits[:, -1].repeat_interleave(n, dim=0)
    mask = batch["attention_mask"].repeat_interleave(n, dim=0)
    last = positions[:, :, -1:].repeat_interleave(n, dim=1)
    return _Rows(logits, mask, last, output.past_key_values, torch.arange(len(logits)))


def _step(model: Any, rows: _Rows, tokens: torch.Tensor) -> None:
    rows.mask = torch.cat([rows.mask, rows.mask.new_ones(len(tokens), 1)], dim=1)
    rows.positions = rows.positions + 1
    output = model(
        input_ids=tokens[:, None],
        # a new token sees all but padding; from a mask of two dimensions transformers would make this one with vmap,
        # which takes longer than the step of a small model
        attention_mask=rows.mask[:, None, None, :].bool(),
        position_ids=rows.positions,
        past_key_values=rows.cache,
        use_cache=True,
        cache_position=torch.tensor([rows.mask.shape[1] - 1]),
    )
    rows.logits = output.logits[:, -1]
