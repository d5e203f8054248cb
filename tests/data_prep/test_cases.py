"""Rows that carry their case: the photo beside the parquet files, rows without gold, and cases that are carried on."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from fakes.builder_inputs import all_rows, build, build_rows, encoded, picture, rejected, report, rows

from ier1_plugin.evaluation.decomposition import read_gold_rows
from ier1_plugin.evaluation.records import EvaluationError
from ier1_plugin.task.images import open_image
from ier1_plugin.task.rows import Case, read_answer, read_gold
from reward_fns.decomposition import compute_score

LARGE = encoded(picture(3, (400, 300)), "JPEG")
SMALL = encoded(picture(4))


def case_of(row: dict) -> Case:
    _, case = read_answer(row["answer"])
    assert case is not None
    return case


def test_each_row_carries_its_case_and_the_photo_lies_beside(tmp_path: Path):
    options = ("--case-images", "--case-max-pixels", 40_000, "--max-pixels", 10_000)
    output = build_rows(tmp_path, [{"image": LARGE}, {"image": SMALL, "request": "make the lamp red"}], *options)
    for id, row in all_rows(output).items():
        case = case_of(row)
        assert case == Case(id, row["problem"].removeprefix("<image>"), case.image)
        data = (output / "images" / case.image).read_bytes()
        assert case.image.partition(".")[0] == hashlib.sha256(data).hexdigest()
        # the photo for the editor is larger than the one for the model
        photo = open_image(data)
        assert photo.width * photo.height <= 40_000
        assert read_gold(row["answer"]).subjects == {"lamp"}
    # one that fits keeps its bytes
    assert (output / "images" / case_of(all_rows(output)["r1"]).image).read_bytes() == SMALL


def test_rewards_on_words_score_rows_with_and_without_a_case_alike(tmp_path: Path):
    (plain,) = rows(build_rows(tmp_path / "a", [{}]))
    (with_case,) = rows(build_rows(tmp_path / "b", [{}], "--case-images"))
    response = '<think> x </think><action>["Delete"]</action><subjects>["sofa"]</subjects><goals>[]</goals>'
    scores = [
        compute_score([{"response": response, "response_length": 1, "ground_truth": row["answer"]}])
        for row in (plain, with_case)
    ]
    assert plain["answer"] != with_case["answer"]
    assert scores[0] == scores[1]


def test_decompositions_are_compared_with_the_gold_of_rows_that_carry_a_case(tmp_path: Path):
    known = read_gold_rows(build_rows(tmp_path / "a", [{}], "--case-images") / "train.parquet")
    assert known["r0"].gold.subjects == {"lamp"}
    without = build_rows(tmp_path / "b", [{}], "--case-images", "--without-gold")
    with pytest.raises(EvaluationError, match="a case alone"):
        read_gold_rows(without / "train.parquet")


def test_rows_without_gold_are_built_and_the_reward_on_words_names_them(tmp_path: Path):
    nothing = {"actions": None, "subjects": None, "goals": None}
    output = build_rows(tmp_path / "a", [{}, nothing | {"image": SMALL}], "--case-images")
    assert [read_answer(row["answer"])[0] is None for row in all_rows(output).values()].count(True) == 1
    assert report(output)["without_gold"] == {"train": 1}
    # without a case there is nothing to learn from
    assert "no gold" in rejected(build_rows(tmp_path / "b", [nothing]))["r0"]
    output = build_rows(tmp_path / "c", [{}], "--case-images", "--without-gold")
    (row,) = rows(output)
    with pytest.raises(ValueError, match=r"item 0 .* no gold"):
        compute_score([{"response": "x", "response_length": 1, "ground_truth": row["answer"]}])


def test_cases_are_carried_on_when_data_sets_become_one_unless_their_photo_is_gone(tmp_path: Path):
    first = build_rows(tmp_path / "a", [{"image": LARGE}], "--case-images")
    assert build("rl-rows", first, tmp_path / "out") == 0
    (before,), (after,) = rows(first), rows(tmp_path / "out")
    assert after["answer"] == before["answer"]
    (file,) = (first / "images").iterdir()
    assert file.name == case_of(after).image
    assert (tmp_path / "out" / "images" / file.name).read_bytes() == file.read_bytes()
    file.unlink()
    build("rl-rows", first, tmp_path / "later")
    assert file.name in rejected(tmp_path / "later")["r0"]
