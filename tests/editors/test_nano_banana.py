"""Google's image models: the real client against a loopback server."""

import base64
import json
import logging
import re
import time

import pytest
from fakes.real_photos import real_photo
from PIL import Image
from werkzeug import Request, Response

from ier1_plugin.editors import EditError, make_editor
from ier1_plugin.task.images import encode, open_image

pytest.importorskip("google.genai", reason="google-genai is not installed")
pytest.importorskip("pytest_httpserver", reason="pytest-httpserver is not installed")

KEY = "AIza-very-s3cret-0123456789"
# v1 or v1beta: versions of the client differ
PATH = re.compile(r"/v1\w*/models/gemini-3\.1-flash-image:generateContent")


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    monkeypatch.delenv("GOOGLE_API_KEY", raising=False)


def editor_at(httpserver, spec="nano-banana", **settings):
    return make_editor(spec, **{"base_url": httpserver.url_for("/"), "retries": 0, **settings})


def reply(*parts, finish="STOP", **more):
    candidate = {"content": {"role": "model", "parts": list(parts)}, "finishReason": finish}
    return Response(json.dumps({"candidates": [candidate], **more}), mimetype="application/json")


def picture(image):
    return {"inlineData": {"mimeType": "image/png", "data": base64.b64encode(encode(image, lossless=True)).decode()}}


def error_reply(status, message, name="INVALID_ARGUMENT"):
    body = {"error": {"code": status, "message": message, "status": name}}
    return Response(json.dumps(body), status, mimetype="application/json")


def test_the_model_gets_picture_and_instruction_and_its_picture_comes_back(httpserver):
    bodies = []

    def answer(request: Request) -> Response:
        bodies.append((request.get_json(), dict(request.headers)))
        return reply({"text": "Here you are."}, picture(Image.new("RGB", (1200, 896), "red")))

    httpserver.expect_request(PATH, method="POST").respond_with_handler(answer)
    photo = real_photo(size=(1184, 880))
    result = editor_at(httpserver)(photo, "Recoloring coat to scarlet.", 0)
    # Google has sizes of its own; the chain brings them back
    assert result.size == (1200, 896)
    assert result.getpixel((5, 5)) == (255, 0, 0)
    body, headers = bodies[0]
    sent, text = body["contents"][0]["parts"]
    assert open_image(base64.urlsafe_b64decode(sent["inlineData"]["data"])).tobytes() == photo.tobytes()
    assert text == {"text": "Recoloring coat to scarlet."}
    assert body["generationConfig"] == {"responseModalities": ["TEXT", "IMAGE"]}
    assert {name.casefold(): value for name, value in headers.items()}["x-goog-api-key"] == KEY


def test_model_and_further_settings_reach_the_wire(httpserver):
    bodies = []

    def answer(request: Request) -> Response:
        bodies.append(request.get_json())
        return reply(picture(real_photo(size=(64, 64))))

    httpserver.expect_request(re.compile(r"/v1\w*/models/gemini-9:generateContent")).respond_with_handler(answer)
    more = {"image_config": {"image_size": "2K", "aspect_ratio": "4:3"}}
    editor = editor_at(httpserver, "nano-banana:gemini-9", call_kwargs=more)
    editor(real_photo(size=(64, 64)), "x", 0)
    assert bodies[0]["generationConfig"]["imageConfig"] == {"imageSize": "2K", "aspectRatio": "4:3"}
    assert editor.settings["model"] == "gemini-9"
    assert not editor.local


@pytest.mark.parametrize(
    ("size", "canvas"), [((4000, 3000), (1184, 880)), ((64, 48), (1184, 880)), ((3000, 1000), (1568, 672))]
)
def test_a_megapixel_in_the_shape_of_the_photo_is_sent(httpserver, size, canvas):
    httpserver.expect_request(PATH).respond_with_handler(lambda _: reply(picture(Image.new("RGB", canvas))))
    editor = editor_at(httpserver)
    assert editor.canvas(size) == canvas
    assert editor(real_photo(size=size), "x", 0).size == size


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda: reply(finish="IMAGE_SAFETY"), r"no image came back \(IMAGE_SAFETY\)"),
        (lambda: reply(finish="NO_IMAGE"), r"no image came back \(NO_IMAGE\)"),
        (lambda: reply(finish="IMAGE_PROHIBITED_CONTENT"), "IMAGE_PROHIBITED_CONTENT"),
        (
            lambda: Response(
                json.dumps({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}), mimetype="application/json"
            ),
            r"the request was blocked \(PROHIBITED_CONTENT\)",
        ),
        (lambda: reply({"text": "I can't do\nthat."}), "no image came back, but wrote: I can't do that"),
        (lambda: reply(), "no image came back"),
        (lambda: Response("{}", mimetype="application/json"), "no image came back"),
        (
            lambda: reply({"inlineData": {"mimeType": "image/png", "data": "aGVsbG8="}}),
            "no usable image: not an image",
        ),
        (lambda: error_reply(500, "oops", "INTERNAL"), "HTTP 500"),
        (
            lambda: error_reply(400, "API key not valid. Please pass a valid API key."),
            "the key in GEMINI_API_KEY or GOOGLE_API_KEY was not accepted",
        ),
        (lambda: error_reply(400, f"odd\nkey {KEY}"), r"HTTP 400\): odd key \*\*\*"),
        (lambda: Response("<html>Login</html>", 200, mimetype="text/html"), "nano-banana: "),
    ],
)
def test_blocked_empty_and_failed_answers_are_one_line_without_the_key(httpserver, caplog, answer, message):
    httpserver.expect_request(PATH).respond_with_handler(lambda _: answer())
    caplog.set_level(logging.INFO)
    with pytest.raises(EditError, match=message) as caught:
        editor_at(httpserver)(real_photo(size=(64, 64)), "x", 0)
    assert "nano-banana" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert KEY not in str(caught.value) + caplog.text


def test_a_transient_error_is_asked_again(httpserver):
    httpserver.expect_ordered_request(PATH).respond_with_handler(lambda _: error_reply(503, "busy", "UNAVAILABLE"))
    httpserver.expect_ordered_request(PATH).respond_with_handler(lambda _: reply(picture(real_photo(size=(64, 64)))))
    assert editor_at(httpserver, retries=1)(real_photo(size=(64, 64)), "x", 0).size == (64, 64)
    assert len(httpserver.log) == 2


def test_a_server_that_is_slow_or_down_is_one_line(httpserver):
    httpserver.expect_request(PATH).respond_with_handler(lambda _: time.sleep(0.5) or reply())
    down = make_editor("nano-banana", base_url="http://127.0.0.1:9", retries=0)
    for editor in (editor_at(httpserver, timeout=0.2), down):
        with pytest.raises(EditError, match="nano-banana: ") as caught:
            editor(real_photo(size=(64, 64)), "x", 0)
        assert "\n" not in str(caught.value)


def test_either_variable_may_hold_the_key_and_one_has_to(monkeypatch):
    monkeypatch.delenv("GEMINI_API_KEY")
    with pytest.raises(EditError, match="GEMINI_API_KEY or GOOGLE_API_KEY is not set"):
        make_editor("nano-banana")
    monkeypatch.setenv("GOOGLE_API_KEY", "abc")
    assert make_editor("nano-banana").name == "nano-banana"


def test_a_setting_that_google_does_not_know_is_refused():
    with pytest.raises(EditError, match="call_kwargs of nano-banana: ") as caught:
        make_editor("nano-banana", call_kwargs={"image_confg": {}})
    assert "\n" not in str(caught.value)
