"""The builder on a Ray cluster gives what it gives in one process: the same files, the same errors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from fakes.builder_inputs import GOLD, ROOT, build, encoded, picture, rejected, write_jsonl

pytestmark = pytest.mark.slow
FILES = ("train.parquet", "val.parquet", "rejected.jsonl", ".images.json")


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A cluster that the builder finds this process connected to."""
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.data")
    # the paths of Ray's sockets have to be short
    with TemporaryDirectory(prefix="ier1_") as folder:
        ray.init(_temp_dir=folder, include_dashboard=False, runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}})
        yield
        ray.shutdown()


def contents(output: Path) -> dict[str, bytes]:
    return {name: (output / name).read_bytes() for name in FILES}


def shards(folder: Path) -> Path:
    """Five files: rows with near-duplicates, an id that comes again, rows that can't be used; and a file of junk."""
    folder.mkdir()
    for number in range(40):
        (folder / f"{number}.jpg").write_bytes(encoded(picture(number, (300, 250)), "JPEG"))
        (folder / f"{number}-small.jpg").write_bytes(encoded(picture(number, (100, 90)), "JPEG", quality=60))
    (folder / "torn.jpg").write_bytes((folder / "0.jpg").read_bytes()[:-900])
    for shard in range(5):
        rows: list[Any] = []
        for number in range(shard * 12, shard * 12 + 12):
            image = f"{number % 40}.jpg" if number < 40 else f"{number % 40}-small.jpg"
            rows.append({"id": f"r{number}", "image": image, "request": f"remove the lamp {number % 40}", **GOLD})
        rows[3]["image"] = "torn.jpg"
        rows[4]["image"] = "nowhere.jpg"
        rows[5]["id"] = "r0"
        rows[6]["request"] = ""
        del rows[7]["id"], rows[8]["goals"]
        write_jsonl(folder, [*rows[:9], "{oops", *rows[9:]], f"{shard}.jsonl")
    (folder / "9.jsonl").write_bytes(b"\xff\xfe\x00")
    return folder


def test_the_files_are_those_of_one_process(cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    shards(tmp_path / "in")
    # paths are written down as they were given
    monkeypatch.chdir(tmp_path)
    options = ("--limit", 64, "--val-fraction", 0.2, "--seed", 3, "--case-images", "--max-pixels", 20_000)
    one, ray = Path("one"), Path("ray")
    assert build("jsonl", Path("in"), one, *options) == 0
    assert build("jsonl", Path("in"), ray, *options, "--ray") == 0
    assert contents(ray) == contents(one)
    # workers may be ahead of the limit
    assert {photo.name for photo in (one / "images").iterdir()} <= {photo.name for photo in (ray / "images").iterdir()}
    reasons = [reason.partition(":")[0] for reason in rejected(ray).values()]
    assert {"duplicate", "id is repeated", "broken line", "image is damaged"} <= set(reasons)


def test_what_ends_a_build_is_the_same_line(cluster: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    shards(tmp_path / "in")
    lines = []
    for name, ray in (("one", []), ("ray", ["--ray"])):
        assert build("jsonl", tmp_path / "in", tmp_path / name, *ray) == 1
        lines.append(capsys.readouterr().err.splitlines()[-1])
    assert lines[0] == lines[1]
    assert "9.jsonl can't be read" in lines[0]
