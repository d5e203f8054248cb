"""What every client of an HTTP API shares: keys, addresses, retries, and the words of a server that refuses.

retries = Retries(attempts=5, backoff=1.0, on_warning=print)
retries(lambda: client.get(...))      # asks again after each TransientError
failure("openai:gpt-4o", 429, '{"error": {"message": "Rate limit"}}', headers, "OPENAI_API_KEY", key)
-> TransientError("openai:gpt-4o: too many requests: Rate limit (HTTP 429)")
"""

from __future__ import annotations

import html
import json
import os
import re
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from time import time
from typing import Any, TypeVar

from ier1_plugin.chat.request import ChatError, RequestRejected, TransientError
from ier1_plugin.runs.errors import one_line
from ier1_plugin.runs.secrets import without_password

EXAMPLE = "http://127.0.0.1:8000/v1"
# a day: what is longer is more likely a mistake, and overflows the clocks of HTTP clients
MAX_TIMEOUT = 86_400.0
MAX_BACKOFF = 60.0
# a server that asks for a longer rest is asked again after this many seconds all the same
MAX_RETRY_AFTER = 300.0
# nobody waits so many seconds: it is a time since 1970
EPOCH = 1e9
# seconds of waiting that a person would wonder about
WORTH_A_LINE = 1.0
# a server that takes none of this many requests will not take the others either
MAX_REJECTED_AT_START = 5
HOPELESS = (401, 402)
WORTH_ANOTHER_TRY = (408, 409, 425, 429)
REASONS = {
    401: "the key in {key} was not accepted",
    402: "the account has no credit left",
    403: "access denied",
    404: "not found",
    408: "the server gave up waiting",
    413: "the request is too large for the server",
    429: "too many requests",
}
_FILTERED = re.compile(
    r"content.?filter|content.{0,12}policy|usage policy|safety|moderation|flagged|guardrail|responsible.?ai"
    r"|violat.{0,20}polic|inappropriate|sensitive.?content|prohibited.?content|data.?inspection",
    re.IGNORECASE,
)
# where an error reply has its words, from the general to the particular
WORDS = ("error", "errors", "title", "message", "msg", "detail", "error_description", "metadata", "raw", "reasons")
# characters of a text that are searched for words
MAX_TEXT = 4_000
# "retryDelay": "41s" of Google's RetryInfo; "retry_after_ms": 500; "Please try again in 1m30s."; no dates
_WAIT = re.compile(
    r"(\"retryDelay\"\s*:\s*\"|(?:retry|try again|wait|reset)[^\d.;]{0,20})"
    r"((?:\d+(?:\.\d+)?(?![\d.]*[:-])\s*[a-z]*\s*)+)",
    re.IGNORECASE,
)
_SECONDS = {
    **dict.fromkeys(("ms", "millisecond", "milliseconds"), 0.001),
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hour", "hours"), 3600.0),
}
Result = TypeVar("Result")


class Retries:
    """The retry policy of one client: `attempts` attempts, with a longer wait after each TransientError."""

    def __init__(self, attempts: int, backoff: float, on_warning: Callable[[str], None]) -> None:
        """`backoff`: longest wait in seconds before the second attempt, doubled for each further one."""
        from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, stop_any, stop_when_event_set
        from tenacity import wait_random_exponential as random_exponential
        from tenacity.nap import sleep_using_event

        self.on_warning = on_warning
        self._closed = threading.Event()
        self._answered = False
        self._rejected = 0
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
        """What `attempt` returns. TransientError: it raised one each time, or `close` was called. ChatError, in place
        of a RequestRejected: the server has taken no request so far, and has rejected several."""
        made = 0

        def once() -> Result:
            nonlocal made
            if self._closed.is_set():
                raise TransientError("closed while it waited")
            made += 1
            return attempt()

        try:
            result = self._retrying(once)
        except TransientError as error:
            raise TransientError(f"no answer in {made} attempts, the last time: {error}", error.wait) from None
        except RequestRejected as error:
            self._rejected += not error.filtered
            if not self._answered and self._rejected >= MAX_REJECTED_AT_START:
                raise ChatError(
                    f"none of the first {self._rejected} requests was taken; are address and model right, and does it "
                    f"take images? The last time: {error}"
                ) from None
            raise
        self._answered = True
        return result

    def close(self) -> None:
        """Ends all waiting; no further attempt is made."""
        self._closed.set()


