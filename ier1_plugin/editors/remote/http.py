"""What editors behind HTTP share: their options, and reading an image from a reply."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from ier1_plugin.chat.http import MAX_TIMEOUT, checked_address
from ier1_plugin.editors.base import EditError, number
from ier1_plugin.task.images import ImageError, open_image

_URL_SAFE = str.maketrans("-_", "+/")


@dataclass(frozen=True)
class RemoteOptions:
    """What a user may set of every editor behind HTTP. EditError, ChatError: a value is out of range."""

    model: str = ""
    """Its id; empty for the provider's usual one."""
    base_url: str = ""
    """Of another server than the provider's own."""
    timeout: float = 300.0
    """Seconds that one request may take."""
    retries: int = 4
    """Further attempts after an error that may pass."""
    call_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of every request; None leaves out one that would be sent otherwise."""

    def __post_init__(self) -> None:
        number(self.timeout, "timeout", 0.001, MAX_TIMEOUT)
        number(self.retries, "retries", 0, 100, whole=True)
        if not isinstance(self.call_kwargs, Mapping):
            raise EditError(f"call_kwargs is {self.call_kwargs!r}; wanted {{NAME: VALUE}}")
        if not isinstance(self.base_url, str):
            raise EditError(f"{self.base_url!r} is not an address; wanted a text such as http://127.0.0.1:8000/v1")
        checked_address(self.base_url)


def image_of(data: bytes | str | None, name: str) -> Image.Image:
    """An image from a reply: encoded bytes, or those in base64, also as a data URL, in lines or without padding.

    EditError: it is not an image.
    """
    try:
        if isinstance(data, str):
            text = "".join(re.sub(r"^\s*data:[^,]*;base64,", "", data).split()).rstrip("=")
            data = base64.b64decode(text.translate(_URL_SAFE) + "=" * (-len(text) % 4), validate=True)
        return open_image(data or b"")
    except (binascii.Error, ValueError) as error:
        reason = error if isinstance(error, ImageError) else "no base64"
        raise EditError(f"{name}: sent no usable image: {reason}") from None
