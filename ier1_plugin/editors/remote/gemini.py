"""Google's image models ("Nano Banana") through google-genai.

    nano_banana_editor("")(photo, "Recoloring coat to scarlet.", 0)    # GEMINI_API_KEY or GOOGLE_API_KEY holds the key

The paper used gemini-2.5-flash-image, which Google has since announced the end of; the model id is a setting. Nothing
that goes over the wire fixes the result: the same seed gives another picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PIL import Image

from ier1_plugin.editors.base import EditError, Editor, OnWarning, failing_as, ignore_warning, need, number, on_canvas
from ier1_plugin.editors.canvas import megapixel, within_ratio
from ier1_plugin.editors.remote.http import (
    MAX_RETRIES,
    MAX_TIMEOUT,
    RETRIES,
    TIMEOUT,
    BadMoment,
    check_address,
    failed,
    image_of,
    persistent,
    read_key,
)
from ier1_plugin.runs.errors import one_line
from ier1_plugin.task.images import encode

MODEL = "gemini-3.1-flash-image"
KEY_NAMES = ("GEMINI_API_KEY", "GOOGLE_API_KEY")
# the widest aspect ratio that the models paint (google.genai.types.ImageConfig)
RATIO = 21 / 9


def nano_banana_editor(
    model_id: str,
    *,
    model: str | None = None,
    base_url: str | None = None,
    timeout: float = TIMEOUT,
    retries: int = RETRIES,
    call_kwargs: Mapping[str, Any] | None = None,
    on_warning: OnWarning = ignore_warning,
) -> Editor:
    """An editor; `call_kwargs` goes to GenerateContentConfig, such as {"image_config": {"image_size": "2K"}}."""
    key, model = read_key(*KEY_NAMES), model or model_id or MODEL
    number(timeout, "timeout", 0.001, MAX_TIMEOUT)
    number(retries, "retries", 0, MAX_RETRIES, whole=True)
    check_address(base_url)
    client = _client(key, base_url, timeout)
    config = _config(call_kwargs or {})

    def edit(image: Image.Image, instruction: str, seed: int) -> Image.Image:
        def ask() -> Any:
            return _ask(client, model, image, instruction, config, key, timeout)

        return _image(persistent(ask, retries, on_warning))

    # the models follow the aspect ratio of what they are sent, each in sizes of its own: the chain resizes and says so
    canvas = within_ratio(RATIO, megapixel(16))
    settings = {"model": model, "seeded": False, "call_kwargs": dict(call_kwargs or {})}
    return Editor("nano-banana", on_canvas(edit, canvas), canvas, local=False, settings=settings, close=client.close)


def _client(key: str, base_url: str | None, timeout: float) -> Any:
    need("nano-banana", "google.genai")
    from google import genai
    from google.genai import types

    options = types.HttpOptions(
        base_url=base_url,
        timeout=round(1000 * timeout),
        # retries are made and told by `persistent`
        retry_options=types.HttpRetryOptions(attempts=1),
    )
    return genai.Client(api_key=key, http_options=options)


def _config(given: Mapping[str, Any]) -> Any:
    from google.genai import types

    with failing_as("call_kwargs of nano-banana"):
        return types.GenerateContentConfig(**{"response_modalities": ["TEXT", "IMAGE"], **given})


def _ask(client: Any, model: str, image: Image.Image, text: str, config: Any, key: str, timeout: float) -> Any:
    from google.genai import errors, types

    picture = types.Part.from_bytes(data=encode(image, lossless=True), mime_type="image/png")
    try:
        return client.models.generate_content(model=model, contents=[picture, text], config=config)
    except errors.APIError as error:
        message = one_line(error.message or str(error), (key,))
        # Google answers a wrong key with 400
        status = 401 if "API key not valid" in message else error.code
        headers = getattr(error.response, "headers", None)
        failure = failed("nano-banana", status, " or ".join(KEY_NAMES), message, headers)
    except Exception as error:
        # whichever HTTP library the client uses raises its own
        slow = "Timeout" in type(error).__name__
        reason = f"no answer within {timeout:g} s" if slow else f"no readable answer: {one_line(error, (key,))}"
        failure = BadMoment(f"nano-banana: {reason}")
    raise failure


def _image(response: Any) -> Image.Image:
    """The first image of a reply; EditError says why there is none."""
    candidate = next(iter(response.candidates or ()), None)
    parts = getattr(getattr(candidate, "content", None), "parts", None) or ()
    data = next((part.inline_data.data for part in parts if part.inline_data and part.inline_data.data), None)
    if data:
        return image_of(data, "nano-banana")
    words = " ".join(part.text for part in parts if part.text)
    raise EditError(one_line(f"nano-banana: {_why_not(response, candidate)}{f', but wrote: {words}' if words else ''}"))


def _why_not(response: Any, candidate: Any) -> str:
    blocked = getattr(response.prompt_feedback, "block_reason", None)
    if blocked:
        return f"the request was blocked ({_name(blocked)})"
    finish = getattr(candidate, "finish_reason", None)
    if finish and _name(finish) != "STOP":
        return f"no image came back ({_name(finish)})"
    return "no image came back"


def _name(reason: Any) -> str:
    return str(getattr(reason, "value", reason))
