"""A model behind an OpenAI-compatible server, and what every client of an HTTP API shares: keys, retries, errors.

    chat = OpenAIChat("decomposer", "http://127.0.0.1:8000/v1")
    chat(ChatRequest([{"role": "user", "content": "Say yes."}]))     # Completion(text="yes", model="decomposer", ...)

vLLM, SGLang, OpenAI and gateways in front of them speak this protocol. The key is read from OPENAI_API_KEY; no message
and no completion that leaves this module contains it. A parameter that a server rejects, such as a temperature or a
schema, is not sent to it again.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from time import time
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ier1_plugin.chat.request import BUDGET, Chat, ChatError, ChatRequest, Completion, RequestRejected, TransientError
from ier1_plugin.prompts import render
from ier1_plugin.runs.errors import one_line
from ier1_plugin.task.rows import without_surrogates

OPENAI, EXAMPLE = "api.openai.com", "http://127.0.0.1:8000/v1"
TIMEOUT, CONNECT_SECONDS = 120.0, 10.0
# a day: what is longer is more likely a mistake, and overflows the clocks of HTTP clients
MAX_TIMEOUT = 86_400.0
ATTEMPTS, MAX_BACKOFF = 5, 60.0
# a server that asks for a longer rest is asked again after this many seconds all the same
MAX_RETRY_AFTER = 300.0
# seconds of waiting that a person would wonder about
WORTH_A_LINE = 1.0
# anything shorter is a placeholder, such as "none", which may be a word of the reply
SHORTEST_KEY = 8
HOPELESS = {
    401: "the key in {key} was not accepted",
    402: "the account has no credit left",
    403: "the key in {key} has no access to this model",
    404: "there is no such model or address",
}
WORTH_ANOTHER_TRY = (408, 409, 425, 429)
REASONS = {408: "the server gave up waiting", 413: "the request is too large for the server", 429: "too many requests"}
# what a server may refuse without harm to the answer: reasoning models of OpenAI take no temperature, Mistral's API no
# seed, older servers only the old name of the length limit; without a response_format the schema goes into the text
DISPENSABLE = {
    "response_format": r"response.?format|json.?schema|structured|grammar|guided",
    "temperature": r"\btemperature\b",
    "seed": r"\bseed\b",
    "max_completion_tokens": r"\bmax_completion_tokens\b",
    "max_tokens": r"\bmax_tokens\b",
}
# such a message may name max_tokens as well, which is not to blame
_TOO_LONG = re.compile(r"context.?length|context.?window|model.?len", re.IGNORECASE)
_FILTERED = re.compile(
    r"content.?filter|content management policy|content.?policy|safety system|responsible.?ai", re.IGNORECASE
)
Result = TypeVar("Result")


class OpenAIChat(Chat):
    """One server with one model."""

    def __init__(
        self,
        model: str,
        base_url: str = "",
        *,
        budget: tuple[int, int] = BUDGET,
        timeout: float = TIMEOUT,
        attempts: int = ATTEMPTS,
        backoff: float = 1.0,
        on_warning: Callable[[str], None] = lambda line: None,
    ) -> None:
        """`base_url`: "" for OpenAI itself, or OPENAI_BASE_URL. `timeout`: seconds per request. `attempts`, `backoff`:
        see `Retries`. ChatError: no key, no client, a bad address.
        """
        base_url = checked_address(base_url or os.environ.get("OPENAI_BASE_URL", ""))
        self._key = checked_key("OPENAI_API_KEY")
        if not base_url and not self._key:
            raise ChatError(f"OPENAI_API_KEY is not set: export it, or name a server by its address, such as {EXAMPLE}")
        try:
            import openai
        except ImportError:
            raise ChatError("openai: needs the openai client; install it with: pip install -e '.[edit]'") from None
        own = not base_url or urlsplit(base_url).hostname == OPENAI
        self.model = model
        self.address = OPENAI if own else without_password(base_url)
        self.name = f"openai:{model}" if own else f"openai:{self.address}#{model}"
        self.budget = budget
        limits = openai.Timeout(timeout, connect=min(timeout, CONNECT_SECONDS))
        # local servers take any key, but the client insists on one; attempts are counted in one place, `Retries`
        self._client = openai.OpenAI(
            api_key=self._key or "none", base_url=base_url or None, timeout=limits, max_retries=0
        )
        self._retries = Retries(attempts, backoff, on_warning)
        self._given_up: set[str] = set()
        self._lock = threading.Lock()
        self._warn = on_warning

    def __call__(self, request: ChatRequest, /) -> Completion:
        from ier1_plugin.task.images import data_url, png_bytes

        files = (image if isinstance(image, bytes) else png_bytes(image) for image in request.images)
        messages = []
        for turn in request.messages:
            if isinstance(turn["content"], str):
                messages.append(turn)
                continue
            content = list(turn["content"])
            for place, part in enumerate(content):
                if part["type"] == "image":
                    content[place] = {"type": "image_url", "image_url": {"url": data_url(next(files))}}
            messages.append(turn | {"content": content})
        body: dict[str, Any] = {
            "model": self.model,
            "messages": messages,
            "temperature": request.temperature,
            "seed": request.seed,
            "max_completion_tokens": request.max_tokens,
        }
        if request.schema:
            form = {"name": "answer", "strict": True, "schema": request.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        return self._retries(lambda: self._complete(body, request))

    def close(self) -> None:
        """Makes no further attempts: waiting callers get a TransientError. Requests under way still get an answer."""
        self._retries.close()

    def _complete(self, wanted: dict[str, Any], request: ChatRequest) -> Completion:
        """One request, and one more for every parameter that the server turns out to reject."""
        import openai

        while True:
            given_up = frozenset(self._given_up)
            body = {name: value for name, value in wanted.items() if name not in given_up}
            if "max_completion_tokens" in given_up and "max_tokens" not in given_up:
                body["max_tokens"] = request.max_tokens
            if request.schema and "response_format" in given_up:
                # the last turn ends with the schema in words
                *before, last = wanted["messages"]
                text = last["content"]
                content = [{"type": "text", "text": text}] if isinstance(text, str) else text
                form = {"type": "text", "text": render("schema", schema=json.dumps(request.schema))}
                body["messages"] = [*before, last | {"content": [*content, form]}]
            try:
                # completions.create would take the messages apart and put them together again: half of all the work
                reply = self._client.post("/chat/completions", body=body, cast_to=str)
                break
            except openai.APIStatusError as error:
                message = one_line(error_message(error.response.text), (self._key,))
                if error.status_code not in (400, 422) or not self._gives_up(body, message):
                    where = f"{self.address}, model {self.model}"
                    raise client_failure(error, where, "OPENAI_API_KEY", self._key) from None
            except openai.APIError as error:
                raise client_failure(error, self.address, "OPENAI_API_KEY", self._key) from None
        if len(self._key) >= SHORTEST_KEY:
            # replies are kept, and what a gateway echoes must not be
            reply = reply.replace(self._key, "***")
        try:
            return _completion(json.loads(reply))
        except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
            begin = one_line(reply, (self._key,))[:60]
            raise TransientError(f"{self.address} sent no completion but {begin!r}") from None

    def _gives_up(self, sent: Mapping[str, Any], message: str) -> bool:
        """True if the rejected request had a parameter that the next one will leave out."""
        named = (name for name, words in DISPENSABLE.items() if name in sent and re.search(words, message, re.I))
        name = None if _TOO_LONG.search(message) else next(named, None)
        if name is None:
            return False
        with self._lock:
            # several threads may be refused at once; one line is enough
            if name not in self._given_up:
                self._given_up.add(name)
                instead = "with the schema in the text" if name == "response_format" else "without it"
                self._warn(f"{self.address} refused {name}: continuing {instead}")
        return True


class Retries:
    """The retry policy of all clients: `attempts` attempts, with a longer wait after each TransientError."""

    def __init__(self, attempts: int, backoff: float, on_warning: Callable[[str], None]) -> None:
        """`backoff`: longest wait in seconds before the second attempt, doubled for each further one."""
        from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, stop_any, stop_when_event_set
        from tenacity import wait_random_exponential as random_exponential
        from tenacity.nap import sleep_using_event

        self._closed = threading.Event()
        growing = random_exponential(multiplier=backoff, max=MAX_BACKOFF)

        def warn(state: Any) -> None:
            if state.upcoming_sleep >= WORTH_A_LINE:
                on_warning(f"{state.outcome.exception()}; asking again in {state.upcoming_sleep:.0f} s")

        self._retrying = Retrying(
            retry=retry_if_exception_type(TransientError),
            stop=stop_any(stop_after_attempt(attempts), stop_when_event_set(self._closed)),
            wait=lambda state: max(getattr(state.outcome and state.outcome.exception(), "wait", 0.0), growing(state)),
            sleep=sleep_using_event(self._closed),
            before_sleep=warn,
            reraise=True,
        )

    def __call__(self, attempt: Callable[[], Result]) -> Result:
        """What `attempt` returns. TransientError: it raised one each time, or `close` was called."""
        made = 0

        def once() -> Result:
            nonlocal made
            if self._closed.is_set():
                raise TransientError("closed while it waited")
            made += 1
            return attempt()

        try:
            return self._retrying(once)
        except TransientError as error:
            raise TransientError(f"no answer in {made} attempts, the last time: {error}", error.wait) from None

    def close(self) -> None:
        """Ends all waiting; no further attempt is made."""
        self._closed.set()


def failure(where: str, status: int, message: str, key_name: str, headers: Mapping[str, str]) -> ChatError:
    """The error for an HTTP status. `message`: the server's own words. `key_name`: the variable that holds the key."""
    if "insufficient_quota" in message:
        status = 402
    if status in HOPELESS:
        return ChatError(f"{where}: {HOPELESS[status].format(key=key_name)} (HTTP {status})")
    reason = REASONS.get(status, "the server failed" if status >= 500 else "")
    if status in WORTH_ANOTHER_TRY or status >= 500:
        return TransientError(f"{where}: {reason or message} (HTTP {status})", retry_after(headers))
    words = ": ".join(filter(None, (reason, message)))
    return RequestRejected(f"{where} refused the request (HTTP {status}): {words}", bool(_FILTERED.search(message)))


