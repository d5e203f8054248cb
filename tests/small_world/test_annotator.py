"""Annotators with faults: what they get wrong, and what they leave as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pyarrow import parquet

from ier1_plugin.small_world.annotator import main
from ier1_plugin.small_world.wordings import OTHER_GOALS
from ier1_plugin.small_world.world import samples
from ier1_plugin.task.rows import Case, format_row, read_answer
from ier1_plugin.task.schema import Decomposition


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    import pyarrow as pa

    made = []
    for _, sample in zip(range(200), samples("train", 0), strict=False):
        case = Case(sample.id, sample.request, "0.jpg")
        made.append(
            format_row(id=sample.id, source="photos", request=sample.request, image=b"", gold=sample.gold, case=case)
        )
    parquet.write_table(pa.Table.from_pylist(made), tmp_path / "train.parquet")
    return tmp_path / "train.parquet"


@pytest.mark.parametrize("faults", ["random", "systematic"])
def test_an_annotator_changes_the_gold_and_nothing_else(rows: Path, tmp_path: Path, faults: str):
    for out in (tmp_path / "one.parquet", tmp_path / "two.parquet"):
        assert main([str(rows), "--faults", faults, "--out", str(out)]) == 0
    before, after = (parquet.read_table(file) for file in (rows, tmp_path / "one.parquet"))
    assert after.equals(parquet.read_table(tmp_path / "two.parquet"))
    assert after.schema.equals(before.schema)
    assert after.drop(["answer"]).equals(before.drop(["answer"]))
    pairs = [
        tuple(map(read_answer, pair))
        for pair in zip(before["answer"].to_pylist(), after["answer"].to_pylist(), strict=True)
    ]
    assert all(old[1] == new[1] for old, new in pairs)
    golds = [(old[0], new[0]) for old, new in pairs]
    if faults == "systematic":
        assert all(new == in_other_words(old) for old, new in golds if old)
    assert 0.3 < sum(old != new for old, new in golds) / len(golds) < 0.9


def in_other_words(gold: Decomposition) -> Decomposition:
    words = json.dumps(gold.goals)
    for goal, other in OTHER_GOALS.items():
        words = words.replace(f'"{goal}"', f'"{other}"')
    return Decomposition.of(gold.actions, gold.subjects, json.loads(words))
