"""`ier1 batch` as a process: killed, interrupted, out of disk, without its planner, and on Ray."""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from fakes.chain_helpers import hear_ctrl_c, results, write_photos
from fakes.chat_fakes import chat_server, reply, slow
from PIL import Image, ImageChops

from ier1_plugin.data.items import count_items
from ier1_plugin.editors.pillow.operations import OPERATIONS
from ier1_plugin.task.images import open_image
from ier1_plugin.task.schema import Decomposition

SHARED = Path(os.environ.get("IER1_SHARED_DATA", "../shared/data"))
# exact edits of the whole photo, so that a run without a model does real work
EXACT = ("brighter", "warmer", "grey", "blur", "mirror", "rotate", "cropleft", "borderred")


def same(first: Path, second: Path) -> bool:
    with Image.open(first) as one, Image.open(second) as other:
        return one.size == other.size and ImageChops.difference(one, other).getbbox() is None


def exact_reply(body: dict[str, Any], number: int) -> str:
    """A plan of one to three exact edits that depends on the request alone."""
    request = body["messages"][0]["content"][1]["text"].split("\n")[0]
    chosen = random.Random(request).sample(EXACT, random.Random(request).randrange(1, 4))
    operations = [OPERATIONS[name] for name in chosen]
    return reply(
        Decomposition.of(
            [operation.action for operation in operations], ["photo"], [operation.goal for operation in operations]
        )
    )


def command(source: Path, out: Path, url: str, *more: str) -> list[str]:
    planner = ["--decomposer", f"openai:{url}#fake", "--sequencer", "rule", "--editor", "pillow"]
    return [sys.executable, "-m", "ier1_plugin.cli.main", "batch", str(source), "--out", str(out), *planner, *more]


def environment() -> dict[str, str]:
    hidden = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy")
    return {name: value for name, value in os.environ.items() if name not in hidden} | {"OMP_NUM_THREADS": "1"}


@pytest.fixture
def requests(tmp_path: Path) -> Path:
    """Photos and requests: EditEval's real ones, as many as are at hand and each of them twice, else 42 drawn ones."""
    source = SHARED / "editeval_v1" / "editeval_v1.jsonl"
    if source.is_file():
        rows = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
        rows = [row | {"image": str((source.parent / row["image"]).resolve())} for row in rows if row["image"]]
        rows += [row | {"id": f"{row['id']} again", "instruction": f"{row['instruction']}, please"} for row in rows]
    else:
        items = write_photos(tmp_path / "photos", 42)
        rows = [{"id": item.id, "image": item.image, "instruction": item.request} for item in items]
    (tmp_path / "requests.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return tmp_path / "requests.jsonl"


def fingerprints(folder: Path) -> dict[str, tuple[int, int]]:
    return {file.name: (file.stat().st_ino, file.stat().st_mtime_ns) for file in folder.glob("*.png")}


@pytest.mark.full
def test_a_batch_that_is_killed_at_twenty_random_moments_ends_like_an_undisturbed_one(requests: Path, tmp_path: Path):
    draw = random.Random(7)
    with chat_server(exact_reply) as server:
        calm = command(requests, tmp_path / "calm", server.url, "-j", "2")
        subprocess.run(calm, env=environment(), check=True, capture_output=True, timeout=300)
        asked_when_calm = len(server.bodies)
        torn = command(requests, tmp_path / "torn", server.url, "-j", "2")
        kills, finished = 0, {}
        while kills < 20:
            process = subprocess.Popen(torn, env=environment(), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            wait_for_progress(process, tmp_path / "torn", draw)
            process.send_signal(signal.SIGKILL)
            if process.wait(60) == 0:
                break
            kills += 1
            now = fingerprints(tmp_path / "torn" / "images")
            assert finished.items() <= now.items()
            finished = now
        subprocess.run(torn, env=environment(), check=True, capture_output=True, timeout=300)
    assert kills == 20
    # at most what was under way is asked for again: two workers, each with one question
    assert len(server.bodies) <= 2 * asked_when_calm + 2 * kills
    assert results(tmp_path / "torn") == results(tmp_path / "calm")
    assert finished.items() <= fingerprints(tmp_path / "torn" / "images").items()
    images = sorted((tmp_path / "calm" / "images").iterdir())
    assert len(images) == count_items(requests)
    assert all(same(image, tmp_path / "torn" / "images" / image.name) for image in images)


def wait_for_progress(process: subprocess.Popen[bytes], out: Path, draw: random.Random) -> None:
    """Returns some time after the run has written something, so that kills fall into every phase."""

    def written() -> int:
        return sum(1 for folder in ("plans", "traces", "images") for _ in (out / folder).glob("*"))

    before = written()
    while process.poll() is None and written() == before:
        time.sleep(0.005)
    time.sleep(draw.uniform(0, 0.1))


@pytest.mark.slow
def test_a_second_ctrl_c_waits_for_nothing(requests: Path, tmp_path: Path):
    with chat_server(lambda body, number: slow(30.0)) as server:
        process = subprocess.Popen(
            command(requests, tmp_path / "out", server.url, "-j", "2", "--overlap"),
            env=environment(),
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=hear_ctrl_c,
        )
        assert process.stderr
        while not server.bodies:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        for line in process.stderr:
            if "interrupted: waiting" in line:
                break
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 130


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(requests: Path, tmp_path: Path):
    def unhurried(body: dict[str, Any], number: int) -> str:
        time.sleep(0.05)
        return exact_reply(body, number)

    with chat_server(unhurried) as server:
        process = subprocess.Popen(
            command(requests, tmp_path / "out", server.url, "-j", "2", "--overlap"),
            env=environment(),
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=hear_ctrl_c,
        )
        while not list((tmp_path / "out" / "images").glob("*.png")):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "the same command goes on from there" in told
        assert "Traceback" not in told
        done = len(results(tmp_path / "out"))
        assert 0 < done < count_items(requests)
        again = subprocess.run(
            command(requests, tmp_path / "out", server.url, "--overlap"),
            env=environment(),
            capture_output=True,
            text=True,
        )
    assert again.returncode == 0, again.stderr
    assert f"{count_items(requests)} edited, 0 failed, 0 open" in again.stderr
    assert len(results(tmp_path / "out")) == count_items(requests)


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_leaves_no_half_written_file(requests: Path, tmp_path: Path):
    def full() -> None:
        # plans are small, images are not
        resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, 8_000))

    with chat_server(exact_reply) as server:
        ended = subprocess.run(
            command(requests, tmp_path / "out", server.url),
            env=environment(),
            capture_output=True,
            text=True,
            preexec_fn=full,
        )
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("error: ")
    assert "File too large" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr
    assert not list((tmp_path / "out").rglob("*.part"))
    for image in (tmp_path / "out" / "images").iterdir():
        # a small one may have found room
        open_image(image)


