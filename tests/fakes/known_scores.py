"""Two benchmarks whose scores are known, three in ten of them missing; and where to find them in a table.

known = totals("psr", "Chain", GPT)
cell(main_estimates(scores_of(tmp_path), ...), "Chain", "psr", GPT)["mean"] == fmean(known.values())
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pandas as pd
from fakes.evaluation_folders import GEMINI, GPT, items, settings, write_evaluation

from ier1_plugin.evaluation.records import Score
from ier1_plugin.evaluation.scores import Scores, read_scores

SYSTEMS = {
    "Step1X-Edit": settings("original", "folder:step1x"),
    "FLUX": settings("original"),
    "Chain": settings(),
    "Chain, turn by turn": settings(mode="multi-turn"),
}
BENCHMARKS, JUDGES = ("psr", "realedit"), (GPT, GEMINI)
FAULTS = 0.3


def known_score(benchmark: str, item: str, system: str, judge: str) -> Score | str:
    luck = random.Random(f"{benchmark}{item}{system}{judge}")
    if luck.random() < FAULTS:
        return luck.choice(("refusal: no", "unreadable: no score", "missing image: gave up"))
    return Score(luck.randint(0, 4), luck.randint(0, 3), luck.randint(0, 3))


def folders_of(root: Path, count: int = 30) -> list[Path]:
    return [
        write_evaluation(
            root / name,
            name,
            SYSTEMS,
            JUDGES,
            items(count, each=3),
            lambda i, s, j, _, b=name: known_score(b, i, s, j),
        )
        for name in BENCHMARKS
    ]


def scores_of(root: Path, count: int = 30) -> Scores:
    return read_scores(folders_of(root, count))


def cell(estimates: pd.DataFrame, row: str, column: str, judge: str = "") -> Any:
    found = estimates.query("row == @row and column == @column and judge == @judge")
    assert len(found) == 1, (row, column, judge)
    return found.iloc[0]


def totals(benchmark: str, system: str, judge: str) -> dict[str, int]:
    """Of the items that have one."""
    found = {item.id: known_score(benchmark, item.id, system, judge) for item in items(30)}
    return {id: score.total for id, score in found.items() if isinstance(score, Score)}
