"""Which optional parameters a chat server takes: one that it refuses is left out for the rest of the run.

    dialect.parameters(temperature=0.0, seed=0)
    -> {"response_format": {"type": "json_schema", ...}, "max_completion_tokens": 4096, "temperature": 0.0, "seed": 0}

Only the schema has a stand-in: JSON mode, with the schema in the prompt.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any

JSON_OBJECT = {"type": "json_object"}
# a reply is three short lists; the rest is room for models that reason first, and an end to those that never stop
MAX_REPLY_TOKENS = 4096
# how servers name what they refuse; reasoning models of OpenAI refuse a temperature, Mistral's API refuses a seed
_NAMES = {
    "response_format": r"response.?format|json.?schema|structured|grammar|guided",
    "max_completion_tokens": r"max_completion_tokens",
    "temperature": r"\btemperature\b",
    "seed": r"\bseed\b",
}

_STAND_INS = {"response_format": ("json_schema", "json_object and the schema in the prompt")}


class Dialect:
    """Starts with everything and learns from refusals (HTTP 400 and 422); safe to use from several threads."""

    def __init__(self, schema: dict[str, Any], tell: Callable[[str], None]) -> None:
        """`tell` takes one line for each parameter that is given up."""
        wanted = {"name": "decomposition", "strict": True, "schema": schema}
        self._schema = {"type": "json_schema", "json_schema": wanted}
        self._given_up: set[str] = set()
        self._lock = threading.Lock()
        self._tell = tell

    def parameters(self, temperature: float, seed: int) -> dict[str, Any]:
        full = {
            "response_format": self._schema,
            "max_completion_tokens": MAX_REPLY_TOKENS,
            "temperature": temperature,
            "seed": seed,
        }
        kept = {name: value for name, value in full.items() if name not in self._given_up}
        return {"response_format": JSON_OBJECT} | kept

    def concedes(self, sent: dict[str, Any], status: int, message: str) -> bool:
        """True if the refused request held a parameter that the next one will not hold."""
        if status not in (400, 422):
            return False
        refused = [name for name, pattern in _NAMES.items() if re.search(pattern, message, re.IGNORECASE)]
        name = next((name for name in refused if name in sent and sent[name] != JSON_OBJECT), None)
        if name is None:
            return False
        self._give_up(name)
        return True

    def _give_up(self, name: str) -> None:
        with self._lock:
            # several threads may be refused at once; one line is enough
            if name in self._given_up:
                return
            self._given_up.add(name)
        what, instead = _STAND_INS.get(name, (name, "the server's own default"))
        self._tell(f"refused {what}: going on with {instead}")
