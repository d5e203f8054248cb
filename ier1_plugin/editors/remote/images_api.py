"""Editors behind OpenAI's images API: OpenAI itself, and every server that speaks POST /v1/images/edits.

    images_api_editor("http://127.0.0.1:8000/v1#Qwen/Qwen-Image-Edit-2511")    # vllm-omni, SGLang, a LiteLLM proxy
    gpt_image_editor("gpt-image-2")      # OpenAI; OPENAI_API_KEY holds the key
    seededit_editor("")                  # Volcengine Ark; ARK_API_KEY does

SeedEdit has no /images/edits: its editor is Ark's /images/generations with the picture in a field `image`, which the
same client speaks. Model ids are settings, since providers shut models down: gpt-image-1, which the paper used, was on
23 October 2026 (types of openai 3.57).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from ier1_plugin.chat.server import without_password
from ier1_plugin.editors.base import EditError, Editor, OnWarning, ignore_warning, need, number, on_canvas
from ier1_plugin.editors.canvas import Canvas, kontext, megapixel, nearest, settled, within_ratio
from ier1_plugin.editors.remote.http import (
    MAX_RETRIES,
    MAX_TIMEOUT,
    RETRIES,
    TIMEOUT,
    BadMoment,
    check_address,
    failed,
    image_of,
    optional_key,
    persistent,
    read_key,
)
from ier1_plugin.runs.errors import one_line
from ier1_plugin.task.images import data_url, encode

GPT_IMAGE_MODEL = "gpt-image-2"
SEEDEDIT_MODEL = "doubao-seededit-3-0-i2i-250628"
ARK_URL = "https://ark.cn-beijing.volces.com/api/v3"
# what the models before gpt-image-2 paint (openai.types.image_edit_params)
STANDARD_SIZES = ((1024, 1024), (1536, 1024), (1024, 1536))
# the widest that gpt-image-2 takes, and a little less than the widest that SeedEdit does
OPENAI_RATIO, ARK_RATIO = 3.0, 2.9
MAX_ARK_SEED = 2**31


@dataclass(frozen=True)
class Server:
    """One images server with one model."""

    name: str
    model: str
    base_url: str | None
    key_name: str
    key: str
    """Empty for servers that want none."""
    timeout: float = TIMEOUT
    retries: int = RETRIES
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of every request; None leaves out one that would be sent otherwise."""
    on_warning: OnWarning = ignore_warning
    """Gets a line for each attempt that is made again."""

    def __post_init__(self) -> None:
        number(self.timeout, "timeout", 0.001, MAX_TIMEOUT)
        number(self.retries, "retries", 0, MAX_RETRIES, whole=True)
        check_address(self.base_url)

    def client(self) -> Any:
        need(self.name, "openai")
        import openai

        # retries are made and told by `persistent`; local servers take any key, but the client insists on one
        return openai.OpenAI(api_key=self.key or "none", base_url=self.base_url, timeout=self.timeout, max_retries=0)


Fields = Callable[[Image.Image, int], dict[str, Any]]
"""(image on its canvas, seed) -> the fields of a request, apart from model, prompt and image."""


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
    if not url or not (model or named):
        given = without_password(address)
        raise EditError(f"images-api:{given} names no server and model; wanted images-api:http://HOST:PORT/v1#MODEL")
    name, key, more = f"images-api:{without_password(url)}", optional_key(key_name), dict(call_kwargs or {})
    server = Server(name, model or named, url, key_name, key, timeout, retries, more, on_warning)

    def fields(image: Image.Image, seed: int) -> dict[str, Any]:
        # a seed always: vllm-omni draws a random one without
        sent = {"size": _written(image), "n": 1, "response_format": "b64_json", "seed": seed}
        return sent | {"num_inference_steps": steps, "guidance_scale": guidance}

    # what the servers' pipelines work at when they are given it
    rule = kontext if "kontext" in server.model.lower() and canvas_pixels is None else None
    canvas = rule or settled(megapixel(32, canvas_pixels) if canvas_pixels else megapixel(32))
    return _editor(server, canvas, fields, _edit, {"steps": steps, "guidance": guidance})


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
    name, model, more = "OPENAI_API_KEY", model or model_id or GPT_IMAGE_MODEL, dict(call_kwargs or {})
    server = Server("gpt-image", model, base_url, name, read_key(name), timeout, retries, more, on_warning)

    def fields(image: Image.Image, seed: int) -> dict[str, Any]:
        return {"size": _written(image), "n": 1, "output_format": "png"}

    return _editor(server, _openai_canvas(model), fields, _edit, {"seeded": False})


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
    name, model, more = "ARK_API_KEY", model or model_id or SEEDEDIT_MODEL, dict(call_kwargs or {})
    server = Server("seededit", model, base_url, name, read_key(name), timeout, retries, more, on_warning)

    def fields(image: Image.Image, seed: int) -> dict[str, Any]:
        sent = {"size": "adaptive", "seed": seed % MAX_ARK_SEED, "guidance_scale": guidance, "watermark": False}
        return sent | {"response_format": "b64_json"}

    return _editor(server, within_ratio(ARK_RATIO, megapixel(16)), fields, _generate, {"guidance": guidance})


