"""What an evaluation has used: edited images, judgements, tokens, and the money where prices are given.

    # prices.yaml, in any one currency
    editors: {nano-banana: 0.039}                                                # an edit: one image out
    judges: {"openai:gpt-4o-2024-11-20": {prompt: 2.5, completion: 10.0}}        # a million tokens

    usage_lines(usage(DIR, run))
    -> ["FLUX.1-Kontext-dev: 98 images, 2 failed", "openai:gpt-4o-2024-11-20: 196 scored, 4 unscored; 310,212 + ..."]

Everything that a judge was asked counts: replies that could not be read, judgements of edits that have changed since,
and its sanity check. The agents' tokens and the cost of failed edits are not counted, since no trace records them.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ier1_plugin.evaluation.folder import JUDGEMENTS, SANITY, read_judgements
from ier1_plugin.evaluation.records import EvaluationError, Judgement
from ier1_plugin.pipeline.batch_folder import RESULTS
from ier1_plugin.runs.settings import SettingsError, read_yaml
from ier1_plugin.runs.store import Store
from ier1_plugin.task.schema import MULTI_TURN

MILLION = 1_000_000
WANTED = "wanted editors: {NAME: price of an image} and judges: {NAME: {prompt: ..., completion: ...}} a million tokens"


@dataclass(frozen=True)
class Usage:
    """What one system or one judge has used."""

    name: str
    text: str
    cost: float | None = None
    """None: no price is known, or the priced quantity was not counted."""
    done: int = 0
    """Edits or scores that came of it."""


def read_prices(file: Path | None) -> dict[str, Any] | None:
    """EvaluationError: it can't be read, or is not in the form of WANTED."""
    if file is None:
        return None
    try:
        values = read_yaml(file)
    except SettingsError as error:
        raise EvaluationError(f"--prices: {error}") from None
    editors, judges = values.get("editors") or {}, values.get("judges") or {}
    if set(values) - {"editors", "judges"} or not isinstance(editors, dict) or not isinstance(judges, dict):
        raise EvaluationError(f"--prices: {file} has {', '.join(values) or 'nothing'}; {WANTED}")
    numbers = [*editors.values()]
    for price in judges.values():
        if not isinstance(price, dict) or set(price) != {"prompt", "completion"}:
            raise EvaluationError(f"--prices: {file} has {price!r} for a judge; {WANTED}")
        numbers += price.values()
    if not all(isinstance(price, (int, float)) and not isinstance(price, bool) and price >= 0 for price in numbers):
        raise EvaluationError(f"--prices: {file} has a price that is not a number from 0 on; {WANTED}")
    return {"editors": editors, "judges": judges}


def check_prices(run: Mapping[str, Any]) -> None:
    """EvaluationError: there is a price for an editor or judge that the evaluation does not have."""
    known = {
        "editors": {_editor(system) for system in run["systems"]},
        "judges": {name for judge in run["judges"] for name in _price_names(judge["name"])},
    }
    for kind, names in known.items():
        unknown = [name for name in (run.get("prices") or {}).get(kind) or {} if name not in names]
        if unknown:
            there = ", ".join(sorted(filter(None, names))) or "none"
            raise EvaluationError(f"--prices: {kind} has {unknown[0]!r}, which this evaluation lacks; it has {there}")


def usage(folder: Path, run: Mapping[str, Any]) -> list[Usage]:
    """The usage of every system and judge in evaluation.json, with the prices in it."""
    prices = run.get("prices") or {}
    uses = []
    for system in run["systems"]:
        file = folder / str(system["folder"]) / RESULTS
        lines = [json.loads(line) for line in (file.read_bytes().splitlines() if file.is_file() else [])]
        edited = [line for line in lines if line["status"] == "edited"]
        failed = [str(line.get("error")) for line in lines if line["status"] == "failed"]
        text, edits = f"{len(edited):,} images, {len(failed):,} failed{most_often(failed)}", len(edited)
        if (system.get("settings") or {}).get("mode") == MULTI_TURN:
            # an edit each for every sub-request
            edits = sum(len(line.get("sub_requests") or ["the request"]) for line in edited)
            text += f"; {edits:,} edits"
        price = (prices.get("editors") or {}).get(_editor(system))
        uses.append(Usage(system["name"], text, None if price is None else price * edits, len(edited)))
    reasons: dict[str, list[str]] = defaultdict(list)
    for one in read_judgements(folder):
        reasons[one.judge].append(one.unscored)
    tokens = _tokens(folder) + _tokens(folder / SANITY)
    for name in (judge["name"] for judge in run["judges"]):
        unscored = [reason for reason in reasons[name] if reason]
        scored = len(reasons[name]) - len(unscored)
        text = f"{scored:,} scored, {len(unscored):,} unscored{most_often(unscored)}"
        prompt, completion, uncounted = (tokens[name, kind] for kind in ("prompt", "completion", "uncounted"))
        if prompt or completion:
            text += f"; {prompt:,} + {completion:,} tokens"
        if uncounted:
            text += f"; {uncounted:,} replies came without a count of tokens"
        known = prices.get("judges") or {}
        price = next((known[key] for key in _price_names(name) if key in known), None)
        cost = (prompt * price["prompt"] + completion * price["completion"]) / MILLION if price else 0
        uses.append(Usage(name, text, None if price is None or uncounted else cost, scored))
    return uses


def most_often(reasons: Sequence[str]) -> str:
    """ " (most often: http: ...)": a reason of the most frequent kind, which stands before its colon; "" for none."""
    if not reasons:
        return ""
    kind = Counter(reason.partition(":")[0] for reason in reasons).most_common(1)[0][0]
    of_kind = Counter(reason for reason in reasons if reason.partition(":")[0] == kind)
    return f" (most often: {of_kind.most_common(1)[0][0]})"


def usage_lines(uses: Sequence[Usage]) -> list[str]:
    """A line for each, and the sum of those with a price."""
    lines = [f"{one.name}: {one.text}{'' if one.cost is None else f'; {one.cost:,.2f}'}" for one in uses]
    priced = [one.cost for one in uses if one.cost is not None]
    total = f"in all, where a price is given: {sum(priced):,.2f} (agents' tokens are not counted)"
    return [*lines, total] if priced else lines


def _tokens(folder: Path) -> Counter[tuple[str, str]]:
    """(judge, "prompt", "completion" or "uncounted") -> tokens, or replies whose tokens the server did not count.

    Covers every reply ever written, also those that no longer count.
    """
    totals: Counter[tuple[str, str]] = Counter()
    if (folder / JUDGEMENTS).is_file():
        with Store(folder / JUDGEMENTS, read_only=True) as store:
            for _, record in store:
                one = Judgement.from_dict(record)
                totals[one.judge, "prompt"] += one.prompt_tokens or 0
                totals[one.judge, "completion"] += one.completion_tokens or 0
                # a request that a server refused has neither model nor reply
                answered = bool(one.model or one.reply)
                totals[one.judge, "uncounted"] += answered and None in (one.prompt_tokens, one.completion_tokens)
    return totals


def _editor(system: Mapping[str, Any]) -> str:
    return str((system.get("settings") or {}).get("editor", ""))


def _price_names(judge: str) -> tuple[str, str]:
    """The names that prices may use for a judge: with its settings, or without them."""
    return judge, judge.partition(" (")[0]
