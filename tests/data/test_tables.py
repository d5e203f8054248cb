"""Rows out of files, folders and the hub's streaming, and the images in their cells."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes.builder_inputs import encoded, picture, write_jsonl

from ier1_plugin.data import tables
from ier1_plugin.data.sets import split_in
from ier1_plugin.data.tables import Line, Rejected, TableError, image_of, read

PNG = encoded(picture(0))


def lines(
    source: Path | str, split: str | None = None, columns: Sequence[str] = ()
) -> tuple[list[Line], list[Rejected]]:
    found = list(read(str(source), split, columns))
    return [line for line in found if isinstance(line, Line)], [line for line in found if isinstance(line, Rejected)]


def rows(source: Path | str, split: str | None = None, columns: Sequence[str] = ()) -> list[dict[str, Any]]:
    good, broken = lines(source, split, columns)
    assert not broken
    return [line.row for line in good]


BROKEN = {
    "not JSON": ("{oops", "is not JSON"),
    "a list": ("[1]", "is not a JSON object"),
    "bytes": ("\ufffd\\", "is not JSON"),
    "deep": ("[" * 100_000, "is not JSON"),
    "a huge number": ('{"id": ' + "9" * 10_000 + "}", "is not JSON"),
    "too long": ('"' + "x" * 250_000 + '"', "is longer than 200000 characters"),
}


@pytest.mark.parametrize(("mark", "encoding"), [(b"\xef\xbb\xbf", "utf-8"), (b"", "utf-16")])
@pytest.mark.parametrize(("line", "reason"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_line_costs_that_line_only(
    line: str, reason: str, mark: bytes, encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tables, "MAX_LINE_CHARACTERS", 200_000)
    file = write_jsonl(tmp_path, [{"id": "a"}, "", line, {"id": "b"}])
    file.write_bytes(mark + file.read_text().encode(encoding))
    good, (broken,) = lines(file)
    assert [line[:2] for line in good] == [(1, {"id": "a"}), (4, {"id": "b"})]
    assert (broken.id, broken.row["line"]) == ("in-3", 3)
    assert broken.reason.startswith(f"broken line: line 3 {reason}")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_text_in_another_encoding_costs_the_rows_that_have_it(encoding: str, tmp_path: Path):
    cells = "id,request\n1,plain\n2,café\n"
    objects = '{"request": "plain"}\n{"request": "café"}\n'
    for name, text in (("in.csv", cells), ("in.jsonl", objects)):
        (tmp_path / name).write_bytes(text.encode(encoding))
        good, broken = lines(tmp_path / name)
        assert [line.row["request"] for line in good] == (["plain"] if encoding == "cp1252" else ["plain", "café"])
        assert ["2 is not UTF-8" in line.reason for line in broken] == [True] * (2 - len(good))


def test_cells_of_csv_may_be_large_and_hold_json_arrays(tmp_path: Path):
    large = "x" * 300_000
    (tmp_path / "in.csv").write_text(f'name,text\n"[""a"", ""b""]","[crop] it"\nx\n[],{large}\n')
    good, (broken,) = lines(tmp_path / "in.csv")
    assert [line.row for line in good] == [{"name": ["a", "b"], "text": "[crop] it"}, {"name": [], "text": large}]
    assert good[0].columns == ("name", "text")
    assert broken.reason == "broken line: row 2 has more or fewer cells than the header"


def test_a_cell_of_a_table_that_is_not_utf_8_costs_its_row(tmp_path: Path):
    binary = pa.array([b"plain", b"caf\xe9", b"last"], pa.binary())
    text = pa.StringArray.from_buffers(3, *binary.buffers()[1:])
    pq.write_table(pa.table({"request": text}), tmp_path / "in.parquet")
    good, (broken,) = lines(tmp_path / "in.parquet")
    assert [line.row for line in good] == [{"request": "plain"}, {"request": "last"}]
    assert "row 2 is not UTF-8" in broken.reason


@pytest.mark.parametrize("kind", ["parquet", "arrow", "saved"])
def test_tables_are_read_in_the_columns_that_are_wanted(kind: str, tmp_path: Path):
    table = pa.Table.from_pylist([{"id": n, "image": PNG, "other": b"junk"} for n in range(40)])
    source = tmp_path / f"in.{kind}"
    if kind == "parquet":
        pq.write_table(table, source)
    elif kind == "arrow":
        with pa.ipc.new_file(source, table.schema) as writer:
            writer.write_table(table)
    else:
        from datasets import Dataset

        Dataset(table).save_to_disk(str(source))
    assert rows(source, columns=["id", "image", "nothing"]) == [{"id": n, "image": PNG} for n in range(40)]
    assert [*rows(source)[0]] == ["id", "image", "other"]
    assert lines(source, columns=["id"])[0][0].columns == ("id", "image", "other")


def test_split_chooses_among_the_files_of_a_folder(tmp_path: Path):
    for split in ("train", "validation"):
        pq.write_table(pa.table({"id": [split]}), tmp_path / f"{split}-00000-of-00001.parquet")
    assert rows(tmp_path, "validation") == [{"id": "validation"}]
    assert rows(tmp_path) == [{"id": "train"}, {"id": "validation"}]
    with pytest.raises(TableError, match="no file of split 'test'"):
        rows(tmp_path, "test")


def test_several_kinds_of_tables_in_a_folder_are_refused_and_what_other_runs_wrote_is_left_out(tmp_path: Path):
    write_jsonl(tmp_path, [{"id": "a"}])
    for name in ("built/.lock", "built/train.parquet", ".cache/part.parquet"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        pq.write_table(pa.table({"id": ["built"]}), tmp_path / name)
    assert rows(tmp_path) == [{"id": "a"}]
    for name in ("rejected.jsonl", "report.json"):
        (tmp_path / "built" / name).write_text("{}\n")
    assert rows(tmp_path / "built") == [{"id": "built"}]
    write_jsonl(tmp_path / "more", [{"id": "b"}], "IN.JSONL")
    assert rows(tmp_path) == [{"id": "a"}, {"id": "b"}]
    (tmp_path / "more" / "x.csv").write_text("id\n1\n")
    with pytest.raises(TableError, match=r"several kinds \(.*more/x\.csv"):
        rows(tmp_path)
    assert rows(tmp_path, "in") == [{"id": "a"}]


@pytest.mark.parametrize(
    ("name", "text", "is_table"),
    [
        ("b.json", '[\n{"id": "b"}]', True),
        ("b.json", '{"id": "b"}\n{"id": "c"}\n', True),
        ("b.ndjson", "", True),
        ("b.tsv", "", True),
        ("b.jsonl.gz", "", True),
        ("dataset_info.json", '{"splits": {}}\n', False),
        ("dataset_info.json", '{\n"splits": {}\n}\n', False),
        ("photos.tar.gz", "", False),
    ],
)
def test_a_folder_is_not_read_in_part(tmp_path: Path, name: str, text: str, is_table: bool):
    write_jsonl(tmp_path, [{"id": "a"}])
    (tmp_path / name).write_text(text)
    if is_table:
        with pytest.raises(TableError, match=f"several kinds .*{name}"):
            rows(tmp_path)
    else:
        assert rows(tmp_path) == [{"id": "a"}]


def test_what_is_no_table_is_one_line(tmp_path: Path):
    (tmp_path / "a.xlsx").write_text("")
    (tmp_path / "in.parquet").write_bytes(b"PAR1 nothing")
    (tmp_path / "cut.jsonl").write_bytes('{"id": "a"}'.encode("utf-16")[:-1])
    for encoding in ("cp1252", "utf-16-le"):
        (tmp_path / f"{encoding}.csv").write_bytes("größe,request\n1,x\n".encode(encoding))
    (tmp_path / "empty").mkdir()
    for name, words in (
        ("a.xlsx", "wanted a file that ends with .parquet, .arrow, .jsonl, .csv"),
        ("empty", "holds no file that ends with"),
        ("in.parquet", "in.parquet can't be read after row 0"),
        ("cut.jsonl", "cut.jsonl can't be read after row 0"),
        # already in the header
        ("cp1252.csv", "cp1252.csv is not UTF-8"),
        ("utf-16-le.csv", "utf-16-le.csv is not UTF-8"),
        ("nothing.jsonl", "it is not a hub id such as PSRDataset/PSR-328"),
    ):
        with pytest.raises(TableError, match=words):
            rows(tmp_path / name)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A set that `datasets` finds under owner/name, as on the hub, with its images typed as such."""
    from datasets import Dataset, Features, Image, Value

    (tmp_path / "owner" / "set").mkdir(parents=True)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    kinds = {"post_id": Value("string"), "source_image": Image(), "other": Image()}
    raw = [{"post_id": f"1post{n}", "source_image": PNG, "other": b"junk"} for n in range(5)]
    Dataset.from_list(raw, features=Features(kinds)).to_parquet(str(tmp_path / "owner/set/test-00000-of-00001.parquet"))
    # a folder of that name would be read as local files
    monkeypatch.setattr(tables.Path, "exists", lambda path: False)
    return "owner/set"


