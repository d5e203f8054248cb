"""Keeps keys and passwords out of what is printed and written: settings, traces, PNG files, reports, error lines.

without_secrets({"model": "m", "token": "hf_123", "headers": {"Authorization": "Bearer t"}})
-> {"model": "m", "token": "***", "headers": {"Authorization": "***"}}
without_secrets("http://me:hunter2@127.0.0.1:8000/v1?key=abc")      # "http://127.0.0.1:8000/v1?key=***"
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
# anything shorter is a placeholder, such as "none" or "x", which may be a part of other words
SHORTEST_KEY = 8
_NAMES = (
    r"token|secret|(?<![a-z])pass|passw(?:or)?d|pwd|passphrase|cred(?:ential)?s?|(?:api|access|private)_?keys?(?:_id)?"
    r"|(?<![a-z])key|authorization|auth|bearer|jwt|signature|(?<![a-z])sig"
)
# max_tokens is a number, key_name the name of a variable
_SECRET = re.compile(rf"(?:{_NAMES}|headers?|cookies?)$|secret|passw", re.IGNORECASE)
# what EasyR1 calls the columns of its rows
_COLUMNS = ("prompt_key", "answer_key", "image_key", "video_key", "filter_key")
# token=..., 'api_key': '...', Authorization: Bearer ...; but not key=value, as messages name the form of an option
_ASSIGNED = re.compile(
    rf"""((?:{_NAMES})['"]?\s*(?:=\s*|:\s*(?=['"]))['"]?|authorization\W+|api-key['"]?:\s*)"""
    r"""(?:(?:bearer|basic)\s+)?(?!value\b)[^\s'",;&#)}\]]+""",
    re.IGNORECASE,
)
# what the keys of Hugging Face, OpenAI, Google, GitHub, AWS, Groq, xAI and Replicate look like, and a JSON web token
_KEY = re.compile(
    r"\b(?:hf_|sk-|AIza|ghp_|github_pat_|AKIA|gsk_|xai-|r8_)(?=[\w-]*\d)[\w-]{12,}|\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]+"
    r"|(?<=\bBearer )(?=\S*\d)[\w.~+/-]{12,}"
)


def without_secrets(value: Any, name: str = "") -> Any:
    """A copy, as JSON has it, with *** for what must not be written: whatever stands under a name such as token, key,
    secret, password, authorization or headers, and in texts what is assigned to such a name, and user and password of
    addresses. `name`: the key that `value` stands under.
    """
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+", "_", name).rstrip("_0123456789")
    hidden = bool(_SECRET.search(words)) and words not in _COLUMNS
    if isinstance(value, Mapping):
        return {str(key): without_secrets(inner, name if hidden else str(key)) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [without_secrets(inner, name) for inner in value]
    if value is None or isinstance(value, bool) or value == "":
        return value
    if hidden:
        return HIDDEN
    return value if isinstance(value, (int, float)) else without_password(str(value))


def without_password(text: str) -> str:
    """The text without user and password in its addresses, and with *** for keys and for what is assigned to a secret's
    name."""
    text = _KEY.sub(HIDDEN, _ASSIGNED.sub(rf"\1{HIDDEN}", text))
    return re.sub(r"//[^/?#\s]*@", "//", text)