def client_failure(error: Any, where: str, key_name: str, key: str) -> ChatError:
    """The error for an exception of the openai client; `key` is the secret in the variable `key_name`."""
    import openai

    if not isinstance(error, openai.APIStatusError):
        return TransientError(f"{where}: {one_line(error.__cause__ or error, (key,))}")
    message = one_line(error_message(error.response.text), (key,))
    return failure(where, error.status_code, message, key_name, error.response.headers)


def error_message(body: str) -> str:
    """What an error reply says: OpenAI's {"error": {"message"}}, FastAPI's {"detail"}, {"message"}, text or HTML."""

    def words(value: Any) -> str:
        if isinstance(value, list):
            return "; ".join(map(words, value))
        if not isinstance(value, dict):
            return str(value)
        said = next((words(value[key]) for key in ("error", "message", "detail", "msg") if value.get(key)), "")
        place = value.get("loc")
        notes = [value.get("param"), value.get("code"), *(place if isinstance(place, list) else [])]
        more = ", ".join(note for note in notes if isinstance(note, str) and note not in said)
        return (said or json.dumps(value)) + (more and f" ({more})")

    try:
        return words(json.loads(body))
    except (ValueError, RecursionError):
        return re.sub(r"<(script|style)\b.*?</\1>|<[^>]*>", " ", body, flags=re.DOTALL | re.IGNORECASE).strip()


