"""Benchmarks through the hub's streaming: many splits, and columns that are not what they should be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fakes.benchmark_rows import PNG, opened, raw_items

from ier1_plugin.evaluation.benchmarks.sample import make_items
from ier1_plugin.runs.errors import UserError

SPLITS = 6


@pytest.fixture(autouse=True)
def on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`datasets` finds owner/set in the folder of the test, which would else be read as local files."""
    from ier1_plugin.data import tables

    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tables.Path, "exists", lambda path: False)


def publish(rows: Sequence[dict[str, Any]], split: str = "test", images: Sequence[str] = ()) -> str:
    """A set with the rows under one more split."""
    from datasets import Dataset, Image

    folder = Path("owner/set/data")
    folder.mkdir(parents=True, exist_ok=True)
    table = Dataset.from_list(list(rows))
    for column in images:
        table = table.cast_column(column, Image())
    table.to_parquet(str(folder / f"{split}-00000-of-00001.parquet"))
    return "owner/set"


@pytest.fixture
def ultraedit() -> str:
    for split in range(SPLITS):
        rows = [
            {"idx": 10 * split + n, "edit_prompt": f"edit {split}.{n}", "source_image": PNG, "mask": b"junk"}
            for n in range(3)
        ]
        publish(rows, f"FreeForm_{split}", images=["source_image"])
    return "owner/set"


def test_of_a_set_of_many_splits_the_seed_picks_some_and_says_which(ultraedit: str):
    def splits(seed: int) -> set[str]:
        found = raw_items("ultraedit", data=ultraedit, seed=seed)
        assert len(found) == 12
        assert all(item.image == PNG for item in found)
        return {item.request.split(".")[0].replace("edit ", "FreeForm_") for item in found}

    picked = [splits(seed) for seed in range(3)]
    assert picked[0] == splits(0)
    assert any(one != picked[0] for one in picked)
    benchmark = opened("ultraedit", data=ultraedit)
    assert benchmark.splits() == ()
    ids = list(benchmark.ids())
    assert set(benchmark.splits()) == picked[0]
    assert {str(id).split("-")[1] for id in ids} == picked[0]
    assert benchmark.origin == "owner/set, 4 of its splits FreeForm_*"
    # one that is named is read alone
    one = opened("ultraedit", data=ultraedit, split="FreeForm_5")
    assert (one.hub, one.origin) == (ultraedit, ultraedit)
    assert list(one.ids()) == [f"ultraedit-FreeForm_5-{n}" for n in (50, 51, 52)]
    assert one.splits() == ("FreeForm_5",)


def test_the_ids_of_a_sample_repeat_it_under_any_seed(ultraedit: str, tmp_path: Path):
    samples = {}
    for seed in range(3):
        benchmark = opened("ultraedit", data=ultraedit, seed=seed)
        samples[seed] = make_items(tmp_path / f"seed-{seed}", benchmark, seed, 5)
    for seed, items in samples.items():
        benchmark = opened("ultraedit", data=ultraedit, seed=seed + 1)
        again = make_items(tmp_path / f"again-{seed}", benchmark, seed + 1, ids=[item.id for item in items])
        assert again == items
        # no other split is opened for them
        assert set(benchmark.splits()) == {item.id.split("-")[1] for item in items}


def test_rows_without_a_number_are_counted_in_their_split(tmp_path: Path):
    for split in range(SPLITS):
        rows = [{"edit_prompt": f"edit {split}.{n}", "source_image": PNG} for n in range(3)]
        publish(rows, f"FreeForm_{split}", images=["source_image"])
    benchmark = opened("ultraedit", data="owner/set")
    for id in map(str, benchmark.ids()):
        ((item),) = benchmark.raw_items(frozenset([id]))
        split, number = id.removeprefix("ultraedit-FreeForm_").split("-")
        assert getattr(item, "request", "") == f"edit {split}.{int(number) - 1}"


def test_realedit_whose_hub_columns_are_others_names_those_that_there_are():
    publish(
        [{"input_image": PNG, "instruction": "fix it", "output_image": PNG}], images=["input_image", "output_image"]
    )
    columns = r"no column input_image_name or orig_img \(found: .*output_image.*--columns image=NAME"
    with pytest.raises(UserError, match=columns):
        raw_items("realedit", data="owner/set")
    named = {"image": "input_image", "human": "output_image"}
    (item,) = raw_items("realedit", data="owner/set", columns=named)
    assert (item.image, item.human) == (PNG, (PNG,))


def test_realedit_whose_hub_column_holds_names_says_what_to_do():
    publish([{"input_image_name": "4wfxf2.png", "instruction": "fix it"}] * 2)
    benchmark = opened("realedit", data="owner/set")
    with pytest.raises(UserError, match=r"holds no image but '4wfxf2\.png': .*--columns image=NAME"):
        list(benchmark.raw_items(frozenset(map(str, benchmark.ids()))))


def test_human_edits_that_are_names_on_the_hub_leave_the_items_and_are_told(tmp_path: Path):
    publish([{"input_image_name": PNG, "instruction": "fix it", "edit_images": "c1.png"}], images=["input_image_name"])
    benchmark, told = opened("realedit", data="owner/set"), []
    items = make_items(tmp_path / "out", benchmark, 0, on_warning=told.append)
    assert len(items) == 1
    assert "left out of realedit: 1 (1 x a human edit: image is a path: in a set on the hub it has no bytes" in told[0]
