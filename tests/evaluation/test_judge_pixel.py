"""The pixel judge: exact edits get everything, nearer ones never less, and nothing is asked of a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes.judge_runs import image, item, pair, run
from fakes.real_photos import real_photo
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ier1_plugin.editors.pillow.operations import OPERATIONS
from ier1_plugin.evaluation.judges import make_judge
from ier1_plugin.evaluation.judges.base import Pair
from ier1_plugin.evaluation.judges.pixel import pixel_score
from ier1_plugin.evaluation.records import Score

PHOTO = real_photo(size=(96, 64))
BLACK = Image.new("RGB", PHOTO.size)


def between(gold: Image.Image, share: float) -> Image.Image:
    """So much of the way from the photo to the gold edit."""
    return Image.blend(PHOTO, gold, share)


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_gold_edit_gets_all_and_no_other_image_does(name: str):
    operation = OPERATIONS[name]
    box = (8, 8, 80, 48) if operation.scope == "part" else None
    gold = operation.apply(PHOTO, box)
    assert pixel_score(PHOTO, gold.copy(), gold) == Score(4, 3, 3)
    untouched, black = pixel_score(PHOTO, PHOTO, gold), pixel_score(PHOTO, BLACK, gold)
    assert untouched == Score(0, 3, 3)
    assert black.total < untouched.total
    assert black.preservation < 3


def test_one_pixel_off_is_not_exact():
    gold = OPERATIONS["brighter"].apply(PHOTO, None)
    nearly = gold.copy()
    nearly.putpixel((3, 3), (0, 0, 0))
    assert pixel_score(PHOTO, nearly, gold) == Score(3, 2, 2)


def test_part_of_the_way_earns_part_of_the_fulfilment():
    gold = OPERATIONS["invert"].apply(PHOTO, None)
    found = [pixel_score(PHOTO, between(gold, share), gold).fulfilment for share in (0, 0.1, 0.3, 0.6, 0.9, 1)]
    assert found == [0, 0, 1, 2, 3, 4]


def test_an_edit_of_the_right_pixels_at_another_size_is_not_exact():
    gold = OPERATIONS["upscale"].apply(PHOTO, None)
    assert pixel_score(PHOTO, PHOTO, gold).fulfilment == 0
    mirrored = OPERATIONS["mirror"].apply(PHOTO, None)
    small = mirrored.resize((48, 32))
    assert pixel_score(PHOTO, small, mirrored).fulfilment < 4


def test_harm_beside_the_edit_costs_preservation_and_more_of_it_costs_more():
    box = (0, 0, 48, 64)
    gold = OPERATIONS["grey"].apply(PHOTO, box)
    found = []
    for columns in (0, 2, 10, 48):
        edited = gold.copy()
        edited.paste((0, 255, 0), (96 - columns, 0, 96, 64))
        found.append(pixel_score(PHOTO, edited, gold))
    assert [score.fulfilment for score in found[1:]] == [3, 3, 3]
    assert [score.preservation for score in found] == [3, 2, 1, 0]
    assert [score.quality for score in found] == [3, 1, 0, 0]


@given(st.sampled_from(["brighter", "invert", "sepia", "mirror", "blur"]), st.integers(0, 2**31), st.data())
def test_whoever_is_nearer_to_the_gold_in_every_pixel_scores_no_less(name: str, seed: int, data: st.DataObject):
    gold = OPERATIONS[name].apply(PHOTO, None)
    wanted, rng = np.asarray(gold, dtype=int), np.random.default_rng(seed)
    far = rng.integers(0, 256, wanted.shape) if data.draw(st.booleans()) else np.asarray(PHOTO, dtype=int)
    steps = rng.random(wanted.shape)
    # towards the gold by any share of the way, in each pixel another, and never past it
    near = far + np.trunc((wanted - far) * steps).astype(int)
    scores = [pixel_score(PHOTO, Image.fromarray(array.astype(np.uint8)), gold) for array in (far, near)]
    for dimension in ("fulfilment", "quality", "preservation"):
        assert getattr(scores[0], dimension) <= getattr(scores[1], dimension)


def test_a_request_that_changes_nothing_is_fulfilled_by_nothing_else():
    assert pixel_score(PHOTO, PHOTO, PHOTO) == Score(4, 3, 3)
    assert pixel_score(PHOTO, BLACK, PHOTO).fulfilment == 0


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (7, 9), (200, 1)])
def test_images_smaller_than_the_tiles_are_scored_too(size: tuple[int, int]):
    source, gold = Image.new("RGB", size, "red"), Image.new("RGB", size, "blue")
    assert pixel_score(source, gold, gold).total == 10
    assert pixel_score(source, source, gold).total == 6


def test_it_judges_from_files_and_another_gold_edit_is_another_question(tmp_path: Path):
    judge = make_judge("pixel")
    first = pair(tmp_path)
    assert isinstance(first.edited, Path)
    gold = replace(first.item, gold_image=str(first.edited))
    (exact,) = run(judge, tmp_path, [first._replace(item=gold)])
    assert (exact.total, exact.judge) == (10, "pixel")
    wrong = replace(first.item, gold_image=str(image(tmp_path, "other", (9, 200, 9))))
    (judgement,) = run(judge, tmp_path, [first._replace(item=wrong)])
    assert judgement.total is not None
    assert judgement.total < 10
    assert judgement.request_sha256 != exact.request_sha256


def test_without_a_gold_edit_it_is_unscored(tmp_path: Path):
    (judgement,) = run(make_judge("pixel"), tmp_path, [Pair(item(tmp_path), "flux", image(tmp_path, "x", (1, 2, 3)))])
    assert (judgement.score, judgement.unscored) == (None, "missing image: no gold edit")
