"""How well models take requests apart: their responses against gold rows, scored as in training.

    (scored,) = score_all(Path("out"), ["local:decomposer"], Path("data/rl/val.parquet"), sample=400, seed=0, jobs=8)
    scored.parts["action"]        # Estimate(mean=0.87, low=0.85, high=0.89, count=400)
    scored.confusion["Delete"]    # {"Delete": 90, "Replace": 4, "(none)": 2}
    print(table([scored]))

    out/responses.sqlite, .jsonl  {"id": "psr-1f3k", "response": "<think> ...", "model": ...}: stored as they arrive
    out/decomposition.json        everything that the printed table is made of

A model is "openai:BASE_URL#MODEL", "gemini:MODEL" or "local:FOLDER", asked as in training, greedily; or a .jsonl file
of responses. A row without an answer has no score: it is counted, and a second mean takes it as 0.

    python -m ier1_plugin.evaluation.decomposition --rows quickstart/rows/val.parquet --before quickstart/before \\
        --after quickstart/after --out report.txt       # a training in the small world, before and after
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ier1_plugin.data.tables import read
from ier1_plugin.evaluation.benchmarks.sample import sampled
from ier1_plugin.evaluation.records import EvaluationError
from ier1_plugin.evaluation.responses import Answers, ask_models, read_responses
from ier1_plugin.evaluation.statistics import Estimate, Resamples, means, ratios
from ier1_plugin.runs.fingerprint import sha256_of
from ier1_plugin.runs.folder import freeze_settings, locked, write
from ier1_plugin.runs.secrets import without_password
from ier1_plugin.task.actions import ACTIONS
from ier1_plugin.task.parsing import parse_response
from ier1_plugin.task.rows import read_answer
from ier1_plugin.task.scoring import Gold, normalise, normalised_set, score_response

PARTS = {
    "overall": "overall",
    "format": "format rate",
    "action": "action F1",
    "subject": "subject F1",
    "goal": "goal F1",
}
"""overall is the mean of the others, as in the reward with all weights 1."""
RESULT, ROWS = "decomposition.json", "rows.json"
NONE, OTHER, UNREADABLE = "(none)", "(other)", "(unreadable)"
NAMES = (*ACTIONS, OTHER)
_CANONICAL = {normalise(action): action for action in ACTIONS}
MOST_CONFUSED = 10
ABOUT = """\
What this is: a test bench. The whole loop runs (rows, rollouts, rewards, GRPO in the trainer on Ray, merging) with a
model of a million parameters on requests that a program wrote. At this size GRPO mostly sharpens what the warm-up
taught: the sampled reward comes close to the greedy one. These are not the figures of the paper."""


@dataclass(frozen=True)
class GoldRow:
    """What a response is scored against."""

    id: str
    gold: Gold
    operations: int
    """The longest of the gold's three lists."""
    photo: str = ""
    """sha256 of its image, or "" of a row that brings none. Two crops of one picture are two photos."""


@dataclass(frozen=True)
class Scored:
    """The scores of one model. Rows about one photo are resampled together."""

    name: str
    rows: int
    photos: int
    parts: Mapping[str, Estimate]
    """Scores over the rows that were answered."""
    as_zero: Mapping[str, Estimate]
    """Scores over all rows, with 0 for those without an answer."""
    by_operations: Mapping[str, Mapping[str, Estimate]]
    """As `parts`, by how many operations the gold has."""
    actions: Mapping[str, Mapping[str, Any]]
    """Action -> numbers of responses to rows with it in the gold ("gold"), with it named ("named"), with both; and the
    Estimates "precision", "recall" and "f1"."""
    confusion: Mapping[str, Mapping[str, int]]
    """Gold action -> what was named: itself where it was named, else each action that the gold has not."""
    unanswered: Mapping[str, int] = field(default_factory=dict)
    """Reason -> rows."""
    rise: Mapping[str, Estimate] = field(default_factory=dict)
    """Mean difference from the first model, over the rows that both answered."""


