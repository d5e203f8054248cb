"""A judge behind an OpenAI-compatible server.

    made = make("gpt-4o-2024-11-20", "", JudgePrompt.read(), Asking(), timeout=120.0, max_tokens=None, tell=print)
    made.ask(made.show(Case(source, edited, "remove the lamp")), 0, 0)
    -> Reply(score=Score(4, 2, 3), text='{"reasoning": "The lamp is gone, ...", "fulfilment": 4, ...}', ...)

The reply is held to its form by a JSON schema, by plain JSON where a server knows no schemas, or by the words alone.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from ier1_plugin.chat.endpoint import Endpoint, text_of
from ier1_plugin.chat.request import RequestRejected
from ier1_plugin.chat.server import OPENAI
from ier1_plugin.evaluation.judges.base import Case, Reply
from ier1_plugin.evaluation.judges.prompt import EDITED_LABEL, SOURCE_LABEL, Asking, JudgeBackend, JudgePrompt
from ier1_plugin.evaluation.judges.verdict import cut_off, read_reply, refusal
from ier1_plugin.evaluation.records import DIMENSIONS
from ier1_plugin.task.images import data_url

# a verdict is short; the rest is room for models that reason first, and an end to those that never stop
MAX_TOKENS = 4096
_SCALES = {name: {"type": "integer", "enum": list(range(highest + 1))} for name, highest in DIMENSIONS.items()}
# strict mode of OpenAI's structured outputs: every key required and no others; what is written first is thought first
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"reasoning": {"type": "string"}, **_SCALES},
    "required": ["reasoning", *DIMENSIONS],
    "additionalProperties": False,
}
FORMS: tuple[dict[str, Any] | None, ...] = (
    {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": SCHEMA}},
    {"type": "json_object"},
    None,
)
# how servers name the form of the reply when they refuse it
_FORM_NAMES = re.compile(r"response.?format|json.?schema|json.?object|structured|grammar|guided", re.IGNORECASE)
_FILTERED = re.compile(
    r"content.?filter|content management policy|content.?policy|safety system|responsible.?ai", re.IGNORECASE
)


def make(
    model: str,
    base_url: str,
    prompt: JudgePrompt,
    asking: Asking,
    timeout: float,
    max_tokens: int | None,
    on_warning: Callable[[str], None],
) -> JudgeBackend:
    """ChatError: no key, no client, a bad address."""
    endpoint = Endpoint(base_url, model, timeout, on_warning)
    form = _Form(endpoint.address, on_warning)

    def ask(messages: list[dict[str, Any]], sample: int, attempt: int) -> Reply:
        temperature, seed = asking.sampling(sample, attempt)
        parameters = {"temperature": temperature, "seed": seed, "max_completion_tokens": max_tokens or MAX_TOKENS}
        try:
            return read(form.complete(endpoint, messages, parameters))
        except RequestRejected as error:
            # the code of the client's error stands in none of its messages
            if _FILTERED.search(f"{error} {getattr(error.__context__, 'code', '')}"):
                return _reply(None, f"refusal: {error}", final=True)
            raise

    return JudgeBackend(ask, partial(_messages, prompt, asking), endpoint.close, _known(endpoint.address))


def read(completion: dict[str, Any]) -> Reply:
    """The reply in a chat completion."""
    first = completion["choices"][0] if isinstance(completion["choices"], list) else None
    choice = first if isinstance(first, dict) else {}
    message, text = choice.get("message"), text_of(completion)
    refused = isinstance(message, dict) and message.get("refusal")
    if refused or choice.get("finish_reason") == "content_filter":
        verdict = refusal(text)
    elif choice.get("finish_reason") == "length":
        verdict = cut_off(text)
    else:
        verdict = read_reply(text)
    usage = completion.get("usage")
    return _reply(*verdict, text=text, usage=usage, model=str(completion.get("model") or ""))


def _known(address: str) -> str:
    """The address, or OPENAI however its own one is written."""
    return OPENAI if urlsplit(address).hostname == OPENAI else address


class _Form:
    """The strictest form of reply that the server takes; safe to use from several threads."""

    def __init__(self, address: str, on_warning: Callable[[str], None]) -> None:
        self._address = address
        self._tell = on_warning
        self._rung = 0
        self._lock = threading.Lock()

    def complete(
        self, endpoint: Endpoint, messages: list[dict[str, Any]], parameters: dict[str, Any]
    ) -> dict[str, Any]:
        while True:
            rung = self._rung
            form = {"response_format": FORMS[rung]} if FORMS[rung] else {}
            try:
                return endpoint.complete(messages, parameters | form)
            except RequestRejected as error:
                if not form or not _FORM_NAMES.search(str(error)):
                    raise
                self._concede(rung)

    def _concede(self, rung: int) -> None:
        with self._lock:
            # several threads may be refused at once; one step is enough
            if self._rung == rung:
                self._rung += 1
                kinds = [form["type"] if form else "the form in words" for form in FORMS]
                self._tell(f"{self._address} refused {kinds[rung]}: going on with {kinds[rung + 1]}")


def _messages(prompt: JudgePrompt, asking: Asking, case: Case) -> list[dict[str, Any]]:
    source, edited = asking.images(case)
    content = [_text(SOURCE_LABEL), _image(source), _text(EDITED_LABEL), _image(edited)]
    return [{"role": "user", "content": [*content, _text(prompt.question(case.request))]}]


def _text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def _image(encoded: bytes) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": data_url(encoded)}}


def _reply(score: Any, unscored: str, *, usage: Any = None, **more: Any) -> Reply:
    counts = usage if isinstance(usage, dict) else {}
    tokens = {name: _count(counts.get(name)) for name in ("prompt_tokens", "completion_tokens")}
    return Reply(score, unscored, **tokens, **more)


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
