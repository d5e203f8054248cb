"""The page of `examples/small_world_study.sh`: every way of training beside the request as it is and the gold plans.

    python -m ier1_plugin.evaluation.report.study study --without-rl "agents without RL"
    -> study/index.html, study/table.md

    study/evaluation/          what `ier1 evaluate` made of the systems "WAY, seed N"
    study/seed-N/grpo-KIND/    EasyR1's logs of the training of seed-N/model-KIND

A row is one way of training, its runs differ in their seed. Scores are means of the photographs over the runs; their
intervals come from resampling photographs, so the spread over seeds stands beside them. How a plan came about is read
from the traces: its F1 against the clean gold, and whether it only repeats the request. A plan that pastes the whole
request into one string earns what the request earns, and a win by copying is no win.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined

from ier1_plugin.evaluation.benchmarks.small_world import small_world_editor
from ier1_plugin.evaluation.judges.pixel import pixel_score
from ier1_plugin.evaluation.records import EvaluationError
from ier1_plugin.evaluation.report.comparisons import Row
from ier1_plugin.evaluation.report.estimates import estimates, main_columns
from ier1_plugin.evaluation.scores import Scores, read_scores
from ier1_plugin.evaluation.statistics import Estimate, Resamples, means
from ier1_plugin.pipeline.agents import rule
from ier1_plugin.pipeline.batch_folder import RESULTS
from ier1_plugin.pipeline.chain import ImageEditR1
from ier1_plugin.runs.errors import UserError
from ier1_plugin.runs.folder import write
from ier1_plugin.runs.shared_store import SharedStore
from ier1_plugin.small_world.world import edits_of, gold_of
from ier1_plugin.task.images import data_url, open_image
from ier1_plugin.task.parsing import COMPONENT_TAGS
from ier1_plugin.task.schema import ORIGINAL, Decomposition, Plan
from ier1_plugin.task.scoring import Gold, normalised_set, set_f1
from ier1_plugin.training.curves import STYLES, draw
from ier1_plugin.training.logs import TRAIN, VALIDATION, RunLog, read_runs

COPIED = 0.8
"""A string with more than this share of the request's words repeats the request."""
LAST_STEPS = 10
TEMPLATE = Path(__file__).with_suffix(".html.jinja")
HEADINGS = [
    "way",
    "score of 10",
    "by seed",
    "over without RL",
    "by seed",
    "over the request as it is",
    "F1 with clean gold",
    "copies",
    "found or shared",
    "renders",
]


def ways(scores: Scores) -> dict[str, tuple[str, ...]]:
    """Way -> its systems: "RL on words, seed 1" and "RL on words, seed 2" are runs of one."""
    found = defaultdict(list)
    for name in scores.systems:
        found[re.sub(r", seed \d+$", "", name)].append(name)
    return {way: tuple(names) for way, names in found.items()}


def rows(study: Path, without_rl: str) -> list[dict[str, Any]]:
    """The lines of the table, the request as it is first and the gold plans last. EvaluationError: one lacks."""
    scores = read_scores([study / "evaluation"])
    known = ways(scores)
    unchanged = [way for way, names in known.items() if scores.systems[names[0]].settings.get("method") == ORIGINAL]
    if len(unchanged) != 1 or without_rl not in known:
        raise EvaluationError(f"wanted one system with the request as it is, and {without_rl!r}; there are {[*known]}")
    found: dict[str, dict[str, Any]] = {way: {"way": way} for way in known}
    for gain, over in {"request": unchanged[0], "without_rl": without_rl}.items():
        reference = [*known].index(over)
        compared = [Row(way, names, reference=None if way == over else reference) for way, names in known.items()]
        table = estimates(scores, main_columns(scores, compared), compared, 0, "study", average=False)
        for line in table.to_dict("records"):
            found[line["row"]] |= {
                "score": Estimate(line["mean"], line["low"], line["high"]),
                "by_seed": line["runs"],
                gain: Estimate(line["gain"], line["gain_low"], line["gain_high"]),
                f"{gain}_by_seed": line["gain_of_runs"],
            }
    for way, names in known.items():
        batches = [folder for name in names for folder in scores.systems[name].folders.values()]
        plans = [planned(batch) for batch in batches]
        found[way] |= {name: fmean(each[name] for each in plans) for name in ("f1", "copied")}
        found[way] |= trained([scores.systems[name].settings for name in names])
    return [*found.values(), {"way": "gold plans", "score": ceiling(scores), "f1": 1.0, "copied": math.nan}]


def planned(batch: Path) -> dict[str, float]:
    """Over the plans of a batch: the mean set-F1 of the three lists against the clean gold, and the share of plans in
    which one string holds more than COPIED of the request's words, or which could not be read, so that the request was
    passed on. NaN without any plan by a model."""
    f1, copied = [], []
    for line in (batch / RESULTS).read_text(encoding="utf-8").splitlines():
        result = json.loads(line)
        if "trace" not in result:
            continue
        plan = Plan.from_dict(json.loads((batch / result["trace"]).read_text(encoding="utf-8")))
        if plan.decomposer is None:
            continue
        # without a readable answer nothing was named, and the request is passed on
        named, gold = plan.decomposition or Decomposition((), (), ()), gold_of(edits_of(result["id"]))
        f1.append(
            fmean(set_f1(normalised_set(getattr(named, kind)), getattr(Gold.of(gold), kind)) for kind in COMPONENT_TAGS)
        )
        request = Counter(plan.request.lower().split())
        strings = [*named.actions, *named.subjects, *named.goals] if plan.decomposition else plan.sub_requests
        copied.append(
            any((Counter(text.lower().split()) & request).total() > COPIED * request.total() for text in strings)
        )
    return {"f1": fmean(f1 or [math.nan]), "copied": fmean(copied or [math.nan])}


