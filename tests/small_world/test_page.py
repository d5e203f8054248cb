"""The page that a quickstart leaves."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.small_world_rows import write_rows
from fakes.tiny_models import build
from PIL import Image

from ier1_plugin.prompts import path
from ier1_plugin.small_world import page
from ier1_plugin.small_world.evaluate import read_rows
from ier1_plugin.small_world.pictures import PHOTO_SIDE
from ier1_plugin.small_world.world import edits_of
from ier1_plugin.task.decomposer import Decomposer
from ier1_plugin.task.schema import Plan


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("rows"), 30)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that learnt nothing, as merging leaves it."""
    pytest.importorskip("transformers")
    folder = build(tmp_path_factory.mktemp("tiny") / "model", "qwen2_5_vl")
    (folder / "decompose.jinja").write_bytes(path("decompose").read_bytes())
    facts = Decomposer(3136, 3136, 3136, 3136, 28**2, "decompose.jinja", "", "cpu-standin", "float32", "0.1.0")
    replace(facts, max_response_length=72).write(folder)
    return folder


@pytest.mark.slow
def test_three_rows_of_two_edits_are_chosen_with_a_picture_each_or_their_own_photo(rows: Path):
    chosen = page.chosen_rows(read_rows(rows), seed=0)
    assert [len(edits_of(row.id)) for row, _ in chosen] == [2, 2, 2]
    assert len({photo.picture for _, photo in chosen if photo}) == 3
    assert all(photo and photo.open().size == (PHOTO_SIDE, PHOTO_SIDE) for _, photo in chosen)
    # rows of another seed
    assert [photo for _, photo in page.chosen_rows(read_rows(rows), seed=1)] == [None] * 3


@pytest.mark.slow
def test_a_model_that_learnt_nothing_still_gives_a_page_and_its_fallbacks_are_stated(
    rows: Path, model: Path, tmp_path: Path
):
    curves, out = tmp_path / "curves.png", tmp_path / "new" / "index.html"
    Image.new("RGB", (30, 20), "teal").save(curves)
    options = ["--model", str(model), "--rows", str(rows), "--out", str(out)]
    assert page.main([*options, "--curves", str(curves)]) == 0
    text = out.read_text(encoding="utf-8")
    assert text.count("no readable decomposition") == 3
    assert text.count("unreadable</span>") == 9
    # curves, three before, three gold, and whatever pillow made of the words themselves
    assert text.count("data:image/") >= 7
    assert re.findall(r"(?:src|href)=\"(?!data:)", text) == []
    for row, _ in page.chosen_rows(read_rows(rows), 0):
        assert row.request.split(";")[0].replace('"', "&#34;").replace("'", "&#39;") in text
    assert page.main([*options, "--curves", "gone.png"]) == 0
    assert "gone.png is missing" in out.read_text(encoding="utf-8")


def test_without_rows_or_model_one_line_says_so(rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "index.html"
    for model, file in ((tmp_path, tmp_path / "gone.parquet"), (tmp_path / "gone", rows)):
        assert page.main(["--model", str(model), "--rows", str(file), "--out", str(out)]) == 1
        assert capsys.readouterr().err.count("\n") == 1
        assert not out.exists()


def test_a_sub_request_that_cannot_be_made_is_left_out_and_told():
    def editor(image: Image.Image, instruction: str, seed: int) -> Image.Image:
        if "Delete" in instruction:
            raise page.EditError("can't")
        return Image.new("RGB", image.size, "white")

    chain = page.ImageEditR1(None, None, editor)
    black = Image.new("RGB", (4, 4))
    image, left_out = page.carry_out(chain, black, Plan("r", ("Delete photo", "Relighting photo to brighter")))
    assert image
    assert image.getpixel((0, 0)) == (255, 255, 255)
    assert left_out == ["left out: can't"]
    assert page.carry_out(chain, black, Plan("r", ("Delete photo",)))[0] is None
