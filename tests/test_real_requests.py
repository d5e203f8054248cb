"""Real edit requests and real photos through the builder, against an annotator that fails 30 % of the time.

The 737 requests of ImgEdit-Bench and the 3,391 of I2EBench meet the photos of EditEval in turn. The builder and the
annotator's server are processes of their own; only the model behind the server is fake.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from annotator_server import gold_of

from data_prep.annotation import read_completion
from ier1_plugin.rows import IMAGE_PLACEHOLDER, neutralise
from ier1_plugin.schema import Decomposition

ROOT = Path(__file__).parents[1]
SHARED = Path(os.environ.get("IER1_SHARED_DATA") or ROOT / "../shared/data")
IMGEDIT = SHARED / "imgedit_bench/basic_edit.json"
I2EBENCH = SHARED / "i2ebench/i2ebench_requests.jsonl"
PHOTOS = SHARED / "editeval_v1/images"
CONCURRENCY = 8
SEED = 20

pytestmark = pytest.mark.skipif(
    not all(path.exists() for path in (IMGEDIT, I2EBENCH, PHOTOS)),
    reason=f"the shared real data is not in {SHARED}; set IER1_SHARED_DATA",
)
sizes = pytest.mark.parametrize(
    ("limit", "kills"), [pytest.param(300, 4, marks=pytest.mark.slow), pytest.param(None, 20, marks=pytest.mark.full)]
)


@dataclass(frozen=True)
class Annotator:
    """The server process: its address, and what it has counted."""

    url: str

    def count(self) -> int:
        return self._get("count")

    def stats(self) -> dict[str, dict[str, int]]:
        return self._get("stats")

    def _get(self, name: str) -> Any:
        with urlopen(f"{self.url.removesuffix('/v1')}/{name}") as response:
            return json.load(response)


@contextmanager
def annotator() -> Iterator[Annotator]:
    command = [sys.executable, ROOT / "tests/annotator_server.py", "--seed", str(SEED), "--slow", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        yield Annotator(process.stdout.readline().strip())
    finally:
        process.kill()
        process.wait()


def write_requests(folder: Path, limit: int | None) -> dict[str, str]:
    """Puts requests.jsonl and its photos into `folder`. -> request by row id"""
    shutil.copytree(PHOTOS, folder / "images")
    photos = cycle(sorted(path.name for path in PHOTOS.iterdir()))
    rows = [
        {"id": id, "image": f"images/{photo}", "request": request}
        for (id, request), photo in zip(_requests(), photos, strict=False)
    ]
    if limit:
        rows = random.Random(SEED).sample(rows, limit)
    (folder / "requests.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {row["id"]: row["request"] for row in rows}


def _requests() -> Iterator[tuple[str, str]]:
    imgedit = json.loads(IMGEDIT.read_text())
    yield from ((f"imgedit-{key}", row["prompt"]) for key, row in imgedit.items())
    said: set[str] = set()
    for number, line in enumerate(I2EBENCH.read_text().splitlines()):
        row = json.loads(line)
        # a person's wording, and its paraphrase once that wording has been had
        yield f"i2ebench-{number}", row["div_exp" if row["ori_exp"] in said else "ori_exp"]
        said.add(row["ori_exp"])


def start(folder: Path, output: str, server: Annotator) -> subprocess.Popen[str]:
    options = {"source": "jsonl", "input": folder / "requests.jsonl", "output": folder / output}
    options |= {"annotator": "fake-vlm", "base-url": server.url, "concurrency": CONCURRENCY, "max-pixels": 100_000}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    return subprocess.Popen(
        [sys.executable, "data_prep/build_rl_dataset.py", *(f"--{name}={value}" for name, value in options.items())],
        cwd=ROOT,
        env=environment | {"IER1_ANNOTATOR_BACKOFF": "0", "IER1_ANNOTATOR_TIMEOUT": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate()
    assert process.returncode == 0, said
    return said


def rows_of(folder: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    return [row for split in ("train", "val") for row in pq.read_table(folder / f"{split}.parquet").to_pylist()]


def rejected_in(folder: Path) -> dict[str, str]:
    lines = [json.loads(line) for line in (folder / "rejected.jsonl").read_text().splitlines()]
    assert len(lines) == len({line["id"] for line in lines})
    return {line["id"]: line["reason"] for line in lines}


def usable(replies: Path) -> dict[str, int]:
    """Server's key of a question -> which of the requests for it brought the usable reply."""
    found: dict[str, int] = {}
    for line in replies.read_text().splitlines():
        raw = json.loads(line)["raw"]
        if isinstance(read_completion(raw), Decomposition):
            _, key, nth = raw["id"].split("-")
            assert key not in found, "two usable replies to one question"
            found[key] = int(nth)
    return found


def kill_at(process: subprocess.Popen[str], server: Annotator, requests: int, moment: random.Random) -> bool:
    """kill -9 a moment after the server has had so many requests; False if the build ended before."""
    while process.poll() is None and server.count() < requests:
        time.sleep(0.005)
    time.sleep(moment.uniform(0, 0.05))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


@sizes
def test_every_real_request_ends_annotated_or_rejected_and_kills_change_nothing(
    limit: int | None, kills: int, tmp_path: Path
):
    requests = write_requests(tmp_path, limit)
    with annotator() as server:
        started = time.monotonic()
        finish(start(tmp_path, "whole", server))
        whole = server.stats(), time.monotonic() - started
    rows, rejected = rows_of(tmp_path / "whole"), rejected_in(tmp_path / "whole")
    assert sorted([*(row["id"] for row in rows), *rejected]) == sorted(requests)
    for row in rows:
        request = neutralise(requests[row["id"]])
        assert row["problem"] == IMAGE_PLACEHOLDER + request
        assert Decomposition.from_json(row["answer"]) == Decomposition.of(**gold_of(request))
    kinds = {reason.split(":")[0].split(" (")[0] for reason in rejected.values()}
    assert any("gave no usable reply" in kind for kind in kinds)
    asked, answered = (sum(entry[name] for entry in whole[0].values()) for name in ("asked", "answered"))
    assert (asked - answered) / asked > 0.25
    print(f"{len(requests)} requests: {len(rows)} annotated, {len(rejected)} rejected {kinds}; {whole[1]:.0f} s")
    print(f"{asked} requests to the annotator, {asked - answered} without a usable reply")

    moment = random.Random(SEED)
    with annotator() as server:
        for count in sorted(moment.sample(range(1, asked), kills)):
            assert kill_at(start(tmp_path, "killed", server), server, count, moment)
        finish(start(tmp_path, "killed", server))
        stats = server.stats()
    for name in ("train.parquet", "val.parquet", "rejected.jsonl"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes(), name
    # the reply that was kept belongs to the last request for its question: nothing was asked after that
    kept = usable(tmp_path / "killed/replies.jsonl")
    assert {key: nth + 1 for key, nth in kept.items()} == {key: stats[key]["asked"] for key in kept}
    # a request under way at the moment of a kill is all that may have been answered in vain
    lost = sum(entry["answered"] for entry in stats.values()) - len(kept)
    assert lost <= kills * CONCURRENCY
    print(f"{kills} kills: {lost} replies were on their way and lost")
