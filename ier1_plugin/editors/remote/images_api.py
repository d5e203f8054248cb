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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image

from ier1_plugin.chat.http import Retries, checked_key, client_failure
from ier1_plugin.editors.base import EditError, Editor, OnWarning, failing_as, ignore_warning, need, on_canvas
from ier1_plugin.editors.canvas import Canvas, kontext, megapixel, nearest, settled, within_ratio
from ier1_plugin.editors.remote.http import RETRIES, TIMEOUT, address_of, check_limits, image_of, read_key
from ier1_plugin.runs.errors import one_line
from ier1_plugin.runs.secrets import without_password
from ier1_plugin.task.images import data_url, encode

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


@dataclass(frozen=True)
class Server:
    """One images server with one model."""

    name: str
    model: str
    base_url: str | None
    key_name: str
    key: str
    """Empty for servers that want none."""
    timeout: float
    retries: int
    call_kwargs: Mapping[str, Any] | None
    """Further fields of every request; None leaves out one that would be sent otherwise."""
    on_warning: OnWarning


def images_api_editor(
    address: str,
    *,
    model: str | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    canvas_pixels: int | None = None,
    timeout: float = TIMEOUT,
    retries: int = RETRIES,
    key_name: str = "OPENAI_API_KEY",
    call_kwargs: Mapping[str, Any] | None = None,
    on_warning: OnWarning = ignore_warning,
) -> Editor:
    """An editor from "BASE_URL#MODEL". `call_kwargs`: further form fields, such as {"true_cfg_scale": 4.0}."""
    url, _, named = address.partition("#")
    model, shown = model or named, without_password(url)
    if not url or not model:
        raise EditError(
            f"images-api:{without_password(address)} names no server and model; "
            "wanted images-api:http://HOST:PORT/v1#MODEL"
        )
    key = checked_key(key_name)
    server = Server(f"images-api:{shown}", model, url, key_name, key, timeout, retries, call_kwargs, on_warning)

    def fields(image: Image.Image, seed: int) -> dict[str, Any]:
        # a seed always: vllm-omni draws a random one without
        sent = {"size": f"{image.width}x{image.height}", "n": 1, "response_format": "b64_json", "seed": seed}
        return sent | {"num_inference_steps": steps, "guidance_scale": guidance}

    # what the servers' pipelines work at when they are given it
    rule = kontext if "kontext" in model.lower() and canvas_pixels is None else None
    canvas = rule or settled(megapixel(32, canvas_pixels) if canvas_pixels else megapixel(32))
    return _editor(server, canvas, fields, {"steps": steps, "guidance": guidance})


def gpt_image_editor(
    model_id: str,
    *,
    model: str | None = None,
    base_url: str | None = None,
    timeout: float = TIMEOUT,
    retries: int = RETRIES,
    call_kwargs: Mapping[str, Any] | None = None,
    on_warning: OnWarning = ignore_warning,
) -> Editor:
    """OpenAI's image models; they take no seed. `call_kwargs`: further form fields, such as {"quality": "high"}."""
    name, model = "OPENAI_API_KEY", model or model_id or GPT_IMAGE_MODEL
    server = Server("gpt-image", model, base_url, name, read_key(name), timeout, retries, call_kwargs, on_warning)

    def fields(image: Image.Image, seed: int) -> dict[str, Any]:
        return {"size": f"{image.width}x{image.height}", "n": 1, "output_format": "png"}

    version = re.match(r"gpt-image-(\d+)", model)
    takes_any_size = version is not None and int(version[1]) >= 2
    canvas = within_ratio(OPENAI_RATIO, megapixel(16)) if takes_any_size else nearest(STANDARD_SIZES)
    return _editor(server, canvas, fields, {"seeded": False})


def seededit_editor(
    model_id: str,
    *,
    model: str | None = None,
    base_url: str = ARK_URL,
    guidance: float = 5.5,
    timeout: float = TIMEOUT,
    retries: int = RETRIES,
    call_kwargs: Mapping[str, Any] | None = None,
    on_warning: OnWarning = ignore_warning,
) -> Editor:
    """SeedEdit 3.0 on Volcengine Ark, with the defaults of its documentation (size adaptive, guidance 5.5)."""
    name, model = "ARK_API_KEY", model or model_id or SEEDEDIT_MODEL
    server = Server("seededit", model, base_url, name, read_key(name), timeout, retries, call_kwargs, on_warning)

    def fields(image: Image.Image, seed: int) -> dict[str, Any]:
        # JSON, with the picture as a data URL
        sent = {"image": data_url(encode(image, lossless=True)), "size": "adaptive", "seed": seed % MAX_ARK_SEED}
        return sent | {"guidance_scale": guidance, "watermark": False, "response_format": "b64_json"}

    canvas = within_ratio(ARK_RATIO, megapixel(16))
    return _editor(server, canvas, fields, {"guidance": guidance}, endpoint="generations")


def _editor(
    server: Server, canvas: Canvas, fields: Fields, settings: dict[str, Any], endpoint: str = "edits"
) -> Editor:
    """An editor that asks /images/edits with a form, or /images/generations with JSON."""
    check_limits(server.timeout, server.retries)
    need(server.name, "openai")
    import openai

    url, more = address_of(server.base_url), dict(server.call_kwargs or {})
    # attempts are counted in one place, `Retries`; local servers take any key, but the client insists on one
    client = openai.OpenAI(api_key=server.key or "none", base_url=url or None, timeout=server.timeout, max_retries=0)
    retries = Retries(server.retries + 1, 1.0, server.on_warning)

    def edit(image: Image.Image, instruction: str, seed: int) -> Image.Image:
        sent = {name: value for name, value in {**fields(image, seed), **more}.items() if value is not None}
        asked = {"model": server.model, "prompt": instruction, "extra_body": sent}
        images, file = client.images.with_raw_response, ("image.png", encode(image, lossless=True), "image/png")

        def attempt() -> str:
            try:
                reply = images.edit(image=file, **asked) if endpoint == "edits" else images.generate(**asked)
                return reply.http_response.text
            except openai.APIError as error:
                raise client_failure(error, server.name, server.key_name, server.key) from None

        with failing_as(server.name, secrets=(server.key,)):
            text = retries(attempt)
        try:
            entry = json.loads(text)["data"][0]
            data, url = entry.get("b64_json"), entry.get("url")
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise EditError(f"{server.name}: sent no image but {one_line(text[:60], (server.key,))!r}") from None
        if not data and url:
            raise EditError(f"{server.name}: sent a link in place of the image; ask it for b64_json")
        return image_of(data, server.name)

    def close() -> None:
        retries.close()
        client.close()

    settings = {"model": server.model, **settings, "call_kwargs": more}
    return Editor(server.name, on_canvas(edit, canvas), canvas, local=False, settings=settings, close=close)
