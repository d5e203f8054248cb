"""Each source: what it makes of its input, and what it says about input that is not what it wants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes.builder_inputs import GOLD, PNG, ROOT, all_rows, build, rejected, requests, rows, write_jsonl

from data_prep.settings import RawRow, Settings
from data_prep.sources import SOURCES
from ier1_plugin.data.tables import Rejected
from ier1_plugin.runs.errors import UserError
from ier1_plugin.task.images import data_url
from ier1_plugin.task.schema import Decomposition

IMAGE = {"bytes": PNG, "path": None}


def read(source: str, input: Path | str, **options: Any) -> list[RawRow | Rejected]:
    settings = Settings(source, options.pop("inputs", ()), Path("unused"), **options)
    return list(SOURCES[source](settings, str(input)))


def good(source: str, input: Path | str, **options: Any) -> list[RawRow]:
    found = read(source, input, **options)
    assert all(isinstance(row, RawRow) for row in found), found
    return [row for row in found if isinstance(row, RawRow)]


def table(folder: Path, samples: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(samples), folder / "in.parquet")
    return folder / "in.parquet"


def test_jsonl_takes_a_path_or_a_data_url(tmp_path: Path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_bytes(PNG)
    lines = [
        {"id": "a", "image": "photos/cat.png", "request": "x", **GOLD, "source": "mine"},
        {"id": 7, "image": data_url(PNG), "request": "y", "group": "post"},
        {"image": "photos/cat.png", "request": "z", "actions": None},
    ]
    path, data, plain = good("jsonl", write_jsonl(tmp_path, lines))
    assert (path.id, path.source, path.group) == ("a", "mine", "photos/cat.png")
    assert path.gold == Decomposition(("Delete",), ("lamp",), ())
    assert path.image == tmp_path / "photos" / "cat.png"
    assert (data.id, data.source, data.group, data.image, data.gold) == ("7", "jsonl", "post", PNG, None)
    assert (plain.id, plain.gold) == ("in-3", None)


BROKEN = {
    "no image": ('{"request": "x"}', "no image: there is no column image or images (found: request)"),
    "null image": ('{"request": "x", "image": null}', "no image: image is null"),
    "no request": ('{"image": "0.png"}', "no request: there is no column request"),
    "request is a number": ('{"image": "0.png", "request": 5}', "request is not a text"),
    "gold as text": (
        '{"image": "0.png", "request": "x", "actions": "Crop", "subjects": [], "goals": []}',
        "gold can't be read: actions is not a list of texts",
    ),
}


@pytest.mark.parametrize(("line", "reason"), BROKEN.values(), ids=BROKEN.keys())
def test_a_line_that_cannot_be_used_is_rejected_with_its_reason(line: str, reason: str, tmp_path: Path):
    (tmp_path / "0.png").write_bytes(PNG)
    (row,) = read("jsonl", write_jsonl(tmp_path, [line]))
    assert isinstance(row, Rejected)
    assert row.reason.startswith(reason)


SAMPLES: dict[str, tuple[dict[str, Any], tuple[str, str, str]]] = {
    # a row in the columns of the set's card -> id, request and group
    "psr": (
        {"post_id": "1f3kab", "instruction": "remove my ex", "source_image": IMAGE, "ai_edited_image": IMAGE},
        ("psr-1f3kab", "remove my ex", "1f3kab"),
    ),
    "realedit": (
        {"input_image_name": IMAGE, "instruction": "fix the sky"},
        ("in-1", "fix the sky", "in-1"),
    ),
    "ultraedit": (
        {"idx": 12, "edit_prompt": "add rain", "source_caption": "a street", "source_image": IMAGE},
        ("ultraedit-12", "add rain", "a street"),
    ),
    "magicbrush": (
        {"img_id": "242679", "turn_index": 2, "instruction": "put a cat on it", "source_img": IMAGE, "mask_img": IMAGE},
        ("magicbrush-242679-2", "put a cat on it", "242679"),
    ),
    "omniedit": (
        {"omni_edit_id": "task_obj_1", "task": "removal", "src_img": IMAGE, "edited_prompt_list": ["", "drop it", "d"]},
        ("omniedit-task_obj_1", "drop it", "omniedit-task_obj_1"),
    ),
    "anyedit": (
        {"edit": "make it blue", "edited object": "car", "edit_type": "color_alter", "image_file": IMAGE},
        ("in-1", "make it blue", "in-1"),
    ),
}


@pytest.mark.parametrize("source", SAMPLES)
def test_public_sets_are_read_in_the_columns_of_their_cards(source: str, tmp_path: Path):
    sample, wanted = SAMPLES[source]
    (row,) = good(source, table(tmp_path, [sample]))
    assert (row.id, row.request, row.group) == wanted
    # an edit type is not a gold
    assert (row.source, row.image, row.gold, row.split) == (source, PNG, None, None)
    (tmp_path / "p.png").write_bytes(PNG)
    line = {name: "p.png" if cell == IMAGE else cell for name, cell in sample.items()}
    (row,) = good(source, write_jsonl(tmp_path, [line]))
    assert (row.request, row.image) == (wanted[1], tmp_path / "p.png")


def test_realedit_is_read_from_the_tables_of_its_own_scripts(tmp_path: Path):
    (tmp_path / "4wfxf2.png").write_bytes(PNG)
    (tmp_path / "train.csv").write_text('input_image_name,instruction\n4wfxf2.png,"remove it, please"\n')
    (row,) = good("realedit", tmp_path / "train.csv")
    assert (row.id, row.request, row.group) == ("realedit-4wfxf2.png", "remove it, please", "4wfxf2.png")
    (tmp_path / "train.csv").write_text("orig_img,instruction,edit_images\n4wfxf2.png,fix it,gone.png\n")
    (row,) = good("realedit", tmp_path / "train.csv")
    assert (row.id, row.image, row.group) == ("train-1", tmp_path / "4wfxf2.png", "4wfxf2.png")


def test_other_columns_are_listed_with_the_option_that_names_them(tmp_path: Path):
    # some of the set's own are there
    file = table(tmp_path, [{"picture": IMAGE, "wish": "fix the sky", "post": "4wfxf2", "edit_images": ""}])
    with pytest.raises(UserError) as error:
        read("realedit", file)
    assert "found: picture, wish, post, edit_images" in str(error.value)
    assert "--columns request=NAME" in str(error.value)
    columns = {"image": "picture", "request": "wish", "id": "post", "group": "post"}
    (row,) = good("realedit", file, columns=columns)
    assert (row.id, row.request, row.group, row.image) == ("realedit-4wfxf2", "fix the sky", "4wfxf2", PNG)
    with pytest.raises(UserError, match="post_id is unknown; known: image, request, id, group, actions"):
        read("psr", file, columns={"post_id": "x"})


@pytest.mark.parametrize(
    ("cells", "gold"),
    [
        ('"[""Delete""]","[""lamp""]",[]', Decomposition(("Delete",), ("lamp",), ())),
        (",,", None),
        (
            "\"['Delete']\",[],[]",
            """gold can't be read: actions is not a list of texts, such as ["lamp"]: "['Delete']\"""",
        ),
        ("Delete,[],[]", """gold can't be read: actions is not a list of texts, such as ["lamp"]: 'Delete'"""),
    ],
)
def test_gold_in_csv_is_json_arrays(cells: str, gold: Decomposition | str | None, tmp_path: Path):
    (tmp_path / "0.png").write_bytes(PNG)
    (tmp_path / "in.csv").write_text(f"image,request,actions,subjects,goals\n0.png,x,{cells}\n")
    (row,) = read("jsonl", tmp_path / "in.csv")
    assert (row.reason if isinstance(row, Rejected) else row.gold) == gold