def trained(settings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of the runs' trainings: mean curves; for pictures renders in all, and the share found or shared at the end."""
    folders = [training(one) for one in settings]
    folders = [folder for folder in folders if folder and folder.is_dir()]
    if not folders:
        return {}
    logs = [log for folder in folders for log in read_runs(folder)]
    curves = {
        reward: {
            step: fmean(log.points(TRAIN, reward)[step] for log in logs)
            for step in logs[0].points(TRAIN, reward)
            if all(step in log.points(TRAIN, reward) for log in logs)
        }
        for reward in logs[0].curves[TRAIN]
    }
    found: dict[str, Any] = {"curves": curves, "rollout": logs[0].rollout}
    if "renders" in curves:
        fresh, cached = (fmean([*curves[name].values()][-LAST_STEPS:]) for name in ("renders", "cached"))
        found["found"] = cached / (fresh + cached)
        found["renders"] = 0
        for folder in folders:
            with SharedStore(folder / "pictures") as store:
                found["renders"] += len(store) / len(folders)
    return found


def ceiling(scores: Scores) -> Estimate:
    """The score of edits by the gold decompositions, of 10."""
    (items,) = (each.values() for each in scores.items.values())
    chain, totals = ImageEditR1(None, rule, small_world_editor("")), []
    for item in items:
        assert item.gold_image
        photo, gold = open_image(item.image), gold_of(edits_of(item.id))
        edited = chain.edit(photo, Plan(item.request, rule(gold), decomposition=gold), item=item.id).image
        totals.append([pixel_score(photo, edited, open_image(item.gold_image)).total])
    (estimate,) = means(np.array(totals, float), Resamples([item.cluster for item in items], seed=0))
    return estimate


def figure(table: Sequence[Mapping[str, Any]]) -> bytes:
    """PNG of the curves of the trainings, as many as a figure can show."""
    logs = [
        RunLog(line["way"], {TRAIN: line["curves"], VALIDATION: {}}, line["rollout"], ())
        for line in table
        if "curves" in line
    ][: len(STYLES)]
    buffer = BytesIO()
    draw(logs, window=5).savefig(buffer, format="png")
    return buffer.getvalue()


def markdown(table: Sequence[Mapping[str, Any]]) -> str:
    """The table for people; a gain over itself, or what a way has not, is a dash."""

    def cell(estimate: Estimate | None, sign: str = "") -> str:
        if not estimate:
            return "–"
        return f"{estimate.mean:{sign}.2f} [{estimate.low:{sign}.2f}, {estimate.high:{sign}.2f}]"

    def seeds(values: Sequence[float] | None, sign: str = "") -> str:
        return ", ".join(f"{value:{sign}.2f}" for value in values or ()) or "–"

    def number(value: float | None, form: str) -> str:
        return "–" if value is None or math.isnan(value) else format(value, form)

    lines = [
        [
            line["way"],
            cell(line["score"]),
            seeds(line.get("by_seed")),
            cell(line.get("without_rl"), "+"),
            seeds(line.get("without_rl_by_seed"), "+"),
            cell(line.get("request"), "+"),
            number(line["f1"], ".2f"),
            number(line["copied"], ".1%"),
            number(line.get("found"), ".0%"),
            number(line.get("renders"), ",.0f"),
        ]
        for line in table
    ]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in [HEADINGS, ["---"] * len(HEADINGS), *lines])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        "python -m ier1_plugin.evaluation.report.study", description="The page of the study."
    )
    parser.add_argument("study", type=Path, help="folder of the study")
    parser.add_argument("--without-rl", required=True, help="name of the agents that were not trained")
    options = parser.parse_args(arguments)
    try:
        table = rows(options.study, options.without_rl)
    except (UserError, OSError) as error:
        print(f"study: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    text = markdown(table)
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(TEMPLATE.read_text(encoding="utf-8"))
    cells = [line.strip("| ").split(" | ") for line in text.splitlines()[2:]]
    page = template.render(headings=HEADINGS, lines=cells, curves=data_url(figure(table)))
    write(options.study / "table.md", text)
    write(options.study / "index.html", page)
    print(text)
    return 0


def training(settings: Mapping[str, Any]) -> Path | None:
    """Where the weights of a system were trained: seed-1/grpo-words for seed-1/model-words."""
    weights = Path(str(settings.get("decomposer") or "").removeprefix("local:"))
    kind = weights.name.removeprefix("model-")
    return weights.with_name(f"grpo-{kind}") if kind != weights.name else None


if __name__ == "__main__":
    raise SystemExit(main())
