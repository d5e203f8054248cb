"""Requests, photos and gold of the small world, and the rows that the builder gets from it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from data_prep.settings import Settings
from data_prep.sources.small_world import ROWS, VAL_EVERY, rows
from ier1_plugin.editors.pillow.operations import OPERATIONS, PART, REGIONS, WHOLE
from ier1_plugin.pipeline.agents import rule
from ier1_plugin.small_world import pictures, wordings, world
from ier1_plugin.small_world.pictures import MIN_DISTANCE, PICTURES, Photo, Split, perceptual_hash, photos
from ier1_plugin.small_world.wordings import WORDINGS
from ier1_plugin.small_world.world import Edit, Sample, edits_of, is_picture_told
from ier1_plugin.task.parsing import render_response
from ier1_plugin.task.schema import Decomposition
from ier1_plugin.task.scoring import Gold, score_response

ROOT = Path(__file__).parents[2]
SEED = 0
PHRASES = (wordings.MAIN_SUBJECT, wordings.POLITE, wordings.GREETING, wordings.JOINERS, wordings.STATEMENT_JOINERS)
EVERYTHING_ELSE = (
    *wordings.WHOLE_PHOTO,
    *(name for names, _ in REGIONS.values() for name in names),
    *(text for phrases in PHRASES for text in phrases.train),
)


def first(split: Split, count: int) -> list[Sample]:
    return list(islice(world.samples(split, SEED), count))


@pytest.fixture(scope="module")
def train() -> list[Sample]:
    return first("train", ROWS * (VAL_EVERY - 1) // VAL_EVERY)


@pytest.fixture(scope="module")
def val() -> list[Sample]:
    return first("val", ROWS // VAL_EVERY)


def test_every_gold_scores_full_marks(train: list[Sample], val: list[Sample]):
    for sample in train + val:
        scores = score_response(render_response(sample.gold, sample.think), Gold.of(sample.gold))
        assert set(scores.values()) == {1.0}, sample


def test_the_rule_finds_the_edits_of_nearly_every_gold_in_its_lists(train: list[Sample]):
    carried = []
    for sample in train:
        told = world.told_order(sample.edits)
        assert sorted(map(repr, told)) == sorted(map(repr, sample.edits))
        plan = rule(sample.gold)
        carried.append(
            len(plan) == len(told)
            and all(
                edit.subject in line and OPERATIONS[edit.operation].goal in line
                for line, edit in zip(plan, told, strict=True)
            )
        )
    assert sum(carried) / len(carried) > 0.98
    # the rule knows what a crop is about, and nothing about brightness
    edits = (Edit("brighter", "photo"), Edit("warmer", "photo"), Edit("blur", "top half", (0.0, 0.0, 1.0, 0.5)))
    assert world.told_order(edits) == (edits[0], edits[2], edits[1])
    edits = (Edit("cropleft", "photo"), Edit("rotate", "photo"), edits[2])
    assert world.told_order(edits) == edits


def test_every_wording_means_one_operation_in_one_split():
    assert set(WORDINGS) == set(OPERATIONS)
    for key, wording in WORDINGS.items():
        assert len({*wording.asked, *wording.hinted}) >= 5, key
        assert len({*wording.held_out_asked, *wording.held_out_hinted}) >= 3, key
    known = [text for wording in WORDINGS.values() for group in vars(wording).values() for text in group]
    assert len(known) == len(set(known))


def test_held_out_wordings_use_only_words_that_training_knows():
    def words(*groups: tuple[str, ...]) -> set[str]:
        return {word for group in groups for text in group for word in re.findall(r"[\w']+", text.replace("{it}", ""))}

    trained = set().union(*(words(wording.asked, wording.hinted) for wording in WORDINGS.values()))
    for wording in WORDINGS.values():
        assert words(wording.held_out_asked, wording.held_out_hinted) <= trained


def test_validation_uses_neither_wordings_nor_photos_of_the_training(train: list[Sample], val: list[Sample]):
    assert not {used for sample in train for used in sample.wordings} & {used for s in val for used in s.wordings}
    assert not {sample.request for sample in train} & {sample.request for sample in val}
    known = photos("train", SEED), photos("val", SEED)
    assert not set(known[0]) & set(known[1])
    hashes = [[perceptual_hash(photo) for photo in split] for split in known]
    assert min((one ^ other).bit_count() for one in hashes[0] for other in hashes[1]) > MIN_DISTANCE


def test_a_fifth_of_the_rows_have_a_subject_that_only_the_picture_shows(train: list[Sample], val: list[Sample]):
    assert world.PICTURE_SHARE == 0.2
    for split in (train, val):
        assert sum(is_picture_told(sample.id) for sample in split) == world.PICTURE_SHARE * len(split)
    for sample in train:
        if is_picture_told(sample.id):
            assert sample.gold.subjects == (sample.photo.subject,)
            assert sample.photo.subject not in sample.request


def test_requests_are_direct_indirect_polite_and_misspelt(train: list[Sample]):
    hinted = {f"{key}: {text}" for key, wording in WORDINGS.items() for text in wording.hinted}
    indirect = [bool(hinted & set(sample.wordings)) for sample in train]
    polite = [any(word in sample.request for word in ("please", "could you", "kindly")) for sample in train]
    known = {word for sample in train for text in sample.wordings for word in re.findall("[a-z]+", text)}
    known |= {word for text in EVERYTHING_ELSE for word in re.findall("[a-z]+", text)}
    misspelt = [bool(set(re.findall("[a-z]+", sample.request)) - known) for sample in train]
    for kind in (indirect, polite, misspelt):
        assert 0.05 < sum(kind) / len(train) < 0.6


def test_one_to_four_edits_that_do_not_undo_each_other_and_fit_their_subjects(train: list[Sample]):
    assert {len(sample.edits) for sample in train} == {1, 2, 3, 4}
    regional = sum(any(edit.subject in REGIONS for edit in sample.edits) for sample in train)
    assert 0.15 < regional / len(train) < 0.6
    for sample in train:
        families = [OPERATIONS[edit.operation].family for edit in sample.edits]
        assert len(set(families)) == len(families)
        for edit in sample.edits:
            wanted = {WHOLE: edit.subject == world.WHOLE_SUBJECT, PART: edit.subject != world.WHOLE_SUBJECT}
            assert wanted.get(OPERATIONS[edit.operation].scope, True)
            assert not (sample.photo.grey and OPERATIONS[edit.operation].needs_colour)


def test_an_id_gives_back_its_edits_and_the_gold_edit_can_be_made_from_it_alone(train: list[Sample]):
    edits = (Edit("brighter", "photo"), Edit("erase", "coffee cup", (0.04, 0.0, 0.86, 1.0)), Edit("red", "top half"))
    written = world.sample_id("val", 7, edits)
    assert written == "val-00007.brighter@photo.erase@coffee_cup:4,0,86,100.red@top_half"
    assert edits_of(written) == (*edits[:2], Edit("red", "top half", (0.0, 0.0, 1.0, 0.5)))
    for sample in train[:60]:
        found = edits_of(sample.id)
        assert world.gold_image(sample.photo.open(), found).size != (0, 0)
        assert [(edit.operation, edit.subject) for edit in found] == [(e.operation, e.subject) for e in sample.edits]


@pytest.mark.parametrize("id", ["val-00007", "", "psr-1f3k", "val-00001.fly@photo", "val-00001.red@top_half:1,2"])
def test_an_id_without_edits_is_an_error_that_shows_it(id: str):
    with pytest.raises(ValueError, match="row id"):
        edits_of(id)


def test_every_picture_is_installed_has_a_licence_and_shows_its_subject_in_every_photo():
    for name, picture in PICTURES.items():
        pixels = np.asarray(Photo(name, (10, 10, 200, 200), mirrored=False, light=1.0).open(), dtype=float)
        assert ((pixels.max(axis=-1) - pixels.min(axis=-1)).mean() < 1) == picture.grey, name
        assert picture.licence in {"CC0 1.0", "public domain", "no known copyright restrictions", "CC BY 2.0"}
        assert picture.credit
    for photo in (*photos("train", SEED), *photos("val", SEED)):
        left, top, right, bottom = photo.subject_box
        assert 0 <= left < left + 0.1 < right <= 1
        assert 0 <= top < top + 0.1 < bottom <= 1


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pictures, "find_spec", lambda name: None)
    pictures._source.cache_clear()
    with pytest.raises(ModuleNotFoundError, match=r"skimage.*small-world"):
        pictures._source("coffee.png")


def test_the_examples_in_the_documentation_are_real():
    photo = photos("val", SEED)[0]
    assert photo == Photo(picture="astronaut.png", crop=(3, 15, 474, 486), mirrored=False, light=0.96)
    assert photo.open().size == (224, 224)
    sample = first("val", 5)[4]
    assert sample.id == "val-00004.brighter@astronaut:12,0,95,100"
    assert sample.request == "I want you to brighten up what you see in the picture, please"
    assert sample.gold == Decomposition(("Relighting",), ("astronaut",), ("brighter",))
    row = next(rows(Settings(source="photos", inputs=(), output=Path("unused"))))
    assert (row.id, row.group) == ("train-00000.green@left_half", "astronaut.png:51,65,496,510")
    assert row.request == "hi, I would like the left side in green"


@pytest.mark.slow
def test_the_builder_gets_thousands_of_distinct_rows_with_both_splits_and_loses_none(tmp_path: Path):
    found = list(rows(Settings(source="photos", inputs=(), output=Path("unused"), limit=200)))
    assert len({row.id for row in found}) == len({(row.group, row.request) for row in found}) == 200
    groups = [{row.group for row in found if row.split == split} for split in ("train", "val")]
    assert not groups[0] & groups[1]
    assert ROWS >= 4000
    command = [sys.executable, "data_prep/build_rl_dataset.py", "--source", "photos", "--limit", "600"]
    budget = ["--min-pixels", "3136", "--max-pixels", "3136"]
    subprocess.run([*command, *budget, "--output", str(tmp_path)], cwd=ROOT, check=True, capture_output=True)
    assert json.loads((tmp_path / "report.json").read_text())["rows"] == {"train": 540, "val": 60, "rejected": 0}
