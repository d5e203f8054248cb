"""The page of a report: everything in one HTML file that needs no network.

Long parts are collapsed: failures as 0, coverage, breakdowns, the best and the worst of each system. A case is a
request, its photo, the systems' edits and the judges' scores of them; pictures are small JPEGs, and a missing or
damaged one is replaced by a line that says so.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ier1_plugin import __version__
from ier1_plugin.data.items import Item
from ier1_plugin.evaluation.records import DIMENSIONS
from ier1_plugin.evaluation.report.comparisons import Row
from ier1_plugin.evaluation.report.paper import STATEMENTS
from ier1_plugin.evaluation.scores import Facts, Frame, JudgeInfo, Scores
from ier1_plugin.evaluation.statistics import EXACT, PERMUTATIONS, RESAMPLES, seeded
from ier1_plugin.pipeline.batch_folder import PLANS, TRACES, BatchFolder
from ier1_plugin.pipeline.trace import read_plan
from ier1_plugin.task.images import ImageError, data_url, open_image
from ier1_plugin.task.schema import PlanError

TEMPLATE = Path(__file__).with_name("page.html.jinja")
EXTREMES, FEW = 2, 10
"""Best and worst edits shown of each system: this many up to FEW systems, one of each beyond."""
QUALITY = 80
# thumbnails get smaller as they get more, so that a page stays a few megabytes: (up to so many, longer side in pixels)
SIDES = ((60, 400), (150, 288), (300, 208), (math.inf, 144))
HASH = 12


@dataclass(frozen=True)
class Case:
    """An item of a benchmark and the systems whose edits of it are shown."""

    benchmark: str
    item: str
    systems: tuple[str, ...]


def page(scores: Scores, judges: dict[str, str], rows: Sequence[Row], seed: int, examples: int, **sections: Any) -> str:
    """The HTML. `judges`: short names; `examples`: random cases of each benchmark; `sections`: see the template."""
    from jinja2 import Environment, StrictUndefined

    sample = sample_cases(scores, examples, seed)
    count = 0 if not examples else EXTREMES if len(rows) <= FEW else 1
    ends = {
        row.label: extremes(scores, row.label, None if row.reference is None else rows[row.reference].label, count)
        for row in rows
    }
    every = [*sample, *(case for kinds in ends.values() for cases in kinds.values() for case in cases)]
    contents = {case: case_contents(scores, case) for case in every}
    files = Counter(file for case in every for file in contents[case]["files"])
    environment = Environment(undefined=StrictUndefined, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        scores=scores,
        judges=judges,
        benchmarks={
            name: [
                f"{len(items):,} items in {len({item.cluster for item in items.values()}):,} clusters",
                *fact_lines(scores.benchmarks[name]),
            ]
            for name, items in scores.items.items()
        },
        judge_facts={name: judge_lines(judge) for name, judge in scores.judges.items()},
        statements=STATEMENTS,
        sample=[contents[case] for case in sample],
        ends={
            name: {kind: [contents[case] for case in cases] for kind, cases in kinds.items()}
            for name, kinds in ends.items()
            if any(kinds.values())
        },
        pictures=thumbnails(files),
        resamples=RESAMPLES,
        permutations=PERMUTATIONS,
        exact=EXACT,
        version=__version__,
        seed=seed,
        **sections,
    )


def sample_cases(scores: Scores, count: int, seed: int) -> list[Case]:
    """A random sample of `count` items of each benchmark, with the edits of all systems that received them."""
    cases = []
    for benchmark, items in scores.items.items():
        order = np.random.default_rng(seeded(seed, benchmark)).permutation(len(items))
        for id in (list(items)[number] for number in order[:count]):
            cases.append(
                Case(benchmark, id, tuple(name for name in scores.systems if scores.is_given(benchmark, id, name)))
            )
    return cases


def extremes(scores: Scores, system: str, beside: str | None, count: int) -> dict[str, list[Case]]:
    """{"Best", "Worst"}: `count` edits of a system each, by the mean of the judges; `beside`: shown with it."""
    judged = scores.by_item["total"].unstack("judge").xs(system, level="system")
    # an item that one of the benchmark's judges did not score is not a fair best or worst
    means: Frame = pd.concat(
        own.dropna(axis=1, how="all").mean(axis=1, skipna=False) for _, own in judged.groupby("benchmark")
    )
    ranked = means.dropna().sort_values(kind="stable").index.tolist()
    worst, best = ranked[:count], ranked[count:][::-1][:count]

    def case(benchmark: str, item: str) -> Case:
        is_shown = beside and beside != system and scores.is_given(benchmark, item, beside)
        return Case(benchmark, item, (system, str(beside)) if is_shown else (system,))

    return {"Best": [case(*key) for key in best], "Worst": [case(*key) for key in worst]}


def case_contents(scores: Scores, case: Case) -> dict[str, Any]:
    """What the page shows of a case; pictures as paths."""
    item = scores.items[case.benchmark][case.item]
    edits = []
    for system in case.systems:
        batch, name = scores.batch(case.benchmark, case.item, system), Item(case.item).name
        plan: list[str] = []
        for kind in (PLANS, TRACES):
            with suppress(PlanError):
                plan = list(read_plan(batch / kind / f"{name}.json").sub_requests)
        verdicts = []
        judged = scores.by_item.loc[case.benchmark, case.item, system]
        for judge in (judge for judge in scores.judges if judge in judged.index):
            one = judged.loc[judge]
            verdict = {"judge": judge, "total": "", "reply": one["reply"] if isinstance(one["reply"], str) else ""}
            if math.isfinite(one["total"]):
                verdict["total"], *parts = (f"{one[part]:.1f}".removesuffix(".0") for part in ("total", *DIMENSIONS))
                verdict["parts"] = " + ".join(parts)
            else:
                verdict["unscored"] = one["reason"]
            verdicts.append(verdict)
        edits.append(
            {"system": system, "image": BatchFolder(batch).image(Item(case.item)), "plan": plan, "verdicts": verdicts}
        )
    source, gold = Path(item.image), Path(item.gold_image) if item.gold_image else None
    return {
        "benchmark": case.benchmark,
        "id": item.id,
        "request": item.request,
        "about": ", ".join([*item.actions, *([f"difficulty {item.difficulty}"] if item.difficulty else [])]),
        "source": source,
        "gold": gold,
        "edits": edits,
        "files": [file for file in (source, gold, *(edit["image"] for edit in edits)) if file],
    }


def thumbnails(files: Counter[Path]) -> dict[Path, dict[str, Any]]:
    """{"url", "width", "height"} or {"problem"} for each file. `files`: how often each is shown."""
    side = next(side for count, side in SIDES if files.total() <= count)

    def thumbnail(file: Path) -> dict[str, Any]:
        if not file.is_file():
            return {"problem": "no image"}
        try:
            image = open_image(file)
        except ImageError as error:
            return {"problem": str(error)}
        image.thumbnail((side, side), reducing_gap=2.0)
        buffer = BytesIO()
        image.save(buffer, "JPEG", quality=QUALITY, optimize=True)
        return {"url": data_url(buffer.getvalue()), "width": image.width, "height": image.height}

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(files, pool.map(thumbnail, files), strict=True))


def judge_lines(judge: JudgeInfo) -> list[str]:
    """When it judged, which model answered, whether its sanity was checked, and its settings."""
    days = dict.fromkeys(date[:10] for date in (judge.first, judge.last) if date)
    models = ", ".join(f"{model} ({count:,})" for model, count in judge.models.items())
    return [
        *([f"judged {' to '.join(days)}"] if days else []),
        *([f"answered as {models}"] if models else []),
        *fact_lines({folder: {"sanity": "not tried", **own} for folder, own in judge.facts.items()}),
    ]


def fact_lines(by_folder: Facts) -> list[str]:
    """The facts, for each folder apart where there are several.

    fact_lines({"psr": {"seed": 0, "sampled": 328}, "psr-more": {"seed": 0, "sampled": 100}})
    -> ["psr: seed 0, sampled 328", "psr-more: seed 0, sampled 100"]
    """
    lines = []
    for folder, facts in by_folder.items():
        # the judgements' own dates say more; the name stands before the facts
        known = {
            key: value
            for key, value in facts.items()
            if key not in ("name", "date") and value not in (None, "", {}, [])
        }
        words = ", ".join(
            f"{key.replace('_', ' ')} {str(value)[:HASH] if key.endswith('sha256') else value}"
            for key, value in known.items()
        )
        lines.append(f"{folder}: {words}" if len(by_folder) > 1 else words)
    return lines
