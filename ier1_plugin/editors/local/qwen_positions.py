"""Restores the image positions of Qwen2.5-VL, which some pairs of diffusers and transformers lose.

From transformers 5.3 on, the model computes the three-dimensional positions of image tokens only if the caller marks
the image tokens (`mm_token_type_ids`). diffusers' editing pipelines (0.42.1 among them) do not pass that on
(huggingface/diffusers, issue 14194), so the text encoder silently reads the picture as a line of text. Older versions
of transformers find the image tokens by themselves, and nothing is repaired there.
"""

from __future__ import annotations

import inspect
from typing import Any

TOKEN_TYPES = "mm_token_type_ids"
_MARK = "_ier1_positions_repaired"


def repair_positions(pipe: Any) -> bool:
    """Makes the text encoder of a diffusers pipeline see where images are; True if that was needed.

    A forward pre-hook, since offloading replaces `forward` but keeps the hooks. A second call changes nothing.
    """
    encoder: Any = getattr(pipe, "text_encoder", None)
    image = getattr(getattr(encoder, "config", None), "image_token_id", None)
    if image is None or TOKEN_TYPES not in inspect.signature(type(encoder).forward).parameters:
        return False
    video = getattr(encoder.config, "video_token_id", None)

    def add_token_types(encoder: Any, args: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict]:
        ids = named.get("input_ids", args[0] if args else None)
        has_grid = named.get("image_grid_thw") is not None or named.get("video_grid_thw") is not None
        if ids is not None and has_grid and named.get(TOKEN_TYPES) is None:
            # 0 text, 1 image, 2 video, as Qwen2VLProcessor numbers them
            named[TOKEN_TYPES] = (ids == image).int() + 2 * (ids == video).int() if video else (ids == image).int()
        return args, named

    if not getattr(encoder, _MARK, False):
        encoder.register_forward_pre_hook(add_token_types, with_kwargs=True)
        setattr(encoder, _MARK, True)
    return True
