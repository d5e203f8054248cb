"""Google's image models ("Nano Banana") through google-genai.

    nano_banana_editor("")(photo, "Recoloring coat to scarlet.", 0)    # GEMINI_API_KEY or GOOGLE_API_KEY holds the key

The paper used gemini-2.5-flash-image, whose retirement Google has since announced; the model id is a setting. The API
is not deterministic: the same seed gives another picture.
"""

from __future__ import annotations

from typing import Any

from PIL import Image

from ier1_plugin.chat.gemini import GeminiClient
from ier1_plugin.chat.http import Retries
from ier1_plugin.editors.base import EditError, Editor, OnWarning, failing_as, ignore_warning, on_canvas, options_of
from ier1_plugin.editors.canvas import megapixel, within_ratio
from ier1_plugin.editors.remote.http import RemoteOptions, image_of
from ier1_plugin.runs.errors import one_line
from ier1_plugin.task.images import encode

MODEL = "gemini-3.1-flash-image"
# the widest aspect ratio that the models paint (google.genai.types.ImageConfig)
RATIO = 21 / 9


def nano_banana_editor(model_id: str, on_warning: OnWarning = ignore_warning, **settings: Any) -> Editor:
    """An editor. `settings`: see RemoteOptions; `call_kwargs` are passed to GenerateContentConfig, such as
    {"image_config": {"image_size": "2K"}}."""
    name, options = "nano-banana", options_of(RemoteOptions, "nano-banana", settings)
    model = options.model or model_id or MODEL
    retries = Retries(options.retries + 1, 1.0, on_warning)
    client = GeminiClient(name, options.base_url, options.timeout, retries)
    from google.genai import types

    with failing_as(f"call_kwargs of {name}"):
        config = types.GenerateContentConfig(**{"response_modalities": ["TEXT", "IMAGE"], **options.call_kwargs})

    def edit(image: Image.Image, instruction: str, seed: int) -> Image.Image:
        picture = types.Part.from_bytes(data=encode(image, lossless=True), mime_type="image/png")
        with failing_as(name):
            return _image(name, client.generate(model, [picture, instruction], config))

    # the models follow the aspect ratio of what they are sent, each in sizes of its own: the chain resizes and says so
    canvas = within_ratio(RATIO, megapixel(16))
    settings = {"model": model, "seeded": False, "call_kwargs": options.call_kwargs}
    return Editor(name, on_canvas(edit, canvas), canvas, local=False, settings=settings, close=client.close)


def _image(name: str, response: Any) -> Image.Image:
    """The last image of a reply, since drafts come first; of thoughts only where there is no other. EditError says why
    there is none."""
    candidate = next(iter(response.candidates or ()), None)
    parts = getattr(getattr(candidate, "content", None), "parts", None) or ()
    images = [part for part in parts if part.inline_data and part.inline_data.data]
    if images:
        return image_of(max(reversed(images), key=lambda part: not part.thought).inline_data.data, name)
    blocked, finish = getattr(response.prompt_feedback, "block_reason", None), getattr(candidate, "finish_reason", None)
    # enums of the client, or strings that it does not know yet
    blocked, finish = (str(getattr(reason, "value", reason) or "") for reason in (blocked, finish))
    reason = f"the request was blocked ({blocked})" if blocked else "no image came back"
    if not blocked and finish not in ("", "STOP"):
        reason += f" ({finish})"
    words = " ".join(part.text for part in parts if part.text and not part.thought)
    raise EditError(one_line(f"{name}: {reason}{f', but wrote: {words}' if words else ''}"))
