"""Google's models through google-genai.

    chat = GeminiChat("gemini-2.5-flash")
    chat(ChatRequest([{"role": "user", "content": "Say yes."}]))     # Completion(text="yes", ...)

The key is read from GEMINI_API_KEY or GOOGLE_API_KEY, the address of another server from GOOGLE_GEMINI_BASE_URL.
"""

from __future__ import annotations

import json
import os
import re
from typing import Any

from ier1_plugin.chat.http import Retries, checked_address, checked_key, failure
from ier1_plugin.chat.request import Chat, ChatError, ChatRequest, Completion, RequestRejected, TransientError
from ier1_plugin.chat.server import clean_text
from ier1_plugin.runs.errors import one_line
from ier1_plugin.runs.secrets import without_password

# what google-genai itself asks, and the variable in which it looks for another address
GOOGLE, BASE_URL = "generativelanguage.googleapis.com", "GOOGLE_GEMINI_BASE_URL"
KEY_NAMES = ("GEMINI_API_KEY", "GOOGLE_API_KEY")
# these models think before they write, and thoughts count towards the length limit
THOUGHT_TOKENS = 12_288
# why a candidate ends (google.genai.types.FinishReason); whatever else there is stands for a refusal
CUT_OFF, DONE = "MAX_TOKENS", ("STOP", "FINISH_REASON_UNSPECIFIED", "")


class GeminiClient:
    """google-genai with this package's keys, retries and errors."""

    def __init__(self, name: str, base_url: str, timeout: float, retries: Retries) -> None:
        """`name`: begins its errors. `timeout`: seconds per request. ChatError: no key, no client, a bad address."""
        self._name, self._key = name, next(filter(None, map(checked_key, KEY_NAMES)), "")
        if not self._key:
            raise ChatError(f"{' or '.join(KEY_NAMES)} is not set; export the key of your account first")
        base_url = checked_address(base_url)
        try:
            from google import genai
            from google.genai import types
        except ImportError as error:
            raise ChatError(f"{name}: needs google-genai ({error}); pip install -e '.[edit]'") from None
        self._client = genai.Client(
            api_key=self._key,
            http_options=types.HttpOptions(
                base_url=base_url or None,
                timeout=round(1000 * timeout),
                # attempts are counted in one place, `Retries`
                retry_options=types.HttpRetryOptions(attempts=1),
            ),
        )
        self._retries = retries

    def generate(self, model: str, contents: list[Any], config: Any) -> Any:
        """Google's response. TransientError: none after all attempts. RequestRejected, ChatError: as in `failure`."""
        from google.genai import errors

        def attempt() -> Any:
            try:
                return self._client.models.generate_content(model=model, contents=contents, config=config)
            except errors.APIError as error:
                body = getattr(error.response, "text", "") or json.dumps(error.details)
                # Google answers a wrong key with 400
                status = 401 if re.search(r"API.key.(not.valid|invalid|expired)", body, re.IGNORECASE) else error.code
                headers = getattr(error.response, "headers", None) or {}
                problem = failure(self._name, status, body, headers, " or ".join(KEY_NAMES), self._key)
            except Exception as error:
                # whichever HTTP library the client uses raises its own
                problem = TransientError(f"{self._name}: {one_line(error, (self._key,))}")
            raise problem

        return self._retries(attempt)

    def close(self) -> None:
        """Makes no further attempts: callers that wait for one get a TransientError."""
        self._retries.close()


class GeminiChat(Chat):
    """One of Google's models."""

    def __init__(
        self, model: str, base_url: str, budget: tuple[int, int], timeout: float, max_tokens: int, retries: Retries
    ) -> None:
        """Parameters as for OpenAIChat. ChatError: no key, no client, a bad address."""
        base_url = base_url or os.environ.get(BASE_URL, "")
        self.model = model
        self.address = without_password(base_url or GOOGLE)
        self.name = f"gemini:{self.address}#{model}" if base_url else f"gemini:{model}"
        self.budget, self.max_tokens = budget, max_tokens
        self._client = GeminiClient(self.name, base_url, timeout, retries)

    def __call__(self, request: ChatRequest, /) -> Completion:
        from google.genai import types

        from ier1_plugin.task.images import media_type, png_bytes

        files = iter([image if isinstance(image, bytes) else png_bytes(image) for image in request.images])
        contents, system = [], []
        for turn in request.messages:
            content = turn["content"]
            if turn["role"] == "system":
                system.append(content)
                continue
            parts = []
            for value in [{"type": "text", "text": content}] if isinstance(content, str) else content:
                if value["type"] == "text":
                    parts.append(types.Part.from_text(text=value["text"]))
                else:
                    data = next(files)
                    parts.append(types.Part.from_bytes(data=data, mime_type=media_type(data)))
            contents.append(types.Content(role="model" if turn["role"] == "assistant" else "user", parts=parts))
        form = {"response_mime_type": "application/json", "response_json_schema": request.schema}
        config = types.GenerateContentConfig(
            system_instruction="\n\n".join(system) or None,
            temperature=request.temperature,
            seed=request.seed,
            max_output_tokens=request.max_tokens + THOUGHT_TOKENS,
            **form if request.schema else {},
        )
        response = self._client.generate(self.model, contents, config)
        blocked = _name(getattr(response.prompt_feedback, "block_reason", None))
        if blocked:
            raise RequestRejected(f"{self.name} blocked the request: {blocked}", filtered=True)
        candidate = next(iter(response.candidates or ()), None)
        parts = getattr(getattr(candidate, "content", None), "parts", None) or ()
        ending = _name(getattr(candidate, "finish_reason", None))
        usage = response.usage_metadata
        written = [getattr(usage, name, None) for name in ("candidates_token_count", "thoughts_token_count")]
        text = "".join(part.text for part in parts if part.text and not part.thought)
        return Completion(
            text=clean_text(text),
            refusal="" if ending in (*DONE, CUT_OFF) else ending,
            cut_off=ending == CUT_OFF,
            model=response.model_version or "",
            prompt_tokens=getattr(usage, "prompt_token_count", None),
            # thoughts are paid for like words
            completion_tokens=sum(count or 0 for count in written) if any(written) else None,
            only_thoughts=bool(parts) and not text.strip(),
        )

    def close(self) -> None:
        self._client.close()


def _name(reason: Any) -> str:
    return str(getattr(reason, "value", reason) or "")