def checked_key(name: str) -> str:
    """The key in the environment variable `name`, "" without one. ChatError: it can't be sent."""
    key = os.environ.get(name, "").strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ChatError(f"{name} holds a character that no key has; was it copied with quotes?")
    return key


def checked_address(base_url: str) -> str:
    """The address of one server, "" for none. ChatError: it is not an address, or several."""
    if "," in base_url:
        raise ChatError(
            f"{without_password(base_url)!r} names several servers; wanted one: put a load balancer in front of them, "
            "or serve with data parallelism"
        )
    if base_url and not re.match(r"https?://[^/\s]", base_url):
        raise ChatError(f"{base_url!r} is not an address; wanted one such as {EXAMPLE}")
    return base_url


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that a server asks clients to wait: Retry-After as a number or a date (RFC 9110, 10.2.3); 0 without
    it."""
    value = headers.get("retry-after", "")
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time()
        except (ValueError, TypeError):
            return 0.0
    # written so that NaN gives 0
    return min(seconds, MAX_RETRY_AFTER) if seconds > 0 else 0.0


def without_password(text: str) -> str:
    """The text with user and password removed from every address in it."""
    return re.sub(r"//[^/@\s]*@", "//", text)


def clean_text(text: Any) -> str:
    """A model's text without lone surrogates, which UTF-8 can't encode."""
    return without_surrogates(str(text or ""))


def _completion(reply: dict[str, Any]) -> Completion:
    """The completion in a server's reply; a malformed reply raises KeyError, TypeError and the like."""
    choice = reply["choices"][0]
    message = choice.get("message") or {}
    filtered = "content filter" if choice.get("finish_reason") == "content_filter" else ""
    usage = reply.get("usage") or {}
    tokens = {name: usage.get(name) for name in ("prompt_tokens", "completion_tokens")}
    return Completion(
        text=clean_text(message.get("content")),
        refusal=clean_text(message.get("refusal") or filtered),
        cut_off=choice.get("finish_reason") == "length",
        model=clean_text(reply.get("model")),
        **{name: count if type(count) is int else None for name, count in tokens.items()},
    )
