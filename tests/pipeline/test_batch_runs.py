"""`ier1 batch` as a process: killed, interrupted, out of disk, without its planner, and on Ray."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from fakes.chain_helpers import no_settings_from_outside, planner, results, write_photos
from fakes.chat_fakes import reply
from fakes.chat_server import chat_server, slow

from ier1_plugin.data.items import count_items
from ier1_plugin.editors.pillow.operations import OPERATIONS
from ier1_plugin.pipeline.chain import sha256
from ier1_plugin.task.images import open_image
from ier1_plugin.task.schema import Decomposition

__all__ = ["no_settings_from_outside"]
# exact edits of the whole photo, so that a run without a model does real work
EXACT = ("brighter", "warmer", "grey", "blur", "mirror", "rotate", "cropleft", "borderred")


def exact_reply(body: dict[str, Any], number: int) -> str:
    """A plan of one to three exact edits that depends on the request alone."""
    dice = random.Random(body["messages"][0]["content"][1]["text"].split("\n")[0])
    chosen = [OPERATIONS[name] for name in dice.sample(EXACT, dice.randrange(1, 4))]
    return reply(Decomposition.of([one.action for one in chosen], ["photo"], [one.goal for one in chosen]))


def batch(source: Path, out: Path, url: str, *more: str, **options: Any) -> subprocess.Popen[str]:
    """`ier1 batch` as a process, with a planner behind `url` and the exact editor."""
    command = [sys.executable, "-m", "ier1_plugin.cli", "batch", str(source), "--out", str(out), *planner(url), *more]
    pipes: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, **pipes, **options)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit status and the last line of standard error, where no traceback is."""
    _, errors = process.communicate(timeout=300)
    assert "Traceback" not in errors
    return process.returncode, errors.splitlines()[-1]


@pytest.fixture
def requests(tmp_path: Path) -> Path:
    items = write_photos(tmp_path / "photos", 100)
    rows = [{"id": item.id, "image": item.image, "request": item.request} for item in items]
    (tmp_path / "requests.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return tmp_path / "requests.jsonl"


def fingerprints(folder: Path) -> dict[str, tuple[int, int]]:
    return {file.name: (file.stat().st_ino, file.stat().st_mtime_ns) for file in folder.glob("*.png")}


@pytest.mark.full
def test_a_batch_that_is_killed_at_twenty_random_moments_ends_like_an_undisturbed_one(requests: Path, tmp_path: Path):
    calm, torn = tmp_path / "calm", tmp_path / "torn"
    random_moment = random.Random(7)

    def written() -> int:
        return sum(1 for folder in ("plans", "traces", "images") for _ in (torn / folder).glob("*"))

    with chat_server(exact_reply) as server:
        assert ended(batch(requests, calm, server.url, "-j", "2"))[0] == 0
        asked_when_calm = len(server.bodies)
        kills, finished = 0, {}
        while kills < 20:
            before, process = written(), batch(requests, torn, server.url, "-j", "2")
            # some time after it has written something, so that kills fall into every phase
            while process.poll() is None and written() == before:
                time.sleep(0.005)
            time.sleep(random_moment.uniform(0, 0.05))
            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=60)
            if process.returncode == 0:
                break
            kills += 1
            now = fingerprints(torn / "images")
            assert finished.items() <= now.items()
            finished = now
        assert ended(batch(requests, torn, server.url, "-j", "2"))[0] == 0
    assert kills == 20
    # at most what was under way is asked for again: two workers, each with one question
    assert len(server.bodies) <= 2 * asked_when_calm + 2 * kills
    assert results(torn) == results(calm)
    assert finished.items() <= fingerprints(torn / "images").items()
    assert pixels(torn) == pixels(calm)
    assert len(pixels(calm)) == count_items(requests)


@pytest.mark.slow
def test_a_second_ctrl_c_waits_for_nothing(requests: Path, tmp_path: Path):
    with chat_server(lambda body, number: slow(30.0)) as server:
        process = batch(requests, tmp_path / "out", server.url, "-j", "2", "--overlap")
        assert process.stderr
        while not server.bodies:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert any("interrupted: waiting" in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 130


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(requests: Path, tmp_path: Path):
    def unhurried(body: dict[str, Any], number: int) -> str:
        time.sleep(0.05)
        return exact_reply(body, number)

    out = tmp_path / "out"
    with chat_server(unhurried) as server:
        process = batch(requests, out, server.url, "-j", "2", "--overlap")
        while not list((out / "images").glob("*.png")):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert ended(process) == (130, "interrupted")
        assert 0 < len(results(out)) < count_items(requests)
        status, last = ended(batch(requests, out, server.url, "--overlap"))
    assert (status, last) == (0, f"{count_items(requests)} edited, 0 failed, 0 open")
    assert len(results(out)) == count_items(requests)


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_leaves_no_half_written_file(requests: Path, tmp_path: Path):
    # plans are small, images are not
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (8_000, 8_000))
    with chat_server(exact_reply) as server:
        status, last = ended(batch(requests, tmp_path / "out", server.url, preexec_fn=limit))
    assert status == 1
    assert last.startswith("error: ")
    assert "File too large" in last
    assert not list((tmp_path / "out").rglob("*.part"))
    for image in (tmp_path / "out" / "images").iterdir():
        # a small one may have found room
        open_image(image)


def pixels(out: Path) -> dict[str, str]:
    return {file.name: sha256(open_image(file)) for file in (out / "images").glob("*.png")}


@pytest.mark.slow
def test_ray_does_the_same_as_threads_and_goes_on_where_they_stopped(requests: Path, tmp_path: Path):
    pytest.importorskip("ray.data")
    few, first, here, on_ray = (tmp_path / name for name in ("few.jsonl", "first.jsonl", "here", "ray"))
    lines = requests.read_text(encoding="utf-8").splitlines(True)
    few.write_text("".join(lines[:10]), encoding="utf-8")
    first.write_text("".join(lines[:3]), encoding="utf-8")
    # the paths of Ray's sockets have to be short
    with chat_server(exact_reply) as server, TemporaryDirectory(prefix="ier1_") as ray_folder:
        assert ended(batch(few, here, server.url))[0] == 0
        assert ended(batch(first, on_ray, server.url))[0] == 0
        before, asked = fingerprints(on_ray / "images"), len(server.bodies)
        process = batch(few, on_ray, server.url, "--ray", "-j", "2", env=os.environ | {"RAY_TMPDIR": ray_folder})
        assert ended(process)[0] == 0
    assert len(server.bodies) == asked + 7
    assert before.items() <= fingerprints(on_ray / "images").items()
    assert pixels(on_ray) == pixels(here)
    assert results(on_ray) == results(here)
