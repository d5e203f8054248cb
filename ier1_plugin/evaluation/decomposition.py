"""How well a model takes requests apart: its responses against gold rows, with the scorer of the training.

    (scored,) = score_all(Path("out"), ["local:decomposer"], Path("data/rl/val.parquet"), sample=400, seed=0, jobs=8)
    scored.parts["action"]        # Share(mean=0.87, low=0.85, high=0.89, count=400)
    scored.confusion["Delete"]    # {"Delete": 90, "Replace": 4, "(none)": 2}

    out/responses/MODEL.jsonl     {"id": "psr-1f3k", "response": "<think> ..."}: kept as they come, asked once
    out/models.json               what they depend on: the weights, the prompt, the size of the images
    out/decomposition.json        everything that the printed table is made of

A model is "openai:BASE_URL#MODEL" or "local:FOLDER", asked as in training, greedily; or a .jsonl file of responses like
those above. What was not answered has no score: it is counted, and the mean with 0 in its place stands beside.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import compress
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from ier1_plugin.evaluation.benchmarks.sampling import sampled
from ier1_plugin.evaluation.confusion import Rates, by_action, confusion, said
from ier1_plugin.evaluation.folder import taken
from ier1_plugin.evaluation.gold_rows import GoldRow, by_photo, check_photos, read_gold_rows
from ier1_plugin.evaluation.model_identity import begin, read_kept
from ier1_plugin.evaluation.records import EvaluationError
from ier1_plugin.evaluation.responses import asked, read_responses
from ier1_plugin.evaluation.shares import Share, means
from ier1_plugin.evaluation.statistics import Resamples
from ier1_plugin.runs.fingerprint import sha256_of
from ier1_plugin.runs.folder import write
from ier1_plugin.task.scoring import score_response

PARTS = ("overall", "format", "action", "subject", "goal")
"""overall is their mean, as in the reward with all weights 1."""
RESULT, ROWS, ANSWERS = "decomposition.json", "rows.json", ".jsonl"


@dataclass(frozen=True)
class Scored:
    """What came out for one model."""

    name: str
    rows: int
    photos: int
    """Rows about one photo are resampled together."""
    parts: Mapping[str, Share]
    """Over the rows that were answered."""
    as_zero: Mapping[str, Share]
    """Over all rows, those without an answer as 0."""
    by_operations: Mapping[str, Mapping[str, Share]]
    """The same as `parts` by how many operations the gold has: the longest of its three lists."""
    actions: Mapping[str, Rates]
    confusion: Mapping[str, Mapping[str, int]]
    """Gold action -> what was said: itself where it was said, else each action that the gold has not."""
    unanswered: Mapping[str, int] = field(default_factory=dict)
    """Reason -> rows."""
    rise: Mapping[str, Share] = field(default_factory=dict)
    """Mean difference to the first model, over the rows that both answered."""


def score_all(
    out: Path,
    models: Sequence[str],
    rows_file: Path,
    sample: int | None,
    seed: int,
    jobs: int,
    on_warning: Callable[[str], None] = lambda line: None,
) -> list[Scored]:
    """Asks what is open, scores everything, writes the result. EvaluationError, ChatError, OSError: it can't go on."""
    models, known = list(dict.fromkeys(models)), read_gold_rows(rows_file)
    rows = [known[id] for id in sampled(known, seed, sample)]
    if sample and sample > len(rows):
        on_warning(f"{rows_file} has {len(rows)} rows, fewer than --sample {sample}: all of them are taken")
    with taken(out):
        _check_rows(out, rows_file, sample, seed)
        given = {model: _given(model, rows, known, on_warning) for model in models if model.endswith(ANSWERS)}
        _begin(out, [model for model in models if model not in given], rows, rows_file)
        ids = [row.id for row in rows]
        answers = [given.get(model) or asked(out, model, rows_file, ids, jobs, on_warning) for model in models]
        values = [_values(rows, each) for each in answers]
        found = [_scored(*each, rows, values[0]) for each in zip(models, answers, values, strict=True)]
        result = {"rows": str(rows_file), "models": [_plain(asdict(one)) for one in found]}
        write(out / RESULT, json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    return found


def _begin(out: Path, models: Sequence[str], rows: Sequence[GoldRow], file: Path) -> None:
    """All that can be wrong with the models and what they are asked, before one of them is."""
    if models:
        check_photos(rows, file)
        begin(out, models)


def _check_rows(out: Path, file: Path, sample: int | None, seed: int) -> None:
    """EvaluationError: the responses that are there are to other rows."""
    now = {"sha256": sha256_of(file), "sample": sample, "seed": seed}
    known = out / ROWS
    before = read_kept(known) or now
    changed = [f"{key} {before.get(key)!r}, now {now[key]!r}" for key in now if before.get(key) != now[key]]
    if changed:
        raise EvaluationError(f"{out} was begun with other rows ({', '.join(changed)}); choose another --out")
    write(known, json.dumps(now) + "\n")


def _given(
    file: str, rows: Sequence[GoldRow], known: Mapping[str, GoldRow], on_warning: Callable[[str], None]
) -> dict[str, dict[str, str]]:
    """{id: {"response": ...} or {"error": ...}}, out of a file of responses. EvaluationError: it answers no row."""
    there = read_responses(Path(file))
    if not any(row.id in there for row in rows):
        raise EvaluationError(f"{file} answers none of the {len(rows)} rows; wanted lines with their id and response")
    unknown = [id for id in there if id not in known]
    if unknown:
        on_warning(
            f"{file} answers {len(unknown)} rows that there are not, the first {unknown[0]!r}: they count for nothing"
        )
    return {row.id: there.get(row.id, {"error": "no response in the file"}) for row in rows}


def _values(rows: Sequence[GoldRow], answers: Mapping[str, Mapping[str, str]]) -> np.ndarray:
    """(rows, PARTS): scores; NaN where there is no answer."""
    values = np.full((len(rows), len(PARTS)), np.nan)
    for number, row in enumerate(rows):
        response = answers[row.id].get("response")
        if response is not None:
            parts = score_response(response, row.gold)
            values[number] = [fmean(parts.values()), *(parts[part] for part in PARTS[1:])]
    return values


def _scored(
    name: str,
    answers: Mapping[str, Mapping[str, str]],
    values: np.ndarray,
    rows: Sequence[GoldRow],
    first: np.ndarray,
) -> Scored:
    operations, photos = np.array([row.operations for row in rows]), by_photo(rows)
    answered = np.array(["response" in answers[row.id] for row in rows])
    pairs = [(row.gold.actions, said(answers[row.id]["response"])) for row in compress(rows, answered)]
    return Scored(
        name=name,
        rows=len(rows),
        photos=len(np.unique(photos)),
        parts=_shares(values, photos),
        as_zero=_shares(np.nan_to_num(values), photos),
        by_operations={
            str(count): _shares(values[operations == count], photos[operations == count])
            for count in np.unique(operations)
        },
        actions=by_action(pairs, photos[answered]),
        confusion=confusion(pairs),
        unanswered=dict(Counter(answer["error"] for answer in answers.values() if "error" in answer)),
        rise={} if values is first else _shares(values - first, photos),
    )


def _shares(values: np.ndarray, photos: np.ndarray) -> dict[str, Share]:
    return dict(zip(PARTS, means(values, Resamples(photos, seed=0)), strict=True))


def _plain(value: Any) -> Any:
    """For JSON, which has no NaN: undefined is null there."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
