"""ICEdit: FLUX.1-Fill paints the right half of a picture whose left half is the photo, and so edits it.

    editor = icedit_editor("")          # FLUX.1-Fill-dev with the authors' LoRA
    editor.canvas((1600, 1200))         # (512, 384): half of the 1024 x 384 diptych

Width, prompt (`prompts/icedit.jinja`), guidance and steps are those of the authors' script (River-Zhang/ICEdit,
scripts/inference.py): the LoRA was trained at a width of 512 and knows this one sentence.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from ier1_plugin.editors.base import EditError, Editor, options_of
from ier1_plugin.editors.canvas import Canvas, settled
from ier1_plugin.editors.local.diffusers import LocalPipeline, Recipe
from ier1_plugin.editors.local.loading import AFTER_LOAD, LocalOptions, parameters
from ier1_plugin.prompts import render
from ier1_plugin.task.images import Size

MODEL = "black-forest-labs/FLUX.1-Fill-dev"
LORA = "RiverZ/normal-lora"
WIDTH = 512
# FLUX cuts sides to multiples of 16 pixels; a picture taller than this is squeezed
MULTIPLE, MAX_HEIGHT = 16, 4 * WIDTH
RECIPE = Recipe({"num_inference_steps": 28, "guidance_scale": 50.0})


def icedit_editor(
    source: str, *, model: str | None = None, lora: str = LORA, lora_file: str | None = None, **settings: Any
) -> Editor:
    """ICEdit from a folder or hub id of FLUX.1-Fill, and from those of a LoRA for it ("": none).

    `lora_file`: its file, where a hub id has to be found without a network. `settings`: see LocalOptions.
    EditError: it is not available on this machine.
    """
    options = options_of(LocalOptions, "icedit", settings, "model", "lora", "lora_file")
    if options.canvas_pixels is not None:
        raise EditError(f"icedit always works at a width of {WIDTH} pixels; leave canvas_pixels out")
    if lora:
        folder, named = Path(lora).expanduser(), {"weight_name": lora_file} if lora_file else {}
        if folder.is_dir() and not lora_file:
            files = sorted(folder.glob("*.safetensors"))
            if len(files) != 1:
                raise EditError(
                    f"icedit: the LoRA folder {folder} holds {len(files)} .safetensors files; set lora_file"
                )
            named = {"weight_name": files[0].name}
        calls = [{"load_lora_weights": {"pretrained_model_name_or_path_or_dict": lora, **named}}]
        more = {AFTER_LOAD: [*calls, *options.load_kwargs.get(AFTER_LOAD, ())]}
        options = replace(options, load_kwargs={**options.load_kwargs, **more})

    return ICEdit("icedit", model or source or MODEL, options).editor(lora=lora)


class ICEdit(LocalPipeline):
    """FLUX.1-Fill, called with a diptych."""

    def recipe(self, pipe: Any) -> tuple[Recipe, Canvas]:
        if not {"image", "mask_image", "prompt"} <= parameters(pipe).keys():
            raise EditError(f"icedit: {type(pipe).__name__} paints no masked part; wanted FLUX.1-Fill")
        return RECIPE, settled(half_diptych)

    def call(self, image: Image.Image, instruction: str, noise: Any) -> Image.Image:
        pair, mask = diptych(image)
        text = render("icedit", instruction=instruction)
        self.check_length(text)
        sized = {"width": pair.width, "height": pair.height, "generator": noise}
        result = self.pipe(image=pair, mask_image=mask, prompt=text, **sized, **self.arguments)
        return self.picture(result).crop((image.width, 0, *pair.size))


def half_diptych(size: Size) -> Size:
    """512 wide, and as high as the aspect ratio requires, in multiples of 16."""
    height = int(WIDTH * size[1] / size[0]) // MULTIPLE * MULTIPLE
    return WIDTH, min(MAX_HEIGHT, max(MULTIPLE, height))


def diptych(image: Image.Image) -> tuple[Image.Image, Image.Image]:
    """The photo twice side by side, and the mask that leaves its right copy to be painted."""
    pair = Image.new("RGB", (2 * image.width, image.height))
    mask = Image.new("L", pair.size, 0)
    for left in (0, image.width):
        pair.paste(image, (left, 0))
    mask.paste(255, (image.width, 0, *pair.size))
    return pair, mask
