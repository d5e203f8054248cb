"""A model behind an OpenAI-compatible server.

    chat = OpenAIChat("decomposer", "http://127.0.0.1:8000/v1", BUDGET, 120.0, MAX_TOKENS, Retries(5, 1.0, print))
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
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from ier1_plugin.chat.http import (
    EXAMPLE,
    MAX_TEXT,
    Retries,
    checked_address,
    checked_key,
    client_failure,
    failure,
    read_error,
)
from ier1_plugin.chat.request import Chat, ChatError, ChatRequest, Completion, TransientError
from ier1_plugin.prompts import render
from ier1_plugin.runs.errors import one_line
from ier1_plugin.runs.secrets import SHORTEST_KEY, without_password
from ier1_plugin.task.rows import without_surrogates

OPENAI = "api.openai.com"
CONNECT_SECONDS = 10.0
# statuses of servers that don't take a parameter
REFUSES = (400, 422, 500, 501)
# what a server may refuse without harm to the answer: reasoning models of OpenAI take no temperature, Mistral's API no
# seed, older servers only the old name of the length limit; without a response_format the schema goes into the text
DISPENSABLE = {
    "response_format": r"response.?format|json.?schema|structured|grammar|guided",
    "temperature": r"\btemperature\b",
    "seed": r"\bseed\b",
    "max_completion_tokens": r"\bmax_completion_tokens\b",
    "max_tokens": r"\bmax_tokens\b",
}
# words of a refusal: "'temperature' does not support 0", "seed: Extra inputs are not permitted"
_REFUSED = re.compile(
    r"support|permit|allow|deprecat|unknown|unrecogni|unexpected|unavailable|extra|invalid|disabled|must be|only|is off"
    r"|not (?:available|accept|valid|implement|enabled)|can'?t|cannot",
    re.IGNORECASE,
)
# the value is wrong, not the parameter
_TOO_LONG = re.compile(
    r"context|too (?:large|long|many|big)|exceed|at (?:most|least)|maximum|range|between|(?:less|greater) than|[<>≤≥]"
    r"|model.?len",
    re.IGNORECASE,
)
# a quotation with a space in it is one of the request, as is what stands in braces; a place is told by `named`
_QUOTED = re.compile(r"""\{.*\}|\(body,[^)]*\)|"[^"]*"|`[^`]*`|“[^”]*”|(?<!\w)'.*?'(?!\w)""", re.DOTALL)


class OpenAIChat(Chat):
    """One server with one model."""

    def __init__(
        self, model: str, base_url: str, budget: tuple[int, int], timeout: float, max_tokens: int, retries: Retries
    ) -> None:
        """`base_url`: "" for OpenAI itself, or OPENAI_BASE_URL. `timeout`: seconds per request. ChatError: no key, no
        client, a bad address.
        """
        base_url = checked_address(base_url or os.environ.get("OPENAI_BASE_URL", ""))
        self._key = checked_key("OPENAI_API_KEY")
        if not base_url and not self._key:
            raise ChatError(f"OPENAI_API_KEY is not set: export it, or name a server by its address, such as {EXAMPLE}")
        try:
            import openai
        except ImportError as error:
            raise ChatError(f"openai: needs the openai client ({error}); pip install -e '.[edit]'") from None
        own = not base_url or urlsplit(base_url).hostname == OPENAI
        self.model = model
        self.address = OPENAI if own else without_password(base_url)
        self.name = f"openai:{model}" if own else f"openai:{self.address}#{model}"
        self.budget, self.max_tokens = budget, max_tokens
        limits = openai.Timeout(timeout, connect=min(timeout, CONNECT_SECONDS))
        # local servers take any key, but the client insists on one; attempts are counted in one place, `Retries`
        self._client = openai.OpenAI(
            api_key=self._key or "none", base_url=base_url or None, timeout=limits, max_retries=0
        )
        self._retries = retries
        self._given_up: set[str] = set()
        self._lock = threading.Lock()

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

        where = f"{self.address}, model {self.model}"
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
            except openai.APIError as error:
                problem = client_failure(error, where, "OPENAI_API_KEY", self._key)
                refused = error.response if isinstance(error, openai.APIStatusError) else None
                name = refused_parameter(refused.text, body) if refused and refused.status_code in REFUSES else ""
                if not name:
                    raise problem from None
                with self._lock:
                    # several threads may be refused at once; one line is enough
                    if name not in self._given_up:
                        self._given_up.add(name)
                        instead = "with the schema in the text" if name == "response_format" else "without it"
                        self._retries.on_warning(f"{problem}; continuing {instead} ({name})")
        return read_completion(reply, where, self._key)


