"""In place of FlashAttention 2: PyTorch's scaled dot product attention, and device "cpu" for `device_map="cuda"`.

    AutoModelForImageTextToText.from_pretrained(path, attn_implementation="flash_attention_2", device_map="cuda")
    -> the model with sdpa, on the CPU

EasyR1 names both in its worker. For packed sequences (`padding_free=true`) transformers builds the block-diagonal mask
from the position ids, so the numbers stay the same.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

_REPLACED = {("attn_implementation", "flash_attention_2"): "sdpa", ("device_map", "cuda"): "cpu"}


def replace_flash_attention(auto_factory: Any) -> None:
    for name in ("from_pretrained", "from_config"):
        original = getattr(auto_factory._BaseAutoModelClass, name).__func__
        setattr(auto_factory._BaseAutoModelClass, name, classmethod(_with_sdpa(original)))


HOOKS: dict[str, Callable[[ModuleType], None]] = {
    "transformers.models.auto.auto_factory": replace_flash_attention,
}


def _with_sdpa(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def load(cls: type, *args: Any, **kwargs: Any) -> Any:
        for (key, asked), given in _REPLACED.items():
            if kwargs.get(key) == asked:
                kwargs[key] = given
        return original(cls, *args, **kwargs)

    return load