def failure(where: str, status: int, body: str, headers: Mapping[str, str], key_name: str, key: str) -> ChatError:
    """The error for an HTTP status, in the server's own words. `key`: the secret in the variable `key_name`."""
    message = one_line(read_error(body)[0], (key,))
    if status == 429 and "insufficient_quota" in body:
        status = 402
    reason = REASONS.get(status, "the server failed" if status >= 500 else "the request was refused")
    words = ": ".join(filter(None, (where, reason.format(key=key_name), message)))
    line = f"{words} (HTTP {status})"
    if status in HOPELESS:
        return ChatError(line)
    if status in WORTH_ANOTHER_TRY or status >= 500:
        return TransientError(line, retry_after(headers, body))
    return RequestRejected(line, status != 404 and bool(_FILTERED.search(message)))


def client_failure(error: Any, where: str, key_name: str, key: str) -> ChatError:
    """The error for an exception of the openai client; `key` is the secret in the variable `key_name`."""
    response = getattr(error, "response", None)
    if response is None or response.status_code < 400:
        return TransientError(f"{where}: {one_line(error.__cause__ or error, (key,))}")
    return failure(where, response.status_code, response.text, response.headers, key_name, key)


def read_error(body: str) -> tuple[str, set[str]]:
    """What an error reply says, and the parameters of the request that it names.

    read_error('{"detail": [{"loc": ["body", "seed"], "msg": "not permitted"}]}')
    -> ("not permitted (body, seed)", {"seed"})

    Known are {"error": {"message"}} of OpenAI, {"detail"} of FastAPI, both in one another, lists of them, text, HTML.
    """
    named: set[str] = set()

    def words(value: Any) -> str:
        if isinstance(value, list):
            return "; ".join(filter(None, map(words, value)))
        if not isinstance(value, dict):
            text = value.strip() if isinstance(value, str) else ""
            with suppress(ValueError, RecursionError):
                # gateways pass on the whole reply of a model's server as a text
                return words(json.loads(text) if text[:1] in ("{", "[") else "") or text
            return text
        parts = dict.fromkeys(filter(None, (words(value.get(key)) for key in WORDS)))
        place = value.get("loc")
        names = [value.get("param"), *(place if isinstance(place, list) else [])]
        names = [name for name in names if isinstance(name, str)]
        named.update([name for name in names if name not in ("body", "query")][:1])
        notes = [note for note in (*names, value.get("code")) if isinstance(note, str) and note not in "".join(parts)]
        return ": ".join(parts) + (f" ({', '.join(notes)})" if parts and notes else "")

    try:
        return words(json.loads(body)) or body, named
    except (ValueError, RecursionError):
        text = re.sub(r"<(script|style)\b.*?</\1>|<[^>]*>", " ", body[:MAX_TEXT], flags=re.DOTALL | re.IGNORECASE)
        return html.unescape(text).strip(), named


def retry_after(headers: Mapping[str, str], body: str = "") -> float:
    """Seconds that a server asks clients to wait, at most MAX_RETRY_AFTER; 0 if it doesn't.

    Read are Retry-After as a number or a date (RFC 9110, 10.2.3), retry-after-ms, Google's RetryInfo, and sentences
    such as "Please try again in 1m30s".
    """
    waits, text = [0.0], body
    for name, unit in (("retry-after", 1.0), ("retry-after-ms", 0.001)):
        value = headers.get(name, "")
        try:
            waits.append(float(value) * unit)
        except ValueError:
            try:
                waits.append(parsedate_to_datetime(value).timestamp() - time())
            except (ValueError, TypeError):
                text += f" retry {value}"
    for before, durations in _WAIT.findall(text):
        usual = "ms" if re.search(r"ms\W*$", before, re.IGNORECASE) else "s"
        parts = re.findall(r"(\d+(?:\.\d+)?)\s*([a-z]*)", durations.lower())
        wait = sum(float(count) * _SECONDS.get(unit or usual, 0.0) for count, unit in parts)
        if wait > EPOCH:
            # the time itself, in seconds or milliseconds
            wait = (wait / 1000 if wait > 1000 * EPOCH else wait) - time()
        waits.append(wait)
    # NaN is neither
    return min(max(wait for wait in waits if wait >= 0), MAX_RETRY_AFTER)


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
        raise ChatError(f"{without_password(base_url)!r} is not an address; wanted one such as {EXAMPLE}")
    return base_url
