"""The items of a batch: from JSON lines and folders, with ids that become names of files."""

from __future__ import annotations

import codecs
import json
from pathlib import Path

import pytest
from fakes.chat_fakes import photo

from ier1_plugin.data.items import Item, count_items, left_out, read_items
from ier1_plugin.runs.errors import UserError


def test_json_lines_are_read_with_paths_beside_the_file(tmp_path: Path):
    photo().save(tmp_path / "a.png")
    lines = [
        {"id": "first", "image": "a.png", "request": "make it red"},
        {"image": str(tmp_path / "a.png"), "instruction": "make it blue"},
        {"id": 7, "image": "a.png"},
        {"image": None, "request": "x"},
        {"image": "a.png", "request": 3},
        "not an object",
    ]
    text = "\n".join(map(json.dumps, lines)) + "\n\n{torn\n"
    (tmp_path / "in.jsonl").write_text(text, encoding="utf-8")
    items = list(read_items(tmp_path / "in.jsonl"))
    assert count_items(tmp_path / "in.jsonl") == len(items) == 7
    assert items[0] == Item("first", str(tmp_path / "a.png"), "make it red")
    assert items[1] == Item("line-000002", str(tmp_path / "a.png"), "make it blue")
    reasons = [item.problem for item in items[2:]]
    assert [reason[:12] for reason in reasons] == [
        "no request: ",
        "image is Non",
        "no request: ",
        "broken line:",
        "broken line:",
    ]
    assert items[6].id == "line-000008"
    assert list(read_items(tmp_path / "in.jsonl", "make it grey"))[2].request == "make it grey"


def test_a_folder_is_read_in_the_order_of_names_with_the_request_beside_each_photo(tmp_path: Path):
    for name in ("b.png", "a.PNG", "c.jpg", "c.png"):
        photo().save(tmp_path / name)
    (tmp_path / "notes.md").write_text("x", encoding="utf-8")
    (tmp_path / "b.txt").write_text("make it blue\n", encoding="utf-8")
    items = list(read_items(tmp_path, "make it red"))
    assert [(item.id, item.request) for item in items] == [
        ("a", "make it red"),
        ("b", "make it blue"),
        ("c.jpg", "make it red"),
        ("c.png", "make it red"),
    ]
    assert next(read_items(tmp_path)).problem == "no request: write one into a.txt, or give --request"


@pytest.mark.parametrize(
    ("data", "request_", "problem"),
    [
        ("mach es grün".encode(), "mach es grün", ""),
        ("mach es grün\n".encode("utf-8-sig"), "mach es grün", ""),
        ("mach es grün".encode("utf-16"), "mach es grün", ""),
        (codecs.BOM_UTF16_BE + "mach es grün".encode("utf-16-be"), "mach es grün", ""),
        ("mach es grün".encode("cp1252"), "", "no request: a.txt is not UTF-8"),
        ("mach es grün".encode("utf-16-le"), "", "no request: a.txt is not UTF-8"),
        ("mach es grün".encode("utf-32"), "", "no request: a.txt is not UTF-8"),
        ("mach es grün".encode("utf-16")[:-1], "", "no request: a.txt is not UTF-8"),
    ],
)
def test_a_request_beside_its_photo_is_read_as_it_was_written_or_is_that_items_error(
    tmp_path: Path, data: bytes, request_: str, problem: str
):
    photo().save(tmp_path / "a.png")
    photo().save(tmp_path / "b.png")
    (tmp_path / "a.txt").write_bytes(data)
    first, second = read_items(tmp_path, "make it red")
    assert first.problem.startswith(problem)
    assert bool(first.problem) == bool(problem)
    assert problem or first.request == request_
    assert (second.request, second.problem) == ("make it red", "")


def test_every_image_of_a_folder_is_taken_and_what_is_left_out_is_named(tmp_path: Path):
    for name in ("one.jpg", "IMG_2.JPG", "a.heic", "b.avif", "c.jfif", "d.mpo", "e.jp2", "f.tga"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "one.txt").write_text("make it red")
    for name in ("g", "h.pdf", "i.eps", "stray.txt", ".hidden", "._one.jpg"):
        (tmp_path / name).write_bytes(b"x")
    assert len(list(read_items(tmp_path, "x"))) == count_items(tmp_path) == 8
    assert left_out(tmp_path) == ["g", "h.pdf", "i.eps", "stray.txt"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing", "neither a folder nor a file"),
        ("empty.jsonl", "holds nothing to edit"),
        ("empty", "holds nothing to edit"),
        ("photo.png", "is one image; edit it with ier1 edit"),
    ],
)
def test_an_input_with_nothing_in_it_says_so(tmp_path: Path, name: str, reason: str):
    (tmp_path / "empty.jsonl").write_text("\n\n", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    photo().save(tmp_path / "photo.png")
    with pytest.raises(UserError, match=reason):
        count_items(tmp_path / name)


def test_different_ids_never_share_a_file():
    ids = ["a/b", "a%2Fb", "a b", ".a", "%2Ea", "x" * 400, "x" * 401, "ü", "u"]
    assert len({Item(id).name for id in ids}) == len(ids)
