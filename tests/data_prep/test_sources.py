"""Each source: what it makes of its input, and what it says about input that is not what it wants."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes.builder_inputs import GOLD, all_rows, build, encoded, picture, rejected, requests, rows, write_jsonl

from data_prep.records import BuildError, RawRow, Rejected
from data_prep.settings import Settings
from data_prep.sources import SOURCES
from ier1_plugin.data import tables
from ier1_plugin.task.schema import Decomposition

PNG = encoded(picture(0))


def read(source: str, input: Path | str, **options: Any) -> list[RawRow | Rejected]:
    settings = Settings(source, (str(input),), Path("unused"), **options)
    return list(SOURCES[source](settings.reading(str(input))))


def good(source: str, input: Path | str, **options: Any) -> list[RawRow]:
    found = read(source, input, **options)
    assert all(isinstance(row, RawRow) for row in found), found
    return [row for row in found if isinstance(row, RawRow)]


def only_rejected(source: str, input: Path | str) -> str:
    (row,) = read(source, input)
    assert isinstance(row, Rejected)
    return row.reason


def test_jsonl_takes_a_path_or_a_data_url(tmp_path: Path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_bytes(PNG)
    url = "data:image/png;base64," + base64.b64encode(PNG).decode()
    lines = [
        {"id": "a", "image": "photos/cat.png", "request": "x", **GOLD, "source": "mine"},
        {"id": 7, "image": url, "request": "y", "group": "post"},
        {"image": "photos/cat.png", "request": "z", "actions": None},
    ]
    path, data, plain = good("jsonl", write_jsonl(tmp_path, lines))
    assert (path.id, path.source, path.group) == ("a", "mine", "photos/cat.png")
    assert path.gold == Decomposition(("Delete",), ("lamp",), ())
    assert path.image == tmp_path / "photos" / "cat.png"
    assert (data.id, data.source, data.group, data.image, data.gold) == ("7", "jsonl", "post", PNG, None)
    assert (plain.id, plain.gold) == ("in-3", None)


BROKEN = {
    "not JSON": ("{oops", "broken line: line 1 is not JSON"),
    "a list": ("[1]", "broken line: line 1 is not a JSON object"),
    "bytes": ("\ufffd\\", "broken line: line 1 is not JSON"),
    "deep": ("[" * 100_000, "broken line: line 1 is not JSON"),
    "a huge number": ('{"id": ' + "9" * 10_000 + "}", "broken line: line 1 is not JSON"),
    "no image": ('{"request": "x"}', "no image: there is no column image (found: request)"),
    "null image": ('{"request": "x", "image": null}', "no image: image is null"),
    "no request": ('{"image": "0.png"}', "no request: there is no column request"),
    "request is a number": ('{"image": "0.png", "request": 5}', "request is not a text"),
    "image is a number": ('{"image": 5, "request": "x"}', "no image: wanted a path"),
    "no such file": ('{"image": "1.png", "request": "x"}', "image file is missing: 1.png"),
    "a folder": ('{"image": ".", "request": "x"}', "image file is missing"),
    "NUL in a path": ('{"image": "a\\u0000b", "request": "x"}', "image path can't be used"),
    "an address": ('{"image": "https://a.b/c.png", "request": "x"}', "image is an address"),
    "URL without base64": ('{"image": "data:image/png,abc", "request": "x"}', "image is a data URL without base64"),
    "bad base64": ('{"image": "data:image/png;base64,a$b", "request": "x"}', "image is a data URL that is not base64"),
    "gold as text": (
        '{"image": "0.png", "request": "x", "actions": "Crop", "subjects": [], "goals": []}',
        "gold can't be read: actions is not a list of texts",
    ),
    "gold of numbers": (
        '{"image": "0.png", "request": "x", "actions": [], "subjects": [1], "goals": []}',
        "gold can't be read: subjects is not a list of texts",
    ),
}


@pytest.mark.parametrize(("line", "reason"), BROKEN.values(), ids=BROKEN.keys())
def test_a_line_that_cannot_be_used_is_rejected_with_its_reason(line: str, reason: str, tmp_path: Path):
    (tmp_path / "0.png").write_bytes(PNG)
    assert only_rejected("jsonl", write_jsonl(tmp_path, [line])).startswith(reason)


def test_a_broken_line_costs_that_line_only_and_is_shown_with_its_number(tmp_path: Path):
    source = requests(tmp_path / "in", 4)
    lines = source.read_bytes().splitlines()
    source.write_bytes(b"\xef\xbb\xbf" + b"\n".join([lines[0], lines[1], b"", b"\xff\xfe{", lines[2], lines[3]]))
    build("jsonl", source, tmp_path / "out")
    assert set(all_rows(tmp_path / "out")) == {"r0", "r1", "r2", "r3"}
    line = json.loads((tmp_path / "out" / "rejected.jsonl").read_text())
    assert line["reason"].startswith("broken line: line 4 is not JSON")
    assert line["row"]["line"] == 4


def test_a_line_of_any_length_is_read_in_pieces(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(tables, "MAX_LINE_BYTES", 1000)
    source = requests(tmp_path / "in", 2)
    first, second = source.read_text().splitlines()
    source.write_text("\n".join([first, "x" * 5500, second]))
    build("jsonl", source, tmp_path / "out")
    assert set(all_rows(tmp_path / "out")) == {"r0", "r1"}
    assert rejected(tmp_path / "out") == {"in-2": "broken line: line 2 is longer than 1000 bytes"}


@pytest.mark.parametrize("path", ["../out.png", "a/../../out.png", "{tmp}/out.png", "link.png", "linked/out.png"])
def test_an_image_path_that_leaves_the_folder_of_its_input_is_rejected(path: str, tmp_path: Path):
    (tmp_path / "out.png").write_bytes(PNG)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link.png").symlink_to(tmp_path / "out.png")
    (tmp_path / "in" / "linked").symlink_to(tmp_path)
    row = {"image": path.format(tmp=tmp_path), "request": "x"}
    assert only_rejected("jsonl", write_jsonl(tmp_path / "in", [row])).startswith("image lies outside the folder")


def test_a_pipe_in_place_of_an_image_does_not_hang_the_build(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.png")
    source = write_jsonl(tmp_path, [{"image": "pipe.png", "request": "x"}])
    assert only_rejected("jsonl", source) == "image file is missing: pipe.png"


def test_a_missing_input_says_what_a_hub_id_looks_like(tmp_path: Path, capsys):
    assert build("jsonl", tmp_path / "nothing.jsonl", tmp_path / "out") == 1
    assert "it is not a hub id such as" in capsys.readouterr().err


def test_a_file_of_an_unknown_kind_or_a_folder_without_data_is_one_line(tmp_path: Path):
    (tmp_path / "a.xlsx").write_text("")
    for place in (tmp_path / "a.xlsx", tmp_path):
        with pytest.raises(BuildError, match="jsonl"):
            read("psr", place)


def test_limit_counts_the_rows_that_are_read(tmp_path: Path):
    source = requests(tmp_path / "in", 10)
    source.write_text("{oops\n" + source.read_text())
    build("jsonl", source, tmp_path / "out", "--limit", 4)
    assert set(all_rows(tmp_path / "out")) == {"r0", "r1", "r2"}


def test_several_inputs_are_read_one_after_the_other(tmp_path: Path):
    one = requests(tmp_path / "one", 2)
    two = requests(tmp_path / "two", 4)
    assert build("jsonl", None, tmp_path / "out", "--input", one, two) == 0
    assert set(all_rows(tmp_path / "out")) == {"r0", "r1", "r2", "r3"}
    assert set(rejected(tmp_path / "out")) == {"r0", "r1"}


def test_a_folder_of_images_takes_its_requests_from_text_files_beside_them(tmp_path: Path):
    (tmp_path / "more").mkdir()
    for name in ("a.png", "b.JPG", "more/c.png", "d.png"):
        (tmp_path / name).write_bytes(PNG)
    for name in ("a.txt", "b.txt", "more/c.txt", "lonely.txt"):
        (tmp_path / name).write_text(f"remove lamp\nof {name}\n")
    (tmp_path / "notes.md").write_text("not mine")
    (tmp_path / ".hidden.png").write_bytes(PNG)
    found = {row.id: row for row in read("folder", tmp_path)}
    assert list(found) == ["a.png", "b.JPG", "d.png", "more/c.png", "lonely.txt"]
    row = found["more/c.png"]
    assert isinstance(row, RawRow)
    assert (row.request, row.group) == ("remove lamp\nof more/c.txt\n", "more/c.png")
    reasons = {id: row.reason for id, row in found.items() if isinstance(row, Rejected)}
    assert reasons == {
        "d.png": "no request: d.txt is missing",
        "lonely.txt": "no image: there is none for lonely.txt",
    }


def test_a_folder_may_not_reach_outside_itself(tmp_path: Path):
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "in" / "a.png").write_bytes(PNG)
    (tmp_path / "in" / "a.txt").symlink_to(tmp_path / "secret.txt")
    assert only_rejected("folder", tmp_path / "in").startswith("image lies outside the folder")


def test_a_parquet_file_that_is_none_is_one_line(tmp_path: Path, capsys):
    (tmp_path / "in.parquet").write_bytes(b"PAR1 nothing")
    assert build("psr", tmp_path / "in.parquet", tmp_path / "out") == 1
    assert "in.parquet can't be read after row 0" in capsys.readouterr().err


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
    damage = [{"answer": "{}"}, {"images": []}, {"source": None}, {}]
    table = pa.Table.from_pylist([row | change for row, change in zip(raw, damage, strict=True)])
    pq.write_table(table, tmp_path / "a" / "train.parquet")
    build("rl-rows", tmp_path / "a", tmp_path / "out")
    assert list(rejected(tmp_path / "out")) == [row["id"] for row in raw[:3]]
    assert list(all_rows(tmp_path / "out")) == [raw[3]["id"]]


def test_rl_rows_wants_a_folder_that_was_built(tmp_path: Path):
    with pytest.raises(BuildError, match=r"train\.parquet is missing"):
        read("rl-rows", tmp_path)
    pq.write_table(pa.table({"a": [1]}), tmp_path / "train.parquet")
    with pytest.raises(BuildError, match="has not the columns"):
        read("rl-rows", tmp_path)


@pytest.mark.slow
def test_the_small_world_is_a_source(tmp_path: Path):
    pytest.importorskip("data_prep.sources.small_world", reason="the small world is not in this checkout")
    assert build("photos", None, tmp_path / "out", "--limit", 60) == 0
    assert len(all_rows(tmp_path / "out")) + len(rejected(tmp_path / "out")) == 60
