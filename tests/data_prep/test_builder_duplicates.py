"""What rows have to do with each other: duplicates, splits, and the benchmarks that no row may be in."""

from __future__ import annotations

import random
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes.builder_inputs import all_rows, build, build_rows, encoded, picture, rejected, requests, rows, write_jsonl
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.checks import image_hash
from data_prep.checks import picture as check_picture
from data_prep.duplicates import THRESHOLD, near_pairs, post_ids_in, post_ids_of


def photo(seed: int) -> bytes:
    return encoded(picture(seed))


def again(seed: int) -> bytes:
    """Photo `seed` as it comes back from a messenger: smaller and compressed."""
    return encoded(picture(seed).resize((64, 54)), "JPEG", quality=60)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 400), st.integers(0, 10), st.integers(1, 24))
def test_the_bands_find_every_near_pair_and_no_other(seed: int, count: int, threshold: int, spread: int):
    rng = random.Random(seed)
    centres = [rng.getrandbits(64) for _ in range(5)]
    # hashes around a few centres, so that near pairs are common
    flips = [sum(1 << rng.randrange(64) for _ in range(rng.randrange(spread))) for _ in range(count)]
    hashes = np.array(list({(rng.choice(centres) ^ flip) % 2**64 for flip in flips}), dtype=np.uint64)
    pairs = combinations(range(len(hashes)), 2)
    wanted = [[i, j] for i, j in pairs if (int(hashes[i]) ^ int(hashes[j])).bit_count() <= threshold]
    assert near_pairs(hashes, threshold).tolist() == wanted


def test_the_hash_hardly_depends_on_how_the_image_was_decoded():
    for seed in range(6):
        large = picture(seed, (640, 480))
        kept = check_picture(encoded(large, "JPEG", quality=95), 1, 10**6).hash
        reduced = check_picture(encoded(large), 1, 10**5).hash
        assert max((kept ^ reduced).bit_count(), (kept ^ image_hash(large)).bit_count()) <= THRESHOLD


def test_the_same_request_for_a_photo_that_looks_the_same_is_kept_once(tmp_path: Path):
    raw = [
        {"id": "a", "image": photo(1), "request": "Remove the lamp!"},
        {"id": "near", "image": again(1), "request": "  remove  the LAMP"},
        {"id": "b", "image": photo(1), "request": "remove the sofa"},
        {"id": "c", "image": photo(2), "request": "remove the lamp"},
    ]
    output = build_rows(tmp_path, raw)
    assert set(all_rows(output)) == {"a", "b", "c"}
    assert rejected(output) == {"near": "duplicate: same request and near-identical image as a"}


def test_a_bad_row_does_not_push_out_a_good_duplicate(tmp_path: Path):
    assert set(all_rows(build_rows(tmp_path, [{"actions": ["Remove"]}, {}]))) == {"r1"}


@pytest.mark.parametrize("seed", range(3))
def test_no_photo_and_no_near_duplicate_of_it_is_in_both_splits(seed: int, tmp_path: Path):
    rng = random.Random(seed)
    raw = [{"image": rng.choice([photo, again])(rng.randrange(12)), "request": f"remove {n}"} for n in range(60)]
    output = build_rows(tmp_path, raw, "--val-fraction", 0.25, "--seed", seed)
    train, val = (
        [check_picture(row["images"][0]["bytes"], 1, 10**7).hash for row in rows(output, split)]
        for split in ("train", "val")
    )
    assert 0 < len(val) <= 15
    assert len(train) + len(val) == 60
    assert min((one ^ other).bit_count() for one in train for other in val) > THRESHOLD


def test_rows_of_one_group_are_never_torn_apart(tmp_path: Path):
    raw = [{"image": photo(n), "request": f"remove {n}", "group": f"post{n % 5}"} for n in range(30)]
    output = build_rows(tmp_path, raw, "--val-fraction", 0.4)
    train, val = ({int(row["id"][1:]) % 5 for row in rows(output, split)} for split in ("train", "val"))
    assert len(val) == 2
    assert not train & val


def test_a_photo_too_common_for_the_fraction_still_leaves_something_to_validate(tmp_path: Path):
    raw = [{"image": photo(n % 2), "request": f"remove {n}"} for n in range(10)]
    output = build_rows(tmp_path, raw, "--val-fraction", 0.1)
    assert [len(rows(output, split)) for split in ("train", "val")] == [5, 5]


