"""What an evaluation has used: edited images, judgements, tokens, and the money where prices are given.

    # prices.yaml, in any one currency
    editors: {nano-banana: 0.039}                                                # an edited image
    judges: {"openai:gpt-4o-2024-11-20": {prompt: 2.5, completion: 10.0}}        # a million tokens

    usage_lines(DIR, run, read_prices(Path("prices.yaml")))
    -> ["FLUX.1-Kontext-dev: 98 images, 2 failed", "openai:gpt-4o-2024-11-20: 196 scored, 4 unscored; 310,212 + ..."]

Tokens of the agents are not counted: their servers are one's own as a rule.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ier1_plugin.batch_store import RESULTS
from ier1_plugin.evaluation.judge_store import judgements_file, read_judgements
from ier1_plugin.evaluation.records import EvaluationError, Judgement
from ier1_plugin.system import SettingsError, read_yaml

MILLION = 1_000_000
WANTED = "wanted editors: {NAME: price of an image} and judges: {NAME: {prompt: ..., completion: ...}} a million tokens"


@dataclass(frozen=True)
class Usage:
    """What one system or one judge has used."""

    name: str
    text: str
    cost: float | None = None
    """None: no price is known."""


def read_prices(file: Path | None) -> dict[str, Any] | None:
    """EvaluationError: it can't be read, or does not say what costs what."""
    if file is None:
        return None
    try:
        values = read_yaml(file)
    except SettingsError as error:
        raise EvaluationError(f"--prices: {error}") from None
    editors, judges = values.get("editors") or {}, values.get("judges") or {}
    if set(values) - {"editors", "judges"} or not isinstance(editors, dict) or not isinstance(judges, dict):
        raise EvaluationError(f"--prices: {file} has {', '.join(values) or 'nothing'}; {WANTED}")
    numbers = [*editors.values(), *(price for each in judges.values() for price in _token_prices(each, file))]
    if not all(isinstance(price, (int, float)) and not isinstance(price, bool) and price >= 0 for price in numbers):
        raise EvaluationError(f"--prices: {file} has a price that is no number from 0 on; {WANTED}")
    return {"editors": editors, "judges": judges}


def usage(folder: Path, run: Mapping[str, Any]) -> list[Usage]:
    """Of every system and judge in evaluation.json, with the prices that it has."""
    prices = run.get("prices") or {}
    systems = [_of_system(folder, system, prices.get("editors") or {}) for system in run["systems"]]
    return systems + [_of_judge(folder, judge["name"], prices.get("judges") or {}) for judge in run["judges"]]


def usage_lines(found: Iterable[Usage]) -> list[str]:
    """A line for each, and the sum of what has a price."""
    lines = [f"{one.name}: {one.text}{'' if one.cost is None else f'; {one.cost:,.2f}'}" for one in found]
    priced = [one.cost for one in found if one.cost is not None]
    return [*lines, f"in all, where a price is given: {sum(priced):,.2f}"] if priced else lines


def _of_system(folder: Path, system: Mapping[str, Any], prices: Mapping[str, float]) -> Usage:
    file = folder / str(system["folder"]) / RESULTS
    lines = file.read_bytes().splitlines() if file.is_file() else []
    counts = Counter(json.loads(line)["status"] for line in lines)
    price = prices.get(str((system.get("settings") or {}).get("editor", "")))
    text = f"{counts['edited']:,} images, {counts['failed']:,} failed"
    return Usage(system["name"], text, None if price is None else price * counts["edited"])


def _of_judge(folder: Path, name: str, prices: Mapping[str, Mapping[str, float]]) -> Usage:
    scored = unscored = prompt = completion = 0
    for judgement in _judgements(folder, name):
        scored, unscored = scored + (judgement.score is not None), unscored + (judgement.score is None)
        prompt, completion = prompt + (judgement.prompt_tokens or 0), completion + (judgement.completion_tokens or 0)
    text = f"{scored:,} scored, {unscored:,} unscored"
    if prompt or completion:
        text += f"; {prompt:,} + {completion:,} tokens"
    price = prices.get(name)
    cost = None if price is None else (prompt * price["prompt"] + completion * price["completion"]) / MILLION
    return Usage(name, text, cost)


def _judgements(folder: Path, name: str) -> Iterable[Judgement]:
    file = judgements_file(folder, name)
    return read_judgements(file) if file.is_file() else ()


def _token_prices(price: Any, file: Path) -> list[Any]:
    if not isinstance(price, dict) or set(price) != {"prompt", "completion"}:
        raise EvaluationError(f"--prices: {file} has {price!r} for a judge; {WANTED}")
    return list(price.values())
