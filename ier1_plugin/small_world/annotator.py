"""Rows of the small world as an annotator with faults would have written their gold.

    python -m ier1_plugin.small_world.annotator study/rows/train.parquet --faults random --out random.parquet

random       every string of three is another one, of the same kind, that stands somewhere in the rows
systematic   goals are always called by the other word that the editor does not understand (OTHER_GOALS)

Photos, requests, order and cases stay as they are, so that trainings on both files see the same prompts.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyarrow import parquet

from ier1_plugin.small_world.wordings import OTHER_GOALS
from ier1_plugin.task.parsing import COMPONENT_TAGS
from ier1_plugin.task.rows import read_answer, write_answer
from ier1_plugin.task.schema import Decomposition

Annotator = Callable[[Decomposition], Decomposition]
WRONG = 1 / 3
"""Share of the strings that the random annotator gets wrong."""


def systematic(gold: Decomposition) -> Decomposition:
    return Decomposition.of(gold.actions, gold.subjects, (OTHER_GOALS.get(goal, goal) for goal in gold.goals))


def at_random(known: list[Decomposition], rng: random.Random) -> Annotator:
    """An annotator who confuses strings with those of `known`."""
    kinds = {kind: sorted({text for gold in known for text in getattr(gold, kind)}) for kind in COMPONENT_TAGS}

    def annotate(gold: Decomposition) -> Decomposition:
        return Decomposition.of(
            *(
                [rng.choice(others) if rng.random() < WRONG else text for text in getattr(gold, kind)]
                for kind, others in kinds.items()
            )
        )

    return annotate


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        "python -m ier1_plugin.small_world.annotator", description="Gold as an annotator with faults writes it."
    )
    parser.add_argument("rows", type=Path, help="train.parquet of the small world")
    parser.add_argument("--faults", choices=("random", "systematic"), required=True)
    parser.add_argument("--out", type=Path, required=True, help="the parquet file with the annotator's gold")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    table = parquet.read_table(options.rows)
    answers: list[Any] = [read_answer(answer) for answer in table["answer"].to_pylist()]
    rng = random.Random(f"{options.seed}-annotator")
    annotate = systematic if options.faults == "systematic" else at_random([gold for gold, _ in answers], rng)
    written = [write_answer(annotate(gold), case) for gold, case in answers]
    column = table.schema.get_field_index("answer")
    table = table.set_column(column, table.schema.field(column), [written])
    unfinished = options.out.with_name(options.out.name + ".part")
    parquet.write_table(table, unfinished, row_group_size=256)
    unfinished.rename(options.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
