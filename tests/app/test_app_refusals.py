"""What the web page must not do for visitors with programs of their own: files, other hosts, odd values, crowds."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Semaphore
from typing import Any

import pytest
from fakes.chat_fakes import GOLD, FakeEditor, free_port, photo
from PIL import Image

pytest.importorskip("gradio")

import httpx

from ier1_plugin.app.page import AT_WORK, MAX_WAITING
from ier1_plugin.app.server import serving
from ier1_plugin.app.session import Session
from ier1_plugin.editors import make_editor
from ier1_plugin.task.schema import Decomposition

META = {"_type": "gradio.FileData"}
INPUTS = {"plan": ["photo", "request"], "edit": ["photo", "request", "written", "plan", "mode", "editor", "seed"]}
GIVEN = {"request": "x", "written": "Delete lamp", "mode": "single-turn", "editor": "fake", "seed": 0}


@pytest.fixture(scope="module")
def page() -> Iterator[str]:
    editors = {"fake": FakeEditor(), "pillow": make_editor("pillow")}
    session = Session(lambda image, request: GOLD, lambda parts, image, request: ["Delete lamp"], editors)
    with serving(session, "127.0.0.1", free_port()) as url:
        yield f"{url}/gradio_api"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    photo(75, 50).save(tmp_path / "private.png")
    return tmp_path / "private.png"


def posted(page: str, endpoint: str, image: Any, **changes: Any) -> httpx.Response:
    given = GIVEN | {"photo": image} | changes
    body = json.dumps({"data": [given.get(name) for name in INPUTS[endpoint]]})
    # JSON of other programs may hold numbers that no Python float has
    body = body.replace('"1e400"', "1e400")
    return httpx.post(f"{page}/call/{endpoint}", content=body, headers={"content-type": "application/json"})


def answer(page: str, endpoint: str, image: Any, **changes: Any) -> str:
    event = posted(page, endpoint, image, **changes).json()["event_id"]
    return httpx.get(f"{page}/call/{endpoint}/{event}", timeout=30).text


def uploaded(page: str, file: Path) -> str:
    return httpx.post(f"{page}/upload", files={"files": ("photo.png", file.read_bytes())}).json()[0]


@pytest.mark.parametrize("endpoint", INPUTS)
def test_an_upload_is_taken_and_a_file_of_the_machine_is_the_same_as_no_photo(page: str, secret: Path, endpoint: str):
    for meta in ({}, {"meta": META}):
        assert "event: complete" in answer(page, endpoint, {"path": uploaded(page, secret)} | meta)
    nothing = answer(page, endpoint, None)
    assert "no photo yet; choose one first" in nothing
    (secret.parent / "large.png").write_bytes(bytes(40 * 1024 * 1024))
    names = ("private.png", "large.png", "missing.png", "")
    files = [str(secret.parent / name) for name in (*names, "missing/private.png", "a\0b")]
    for file in ("/etc/passwd", "http://127.0.0.1:9/x.png", *files):
        assert answer(page, endpoint, {"path": file}) == nothing, file
    # those that claim to be uploads are refused by Gradio itself; what counts is that its answers do not differ
    claimed = {answer(page, endpoint, {"path": file, "meta": META}) for file in files[: len(names)]}
    assert len(claimed) == 1
    assert "event: complete" not in claimed.pop()


def test_neither_a_way_out_of_the_folder_of_uploads_nor_a_folder_is_a_photo(page: str, secret: Path):
    folder = Path(uploaded(page, secret)).parent
    (folder / "link.png").symlink_to(secret)
    (folder / "outside").symlink_to(secret.parent)
    for file in (folder / "link.png", folder / "outside" / secret.name, f"{folder}/../../../../{secret}", folder):
        for meta in ({}, {"meta": META}):
            assert "event: complete" not in answer(page, "plan", {"path": str(file)} | meta), file


def test_the_photo_is_all_that_takes_a_file(page: str):
    config = httpx.get(f"{page.removesuffix('/gradio_api')}/config").json()
    kinds = {component["id"]: component["type"] for component in config["components"]}
    taken = [kinds[number] for endpoint in config["dependencies"] for number in endpoint["inputs"]]
    assert set(taken) == {"image", "textbox", "state", "radio", "dropdown", "number"}


def test_a_file_given_as_a_text_is_not_read(page: str, secret: Path):
    image = {"path": uploaded(page, secret)}
    for name in ("request", "written", "mode", "editor", "seed"):
        shown = {answer(page, "edit", image, **{name: {"path": file, "meta": META}}) for file in (str(secret), "/none")}
        assert shown == {'event: error\ndata: {"error": null}\n\n'}


def test_no_file_of_the_machine_is_served_and_a_large_upload_refused(page: str, secret: Path):
    here = Path(__file__).resolve()
    for file in ("/etc/passwd", secret, here, here.parent / "../README.md", "setup.py", "/proc/self/environ"):
        assert httpx.get(f"{page}/file={file}").status_code in (403, 404), file
    large = {"files": ("a.png", bytes(33 * 1024 * 1024))}
    assert httpx.post(f"{page}/upload", files=large, timeout=60).status_code == 413


@pytest.mark.parametrize("path", ["file=http://127.0.0.1:9/", "file=https://127.0.0.1:9", "file/http://127.0.0.1:9"])
def test_no_browser_is_sent_to_another_host(page: str, path: str):
    for address in (path, path.replace("=", "%3D").replace(":", "%3A")):
        refused = httpx.get(f"{page}/{address}")
        assert refused.status_code == 404
        assert "location" not in refused.headers
        assert refused.headers["referrer-policy"] == "no-referrer"
        assert refused.headers["content-security-policy"].startswith("default-src 'self' data: blob:")


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        *[("seed", value, "wanted a whole number") for value in ("1e400", "x", [], 0.5, None, 10**400)],
        *[("mode", value, "no mode") for value in ("all at once", [], None)],
        *[("editor", value, "there is no editor") for value in ("gpt-image", [], {"a": 1}, None)],
        *[("request", value, "the request is empty") for value in (None, " ")],
        ("request", "x" * 50_000, "at most 8,000"),
        ("written", "Add a cat\n" * 33, "at most 32"),
    ],
)
def test_odd_values_are_one_line_for_the_visitor_and_nothing_in_the_log(
    page: str, secret: Path, capfd: pytest.CaptureFixture[str], name: str, value: Any, reason: str
):
    plan = {"written": None} if name == "request" else {}
    shown = answer(page, "edit", {"path": uploaded(page, secret)}, **{name: value} | plan)
    assert reason in shown.partition("event: error")[2]
    assert "Traceback" not in capfd.readouterr().err


def test_who_comes_when_the_queue_is_full_is_turned_away_and_the_others_are_served(secret: Path):
    begun, release = Semaphore(0), Event()

    def slow(image: Image.Image, request: str) -> Decomposition:
        begun.release()
        assert release.wait(60)
        return GOLD

    session = Session(slow, lambda parts, image, request: ["Delete lamp"], {"fake": FakeEditor()})
    with serving(session, "127.0.0.1", free_port()) as url:
        page = f"{url}/gradio_api"
        image = {"path": uploaded(page, secret)}
        try:
            at_work = [posted(page, "plan", image) for _ in range(AT_WORK)]
            assert all(begun.acquire(timeout=60) for _ in at_work)
            waiting = [posted(page, "plan", image) for _ in range(MAX_WAITING)]
            refused = posted(page, "plan", image)
        finally:
            release.set()
        assert {one.status_code for one in at_work + waiting} == {200}
        assert refused.status_code == 503
        assert "full" in refused.text
        last = waiting[-1].json()["event_id"]
        assert "event: complete" in httpx.get(f"{page}/call/plan/{last}", timeout=60).text


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_page_that_is_ended_while_it_starts_leaves_no_folder(tmp_path: Path, number: signal.Signals):
    """Started as by a shell in the background, which has it ignore SIGINT."""
    command = [sys.executable, "-m", "ier1_plugin.cli.main", "demo", "--method", "original", "--editor", "pillow"]
    process = subprocess.Popen(
        ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *command, "--port", str(free_port())],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and not list(tmp_path.glob("ier1-demo-*")):
        time.sleep(0.01)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert list(tmp_path.iterdir()) == []
    assert process.returncode == 130
    assert "Traceback" not in said
