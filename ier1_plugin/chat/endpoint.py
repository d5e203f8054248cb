"""One OpenAI-compatible chat server: a request in, a completion out, and what can go wrong told apart.

    server = Endpoint("http://127.0.0.1:8000/v1", "decomposer", timeout=120.0)
    server.complete([{"role": "user", "content": "Say yes."}], {"temperature": 0.0})
    -> {"model": "decomposer", "choices": [{"finish_reason": "stop", "message": {"content": "yes"}}], ...}

vLLM, SGLang, OpenAI and gateways in front of them speak this protocol. The key is read from OPENAI_API_KEY; it is in no
message that leaves this module. One call is one request, but for parameters that the server does not know.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable
from typing import Any

from ier1_plugin.chat.request import ChatError, RequestRejected, TransientError
from ier1_plugin.chat.server import (
    CONNECT_SECONDS,
    EXAMPLE,
    HOPELESS,
    OPENAI,
    SHORTEST_KEY,
    WORTH_ANOTHER_TRY,
    checked_key,
    retry_after,
    without_password,
)

SHOWN = 300
DISPENSABLE = ("temperature", "seed", "max_completion_tokens", "max_tokens")


class Endpoint:
    """One server with one model; safe to use from several threads."""

    def __init__(
        self, base_url: str, model: str, timeout: float, on_warning: Callable[[str], None] = lambda line: None
    ):
        """`base_url`: "" for OpenAI itself, or OPENAI_BASE_URL. `timeout`: seconds a request. ChatError: no key."""
        base_url = base_url or os.environ.get("OPENAI_BASE_URL", "")
        self._key = checked_key("OPENAI_API_KEY")
        if base_url and not re.match(r"https?://[^/\s]", base_url):
            raise ChatError(f"{base_url!r} is no address; wanted one such as {EXAMPLE}")
        if not base_url and not self._key:
            raise ChatError(f"OPENAI_API_KEY is not set: export it, or name a server by its address, such as {EXAMPLE}")
        self.model = model
        self.address = without_password(base_url or OPENAI)
        self._client = _client(self._key, base_url or None, timeout)
        self._given_up: set[str] = set()
        self._lock = threading.Lock()
        self._tell = on_warning

    def complete(self, messages: list[dict[str, Any]], parameters: dict[str, Any]) -> dict[str, Any]:
        """The completion as the server sent it. TransientError, RequestRejected, or a ChatError that stands for every question."""
        if "max_completion_tokens" in parameters:
            parameters = parameters | {"max_tokens": parameters["max_completion_tokens"]}
        while True:
            sent = {name: value for name, value in parameters.items() if name not in self._given_up}
            if "max_completion_tokens" in sent:
                # its older name is for servers that know no other
                sent.pop("max_tokens", None)
            completion = self._send(messages, sent)
            if completion is not None:
                return completion

    def close(self) -> None:
        self._client.close()

    def _send(self, messages: list[dict[str, Any]], parameters: dict[str, Any]) -> dict[str, Any] | None:
        """None: the server does not know one of the parameters, which is left out from now on."""
        import openai

        body = {"model": self.model, "messages": messages, **parameters}
        try:
            # completions.create would take the messages apart and put them together again, half the work of a request
            reply = self._client.post("/chat/completions", body=body, cast_to=str)
        except openai.APIStatusError as error:
            if error.status_code in (400, 422) and self._concede(parameters, str(error)):
                return None
            raise self._what_is_wrong(error) from None
        except openai.APIError as error:
            raise TransientError(f"{self.address}: {self._clean(error.__cause__ or error)}") from None
        return self._read(reply)

    def _read(self, body: str) -> dict[str, Any]:
        # replies are kept, and what a gateway echoes must not be
        if len(self._key) >= SHORTEST_KEY:
            body = body.replace(self._key, "[key]")
        try:
            completion = json.loads(body)
        except (ValueError, RecursionError):
            completion = None
        if not isinstance(completion, dict) or not completion.get("choices"):
            raise TransientError(f"{self.address} sent no completion but {self._clean(body)[:60]!r}")
        return completion

    def _concede(self, sent: dict[str, Any], message: str) -> bool:
        """True if the refused request held a parameter that the next one will not hold."""
        name = next((name for name in DISPENSABLE if name in sent and re.search(rf"\b{name}\b", message)), None)
        if name is None:
            return False
        with self._lock:
            # several threads may be refused at once; one line is enough
            if name not in self._given_up:
                self._given_up.add(name)
                self._tell(f"{self.address} refused {name}: going on without it")
        return True

    def _what_is_wrong(self, error: Any) -> ChatError:
        status = error.status_code
        if status in HOPELESS:
            return ChatError(
                f"{self.address}: {HOPELESS[status].format(key='OPENAI_API_KEY')} (HTTP {status}, model {self.model})"
            )
        if error.code == "insufficient_quota":
            return ChatError(f"{self.address}: {HOPELESS[402]} (HTTP {status})")
        if status in WORTH_ANOTHER_TRY or status >= 500:
            return TransientError(f"{self.address}: HTTP {status}", retry_after(error.response.headers))
        return RequestRejected(f"{self.address} refused the request: {self._clean(error)}")

    def _clean(self, message: object) -> str:
        """One short line without the key."""
        text = " ".join(str(message).split()) or type(message).__name__
        return (text.replace(self._key, "[key]") if self._key else text)[:SHOWN]


def _client(key: str, base_url: str | None, timeout: float) -> Any:
    try:
        import openai
    except ImportError:
        raise ChatError("openai: needs the openai client; install it with: pip install -e '.[edit]'") from None
    limits = openai.Timeout(timeout, connect=min(timeout, CONNECT_SECONDS))
    # attempts are counted in one place, the chat's; local servers take any key, but the client insists on one
    return openai.OpenAI(api_key=key or "none", base_url=base_url, timeout=limits, max_retries=0)


def text_of(completion: dict[str, Any]) -> str:
    """What the model wrote, or how it refused; "" if there is no text. Holds nothing that UTF-8 can't carry."""
    choice = completion["choices"][0] if isinstance(completion["choices"], list) else None
    message = choice.get("message") if isinstance(choice, dict) else None
    message = message if isinstance(message, dict) else {}
    text = message.get("content") or message.get("refusal") or ""
    return str(text).encode("utf-8", "replace").decode("utf-8")
