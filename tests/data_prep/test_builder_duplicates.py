"""What rows have to do with each other: duplicates, splits, and the benchmarks that no row may be in."""

from __future__ import annotations

import csv
import random
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes.builder_inputs import GOLD, all_rows, build, encoded, picture, rejected, requests, rows, write_jsonl
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.checks import image_hash
from data_prep.checks import picture as check_picture
from data_prep.duplicates import THRESHOLD, near_pairs, post_ids_in, post_ids_of


def build_rows(tmp_path: Path, raw: list[dict[str, Any]], *options: Any) -> Path:
    """Builds rows whose `image` is encoded bytes; gold is added."""
    folder = tmp_path / "in"
    folder.mkdir(exist_ok=True)
    for row in raw:
        (folder / row["id"]).write_bytes(row["image"])
    source = write_jsonl(folder, [{**row, "image": row["id"], **GOLD} for row in raw])
    build("jsonl", source, tmp_path / "out", *options)
    return tmp_path / "out"


def again(seed: int) -> bytes:
    """Photo `seed` as it comes back from a messenger: smaller and compressed."""
    return encoded(picture(seed).resize((64, 54)), "JPEG", quality=60)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 400), st.integers(0, 10), st.integers(1, 24))
def test_the_bands_find_every_near_pair_and_no_other(seed: int, count: int, threshold: int, spread: int):
    rng = random.Random(seed)
    centres = [rng.getrandbits(64) for _ in range(5)]
    # hashes around a few centres, so that near pairs are common
    values = {
        rng.choice(centres) ^ sum(1 << rng.randrange(64) for _ in range(rng.randrange(spread))) for _ in range(count)
    }
    hashes = np.array([value % 2**64 for value in values], dtype=np.uint64)
    wanted = [
        [i, j]
        for i, j in combinations(range(len(hashes)), 2)
        if (int(hashes[i]) ^ int(hashes[j])).bit_count() <= threshold
    ]
    assert near_pairs(hashes, threshold).tolist() == wanted


def test_the_hash_hardly_depends_on_how_the_image_was_decoded():
    for seed in range(20):
        photo = picture(seed, (640, 480))
        kept = check_picture(encoded(photo, "JPEG", quality=95), 1, 10**6)
        reduced = check_picture(encoded(photo), 1, 10**5)
        assert (kept.hash ^ reduced.hash).bit_count() <= THRESHOLD
        assert (kept.hash ^ image_hash(photo)).bit_count() <= THRESHOLD


def test_the_same_request_for_a_photo_that_looks_the_same_is_kept_once(tmp_path: Path):
    raw = [
        {"id": "a", "image": encoded(picture(1)), "request": "Remove the lamp!"},
        {"id": "near", "image": again(1), "request": "  remove  the LAMP"},
        {"id": "b", "image": encoded(picture(1)), "request": "remove the sofa"},
        {"id": "c", "image": encoded(picture(2)), "request": "remove the lamp"},
    ]
    output = build_rows(tmp_path, raw)
    assert set(all_rows(output)) == {"a", "b", "c"}
    assert rejected(output) == {"near": "duplicate: same request and near-identical image as a"}


def test_a_bad_row_does_not_push_out_a_good_duplicate(tmp_path: Path):
    requests(tmp_path / "in", 1)
    bad = {"id": "bad", "image": "0.png", "request": "remove the lamp", **GOLD, "actions": ["Remove"]}
    good = {"id": "good", "image": "0.png", "request": "remove the lamp", **GOLD}
    build("jsonl", write_jsonl(tmp_path / "in", [bad, good]), tmp_path / "out")
    assert set(all_rows(tmp_path / "out")) == {"good"}


@pytest.mark.parametrize("seed", range(5))
def test_no_photo_and_no_near_duplicate_of_it_is_in_both_splits(seed: int, tmp_path: Path):
    rng = random.Random(seed)
    versions: list[Callable[[int], bytes]] = [lambda n: encoded(picture(n)), again]
    raw = [
        {"id": f"r{n}", "image": rng.choice(versions)(rng.randrange(12)), "request": f"remove {n}"} for n in range(60)
    ]
    output = build_rows(tmp_path, raw, "--val-fraction", 0.25, "--seed", seed)
    hashes = {
        split: [check_picture(row["images"][0]["bytes"], 1, 10**7).hash for row in rows(output, split)]
        for split in ("train", "val")
    }
    assert 0 < len(hashes["val"]) <= 15
    assert len(hashes["train"]) + len(hashes["val"]) == 60
    assert min((one ^ other).bit_count() for one in hashes["train"] for other in hashes["val"]) > THRESHOLD


def test_rows_of_one_group_are_never_torn_apart(tmp_path: Path):
    raw = [
        {"id": f"r{n}", "image": encoded(picture(n)), "request": f"remove {n}", "group": f"post{n % 5}"}
        for n in range(30)
    ]
    output = build_rows(tmp_path, raw, "--val-fraction", 0.4)
    groups = {split: {int(row["id"][1:]) % 5 for row in rows(output, split)} for split in ("train", "val")}
    assert len(groups["val"]) == 2
    assert not groups["train"] & groups["val"]


def test_a_photo_too_common_for_the_fraction_still_leaves_something_to_validate(tmp_path: Path):
    raw = [{"id": f"r{n}", "image": encoded(picture(n % 2)), "request": f"remove {n}"} for n in range(10)]
    output = build_rows(tmp_path, raw, "--val-fraction", 0.1)
    assert [len(rows(output, split)) for split in ("train", "val")] == [5, 5]