def test_a_train_row_near_a_validation_photo_is_left_out_with_its_reason(tmp_path: Path):
    (tmp_path / "in").mkdir()
    answer = '{"actions": ["Delete"], "subjects": ["lamp"], "goals": []}'
    for split, images in {"train": {"t1": again(1), "t2": again(2)}, "val": {"v1": photo(1)}}.items():
        raw = [
            {"id": id, "source": "mine", "problem": f"<image>remove {id}", "answer": answer}
            | {"images": [{"bytes": image, "path": None}]}
            for id, image in images.items()
        ]
        pq.write_table(pa.Table.from_pylist(raw), tmp_path / "in" / f"{split}.parquet")
    build("rl-rows", tmp_path / "in", tmp_path / "out")
    assert rejected(tmp_path / "out") == {"t1": "in both splits: near-duplicate of the validation photo of v1"}
    assert [(row["id"], row["source"]) for row in rows(tmp_path / "out")] == [("t2", "mine")]


def benchmark(folder: Path, kind: str, row: dict[str, Any]) -> Path:
    """A benchmark file of one row, and the photo p.jpg beside it."""
    folder.mkdir()
    (folder / "p.jpg").write_bytes(again(2))
    file, frame = folder / f"bench.{kind}", pd.DataFrame([row])
    if kind == "parquet":
        frame.to_parquet(file)
    elif kind == "jsonl":
        frame.to_json(file, orient="records", lines=True)
    else:
        # a text has a value a line
        frame.to_csv(file, index=False, header=kind == "csv")
    return file


REQUEST = {"instruction": "REMOVE  the lamp 3."}
POST = {"post_id": "1abc3d"}
PHOTO = {"source_image": {"bytes": again(1), "path": None}, "instruction": "something else"}
NAMED = {"input_image_name": "p.jpg", "instruction": "something else"}


@pytest.mark.parametrize(
    ("row", "kind", "reasons"),
    [
        *((REQUEST, kind, {"psr-1abc3d": "request"}) for kind in ("jsonl", "parquet", "csv", "txt")),
        *((POST, kind, {"psr-1abc3d": "post 1abc3d"}) for kind in ("jsonl", "parquet", "csv", "txt")),
        (PHOTO, "parquet", {"r1": "image", "r4": "image"}),
        (NAMED, "csv", {"r2": "image", "r5": "image"}),
    ],
)
def test_rows_of_a_benchmark_are_left_out(row: dict[str, Any], kind: str, reasons: dict[str, str], tmp_path: Path):
    source = requests(tmp_path / "in", 6, photos=3)
    source.write_text(source.read_text().replace('"r3"', '"psr-1abc3d"'))
    build("jsonl", source, tmp_path / "out", "--exclude", benchmark(tmp_path / "b", kind, row))
    assert rejected(tmp_path / "out") == {id: f"in a benchmark: {reason}" for id, reason in reasons.items()}


def test_a_folder_of_benchmark_files_and_several_of_them_will_do(tmp_path: Path):
    benchmark(tmp_path / "b", "jsonl", {"request": "remove the lamp 0"})
    text = benchmark(tmp_path / "c", "txt", {"": "remove the lamp 1"})
    build("jsonl", requests(tmp_path / "in", 5), tmp_path / "out", "--exclude", tmp_path / "b", text)
    assert set(rejected(tmp_path / "out")) == {"r0", "r1"}


@pytest.mark.parametrize(
    ("text", "name", "complaint"),
    [
        ("{oops", "in.jsonl", "broken line"),
        ('{"foo": 1}', "in.jsonl", "no column that is known (found: foo)"),
        ("", "nowhere.csv", "there is no file"),
    ],
)
def test_a_benchmark_that_cannot_be_read_stops_the_build(text: str, name: str, complaint: str, tmp_path: Path, capsys):
    write_jsonl(tmp_path / "b", [text])
    assert build("jsonl", requests(tmp_path / "in", 2), tmp_path / "out", "--exclude", tmp_path / "b" / name) == 1
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "posts"),
    [
        ("Reddit.com_4wfxf2_before.jpg", {"4wfxf2"}),
        ("2l7rum_2l7rum.jpg", {"2l7rum"}),
        ("images/1i3kabc.png", {"1i3kabc"}),
        ("psr-1f3kab", {"1f3kab"}),
        ("https://www.reddit.com/r/PhotoshopRequest/comments/abcdef/remove_my_ex/", {"abcdef"}),
        ("t3_5q7xyz", {"5q7xyz"}),
        # common file names are no posts
        *((name, set()) for name in ("img001.jpg", "photo12.png", "sunset.jpg", "12345.png", "9zzzzzz")),
        ("object_removal_4.jpg", set()),
    ],
)
def test_post_ids_are_found_in_the_names_that_benchmarks_use(name: str, posts: set[str]):
    assert post_ids_in(name) == posts
    assert posts <= post_ids_of(name, "")
