"""What editors behind HTTP share: the key from the environment, an image out of a reply, and errors in plain words.

read_key("GEMINI_API_KEY", "GOOGLE_API_KEY")      # the first that is set; EditError names them if none is
status_words(429, "OPENAI_API_KEY", "slow down")  # "too many requests (HTTP 429)"
"""

from __future__ import annotations

import base64
import binascii
import os
from importlib.util import find_spec

from PIL import Image

from ier1_plugin.editors.base import EditError
from ier1_plugin.images import ImageError, open_image

TIMEOUT, RETRIES = 300.0, 4
MAX_TIMEOUT, MAX_RETRIES = 86_400.0, 100


def need_package(module: str, package: str, name: str) -> None:
    """EditError where `module` can't be imported."""
    try:
        found = find_spec(module) is not None
    except ModuleNotFoundError:
        found = False
    if not found:
        raise EditError(f"{name} needs the {package} client: pip install {package}")


def read_key(*names: str) -> str:
    """The first of these environment variables that is set. EditError: none is."""
    key = next((os.environ[name].strip() for name in names if os.environ.get(name, "").strip()), "")
    if not key:
        raise EditError(f"{' or '.join(names)} is not set; export the key of your account first")
    return key


def status_words(status: int, key_name: str, message: str) -> str:
    """What an HTTP error status means for the user; `message` is the server's own, used where it says more."""
    words = {
        401: f"the key in {key_name} was not accepted",
        402: "the account has no credit left",
        403: f"the key in {key_name} has no access to this model",
        404: "there is no such model or address",
        408: "the server gave up waiting",
        413: "the image is too large for the server",
        429: "too many requests",
    }
    if status >= 500:
        return f"the server failed (HTTP {status})"
    return f"{words[status]} (HTTP {status})" if status in words else f"refused (HTTP {status}): {message}"


def image_of(data: bytes | str | None, name: str) -> Image.Image:
    """An image out of a reply: encoded bytes, or those in base64. EditError: it is none."""
    try:
        encoded = base64.b64decode(data, validate=True) if isinstance(data, str) else data or b""
        return open_image(encoded)
    except (binascii.Error, ValueError) as error:
        reason = error if isinstance(error, ImageError) else "no base64"
        raise EditError(f"{name}: sent no usable image: {reason}") from None
