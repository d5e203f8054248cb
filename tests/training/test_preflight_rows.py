"""Every row is read before training starts: what is said about those that EasyR1 would choke on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fakes import tiny_models
from fakes.preflight_runs import GOLD, of_rows, one, png, row, run, write
from PIL import Image

from ier1_plugin.runs.errors import UserError
from ier1_plugin.training.preflight import rows
from ier1_plugin.training.preflight.rows import PromptLength
from ier1_plugin.training.preflight.run import JOB_CONFIG, Note


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build(tmp_path_factory.mktemp("model"), "qwen2_5_vl")


def test_good_rows_have_no_problem(tmp_path: Path):
    assert of_rows(tmp_path, [row(number) for number in range(8)]) == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"problem": None}, "have no text as prompt or answer"),
        ({"answer": "[]"}, "have an answer that is no gold decomposition"),
        ({"answer": GOLD.to_json().replace("lamp", "</subjects>")}, "have a gold that does not score 1.0"),
        ({"answer": GOLD.to_json().replace("Delete", "Erase")}, "the first is row 3 (r3): Erase"),
        ({"problem": "remove the lamp"}, "another number of <image> than of images; the prompt needs one for each"),
        ({"problem": "<image><image>remove"}, "2 for 1"),
        ({"images": [{"bytes": b"no image", "path": None}]}, "have images that can't be used"),
        ({"images": [{"bytes": None, "path": "a.png"}]}, "no bytes and no path in it"),
        ({"images": [{"bytes": png(20, 20), "path": None}]}, "which EasyR1 would blow up"),
    ],
)
def test_a_row_that_easyr1_would_choke_on_is_counted_and_named(tmp_path: Path, changes: dict[str, Any], told: str):
    records = [row(number) for number in range(8)]
    records[3] |= changes
    line = one(of_rows(tmp_path, records))
    assert line.startswith("data.train_files: 1 of 8 rows ")
    assert told in line
    assert "the first is row 3 (r3)" in line


def test_an_image_above_the_budget_is_a_note(tmp_path: Path):
    line = one(of_rows(tmp_path, [row(number, images=[{"bytes": png(400, 300), "path": None}]) for number in range(4)]))
    assert isinstance(line, Note)
    assert "4 of 4 rows" in line


def test_an_image_column_that_is_no_list_is_named(tmp_path: Path):
    assert "holds a str, wanted a list" in one(of_rows(tmp_path, [row(n, images="a.png") for n in range(4)]))


def test_columns_of_another_name_are_named(tmp_path: Path):
    records = [{"prompt": r["problem"], **r} for r in (row(n) for n in range(4))]
    for record in records:
        del record["problem"]
    assert "has no column problem, but prompt, id, source, images, answer" in one(of_rows(tmp_path, records))


def test_rows_that_are_less_than_a_batch_are_named(tmp_path: Path):
    assert "3 usable rows are less than a batch of 4" in one(of_rows(tmp_path, [row(number) for number in range(3)]))


def test_a_step_of_several_small_draws_needs_rows_for_all_of_them(tmp_path: Path):
    records = [row(number) for number in range(3)]
    lines = of_rows(
        tmp_path, records, data__mini_rollout_batch_size=2, trainer__max_steps=None, trainer__total_epochs=1
    )
    assert "3 usable rows are less than a batch of 4" in one(lines)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("none.parquet", "there is no such file"),
        ("bad.parquet", "can't be read as parquet ("),
        ("bad.jsonl", "can't be read as json ("),
        ("empty.jsonl", "can't be read as json ("),
        ("empty.parquet", "can't be read as parquet ("),
        (".", "is a folder, of which EasyR1 reads whatever kind of file it lists first"),
        ("rows.csv", "is no parquet or jsonl file"),
        ("train.parquet@test", "split 'test' can't be taken ("),
        ("train.parquet@train[:9]", "split 'train[:9]' can't be taken: there are only 4 rows"),
        ("train.parquet@a@b", "more than one @"),
    ],
)
def test_a_data_file_that_easyr1_can_not_read_is_named(tmp_path: Path, name: str, told: str):
    write(tmp_path / "train.parquet", [row(number) for number in range(4)])
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and then nothing")
    (tmp_path / "bad.jsonl").write_text('{"problem": "<image>red"}\n{broken\n')
    (tmp_path / "empty.jsonl").touch()
    write(tmp_path / "empty.parquet", [row()], rows=0)
    (tmp_path / "rows.csv").write_text("a,b\n")
    with pytest.raises(UserError) as caught:
        rows.open_rows(f"{tmp_path}/{name}", ("problem",))
    assert told in str(caught.value)


def test_a_prefix_of_the_rows_is_checked_as_easyr1_would_take_it(tmp_path: Path):
    path = write(tmp_path / "train.parquet", [row(number) for number in range(10)])
    for split, wanted in (("train[:4]", ["r0", "r1", "r2", "r3"]), ("train[80%:]", ["r8", "r9"])):
        assert rows.open_rows(f"{path}@{split}", ("problem",))["id"] == wanted


def test_json_lines_with_image_paths_are_read_from_the_image_folder(tmp_path: Path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(png())
    lines = [json.dumps({**row(number), "images": ["a.png"]}) + "\n" for number in range(4)]
    (tmp_path / "train.jsonl").write_text("".join(lines))
    path = str(tmp_path / "train.jsonl")
    found = rows.data(run(data__train_files=path, data__val_files=path, data__image_dir=str(tmp_path / "images")))
    assert [line for line in found if not isinstance(line, Note)] == []


def test_an_image_of_a_shape_that_the_model_refuses_is_named(tmp_path: Path, model: Path):
    records = [row(n, images=[{"bytes": png(4000, 10), "path": None}]) for n in range(4)]
    lines = of_rows(tmp_path, records, worker__actor__model__model_path=str(model))
    assert "aspect ratio" in one(lines)


def test_a_hub_dataset_is_a_note():
    line = list(
        rows.data(run(data__train_files="hiyouga/geometry3k@train", data__val_files="hiyouga/geometry3k@test"))
    )[1]
    assert isinstance(line, Note)
    assert "on the hub" in line


def test_a_relative_file_in_a_job_is_told_where_it_would_be_looked_for(tmp_path: Path):
    inside = run({JOB_CONFIG: "{}"}, data__train_files="rl/train.parquet", data__val_files="rl/val.parquet")
    assert all("in a Ray job give an absolute path" in line for line in rows.data(inside) if not isinstance(line, Note))


def test_a_prompt_over_the_limit_is_named_with_the_length_that_is_needed(tmp_path: Path, model: Path):
    records = [row(number) for number in range(4)]
    records[2]["problem"] = "<image>" + "remove the lamp and " * 200
    path = {"worker__actor__model__model_path": str(model)}
    line = one(of_rows(tmp_path, records, **path))
    assert "1 of 4 rows have a prompt longer than data.max_prompt_length=640" in line
    needed = int(line.split("raise it to ")[1].split(",")[0])
    assert of_rows(tmp_path, records, data__max_prompt_length=needed, **path) == []
    assert len(of_rows(tmp_path, records, data__max_prompt_length=needed - 1, **path)) == 1


def test_rows_that_easyr1_filters_are_a_note_and_count_as_missing(tmp_path: Path, model: Path):
    records = [row(number) | {"problem": "<image>" + "remove the lamp and " * 200} for number in range(4)]
    lines = of_rows(tmp_path, records, data__filter_overlong_prompts=True, worker__actor__model__model_path=str(model))
    assert "4 of 4 rows have a prompt longer than data.max_prompt_length=640; EasyR1 leaves them out" in lines[0]
    assert isinstance(lines[0], Note)
    assert "0 usable rows are less than a batch of 4" in lines[1]


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_the_fast_length_is_the_length_of_what_easyr1_gives_the_model(
    tmp_path_factory: pytest.TempPathFactory, family: str
):
    from transformers import AutoProcessor

    from ier1_plugin.prompts import path

    processor = AutoProcessor.from_pretrained(tiny_models.build(tmp_path_factory.mktemp(family), family), use_fast=True)
    ruler = PromptLength(processor, path("decompose").read_text(), 784, 50176)
    requests = ["remove the lamp", "red.", "add text: 'Hi!'\n\nplease", "‹image› 50%", "é́ 🙂🙂 ", "", "a  b\n", "?!"]
    sizes = [(84, 56), (400, 300), (20, 31), (1000, 40)]
    records = [(f"<image>{request}", [size]) for request in requests for size in sizes]
    assert ruler.fast(records) == [_tokens(processor, ruler, *record) for record in records]
    assert ruler.fast(records) == [ruler.exact(*record) for record in records]


def _tokens(processor: Any, ruler: PromptLength, problem: str, sizes: list[tuple[int, int]]) -> int:
    """Counted the long way: EasyR1's resizing of real pixels, the processor's own tokens."""
    from verl.utils.dataset import process_image

    text = ruler.render(problem).removeprefix("<image>")
    turns = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}]
    prompt = processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    images = [process_image(Image.new("RGB", size), 784, 50176) for size in sizes]
    return len(processor(images, [prompt], add_special_tokens=False, return_tensors="pt")["input_ids"][0])
