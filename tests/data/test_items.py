"""The items of a batch: from JSON lines and folders, with ids that become names of files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fakes.chat_fakes import photo

from ier1_plugin.data.items import BatchError, Item, count_items, read_items


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
    with pytest.raises(BatchError, match=reason):
        count_items(tmp_path / name)


def test_different_ids_never_share_a_file():
    ids = ["a/b", "a%2Fb", "a b", ".a", "%2Ea", "x" * 400, "x" * 401, "ü", "u"]
    assert len({Item(id).name for id in ids}) == len(ids)