def refused_parameter(body: str, sent: Mapping[str, Any]) -> str:
    """The parameter of the request `sent` that an error reply refuses and that the next request may do without; ""
    where it names none, or only its value, or says something else.
    """
    message, named = read_error(body)
    named = {re.split(r"[.\[]", name)[0] for name in named}
    message = _QUOTED.sub(lambda quoted: " " if re.search(r"[\s{]", quoted[0]) else quoted[0], message[:MAX_TEXT])
    refusals = [sentence for sentence in re.split(r"[.;!?]\s", message) if _REFUSED.search(sentence)]
    for name, words in DISPENSABLE.items():
        if name not in sent or (name.startswith("max_") and _TOO_LONG.search(message)):
            continue
        if name in named or any(re.search(words, sentence, re.IGNORECASE) for sentence in refusals):
            return name
    return ""


def read_completion(reply: str, where: str, key: str) -> Completion:
    """The completion in a server's reply. TransientError: there is none. ChatError, as in `failure`: it is an error."""
    if len(key) >= SHORTEST_KEY:
        # replies are kept, and what a gateway echoes must not be
        reply = reply.replace(key, "***")
    try:
        values = json.loads(reply)
        if values.get("error") and not values.get("choices"):
            # gateways pass on with status 200 what a model's server says
            code = values["error"].get("code") if isinstance(values["error"], dict) else None
            status = code if isinstance(code, int) and 400 <= code < 600 else 502
            raise failure(where, status, reply, {}, "OPENAI_API_KEY", key)
        choice = values["choices"][0]
        message, ending = choice.get("message") or {}, str(choice.get("finish_reason")).lower()
        if ending == "error":
            raise TransientError(f"{where}: the server broke off the reply")
        content = message.get("content") or ""
        # a string, or parts, of which those of reasoning are left out
        parts = content if isinstance(content, list) else [content]
        parts = [{"text": part} if isinstance(part, str) else part for part in parts]
        text = "".join(part.get("text") or "" for part in parts if part.get("type", "text") in ("text", "output_text"))
        refusal = message.get("refusal") or "".join(part.get("refusal") or "" for part in parts)
        thoughts = [part for part in parts if part.get("type") in ("thinking", "reasoning")]
        thoughts = thoughts or message.get("reasoning_content") or message.get("reasoning")
        usage = values.get("usage") or {}
        tokens = {name: usage.get(name) for name in ("prompt_tokens", "completion_tokens")}
        return Completion(
            text=clean_text(text),
            refusal=clean_text(refusal or ("content filter" if ending in ("content_filter", "safety") else "")),
            cut_off=ending in ("length", "max_tokens"),
            model=clean_text(values.get("model")),
            only_thoughts=bool(thoughts) and not text.strip(),
            **{name: count if type(count) is int else None for name, count in tokens.items()},
        )
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        if isinstance(error, ChatError):
            raise
        raise TransientError(f"{where} sent no completion but {one_line(reply, (key,))[:60]!r}") from None


def clean_text(text: Any) -> str:
    """A model's text without lone surrogates, which UTF-8 can't encode."""
    return without_surrogates(str(text or ""))