def test_a_hub_set_is_streamed_with_its_images_as_they_are(hub: str):
    found = rows(hub, "test", ["post_id", "source_image", "actions"])
    assert [row["post_id"] for row in found] == [f"1post{n}" for n in range(5)]
    assert all(row["source_image"]["bytes"] == PNG and "other" not in row for row in found)
    assert lines(hub, "test", ["post_id"])[0][0].columns == ("post_id", "source_image", "other")
    with pytest.raises(TableError, match="hub set owner/set, split train, can't be opened"):
        rows(hub)


def test_an_image_is_bytes_base64_or_a_file_in_one_of_the_folders(tmp_path: Path):
    (tmp_path / "own").mkdir()
    for name in ("cat.png", "own/cat.png", "own/dog.png"):
        (tmp_path / name).write_bytes(PNG)
    body = base64.encodebytes(PNG).decode()
    for cell in (PNG, [PNG], {"bytes": PNG, "path": None}, body, f"data:image/png;base64,{body}", f"base64,{body}"):
        assert image_of(cell, ()) == PNG
    assert image_of({"url": f"data:image/png;base64,{body}"}, ()) == PNG
    # the alphabet for addresses
    assert image_of(base64.urlsafe_b64encode(b"\xff\xd8\xff\xfb\xef\xbe").decode(), ()) == b"\xff\xd8\xff\xfb\xef\xbe"
    for kind in ("JPEG", "WEBP", "GIF", "TIFF", "BMP"):
        data = encoded(picture(0), kind)
        assert image_of(base64.b64encode(data).decode(), ()) == data
    folders = (tmp_path / "own", tmp_path)
    for cell, file in (
        ("cat.png", "own/cat.png"),
        ("dog.png", "own/dog.png"),
        ([{"bytes": None, "path": "own/cat.png"}], "own/cat.png"),
        (str(tmp_path / "cat.png"), "cat.png"),
        (f"file://{tmp_path}/cat.png", "cat.png"),
    ):
        assert image_of(cell, folders) == tmp_path / file


