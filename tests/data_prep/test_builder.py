"""The builder from end to end: what comes out, what is rejected and why, and that it comes out the same each time."""

from __future__ import annotations

import hashlib
import json
from io import BytesIO
from pathlib import Path

import pytest
from fakes.builder_inputs import (
    GOLD,
    all_rows,
    build,
    command,
    encoded,
    picture,
    png_header,
    rejected,
    report,
    requests,
    rows,
    run_command,
    write_jsonl,
)
from PIL import Image

from data_prep.checks import MAX_REQUEST_CHARACTERS
from ier1_plugin.task.actions import ACTIONS
from ier1_plugin.task.images import open_image, prepare
from ier1_plugin.task.parsing import render_response
from ier1_plugin.task.rows import COLUMNS
from ier1_plugin.task.schema import Decomposition
from reward_fns.decomposition import compute_score

FILES = [".lock", "rejected.jsonl", "report.json", "train.parquet", "val.parquet"]


def one_image(tmp_path: Path, data: bytes, *options: object, name: str = "x.jpg") -> Path:
    """Builds one row with this image; the output folder."""
    (tmp_path / "in").mkdir(parents=True)
    (tmp_path / "in" / name).write_bytes(data)
    source = write_jsonl(tmp_path / "in", [{"id": "a", "image": name, "request": "remove the lamp", **GOLD}])
    build("jsonl", source, tmp_path / "out", *options)
    return tmp_path / "out"


def image_of(output: Path) -> bytes:
    return all_rows(output)["a"]["images"][0]["bytes"]


def test_four_files_come_out_in_the_columns_that_the_trainer_reads(tmp_path: Path):
    assert build("jsonl", requests(tmp_path / "in", 10), tmp_path / "out", "--val-fraction", 0) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == FILES
    # an empty split still has its columns
    assert rows(tmp_path / "out", "val") == []
    for row in rows(tmp_path / "out"):
        assert tuple(row) == COLUMNS
        assert row["problem"].startswith("<image>remove lamp ")
        assert json.loads(row["answer"]) == GOLD
        assert row["images"][0]["path"] is None


def test_the_files_load_with_datasets(tmp_path: Path):
    from datasets import load_dataset

    build("jsonl", requests(tmp_path / "in", 20), tmp_path / "out", "--val-fraction", 0.2)
    for split, count in (("train", 16), ("val", 4)):
        file = str(tmp_path / "out" / f"{split}.parquet")
        loaded = load_dataset("parquet", data_files=file, split="train", cache_dir=str(tmp_path / "cache"))
        assert len(loaded) == count
        assert set(loaded[0]["images"][0]) == {"bytes", "path"}


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_an_image_that_needs_no_change_keeps_its_bytes(kind: str, tmp_path: Path):
    data = encoded(picture(1), kind)
    assert image_of(one_image(tmp_path, data)) == data


CHANGED = {
    "CMYK": encoded(picture(1).convert("CMYK"), "JPEG"),
    "grey": encoded(picture(1).convert("L"), "JPEG"),
    "16 bit": encoded(Image.new("I;16", (64, 64), 40_000), "PNG"),
    "palette with a transparent colour": encoded(picture(1).convert("P"), "PNG", transparency=0),
    "alpha": encoded(picture(1).convert("RGBA"), "PNG"),
    "WebP": encoded(picture(1), "WEBP"),
    "animated": encoded(picture(1), "PNG", save_all=True, append_images=[picture(2)]),
}


@pytest.mark.parametrize("data", CHANGED.values(), ids=CHANGED.keys())
def test_an_image_of_another_kind_becomes_rgb(data: bytes, tmp_path: Path):
    kept = Image.open(BytesIO(image_of(one_image(tmp_path, data))))
    assert (kept.mode, kept.format in ("JPEG", "PNG"), getattr(kept, "n_frames", 1)) == ("RGB", True, 1)
    assert kept.size == Image.open(BytesIO(data)).size


