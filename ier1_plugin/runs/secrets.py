"""Keeps passwords out of what is printed and written.

without_password("http://me:hunter2@127.0.0.1:8000/v1")      # "http://127.0.0.1:8000/v1"
"""

from __future__ import annotations

import re


def without_password(text: str) -> str:
    """The text with user and password removed from every address in it."""
    return re.sub(r"//[^/?#\s]*@", "//", text)
