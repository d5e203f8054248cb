"""A vLLM request -> the tensors of a left-padded batch.

{"prompt_token_ids": [1, 8, 2], "multi_modal_data": {"image": [photo]}}    8 = <|image_pad|>, once an image
-> Prompt(token_ids=[1, 8, 8, 8, 8, 2], images={"pixel_values": ..., "image_grid_thw": ...})
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence


@dataclass
class Prompt:
    token_ids: list[int]
    images: dict[str, torch.Tensor] = field(default_factory=dict)


def read_prompt(request: Mapping[str, Any], processor: Any) -> Prompt:
    """Puts the request's images through the model's processor and gives each as many tokens as it has features."""
    token_ids = list(request["prompt_token_ids"])
    data = request.get("multi_modal_data") or {}
    unknown = set(data) - {"image"}
    if unknown:
        raise ValueError(f"the CPU rollout reads images only, got {', '.join(sorted(unknown))}")
    if not data.get("image"):
        return Prompt(token_ids)
    features = processor.image_processor(images=data["image"], return_tensors="pt")
    images = {name: features[name] for name in ("pixel_values", "image_grid_thw")}
    lengths = images["image_grid_thw"].prod(dim=-1) // processor.image_processor.merge_size**2
    image_token = processor.tokenizer.convert_tokens_to_ids(processor.image_token)
    remaining = lengths.tolist()
    if token_ids.count(image_token) != len(remaining):
        raise ValueError(f"{token_ids.count(image_token)} image tokens for {len(remaining)} images in a prompt")
    expanded: list[int] = []
    for token in token_ids:
        expanded += [token] * (remaining.pop(0) if token == image_token else 1)
    return Prompt(expanded, images)


def left_padded(prompts: list[Prompt], pad_token: int) -> dict[str, torch.Tensor]:
    """input_ids and attention_mask, (prompts, longest), and the images of all prompts in order."""
    ids = [torch.tensor(prompt.token_ids) for prompt in prompts]
    batch = {
        "input_ids": pad_sequence(ids, batch_first=True, padding_value=pad_token, padding_side="left"),
        "attention_mask": pad_sequence([torch.ones_like(row) for row in ids], batch_first=True, padding_side="left"),
    }
    with_images = [prompt.images for prompt in prompts if prompt.images]
    names = with_images[0] if with_images else ()
    return batch | {name: torch.cat([images[name] for images in with_images]) for name in names}
