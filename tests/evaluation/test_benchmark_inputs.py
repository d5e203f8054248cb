"""The items of an evaluation as files: how many are taken, what is told, and how few a check of judges needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes.builder_inputs import picture, write_jsonl

from ier1_plugin.data.sets import SETS, columns_of
from ier1_plugin.data.tables import DATA_URL, Line
from ier1_plugin.evaluation.benchmarks import Benchmark, Options, open_benchmark
from ier1_plugin.evaluation.benchmarks.sample import INPUTS, check_human, known_items, make_items
from ier1_plugin.evaluation.benchmarks.table import of_lines
from ier1_plugin.evaluation.folder import read_items
from ier1_plugin.evaluation.records import EvaluationError
from ier1_plugin.task.images import data_url, encode

ITEMS = 60


@pytest.fixture
def benchmark(tmp_path: Path) -> Benchmark:
    """Images inside the lines, so that each that is used is written out; every third item has an edit by a person."""
    rows: list[dict[str, Any]] = []
    for number in range(ITEMS):
        image = data_url(encode(picture(number), lossless=True))
        assert image.startswith(DATA_URL)
        row = {"id": f"i{number}", "image": image, "request": f"request {number}"}
        rows.append(row | ({"human_images": [image]} if number % 3 == 0 else {}))
    return open_benchmark(f"jsonl:{write_jsonl(tmp_path, rows)}", Options())


def written(folder: Path) -> int:
    return len(list((folder / INPUTS).glob("*.png")))


def test_a_sample_that_is_larger_than_the_benchmark_is_told(benchmark: Benchmark, tmp_path: Path):
    told: list[str] = []
    assert len(make_items(tmp_path / "all", benchmark, 0, 1000, on_warning=told.append)) == ITEMS
    assert told == [f"{benchmark.name} has 60 items, fewer than --sample 1000: all of them are taken"]
    told.clear()
    make_items(tmp_path / "exactly", benchmark, 0, ITEMS, on_warning=told.append)
    make_items(tmp_path / "ids", benchmark, 0, ids=["i1"], on_warning=told.append)
    assert not told


def test_a_check_of_judges_writes_out_few_items_of_a_large_benchmark(benchmark: Benchmark, tmp_path: Path):
    whole = [item.id for item in make_items(tmp_path / "whole", benchmark, 0) if item.human_images]
    found = known_items(tmp_path / "few", benchmark, 0, wanted=4)
    # the same that one would have found first in all of them
    assert [item.id for item in found] == whole[:4]
    assert all((tmp_path / "few" / item.image).is_file() for item in found)
    assert written(tmp_path / "few") < written(tmp_path / "whole") / 2
    # an evaluation that follows there takes its own sample
    assert read_items(tmp_path / "few") == []


def test_a_check_of_judges_takes_what_there_is(benchmark: Benchmark, tmp_path: Path):
    assert len(known_items(tmp_path / "all", benchmark, 0, wanted=1000)) == ITEMS // 3
    assert {item.id for item in known_items(tmp_path / "ids", benchmark, 0, ids=["i3", "i4"])} == {"i3"}
    assert known_items(tmp_path / "none", benchmark, 0, ids=["i4", "i5"]) == []


def test_reading_ends_at_the_last_item_that_is_wanted():
    image = data_url(encode(picture(0), lossless=True))

    def lines(roles: tuple[str, ...], wanted: frozenset[str]) -> Iterator[Line]:
        for number, id in enumerate("abc", start=1):
            assert id != "c", "read on"
            yield Line(number, {"id": id, "image": image, "request": "x"}, None, "mine", fixed=False)

    drafts = of_lines("jsonl", SETS["jsonl"], columns_of(SETS["jsonl"], {}), lines, "here", {}).drafts
    assert [getattr(draft, "id", "") for draft in drafts(frozenset("ab"))] == ["a", "b"]
    # several rows may be one item: then the last of them may be the last row
    grouped = of_lines(
        "jsonl", replace(SETS["jsonl"], grouped=True), columns_of(SETS["jsonl"], {}), lines, "here", {}
    ).drafts
    with pytest.raises(AssertionError, match="read on"):
        list(grouped(frozenset("ab")))


def test_human_edits_that_nobody_made_are_one_line(benchmark: Benchmark, tmp_path: Path):
    items = make_items(tmp_path / "out", benchmark, 0)
    check_human(items, benchmark)
    with pytest.raises(EvaluationError, match=r"--human: none of the 60 items of .* has an edit by a person"):
        check_human([replace(item, human_images=()) for item in items], benchmark)
