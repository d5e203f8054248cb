"""What the page says of how it was measured: facts of several evaluations, told once, or by folder where they differ.

told({"psr": {"seed": 0, "sampled": 328}, "psr-more": {"seed": 0, "sampled": 100}})
-> ["seed 0", "sampled 328 (psr), 100 (psr-more)"]
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ier1_plugin.evaluation.study import JudgeInfo

# the judgements' own dates tell more; the name stands before the facts
NOT_TOLD = ("name", "date")
NOT_TRIED = "not tried"
HASH = 12


def told(by_folder: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line for each fact that one of the folders has."""
    keys = dict.fromkeys(key for facts in by_folder.values() for key in facts if key not in NOT_TOLD)
    lines = []
    for key in keys:
        values = {folder: _shown(key, facts.get(key)) for folder, facts in by_folder.items()}
        if any(values.values()):
            lines.append(f"{key.replace('_', ' ')} {_joined(values)}")
    return lines


def of_judge(judge: JudgeInfo) -> list[str]:
    """When it judged, what answered, whether it was tried, and its settings."""
    days = list(dict.fromkeys(date[:10] for date in (judge.first, judge.last) if date))
    counts = judge.models.items()
    models = ", ".join(model if len(judge.models) == 1 else f"{model} ({count:,})" for model, count in counts)
    facts = {folder: {"sanity": NOT_TRIED, **own} for folder, own in judge.facts.items()}
    return [
        *([f"judged {' to '.join(days)}"] if days else []),
        *([f"answered as {models}"] if models else []),
        *told(facts),
    ]


def _joined(values: Mapping[str, str]) -> str:
    """Once where the folders agree."""
    folders: dict[str, list[str]] = {}
    for folder, value in values.items():
        folders.setdefault(value, []).append(folder)
    if len(folders) == 1:
        return next(iter(folders))
    return ", ".join(f"{value or 'none'} ({', '.join(where)})" for value, where in folders.items())


def _shown(key: str, value: object) -> str:
    if value in (None, "", {}, []):
        return ""
    return str(value)[:HASH] if key.endswith("sha256") else str(value)
