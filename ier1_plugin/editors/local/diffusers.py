"""Any editing pipeline of diffusers as an editor: FLUX.1-Kontext, Qwen-Image-Edit and whatever `diffusers:` names.

    editor = diffusers_editor("black-forest-labs/FLUX.1-Kontext-dev", name="flux-kontext", steps=28, guidance=2.5)
    editor.canvas((1600, 1200))                       # (1184, 880)
    editor(photo, "Recoloring coat to scarlet.", 0)   # a new image of the size of `photo`

Nothing is loaded before the first edit, so that a planner can use the GPU until then.
"""

from __future__ import annotations

import gc
import inspect
import sys
import threading
import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any

from PIL import Image

from ier1_plugin.editors.base import EditError, Editor, failing_as, is_flat, known_keys, number, on_canvas, options_of
from ier1_plugin.editors.canvas import MEGAPIXEL, Canvas, at_most, kontext, megapixel, settled
from ier1_plugin.editors.local.loading import (
    HINTS,
    NUMBERS_OVERFLOWED,
    LocalOptions,
    build,
    check_source,
    load,
    parameters,
)
from ier1_plugin.task.images import Size
from ier1_plugin.task.rows import neutralise

MAX_SEED = 2**63 - 1
CanvasRule = Callable[[int | None], Canvas]
"""Number of pixels that the user asks for, or None -> the rule."""


def _around(area: int, multiple: int) -> CanvasRule:
    return lambda pixels: megapixel(multiple, pixels or area)


@dataclass(frozen=True)
class Recipe:
    """How to call one pipeline class. Arguments that its signature lacks are left out."""

    call: Mapping[str, Any] = field(default_factory=dict)
    guidance: str = "guidance_scale"
    """The argument that sets how closely the instruction is followed."""
    canvas: CanvasRule | None = lambda pixels: at_most(pixels or MEGAPIXEL, 16)
    """None: the pipeline resizes by a function of its own, `calculate_dimensions`, whatever size it gets."""
    reads_all: bool = False
    """True: the pipeline cuts no text off, whatever its tokenizer's limit is."""
    distilled: Mapping[str, Any] = field(default_factory=dict)
    """In place of `call`, for weights that were distilled (`is_distilled` in the pipeline's config)."""


# without a negative prompt, these pipelines leave classifier-free guidance out and only log it
_QWEN = {"true_cfg_scale": 4.0, "negative_prompt": " "}

# what the authors of each pipeline call it with, by its class in diffusers; any other class gets the defaults of its
# own signature, on a canvas of at most a megapixel
RECIPES: dict[str, Recipe] = {
    # model card of black-forest-labs/FLUX.1-Kontext-dev
    "FluxKontextPipeline": Recipe(
        {"num_inference_steps": 28, "guidance_scale": 2.5},
        canvas=lambda pixels: megapixel(16, pixels) if pixels else kontext,
    ),
    # model cards of Qwen/Qwen-Image-Edit and Qwen/Qwen-Image-Edit-2509
    "QwenImageEditPipeline": Recipe({"num_inference_steps": 50, **_QWEN}, "true_cfg_scale", None, reads_all=True),
    "QwenImageEditPlusPipeline": Recipe({"num_inference_steps": 40, **_QWEN}, "true_cfg_scale", None, reads_all=True),
    "QwenImage21Pipeline": Recipe(guidance="true_cfg_scale", canvas=_around(MEGAPIXEL, 32)),
    "LongCatImageEditPipeline": Recipe(canvas=None),
    # model cards of black-forest-labs/FLUX.2-klein and FLUX.2-klein-base
    "Flux2KleinPipeline": Recipe(
        {"num_inference_steps": 50, "guidance_scale": 4.0},
        distilled={"num_inference_steps": 4, "guidance_scale": 1.0},
    ),
    # Stable Diffusion 1.5 was trained at 512 x 512
    "StableDiffusionInstructPix2PixPipeline": Recipe(canvas=_around(512 * 512, 8)),
    "StableDiffusionXLInstructPix2PixPipeline": Recipe(canvas=_around(MEGAPIXEL, 8)),
}


