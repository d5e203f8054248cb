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
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from fakes.builder_inputs import ROOT, SCRIPT, rejected, rows, write_jsonl
from fakes.chat_server import gold_of

from data_prep.annotator import REPLIES, read_reply
from ier1_plugin.chat import Completion
from ier1_plugin.runs.store import Store
from ier1_plugin.task.rows import IMAGE_PLACEHOLDER, neutralise
from ier1_plugin.task.schema import Decomposition

SHARED = Path(os.environ.get("IER1_SHARED_DATA") or ROOT / "../shared/data")
IMGEDIT = SHARED / "imgedit_bench/basic_edit.json"
I2EBENCH = SHARED / "i2ebench/i2ebench_requests.jsonl"
PHOTOS = SHARED / "editeval_v1/images"
CONCURRENCY = 8
SEED = 20
RANDOM = random.Random(SEED)

pytestmark = pytest.mark.skipif(
    not all(path.exists() for path in (IMGEDIT, I2EBENCH, PHOTOS)),
    reason=f"the shared real data is not in {SHARED}; set IER1_SHARED_DATA",
)


@contextmanager
def annotator() -> Iterator[str]:
    """A server process; its address."""
    command = [sys.executable, ROOT / "tests/fakes/chat_server.py", "--seed", str(SEED), "--slow", "3"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


def counted(server: str, name: str) -> Any:
    """`count`: how many requests; `stats`: {question: {"asked": how often, "answered": usable replies}}."""
    with urlopen(f"{server.removesuffix('/v1')}/{name}") as response:
        return json.load(response)


def write_requests(folder: Path, limit: int | None) -> dict[str, str]:
    """Puts in.jsonl and its photos into `folder`. -> request by row id"""
    shutil.copytree(PHOTOS, folder / "images")
    requests = {f"imgedit-{key}": row["prompt"] for key, row in json.loads(IMGEDIT.read_text()).items()}
    seen: set[str] = set()
    for number, line in enumerate(I2EBENCH.read_text().splitlines()):
        row = json.loads(line)
        # a person's wording, and its paraphrase where that wording came before
        requests[f"i2ebench-{number}"] = row["div_exp" if row["ori_exp"] in seen else "ori_exp"]
        seen.add(row["ori_exp"])
    photos = cycle(sorted(path.name for path in PHOTOS.iterdir()))
    raw = [{"id": id, "image": f"images/{next(photos)}", "request": request} for id, request in requests.items()]
    if limit:
        raw = random.Random(SEED).sample(raw, limit)
    write_jsonl(folder, raw)
    return {row["id"]: row["request"] for row in raw}


def start(folder: Path, output: str, server: str) -> subprocess.Popen[str]:
    options = {"source": "jsonl", "input": folder / "in.jsonl", "output": folder / output, "annotator": "fake-vlm"}
    options |= {"base-url": server, "concurrency": CONCURRENCY, "max-pixels": 100_000}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    return subprocess.Popen(
        [sys.executable, SCRIPT, *(f"--{name}={value}" for name, value in options.items())],
        env=environment | {"IER1_ANNOTATOR_BACKOFF": "0", "IER1_ANNOTATOR_TIMEOUT": "2"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate()
    assert process.returncode == 0, said
    return said


def usable(replies: Path) -> dict[str, int]:
    """Server's key of a question -> which of the requests for it brought the usable reply."""
    found: dict[str, int] = {}
    with Store(replies, read_only=True) as store:
        for _, record in store:
            completion = Completion.from_dict(record)
            with suppress(ValueError):
                read_reply(completion)
                key, nth = completion.model.split("-")[-2:]
                assert key not in found, "two usable replies to one question"
                found[key] = int(nth)
    return found


@dataclass(frozen=True)
class Build:
    """A build that nothing disturbed, and what its annotator counted."""

    folder: Path
    requests: dict[str, str]
    asked: int
    answered: int
    kills: int
    """How often a second build of the same rows is to be killed."""


@pytest.fixture(
    scope="module",
    params=[pytest.param((200, 3), marks=pytest.mark.slow), pytest.param((None, 20), marks=pytest.mark.full)],
)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Build:
    limit, kills = request.param
    folder = tmp_path_factory.mktemp("requests")
    requests = write_requests(folder, limit)
    with annotator() as server:
        finish(start(folder, "whole", server))
        counts = counted(server, "stats").values()
    asked, answered = (sum(count[name] for count in counts) for name in ("asked", "answered"))
    return Build(folder, requests, asked, answered, kills)


def test_every_real_request_ends_annotated_or_rejected_with_its_reason(whole: Build):
    output = whole.folder / "whole"
    accepted, reasons = [*rows(output, "train"), *rows(output, "val")], rejected(output)
    assert len(reasons) == len((output / "rejected.jsonl").read_text().splitlines())
    assert sorted([*(row["id"] for row in accepted), *reasons]) == sorted(whole.requests)
    for row in accepted:
        request = neutralise(whole.requests[row["id"]])
        assert row["problem"] == IMAGE_PLACEHOLDER + request
        assert Decomposition.from_json(row["answer"]) == Decomposition.of(**gold_of(request))
    kinds = Counter(reason.partition(":")[0].partition(" (")[0] for reason in reasons.values())
    print(f"\n{len(whole.requests)} requests: {len(accepted)} annotated, rejected {dict(kinds)}")
    # the refused questions; an annotator with bad moments costs no other row
    assert set(kinds) <= {"duplicate", "the annotator refused"}
    useless = whole.asked - whole.answered
    print(f"{whole.asked} requests to the annotator, {useless} without a usable reply")
    assert useless / whole.asked > 0.25


def test_kill_9_at_random_moments_changes_no_row_and_repeats_no_answered_request(whole: Build):
    output = whole.folder / "killed"
    with annotator() as server:
        killed = sum(kill_when(reached, start(whole.folder, "killed", server)) for reached in moments(whole, server))
        finish(start(whole.folder, "killed", server))
        stats = counted(server, "stats")
    for name in ("train.parquet", "val.parquet", "rejected.jsonl"):
        assert (whole.folder / "whole" / name).read_bytes() == (output / name).read_bytes(), name
    # the reply that was kept belongs to the last request for its question: nothing was asked after that
    kept = usable(output / REPLIES)
    assert {key: nth + 1 for key, nth in kept.items()} == {key: stats[key]["asked"] for key in kept}
    # a request under way at the moment of a kill is all that may have been answered in vain
    lost = sum(count["answered"] for count in stats.values()) - len(kept)
    print(f"\n{killed} kills: {lost} replies were under way and lost")
    assert whole.kills <= killed
    assert lost <= killed * CONCURRENCY


def moments(whole: Build, server: str) -> Iterator[Callable[[], bool]]:
    """When to kill: while rows are read, after so and so many requests to the annotator, while files are written."""
    work = whole.folder / "killed/.build"
    yield (work / "rows.sqlite").exists
    for count in sorted(RANDOM.sample(range(1, whole.asked), whole.kills)):
        yield lambda count=count: counted(server, "count") >= count
    yield (work / "out/train.parquet").exists


def kill_when(reached: Callable[[], bool], process: subprocess.Popen[str]) -> bool:
    """kill -9 at most 50 ms after the moment was reached; False if the build had ended by then."""
    while process.poll() is None and not reached():
        time.sleep(0.002)
    time.sleep(RANDOM.uniform(0, 0.05))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL
