"""What an evaluation has used: edited images, judgements, tokens, and the money where prices are given.

    # prices.yaml, in any one currency
    editors: {nano-banana: 0.039}                                                # an edit: one image out
    judges: {"openai:gpt-4o-2024-11-20": {prompt: 2.5, completion: 10.0}}        # a million tokens

    usage_lines(usage(DIR, run))
    -> ["FLUX.1-Kontext-dev: 98 images, 2 failed", "openai:gpt-4o-2024-11-20: 196 scored, 4 unscored; 310,212 + ..."]

All that was asked of a judge counts: replies that could not be read, judgements of edits that have changed since, and
its sanity check. Tokens of the agents are not counted, nor what failed edits cost: no trace says so.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ier1_plugin.evaluation.judges.store import judgements_file, paid_tokens, read_judgements
from ier1_plugin.evaluation.records import EvaluationError, Judgement
from ier1_plugin.pipeline.batch_folder import RESULTS
from ier1_plugin.runs.settings import SettingsError, read_yaml
from ier1_plugin.task.schema import MULTI_TURN

MILLION = 1_000_000
# where an evaluation's sanity check keeps its judgements
SANITY = "sanity"
WANTED = "wanted editors: {NAME: price of an image} and judges: {NAME: {prompt: ..., completion: ...}} a million tokens"


@dataclass(frozen=True)
class Usage:
    """What one system or one judge has used."""

    name: str
    text: str
    cost: float | None = None
    """None: no price is known, or what it is a price of was not counted."""


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


def check_prices(run: Mapping[str, Any]) -> None:
    """EvaluationError: there is a price of an editor or judge that the evaluation has not got."""
    prices = run.get("prices") or {}
    known = {
        "editors": {_editor(system) for system in run["systems"]},
        "judges": {name for judge in run["judges"] for name in _price_names(judge["name"])},
    }
    for kind, names in known.items():
        unknown = [name for name in prices.get(kind) or {} if name not in names]
        if unknown:
            there = ", ".join(sorted(filter(None, names))) or "none"
            raise EvaluationError(f"--prices: {kind} has {unknown[0]!r}, which is not here; here: {there}")


def usage(folder: Path, run: Mapping[str, Any]) -> list[Usage]:
    """Of every system and judge in evaluation.json, with the prices that it has."""
    prices = run.get("prices") or {}
    systems = [_of_system(folder, system, prices.get("editors") or {}) for system in run["systems"]]
    return systems + [_of_judge(folder, judge["name"], prices.get("judges") or {}) for judge in run["judges"]]


def usage_lines(found: Iterable[Usage]) -> list[str]:
    """A line for each, and the sum of what has a price."""
    lines = [f"{one.name}: {one.text}{'' if one.cost is None else f'; {one.cost:,.2f}'}" for one in found]
    priced = [one.cost for one in found if one.cost is not None]
    return (
        [*lines, f"in all, where a price is given: {sum(priced):,.2f} (agents' tokens are not counted)"]
        if priced
        else lines
    )


def _of_system(folder: Path, system: Mapping[str, Any], prices: Mapping[str, float]) -> Usage:
    file = folder / str(system["folder"]) / RESULTS
    lines = [json.loads(line) for line in (file.read_bytes().splitlines() if file.is_file() else [])]
    counts = Counter(line["status"] for line in lines)
    text, edits = f"{counts['edited']:,} images, {counts['failed']:,} failed", counts["edited"]
    if (system.get("settings") or {}).get("mode") == MULTI_TURN:
        # an edit each for every sub-request
        edits = sum(len(line.get("sub_requests") or ["the request"]) for line in lines if line["status"] == "edited")
        text += f"; {edits:,} edits"
    price = prices.get(_editor(system))
    return Usage(system["name"], text, None if price is None else price * edits)


def _editor(system: Mapping[str, Any]) -> str:
    return str((system.get("settings") or {}).get("editor", ""))


def _of_judge(folder: Path, name: str, prices: Mapping[str, Mapping[str, float]]) -> Usage:
    scores = [judgement.score is not None for judgement in _judgements(folder, name)]
    text = f"{sum(scores):,} scored, {len(scores) - sum(scores):,} unscored"
    spent = [paid_tokens(judgements_file(place, name)) for place in (folder, folder / SANITY)]
    _, prompt, completion, uncounted = map(sum, zip(*spent, strict=True))
    if prompt or completion:
        text += f"; {prompt:,} + {completion:,} tokens"
    if uncounted:
        text += f"; {uncounted:,} replies came without a count of tokens"
    price = next((prices[key] for key in _price_names(name) if key in prices), None)
    if price is None or uncounted:
        return Usage(name, text)
    return Usage(name, text, (prompt * price["prompt"] + completion * price["completion"]) / MILLION)


def _price_names(judge: str) -> tuple[str, str]:
    """What prices may call a judge: its name with its settings, or without them."""
    return judge, judge.partition(" (")[0]


def _judgements(folder: Path, name: str) -> Iterable[Judgement]:
    file = judgements_file(folder, name)
    return read_judgements(file) if file.is_file() else ()


def _token_prices(price: Any, file: Path) -> list[Any]:
    if not isinstance(price, dict) or set(price) != {"prompt", "completion"}:
        raise EvaluationError(f"--prices: {file} has {price!r} for a judge; {WANTED}")
    return list(price.values())
