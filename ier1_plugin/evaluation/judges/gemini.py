"""A judge among Google's models, through google-genai.

    made = make("gemini-2.5-flash", "", JudgePrompt.read(), Asking(), timeout=120.0, max_tokens=None, tell=print)
    made.ask(made.show(Case(source, edited, "remove the lamp")), 0, 0)
    -> Reply(score=Score(4, 2, 3), text='{"reasoning": "The lamp is gone, ...", "fulfilment": 4, ...}', ...)

The key is read from GEMINI_API_KEY or GOOGLE_API_KEY, the address of another server from GOOGLE_GEMINI_BASE_URL.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

from ier1_plugin.chat.server import WORTH_ANOTHER_TRY, ChatError, RequestRejected, TransientError, without_password
from ier1_plugin.editors.base import EditError, need
from ier1_plugin.editors.remote.gemini import KEY_NAMES
from ier1_plugin.editors.remote.http import read_key, status_words
from ier1_plugin.evaluation.judges.base import Case, Reply
from ier1_plugin.evaluation.judges.prompt import EDITED_LABEL, SOURCE_LABEL, Asking, JudgeBackend, JudgePrompt
from ier1_plugin.evaluation.judges.verdict import cut_off, read_reply, refusal
from ier1_plugin.evaluation.records import DIMENSIONS
from ier1_plugin.runs.errors import one_line

# what google-genai itself asks, and the variable in which it looks for another address
GOOGLE, BASE_URL = "generativelanguage.googleapis.com", "GOOGLE_GEMINI_BASE_URL"
# these models think before they write, and what they think counts
MAX_TOKENS = 16384
HOPELESS = (401, 402, 403, 404)
# why a candidate ends early (google.genai.types.FinishReason)
CUT_OFF, DONE = "MAX_TOKENS", ("STOP", "FINISH_REASON_UNSPECIFIED", "")
_SCALES = {name: {"type": "INTEGER", "minimum": 0, "maximum": highest} for name, highest in DIMENSIONS.items()}
_KEYS = ["reasoning", *DIMENSIONS]
SCHEMA: dict[str, Any] = {
    "type": "OBJECT",
    "properties": {"reasoning": {"type": "STRING"}, **_SCALES},
    "required": _KEYS,
    "property_ordering": _KEYS,
}


def make(
    model: str,
    base_url: str,
    prompt: JudgePrompt,
    asking: Asking,
    timeout: float,
    max_tokens: int | None,
    on_warning: Callable[[str], None],
) -> JudgeBackend:
    """ChatError: no key, no client."""
    try:
        need("a Gemini judge", "google.genai")
        key = read_key(*KEY_NAMES)
    except EditError as error:
        raise ChatError(str(error)) from None
    base_url = base_url or os.environ.get(BASE_URL, "")
    client = _client(key, base_url, timeout)

    def ask(contents: list[Any], sample: int, attempt: int) -> Reply:
        temperature, seed = asking.sampling(sample, attempt)
        sampling = {"temperature": temperature, "seed": seed, "max_output_tokens": max_tokens or MAX_TOKENS}
        return read(_send(client, model, contents, sampling, key))

    return JudgeBackend(ask, partial(_contents, prompt, asking), client.close, without_password(base_url or GOOGLE))


def read(response: Any) -> Reply:
    """The reply in a response."""
    candidate = next(iter(response.candidates or ()), None)
    parts = getattr(getattr(candidate, "content", None), "parts", None) or ()
    text = "".join(part.text for part in parts if part.text and not part.thought)
    blocked = _name(getattr(response.prompt_feedback, "block_reason", None))
    ending = _name(getattr(candidate, "finish_reason", None))
    if blocked or ending not in (*DONE, CUT_OFF):
        verdict = refusal(f"{blocked or ending} {text}".strip())
    else:
        verdict = cut_off(text) if ending == CUT_OFF else read_reply(text)
    usage = response.usage_metadata
    written = [getattr(usage, name, None) for name in ("candidates_token_count", "thoughts_token_count")]
    return Reply(
        *verdict,
        text=text,
        prompt_tokens=getattr(usage, "prompt_token_count", None),
        # thoughts are paid for like words
        completion_tokens=sum(count or 0 for count in written) if any(written) else None,
        model=response.model_version or "",
        # the same picture would be blocked again
        final=bool(blocked),
    )


def _client(key: str, base_url: str, timeout: float) -> Any:
    from google import genai
    from google.genai import types

    # attempts are counted in one place, the worker's
    once = types.HttpRetryOptions(attempts=1)
    options = types.HttpOptions(base_url=base_url or None, timeout=round(1000 * timeout), retry_options=once)
    return genai.Client(api_key=key, http_options=options)


def _contents(prompt: JudgePrompt, asking: Asking, case: Case) -> list[Any]:
    from google.genai import types

    source, edited = (
        types.Part.from_bytes(data=encoded, mime_type=f"image/{asking.image_format}") for encoded in asking.images(case)
    )
    return [SOURCE_LABEL, source, EDITED_LABEL, edited, prompt.question(case.request)]


def _send(client: Any, model: str, contents: list[Any], sampling: dict[str, Any], key: str) -> Any:
    from google.genai import errors, types

    form = {"response_mime_type": "application/json", "response_schema": SCHEMA}
    config = types.GenerateContentConfig(**form, **sampling)
    try:
        return client.models.generate_content(model=model, contents=contents, config=config)
    except errors.APIError as error:
        problem = _problem(error, key)
    except Exception as error:
        # whichever HTTP library the client uses raises its own
        problem = TransientError(f"{model}: {one_line(error, (key,))}")
    raise problem


def _problem(error: Any, key: str) -> ChatError:
    message = one_line(error.message or str(error), (key,))
    # Google answers a wrong key with 400
    status = 401 if "API key not valid" in message else error.code
    words = status_words(status, " or ".join(KEY_NAMES), message)
    if status in HOPELESS:
        return ChatError(words)
    return TransientError(words) if status in WORTH_ANOTHER_TRY or status >= 500 else RequestRejected(words)


def _name(reason: Any) -> str:
    return str(getattr(reason, "value", reason) or "")