class LocalPipeline:
    """A pipeline that is loaded at the first use; safe to use from several threads, which wait for each other."""

    def __init__(self, name: str, source: str, options: LocalOptions) -> None:
        """EditError, before anything is loaded: no such source, no GPU to offload from."""
        check_source(source, name)
        self.name, self.source, self.options, self.device = name, source, options, options.place()
        self.pipe: Any = None
        self._lock = threading.RLock()

    def recipe(self, pipe: Any) -> tuple[Recipe, Canvas]:
        """How the pipeline is called. EditError: it is not one for this editor."""
        kind = type(pipe).__name__
        recipe = RECIPES.get(kind, Recipe())
        if not {"image", "prompt"} <= parameters(pipe).keys():
            raise EditError(
                f"{self.name}: {kind} takes no image and prompt, so it edits nothing; wanted an editing pipeline"
            )
        if recipe.canvas is not None:
            return recipe, settled(recipe.canvas(self.options.canvas_pixels))
        if self.options.canvas_pixels is not None:
            raise EditError(f"{kind} always works on about a megapixel; leave canvas_pixels out")
        # of the pipeline's own module: (area, aspect ratio) -> (width, height, ...)
        dimensions: Any = getattr(sys.modules[type(pipe).__module__], "calculate_dimensions", None)
        return recipe, settled(lambda size: tuple(dimensions(MEGAPIXEL, size[0] / size[1])[:2]))

    def call(self, image: Image.Image, instruction: str, noise: Any) -> Image.Image:
        """What the pipeline makes of an image on its canvas; `noise`: a torch.Generator."""
        pipe, (width, height) = self.pipe, image.size
        self.check_length(instruction)
        sized = {
            "width": width,
            "height": height,
            # else FLUX.1-Kontext picks sizes of its own, a different one for what it reads and what it paints
            "max_area": width * height,
            "_auto_resize": False,
        }
        known = parameters(pipe)
        arguments = {key: value for key, value in sized.items() if key in known} | self.arguments
        context, transformer = nullcontext(), getattr(pipe, "transformer", None)
        # step caches want to know which branch of guidance they serve; some pipelines (FLUX.1-Kontext) never say
        if getattr(transformer, "is_cache_enabled", False) and "cache_context" not in inspect.getsource(
            type(pipe).__call__
        ):
            if arguments.get("negative_prompt") is not None and arguments.get("true_cfg_scale", 1.0) > 1:
                raise EditError(
                    f"{self.name}: a step cache and a negative prompt would disturb each other; leave one out"
                )
            context = transformer.cache_context("cond")  # pyright: ignore[reportOptionalMemberAccess]
        with context:
            return self.picture(pipe(image=image, prompt=instruction, generator=noise, **arguments))

    def picture(self, result: Any) -> Image.Image:
        """The image in what the pipeline returned. EditError: there is none, or its safety checker blanked it."""
        output = result if isinstance(result, Mapping) else {}
        if any(any(flags) for name, flags in output.items() if "nsfw" in name and flags is not None):
            raise EditError(f"{self.name}: its safety checker withheld the picture; try another request or seed")
        images = getattr(result, "images", None)
        if not isinstance(images, list) or not images or not isinstance(images[0], Image.Image):
            raise EditError(f"{self.name}: {type(self.pipe).__name__} returned no image")
        return images[0]

    def check_length(self, instruction: str) -> None:
        """EditError for a text that would silently be cut off, and the last sub-requests with it.

        Of several text encoders, the one that reads most has to read it all: FLUX gives CLIP's 77 tokens a small part.
        """
        kinds = [getattr(self.pipe, name) for name in getattr(self.pipe, "components", {}) if "tokenizer" in name]
        # FLUX.2 calls a processor its tokenizer
        kinds = [getattr(kind, "tokenizer", kind) for kind in kinds]
        tokenizers = [kind for kind in kinds if getattr(kind, "model_max_length", None)]
        if self._recipe.reads_all or not tokenizers:
            return
        tokenizer = max(tokenizers, key=lambda kind: kind.model_max_length)
        usual = parameters(self.pipe).get("max_sequence_length", getattr(self.pipe, "tokenizer_max_length", None))
        limits = (tokenizer.model_max_length, self.arguments.get("max_sequence_length", usual))
        limit = min(limit for limit in limits if isinstance(limit, int))
        system = getattr(self.pipe, "system_message", "")
        message = [{"role": "system", "content": system}] if system else []
        message += [{"role": "user", "content": instruction}]
        instruction = f"{system} {instruction}" if system else instruction
        if getattr(tokenizer, "chat_template", None):
            chat = {"tokenize": False, "add_generation_prompt": True, "enable_thinking": False}
            instruction = tokenizer.apply_chat_template(message, **chat)
        tokens = len(tokenizer(instruction, verbose=False).input_ids)
        if tokens > limit:
            raise EditError(
                f"{self.name} reads {limit} tokens of an instruction and this one has {tokens}; shorten it, or make "
                "the edits one after another (--mode multi-turn)"
            )

    def canvas(self, size: Size) -> Size:
        self._load()
        return self._canvas(size)

    def edit(self, image: Image.Image, instruction: str, seed: int) -> Image.Image:
        number(seed, "seed", 0, MAX_SEED, whole=True)
        with self._lock:
            self._load()
            with failing_as(self.name, HINTS):
                import torch

                # drawn on the CPU, the noise is the same on every device
                noise = torch.Generator("cpu").manual_seed(seed)
                with warnings.catch_warnings():
                    # of numpy, where pixels that are NaN become black ones
                    warnings.filterwarnings("error", "invalid value encountered in cast", RuntimeWarning)
                    edited = self.call(image, neutralise(instruction), noise)
            if is_flat(edited) and not is_flat(image):
                raise EditError(f"{self.name}: the whole picture came back in one colour; {NUMBERS_OVERFLOWED}")
            return edited

    def close(self) -> None:
        """Frees the memory; another edit loads the pipeline again."""
        with self._lock:
            if self.pipe is not None:
                import torch

                self.pipe = None
                gc.collect()
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()

    def editor(self, **settings: Any) -> Editor:
        """An Editor that works by this pipeline; `settings`: what its traces record besides the options."""
        recorded = {**asdict(self.options), "device": self.device, "model": self.source, **settings}
        versions = {package: version(package) for package in ("torch", "diffusers", "transformers")}
        edit = on_canvas(self.edit, self.canvas)
        return Editor(self.name, edit, self.canvas, settings={**recorded, "versions": versions}, close=self.close)

    def _load(self) -> None:
        with self._lock:
            if self.pipe is not None:
                return
            pipe, options = load(self.source, self.options), self.options
            self._recipe, self._canvas = self.recipe(pipe)
            chosen = {"num_inference_steps": options.steps, self._recipe.guidance: options.guidance}
            is_distilled = self._recipe.distilled and pipe.config.get("is_distilled")
            advised = self._recipe.distilled if is_distilled else self._recipe.call
            usual = {**advised, **{name: value for name, value in chosen.items() if value is not None}}
            known, more = parameters(pipe), dict(build(options.call_kwargs))
            known_keys(more, known, f"call_kwargs: {type(pipe).__name__}")
            self.arguments = {name: value for name, value in usual.items() if name in known} | more
            self.pipe = pipe


def diffusers_editor(source: str, *, name: str | None = None, model: str | None = None, **settings: Any) -> Editor:
    """An editor from a folder or a hub id (`model`, if given, stands for `source`). `settings`: see LocalOptions.

    EditError: it is not available on this machine.
    """
    source = model or source
    name = name or f"diffusers:{source}"
    return LocalPipeline(name, source, options_of(LocalOptions, name, settings, "model")).editor()
