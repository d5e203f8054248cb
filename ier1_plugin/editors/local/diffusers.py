"""Any editing pipeline of diffusers as an editor: FLUX.1-Kontext, Qwen-Image-Edit and whatever `diffusers:` names.

editor = diffusers_editor("black-forest-labs/FLUX.1-Kontext-dev", name="flux-kontext", steps=28, guidance=2.5)
editor.canvas((1600, 1200))                       # (1184, 880)
editor(photo, "Recoloring coat to scarlet.", 0)   # a new image of the size of `photo`
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

from PIL import Image

from ier1_plugin.editors.base import EditError, Editor
from ier1_plugin.editors.canvas import MEGAPIXEL, Canvas, settled
from ier1_plugin.editors.local import loading
from ier1_plugin.editors.local.local import Loaded, Options, local_editor
from ier1_plugin.editors.local.presets import PRESETS, Preset


def diffusers_editor(
    source: str,
    *,
    name: str | None = None,
    model: str | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    canvas_pixels: int | None = None,
    device: str | None = None,
    dtype: str = "auto",
    offload: str = "none",
    load_kwargs: Mapping[str, Any] | None = None,
    call_kwargs: Mapping[str, Any] | None = None,
) -> Editor:
    """An editor from a folder or a hub id (`model`, if given, stands for `source`). EditError: it can't be had here."""
    source = model or source
    name = name or f"diffusers:{source}"
    placement = loading.Placement(device, dtype, offload)
    options = Options(steps, guidance, canvas_pixels, call_kwargs)
    settings = {"steps": steps, "guidance": guidance, "canvas_pixels": canvas_pixels}
    more = {"load_kwargs": dict(load_kwargs or {}), "call_kwargs": dict(call_kwargs or {})}

    def load() -> Loaded:
        return _loaded(loading.load(source, placement, load_kwargs), name, options)

    return local_editor(name, source, placement, load, _call, settings | more)


def _loaded(pipe: Any, name: str, options: Options) -> Loaded:
    kind = type(pipe).__name__
    preset, known = PRESETS.get(kind, Preset()), loading.parameters(pipe)
    if not {"image", "prompt"} <= known:
        raise EditError(f"{name}: {kind} takes no image and prompt, so it edits nothing; wanted an editing pipeline")
    canvas = _canvas(pipe, preset, options.canvas_pixels)
    return Loaded(pipe, name, preset, canvas, options.arguments(preset, known, kind))


def _canvas(pipe: Any, preset: Preset, pixels: int | None) -> Canvas:
    if preset.canvas is not None:
        return settled(preset.canvas(pixels))
    if pixels is not None:
        raise EditError(f"{type(pipe).__name__} always works on about a megapixel; leave canvas_pixels out")
    dimensions = loading.own_dimensions(pipe)
    return settled(lambda size: tuple(dimensions(MEGAPIXEL, size[0] / size[1])[:2]))


def _call(loaded: Loaded, image: Image.Image, instruction: str, noise: Any) -> Image.Image:
    loaded.check_length(instruction)
    width, height = image.size
    sized = {
        "width": width,
        "height": height,
        # else FLUX.1-Kontext picks sizes of its own, a different one for what it reads and what it paints
        "max_area": width * height,
        "_auto_resize": False,
    }
    known = loading.parameters(loaded.pipe)
    arguments = {key: value for key, value in sized.items() if key in known} | dict(loaded.arguments)
    with _cache_context(loaded):
        result = loaded.pipe(image=image, prompt=instruction, generator=noise, **arguments)
    images = getattr(result, "images", None)
    if not isinstance(images, list) or not images or not isinstance(images[0], Image.Image):
        raise EditError(f"{loaded.name}: {type(loaded.pipe).__name__} returned no image")
    return images[0]


def _cache_context(loaded: Loaded) -> Any:
    """Step caches want to know which branch of guidance they serve; some pipelines (FLUX.1-Kontext) never say."""
    transformer: Any = getattr(loaded.pipe, "transformer", None)
    if not getattr(transformer, "is_cache_enabled", False) or _opens_cache_context(loaded.pipe):
        return nullcontext()
    if loaded.arguments.get("negative_prompt") is not None and loaded.arguments.get("true_cfg_scale", 1.0) > 1:
        raise EditError(f"{loaded.name}: a step cache and a negative prompt would disturb each other; leave one out")
    return transformer.cache_context("cond")


def _opens_cache_context(pipe: Any) -> bool:
    return "cache_context" in inspect.getsource(type(pipe).__call__)
