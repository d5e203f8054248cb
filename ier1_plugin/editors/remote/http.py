"""What editors behind HTTP share: limits, keys from the environment, and reading an image from a reply.

read_key("GEMINI_API_KEY", "GOOGLE_API_KEY")      # the first that is set; EditError names them if none is
"""

from __future__ import annotations

import base64
import binascii

from PIL import Image

from ier1_plugin.chat.http import MAX_TIMEOUT, checked_address, checked_key
from ier1_plugin.editors.base import EditError, number
from ier1_plugin.task.images import ImageError, open_image

TIMEOUT, RETRIES, MAX_RETRIES = 300.0, 4, 100


def check_limits(timeout: float, retries: int) -> None:
    """EditError for a timeout in seconds or a number of retries out of range."""
    number(timeout, "timeout", 0.001, MAX_TIMEOUT)
    number(retries, "retries", 0, MAX_RETRIES, whole=True)


def address_of(url: object) -> str:
    """The address of a server, "" for the provider's own. EditError, ChatError: it is not an address."""
    if url is not None and not isinstance(url, str):
        raise EditError(f"{url!r} is not an address; wanted a text such as http://127.0.0.1:8000/v1")
    return checked_address(url or "")


def read_key(*names: str) -> str:
    """The first of these environment variables that is set. EditError: none is. ChatError: it can't be a key."""
    key = next(filter(None, map(checked_key, names)), "")
    if not key:
        raise EditError(f"{' or '.join(names)} is not set; export the key of your account first")
    return key


def image_of(data: bytes | str | None, name: str) -> Image.Image:
    """An image from a reply: encoded bytes, or those in base64. EditError: it is not an image."""
    try:
        encoded = base64.b64decode(data, validate=True) if isinstance(data, str) else data or b""
        return open_image(encoded)
    except (binascii.Error, ValueError) as error:
        reason = error if isinstance(error, ImageError) else "no base64"
        raise EditError(f"{name}: sent no usable image: {reason}") from None
