"""What the authors of each editing pipeline call it with, by the name of its class in diffusers.

    PRESETS["FluxKontextPipeline"].call      # {"num_inference_steps": 28, "guidance_scale": 2.5}
    PRESETS["FluxKontextPipeline"].canvas(None)((1600, 1200))    # (1184, 880)

A class that is not in the table is called with the defaults of its own signature, on a canvas of at most a megapixel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ier1_plugin.editors.canvas import MEGAPIXEL, Canvas, at_most, kontext, megapixel

CanvasRule = Callable[[int | None], Canvas]
"""Number of pixels that the user asks for, or None -> the rule."""


def _kontext(pixels: int | None) -> Canvas:
    return kontext if pixels is None else megapixel(16, pixels)


def _up_to_a_megapixel(pixels: int | None) -> Canvas:
    return at_most(pixels or MEGAPIXEL, 16)


def _around(area: int, multiple: int) -> CanvasRule:
    return lambda pixels: megapixel(multiple, pixels or area)


@dataclass(frozen=True)
class Preset:
    """How to call one pipeline class. Arguments that its signature lacks are left out."""

    call: Mapping[str, Any] = field(default_factory=dict)
    guidance: str = "guidance_scale"
    """The argument that says how closely the instruction is followed."""
    canvas: CanvasRule | None = _up_to_a_megapixel
    """None: the pipeline resizes by a function of its own, `calculate_dimensions`, whatever it is told."""
    truncates: str | None = None
    """The tokenizer after which a text is cut off without an error, at `max_sequence_length` tokens."""


# without a negative prompt, these pipelines leave classifier-free guidance out and only log it
_QWEN = {"true_cfg_scale": 4.0, "negative_prompt": " "}

PRESETS: dict[str, Preset] = {
    # model card of black-forest-labs/FLUX.1-Kontext-dev
    "FluxKontextPipeline": Preset(
        {"num_inference_steps": 28, "guidance_scale": 2.5}, canvas=_kontext, truncates="tokenizer_2"
    ),
    # model cards of Qwen/Qwen-Image-Edit and Qwen/Qwen-Image-Edit-2509
    "QwenImageEditPipeline": Preset({"num_inference_steps": 50, **_QWEN}, guidance="true_cfg_scale", canvas=None),
    "QwenImageEditPlusPipeline": Preset({"num_inference_steps": 40, **_QWEN}, guidance="true_cfg_scale", canvas=None),
    "QwenImage21Pipeline": Preset(guidance="true_cfg_scale", canvas=_around(MEGAPIXEL, 32)),
    "LongCatImageEditPipeline": Preset(canvas=None),
    # distilled: few steps, no guidance (model cards of black-forest-labs/FLUX.2-klein)
    "Flux2KleinPipeline": Preset({"num_inference_steps": 4, "guidance_scale": 1.0}),
    # Stable Diffusion 1.5 was trained at 512 x 512
    "StableDiffusionInstructPix2PixPipeline": Preset(canvas=_around(512 * 512, 8)),
    "StableDiffusionXLInstructPix2PixPipeline": Preset(canvas=_around(MEGAPIXEL, 8)),
}
