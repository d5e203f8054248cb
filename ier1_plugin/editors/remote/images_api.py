"""Editors behind OpenAI's images API: OpenAI itself, and every server that speaks POST /v1/images/edits.

    images_api_editor("http://127.0.0.1:8000/v1#Qwen/Qwen-Image-Edit-2511")    # vllm-omni, SGLang, a LiteLLM proxy
    gpt_image_editor("gpt-image-2")      # OpenAI; OPENAI_API_KEY holds the key
    seededit_editor("")                  # Volcengine Ark; ARK_API_KEY does

SeedEdit has no /images/edits: its editor is Ark's /images/generations with the picture in a field `image`, which the
same client speaks. Model ids are settings, since providers shut models down: gpt-image-1, which the paper used, was
shut down on 23 October 2026 (types of openai 3.57).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from PIL import Image

from ier1_plugin.chat.http import Retries, checked_key, client_failure
from ier1_plugin.editors.base import (
    EditError,
    Editor,
    OnWarning,
    failing_as,
    ignore_warning,
    need,
    on_canvas,
    options_of,
)
from ier1_plugin.editors.canvas import Canvas, kontext, megapixel, nearest, settled, within_ratio
from ier1_plugin.editors.remote.http import RemoteOptions, image_of
from ier1_plugin.runs.errors import one_line
from ier1_plugin.runs.secrets import without_password
from ier1_plugin.task.images import data_url, encode, png_bytes

GPT_IMAGE_MODEL = "gpt-image-2"
SEEDEDIT_MODEL = "doubao-seededit-3-0-i2i-250628"
ARK_URL = "https://ark.cn-beijing.volces.com/api/v3"
# what the models before gpt-image-2 paint (openai.types.image_edit_params)
STANDARD_SIZES = ((1024, 1024), (1536, 1024), (1024, 1536))
# the widest that gpt-image-2 takes, and a little less than the widest that SeedEdit does
OPENAI_RATIO, ARK_RATIO = 3.0, 2.9
MAX_ARK_SEED = 2**31

Fields = Callable[[Image.Image, int], dict[str, Any]]
"""(image on its canvas, seed) -> the fields of a request, apart from model, prompt and image; None leaves one out."""


def images_api_editor(
    address: str,
    on_warning: OnWarning = ignore_warning,
    *,
    steps: int | None = None,
    guidance: float | None = None,
    canvas_pixels: int | None = None,
    key_name: str = "OPENAI_API_KEY",
    **settings: Any,
) -> Editor:
    """An editor from "BASE_URL#MODEL". `settings`: see RemoteOptions; `call_kwargs` are form fields, such as
    {"true_cfg_scale": 4.0}."""
    options = options_of(RemoteOptions, "images-api", settings, "steps", "guidance", "canvas_pixels", "key_name")
    url, _, named = address.partition("#")
    options = replace(options, base_url=url, model=options.model or named)
    if not url or not options.model:
        raise EditError(
            f"images-api:{without_password(address)} names no server and model; "
            "wanted images-api:http://HOST:PORT/v1#MODEL"
        )

    def fields(image: Image.Image, seed: int) -> dict[str, Any]:
        # a seed always: vllm-omni draws a random one without
        sent = {"size": f"{image.width}x{image.height}", "n": 1, "response_format": "b64_json", "seed": seed}
        return sent | {"num_inference_steps": steps, "guidance_scale": guidance}

    # what the servers' pipelines work at when they are given it
    rule = kontext if "kontext" in options.model.lower() and canvas_pixels is None else None
    canvas = rule or settled(megapixel(32, canvas_pixels) if canvas_pixels else megapixel(32))
    name = f"images-api:{without_password(url)}"
    more = {"steps": steps, "guidance": guidance, "canvas_pixels": canvas_pixels}
    return _server_editor(name, options, canvas, fields, on_warning, key_name=key_name, needs_key=False, **more)


def gpt_image_editor(model_id: str, on_warning: OnWarning = ignore_warning, **settings: Any) -> Editor:
    """OpenAI's image models; they take no seed. `settings`: see RemoteOptions; `call_kwargs` are form fields, such as
    {"quality": "high"}."""
    options = options_of(RemoteOptions, "gpt-image", settings)
    options = replace(options, model=options.model or model_id or GPT_IMAGE_MODEL)

    def fields(image: Image.Image, seed: int) -> dict[str, Any]:
        return {"size": f"{image.width}x{image.height}", "n": 1, "output_format": "png"}

    version = re.match(r"gpt-image-(\d+)", options.model)
    takes_any_size = version is not None and int(version[1]) >= 2
    canvas = within_ratio(OPENAI_RATIO, megapixel(16)) if takes_any_size else nearest(STANDARD_SIZES)
    return _server_editor("gpt-image", options, canvas, fields, on_warning, seeded=False)


def seededit_editor(
    model_id: str, on_warning: OnWarning = ignore_warning, *, guidance: float = 5.5, **settings: Any
) -> Editor:
    """SeedEdit 3.0 on Volcengine Ark, with the defaults of its documentation (size adaptive, guidance 5.5).

    `settings`: see RemoteOptions.
    """
    options = options_of(RemoteOptions, "seededit", settings, "guidance")
    options = replace(options, model=options.model or model_id or SEEDEDIT_MODEL, base_url=options.base_url or ARK_URL)

    def fields(image: Image.Image, seed: int) -> dict[str, Any]:
        # JSON, with the picture as a data URL
        sent = {"image": data_url(encode(image, lossless=True)), "size": "adaptive", "seed": seed % MAX_ARK_SEED}
        return sent | {"guidance_scale": guidance, "watermark": False, "response_format": "b64_json"}

    canvas, key_name, endpoint = within_ratio(ARK_RATIO, megapixel(16)), "ARK_API_KEY", "generations"
    return _server_editor(
        "seededit", options, canvas, fields, on_warning, key_name=key_name, endpoint=endpoint, guidance=guidance
    )


def _server_editor(
    name: str,
    options: RemoteOptions,
    canvas: Canvas,
    fields: Fields,
    on_warning: OnWarning,
    *,
    key_name: str = "OPENAI_API_KEY",
    needs_key: bool = True,
    endpoint: str = "edits",
    **settings: Any,
) -> Editor:
    """An editor by a server with one model, asked at /images/edits with a form, or at /images/generations with JSON.

    `key_name`: the environment variable that holds the key. `settings`: what traces record besides model and further
    fields. EditError, ChatError: no key, no client.
    """
    key = checked_key(key_name)
    if needs_key and not key:
        raise EditError(f"{key_name} is not set; export the key of your account first")
    need(name, "openai")
    import openai

    # attempts are counted in one place, `Retries`; local servers take any key, but the client insists on one
    client = openai.OpenAI(
        api_key=key or "none", base_url=options.base_url or None, timeout=options.timeout, max_retries=0
    )
    images, retries = client.images.with_raw_response, Retries(options.retries + 1, 1.0, on_warning)

    def edit(image: Image.Image, instruction: str, seed: int) -> Image.Image:
        values = {**fields(image, seed), **options.call_kwargs}
        sent = {field: value for field, value in values.items() if value is not None}
        asked: dict[str, Any] = {"model": options.model, "prompt": instruction, "extra_body": sent}
        file = ("image.png", png_bytes(image), "image/png")

        def attempt() -> str:
            try:
                reply = images.edit(image=file, **asked) if endpoint == "edits" else images.generate(**asked)
                return reply.http_response.text
            except openai.APIError as error:
                raise client_failure(error, name, key_name, key) from None

        with failing_as(name, secrets=(key,)):
            text = retries(attempt)
        try:
            entry = json.loads(text)["data"][0]
            data, url = entry.get("b64_json"), entry.get("url")
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise EditError(f"{name}: sent no image but {one_line(text[:60], (key,))!r}") from None
        link = re.match(r"https?://(?:[^/?#]*@)?([^/?#]*)", str(url or ""))
        if link and not data:
            raise EditError(
                f"{name}: sent a link to {link[1]} and not the image, though b64_json was asked; only images in the "
                "reply are read"
            )
        return image_of(data or url, name)

    def close() -> None:
        retries.close()
        client.close()

    recorded = {"model": options.model, **settings, "call_kwargs": options.call_kwargs}
    return Editor(name, on_canvas(edit, canvas), canvas, local=False, settings=recorded, close=close)
