"""The only calls to vision-language models: a ChatRequest in, the text that the model wrote out.

    chat = make_chat("openai:http://127.0.0.1:8000/v1#decomposer")
    chat(ChatRequest(messages("remove the lamp"), (photo,)))
    -> '<think> It goes. </think>\\n<action>["Delete"]</action>\\n<subjects>["lamp"]</subjects>\\n<goals>[]</goals>'

A Chat is any callable from ChatRequest to str. The two makers are `openai_chat` (one or several servers) and `local_chat`
(a folder with weights); what they make also has a `name`, the pixel `budget` of its images, `local` and `close`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_any,
    stop_when_event_set,
    wait_random_exponential,
)
from tenacity.nap import sleep_using_event

from ier1_plugin.chat.server import ChatError, Endpoint, RequestRejected, TransientError
from ier1_plugin.task.images import data_url, png_bytes

if TYPE_CHECKING:
    from PIL import Image

    from ier1_plugin.chat.local import LocalChat

__all__ = [
    "Chat",
    "ChatError",
    "ChatRequest",
    "RequestRejected",
    "TransientError",
    "local_chat",
    "make_chat",
    "openai_chat",
]

BUDGET = (3136, 1003520)
"""Fewest and most pixels of an image: 4 and 1,280 tokens of Qwen2.5-VL, the budget of the shipped training configs."""
MAX_TOKENS = 2048
"""Of a reply, as `data.max_response_length` in the shipped training configs."""
TIMEOUT, ATTEMPTS, MAX_BACKOFF = 120.0, 5, 30.0
# seconds of waiting that a person would wonder about
WORTH_A_LINE = 1.0
# a server that just failed is left alone for this many seconds while others answer, twice as long each time
REST, MAX_REST = 10.0, 300.0
KINDS = "openai:BASE_URL[,BASE_URL...]#MODEL or local:FOLDER"


@dataclass(frozen=True)
class ChatRequest:
    """One question to a model."""

    messages: Sequence[dict[str, Any]]
    """Chat turns as `rows.messages` builds them; {"type": "image"} stands for the next of `images`."""
    images: tuple[Image.Image, ...] = ()
    """Already within the pixel budget (`images.prepare`)."""
    temperature: float = 0.0
    seed: int = 0
    max_tokens: int = MAX_TOKENS
    schema: dict[str, Any] | None = None
    """A JSON schema that the reply must keep: structured output. None: the model writes as it likes."""


Chat = Callable[[ChatRequest], str]


def make_chat(spec: str, **settings: Any) -> Chat:
    """A chat from "openai:BASE_URL#MODEL" or "local:FOLDER"; ChatError says what is wrong with `spec`."""
    kind, _, rest = spec.partition(":")
    if kind == "local" and rest:
        return local_chat(rest, **{name: settings[name] for name in ("budget",) if name in settings})
    urls, _, model = rest.partition("#")
    if kind != "openai" or not model:
        raise ChatError(f"{spec!r} names no model; wanted {KINDS}")
    return openai_chat(model, [url.strip() for url in urls.split(",")], **settings)


def openai_chat(
    model: str,
    base_urls: Sequence[str] = ("",),
    *,
    budget: tuple[int, int] = BUDGET,
    timeout: float = TIMEOUT,
    attempts: int = ATTEMPTS,
    backoff: float = 1.0,
    on_warning: Callable[[str], None] = lambda line: None,
) -> OpenAIChat:
    """A chat with `model` behind one or several OpenAI-compatible servers, of which the least busy gets the question.

    `timeout`: seconds a request. `attempts`: requests a question, and one more for each further server. `backoff`:
    longest wait in seconds before the second attempt, doubled for each further one; none while a server is left that
    did not just fail. ChatError: no key, no client, a bad address.
    """
    return OpenAIChat(
        [Endpoint(url, model, timeout, on_warning) for url in base_urls], budget, attempts, backoff, on_warning
    )


def local_chat(folder: str, budget: tuple[int, int] | None = None) -> LocalChat:
    """A chat with the weights in `folder`, on the GPU if there is one. `budget`: None for what decomposer.json says."""
    from ier1_plugin.chat.local import LocalChat

    return LocalChat(folder, budget)


class OpenAIChat:
    """What `openai_chat` makes; safe to use from several threads."""

    local = False

    def __init__(
        self,
        endpoints: list[Endpoint],
        budget: tuple[int, int],
        attempts: int,
        backoff: float,
        on_warning: Callable[[str], None],
    ) -> None:
        self.name = f"openai:{','.join(endpoint.address for endpoint in endpoints)}#{endpoints[0].model}"
        self.budget = budget
        self._pool = _Pool(endpoints)
        # dead servers must not use up the attempts of a question that another would answer
        self._attempts = attempts + len(endpoints) - 1
        self._backoff = wait_random_exponential(multiplier=backoff, max=MAX_BACKOFF)
        self._tell = on_warning
        self._closed = threading.Event()

    def __call__(self, question: ChatRequest) -> str:
        """TransientError: no server answered in time; RequestRejected: this question won't do; ChatError: none ever will."""
        messages, parameters = _wire(question), _parameters(question)
        retrying = Retrying(
            retry=retry_if_exception_type(TransientError),
            stop=stop_any(stop_after_attempt(self._attempts), stop_when_event_set(self._closed)),
            wait=self._pause,
            sleep=sleep_using_event(self._closed),
            before_sleep=self._say_so,
            reraise=True,
        )
        try:
            return retrying(self._ask, messages, parameters)
        except TransientError as error:
            raise TransientError(f"no answer in {self._attempts} attempts, the last time: {error}") from None

    def close(self) -> None:
        """No further attempts: who waits for one gets his TransientError. Requests under way still get their answer."""
        self._closed.set()
        self._pool.close()

    def _ask(self, messages: list[dict[str, Any]], parameters: dict[str, Any]) -> str:
        if self._closed.is_set():
            raise TransientError("closed while it waited")
        with self._pool.lent() as endpoint:
            return text_of(endpoint.complete(messages, parameters))

    def _say_so(self, state: RetryCallState) -> None:
        if state.upcoming_sleep >= WORTH_A_LINE and state.outcome:
            self._tell(f"{state.outcome.exception()}; asking again in {state.upcoming_sleep:.0f} s")

    def _pause(self, state: RetryCallState) -> float:
        if self._pool.has_fresh():
            return 0.0
        error = state.outcome.exception() if state.outcome else None
        return max(getattr(error, "wait", 0.0), self._backoff(state))


