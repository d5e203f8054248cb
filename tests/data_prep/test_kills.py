"""Builds that are killed again and again, against an annotator that fails 30 % of the time.

The builder and the annotator's server are processes of their own; only the model behind the server is fake. In full
runs the 737 requests of ImgEdit-Bench and the 3,391 of I2EBench meet the photos of EditEval in turn.
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
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from fakes.builder_inputs import ROOT, command, encoded, picture, rejected, rows, write_jsonl
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


@contextmanager
def annotator() -> Iterator[str]:
    """A server process; its address."""
    server = [sys.executable, ROOT / "tests/fakes/chat_server.py", "--seed", str(SEED), "--slow", "3"]
    process = subprocess.Popen(server, stdout=subprocess.PIPE, text=True)
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


def own_requests(folder: Path) -> dict[str, str]:
    for number in range(10):
        (folder / f"{number}.png").write_bytes(encoded(picture(number, (500, 400))))
    # of the last twenty each is a duplicate
    return {f"r{n}": f"remove the lamp {n % 100}" for n in range(120)}


def real_requests(folder: Path) -> dict[str, str]:
    for photo in PHOTOS.iterdir():
        shutil.copy(photo, folder)
    requests = {f"imgedit-{key}": row["prompt"] for key, row in json.loads(IMGEDIT.read_text()).items()}
    seen: set[str] = set()
    for number, line in enumerate(I2EBENCH.read_text().splitlines()):
        row = json.loads(line)
        # a person's wording, and its paraphrase where that wording came before
        requests[f"i2ebench-{number}"] = row["div_exp" if row["ori_exp"] in seen else "ori_exp"]
        seen.add(row["ori_exp"])
    return requests


NO_DATA = not all(path.exists() for path in (IMGEDIT, I2EBENCH, PHOTOS))
REAL_MARKS = [pytest.mark.full, pytest.mark.skipif(NO_DATA, reason=f"no real data in {SHARED}; set IER1_SHARED_DATA")]


@pytest.mark.parametrize(
    ("write_requests", "kills"),
    [
        pytest.param(own_requests, 3, marks=pytest.mark.slow),
        pytest.param(real_requests, 20, marks=REAL_MARKS),
    ],
)
def test_kill_9_at_random_moments_changes_no_row_and_repeats_no_answered_request(
    write_requests: Callable[[Path], dict[str, str]], kills: int, tmp_path: Path
):
    requests = write_requests(tmp_path)
    photos = cycle(sorted(path.name for path in tmp_path.iterdir()))
    raw = [{"id": id, "image": next(photos), "request": request} for id, request in requests.items()]
    source = write_jsonl(tmp_path, raw)
    whole, torn = tmp_path / "whole", tmp_path / "torn"

    def start(output: Path, server: str) -> subprocess.Popen[str]:
        options = ("--annotator", "fake-vlm", "--base-url", server, "--timeout", 2)
        arguments = command("jsonl", source, output, *options, "--concurrency", CONCURRENCY, "--max-pixels", 100_000)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.Popen(arguments, env=environment, text=True, **pipes)

    def finish(output: Path, server: str) -> dict[str, dict[str, int]]:
        """Runs the build to its end; how often each question was asked and answered."""
        process = start(output, server)
        written, _ = process.communicate()
        assert process.returncode == 0, written
        return counted(server, "stats")

    with annotator() as server:
        stats = finish(whole, server)
    asked = sum(count["asked"] for count in stats.values())
    assert sum(count["answered"] for count in stats.values()) < 0.75 * asked

    # every request ends annotated or rejected with its reason
    accepted, reasons = [*rows(whole, "train"), *rows(whole, "val")], rejected(whole)
    assert sorted([*(row["id"] for row in accepted), *reasons]) == sorted(requests)
    for row in accepted:
        request = neutralise(requests[row["id"]])
        assert row["problem"] == IMAGE_PLACEHOLDER + request
        assert Decomposition.from_json(row["answer"]) == Decomposition.of(**gold_of(request))
    kinds = Counter(reason.partition(":")[0].partition(" (")[0] for reason in reasons.values())
    print(f"\n{len(requests)} requests: {len(accepted)} annotated, rejected {dict(kinds)}, {asked} calls")
    # a bad moment of the annotator costs no row
    assert set(kinds) <= {"duplicate", "the annotator refused"}

    rng = random.Random(SEED)
    with annotator() as server:
        # while rows are read, after so and so many requests to the annotator, while files are written
        moments: list[Callable[[], bool]] = [(torn / ".build/rows.sqlite").exists]
        for count in sorted(rng.sample(range(1, asked), kills)):
            moments.append(lambda count=count, server=server: counted(server, "count") >= count)
        moments.append((torn / ".build/out/train.parquet").exists)
        killed = 0
        for reached in moments:
            process = start(torn, server)
            while process.poll() is None and not reached():
                time.sleep(0.002)
            time.sleep(rng.uniform(0, 0.05))
            process.send_signal(signal.SIGKILL)
            process.communicate()
            killed += process.returncode == -signal.SIGKILL
        stats = finish(torn, server)
    for name in ("train.parquet", "val.parquet", "rejected.jsonl"):
        assert (whole / name).read_bytes() == (torn / name).read_bytes(), name

    # of each question the last request brought the usable reply that is kept: nothing was asked after that
    kept: Counter[str] = Counter()
    with Store(torn / REPLIES, read_only=True) as store:
        for _, record in store:
            completion = Completion.from_dict(record)
            with suppress(ValueError):
                read_reply(completion)
                key, nth = completion.model.split("-")[-2:]
                kept[key] += 1
                assert int(nth) + 1 == stats[key]["asked"]
    assert set(kept.values()) == {1}
    # a request under way at the moment of a kill is all that may have been answered in vain
    lost = sum(count["answered"] for count in stats.values()) - len(kept)
    print(f"{killed} kills: {lost} replies were under way and lost")
    assert kills <= killed
    assert lost <= killed * CONCURRENCY
