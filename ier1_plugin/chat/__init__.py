"""The only calls to vision-language models: a ChatRequest in, a Completion out.

chat = make_chat("openai:http://127.0.0.1:8000/v1#decomposer")
chat(ChatRequest(messages("remove the lamp"), (photo,)))
-> Completion(text='<think> It goes. </think>\\n<action>["Delete"]</action> ...', ...)
"""

from __future__ import annotations

import re
from collections.abc import Callable

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
    on_warning: Callable[[str], None] | None = None,
    attempts: int = 5,
    backoff: float = 1.0,
) -> Chat:
    """The chat that `spec` names (KINDS). ChatError: there is no such model, or it is not available on this machine.

    `budget`: fewest and most pixels of an image; None for the one that the weights were trained with. `timeout`:
    seconds per request. `attempts`: requests for one answer while the server fails. `backoff`: longest wait in seconds
    before the second attempt, doubled for each further one. `on_warning` gets a line for every long wait and every
    parameter that the server does not take.
    """
    kind, _, rest = spec.partition(":")
    if kind == "local" and rest:
        from ier1_plugin.chat.local import LocalChat

        return LocalChat(rest, budget)
    base_url, _, model = rest.rpartition("#") if "#" in rest else ("", "", rest)
    base_url, model = base_url.strip(), model.strip()
    if kind not in ("openai", "gemini") or not model or re.match(r"https?://", model):
        from ier1_plugin.chat.server import without_password

        raise ChatError(f"{without_password(spec)!r} names no model; wanted {KINDS}")
    if kind == "openai":
        from ier1_plugin.chat.server import OpenAIChat as RemoteChat
    else:
        from ier1_plugin.chat.gemini import GeminiChat as RemoteChat
    return RemoteChat(
        model,
        base_url,
        budget=budget or BUDGET,
        timeout=timeout,
        attempts=attempts,
        backoff=backoff,
        on_warning=on_warning or (lambda line: None),
    )
