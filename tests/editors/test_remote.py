"""Editors behind OpenAI's images API and Google's: the real clients against a loopback server."""

import base64
import json
import logging
import re
import time

import pytest
from fakes.commands import ier1
from fakes.real_photos import real_photo
from PIL import Image
from werkzeug import Request, Response

from ier1_plugin.editors import EditError, make_editor
from ier1_plugin.pipeline.trace import read_trace
from ier1_plugin.task.images import encode, open_image

pytest.importorskip("openai", reason="the openai client is not installed")
pytest.importorskip("google.genai", reason="google-genai is not installed")
pytest.importorskip("pytest_httpserver", reason="pytest-httpserver is not installed")

KEY = "sk-very-s3cret-key-0123456789"
KEY_NAMES = ("OPENAI_API_KEY", "ARK_API_KEY", "GEMINI_API_KEY")
EDITS = "/v1/images/edits"
# v1 or v1beta: versions of the client differ
GOOGLE = re.compile(r"/v1\w*/models/gemini-3\.1-flash-image:generateContent")


@pytest.fixture(autouse=True)
def keys(monkeypatch):
    for name in KEY_NAMES:
        monkeypatch.setenv(name, KEY)
    for name in ("OPENAI_BASE_URL", "GOOGLE_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def small():
    return real_photo(size=(64, 64))


def editor_at(httpserver, name="images-api", **settings):
    """The editor `name`, or of a longer spec, of this server, without further attempts."""
    if name == "images-api":
        name = f"images-api:{httpserver.url_for('/v1')}#{settings.pop('model', 'x')}"
    else:
        path = "/" if name.startswith("nano-banana") else "/v1"
        settings = {"base_url": httpserver.url_for(path), **settings}
    return make_editor(name, **{"retries": 0, **settings})


def recorded(httpserver, path, reply):
    """Answers with `reply(fields)`; the result lists the (fields, image file, headers) of each request."""
    requests = []

    def answer(request: Request) -> Response:
        image = request.files["image"].read() if request.files else b""
        fields = request.form.to_dict() or request.get_json()
        requests.append((fields, image, {name.casefold(): value for name, value in request.headers.items()}))
        return reply(fields)

    httpserver.expect_request(path, method="POST").respond_with_handler(answer)
    return requests


def json_reply(body, status=200):
    return Response(json.dumps(body), status, mimetype="application/json")


def in_base64(image):
    return base64.b64encode(encode(image, lossless=True)).decode()


def image_reply(image):
    return json_reply({"created": 1, "data": [{"b64_json": in_base64(image)}]})


def data_reply(**entry):
    return json_reply({"data": [entry]})


def openai_error(status, message="no luck", code=None):
    return json_reply({"error": {"message": message, "type": "x", "param": None, "code": code}}, status)


def google_reply(*parts, finish="STOP"):
    candidate = {"content": {"role": "model", "parts": list(parts)}, "finishReason": finish}
    return json_reply({"candidates": [candidate]})


def google_data(data):
    return {"inlineData": {"mimeType": "image/png", "data": data}}


def google_image(image):
    return google_data(in_base64(image))


def google_error(status, message):
    return json_reply({"error": {"code": status, "message": message, "status": "INVALID_ARGUMENT"}}, status)


FORM = {"size": "1184x896", "n": "1"}
LOCAL = FORM | {"model": "Qwen/Qwen-Image-Edit-2511", "response_format": "b64_json"}
STEPS = {"num_inference_steps": "4", "guidance_scale": "2.5", "true_cfg_scale": "4.0", "negative_prompt": " "}
ARK = {
    "model": "doubao-seededit-3-0-i2i-250628",
    "size": "adaptive",
    "seed": 5,
    "guidance_scale": 5.5,
    "watermark": False,
    "response_format": "b64_json",
}


@pytest.mark.parametrize(
    ("name", "settings", "fields"),
    [
        ("images-api", {"model": "Qwen/Qwen-Image-Edit-2511"}, LOCAL | {"seed": str(2**31 + 5)}),
        (
            "images-api",
            {
                "model": "Qwen/Qwen-Image-Edit-2511",
                "steps": 4,
                "guidance": 2.5,
                # None takes a field out
                "call_kwargs": {"true_cfg_scale": 4.0, "negative_prompt": " ", "seed": None},
            },
            LOCAL | STEPS,
        ),
        # OpenAI refuses a seed
        ("gpt-image", {}, FORM | {"model": "gpt-image-2", "size": "1184x880", "output_format": "png"}),
        (
            "gpt-image:gpt-image-1.5",
            {"call_kwargs": {"quality": "low"}},
            FORM | {"model": "gpt-image-1.5", "size": "1536x1024", "output_format": "png", "quality": "low"},
        ),
        (
            "gpt-image",
            {"model": "gpt-image-9"},
            FORM | {"model": "gpt-image-9", "size": "1184x880", "output_format": "png"},
        ),
        ("seededit", {}, ARK),
    ],
)
def test_a_server_gets_picture_prompt_and_its_own_fields_and_a_picture_comes_back(httpserver, name, settings, fields):
    asked = recorded(httpserver, re.compile("/v1/images/.*"), lambda _: image_reply(Image.new("RGB", (1184, 896))))
    editor = editor_at(httpserver, name, **settings)
    width, height = editor.canvas((1184, 880))
    photo = real_photo(size=(width, height))
    assert editor(photo, "Recoloring coat to scarlet.\nDelete lamp.", 2**31 + 5).size in ((1184, 896), photo.size)
    body, image, headers = asked[0]
    endpoint = "generations" if name == "seededit" else "edits"
    assert httpserver.log[0][0].path == f"/v1/images/{endpoint}"
    if name == "seededit":
        kind, _, data = body.pop("image").partition(",")
        assert kind == "data:image/png;base64"
        image = base64.b64decode(data)
    # the picture is sent without a loss
    assert open_image(image).tobytes() == photo.tobytes()
    assert body == fields | {"prompt": "Recoloring coat to scarlet.\nDelete lamp."}
    assert headers["authorization"] == f"Bearer {KEY}"
    assert not editor.local
    assert editor.settings["model"] == fields["model"]


@pytest.mark.parametrize(
    ("name", "settings", "size", "canvas"),
    [
        ("images-api", {"model": "black-forest-labs/FLUX.1-Kontext-dev"}, (1600, 1200), (1184, 880)),
        ("images-api", {"canvas_pixels": 512 * 512}, (100, 100), (512, 512)),
        ("gpt-image:gpt-image-2", {}, (4000, 3000), (1184, 880)),
        ("gpt-image:gpt-image-2.5-flare", {}, (4000, 1000), (1776, 592)),
        ("gpt-image:gpt-image-1.5", {}, (4000, 3000), (1536, 1024)),
        ("gpt-image:chatgpt-image-latest", {}, (3000, 4000), (1024, 1536)),
        ("nano-banana", {}, (4000, 3000), (1184, 880)),
        ("nano-banana", {}, (64, 48), (1184, 880)),
        ("nano-banana", {}, (3000, 1000), (1568, 672)),
    ],
)
def test_models_get_the_sizes_that_they_take(httpserver, name, settings, size, canvas):
    assert editor_at(httpserver, name, **settings).canvas(size) == canvas


def test_what_a_photo_loses_is_noted_and_the_result_has_its_size(httpserver, tmp_path):
    httpserver.expect_request(EDITS).respond_with_handler(lambda _: image_reply(Image.new("RGB", (333, 77), "red")))
    real_photo(size=(640, 480)).save(tmp_path / "photo.png")
    editor = f"images-api:{httpserver.url_for('/v1')}#x"
    options = ("--method", "original", "--editor", editor, "--editor-settings", '{"canvas_pixels": 4096}')
    done = ier1("edit", tmp_path / "photo.png", "make it red", *options, "-o", tmp_path / "edited.png")
    trace = read_trace(tmp_path / "edited.png")
    squeezed, enlarged, flat, resized = trace["notes"]
    assert "squeezed to 64 x 64" in squeezed
    assert "10.0 times" in enlarged
    assert "one single colour" in flat
    assert "333 x 77, not 64 x 64" in resized
    assert all(note in done.stderr for note in trace["notes"])
    assert trace["steps"][0]["size"] == [333, 77]
    assert open_image(tmp_path / "edited.png").size == (640, 480)


def test_googles_model_gets_picture_instruction_and_settings_and_its_picture_comes_back(httpserver):
    parts = {"text": "Here you are."}, google_image(Image.new("RGB", (1200, 896), "red"))
    asked = recorded(httpserver, re.compile(r"/v1\w*/models/gemini-9:generateContent"), lambda _: google_reply(*parts))
    photo, more = real_photo(size=(1184, 880)), {"image_config": {"image_size": "2K", "aspect_ratio": "4:3"}}
    editor = editor_at(httpserver, "nano-banana:gemini-9", call_kwargs=more)
    result = editor(photo, "Recoloring coat to scarlet.", 0)
    # Google has sizes of its own; the chain brings them back
    assert result.size == (1200, 896)
    assert result.getpixel((5, 5)) == (255, 0, 0)
    body, _, headers = asked[0]
    picture, text = body["contents"][0]["parts"]
    assert open_image(base64.urlsafe_b64decode(picture["inlineData"]["data"])).tobytes() == photo.tobytes()
    assert text == {"text": "Recoloring coat to scarlet."}
    assert body["generationConfig"] == {
        "responseModalities": ["TEXT", "IMAGE"],
        "imageConfig": {"imageSize": "2K", "aspectRatio": "4:3"},
    }
    assert headers["x-goog-api-key"] == KEY
    assert editor.settings["model"] == "gemini-9"
    assert not editor.local


def test_a_transient_error_is_asked_again(httpserver, small):
    for reply in (openai_error(503), image_reply(Image.new("RGB", (32, 32)))):
        httpserver.expect_ordered_request(EDITS).respond_with_response(reply)
    assert editor_at(httpserver, retries=1)(small, "x", 0).size == (32, 32)
    assert len(httpserver.log) == 2


FAILURES = [
    ("images-api", lambda: openai_error(401, f"Incorrect API key provided: {KEY}"), "OPENAI_API_KEY"),
    ("images-api", lambda: openai_error(400, f"bad\n key {KEY}"), r"bad key \*\*\* \(HTTP 400"),
    ("images-api", lambda: Response("<html><h1>Login</h1></html>", mimetype="text/html"), "no image but '<html>"),
    ("images-api", lambda: Response("", 200), "no image but ''"),
    ("images-api", lambda: json_reply({"created": 1, "data": []}), "no image but"),
    ("images-api", lambda: json_reply([1]), "no image but"),
    ("images-api", lambda: data_reply(url="http://me:pw@example.org/x.png?sig=1"), "link to example.org .* b64_json"),
    ("images-api", lambda: data_reply(url="data:image/svg+xml,<svg/>"), "no base64"),
    ("images-api", lambda: data_reply(b64_json="%%%"), "no base64"),
    ("images-api", lambda: data_reply(b64_json="aGVsbG8="), "not an image"),
    ("images-api", lambda: data_reply(b64_json=None), "image is empty"),
    ("nano-banana", lambda: google_reply(finish="IMAGE_SAFETY"), r"\(IMAGE_SAFETY\)"),
    (
        "nano-banana",
        lambda: json_reply({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}),
        r"blocked \(PROHIBITED_CONTENT\)",
    ),
    (
        "nano-banana",
        lambda: google_reply({"text": "Hm.", "thought": True}, {"text": "I can't do\nthat."}),
        "no image came back, but wrote: I can't do that",
    ),
    ("nano-banana", lambda: google_reply(), "no image came back"),
    ("nano-banana", lambda: json_reply({}), "no image came back"),
    ("nano-banana", lambda: google_reply(google_data("aGVsbG8=")), "not an image"),
    ("nano-banana", lambda: google_error(400, f"odd\nkey {KEY}"), r"odd key \*\*\* \(HTTP 400"),
]


RED, BLUE = (Image.new("RGB", (64, 64), colour) for colour in ("red", "blue"))


@pytest.mark.parametrize(
    ("name", "reply"),
    [
        ("images-api", lambda: data_reply(b64_json=f"data:image/png;base64,{in_base64(RED)}")),
        ("images-api", lambda: data_reply(url=f"data:image/png;base64,{in_base64(RED)}")),
        ("images-api", lambda: data_reply(b64_json=re.sub("(.{76})", r"\1\r\n", in_base64(RED)))),
        ("images-api", lambda: data_reply(b64_json=in_base64(RED).rstrip("="), url="http://example.org/x.png")),
        ("images-api", lambda: data_reply(b64_json=in_base64(RED).translate(str.maketrans("+/", "-_")))),
        # a thought is a draft, and so is an image before another
        (
            "nano-banana",
            lambda: google_reply({**google_image(BLUE), "thought": True}, {"text": "x"}, google_image(RED)),
        ),
        ("nano-banana", lambda: google_reply(google_image(RED), {**google_image(BLUE), "thought": True})),
        ("nano-banana", lambda: google_reply(google_image(BLUE), google_image(RED))),
        ("nano-banana", lambda: google_reply(*({**google_image(image), "thought": True} for image in (BLUE, RED)))),
    ],
)
def test_the_result_is_found_however_it_is_written_and_a_draft_is_none(httpserver, small, name, reply):
    httpserver.expect_request(GOOGLE if name == "nano-banana" else EDITS).respond_with_handler(lambda _: reply())
    assert editor_at(httpserver, name)(small, "make it red", 0).getpixel((5, 5)) == (255, 0, 0)


@pytest.mark.parametrize(("name", "reply", "message"), FAILURES)
def test_every_failure_of_a_server_is_one_line_without_the_key(httpserver, small, caplog, name, reply, message):
    httpserver.expect_request(re.compile(".*")).respond_with_handler(lambda _: reply())
    fails_in_one_line(editor_at(httpserver, name), small, f"{name}.*{message}", caplog)


def test_a_server_that_is_slow_or_down_is_one_line(httpserver, small, caplog):
    httpserver.expect_request(EDITS).respond_with_handler(lambda _: time.sleep(0.5) or Response(""))
    fails_in_one_line(editor_at(httpserver, timeout=0.1), small, "images-api.*timed out", caplog)
    down = make_editor("images-api:http://127.0.0.1:9/v1#x", retries=0)
    fails_in_one_line(down, small, "images-api.*Connection refused", caplog)


def fails_in_one_line(editor, photo, message, caplog):
    caplog.set_level(logging.INFO)
    with pytest.raises(EditError, match=message) as caught:
        editor(photo, "x", 0)
    assert "\n" not in str(caught.value)
    assert KEY not in str(caught.value) + caplog.text


def test_a_server_needs_no_key_and_a_password_in_its_address_is_not_shown(httpserver, small, monkeypatch):
    asked = recorded(httpserver, EDITS, lambda _: image_reply(small))
    monkeypatch.delenv("OPENAI_API_KEY")
    address = httpserver.url_for("/v1").replace("http://", "http://user:hunter2@")
    editor = make_editor(f"images-api:{address}#x")
    assert "hunter2" not in editor.name + str(editor.settings)
    editor(small, "x", 0)
    monkeypatch.setenv("OTHER_KEY", "abc")
    editor_at(httpserver, key_name="OTHER_KEY")(small, "x", 0)
    assert asked[1][2]["authorization"] == "Bearer abc"


@pytest.mark.parametrize(
    ("spec", "variable", "needed"),
    [
        ("gpt-image", "OPENAI_API_KEY", "OPENAI_API_KEY"),
        ("images-api:http://127.0.0.1:9/v1#m", "OPENAI_API_KEY", ""),
        ("seededit", "ARK_API_KEY", "ARK_API_KEY"),
        ("nano-banana", "GEMINI_API_KEY", "GEMINI_API_KEY or GOOGLE_API_KEY"),
    ],
)
def test_a_key_that_is_missing_or_copied_with_its_quotes_is_refused_before_it_is_sent(
    monkeypatch, spec, variable, needed
):
    monkeypatch.setenv(variable, "sk-“aa")
    with pytest.raises(EditError, match=f"^{variable} ") as caught:
        make_editor(spec)
    assert "aa" not in str(caught.value)
    monkeypatch.delenv(variable)
    if needed:
        with pytest.raises(EditError, match=f"{needed} is not set"):
            make_editor(spec)
    # either of Google's variables may hold the key
    monkeypatch.setenv("GOOGLE_API_KEY", "abc")
    if spec == "nano-banana":
        make_editor(spec)


@pytest.mark.parametrize(
    ("spec", "settings", "message"),
    [
        ("images-api:", {}, "images-api:http://HOST:PORT/v1#MODEL"),
        ("images-api:http://127.0.0.1:1/v1", {}, "no server and model"),
        ("images-api:http://user:hunter2@host/v1", {}, "^images-api:http://host/v1 "),
        ("images-api:#model", {}, "no server and model"),
        ("images-api:localhost#model", {}, "'localhost' is not an address"),
        ("images-api:http://x#model", {"timeout": 0}, "timeout is 0"),
        ("images-api:http://x#model", {"retries": -1}, "retries is -1"),
        ("images-api:http://x#model", {"key_name": 5}, "^the editor images-api: "),
        ("gpt-image", {"steps": 4}, "the editor gpt-image has no steps"),
        ("gpt-image", {"base_url": 5}, "^5 is not an address"),
        ("gpt-image", {"call_kwargs": 5}, "^call_kwargs is 5"),
        ("nano-banana", {"base_url": 5}, "^5 is not an address"),
        ("nano-banana", {"call_kwargs": {"image_confg": {}}}, "call_kwargs of nano-banana: "),
    ],
)
def test_settings_that_make_no_client_are_one_line(spec, settings, message):
    with pytest.raises(EditError, match=message) as caught:
        make_editor(spec, **settings)
    assert "\n" not in str(caught.value)
