"""One question to a vision-language model behind any OpenAI-compatible server, and what can come of it.

    server = Server("Qwen/Qwen2.5-VL-7B-Instruct", "http://127.0.0.1:8000/v1", 60.0, SCHEMA, tell=print)
    server.ask(lambda schema_in_text: "Someone sent this image ...", jpeg_bytes, temperature=0.0, seed=0)
    -> {"model": "...", "choices": [{"finish_reason": "stop", "message": {"content": '{"actions": ["Delete"], ...'}}]}

The key is read from OPENAI_API_KEY; it is in no message that leaves this module.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from time import time
from typing import Any
from urllib.parse import urlsplit

from data_prep.dialect import JSON_OBJECT, Dialect
from data_prep.records import BuildError

# a server that asks for a longer rest is asked again after this many seconds all the same
MAX_RETRY_AFTER = 300.0
SHOWN = 300
STOPS_THE_RUN = {
    401: "the key in OPENAI_API_KEY was not accepted",
    402: "the account has no credit left",
    403: "the key in OPENAI_API_KEY has no access to this model",
    404: "there is no such model or address; see --annotator and --base-url",
}
WORTH_ANOTHER_TRY = {408, 409, 425, 429}
_PNG = b"\x89PNG"

Prompt = Callable[[bool], str]


class AnnotatorError(BuildError):
    """The run can't go on; the message says in one line why and what to do. Replies so far are kept."""


class Unanswered(Exception):
    """The server had a bad moment; the same question may be asked again, after `wait` seconds at the earliest."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class Refused(Exception):
    """The server will never take this question, such as an image that it can't read; others may still pass."""


class Server:
    """An OpenAI-compatible chat server with one model; safe to use from several threads."""

    def __init__(
        self, model: str, base_url: str | None, timeout: float, schema: dict[str, Any], tell: Callable[[str], None]
    ) -> None:
        """`timeout` in seconds a request; `tell` takes a line for the user. AnnotatorError: no key, bad address."""
        self._model = model
        self._key = os.environ.get("OPENAI_API_KEY", "").strip()
        base_url = base_url or os.environ.get("OPENAI_BASE_URL") or None
        if base_url and not re.match(r"https?://[^/]", base_url):
            raise AnnotatorError(f"--base-url {base_url!r}: wanted an address such as http://127.0.0.1:8000/v1")
        if not self._key.isascii() or not self._key.isprintable() or " " in self._key:
            raise AnnotatorError("OPENAI_API_KEY holds a character that no key has; was it copied with quotes?")
        if not base_url and not self._key:
            raise AnnotatorError("OPENAI_API_KEY is not set: export it, or name a local server with --base-url")
        self._address = _without_password(base_url or "api.openai.com")
        self._client = _client(self._key, base_url, timeout)
        self._dialect = Dialect(schema, lambda line: tell(f"{self._address} {line}"))
        self.answers = 0
        """How many completions came so far."""

    def ask(self, prompt: Prompt, image: bytes, *, temperature: float, seed: int) -> dict[str, Any]:
        """The completion as the server sent it. `prompt(True)` is the text that spells out the schema.

        Raises Unanswered, Refused or AnnotatorError; one request, but for parameters that the server does not know.
        """
        picture = {"type": "image_url", "image_url": {"url": data_url(image)}}
        while True:
            parameters = self._dialect.parameters(temperature, seed)
            text = prompt(parameters.get("response_format") == JSON_OBJECT)
            messages = [{"role": "user", "content": [picture, {"type": "text", "text": text}]}]
            completion = self._send(messages, parameters)
            if completion is not None:
                return completion

    def probe(self, seen: int) -> None:
        """Returns if any completion came since `answers` was `seen`, or if the model takes a tiny question now.

        Unanswered or AnnotatorError otherwise.
        """
        if self.answers > seen:
            return
        try:
            self._send([{"role": "user", "content": "Answer with the word yes."}], {})
        except Refused:
            return

    def down(self, last: Exception) -> AnnotatorError:
        """The error for a server that `probe` found silent."""
        if not self.answers:
            return AnnotatorError(f"{self._address} does not answer ({last}); is it running, and is --base-url right?")
        return AnnotatorError(
            f"{self._address} has stopped answering ({last}); start it again and run the same command: "
            "no reply is paid for twice"
        )

    def rejects_everything(self, last: Exception) -> AnnotatorError:
        """The error for a server that has taken no request yet."""
        return AnnotatorError(f"{self._address} takes none of the requests: {last}; can {self._model} see images?")

    def close(self) -> None:
        self._client.close()

    def _send(self, messages: list[dict[str, Any]], parameters: dict[str, Any]) -> dict[str, Any] | None:
        """None: the server does not know one of the parameters, which is left out from now on."""
        import openai

        create: Any = self._client.chat.completions.with_raw_response.create
        try:
            response = create(model=self._model, messages=messages, **parameters)
        except openai.APIStatusError as error:
            if self._dialect.concedes(parameters, error.status_code, self._clean(error)):
                return None
            raise self._what_is_wrong(error) from None
        except openai.APIError as error:
            raise Unanswered(self._clean(error.__cause__ or error)) from None
        completion = self._read(response.http_response.text)
        self.answers += 1
        return completion

    def _read(self, body: str) -> dict[str, Any]:
        if len(self._key) >= 8:
            body = body.replace(self._key, "[key]")
        try:
            completion = json.loads(body)
        except (ValueError, RecursionError):
            completion = None
        if not isinstance(completion, dict) or not completion.get("choices"):
            raise Unanswered(f"the server sent no completion but {self._clean(body)[:60]!r}")
        return completion

    def _what_is_wrong(self, error: Any) -> Exception:
        status, text = error.status_code, self._clean(error)
        if status in STOPS_THE_RUN:
            return AnnotatorError(f"{self._address}: {STOPS_THE_RUN[status]} (HTTP {status}, model {self._model})")
        if error.code == "insufficient_quota":
            return AnnotatorError(f"{self._address}: {STOPS_THE_RUN[402]} (HTTP {status}, insufficient_quota)")
        if status in WORTH_ANOTHER_TRY or status >= 500:
            return Unanswered(f"HTTP {status}", retry_after(error.response.headers))
        return Refused(f"the server refused the request: {text}")

    def _clean(self, message: object) -> str:
        """One short line without the key."""
        text = " ".join(str(message).split()) or type(message).__name__
        return (text.replace(self._key, "[key]") if self._key else text)[:SHOWN]


def data_url(image: bytes) -> str:
    kind = "png" if image.startswith(_PNG) else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


def retry_after(headers: Any) -> float:
    """Seconds that a server asks to be left alone: Retry-After as a number or a date (RFC 9110, 10.2.3); 0 without."""
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


def _client(key: str, base_url: str | None, timeout: float) -> Any:
    try:
        from openai import OpenAI
    except ImportError:
        raise AnnotatorError("the annotator needs the openai client: pip install -e '.[data]'") from None
    # attempts are counted in one place, ours; local servers take any key, but the client insists on one
    return OpenAI(api_key=key or "none", base_url=base_url, timeout=timeout, max_retries=0)


def _without_password(address: str) -> str:
    host = urlsplit(address).netloc
    return address.replace(host, host.rpartition("@")[2]) if host else address
