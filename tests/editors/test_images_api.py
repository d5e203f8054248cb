"""Editors behind OpenAI's images API: the real client against a loopback server."""

import base64
import json
import logging
import time
from io import BytesIO

import pytest
from fakes.chain_helpers import ier1
from fakes.real_photos import real_photo
from PIL import Image
from werkzeug import Request, Response

from ier1_plugin.editors import EditError, make_editor
from ier1_plugin.pipeline.trace import read_trace
from ier1_plugin.task.images import encode, open_image

pytest.importorskip("openai", reason="the openai client is not installed")
pytest.importorskip("pytest_httpserver", reason="pytest-httpserver is not installed")

KEY = "sk-very-s3cret-key-0123456789"
EDITS, GENERATIONS = "/v1/images/edits", "/v1/images/generations"


@pytest.fixture(autouse=True)
def key(monkeypatch):
    for name in ("OPENAI_API_KEY", "ARK_API_KEY"):
        monkeypatch.setenv(name, KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


@pytest.fixture
def asked(httpserver):
    """What arrives at /images/edits, with a grey picture of the asked size as the answer."""
    requests = []

    def answer(request: Request) -> Response:
        requests.append({"form": request.form.to_dict(), "image": request.files["image"].read(), "request": request})
        width, _, height = request.form.get("size", "64x64").partition("x")
        return image_reply(Image.new("RGB", (int(width), int(height)), "grey"))

    httpserver.expect_request(EDITS, method="POST").respond_with_handler(answer)
    return requests


def image_reply(image):
    data = {"b64_json": base64.b64encode(encode(image, lossless=True)).decode()}
    return json_reply({"created": 1, "data": [data]})


def json_reply(body, status=200, **headers):
    return Response(json.dumps(body), status, headers, mimetype="application/json")


def error_reply(status, message="no luck", code=None, **headers):
    return json_reply({"error": {"message": message, "type": "x", "param": None, "code": code}}, status, **headers)


def editor_at(httpserver, model="Qwen/Qwen-Image-Edit-2511", **settings):
    return make_editor(f"images-api:{httpserver.url_for('/v1')}#{model}", **{"retries": 0, **settings})


def test_a_server_gets_picture_prompt_size_and_seed(httpserver, asked):
    editor, photo = editor_at(httpserver), real_photo(size=(1184, 896))
    result = editor(photo, "Recoloring coat to scarlet.\nDelete lamp.", 17)
    assert asked[0]["form"] == {
        "model": "Qwen/Qwen-Image-Edit-2511",
        "prompt": "Recoloring coat to scarlet.\nDelete lamp.",
        "size": "1184x896",
        "n": "1",
        "response_format": "b64_json",
        "seed": "17",
    }
    # the picture is sent without a loss
    assert open_image(asked[0]["image"]).tobytes() == photo.tobytes()
    assert result.size == photo.size
    assert result.getpixel((0, 0)) == (128, 128, 128)
    assert not editor.local


def test_steps_guidance_and_further_fields_are_form_fields_and_null_takes_one_out(httpserver, asked):
    more = {"true_cfg_scale": 4.0, "negative_prompt": " ", "seed": None}
    editor_at(httpserver, steps=4, guidance=2.5, call_kwargs=more)(real_photo(size=(64, 64)), "x", 0)
    form = asked[0]["form"]
    assert (form["num_inference_steps"], form["guidance_scale"]) == ("4", "2.5")
    assert (form["true_cfg_scale"], form["negative_prompt"]) == ("4.0", " ")
    assert "seed" not in form


@pytest.mark.parametrize("size", [(64, 48), (3000, 1000), (1, 1)])
def test_a_picture_goes_to_the_canvas_and_comes_back(httpserver, asked, size):
    editor = editor_at(httpserver)
    assert editor(real_photo(size=size), "x", 0).size == size
    width, height = editor.canvas(size)
    assert asked[0]["form"]["size"] == f"{width}x{height}"
    assert open_image(asked[0]["image"]).size == (width, height)


def test_a_server_of_kontext_gets_the_sizes_that_kontext_was_trained_on(httpserver):
    assert editor_at(httpserver, "black-forest-labs/FLUX.1-Kontext-dev").canvas((1600, 1200)) == (1184, 880)
    assert editor_at(httpserver, "x", canvas_pixels=512 * 512).canvas((100, 100)) == (512, 512)


def test_a_picture_of_another_size_is_told_and_noted_and_the_result_has_the_size_of_the_photo(httpserver, tmp_path):
    httpserver.expect_request(EDITS).respond_with_handler(lambda _: image_reply(Image.new("RGB", (333, 77), "red")))
    real_photo(size=(64, 48)).save(tmp_path / "photo.png")
    editor = f"images-api:{httpserver.url_for('/v1')}#x"
    options = ("--method", "original", "--editor", editor, "-o", tmp_path / "edited.png")
    done = ier1("edit", tmp_path / "photo.png", "make it red", *options)
    assert done.exit_code == 0, done.output
    note = "step 1 came back as 333 x 77, not 1184 x 896: resized"
    assert note in done.stderr
    trace = read_trace(tmp_path / "edited.png")
    assert trace["notes"] == [note]
    assert trace["steps"][0]["size"] == [333, 77]
    assert open_image(tmp_path / "edited.png").size == (64, 48)


@pytest.mark.parametrize(
    ("model", "size", "canvas"),
    [
        ("gpt-image-2", (4000, 3000), (1184, 880)),
        ("gpt-image-2.5-flare", (4000, 1000), (1776, 592)),
        ("gpt-image-1.5", (4000, 3000), (1536, 1024)),
        ("chatgpt-image-latest", (3000, 4000), (1024, 1536)),
    ],
)
def test_openais_models_get_the_sizes_that_they_take(httpserver, asked, model, size, canvas):
    editor = make_editor(f"gpt-image:{model}", base_url=httpserver.url_for("/v1"), retries=0)
    assert editor.canvas(size) == canvas
    editor(real_photo(size=canvas), "x", 3)
    assert asked[0]["form"] == {
        "model": model,
        "prompt": "x",
        "size": f"{canvas[0]}x{canvas[1]}",
        "n": "1",
        # no seed, which OpenAI refuses
        "output_format": "png",
    }
    assert asked[0]["request"].headers["Authorization"] == f"Bearer {KEY}"
    assert editor.settings["seeded"] is False


def test_the_model_is_a_setting(httpserver, asked):
    settings = {"base_url": httpserver.url_for("/v1"), "call_kwargs": {"quality": "low"}}
    make_editor("gpt-image", model="gpt-image-9", **settings)(real_photo(size=(64, 64)), "x", 0)
    assert asked[0]["form"]["model"] == "gpt-image-9"
    assert asked[0]["form"]["quality"] == "low"
    make_editor("gpt-image", **settings)(real_photo(size=(64, 64)), "x", 0)
    assert asked[1]["form"]["model"] == "gpt-image-2"


def test_seededit_is_asked_through_generations_with_the_picture_as_a_data_url(httpserver):
    bodies = []

    def answer(request: Request) -> Response:
        bodies.append(request.get_json())
        return image_reply(Image.new("RGB", (100, 100), "red"))

    httpserver.expect_request(GENERATIONS, method="POST").respond_with_handler(answer)
    editor = make_editor("seededit", base_url=httpserver.url_for("/v1"), retries=0)
    photo = real_photo(size=(1184, 880))
    assert editor(photo, "make the coat red", 2**31 + 5).size == (100, 100)
    picture = bodies[0].pop("image")
    assert bodies[0] == {
        "model": "doubao-seededit-3-0-i2i-250628",
        "prompt": "make the coat red",
        "size": "adaptive",
        "seed": 5,
        "guidance_scale": 5.5,
        "watermark": False,
        "response_format": "b64_json",
    }
    assert picture.startswith("data:image/png;base64,")
    assert open_image(base64.b64decode(picture.partition(",")[2])).tobytes() == photo.tobytes()


def test_a_transient_error_is_asked_again_and_an_account_without_credit_is_not(httpserver):
    httpserver.expect_ordered_request(EDITS).respond_with_handler(lambda _: error_reply(503))
    httpserver.expect_ordered_request(EDITS).respond_with_handler(lambda _: image_reply(Image.new("RGB", (32, 32))))
    httpserver.expect_ordered_request(EDITS).respond_with_handler(
        lambda _: error_reply(429, "pay", "insufficient_quota")
    )
    editor = editor_at(httpserver, retries=1)
    editor(real_photo(size=(64, 64)), "x", 0)
    with pytest.raises(EditError, match="no credit left"):
        editor(real_photo(size=(64, 64)), "x", 0)
    assert len(httpserver.log) == 3


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (lambda: error_reply(401, f"Incorrect API key provided: {KEY}"), "the key in OPENAI_API_KEY was not accepted"),
        (lambda: error_reply(400, f"bad\n key {KEY}"), r"HTTP 400\): bad key \*\*\*"),
        (lambda: Response("<html><h1>Bad gateway</h1></html>", 502), "HTTP 502"),
        (lambda: Response("<html><h1>Login</h1></html>", 200, mimetype="text/html"), "sent no image but '<html>"),
        (lambda: Response("", 200), "sent no image but ''"),
        (lambda: json_reply({"created": 1, "data": []}), "sent no image but"),
        (lambda: json_reply([1]), "sent no image but"),
        (lambda: json_reply({"data": [{"url": "http://example.org/x.png"}]}), "sent a link in place of the image"),
        (lambda: json_reply({"data": [{"b64_json": "%%%"}]}), "no usable image: no base64"),
        (lambda: json_reply({"data": [{"b64_json": "aGVsbG8="}]}), "no usable image: not an image"),
        (lambda: json_reply({"data": [{"b64_json": None}]}), "no usable image: image is empty"),
        (lambda: json_reply({"data": [{"b64_json": truncated()}]}), "no usable image: image is damaged"),
        (lambda: json_reply({"data": [{"b64_json": bomb()}]}), "no usable image: image is too large"),
    ],
)
def test_every_failure_is_one_line_without_the_key(httpserver, caplog, reply, message):
    httpserver.expect_request(EDITS).respond_with_handler(lambda _: reply())
    caplog.set_level(logging.INFO)
    with pytest.raises(EditError, match=message) as caught:
        editor_at(httpserver)(real_photo(size=(64, 64)), "x", 0)
    line = str(caught.value)
    assert "images-api:http" in line
    assert "\n" not in line
    assert KEY not in line + caplog.text


