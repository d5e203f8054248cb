"""How the next token of every row is chosen from its logits.

    choose(torch.tensor([[0.0, 2.0, 1.0]]), SamplingParams(temperature=0), generator)  -> tensor([1])

The order is vLLM's: logit bias, temperature, top_k, top_p, then one draw. Temperature 0 is greedy.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass
class SamplingParams:
    """Fields and defaults as in vLLM, as far as EasyR1 sets them."""

    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = -1
    """-1 or 0: all tokens."""
    seed: int | None = None
    """Names the random stream to draw from; None: the engine's. The stream goes on from call to call, whereas vLLM
    starts it anew for every request, which would give every training step the same noise."""
    max_tokens: int = 16
    ignore_eos: bool = False
    detokenize: bool = True
    """Ignored: token ids are all that EasyR1 reads."""
    logit_bias: dict[int, float] | None = None


def choose(logits: torch.Tensor, params: SamplingParams, generator: torch.Generator) -> torch.Tensor:
    """(rows, vocabulary) logits -> (rows,) token ids."""
    logits = _biased(logits.float(), params.logit_bias)
    if params.temperature == 0:
        return logits.argmax(dim=-1)
    probabilities = torch.softmax(_top_k(logits / params.temperature, params.top_k), dim=-1)
    return torch.multinomial(_top_p(probabilities, params.top_p), num_samples=1, generator=generator)[:, 0]


def _biased(logits: torch.Tensor, bias: dict[int, float] | None) -> torch.Tensor:
    if not bias:
        return logits
    logits = logits.clone()
    logits[:, [int(token) for token in bias]] += torch.tensor([float(value) for value in bias.values()])
    return logits


def _top_k(logits: torch.Tensor, top_k: int) -> torch.Tensor:
    if not 0 < top_k < logits.shape[-1]:
        return logits
    smallest_kept = logits.topk(top_k, dim=-1).values[:, -1:]
    return logits.masked_fill(logits < smallest_kept, float("-inf"))


def _top_p(probabilities: torch.Tensor, top_p: float) -> torch.Tensor:
    """Keeps the likeliest tokens up to and including the one that reaches top_p."""
    if top_p >= 1:
        return probabilities
    ordered, tokens = probabilities.sort(dim=-1, descending=True)
    ordered[ordered.cumsum(dim=-1) - ordered >= top_p] = 0
    return torch.zeros_like(probabilities).scatter_(-1, tokens, ordered)
