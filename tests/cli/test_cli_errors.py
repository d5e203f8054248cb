"""What `ier1 edit` says of wrong settings, photos, models and places: one line, and no half-written file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fakes.chain_helpers import ORIGINAL, planner
from fakes.chat_fakes import GOLD, reply
from fakes.chat_server import chat_server, error, slow
from fakes.commands import ier1, refused

BAD_OPTIONS = {
    "no decomposer": (("--editor", "pillow"), "no decomposer; name one with --decomposer openai:"),
    "no editor": (("--method", "original"), "no editor; name one with --editor"),
    "unknown editor": (("--method", "original", "--editor", "photoshop"), "there is no editor 'photoshop'; known: "),
    "setting of another editor": ((*ORIGINAL, "--steps", "5"), "has no steps"),
    "wrong mode": ((*ORIGINAL, "--mode", "both"), "mode is 'both'; known: single-turn, multi-turn"),
    "wrong method": (("--method", "magic"), "method is 'magic'; known: imageedit-r1, original"),
    "wrong seed": ((*ORIGINAL, "--seed", "-1"), "seed is -1; wanted a whole number"),
    "wrong sight": ((*ORIGINAL, "--sequencer-sees", "image,mood"), "can't be shown 'mood'; known: image, request"),
    "kwargs that are not JSON": ((*ORIGINAL, "--call-kwargs", "{steps: 5}"), "--call-kwargs is not JSON"),
    "kwargs that are not an object": ((*ORIGINAL, "--call-kwargs", "5"), "call_kwargs: Cannot assign int"),
    "wrong decomposer": (("--decomposer", "gpt-4o", "--editor", "pillow"), "wanted openai:BASE_URL"),
    "folder without weights": (("--decomposer", "local:here", "--editor", "pillow"), "no model in here"),
    "no such config": ((*ORIGINAL, "--config", "none.yaml"), "none.yaml can't be read: No such file"),
    "no such system": (("--system", "flux"), "there is no system 'flux'; name a YAML file, or one of flux-kontext, "),
    "no such preset": ((*ORIGINAL, "--preset", "fast"), "there is no preset 'fast'; name a YAML file, or one of "),
    "a system where it was": (("--config", "examples/systems/nano_banana.yaml"), "--system nano-banana"),
    "a preset where it was": (("--config", "examples/editors/step_cache.yaml"), "--preset step-cache"),
    "no such plan": (("--plan", "none.json", "--editor", "pillow"), "none.json can't be read: No such file"),
    "output of no known kind": ((*ORIGINAL, "-o", "out.gif"), "out.gif must end in one of .png, .jpg, .jpeg"),
    "output in no folder": ((*ORIGINAL, "-o", "no/where/out.png"), "there is no folder no/where"),
    "output is the input": ((*ORIGINAL, "-o", "photo.png"), "is the photo itself"),
    "trace is the input": ((*ORIGINAL, "--trace", "photo.png"), "photo.png is the photo itself; choose another name"),
    "trace is the output": ((*ORIGINAL, "-o", "out.png", "--trace", "./out.png"), "out.png is the edited image's own"),
    "timeout without end": ((*ORIGINAL, "--timeout", "inf"), "timeout is inf; wanted a number of seconds"),
    "no room for a reply": ((*ORIGINAL, "--max-tokens", "0"), "max_tokens is 0; wanted 1 or more"),
    "timeout of nothing": ((*ORIGINAL, "--timeout", "0"), "timeout is 0.0; wanted a number of seconds"),
    "a request beside a plan": (("--plan", "none.json", "--editor", "pillow", "make it red"), "wanted one of the two"),
    "budget turned round": (
        ("--decomposer", "openai:http://x#m", "--editor", "pillow", "--min-pixels", "9", "--max-pixels", "4"),
        "min_pixels is 9 and max_pixels 4",
    ),
}


@pytest.mark.parametrize("case", BAD_OPTIONS)
def test_a_wrong_setting_is_one_line_and_makes_nothing(image: Path, tmp_path: Path, case: str):
    options, reason = BAD_OPTIONS[case]
    request = () if "--plan" in options else ("flip it horizontally",)
    before = image.read_bytes()
    assert reason in refused("edit", image, *request, *options)
    assert [file.name for file in tmp_path.iterdir()] == ["photo.png"]
    assert image.read_bytes() == before


BAD_FILES: dict[str, tuple[Any, str]] = {
    "editor: [": ("my.yaml", "my.yaml is not YAML"),
    "- editor": ("my.yaml", "holds no settings"),
    "editr: pillow": ("my.yaml", "there is no editr; the settings are name, decomposer"),
    "api_key: sk-1": ("my.yaml", "there is no api_key"),
    "steps: many": ("my.yaml", "steps: Value 'many'"),
    "seed: ${oc.env:IER1_NOT_SET}": ("my.yaml", "is not YAML"),
    '{"plan": {"sub_requests": ["flip it"]}, "seed": "abc"}': ("trace.json", "trace.json: seed is 'abc'"),
    '{"plan": {"sub_requests": ["flip it"]}, "seed": null}': ("trace.json", "trace.json: seed is None"),
    '{"plan": {"sub_requests": ["flip it"]}, "seed": 1.5}': ("trace.json", "trace.json: seed is 1.5"),
    '{"plan": {"sub_requests": ["flip it"]}, "seed": -1}': ("trace.json", "trace.json: seed is -1"),
}


@pytest.mark.parametrize("content", BAD_FILES)
def test_a_config_or_a_trace_that_is_wrong_says_where(image: Path, tmp_path: Path, content: str):
    name, reason = BAD_FILES[content]
    (tmp_path / name).write_text(content, encoding="utf-8")
    options = ("--plan", name) if name == "trace.json" else ("flip it", "--config", name)
    assert reason in refused("edit", image, *options, "--editor", "pillow")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("https://example.com/a.png", "example.com/a.png is an address; download"),
        ("s3://bucket/a.png", "is an address; download"),
        ("file:///home/me/a.png", "is an address; give the path alone"),
        ("data:image/png;base64," + "iVBORw0KGgo" * 1000, "… is an image as a data URL; write it to a file"),
        ("requests.csv", "requests.csv is a table; give an image, or for a batch a .jsonl file"),
        ("iVBORw0KGgo" * 1000, "can't be read: File name too long"),
    ],
)
def test_what_is_given_for_an_image_and_is_none_is_named(image: Path, given: str, reason: str):
    Path("requests.csv").write_text("image,request\nphoto.png,flip it\n", encoding="utf-8")
    line = refused("edit", given, "flip it", *ORIGINAL)
    assert reason in line
    assert len(line) < 500
    if not given.startswith("iVBOR"):
        assert reason in refused("batch", given, "--out", "out", *ORIGINAL)
        Path("in.jsonl").write_text(json.dumps({"image": given, "request": "flip it"}), encoding="utf-8")
        ier1("batch", "in.jsonl", "--out", "out", *ORIGINAL, exit_code=1)
        assert reason in Path("out/results.jsonl").read_text(encoding="utf-8")


def test_what_is_there_is_replaced_only_on_request_and_the_usual_name_is_numbered(image: Path):
    kept = {Path("out.png"): b"paid for", Path("trace.json"): b"{}", Path("photo-edited.png"): b"paid for too"}
    for file, content in kept.items():
        file.write_bytes(content)
    with chat_server(lambda body, number: reply(GOLD)) as server:
        for options in (("-o", "out.png"), ("--trace", "trace.json"), ("-o", "new.png", "--trace", "trace.json")):
            assert "--overwrite" in refused("edit", image, "brighter", *planner(server.url), *options)
    assert server.bodies == []
    for number in (2, 3):
        assert (
            ier1("edit", image, "flip it upside down", *ORIGINAL).stdout.strip().endswith(f"photo-edited-{number}.png")
        )
    ier1("edit", image, "flip it upside down", *ORIGINAL, "--dry-run", "-o", "out.png")
    assert all(file.read_bytes() == content for file, content in kept.items())
    ier1("edit", image, "flip it upside down", *ORIGINAL, "-o", "out.png", "--trace", "trace.json", "--overwrite")
    assert ier1("edit", image, "mirror it", *ORIGINAL, "--overwrite").stdout.strip().endswith("photo-edited.png")
    assert not any(file.read_bytes() == content for file, content in kept.items())


@pytest.mark.parametrize("data", [b"I am text", None])
def test_a_photo_that_is_none_is_one_line_and_asks_no_model(tmp_path: Path, data: bytes | None):
    if data is not None:
        (tmp_path / "photo.jpg").write_bytes(data)
    with chat_server(lambda body, number: reply()) as server:
        line = refused("edit", "photo.jpg", "make it red", *planner(server.url))
    assert ("photo.jpg: not an image" if data else "photo.jpg can't be read") in line
    assert server.bodies == []


def test_a_place_that_takes_no_file_is_an_error_before_anything_is_paid_for(image: Path, tmp_path: Path):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").write_text("x", encoding="utf-8")
    places = (
        ("-o", "folder.png", "folder.png is a folder"),
        ("-o", "/proc/x.png", "/proc can't be written"),
        ("--save-steps", "/proc", "/proc can't be written"),
        ("--trace", "folder.png", "folder.png is a folder"),
        ("--save-steps", "file", "file"),
        ("--trace", "file/trace.json", "file"),
    )
    with chat_server(lambda body, number: reply()) as server:
        for option, place, reason in places:
            assert reason in refused("edit", image, "brighter", *planner(server.url), option, place)
    assert server.bodies == []


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (error(404, "no model fake"), "model fake: not found: no model fake (HTTP 404)"),
        (reply(GOLD), "pillow can't do"),
        (None, "timed out"),
    ],
)
def test_trouble_with_model_or_editor_is_one_line_and_no_image(
    image: Path, tmp_path: Path, response: Any, reason: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("ier1_plugin.chat.http.MAX_BACKOFF", 0.01)
    with chat_server(lambda body, number: response or slow(0.4)) as server:
        more = () if response else ("--timeout", "0.1")
        assert reason in refused("edit", image, "remove the lamp", *planner(server.url), *more)
    assert [file.name for file in tmp_path.iterdir()] == ["photo.png"]
