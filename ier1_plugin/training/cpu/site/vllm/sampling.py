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
    logits = logits / params.temperature
    if 0 < params.top_k < logits.shape[-1]:
        smallest_kept = logits.topk(params.top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < smallest_kept, float("-inf"))
    probabilities = torch.softmax(logits, dim=-1)
    if params.top_p < 1:
        # the likeliest tokens up to and including the one that reaches top_p
        ordered, tokens = probabilities.sort(dim=-1, descending=True)
        ordered[ordered.cumsum(dim=-1) - ordered >= params.top_p] = 0
        probabilities = torch.zeros_like(probabilities).scatter_(-1, tokens, ordered)
    return torch.multinomial(probabilities, num_samples=1, generator=generator)[:, 0]