def test_rows_without_ids_and_photos_of_one_name_are_told_apart_by_their_folders(tmp_path: Path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "0.png").write_bytes(PNG)
        write_jsonl(tmp_path / folder, [{"images": ["0.png"], "request": folder}])
    above = good("jsonl", tmp_path)
    assert [(row.id, row.group) for row in above] == [("a/in-1", "a/0.png"), ("b/in-1", "b/0.png")]
    assert [row.image for row in above] == [tmp_path / "a/0.png", tmp_path / "b/0.png"]
    inputs = (str(tmp_path / "a"), str(tmp_path / "b"))
    one, two = (good("jsonl", input, inputs=inputs) for input in inputs)
    assert [(row.id, row.group) for row in (*one, *two)] == [("in-1", "0.png"), ("2/in-1", "2/0.png")]


def test_images_may_lie_in_other_folders_that_are_named(tmp_path: Path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(PNG)
    names = ["a.png", str(tmp_path / "photos" / "a.png")]
    file = write_jsonl(tmp_path / "in", [{"image": name, "request": "x"} for name in names])
    assert all(isinstance(row, Rejected) for row in read("jsonl", file))
    rows = good("jsonl", file, image_roots=(tmp_path / "photos",))
    assert [row.image for row in rows] == [tmp_path / "photos" / "a.png"] * 2


def test_psr_gives_one_row_for_each_post_and_request_and_gold_may_stand_in_any_columns(tmp_path: Path):
    sample = SAMPLES["psr"][0] | {"verbs": ["Delete"], "subjects": ["ex"], "goals": []}
    edits = [sample | {"model": f"m{n}"} for n in range(30)] + [sample | {"post_id": "2abcde"}] * 2
    one, two = good("psr", table(tmp_path, edits), columns={"actions": "verbs"})
    assert (one.id, two.id) == ("psr-1f3kab", "psr-2abcde")
    assert one.gold == two.gold == Decomposition(("Delete",), ("ex",), ())


def test_several_inputs_are_read_one_after_the_other_up_to_the_limit(tmp_path: Path):
    one, two = requests(tmp_path / "one", 2), requests(tmp_path / "two", 6)
    one.write_text("{oops\n" + one.read_text())
    assert build("jsonl", None, tmp_path / "out", "--input", one, two, "--limit", 7) == 0
    assert set(all_rows(tmp_path / "out")) == {"r0", "r1", "r2", "r3"}
    reasons = rejected(tmp_path / "out")
    assert reasons.pop("in-1").startswith("broken line")
    assert reasons == {id: f"id is repeated: {id}" for id in ("r0", "r1")}


def test_a_folder_of_images_takes_its_requests_from_text_files_beside_them(tmp_path: Path, capsys: Any):
    (tmp_path / "more").mkdir()
    for name in ("a.png", "b.JPG", "more/c.png", "d.png", "e.png", ".hidden.png"):
        (tmp_path / name).write_bytes(PNG)
    for name in ("a.txt", "b.txt", "more/c.txt", "lonely.txt", "notes.md"):
        (tmp_path / name).write_text(f"remove the lamp\nof {name}\n", encoding="utf-16" if name == "b.txt" else "utf-8")
    (tmp_path / "a.txt").write_bytes("grün".encode("cp1252"))
    (tmp_path / "d.txt").symlink_to(ROOT / "README.md")
    found = {row.id: row for row in read("folder", tmp_path)}
    assert list(found) == ["a.png", "b.JPG", "d.png", "e.png", "more/c.png", "lonely.txt"]
    row = found["more/c.png"]
    assert isinstance(row, RawRow)
    assert (row.request, row.group) == ("remove the lamp\nof more/c.txt\n", "more/c.png")
    reasons = {id: row.reason for id, row in found.items() if isinstance(row, Rejected)}
    assert {id: reason.partition(":")[0] for id, reason in reasons.items()} == {
        "a.png": "no request",
        "d.png": "image lies outside the folder of its input",
        "e.png": "no request",
        "lonely.txt": "no image",
    }
    assert "e.txt is missing" in reasons["e.png"]
    assert "a.txt is not UTF-8" in reasons["a.png"]
    assert "note: 1 left out as no images: notes.md" in capsys.readouterr().err


def test_built_sets_are_put_together_with_their_splits(tmp_path: Path):
    one, two = requests(tmp_path / "one", 6), requests(tmp_path / "two", 12)
    build("jsonl", one, tmp_path / "a", "--val-fraction", 0.5)
    text = two.read_text().replace('"r', '"s').replace("remove", "hide")
    two.write_text("\n".join(text.splitlines()[6:]))
    build("jsonl", two, tmp_path / "b", "--val-fraction", 0.5)
    assert build("rl-rows", None, tmp_path / "out", "--input", tmp_path / "a", tmp_path / "b") == 0
    for split in ("train", "val"):
        wanted = [row for name in "ab" for row in rows(tmp_path / name, split)]
        assert {row["id"]: row for row in rows(tmp_path / "out", split)} == {row["id"]: row for row in wanted}


def test_a_row_that_was_damaged_since_it_was_built_is_rejected(tmp_path: Path):
    build("jsonl", requests(tmp_path / "in", 4), tmp_path / "a", "--val-fraction", 0)
    raw = rows(tmp_path / "a")
    damage = [{"answer": "{}"}, {"images": raw[1]["images"] * 2}, {"source": None}, {}]
    table = pa.Table.from_pylist([row | change for row, change in zip(raw, damage, strict=True)])
    pq.write_table(table, tmp_path / "a" / "train.parquet")
    build("rl-rows", tmp_path / "a", tmp_path / "out")
    assert list(rejected(tmp_path / "out")) == [row["id"] for row in raw[:3]]
    assert list(all_rows(tmp_path / "out")) == [raw[3]["id"]]


def test_rl_rows_wants_a_folder_that_was_built(tmp_path: Path):
    with pytest.raises(UserError, match=r"train\.parquet is missing"):
        read("rl-rows", tmp_path)
    pq.write_table(pa.table({"a": [1]}), tmp_path / "train.parquet")
    with pytest.raises(UserError, match="lacks the columns"):
        read("rl-rows", tmp_path)
