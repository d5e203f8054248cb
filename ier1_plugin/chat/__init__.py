"""The only calls to vision-language models: a ChatRequest in, a Completion out.

chat = make_chat("openai:http://127.0.0.1:8000/v1#decomposer")
chat(ChatRequest(messages("remove the lamp"), (photo,)))
-> Completion(text='<think> It goes. </think>\\n<action>["Delete"]</action> ...', ...)
"""

from __future__ import annotations

import re
from collections.abc import Callable

from ier1_plugin.chat.http import Retries
from ier1_plugin.chat.request import (
    BUDGET,
    MAX_TOKENS,
    Chat,
    ChatError,
    ChatRequest,
    Completion,
    RequestRejected,
    TransientError,
)
from ier1_plugin.runs.secrets import without_password

__all__ = [
    "BUDGET",
    "MAX_TOKENS",
    "Chat",
    "ChatError",
    "ChatRequest",
    "Completion",
    "RequestRejected",
    "TransientError",
    "make_chat",
]

KINDS = "openai:BASE_URL#MODEL, openai:MODEL, gemini:MODEL or local:FOLDER"


def make_chat(
    spec: str,
    *,
    budget: tuple[int, int] | None = None,
    timeout: float = 120.0,
    max_tokens: int = MAX_TOKENS,
    on_warning: Callable[[str], None] | None = None,
    attempts: int = 5,
    backoff: float = 1.0,
) -> Chat:
    """The chat that `spec` names (KINDS). ChatError: there is no such model, or it is not available on this machine.

    `budget`: fewest and most pixels of an image; None for the one that the weights were trained with. `timeout`:
    seconds per request. `max_tokens`: of a reply, for requests that agents make. `attempts`: requests for one answer
    while the server fails. `backoff`: longest wait in seconds before the second attempt, doubled for each further one.
    `on_warning` gets a line for every long wait and every parameter that the server does not take.
    """
    kind, _, rest = spec.partition(":")
    if kind == "local" and rest:
        from ier1_plugin.chat.local import LocalChat

        return LocalChat(rest, budget, max_tokens)
    base_url, _, model = (part.strip() for part in rest.rpartition("#"))
    if kind not in ("openai", "gemini") or not model or re.match(r"https?://", model):
        raise ChatError(f"{without_password(spec)!r} names no model; wanted {KINDS}")
    if kind == "openai":
        from ier1_plugin.chat.server import OpenAIChat as RemoteChat
    else:
        from ier1_plugin.chat.gemini import GeminiChat as RemoteChat
    retries = Retries(attempts, backoff, on_warning or (lambda line: None))
    return RemoteChat(model, base_url, budget or BUDGET, timeout, max_tokens, retries)