def score_all(
    out: Path,
    models: Sequence[str],
    rows_file: Path,
    sample: int | None,
    seed: int,
    jobs: int,
    on_warning: Callable[[str], None] = lambda line: None,
) -> list[Scored]:
    """Asks for missing responses, scores everything, writes the result. EvaluationError, ChatError, OSError: it can't
    continue."""
    models, known = list(dict.fromkeys(models)), read_gold_rows(rows_file)
    rows = [known[id] for id in sampled(known, seed, sample)]
    ids = [row.id for row in rows]
    if sample and sample > len(rows):
        on_warning(f"{rows_file} has {len(rows)} rows, fewer than --sample {sample}: all of them are taken")
    with locked(out):
        if (out / "responses").is_dir():
            raise EvaluationError(f"{out} was begun by an earlier version of this program; choose another --out")
        freeze_settings(out / ROWS, {"sha256": sha256_of(rows_file), "sample": sample, "seed": seed})
        answers = {model: read_responses(Path(model)) for model in models if model.endswith(".jsonl")}
        for file, responses in answers.items():
            if responses.keys().isdisjoint(ids):
                raise EvaluationError(f"{file} answers none of the {len(rows)} rows; wanted their ids and responses")
            if unknown := [id for id in responses if id not in known]:
                on_warning(f"{file} answers {len(unknown)} rows that do not exist, the first {unknown[0]!r}: left out")
        to_ask = [model for model in models if model not in answers]
        without = [row.id for row in rows if not row.photo]
        if to_ask and without:
            raise EvaluationError(
                f"--rows: {len(without)} rows of {rows_file} have no image, the first {without[0]!r}; a model is asked "
                "with one"
            )
        answers |= ask_models(out, to_ask, rows_file, ids, jobs, on_warning)
        scored = score(rows, {without_password(model): answers[model] for model in models})
        result = {"rows": str(rows_file), "models": [_plain(asdict(one)) for one in scored]}
        write(out / RESULT, json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    return scored


def read_gold_rows(file: Path) -> dict[str, GoldRow]:
    """All rows of a parquet file by their ids. EvaluationError: it holds no RL rows, or a gold is damaged."""
    if not file.is_file():
        raise EvaluationError(f"--rows: there is no file {file}; wanted a parquet file of data_prep")
    rows: dict[str, GoldRow] = {}
    for line in read(str(file), None, ("id", "answer", "images")):
        row = line.row
        if not {"id", "answer"} <= set(row):
            raise EvaluationError(f"--rows: {file} lacks the columns id and answer (found: {', '.join(row) or 'none'})")
        if row["id"] in rows:
            raise EvaluationError(f"--rows: {file} has the id {row['id']!r} twice")
        try:
            gold, _ = read_answer(row["answer"])
            if gold is None:
                raise ValueError("there is a case alone, and nothing to compare answers with")
        except (ValueError, TypeError) as error:
            raise EvaluationError(f"--rows: the gold of row {row['id']} is damaged: {error}") from None
        # rows carry no name of their photo: those whose images are the same bytes are about one
        data = (row.get("images") or [{}])[0].get("bytes")
        operations = max(len(gold.actions), len(gold.subjects), len(gold.goals))
        rows[row["id"]] = GoldRow(row["id"], Gold.of(gold), operations, sha256(data).hexdigest() if data else "")
    if not rows:
        raise EvaluationError(f"--rows: {file} has no rows")
    return rows


def score(rows: Sequence[GoldRow], answers: Mapping[str, Answers]) -> list[Scored]:
    """The scores of every model; of several responses to a row their mean counts."""
    operations = np.array([row.operations for row in rows])
    # a row without an image stands alone
    photos = np.unique([row.photo or f"row {row.id}" for row in rows], return_inverse=True)[1].ravel()
    first: NDArray[np.float64] | None = None
    found = []

    def estimates(values: NDArray[np.float64], chosen: Any = slice(None)) -> dict[str, Estimate]:
        return dict(zip(PARTS, means(values[chosen], Resamples(photos[chosen], seed=0)), strict=True))

    for name, given in answers.items():
        values, unanswered = np.full((len(rows), len(PARTS)), np.nan), Counter[str]()
        pairs, pair_photos = [], []
        for number, row in enumerate(rows):
            responses = given.get(row.id, "no response in the file")
            if isinstance(responses, str):
                unanswered[responses] += 1
                continue
            values[number] = np.mean([_scores(text, row.gold) for text in responses], axis=0)
            gold = frozenset(_CANONICAL.get(action, OTHER) for action in row.gold.actions)
            for text in responses:
                actions = parse_response(text).actions
                known = (_CANONICAL.get(action, OTHER) for action in normalised_set(actions or ()))
                pairs.append((gold, None if actions is None else frozenset(known)))
            pair_photos += [photos[number]] * len(responses)
        first = values if first is None else first
        found.append(
            Scored(
                name=name,
                rows=len(rows),
                photos=len(np.unique(photos)),
                parts=estimates(values),
                as_zero=estimates(np.nan_to_num(values)),
                by_operations={str(count): estimates(values, operations == count) for count in np.unique(operations)},
                actions=by_action(pairs, np.array(pair_photos)),
                confusion=confusion(pairs),
                unanswered=dict(unanswered),
                rise={} if values is first else estimates(values - first),
            )
        )
    return found


Pairs = Sequence[tuple[frozenset[str], frozenset[str] | None]]
"""Gold actions and named ones, response by response, those outside the vocabulary as OTHER; None: unreadable."""


def by_action(pairs: Pairs, photos: NDArray[Any]) -> dict[str, dict[str, Any]]:
    """`Scored.actions` of every action that is in a gold or was named. `photos`: a number for the photo of each
    pair."""
    resamples, found = Resamples(photos, seed=0), {}
    for name in NAMES:
        gold, named = (np.array([[name in (pair[side] or ())] for pair in pairs], float) for side in (0, 1))
        both = gold * named
        if gold.any() or named.any():
            found[name] = {
                **{key: int(each.sum()) for key, each in (("gold", gold), ("named", named), ("both", both))},
                "precision": ratios(both, named, resamples)[0],
                "recall": ratios(both, gold, resamples)[0],
                "f1": ratios(2 * both, gold + named, resamples)[0],
            }
    return found


def confusion(pairs: Pairs) -> dict[str, dict[str, int]]:
    """Gold action -> {what was named: responses}: itself where it was named, else every action that the gold has not.

    Both sides are sets, so that it is unknown which wrong action stands for which missed one: each missed action
    counts once against every wrong one. "(none)" on the left: nothing was missed, and yet more was named; on the right:
    nothing was named instead.
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for gold, named in pairs:
        for action in gold & (named or frozenset()):
            counts[action][action] += 1
        wrong = [UNREADABLE] if named is None else sorted(named - gold)
        for action in gold - (named or frozenset()):
            counts[action].update(wrong or [NONE])
        if gold <= (named or frozenset()):
            counts[NONE].update(wrong)
    return {action: dict(row) for action, row in sorted(counts.items()) if row}


def table(scored: Sequence[Scored]) -> str:
    """The tables, with one column per model."""
    first, names = scored[0], [one.name for one in scored]
    lines = reward_lines(scored)
    for one in scored:
        if one.unanswered:
            reasons = "; ".join(f"{count} x {reason}" for reason, count in one.unanswered.items())
            zero = ", ".join(f"{label} {one.as_zero[part].mean:.2f}" for part, label in PARTS.items())
            lines.append(f"{one.name}: {sum(one.unanswered.values())} rows without an answer ({reasons}); as 0: {zero}")
    for part, label in list(PARTS.items())[1:]:
        cells = [[count, *(_cell(one.by_operations[count][part]) for one in scored)] for count in first.by_operations]
        lines += ["", *_aligned([[f"{label} by number of operations", *names], *cells])]
    for rate, label in {"f1": "F1", "precision": "precision", "recall": "recall"}.items():
        cells = [[f"{label} by action (gold rows)", *names]]
        for action in dict.fromkeys(action for one in scored for action in one.actions):
            rates = [one.actions.get(action) for one in scored]
            gold = max(each["gold"] for each in rates if each)
            cells.append([f"{action} ({gold})", *(_cell(each[rate]) if each else "-" for each in rates)])
        lines += ["", *_aligned(cells)]
    for one in scored:
        missed = [
            (-count, gold, named)
            for gold, row in one.confusion.items()
            for named, count in row.items()
            if gold != named
        ]
        worst = [f"  {gold} -> {named}: {-count}" for count, gold, named in sorted(missed)[:MOST_CONFUSED]]
        lines += ["", f"actions that {one.name} most often confused with another:", *(worst or ["  none"])]
    apart = first.photos == first.rows
    photos = (
        "each row has a photo of its own" if apart else f"rows about one of the {first.photos:,} photos go together"
    )
    return "\n".join(
        [
            *lines,
            "",
            "The number of operations of a row is the longest of its gold's lists of actions, subjects and goals.",
            f"In brackets 95 % bootstrap intervals; {photos}.",
        ]
    )


def reward_lines(scored: Sequence[Scored]) -> list[str]:
    """The means of every model, and its rise over the first one on the same rows."""
    names = [one.name for one in scored] + [f"{one.name}, rise" for one in scored[1:]]
    cells = [[f"on {scored[0].rows:,} rows", *names]]
    for part, label in PARTS.items():
        rises = (_cell(one.rise[part], "+") for one in scored[1:])
        cells.append([label, *(_cell(one.parts[part]) for one in scored), *rises])
    return _aligned(cells)


def training_report(rows_file: Path, folders: Mapping[str, Path]) -> str:
    """A training in the small world, from the folders of `small_world.evaluate`: "before", "after" and its controls.

    "no-learning": after a training with learning rate 0. "shuffled": after the training, with photos of other rows.
    """
    from ier1_plugin.small_world.world import is_picture_told

    known, lines, answers = read_gold_rows(rows_file), [], {}
    for how in ("sampled", "greedy"):
        answers[how] = {name: read_responses(folder / f"{how}.jsonl") for name, folder in folders.items()}
    ids = answers["greedy"]["before"].keys()
    if any(each.keys() != ids or not each.keys() <= known.keys() for way in answers.values() for each in way.values()):
        raise EvaluationError(f"the responses are to different rows, or not to those of {rows_file}; begin again")
    rows = [known[id] for id in ids]
    found = {how: dict(zip(folders, score(rows, each), strict=True)) for how, each in answers.items()}
    for how, words in {
        "sampled": "temperature 1, top_p 1: what GRPO optimises",
        "greedy": "the likeliest answer",
    }.items():
        lines += [f"{how} ({words})", *reward_lines([found[how]["before"], found[how]["after"]]), ""]
    if "no-learning" in folders:
        greedy, other = (found[how]["no-learning"].rise["overall"] for how in ("greedy", "sampled"))
        still = greedy.low == greedy.high == 0
        meaning = (
            "nothing rises, so what rose above was learnt" if still else "it moved without learning: trust none of this"
        )
        changes = f"greedy {_cell(greedy, '+')}, sampled {_cell(other, '+')} with other random numbers"
        lines.append(f"control, learning rate 0: overall {changes}; {meaning}")
    if "shuffled" in folders:
        told = [row for row in rows if is_picture_told(row.id)]
        both = {name: answers["greedy"][name] for name in ("after", "shuffled")}
        own, other = (one.parts["subject"] for one in score(told, both))
        meaning = "is read off the photo" if other.high < own.low else "is not: the model does not look at the photo"
        lines.append(
            f"control, photos shuffled: greedy subject F1 on the {len(told)} rows whose subject only the photo tells: "
            f"{_cell(own)} -> {_cell(other)}; the subject {meaning}"
        )
    return "\n".join(["Rewards on validation rows (wordings and crops not trained on)", "", *lines, ABOUT, ""])


def _scores(response: str, gold: Gold) -> list[float]:
    """In the order of PARTS."""
    scores = list(score_response(response, gold).values())
    return [fmean(scores), *scores]


def _cell(estimate: Estimate, sign: str = "") -> str:
    if not estimate.count:
        return "n/a"
    return f"{estimate.mean:{sign}.2f} [{estimate.low:{sign}.2f}, {estimate.high:{sign}.2f}]".replace("nan", "n/a")


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _plain(value: Any) -> Any:
    """For JSON, which has no NaN: undefined is null there."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        "python -m ier1_plugin.evaluation.decomposition", description="Before and after GRPO."
    )
    parser.add_argument("--rows", type=Path, required=True, help="val.parquet of the small world")
    for name in ("before", "after", "no-learning", "shuffled"):
        parser.add_argument(f"--{name}", type=Path, required=name in ("before", "after"), help="folder of responses")
    parser.add_argument("--out", type=Path, required=True, help="text file to write; it is printed as well")
    options = vars(parser.parse_args(arguments))
    rows, out = options.pop("rows"), options.pop("out")
    try:
        report = training_report(rows, {name.replace("_", "-"): folder for name, folder in options.items() if folder})
    except EvaluationError as error:
        print(f"decomposition: {error}", file=sys.stderr)
        return 1
    write(out, report)
    print(report)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
