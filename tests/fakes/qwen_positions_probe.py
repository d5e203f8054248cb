"""Does Qwen-Image-Edit's text encoder see where the image stands? Run by the tests of the repair, in any environment.

    python tests/fakes/qwen_positions_probe.py FOLDER
    {"transformers": "5.23.0", "needed": true, "before": 0.83, "after": 0.0, "offloaded": 0.0, "edits_differ": true}

before, after, offloaded: largest difference of the prompt's embedding from the one that the processor's whole output
gives, without the repair, with it, and with it while components move between devices.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from inspect import signature
from pathlib import Path
from typing import Any

from fakes.tiny_pipelines import build
from PIL import Image, ImageDraw

from ier1_plugin.editors.local.qwen_positions import TOKEN_TYPES, repair_positions

PROMPT = "add a red hat to the dog on the left"
SIDE = 112


def main(folder: Path) -> dict[str, Any]:
    import torch

    build(folder, "qwen-image-edit")
    pipe: Any = import_module("diffusers").QwenImageEditPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    picture = Image.new("RGB", (SIDE, SIDE), "white")
    ImageDraw.Draw(picture).rectangle((20, 30, 70, 90), fill="red")
    with torch.no_grad():
        wanted = reference(pipe, picture)
        before = pipe.encode_prompt(PROMPT, image=picture)[0]
        unrepaired = edit(pipe, picture)
        needed = repair_positions(pipe)
        # a second call must not add a second hook
        repair_positions(pipe)
        after = pipe.encode_prompt(PROMPT, image=picture)[0]
        repaired = edit(pipe, picture)
        pipe.enable_model_cpu_offload(device="cpu")
        offloaded = pipe.encode_prompt(PROMPT, image=picture, device="cpu")[0]
    return {
        "transformers": version("transformers"),
        "needed": needed,
        **{
            name: float((found - wanted).abs().max())
            for name, found in (("before", before), ("after", after), ("offloaded", offloaded))
        },
        "edits_differ": unrepaired != repaired,
    }


def reference(pipe: Any, picture: Image.Image) -> Any:
    """The embedding of the prompt where the encoder is given all that the processor says, token types included."""
    text = [pipe.prompt_template_encode.format(PROMPT)]
    inputs = dict(pipe.processor(text=text, images=[picture], padding=True, return_tensors="pt"))
    forward: Callable[..., Any] = pipe.text_encoder
    known = signature(type(pipe.text_encoder).forward).parameters
    if TOKEN_TYPES not in known:
        inputs.pop(TOKEN_TYPES, None)
    return forward(**inputs, output_hidden_states=True).hidden_states[-1][:, pipe.prompt_template_encode_start_idx :]


def edit(pipe: Any, picture: Image.Image) -> bytes:
    import torch

    # the pipeline brings every picture to a megapixel, which random weights need not see
    module: Any = sys.modules[type(pipe).__module__]
    own = module.calculate_dimensions
    module.calculate_dimensions = lambda area, ratio: own(64 * 64, ratio)
    noise = torch.Generator("cpu").manual_seed(0)
    # latents: what random weights make of a small difference is less than a level of grey
    asked = {"negative_prompt": " ", "num_inference_steps": 2, "output_type": "latent"}
    result = pipe(image=picture, prompt=PROMPT, generator=noise, **asked)
    module.calculate_dimensions = own
    return result.images[0].numpy().tobytes()


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