def truncated():
    return base64.b64encode(encode(real_photo(size=(64, 64)), lossless=True)[:200]).decode()


def bomb():
    buffer = BytesIO()
    Image.new("1", (20_000, 20_000)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def test_a_server_that_is_slow_or_down_is_one_line(httpserver):
    httpserver.expect_request(EDITS).respond_with_handler(lambda _: time.sleep(0.5) or image_reply(real_photo()))
    down = httpserver.url_for("/v1").replace(str(httpserver.port), "9")
    for editor in (editor_at(httpserver, timeout=0.1), make_editor(f"images-api:{down}#x", retries=0)):
        with pytest.raises(EditError, match=r"timed out|Connection refused") as caught:
            editor(real_photo(size=(64, 64)), "x", 0)
        assert "\n" not in str(caught.value)


def test_a_server_needs_no_key_and_a_password_in_its_address_is_not_told(httpserver, asked, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    address = httpserver.url_for("/v1").replace("http://", "http://user:hunter2@")
    editor = make_editor(f"images-api:{address}#x")
    assert "hunter2" not in editor.name + str(editor.settings)
    editor(real_photo(size=(64, 64)), "x", 0)
    with pytest.raises(EditError, match="OPENAI_API_KEY is not set"):
        make_editor("gpt-image")
    monkeypatch.delenv("ARK_API_KEY")
    with pytest.raises(EditError, match="ARK_API_KEY is not set"):
        make_editor("seededit")


def test_another_variable_may_hold_the_key(httpserver, asked, monkeypatch):
    monkeypatch.setenv("OTHER_KEY", "abc")
    editor_at(httpserver, key_name="OTHER_KEY")(real_photo(size=(64, 64)), "x", 0)
    assert asked[0]["request"].headers["Authorization"] == "Bearer abc"


@pytest.mark.parametrize(
    ("spec", "settings", "message"),
    [
        ("images-api:", {}, "names no server and model; wanted images-api:http://HOST:PORT/v1#MODEL"),
        ("images-api:http://127.0.0.1:1/v1", {}, "names no server and model"),
        ("images-api:http://user:hunter2@host/v1", {}, r"^images-api:http://host/v1 names no server and model"),
        ("images-api:#model", {}, "names no server and model"),
        ("images-api:localhost#model", {}, "'localhost' is no address"),
        ("images-api:http://x#model", {"timeout": 0}, "timeout is 0"),
        ("images-api:http://x#model", {"retries": -1}, "retries is -1"),
        ("gpt-image", {"steps": 4}, "the editor gpt-image has no steps"),
    ],
)
def test_settings_that_make_no_server_are_refused(spec, settings, message):
    with pytest.raises(EditError, match=message):
        make_editor(spec, **settings)