def _openai_canvas(model: str) -> Canvas:
    version = re.match(r"gpt-image-(\d+)", model)
    if version and int(version[1]) >= 2:
        return within_ratio(OPENAI_RATIO, megapixel(16))
    return nearest(STANDARD_SIZES)


def _written(image: Image.Image) -> str:
    return f"{image.width}x{image.height}"


def _editor(
    server: Server, canvas: Canvas, fields: Fields, send: Callable[..., Any], settings: dict[str, Any]
) -> Editor:
    client = server.client()

    def edit(image: Image.Image, instruction: str, seed: int) -> Image.Image:
        sent = {**fields(image, seed), **server.fields}
        sent = {name: value for name, value in sent.items() if value is not None}

        def ask() -> Any:
            return _ask(server, lambda: send(client, server.model, image, instruction, sent))

        return _read(server, persistent(ask, server.retries, server.on_warning))

    settings = {"model": server.model, **settings, "call_kwargs": dict(server.fields)}
    return Editor(server.name, on_canvas(edit, canvas), canvas, local=False, settings=settings, close=client.close)


def _edit(client: Any, model: str, image: Image.Image, instruction: str, fields: dict[str, Any]) -> Any:
    """POST /images/edits as a form."""
    file = ("image.png", encode(image, lossless=True), "image/png")
    edit = client.images.with_raw_response.edit
    return edit(model=model, image=file, prompt=instruction, extra_body=fields)


def _generate(client: Any, model: str, image: Image.Image, instruction: str, fields: dict[str, Any]) -> Any:
    """POST /images/generations as JSON, with the picture as a data URL."""
    url = data_url(encode(image, lossless=True))
    generate = client.images.with_raw_response.generate
    return generate(model=model, prompt=instruction, extra_body={"image": url, **fields})


def _ask(server: Server, send: Callable[[], Any]) -> Any:
    import openai

    try:
        return send()
    except openai.APIStatusError as error:
        status = 402 if error.code == "insufficient_quota" else error.status_code
        message = one_line(_message(error), (server.key,))
        failure = failed(server.name, status, server.key_name, message, error.response.headers)
    except openai.APITimeoutError:
        failure = BadMoment(f"{server.name}: no answer within {server.timeout:g} s")
    except openai.APIError as error:
        reason = one_line(error.__cause__ or error, (server.key,))
        failure = BadMoment(f"{server.name}: can't be reached: {reason}")
    raise failure


def _message(error: Any) -> str:
    body = error.body if isinstance(error.body, dict) else {}
    return str(body.get("message") or error)


def _read(server: Server, response: Any) -> Image.Image:
    """The first image of a reply."""
    try:
        entry = json.loads(response.http_response.text)["data"][0]
        data, url = entry.get("b64_json"), entry.get("url")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        shown = one_line(response.http_response.text[:60], (server.key,))
        raise EditError(f"{server.name}: sent no image but {shown!r}") from None
    if not data and url:
        raise EditError(f"{server.name}: sent a link in place of the image; ask it for b64_json")
    return image_of(data, server.name)
