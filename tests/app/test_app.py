"""The web page: its API over loopback, what it refuses to serve, and a visit with a real browser."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from fakes.browser import DOWNLOADS, browser, needs_browser
from fakes.chain_helpers import ORDER, REQUEST
from fakes.chat_fakes import GOLD, FakeEditor, free_port, photo
from fakes.real_photos import real_photo
from PIL import Image

pytest.importorskip("gradio")
pytest.importorskip("gradio_client")

import httpx
from gradio_client import Client, exceptions, handle_file

from ier1_plugin.app.page import parts_html, status_html
from ier1_plugin.app.server import launch, serving, session_of
from ier1_plugin.app.session import BY_HAND, Session, aligned, one_at_a_time
from ier1_plugin.chat import ChatError
from ier1_plugin.editors import make_editor
from ier1_plugin.pipeline.chain import ImageEditR1
from ier1_plugin.pipeline.system import SettingsError, System
from ier1_plugin.pipeline.trace import read_trace
from ier1_plugin.task.images import open_image
from ier1_plugin.task.schema import Decomposition, PlanError

GREY = "Adjust photo: black and white"


def fake_session(editor: Any = None, **more: Any) -> Session:
    editors = {"fake": editor or FakeEditor(), "pillow": make_editor("pillow")}
    return Session(lambda image, request: GOLD, lambda parts, image, request: list(ORDER), editors, **more)


@contextmanager
def client_of(session: Session, folder: Path, auth: tuple[str, str] | None = None) -> Iterator[tuple[Client, str]]:
    with serving(session, "127.0.0.1", free_port(), auth) as url:
        yield Client(url, verbose=False, auth=auth, download_files=str(folder / "downloads")), url


@pytest.fixture
def upload(tmp_path: Path) -> Any:
    """A photo with an odd size, as a client sends it."""
    photo(75, 50).save(tmp_path / "photo.png")
    return handle_file(str(tmp_path / "photo.png"))


def edited(client: Client, image: Any, request: str = REQUEST, written: str = "", **more: Any) -> dict[str, Any]:
    """The last values of the page after pressing Edit."""
    chosen = {"mode": "single-turn", "editor": "fake", "seed": 7} | more
    values = client.predict(photo=image, request=request, sub_requests=written, **chosen, api_name="/edit")
    return dict(zip(("status", "parts", "sub_requests", "pair", "steps", "image", "trace"), values, strict=True))


def test_a_program_gets_image_trace_and_plan(tmp_path: Path, upload: Any):
    with client_of(fake_session(), tmp_path) as (client, _):
        got = edited(client, upload)
        image, trace = open_image(got["image"]), json.loads(Path(got["trace"]).read_text(encoding="utf-8"))
        in_png = read_trace(Path(got["image"]))
    expected = ImageEditR1(None, None, FakeEditor()).edit(
        photo(75, 50), "\n".join(f"{s}." for s in ORDER), method="original", seed=7
    )
    assert image.tobytes() == expected.image.tobytes()
    assert trace == in_png
    assert trace["plan"]["request"] == REQUEST
    assert trace["plan"]["sub_requests"] == list(ORDER) == got["sub_requests"].splitlines()
    assert trace["seed"] == 7
    assert "Done" in got["status"]
    assert "sofa" in got["parts"]


def test_the_parts_are_shown_before_the_order_and_the_order_before_the_edit(tmp_path: Path, upload: Any):
    with client_of(fake_session(), tmp_path) as (client, _):
        job = client.submit(upload, REQUEST, "", "multi-turn", "fake", 0, api_name="/edit")
        job.result()
        updates = [[str(value) for value in update] for update in job.outputs()]
    parts = next(number for number, update in enumerate(updates) if "sofa" in update[1])
    order = next(number for number, update in enumerate(updates) if "Delete lamp" in update[2])
    step = next(number for number, update in enumerate(updates) if "Step 1" in update[0])
    assert parts < order < step < len(updates) - 1


def test_a_plan_that_a_visitor_changed_is_carried_out_and_the_trace_says_so(tmp_path: Path, upload: Any):
    editor = FakeEditor()
    with client_of(fake_session(editor), tmp_path) as (client, _):
        planned = client.predict(upload, REQUEST, api_name="/plan")
        assert planned[2].splitlines() == list(ORDER)
        got = edited(client, upload, written="Delete lamp\n\n  Add a cat ", mode="multi-turn")
        trace = read_trace(Path(got["trace"]))
        untouched = read_trace(Path(edited(client, upload, written="\n".join(ORDER))["trace"]))
        other = read_trace(Path(edited(client, upload, "something else", "\n".join(ORDER))["trace"]))
    assert [call[1:] for call in editor.calls][:2] == [("Delete lamp", 7), ("Add a cat", 8)]
    assert trace["notes"] == [BY_HAND]
    assert trace["plan"]["decomposition"]["subjects"] == list(GOLD.subjects)
    assert len(got["steps"]) == 3
    assert untouched["notes"] == []
    # a plan is not used for another request
    assert (other["plan"]["request"], other["plan"]["decomposition"]) == ("something else", None)


def test_a_photo_is_opened_as_everywhere_and_what_is_none_refused_in_one_line(tmp_path: Path):
    turned = Image.Exif()
    turned[0x0112] = 6
    photo(64, 48).convert("CMYK").save(tmp_path / "turned.jpg", exif=turned)
    (tmp_path / "text.jpg").write_text("not a photo")
    with client_of(fake_session(), tmp_path) as (client, _):
        assert open_image(edited(client, handle_file(str(tmp_path / "turned.jpg")))["image"]).size == (48, 64)
        with pytest.raises(exceptions.AppError, match="not an image") as caught:
            edited(client, handle_file(str(tmp_path / "text.jpg")))
    assert "\n" not in str(caught.value)


def test_a_password_is_asked_for(tmp_path: Path, upload: Any):
    with client_of(fake_session(), tmp_path, ("ada", "engine")) as (client, url):
        assert "Done" in edited(client, upload)["status"]
        assert httpx.get(f"{url}/config").status_code == 401
        assert httpx.post(f"{url}/gradio_api/upload", files={"files": ("a.png", b"x")}).status_code == 401


def test_an_editor_makes_one_edit_at_a_time():
    at_work, most, release = [], [], Event()

    def editor(image: Image.Image, instruction: str, seed: int) -> Image.Image:
        at_work.append(seed)
        most.append(len(at_work))
        release.wait(0.05)
        at_work.pop()
        return image

    alone = one_at_a_time(editor)
    threads = [Thread(target=alone, args=(photo(), "x", seed)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("error", "reason", "in_log"),
    [(ChatError("http://127.0.0.1:9: nobody\nlistens"), "nobody listens", ""), (KeyError("x"), "KeyError", "KeyError")],
)
@pytest.mark.parametrize("part", ["agent", "editor"])
def test_an_error_is_shown_in_one_line_and_one_that_nobody_foresaw_is_in_the_log(
    tmp_path: Path,
    upload: Any,
    capfd: pytest.CaptureFixture[str],
    part: str,
    error: Exception,
    reason: str,
    in_log: str,
):
    def fails(*_: Any) -> Any:
        raise error

    agents = (fails if part == "agent" else lambda *_: GOLD), lambda *_: list(ORDER)
    session = Session(*agents, {"fake": fails if part == "editor" else FakeEditor()})
    with client_of(session, tmp_path) as (client, _):
        job = client.submit(upload, REQUEST, "", "single-turn", "fake", 0, api_name="/edit")
        with pytest.raises(exceptions.AppError, match=reason) as caught:
            job.result()
    assert "\n" not in str(caught.value)
    assert reason in str(job.outputs()[-1])
    assert ("Traceback" in capfd.readouterr().err) == bool(in_log)


def test_a_preview_is_written_once_as_a_browser_may_be_fetching_it_and_all_files_go_when_the_page_goes(
    tmp_path: Path, upload: Any, monkeypatch: pytest.MonkeyPatch
):
    """Each edit sees the files of the edits before it; the second one changes nothing."""
    seen = []

    def editor(image: Image.Image, instruction: str, seed: int) -> Image.Image:
        seen.append({file: file.stat().st_mtime_ns for file in tmp_path.glob("ier1-demo-*/cache/**/*.webp")})
        return image.copy() if seed else image.rotate(180)

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    session = Session(lambda *_: GOLD, lambda *_: ["one", "two", "three"], {"fake": editor})
    with client_of(session, tmp_path) as (client, _):
        got = edited(client, upload, mode="multi-turn", seed=0)
        last = {file: file.stat().st_mtime_ns for file in tmp_path.glob("ier1-demo-*/cache/**/*.webp")}
        (folder,) = tmp_path.glob("ier1-demo-*")
        assert any(folder.rglob("edited.png"))
        assert folder.stat().st_mode & 0o077 == 0
    assert not folder.exists()
    assert [len(files) for files in seen] == [0, 2, 2]
    assert len(last) == 2
    assert seen[-1] == last
    assert len(got["steps"]) == 4


def test_what_visitors_and_models_write_is_no_html():
    bad = "<script>alert(1)</script>"
    for shown in (parts_html(Decomposition((bad,), (bad,), ())), status_html(f"one\n{bad}"), status_html(bad, True)):
        assert "<script>" not in shown
        assert "&lt;script&gt;" in shown


def test_before_and_after_lie_on_each_other():
    before, bordered, doubled = photo(60, 40), Image.new("RGB", (80, 60)), photo(120, 80)
    assert [image.size for image in aligned(before, bordered)] == [(80, 60)] * 2
    assert aligned(before, bordered)[0].crop((10, 10, 70, 50)).convert("RGB").tobytes() == before.tobytes()
    assert [image.size for image in aligned(before, doubled)] == [(120, 80)] * 2
    assert aligned(before, before) == (before, before)


def test_a_page_that_cannot_be_served_says_why_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    system = System(method="original", editor="pillow")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ier1_plugin.app.server._HOME", tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        wrong: list[tuple[System, dict[str, Any], str]] = [
            (system, {"auth": "ada"}, "USER:PASSWORD"),
            (system, {"port": taken.getsockname()[1]}, "--port"),
            (System(editor="pillow"), {}, "--decomposer"),
            # without a quickstart there is no model
            (System(), {"small_world": True}, r"quickstart\.sh"),
        ]
        for one, options, reason in wrong:
            where: dict[str, Any] = {"host": "127.0.0.1", "port": free_port(), "auth": None, "small_world": False}
            with pytest.raises((SettingsError, PlanError), match=reason):
                launch(one, **where | options)


def test_the_exact_editor_is_offered_beside_the_chosen_one():
    session = session_of(System(method="original", editor="images-api:http://127.0.0.1:9/v1#m"))
    assert list(session.editors) == ["images-api:http://127.0.0.1:9/v1#m", "pillow"]


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_a_visitor_types_clicks_waits_and_sees_the_edited_photo(tmp_path: Path, width: int, height: int):
    real_photo("coffee.png").save(tmp_path / "coffee.png")
    parts = Decomposition(("Adjust",), ("photo",), ("black and white",))
    editors = {"pillow": make_editor("pillow")}
    session = Session(lambda image, request: parts, lambda parts, image, request: [GREY], editors)
    with serving(session, "127.0.0.1", free_port()) as url, browser(tmp_path, width, height) as page:
        page.open(url)
        page.type("#photo input[type=file]", str(tmp_path / "coffee.png"))
        page.wait("return document.querySelector('#photo img') !== null")
        page.type("#request textarea", "make it black and white, please")
        page.click("#plan")
        page.wait(f"return document.querySelector('#sub-requests textarea').value === {GREY!r}")
        page.type("#sub-requests textarea", "\nTransform photo: flip horizontally")
        page.click("#edit")
        page.wait("return document.querySelector('#status').innerText.includes('Done')")
        page.wait(LOADED)
        assert page.run("return document.documentElement.scrollWidth <= innerWidth")
        assert page.run(HIDDEN) == []
        assert "black and white" in page.run("return document.querySelector('#parts').innerText")
        assert page.run(FROM_ELSEWHERE) == []
        page.screenshot(tmp_path / f"{width}.png", width, page.run("return document.documentElement.scrollHeight"))
        saved = open_image(page.download("#image-file", tmp_path / DOWNLOADS / "edited.png"))
        page.type("#request textarea", " now")
        page.wait("return document.querySelector('#sub-requests textarea').value === ''")
    expected = make_editor("pillow")(real_photo("coffee.png"), f"{GREY}\nTransform photo: flip horizontally", 0)
    assert saved.tobytes() == expected.tobytes()
    assert open_image(tmp_path / f"{width}.png").width >= width


LOADED = """
const images = [...document.querySelectorAll('#pair img, #steps img')];
return images.length >= 4 && images.every(image => image.complete && image.naturalWidth > 0)"""
FROM_ELSEWHERE = """
return performance.getEntriesByType('resource')
    .filter(entry => !entry.name.startsWith(location.origin) && !/^(data|blob):/.test(entry.name))
    .filter(entry => entry.responseStatus !== 0 || entry.transferSize !== 0).map(entry => entry.name)"""
HIDDEN = """
const over = (one, other) => one.top < other.bottom - 1 && other.top < one.bottom - 1
    && one.left < other.right - 1 && other.left < one.right - 1;
const box = element => element.getBoundingClientRect();
return ['photo', 'pair', 'steps'].flatMap(id => {
    const block = document.getElementById(id);
    const texts = [...block.querySelectorAll('label, .caption-label')];
    return texts.filter(text => text.scrollWidth > text.clientWidth + 1
        || [...block.querySelectorAll('img')].some(image => over(box(text), box(image)))).map(text => text.innerText);
})"""
"""Names and captions that are cut off, or that lie on a picture."""