class _Pool:
    """Servers that share the work. One that failed gets nothing for a while, unless all have failed."""

    def __init__(self, endpoints: list[Endpoint]) -> None:
        self._endpoints = endpoints
        self._busy = dict.fromkeys(endpoints, 0)
        self._failures = dict.fromkeys(endpoints, 0)
        self._rests_until = dict.fromkeys(endpoints, 0.0)
        self._lock = threading.Lock()

    @contextmanager
    def lent(self) -> Iterator[Endpoint]:
        """A server for one request; TransientError inside sends it to rest, longer each time."""
        endpoint = self._take()
        try:
            yield endpoint
        except TransientError as error:
            self._send_to_rest(endpoint, error.wait)
            raise
        else:
            self._failures[endpoint], self._rests_until[endpoint] = 0, 0.0
        finally:
            with self._lock:
                self._busy[endpoint] -= 1

    def has_fresh(self) -> bool:
        """True if there is a server that did not just fail."""
        with self._lock:
            return any(until <= monotonic() for until in self._rests_until.values())

    def close(self) -> None:
        with self._lock:
            for endpoint in self._endpoints:
                if not self._busy[endpoint]:
                    endpoint.close()

    def _send_to_rest(self, endpoint: Endpoint, at_least: float) -> None:
        with self._lock:
            self._failures[endpoint] += 1
            longer = REST * 2 ** min(self._failures[endpoint] - 1, 10)
            self._rests_until[endpoint] = monotonic() + max(at_least, min(MAX_REST, longer))

    def _take(self) -> Endpoint:
        with self._lock:
            now = monotonic()
            fresh = [endpoint for endpoint in self._endpoints if self._rests_until[endpoint] <= now]
            chosen = min(fresh or self._endpoints, key=lambda endpoint: self._busy[endpoint])
            self._busy[chosen] += 1
            # to the end of the line: among equally busy ones the work goes round
            self._endpoints.remove(chosen)
            self._endpoints.append(chosen)
        return chosen


def text_of(completion: dict[str, Any]) -> str:
    """What the model wrote, or how it refused; "" if there is no text. Holds nothing that UTF-8 can't carry."""
    choice = completion["choices"][0] if isinstance(completion["choices"], list) else None
    message = choice.get("message") if isinstance(choice, dict) else None
    message = message if isinstance(message, dict) else {}
    text = message.get("content") or message.get("refusal") or ""
    return str(text).encode("utf-8", "replace").decode("utf-8")


def _wire(question: ChatRequest) -> list[dict[str, Any]]:
    """The messages with the images in their places, in OpenAI's form."""
    images = iter(question.images)
    return [message | {"content": _content(message["content"], images)} for message in question.messages]


def _content(content: Any, images: Any) -> Any:
    if isinstance(content, str):
        return content
    return [
        {"type": "image_url", "image_url": {"url": data_url(png_bytes(next(images)))}}
        if part["type"] == "image"
        else part
        for part in content
    ]


def _parameters(question: ChatRequest) -> dict[str, Any]:
    parameters: dict[str, Any] = {
        "temperature": question.temperature,
        "seed": question.seed,
        "max_completion_tokens": question.max_tokens,
    }
    if question.schema:
        wanted = {"name": "answer", "strict": True, "schema": question.schema}
        parameters["response_format"] = {"type": "json_schema", "json_schema": wanted}
    return parameters
