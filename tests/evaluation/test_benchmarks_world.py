"""The small world as a benchmark: nothing of it was trained on, its gold is exact, its editor does what it can."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from fakes.benchmark_rows import opened, raw_items
from PIL import Image

from ier1_plugin.editors.base import EditError, join
from ier1_plugin.evaluation.benchmarks.small_world import ITEMS, VALIDATED, small_world_editor
from ier1_plugin.pipeline.agents import rule
from ier1_plugin.small_world.pictures import photos
from ier1_plugin.small_world.world import edits_of, gold_of

pytest.importorskip("skimage", reason="the photographs are scikit-image's, which is not installed")


def ids(argument: str = "") -> list[str]:
    return [str(id) for id in opened(f"small-world{argument}").ids()]


def test_it_has_items_in_numbered_stretches_and_by_default_none_that_trainings_validate_on():
    everything = ids(f":0-{ITEMS}")
    assert len(set(everything)) == len(everything) == ITEMS
    assert ids(":400-403") == everything[400:403]
    assert opened("small-world:400-403").origin == "validation split, items 400 to 402"
    assert VALIDATED == 400
    assert ids() == everything[VALIDATED:]
    assert opened("small-world").origin == "validation split, items 400 to 1399"


def test_it_needs_no_package_of_the_builder(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "imagehash", None)
    photos.cache_clear()
    (item,) = raw_items("small-world:400-401")
    assert isinstance(item.gold, Image.Image)
    photos.cache_clear()


def test_its_first_items_are_the_rows_that_a_training_validates_on():
    from data_prep.settings import Settings
    from data_prep.sources.small_world import rows

    settings = Settings(source="photos", inputs=(), output=Path("nowhere"), limit=60)
    validated = [row.id for row in rows(settings) if row.split == "val"]
    assert validated == ids(":0-6")


def test_an_item_says_what_is_asked_and_holds_the_exact_edit():
    for item in raw_items("small-world:400-420"):
        assert isinstance(item.image, Image.Image)
        assert isinstance(item.gold, Image.Image)
        edits = edits_of(item.id)
        made = item.image
        for edit in edits:
            made = edit.apply(made)
        assert made == item.gold
        assert item.actions == gold_of(edits).actions
        assert item.difficulty == f"{len(edits)} edit{'s' if len(edits) > 1 else ''}"
        assert item.cluster.partition(":")[0].endswith((".png", ".jpg"))


@pytest.fixture
def edit_of() -> Callable[[str], Any]:
    """The editor of one item, by its id."""
    for_item = small_world_editor("").for_item
    assert for_item
    return for_item


def test_its_editor_makes_the_gold_edit_of_nearly_every_gold_decomposition(edit_of: Any):
    made: defaultdict[int, list[bool]] = defaultdict(list)
    for item in raw_items("small-world:400-600"):
        assert isinstance(item.gold, Image.Image)
        edits = edits_of(item.id)
        made[len(edits)].append(edit_of(item.id)(item.image, join(rule(gold_of(edits))), 0) == item.gold)
    assert all(made[1] + made[2])
    # of three and four edits the lists can't tell every order
    assert fmean(made[3] + made[4]) > 0.8


def test_its_editor_leaves_out_what_it_does_not_understand_and_does_the_rest(edit_of: Any):
    (item,) = raw_items("small-world:400-401")
    assert isinstance(item.image, Image.Image)
    edit = edit_of(item.id)
    mirrored = edit(item.image, "Transform photo to flipped horizontally", 0)
    assert mirrored != item.image
    assert edit(item.image, "Make the sofa navy.\nTransform photo to flipped horizontally.", 0) == mirrored
    assert edit(item.image, "make the sofa navy", 0) == item.image


def test_its_editor_takes_no_items_of_other_benchmarks(edit_of: Any):
    with pytest.raises(EditError, match="edits items of its own benchmark only"):
        edit_of("psr-1aaa")
    with pytest.raises(EditError, match="takes no argument"):
        small_world_editor("x")
