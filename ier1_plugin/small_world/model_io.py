"""What building, warming up and evaluating the tiny model share: the inference path from a request to token ids.

    model, processor = load(Path("quickstart/warm"))
    inputs = encode(processor, ["make it brighter"], [photo])   # input_ids [1, n], pixel_values [16, 1176], ...
    answers = generate(model, processor, inputs, sampled=False)  # ["<think> I see: cat. ..."]

The prompt comes from `rows.messages`, the image goes through `images.prepare` and the model's own processor: the same
ids as in training, which a test compares with EasyR1's dataset.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType
from typing import Any

from PIL import Image

from ier1_plugin.task.images import prepare
from ier1_plugin.task.rows import messages

PIXELS = 56 * 56
"""min_pixels and max_pixels of the small world: a square photo becomes 4 image tokens."""
MAX_NEW_TOKENS = 72


def import_transformers() -> ModuleType:
    """transformers, also where torchvision was built for CUDA and torch was not."""
    import torch

    from ier1_plugin.chat.torchvision_ops import define_missing_schemas

    define_missing_schemas(torch)
    import transformers

    return transformers


def use_cores() -> None:
    """torch gets as many threads as there are cores, at most two: more only wait for each other at this size."""
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", min(2, os.cpu_count() or 1))))


def load(folder: Path) -> tuple[Any, Any]:
    """(model in float32, processor) of a folder that AutoModel can read. FileNotFoundError: there is none."""
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"no model in {folder}: config.json is missing")
    transformers = import_transformers()
    import torch

    model = transformers.Qwen2_5_VLForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="sdpa"
    )
    return model, transformers.AutoProcessor.from_pretrained(folder, use_fast=True)


def encode(processor: Any, requests: list[str], photos: list[Image.Image]) -> Any:
    """The model's inputs for a batch, prompts padded on the left."""
    prompts = [
        processor.apply_chat_template(messages(request), add_generation_prompt=True, tokenize=False)
        for request in requests
    ]
    prepared = [prepare(photo, PIXELS, PIXELS) for photo in photos]
    return processor(text=prompts, images=prepared, padding=True, padding_side="left", return_tensors="pt")


def generate(model: Any, processor: Any, inputs: Any, sampled: bool) -> list[str]:
    """One response to each prompt, greedy or sampled at temperature 1 from all tokens; reward reads it like this."""
    import torch

    # top_k=0: transformers would otherwise cut to the 50 likeliest
    how = {"do_sample": True, "temperature": 1.0, "top_p": 1.0, "top_k": 0} if sampled else {"do_sample": False}
    with torch.inference_mode():
        output = model.eval().generate(**inputs, max_new_tokens=MAX_NEW_TOKENS, **how)
    return processor.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
