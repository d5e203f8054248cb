"""The public sets of edit requests: by their cards' columns, out of local files and through the hub's streaming."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes.builder_inputs import write_jsonl
from test_sources import PNG, good, read

from data_prep.records import BuildError, RawRow, Rejected
from ier1_plugin.data import tables
from ier1_plugin.data.sets import SETS
from ier1_plugin.task.schema import Decomposition

IMAGE = {"bytes": PNG, "path": None}
SAMPLES: dict[str, tuple[dict[str, Any], tuple[str, str, str]]] = {
    # a row in the columns of the set's card -> id, request and group
    "psr": (
        {
            "post_id": "1f3kab",
            "instruction": "remove my ex",
            "source_image": IMAGE,
            "model": "m",
            "ai_edited_image": IMAGE,
        },
        ("psr-1f3kab", "remove my ex", "1f3kab"),
    ),
    "realedit": (
        {"input_image_name": IMAGE, "instruction": "fix the sky"},
        ("in-1", "fix the sky", "in-1"),
    ),
    "ultraedit": (
        {
            "idx": 12,
            "edit_prompt": "add rain",
            "source_caption": "a street",
            "source_image": IMAGE,
            "edited_image": IMAGE,
        },
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


def stored(folder: Path, kind: str, samples: list[dict[str, Any]]) -> Path:
    """The rows as a parquet file, an Arrow file, or a folder as `datasets` saves it."""
    table = pa.Table.from_pylist(samples)
    if kind == "saved":
        from datasets import Dataset

        Dataset(table).save_to_disk(str(folder / "in"))
        return folder / "in"
    file = folder / f"in.{kind}"
    if kind == "parquet":
        pq.write_table(table, file)
    else:
        with pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
    return file


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
@pytest.mark.parametrize("source", SAMPLES)
def test_public_sets_are_read_in_the_columns_of_their_cards(source: str, kind: str, tmp_path: Path):
    sample, wanted = SAMPLES[source]
    (row,) = good(source, stored(tmp_path, kind, [sample]))
    assert (row.id, row.request, row.group) == wanted
    assert (row.source, row.image, row.gold, row.split) == (source, PNG, None, None)


def test_a_set_that_datasets_saved_is_read(tmp_path: Path):
    sample, wanted = SAMPLES["ultraedit"]
    (row,) = good("ultraedit", stored(tmp_path, "saved", [sample]))
    assert (row.id, row.request, row.group, row.image) == (*wanted, PNG)


@pytest.mark.parametrize("source", [name for name in SAMPLES if name != "realedit"])
def test_public_sets_are_read_from_jsonl_and_csv_with_paths(source: str, tmp_path: Path):
    sample, wanted = SAMPLES[source]
    (tmp_path / "p.png").write_bytes(PNG)
    line = {name: "p.png" if cell == IMAGE else cell for name, cell in sample.items()}
    (row,) = good(source, write_jsonl(tmp_path, [line]))
    assert (row.request, row.image) == (wanted[1], tmp_path / "p.png")


def test_realedit_is_read_from_the_table_of_its_inference_script(tmp_path: Path):
    (tmp_path / "4wfxf2.png").write_bytes(PNG)
    (tmp_path / "train.csv").write_text('input_image_name,instruction\n4wfxf2.png,"remove it, please"\nx\n')
    row, broken = read("realedit", tmp_path / "train.csv")
    assert isinstance(row, RawRow)
    assert (row.id, row.request, row.group) == ("realedit-4wfxf2.png", "remove it, please", "4wfxf2.png")
    assert isinstance(broken, Rejected)
    assert broken.reason == "broken line: row 2 has not as many cells as the header"


def test_other_columns_are_listed_with_the_option_that_names_them(tmp_path: Path):
    table = stored(tmp_path, "parquet", [{"picture": IMAGE, "wish": "fix the sky", "post": "4wfxf2"}])
    with pytest.raises(BuildError) as error:
        read("realedit", table)
    assert "found: picture, wish, post" in str(error.value)
    assert "--columns request=NAME" in str(error.value)
    columns = {"image": "picture", "request": "wish", "id": "post", "group": "post"}
    (row,) = good("realedit", table, columns=columns)
    assert (row.id, row.request, row.group, row.image) == ("realedit-4wfxf2", "fix the sky", "4wfxf2", PNG)


def test_an_unknown_role_in_columns_is_one_line(tmp_path: Path):
    with pytest.raises(BuildError, match="picture is unknown; known: image, request"):
        read("psr", stored(tmp_path, "parquet", [SAMPLES["psr"][0]]), columns={"picture": "x"})


def test_gold_may_stand_in_columns_of_any_name(tmp_path: Path):
    labelled = SAMPLES["psr"][0] | {"verbs": ["Delete"], "subjects": ["ex"], "goals": []}
    (row,) = good("psr", stored(tmp_path, "parquet", [labelled]), columns={"actions": "verbs"})
    assert row.gold == Decomposition(("Delete",), ("ex",), ())


def test_psr_gives_one_row_for_each_post_and_request(tmp_path: Path):
    sample = SAMPLES["psr"][0]
    edits = [sample | {"model": f"m{n}"} for n in range(30)]
    other = [sample | {"post_id": "2abcde"}] * 2
    found = good("psr", stored(tmp_path, "parquet", edits + other))
    assert [row.id for row in found] == ["psr-1f3kab", "psr-2abcde"]


def test_an_edit_type_is_no_gold(tmp_path: Path):
    (row,) = good("anyedit", stored(tmp_path, "parquet", [SAMPLES["anyedit"][0]]))
    assert row.gold is None


def shards(folder: Path) -> None:
    for split in ("train", "validation"):
        sample = SAMPLES["psr"][0] | {"post_id": f"1{split}"}
        pq.write_table(pa.Table.from_pylist([sample]), folder / f"{split}-00000-of-00001.parquet")


def test_split_chooses_among_the_files_of_a_folder(tmp_path: Path):
    shards(tmp_path)
    assert [row.id for row in good("psr", tmp_path, split="validation")] == ["psr-1validation"]
    assert [row.id for row in good("psr", tmp_path)] == ["psr-1train", "psr-1validation"]
    with pytest.raises(BuildError, match="no file of split 'test'"):
        read("psr", tmp_path, split="test")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A set that `datasets` finds under owner/name, as on the hub, with its images typed as such."""
    from datasets import Dataset, Features, Image, Value

    (tmp_path / "owner" / "set").mkdir(parents=True)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    kinds = {"post_id": Value("string"), "instruction": Value("string"), "source_image": Image(), "other": Image()}
    raw = [
        {"post_id": f"1post{n}", "instruction": f"remove {n}", "source_image": PNG, "other": b"junk"} for n in range(5)
    ]
    Dataset.from_list(raw, features=Features(kinds)).to_parquet(str(tmp_path / "owner/set/test-00000-of-00001.parquet"))
    return "owner/set"


def test_a_hub_set_is_streamed_with_its_images_as_they_are(hub: str, monkeypatch):
    # a folder of that name would be read as local files
    monkeypatch.setattr(tables, "read", None)
    found = list(tables._hub(hub, "test", ("post_id", "instruction", "source_image", "actions")))
    assert [line.row["post_id"] for line in found if isinstance(line, tables.Line)] == [f"1post{n}" for n in range(5)]
    assert all(line.row["source_image"]["bytes"] == PNG and "other" not in line.row for line in found)


def test_a_hub_split_that_does_not_exist_is_one_line(hub: str):
    with pytest.raises(BuildError, match="hub set owner/set, split train, can't be opened"):
        list(tables._hub(hub, "train", ()))


def test_hub_ids_have_their_own_split_unless_one_is_named():
    splits = {name: edit_set.train_split for name, edit_set in SETS.items()}
    assert {name: split for name, split in splits.items() if split not in ("", "train")} == {
        "psr": "test",
        "ultraedit": "FreeForm_0",
    }
