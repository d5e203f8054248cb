"""What `LLM.generate` returns: one RequestOutput a prompt, one CompletionOutput a sample."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class CompletionOutput:
    token_ids: list[int]


@dataclass
class RequestOutput:
    outputs: list[CompletionOutput] = field(default_factory=list)
