"""What editors behind HTTP share: keys from the environment, retries, an image out of a reply, errors in plain words.

read_key("GEMINI_API_KEY", "GOOGLE_API_KEY")      # the first that is set; EditError names them if none is
status_words(429, "OPENAI_API_KEY", "slow down")  # "too many requests (HTTP 429)"
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from PIL import Image
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from ier1_plugin.chat.server import EXAMPLE, WORTH_ANOTHER_TRY, ChatError, checked_key, retry_after
from ier1_plugin.editors.base import EditError, OnWarning
from ier1_plugin.task.images import ImageError, open_image

T = TypeVar("T")
TIMEOUT, RETRIES = 300.0, 4
MAX_TIMEOUT, MAX_RETRIES = 86_400.0, 100
BACKOFF, MAX_WAIT = 1.0, 60.0
"""Seconds: the longest wait before the second attempt, doubled for each further one, and the longest of all, whatever
the server asks for."""


class BadMoment(EditError):
    """The server had one; the same edit may be asked for again, after `wait` seconds at the earliest."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


def persistent(ask: Callable[[], T], retries: int, on_warning: OnWarning) -> T:
    """What `ask` returns, asked up to `retries` more times while it raises BadMoment; `on_warning` gets a line each time."""
    backoff = wait_random_exponential(multiplier=BACKOFF, max=MAX_WAIT)

    def pause(state: RetryCallState) -> float:
        return max(backoff(state), min(getattr(_failure(state), "wait", 0.0), MAX_WAIT))

    def say(state: RetryCallState) -> None:
        on_warning(f"{_failure(state)}; asking again in {state.upcoming_sleep:.1f} s")

    attempts = Retrying(
        retry=retry_if_exception_type(BadMoment),
        stop=stop_after_attempt(retries + 1),
        wait=pause,
        before_sleep=say,
        reraise=True,
    )
    return attempts(ask)


def _failure(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def read_key(*names: str) -> str:
    """The first of these environment variables that is set. EditError: none is, or it holds no key."""
    key = next(filter(None, map(optional_key, names)), "")
    if not key:
        raise EditError(f"{' or '.join(names)} is not set; export the key of your account first")
    return key


def optional_key(name: str) -> str:
    """The key in this environment variable, "" without one. EditError: what it holds is no key."""
    try:
        return checked_key(name)
    except ChatError as error:
        raise EditError(str(error)) from None


def check_address(url: Any) -> None:
    """EditError for what is no address of a server; None and "" stand for the provider's own."""
    if url and not (isinstance(url, str) and re.match(r"https?://[^/\s]", url)):
        raise EditError(f"{url!r} is no address; wanted one such as {EXAMPLE}")


def failed(name: str, status: int, key_name: str, message: str, headers: Mapping[str, str] | None = None) -> EditError:
    """The error for a status of HTTP: a BadMoment where another attempt may fare better."""
    reason = f"{name}: {status_words(status, key_name, message)}"
    if status in WORTH_ANOTHER_TRY or status >= 500:
        return BadMoment(reason, retry_after(headers or {}))
    return EditError(reason)


def status_words(status: int, key_name: str, message: str) -> str:
    """What an HTTP error status means for the user; `message` is the server's own, used where it says more."""
    words = {
        401: f"the key in {key_name} was not accepted",
        402: "the account has no credit left",
        403: f"the key in {key_name} has no access to this model",
        404: "there is no such model or address",
        408: "the server gave up waiting",
        413: "the image is too large for the server",
        429: "too many requests",
    }
    if status >= 500:
        return f"the server failed (HTTP {status})"
    return f"{words[status]} (HTTP {status})" if status in words else f"refused (HTTP {status}): {message}"


def image_of(data: bytes | str | None, name: str) -> Image.Image:
    """An image out of a reply: encoded bytes, or those in base64. EditError: it is none."""
    try:
        encoded = base64.b64decode(data, validate=True) if isinstance(data, str) else data or b""
        return open_image(encoded)
    except (binascii.Error, ValueError) as error:
        reason = error if isinstance(error, ImageError) else "no base64"
        raise EditError(f"{name}: sent no usable image: {reason}") from None