def marked(split: str, id: str, seed: int) -> dict[str, Any]:
    image = [{"bytes": again(seed) if split == "train" else encoded(picture(seed)), "path": None}]
    answer = '{"actions": ["Delete"], "subjects": ["lamp"], "goals": []}'
    return {"id": id, "source": "mine", "problem": f"<image>remove {id}", "images": image, "answer": answer}


def test_a_train_row_near_a_validation_photo_is_left_out_with_its_reason(tmp_path: Path):
    (tmp_path / "in").mkdir()
    parts = {"train": [marked("train", "t1", 1), marked("train", "t2", 2)], "val": [marked("val", "v1", 1)]}
    for split, raw in parts.items():
        pq.write_table(pa.Table.from_pylist(raw), tmp_path / "in" / f"{split}.parquet")
    build("rl-rows", tmp_path / "in", tmp_path / "out")
    assert rejected(tmp_path / "out") == {"t1": "in both splits: near-duplicate of the validation photo of v1"}
    assert [row["id"] for row in rows(tmp_path / "out")] == ["t2"]
    assert rows(tmp_path / "out")[0]["source"] == "mine"


def benchmark(folder: Path, kind: str, row: dict[str, Any]) -> Path:
    """A benchmark file of one row."""
    folder.mkdir(exist_ok=True)
    file = folder / f"bench.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist([row]), file)
    elif kind == "csv":
        with file.open("w", newline="") as lines:
            writer = csv.DictWriter(lines, row)
            writer.writeheader()
            writer.writerow(row)
    elif kind == "txt":
        file.write_text("".join(f"{value}\n" for value in row.values()))
    else:
        write_jsonl(folder, [row], file.name)
    return file


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "csv", "txt"])
@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"instruction": "REMOVE  lamp 3."}, "in a benchmark: request"),
        ({"post_id": "1abc3d"}, "in a benchmark: post 1abc3d"),
    ],
)
def test_rows_of_a_benchmark_are_left_out(kind: str, row: dict[str, str], reason: str, tmp_path: Path):
    source = requests(tmp_path / "in", 6)
    text = source.read_text().replace('"r3"', '"psr-1abc3d"')
    source.write_text(text)
    build("jsonl", source, tmp_path / "out", "--exclude", benchmark(tmp_path / "b", kind, row))
    assert rejected(tmp_path / "out") == {"psr-1abc3d": reason}


def test_photos_of_a_benchmark_are_left_out_also_when_compressed(tmp_path: Path):
    source = requests(tmp_path / "in", 6, photos=3)
    row = {"source_image": {"bytes": again(1), "path": None}, "instruction": "something else"}
    build("jsonl", source, tmp_path / "out", "--exclude", benchmark(tmp_path / "b", "parquet", row))
    assert rejected(tmp_path / "out") == dict.fromkeys(("r1", "r4"), "in a benchmark: image")


def test_photos_of_a_benchmark_may_lie_beside_its_file(tmp_path: Path):
    source = requests(tmp_path / "in", 3)
    file = benchmark(tmp_path / "b", "csv", {"input_image_name": "p.jpg", "instruction": "something else"})
    (tmp_path / "b" / "p.jpg").write_bytes(again(2))
    build("jsonl", source, tmp_path / "out", "--exclude", file)
    assert set(rejected(tmp_path / "out")) == {"r2"}


def test_a_folder_of_benchmark_files_and_several_of_them_will_do(tmp_path: Path):
    source = requests(tmp_path / "in", 5)
    benchmark(tmp_path / "b", "jsonl", {"request": "remove lamp 0"})
    text = benchmark(tmp_path / "c", "txt", {"": "remove lamp 1"})
    build("jsonl", source, tmp_path / "out", "--exclude", tmp_path / "b", text)
    assert set(rejected(tmp_path / "out")) == {"r0", "r1"}


@pytest.mark.parametrize(
    ("text", "complaint"), [("{oops", "broken line"), ('{"foo": 1}', "no column that is known (found: foo)")]
)
def test_a_benchmark_file_that_cannot_be_understood_stops_the_build(text: str, complaint: str, tmp_path: Path, capsys):
    source = requests(tmp_path / "in", 2)
    file = write_jsonl(tmp_path / "b", [text])
    assert build("jsonl", source, tmp_path / "out", "--exclude", file) == 1
    assert complaint in capsys.readouterr().err
    assert build("jsonl", source, tmp_path / "out", "--exclude", tmp_path / "nowhere.csv") == 1
    assert "there is no file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "post"),
    [
        ("Reddit.com_4wfxf2_before.jpg", "4wfxf2"),
        ("2l7rum_2l7rum.jpg", "2l7rum"),
        ("images/1i3kabc.png", "1i3kabc"),
        ("psr-1f3kab", "1f3kab"),
        ("https://www.reddit.com/r/PhotoshopRequest/comments/abcdef/remove_my_ex/", "abcdef"),
        ("t3_5q7xyz", "5q7xyz"),
    ],
)
def test_post_ids_are_found_in_the_names_that_benchmarks_use(name: str, post: str):
    assert post_ids_in(name) == {post}
    assert post in post_ids_of(name, "")


@pytest.mark.parametrize(
    "name", ["img001.jpg", "photo12.png", "sunset.jpg", "12345.png", "object_removal_4.jpg", "9zzzzzz"]
)
def test_common_file_names_are_not_taken_for_post_ids(name: str):
    assert post_ids_in(name) == set()
