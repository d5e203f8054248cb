"""A study of two benchmarks whose scores are known, three in ten of them missing; and where to find them in a table.

known = totals("psr", "Chain", GPT)
cell(main_table(study_of(tmp_path), ...), "Chain", "psr", GPT).scored.mean == fmean(known.values())
"""

from __future__ import annotations

import random
from pathlib import Path

from fakes.evaluation_folders import GEMINI, GPT, items, settings, write_evaluation

from ier1_plugin.evaluation.records import Score
from ier1_plugin.evaluation.report.cells import Cell, Table
from ier1_plugin.evaluation.scores import read_study
from ier1_plugin.evaluation.study import Study

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


def study_of(tmp_path: Path, count: int = 30) -> Study:
    folders = [
        write_evaluation(
            tmp_path / name,
            name,
            SYSTEMS,
            JUDGES,
            items(count, each=3),
            lambda i, s, j, _, b=name: known_score(b, i, s, j),
        )
        for name in BENCHMARKS
    ]
    return read_study(folders)


def cell(table: Table, system: str, head: str, judge: str = "") -> Cell:
    row = next(number for number, row in enumerate(table.rows) if row.label == system)
    column = next(n for n, column in enumerate(table.columns) if (column.head, column.sub) == (head, judge))
    return table.cells[row][column]


def totals(benchmark: str, system: str, judge: str) -> dict[str, int]:
    """Of the items that have one."""
    found = {item.id: known_score(benchmark, item.id, system, judge) for item in items(30)}
    return {id: score.total for id, score in found.items() if isinstance(score, Score)}
