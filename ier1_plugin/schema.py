"""The records that travel through the whole chain.

    Decomposition(actions=("Recoloring",), subjects=("coat", "hair"), goals=("scarlet or copper red",))

is what the decomposition agent says about "Change the color of her coat and possibly hair to scarlet or copper red"
(paper, section 2.1). Records are frozen; text becomes a record once, in `parsing.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

COMPONENTS = ("actions", "subjects", "goals")


def distinct(strings: Iterable[str]) -> tuple[str, ...]:
    """The strings without repetitions, in the order of their first appearance."""
    return tuple(dict.fromkeys(strings))


@dataclass(frozen=True)
class Decomposition:
    """A request taken apart: ordered tuples of distinct strings, compared as sets by the rewards."""

    actions: tuple[str, ...] = ()
    """Names out of `actions.ACTIONS`."""
    subjects: tuple[str, ...] = ()
    """What is edited, as a person would name it."""
    goals: tuple[str, ...] = ()
    """What it should become."""

    @classmethod
    def of(cls, actions: Iterable[str], subjects: Iterable[str], goals: Iterable[str]) -> Decomposition:
        return cls(distinct(actions), distinct(subjects), distinct(goals))

    @classmethod
    def from_json(cls, text: str) -> Decomposition:
        """Reads what `to_json` wrote. ValueError says what is wrong with `text`; nothing is repaired."""
        try:
            fields = json.loads(text)
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError(f"not JSON ({error})") from None
        if not isinstance(fields, dict) or set(fields) != set(COMPONENTS):
            raise ValueError(f"wanted a JSON object with exactly the keys {', '.join(COMPONENTS)}")
        for name in COMPONENTS:
            if not isinstance(fields[name], list) or not all(isinstance(item, str) for item in fields[name]):
                raise ValueError(f"{name} is not an array of strings")
        return cls.of(**fields)

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)
