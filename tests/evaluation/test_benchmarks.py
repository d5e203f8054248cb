"""The benchmarks: in the columns of their cards, out of local files and through the hub's streaming."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
from fakes.benchmark_rows import OTHER, PNG, THIRD, image, opened, psr, raw_items, table
from fakes.builder_inputs import picture, write_jsonl

from ier1_plugin.data.sets import SETS, RawItem
from ier1_plugin.data.tables import Line, Rejected
from ier1_plugin.evaluation.benchmarks.sample import INPUTS, known_items, make_items
from ier1_plugin.evaluation.benchmarks.table import Benchmark, table_benchmark
from ier1_plugin.evaluation.config import EvaluationConfig
from ier1_plugin.evaluation.folder import read_items
from ier1_plugin.runs.errors import UserError
from ier1_plugin.task.images import data_url, encode


def test_the_tuples_of_psr_are_one_item_a_post(tmp_path: Path):
    rows = [psr(post, model=model) for post in ("1aaa", "2bbb") for model in ("m1", "m2", "m3")]
    benchmark = opened("psr", data=table(tmp_path, rows))
    assert list(benchmark.ids()) == ["psr-1aaa", "psr-2bbb"]
    first, *more = benchmark.raw_items(frozenset(["psr-2bbb"]))
    assert first == RawItem("psr-2bbb", "remove my ex", "2bbb", PNG, (), "low", (THIRD,))
    # the others bring further human edits of the same post
    assert [item.id for item in more if isinstance(item, RawItem)] == ["psr-2bbb"] * 2


def test_realedit_is_read_from_the_tables_of_its_own_scripts(tmp_path: Path):
    for name in ("4wfxf2.png", "c1.png", "c2.jpg"):
        (tmp_path / name).write_bytes(PNG)
    (tmp_path / "test.csv").write_text("input_image_name,instruction,edit\n4wfxf2.png,fix the sky,c1.png\n")
    (item,) = raw_items("realedit", data=str(tmp_path / "test.csv"), columns={"human": "edit"})
    assert (item.id, item.request, item.image) == ("realedit-4wfxf2.png", "fix the sky", tmp_path / "4wfxf2.png")
    assert item.human == (tmp_path / "c1.png",)
    lines = ["orig_img,instruction,edit_images", "4wfxf2.png,fix the sky,c1.png|c2.jpg", "4wfxf2.png,x,c1.png|gone.png"]
    (tmp_path / "dataset.csv").write_text("\n".join(lines) + "\n")
    first, second = raw_items("realedit", data=str(tmp_path / "dataset.csv"))
    assert (first.id, first.image) == ("realedit-00001", tmp_path / "4wfxf2.png")
    assert first.human == (tmp_path / "c1.png", tmp_path / "c2.jpg")
    # a human edit that is missing takes the item away from nobody
    assert second.human == (tmp_path / "c1.png",)
    assert second.problems == ("a human edit: image file is missing: gone.png",)


def test_local_copies_of_ultraedits_splits_have_the_ids_of_the_hub(tmp_path: Path):
    for split in (3, 12):
        rows = [{"idx": 7, "edit_prompt": f"edit {split}", "source_image": image()}]
        table(tmp_path, rows, f"FreeForm_{split}-00000-of-00001.parquet")
    found = raw_items("ultraedit", data=str(tmp_path))
    assert [(item.id, item.request) for item in found] == [
        ("ultraedit-FreeForm_12-7", "edit 12"),
        ("ultraedit-FreeForm_3-7", "edit 3"),
    ]
    benchmark = opened("ultraedit", data=str(tmp_path), split="FreeForm_3")
    assert list(benchmark.ids()) == ["ultraedit-FreeForm_3-7"]
    assert benchmark.splits() == ()


def test_imgedit_is_read_from_its_json_and_the_photos_beside_it(tmp_path: Path):
    (tmp_path / "animal").mkdir()
    (tmp_path / "animal" / "1.jpg").write_bytes(PNG)
    rows = {
        key: {"id": "animal/1.jpg", "prompt": "x", "edit_type": kind} for key, kind in (("1", "alter"), ("2", "add"))
    }
    data = tmp_path / "basic_edit.json"
    data.write_text(json.dumps(rows))
    first, _ = raw_items("imgedit", data=str(data))
    assert first == RawItem("imgedit-1", "x", "animal/1.jpg", tmp_path / "animal/1.jpg", ("alter",))
    items = raw_items("imgedit", data=str(data), columns={"difficulty": "edit_type"}, where={"edit_type": "add"})
    assert [(item.id, item.difficulty) for item in items] == [("imgedit-2", "add")]


def gedit(key: str, language: str, intersection: bool) -> dict[str, Any]:
    return {
        "key": key,
        "task_type": "subject-add",
        "instruction": f"add a cat ({language})",
        "instruction_language": language,
        "input_image": image(OTHER),
        "input_image_raw": image(),
        "Intersection_exist": intersection,
    }


GEDIT = [gedit("k1", "en", True), gedit("k1", "cn", True), gedit("k2", "en", False)]
MAGICBRUSH = {"img_id": "24", "instruction": "x", "source_img": image(), "target_img": image(OTHER)}
LEVELS = [{"compound_instruction": f"{level} things"} for level in range(1, 9)]
COMPLEX_EDIT = [{"image": image(), "edit": {"sequence": ["add rain"], "compound": LEVELS}}] * 2


@pytest.mark.parametrize(
    ("spec", "rows", "options", "fields", "wanted"),
    [
        (
            "magicbrush",
            [MAGICBRUSH | {"turn_index": turn} for turn in (1, 2)],
            {},
            "id cluster human",
            [("magicbrush-24-1", "24", (OTHER,)), ("magicbrush-24-2", "24", (OTHER,))],
        ),
        # its English half counts
        ("gedit", GEDIT, {}, "id image", [("gedit-k1", PNG), ("gedit-k2", PNG)]),
        ("gedit", GEDIT, {}, "actions", [("subject-add",)] * 2),
        ("gedit", GEDIT, {"where": {"Intersection_exist": "True"}}, "id", ["gedit-k1"]),
        ("gedit", GEDIT, {"where": {"instruction_language": "cn"}}, "request", ["add a cat (cn)"]),
        ("complex-edit", COMPLEX_EDIT, {}, "id", ["complex-edit-00001", "complex-edit-00002"]),
        ("complex-edit", COMPLEX_EDIT, {}, "request", ["8 things"] * 2),
        ("complex-edit:3", COMPLEX_EDIT, {}, "request", ["3 things"] * 2),
        ("complex-edit:C1", COMPLEX_EDIT, {}, "request", ["1 things"] * 2),
    ],
)
def test_a_set_is_read_in_the_columns_of_its_card(
    spec: str, rows: list[Any], options: dict[str, Any], fields: str, wanted: list[Any], tmp_path: Path
):
    found = raw_items(spec, data=table(tmp_path, rows), **options)
    assert [attrgetter(*fields.split())(item) for item in found] == wanted


def test_a_table_that_does_not_fit_is_one_line_with_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("a.png").write_bytes(PNG)
    Path("test.csv").write_text("input_image,instruction,output_image\na.png,fix it,b.png\n")
    Path("basic_edit.json").write_text(json.dumps({"1": {"id": "a.png", "prompt": "x"}}))
    Path("list.json").write_text("[1, 2]")
    Path("torn.parquet").write_bytes(b"PAR1 nothing of the kind")
    own = write_jsonl(tmp_path, [{"id": name, "image": "a.png", "request": "x"} for name in "ab"])
    one = table(tmp_path, [psr("1")], "psr.parquet")
    other = table(tmp_path, [{"post_id": "1", "wish": "x", "source_image": image()}], "other.parquet")
    many = table(tmp_path, COMPLEX_EDIT, "complex.parquet")
    found = r"\(found: input_image, instruction, output_image\)"
    for spec, options, wanted in (
        ("realedit", {"data": "test.csv"}, f"no column input_image_name or orig_img {found}.*--columns image=NAME"),
        ("psr", {"data": other}, r"no column instruction \(found: .*wish.*\); .*--columns request=NAME"),
        ("psr", {"data": one, "columns": {"difficulty": "grade"}}, r"no column grade \(found: .*difficulty=NAME"),
        ("psr", {"data": one, "where": {"nothing": "1"}}, "there is no column nothing"),
        ("psr", {"data": one, "split": "test"}, r"--split is for .*psr\.parquet is one file"),
        (f"jsonl:{own}", {"columns": {"difficulty": "grade"}}, "difficulty=grade: none of the 2 rows has grade"),
        ("imgedit", {"data": "basic_edit.json", "columns": {"action": "x"}}, "there is no action; known: id"),
        ("imgedit", {"data": "list.json"}, "wanted an object of objects"),
        ("psr", {"data": "torn.parquet"}, "can't be read after row 0"),
        ("complex-edit:9", {"data": many}, "no such level; wanted C1 to C8"),
    ):
        with pytest.raises(UserError, match=wanted):
            raw_items(spec, **options)


def test_ones_own_file_may_say_everything_that_an_item_has(tmp_path: Path):
    for name in ("in.png", "gold.png", "h1.png"):
        (tmp_path / name).write_bytes(PNG)
    whole = {"id": "a", "image": "in.png", "request": "remove it", "cluster": "c", "actions": ["Delete", "Add"]}
    whole |= {"difficulty": "high", "human_images": ["h1.png"], "gold_image": "gold.png"}
    file = write_jsonl(tmp_path, [whole, {"image": "in.png", "instruction": "flip it"}], "mine.jsonl")
    first, second = raw_items(f"jsonl:{file}")
    assert first == RawItem(
        "a",
        "remove it",
        "c",
        tmp_path / "in.png",
        ("Delete", "Add"),
        "high",
        (tmp_path / "h1.png",),
        tmp_path / "gold.png",
    )
    assert (second.id, second.request, second.cluster) == ("jsonl-00002", "flip it", "jsonl-00002")
    assert opened(f"jsonl:{file}").name == "mine"


def test_two_items_of_one_id_are_told_apart_the_same_way_in_both_passes(tmp_path: Path):
    (tmp_path / "in.png").write_bytes(PNG)
    file = write_jsonl(tmp_path, [{"id": "a", "image": "in.png", "request": words} for words in ("one", "two")])
    assert [(item.id, item.request) for item in raw_items(f"jsonl:{file}")] == [("a", "one"), ("a-2", "two")]
    (second,) = opened(f"jsonl:{file}").raw_items(frozenset(["a-2"]))
    assert getattr(second, "request", "") == "two"


def test_a_broken_line_is_told_and_the_rest_is_read(tmp_path: Path):
    (tmp_path / "in.png").write_bytes(PNG)
    rows = [
        "{oops",
        {"id": "b", "image": "in.png", "request": "flip it"},
        {"id": "c", "image": "gone.png", "request": "x"},
        {"id": "d", "image": "in.png"},
    ]
    benchmark = opened(f"jsonl:{write_jsonl(tmp_path, rows)}")
    broken, *ids = benchmark.ids()
    assert isinstance(broken, Rejected)
    assert "line 1 is not JSON" in broken.reason
    assert ids == ["b", "c", "d"]
    good, *bad = benchmark.raw_items(frozenset("bcd"))
    assert isinstance(good, RawItem)
    reasons = {item.id: item.reason for item in bad if isinstance(item, Rejected)}
    assert reasons["c"] == "image file is missing: gone.png"
    assert "no column request or instruction (found: id, image)" in reasons["d"]
    assert "--columns request=NAME" in reasons["d"]


@pytest.mark.parametrize(
    ("spec", "options", "wanted"),
    [
        ("psrr", {}, "no benchmark 'psrr'; known: psr, realedit"),
        ("psr:1", {}, "psr takes nothing after a colon"),
        ("small-world", {"data": "x.csv"}, "small-world takes no --data; its items are made"),
        ("small-world", {"columns": {"a": "b"}, "where": {"c": "1"}}, "small-world takes no --columns, --where"),
        ("imgedit", {"data": "basic_edit.json", "split": "test"}, "imgedit takes no --split; it is one JSON file"),
        ("jsonl:x.jsonl", {"data": "y.jsonl"}, "jsonl takes no --data; the file is named after the colon"),
        ("psr", {"columns": {"picture": "x"}}, "--columns: there is no picture; known: id, cluster, image"),
        ("jsonl:nowhere.jsonl", {}, "jsonl:nowhere.jsonl is not a file"),
        ("imgedit", {}, "unpack it"),
        ("small-world:600-400", {}, "is not a range"),
        ("small-world:0-2000", {}, "at most to 1400"),
        ("psr", {"data": "no/such/set/here"}, "there is no file or folder"),
    ],
)
def test_what_names_no_benchmark_is_one_line(spec: str, options: dict[str, Any], wanted: str):
    with pytest.raises(UserError) as error:
        list(opened(spec, **options).ids())
    assert wanted in str(error.value)
    assert "\n" not in str(error.value)


ITEMS = 60


@pytest.fixture(name="inline")
def inline_images(tmp_path: Path) -> Benchmark:
    """Images inside the lines, so that each that is used is written out; every third item has an edit by a person."""
    rows: list[dict[str, Any]] = []
    for number in range(ITEMS):
        image = data_url(encode(picture(number), lossless=True))
        row = {"id": f"i{number}", "image": image, "request": f"request {number}"}
        rows.append(row | ({"human_images": [image]} if number % 3 == 0 else {}))
    return opened(f"jsonl:{write_jsonl(tmp_path, rows)}")


def test_a_sample_that_is_larger_than_the_benchmark_is_told(inline: Benchmark, tmp_path: Path):
    told: list[str] = []
    assert len(make_items(tmp_path / "all", inline, 0, 1000, on_warning=told.append)) == ITEMS
    assert told == [f"{inline.name} has 60 items, fewer than --sample 1000: all of them are taken"]
    told.clear()
    make_items(tmp_path / "exactly", inline, 0, ITEMS, on_warning=told.append)
    make_items(tmp_path / "ids", inline, 0, ids=["i1"], on_warning=told.append)
    assert not told


def test_a_check_of_judges_writes_out_few_items_of_a_large_benchmark(inline: Benchmark, tmp_path: Path):
    whole = [item.id for item in make_items(tmp_path / "whole", inline, 0) if item.human_images]
    found = known_items(tmp_path / "few", inline, 0, wanted=4)
    # the same that one would have found first in all of them
    assert [item.id for item in found] == whole[:4]
    assert all((tmp_path / "few" / item.image).is_file() for item in found)
    few, all_images = (len(list((tmp_path / name / INPUTS).glob("*.png"))) for name in ("few", "whole"))
    assert few < all_images / 2
    # an evaluation that follows there takes its own sample
    assert read_items(tmp_path / "few") == []
    assert len(known_items(tmp_path / "all", inline, 0, wanted=1000)) == ITEMS // 3
    assert {item.id for item in known_items(tmp_path / "ids", inline, 0, ids=["i3", "i4"])} == {"i3"}


@pytest.mark.parametrize("grouped", [False, True])
def test_reading_ends_at_the_last_item_that_is_wanted_unless_several_rows_may_be_one_item(grouped: bool):
    image = data_url(encode(picture(0), lossless=True))
    read: list[str] = []

    def rows() -> Iterator[Line]:
        for number, id in enumerate("abc", start=1):
            read.append(id)
            yield Line(number, {"id": id, "image": image, "request": "x"}, (), "mine")

    benchmark = table_benchmark("jsonl", replace(SETS["jsonl"], grouped=grouped), EvaluationConfig(data="x"), rows)
    assert [getattr(item, "id", "") for item in benchmark.raw_items(frozenset("ab"))] == ["a", "b"]
    assert read == [*"abc"] if grouped else ["a", "b"]