def test_links_of_the_hub_cache_are_followed(tmp_path: Path):
    snapshot = tmp_path / "datasets--a--b" / "snapshots" / "1f3a"
    (snapshot / "data").mkdir(parents=True)
    (snapshot.parents[1] / "blobs").mkdir()
    (snapshot.parents[1] / "blobs" / "5e0c").write_bytes(PNG)
    (snapshot / "data" / "0.png").symlink_to("../../../blobs/5e0c")
    assert image_of("0.png", (snapshot / "data",)) == snapshot / "data" / "0.png"


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        (5, "no image: wanted a path"),
        ([], "a list of 0; wanted exactly one"),
        (["a.png", "b.png"], "a list of 2; wanted exactly one"),
        ("gone.png", "image file is missing: gone.png"),
        (".", "image file is missing"),
        ("pipe.png", "image file is missing: pipe.png"),
        ("a\0b", "image path can't be used"),
        ("https://a.b/c.png", "image is an address"),
        ("data:image/png,abc", "image is a data URL without base64"),
        ("data:image/png;base64,a$b", "image is a data URL that is not base64"),
        ("../out.png", "image lies outside the folder of its input: ../out.png; --image-root DIR allows it"),
        ("a/../../out.png", "image lies outside the folder"),
        ("{tmp}/out.png", "image lies outside the folder"),
        ("link.png", "image lies outside the folder"),
        ("linked/out.png", "image lies outside the folder"),
    ],
)
def test_a_cell_without_a_usable_image_says_why(cell: Any, reason: str, tmp_path: Path):
    folder = tmp_path / "in"
    folder.mkdir()
    (tmp_path / "out.png").write_bytes(PNG)
    (folder / "link.png").symlink_to(tmp_path / "out.png")
    (folder / "linked").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe.png")
    with pytest.raises(ValueError, match=reason):
        image_of(cell.format(tmp=tmp_path) if isinstance(cell, str) else cell, (folder,))


def test_a_name_says_its_split_where_a_set_has_very_many():
    names = ("FreeForm_91-00000-of-00001", "FreeForm_", "test-00000")
    assert [split_in(name, "FreeForm_*") for name in names] == ["FreeForm_91", "", ""]
    assert split_in("test-00000", "test") == ""
