"""How well a model takes requests apart: its responses against gold rows, with the scorer of the training.

    (scored,) = score_all(Path("out"), ["local:decomposer"], Path("data/rl/val.parquet"), sample=400, seed=0, jobs=8)
    scored.parts["action"]        # Share(mean=0.87, low=0.85, high=0.89, count=400)
    scored.confusion["Delete"]    # {"Delete": 90, "Replace": 4, "(none)": 2}

    out/responses/MODEL.jsonl     {"id": "psr-1f3k", "response": "<think> ..."}: kept as they come, asked once
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
from hashlib import sha256
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from ier1_plugin.evaluation.confusion import by_action, confusion, said
from ier1_plugin.evaluation.records import EvaluationError
from ier1_plugin.evaluation.responses import asked, read_responses
from ier1_plugin.evaluation.run_file import taken
from ier1_plugin.evaluation.sampling import sampled
from ier1_plugin.evaluation.statistics import Resamples, interval
from ier1_plugin.files import write
from ier1_plugin.schema import Decomposition
from ier1_plugin.scoring import Gold, score_response
from ier1_plugin.tables import Line, TableError, read

PARTS = ("overall", "format", "action", "subject", "goal")
"""overall is their mean, as in the reward with all weights 1."""
RESULT, ROWS = "decomposition.json", "rows.json"


@dataclass(frozen=True)
class Share:
    """A mean over rows with its 95 % bootstrap interval; NaN where it is undefined."""

    mean: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Scored:
    """What came out for one model."""

    name: str
    rows: int
    parts: Mapping[str, Share]
    """Over the rows that were answered."""
    as_zero: Mapping[str, Share]
    """Over all rows, those without an answer as 0."""
    by_operations: Mapping[str, Mapping[str, Share]]
    """The same as `parts` by how many operations the gold has: the longest of its three lists."""
    actions: Mapping[str, Mapping[str, float]]
    """Action -> gold, said, both: rows that have it in the gold, in the response, in both; precision, recall, f1."""
    confusion: Mapping[str, Mapping[str, int]]
    """Gold action -> what was said: itself where it was said, else each action that the gold has not."""
    unanswered: Mapping[str, int] = field(default_factory=dict)
    """Reason -> rows."""
    rise: Mapping[str, Share] = field(default_factory=dict)
    """Mean difference to the first model, over the rows that both answered."""


@dataclass(frozen=True)
class GoldRow:
    """What a response is scored against."""

    id: str
    gold: Gold
    operations: int


def score_all(
    out: Path,
    models: Sequence[str],
    rows_file: Path,
    sample: int | None,
    seed: int,
    jobs: int,
    tell: Callable[[str], None] = lambda line: None,
) -> list[Scored]:
    """Asks what is open, scores everything, writes the result. EvaluationError, ChatError, OSError: it can't go on."""
    models = list(dict.fromkeys(models))
    rows = read_gold_rows(rows_file, sample, seed)
    with taken(out):
        _check_rows(out, rows_file, sample, seed)
        answers = [_answers(out, model, rows_file, rows, jobs, tell) for model in models]
        values = [_values(rows, each) for each in answers]
        found = [_scored(*each, rows, values[0]) for each in zip(models, answers, values, strict=True)]
        result = {"rows": str(rows_file), "models": [_plain(asdict(one)) for one in found]}
        write(out / RESULT, json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    return found


def read_gold_rows(file: Path, sample: int | None, seed: int) -> list[GoldRow]:
    """The rows of a parquet file that are asked. EvaluationError: it is none of RL rows, or a gold is damaged."""
    if not file.is_file():
        raise EvaluationError(f"--rows: there is no file {file}; wanted a parquet file of data_prep")
    found: dict[str, GoldRow] = {}
    try:
        for line in read(str(file), None, ("id", "answer")):
            row = line.row if isinstance(line, Line) else {}
            if not {"id", "answer"} <= set(row):
                raise EvaluationError(f"--rows: {file} has not the columns id and answer (found: {', '.join(row)})")
            if row["id"] in found:
                raise EvaluationError(f"--rows: {file} has the id {row['id']!r} twice")
            found[row["id"]] = _gold_row(row["id"], row["answer"])
    except (TableError, ValueError) as error:
        raise EvaluationError(f"--rows: {error}") from None
    if not found:
        raise EvaluationError(f"--rows: {file} has no rows")
    return [found[id] for id in sampled(found, seed, sample)]


def _gold_row(id: str, answer: Any) -> GoldRow:
    try:
        gold = Decomposition.from_json(answer)
    except (ValueError, TypeError) as error:
        raise ValueError(f"the gold of row {id} is damaged: {error}") from None
    return GoldRow(id, Gold.of(gold), max(len(gold.actions), len(gold.subjects), len(gold.goals)))


def _check_rows(out: Path, file: Path, sample: int | None, seed: int) -> None:
    """EvaluationError: the responses that are there are to other rows."""
    digest = sha256()
    with file.open("rb") as data:
        while block := data.read(1 << 20):
            digest.update(block)
    now = {"sha256": digest.hexdigest(), "sample": sample, "seed": seed}
    known = out / ROWS
    before = json.loads(known.read_text(encoding="utf-8")) if known.is_file() else now
    changed = [f"{key} {before.get(key)!r}, now {now[key]!r}" for key in now if before.get(key) != now[key]]
    if changed:
        raise EvaluationError(f"{out} was begun with other rows ({', '.join(changed)}); choose another --out")
    write(known, json.dumps(now) + "\n")


def _answers(
    out: Path, model: str, file: Path, rows: Sequence[GoldRow], jobs: int, tell: Callable[[str], None]
) -> dict[str, dict[str, str]]:
    """{id: {"response": ...} or {"error": ...}}"""
    ids = [row.id for row in rows]
    if not model.endswith(".jsonl"):
        return asked(out, model, file, ids, jobs, tell)
    known = read_responses(Path(model))
    answers = {id: known.get(id, {"error": "no response in the file"}) for id in ids}
    if not any(id in known for id in ids):
        raise EvaluationError(f"{model} answers none of the {len(ids)} rows; wanted lines with their id and response")
    return answers


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
    operations = np.array([row.operations for row in rows])
    answered = [row for row in rows if "response" in answers[row.id]]
    pairs = [(row.gold.actions, said(answers[row.id]["response"])) for row in answered]
    return Scored(
        name=name,
        rows=len(rows),
        parts=_shares(values),
        as_zero=_shares(np.nan_to_num(values)),
        by_operations={str(count): _shares(values[operations == count]) for count in np.unique(operations)},
        actions=by_action(pairs),
        confusion=confusion(pairs),
        unanswered=dict(Counter(answer["error"] for answer in answers.values() if "error" in answer)),
        rise={} if values is first else _shares(values - first),
    )


def _shares(values: np.ndarray) -> dict[str, Share]:
    # each row stands alone: rows do not say which photo they share
    means, replicates = Resamples(np.arange(len(values)), seed=0).means(values)
    bounds, counts = interval(replicates), np.isfinite(values).sum(axis=0)
    return {
        part: Share(float(means[number]), float(bounds[0, number]), float(bounds[1, number]), int(counts[number]))
        for number, part in enumerate(PARTS)
    }


def _plain(value: Any) -> Any:
    """For JSON, which has no NaN: undefined is null there."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
