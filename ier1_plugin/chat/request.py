"""What a vision-language model is asked and what it answers, whatever runs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ier1_plugin.runs.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

    from ier1_plugin.task.decomposer import Decomposer

BUDGET = (3136, 1003520)
"""Fewest and most pixels of an image: 4 and 1,280 tokens of Qwen2.5-VL, the budget of the shipped training configs."""
MAX_TOKENS = 2048
"""Tokens of a reply, as `data.max_response_length` in the shipped training configs."""


class ChatError(UserError):
    """The model can't be used, and no other request will fare better."""


class TransientError(ChatError):
    """The server failed for the moment; the same request may succeed after `wait` seconds."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class RequestRejected(ChatError):
    """The model won't take this request, such as one that is too long; others may pass."""

    def __init__(self, reason: str, filtered: bool = False) -> None:
        """`filtered`: a content filter stopped it, which it would do again."""
        super().__init__(reason)
        self.filtered = filtered


@dataclass(frozen=True)
class ChatRequest:
    """One question to a model."""

    messages: Sequence[dict[str, Any]]
    """Chat turns as `rows.messages` builds them; {"type": "image"} stands for the next of `images`."""
    images: tuple[Image.Image | bytes, ...] = ()
    """Already within the pixel budget (`images.prepare`); bytes are a PNG or JPEG file, sent as it is."""
    temperature: float = 0.0
    seed: int = 0
    max_tokens: int = MAX_TOKENS
    schema: dict[str, Any] | None = None
    """A JSON schema that the reply must follow, for strict mode of OpenAI's structured outputs. None: free text."""


@dataclass(frozen=True)
class Completion:
    """One reply. Its strings can always be encoded in UTF-8."""

    text: str
    refusal: str = ""
    """Why the model or a filter declined to answer."""
    cut_off: bool = False
    """True where the reply reached its length limit."""
    model: str = ""
    """The model's name, as the server reports it."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    """Reasoning counts."""
    only_thoughts: bool = False
    """True where the server gave reasoning and no text beside it."""

    def flaw(self, max_tokens: int) -> str:
        """Why the text may hold no answer, "" if nothing is known. `max_tokens`: those of the request."""
        if self.refusal:
            return f"declined: {self.refusal}"
        if self.cut_off:
            return f"cut off at {max_tokens:,} tokens; raise max_tokens"
        if self.only_thoughts:
            return (
                "the server sent all of the reply as reasoning and no text; serve the model without a reasoning parser"
            )
        return ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Completion:
        """The inverse of `as_dict`; other keys are ignored."""
        return cls(**{field.name: values[field.name] for field in fields(cls) if field.name in values})


class Chat(Protocol):
    """A model that answers requests, from several threads at once. Classes that inherit from it get the defaults."""

    name: str = "chat"
    """Such as "openai:gpt-4o" or "local:checkpoints/decomposer"; holds no password."""
    budget: tuple[int, int] = BUDGET
    """Fewest and most pixels of an image."""
    max_tokens: int = MAX_TOKENS
    """Most tokens of a reply, for the requests that agents make."""
    local: bool = False
    """True if the weights are in this process."""
    facts: Decomposer | None = None
    """The contents of decomposer.json, if the model is a folder that has one."""
    prompt: Path | None = None
    """The prompt that the weights were trained with, if it is not this package's."""

    def __call__(self, request: ChatRequest, /) -> Completion:
        """TransientError: the model gave no answer, after all retries. RequestRejected: it won't take this request.
        ChatError: it will take no request.
        """
        ...

    def close(self) -> None:
        """Cancels waiting for further attempts, and frees what can be freed."""
        return