@pytest.mark.slow
def test_a_dead_planner_ends_the_command_with_one_line(requests: Path, tmp_path: Path):
    with chat_server(exact_reply) as server:
        url = server.url
    ended = subprocess.run(
        command(requests, tmp_path / "out", url, "-j", "16", "--timeout", "2"),
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 1
    assert "images in a row failed" in ended.stderr.splitlines()[-1]
    assert "Connection refused" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr


def pixels(out: Path) -> dict[str, str]:
    found = {}
    for file in (out / "images").glob("*.png"):
        with Image.open(file) as image:
            found[file.name] = hashlib.sha256(image.tobytes()).hexdigest()
    return found


@pytest.mark.slow
def test_ray_does_the_same_as_threads_and_goes_on_where_they_stopped(requests: Path, tmp_path: Path):
    pytest.importorskip("ray.data")
    # the paths of Ray's sockets have to be short
    ray_folder = tempfile.mkdtemp(prefix="ier1_")
    few = tmp_path / "few.jsonl"
    few.write_text("".join(requests.read_text(encoding="utf-8").splitlines(True)[:10]), encoding="utf-8")
    with chat_server(exact_reply) as server:
        subprocess.run(command(few, tmp_path / "here", server.url), env=environment(), check=True, capture_output=True)
        first = tmp_path / "first.jsonl"
        first.write_text("".join(few.read_text(encoding="utf-8").splitlines(True)[:3]), encoding="utf-8")
        subprocess.run(command(first, tmp_path / "ray", server.url), env=environment(), check=True, capture_output=True)
        before, asked = fingerprints(tmp_path / "ray" / "images"), len(server.bodies)
        ended = subprocess.run(
            command(few, tmp_path / "ray", server.url, "--ray", "-j", "2"),
            env=environment() | {"RAY_TMPDIR": ray_folder},
            capture_output=True,
            text=True,
            timeout=300,
        )
    assert ended.returncode == 0, ended.stderr
    assert len(server.bodies) == asked + 7
    assert before.items() <= fingerprints(tmp_path / "ray" / "images").items()
    assert pixels(tmp_path / "ray") == pixels(tmp_path / "here")
    assert results(tmp_path / "ray") == results(tmp_path / "here")
    shutil.rmtree(ray_folder)