def test_a_photo_from_a_camera_held_sideways_is_turned_upright(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6
    kept = Image.open(BytesIO(image_of(one_image(tmp_path, encoded(picture(1), "JPEG", exif=exif)))))
    assert kept.size == (80, 96)
    assert kept.getexif().get(0x0112, 1) == 1


def test_an_image_is_brought_into_the_budget_as_inference_does(tmp_path: Path):
    data = encoded(picture(1, (400, 300)))
    kept = Image.open(BytesIO(image_of(one_image(tmp_path / "large", data, "--max-pixels", 20_000))))
    wanted = prepare(open_image(data), 3136, 20_000)
    assert (kept.size, kept.tobytes()) == (wanted.size, wanted.tobytes())
    kept = Image.open(BytesIO(image_of(one_image(tmp_path / "small", encoded(picture(1, (1, 1)))))))
    assert kept.size == (56, 56)


def test_lossless_images_stay_lossless_and_photos_become_jpeg(tmp_path: Path):
    assert image_of(one_image(tmp_path / "a", encoded(picture(1).convert("RGBA")))).startswith(b"\x89PNG")
    assert image_of(one_image(tmp_path / "b", encoded(picture(1).convert("CMYK"), "JPEG"))).startswith(b"\xff\xd8")


REFUSED = {
    "truncated jpeg": (encoded(picture(1), "JPEG")[:-300], "image is damaged"),
    "truncated png": (encoded(picture(1))[:-300], "image is damaged"),
    "truncated beyond the budget": (encoded(picture(1, (1500, 1200)), "JPEG")[:-300], "image is damaged"),
    "empty": (b"", "image is empty"),
    "text": (b"I am no picture", "not an image"),
    "bomb": (png_header(50_000, 50_000), "image is too large"),
    "narrow": (encoded(picture(1, (5000, 20))), "image is too narrow"),
}


@pytest.mark.parametrize(("data", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_an_image_that_cannot_be_used_is_rejected_with_its_reason(data: bytes, reason: str, tmp_path: Path):
    output = one_image(tmp_path, data)
    assert rejected(output)["a"].startswith(reason)
    assert list(report(output)["rejected_by_reason"]) == [reason]
    assert all_rows(output) == {}


@pytest.mark.parametrize(
    ("request_text", "reason"),
    [
        ("", "request is empty"),
        (" \n\t", "request is empty"),
        ("?!...", "request is empty"),
        ("x" * (MAX_REQUEST_CHARACTERS + 1), "request is too long"),
    ],
)
def test_a_request_that_says_nothing_or_too_much_is_rejected(request_text: str, reason: str, tmp_path: Path):
    requests(tmp_path / "in", 1)
    source = write_jsonl(tmp_path / "in", [{"id": "a", "image": "0.png", "request": request_text, **GOLD}])
    build("jsonl", source, tmp_path / "out")
    assert rejected(tmp_path / "out")["a"].startswith(reason)


def test_a_request_that_holds_control_text_is_made_harmless(tmp_path: Path):
    requests(tmp_path / "in", 1)
    row = {"id": "a", "image": "0.png", "request": "<image>remove</think> \ud800 the lamp<|im_end|>", **GOLD}
    build("jsonl", write_jsonl(tmp_path / "in", [row]), tmp_path / "out")
    assert all_rows(tmp_path / "out")["a"]["problem"] == "<image>‹image›remove‹/think› ? the lamp‹|im_end|›"


BAD_GOLD = {
    "unknown action": (["Remove"], ["lamp"], [], "gold holds an unknown action: 'Remove'"),
    "wrong case": (["delete"], ["lamp"], [], "gold holds an unknown action: 'delete'"),
    "no action": ([], ["lamp"], [], "gold names no action"),
    "empty phrase": (["Delete"], [" the "], ["..."], "gold holds an empty phrase"),
    "our tags": (["Delete"], ["lamp</subjects>"], [], "gold does not score 1.0 as a response"),
    "lone surrogate": (["Delete"], ["lamp\ud800"], [], "gold holds characters"),
}


@pytest.mark.parametrize(("actions", "subjects", "goals", "reason"), BAD_GOLD.values(), ids=BAD_GOLD.keys())
def test_gold_that_could_not_be_learned_is_rejected(actions, subjects, goals, reason, tmp_path: Path):
    requests(tmp_path / "in", 1)
    row = {"id": "a", "image": "0.png", "request": "x", "actions": actions, "subjects": subjects, "goals": goals}
    build("jsonl", write_jsonl(tmp_path / "in", [row]), tmp_path / "out")
    assert rejected(tmp_path / "out")["a"].startswith(reason)


def test_gold_of_every_row_scores_one_in_the_reward(tmp_path: Path):
    lists = {"actions": list(ACTIONS), "subjects": ['the "old" lamp', "50% off", "ламп"], "goals": ["<image>", "a\nb"]}
    build("jsonl", requests(tmp_path / "in", 5, gold=lists), tmp_path / "out")
    for row in all_rows(tmp_path / "out").values():
        response = render_response(Decomposition.from_json(row["answer"]), "so it is")
        (score,) = compute_score([{"response": response, "response_length": 1, "ground_truth": row["answer"]}])
        assert set(score.values()) == {1.0}


def test_no_row_at_all_is_a_failure_and_a_row_without_gold_says_what_to_do(tmp_path: Path, capsys):
    requests(tmp_path / "in", 1)
    row = {"id": "a", "image": "0.png", "request": "x", "actions": ["Delete"], "subjects": ["lamp"]}
    assert build("jsonl", write_jsonl(tmp_path / "in", [row]), tmp_path / "out") == 1
    assert "no row was accepted" in capsys.readouterr().err
    assert "--annotator" in rejected(tmp_path / "out")["a"]


def test_a_repeated_id_is_rejected(tmp_path: Path):
    requests(tmp_path / "in", 2)
    twice = [{"id": "a", "image": f"{n}.png", "request": f"remove {n}", **GOLD} for n in (0, 1)]
    build("jsonl", write_jsonl(tmp_path / "in", twice), tmp_path / "out")
    assert all_rows(tmp_path / "out")["a"]["problem"] == "<image>remove 0"
    assert rejected(tmp_path / "out") == {"a": "id is repeated: a"}


def test_the_same_rows_give_the_same_bytes_whatever_their_order(tmp_path: Path):
    source = requests(tmp_path / "in", 40, photos=30)
    back = write_jsonl(tmp_path / "in", source.read_text().splitlines()[::-1], "back.jsonl")
    for name, file in (("one", source), ("two", source), ("back", back)):
        build("jsonl", file, tmp_path / name, "--val-fraction", 0.2)
    for split in ("train", "val"):
        one, two, three = ((tmp_path / name / f"{split}.parquet").read_bytes() for name in ("one", "two", "back"))
        assert one == two == three


def test_rows_stand_in_the_order_of_a_hash_of_seed_and_id(tmp_path: Path):
    source = requests(tmp_path / "in", 60, photos=6)
    for seed in (0, 7):
        build("jsonl", source, tmp_path / f"{seed}", "--seed", seed, "--val-fraction", 0)
        ids = [row["id"] for row in rows(tmp_path / f"{seed}")]
        assert ids == sorted(ids, key=lambda id: hashlib.sha256(f"{seed}\0{id}".encode()).digest())
        # two thirds of the input's order would be left in a prefix that is not random
        assert 5 < len(set(ids[:20]) & {f"r{n}" for n in range(30)}) < 15


def test_more_rows_leave_the_order_of_the_others_alone(tmp_path: Path):
    small, large = requests(tmp_path / "small", 20), requests(tmp_path / "large", 40)
    for name, source in (("a", small), ("b", large)):
        build("jsonl", source, tmp_path / name, "--val-fraction", 0)
    ids = [row["id"] for row in rows(tmp_path / "a")]
    assert [row["id"] for row in rows(tmp_path / "b") if row["id"] in ids] == ids


def test_the_report_counts_what_is_in_the_files(tmp_path: Path):
    source = requests(tmp_path / "in", 20, gold=GOLD | {"actions": ["Delete", "Crop"]})
    with source.open("a") as file:
        file.write("{oops\n")
    build("jsonl", source, tmp_path / "out", "--val-fraction", 0.1)
    counts = report(tmp_path / "out")
    assert counts["rows"] == {"train": 18, "val": 2, "rejected": 1}
    assert counts["by_source"] == {"jsonl": {"train": 18, "val": 2}}
    assert counts["by_action"] == {"Crop": {"train": 18, "val": 2}, "Delete": {"train": 18, "val": 2}}
    assert counts["by_number_of_parts"] == {"3": {"train": 18, "val": 2}}
    assert counts["rejected_by_reason"] == {"broken line": 1}
    assert counts["prompt_length"]["quantiles"] == {"0.5": 14, "0.9": 14, "0.99": 14, "1": 14}
    assert counts["options"]["val_fraction"] == 0.1


def test_prompt_lengths_are_tokens_where_a_tokenizer_is_given(tmp_path: Path):
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.save(str(tmp_path / "tokenizer.json"))
    build("jsonl", requests(tmp_path / "in", 2), tmp_path / "out", "--tokenizer", tmp_path)
    lengths = report(tmp_path / "out")["prompt_length"]
    assert lengths["unit"].startswith("tokens")
    assert lengths["quantiles"]["1"] > 200


def test_the_command_runs_from_any_folder_and_says_where_the_files_are(tmp_path: Path):
    source = requests(tmp_path / "in", 5)
    done = run_command(command("jsonl", source, Path("out"), "--val-fraction", "0.2"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "train           4 rows" in done.stdout
    assert "files: out/train.parquet, val.parquet, rejected.jsonl, report.json" in done.stdout
    assert all_rows(tmp_path / "out").keys() == {f"r{n}" for n in range(5)}
