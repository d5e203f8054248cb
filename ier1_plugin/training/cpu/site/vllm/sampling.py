"""How the next token of every row is chosen from its logits.

    choose(torch.tensor([[0.0, 2.0, 1.0]]), SamplingParams(temperature=0), generator)  -> tensor([1])

The order is vLLM's: logit bias, temperature, top_k, top_p, then one draw. Temperature 0 is greedy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper


@dataclass
class SamplingParams:
    """Fields and defaults as in vLLM, as far as EasyR1 sets them."""

    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = -1
    """-1 or 0: all tokens."""
    seed: int | None = None
    """Names the random stream to draw from; None: the engine's. The stream continues from call to call, whereas vLLM
    starts it anew for every request, which would give every training step the same noise."""
    max_tokens: int = 16
    ignore_eos: bool = False
    detokenize: bool = True
    """Ignored: token ids are all that EasyR1 reads."""
    logit_bias: dict[int, float] | None = None


def choose(logits: torch.Tensor, params: SamplingParams, generator: torch.Generator) -> torch.Tensor:
    """(rows, vocabulary) logits -> (rows,) token ids."""
    logits = logits.float()
    if params.logit_bias:
        logits = logits.clone()
        bias = torch.tensor([float(value) for value in params.logit_bias.values()])
        logits[:, [int(token) for token in params.logit_bias]] += bias
    if params.temperature == 0:
        return logits.argmax(dim=-1)
    warpers: list[Any] = [TemperatureLogitsWarper(float(params.temperature))]
    warpers += [TopKLogitsWarper(params.top_k)] if params.top_k > 0 else []
    warpers += [TopPLogitsWarper(params.top_p)] if params.top_p < 1 else []
    probabilities = torch.softmax(LogitsProcessorList(warpers)(None, logits), dim=-1)  # pyright: ignore[reportArgumentType]
    return torch.multinomial(probabilities, num_samples=1, generator=generator)[:, 0]
