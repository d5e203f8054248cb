"""Google's models: the real client against a loopback server."""

from __future__ import annotations

import base64
import json
import logging
import re
from typing import Any

import pytest
from fakes.chain_helpers import ask
from PIL import Image
from werkzeug import Request, Response

from ier1_plugin.chat import ChatError, ChatRequest, Completion, RequestRejected, TransientError, make_chat
from ier1_plugin.task.images import encode, open_image

pytest.importorskip("google.genai", reason="google-genai is not installed")

KEY = "AIza-very-s3cret-0123456789"
PATH = re.compile(r"/v1\w*/models/gemini-2\.5-flash:generateContent")


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    for name in ("GOOGLE_API_KEY", "GOOGLE_GEMINI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def chat(httpserver: Any) -> Any:
    return make_chat(f"gemini:{httpserver.url_for('/')}#gemini-2.5-flash", backoff=0.0, attempts=2, timeout=5.0)


def body_of(*parts: dict[str, Any], finish: str = "STOP", **more: Any) -> Response:
    candidate = {"content": {"role": "model", "parts": list(parts)}, "finishReason": finish}
    return Response(json.dumps({"candidates": [candidate], **more}), mimetype="application/json")


def error(status: int, message: str) -> Response:
    values = {"error": {"code": status, "message": message, "status": "X"}}
    return Response(json.dumps(values), status, mimetype="application/json")


def test_turns_images_and_schema_go_out_and_the_reply_comes_back(httpserver: Any, chat: Any):
    bodies: list[Any] = []

    def answer(request: Request) -> Response:
        bodies.append((request.get_json(), {name.casefold(): value for name, value in request.headers.items()}))
        usage = {"promptTokenCount": 700, "candidatesTokenCount": 30, "thoughtsTokenCount": 200}
        thought = {"text": "Hm.", "thought": True}
        return body_of(thought, {"text": '{"a": 1}'}, usageMetadata=usage, modelVersion="gemini-2.5-flash-001")

    httpserver.expect_request(PATH, method="POST").respond_with_handler(answer)
    red, blue = Image.new("RGB", (40, 30), "red"), Image.new("RGB", (40, 30), "blue")
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Look:"}, {"type": "image"}]},
        {"role": "assistant", "content": "Yes?"},
    ]
    schema = {"type": "object", "properties": {"a": {"type": "integer", "enum": [0, 1]}}, "required": ["a"]}
    request = ChatRequest(turns, (red, encode(blue, lossless=False)), 0.5, 7, 100, schema)
    assert chat(request) == Completion('{"a": 1}', "", False, "gemini-2.5-flash-001", 700, 230)
    body, headers = bodies[0]
    user, model = body["contents"]
    assert (user["role"], model["role"], model["parts"][0]["text"]) == ("user", "model", "Yes?")
    assert body["systemInstruction"]["parts"][0]["text"] == "Be brief."
    first, words, second = user["parts"]
    assert words["text"] == "Look:"
    files = [base64.urlsafe_b64decode(part["inlineData"]["data"]) for part in (first, second)]
    assert [open_image(file).size for file in files] == [(40, 30)] * 2
    assert (files[0][:4], files[1][:2]) == (b"\x89PNG", b"\xff\xd8")
    config = body["generationConfig"]
    assert (config["temperature"], config["seed"], config["responseMimeType"]) == (0.5, 7, "application/json")
    assert (config["maxOutputTokens"] > 8_000, config["responseJsonSchema"]) == (True, schema)
    assert headers["x-goog-api-key"] == KEY


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (lambda: body_of(finish="SAFETY"), Completion("", refusal="SAFETY")),
        (lambda: body_of({"text": "[1"}, finish="MAX_TOKENS"), Completion("[1", cut_off=True)),
        (lambda: body_of(), Completion("")),
        (lambda: Response("{}", mimetype="application/json"), Completion("")),
    ],
)
def test_a_completion_says_how_it_ended(httpserver: Any, chat: Any, answer: Any, wanted: Completion):
    httpserver.expect_request(PATH).respond_with_handler(lambda _: answer())
    assert chat(ask()) == wanted


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (lambda: error(429, "quota"), TransientError, "no answer in 2 attempts.*too many requests: quota"),
        *(
            (lambda words=words: error(400, words), ChatError, "GEMINI_API_KEY or GOOGLE_API_KEY")
            for words in ("API key not valid. Please pass one.", "API key expired. Please renew it.", "API_KEY_INVALID")
        ),
        (lambda: error(400, f"image too odd, {KEY}"), RequestRejected, r"image too odd, \*\*\*"),
        (lambda: Response('{"promptFeedback": {"blockReason": "OTHER"}}'), RequestRejected, "OTHER"),
        (lambda: Response("<html>Login</html>", 200, mimetype="text/html"), TransientError, "gemini-2.5-flash: "),
        (lambda: Response('{"error": "odd one"}', 400, mimetype="application/json"), RequestRejected, "odd one"),
    ],
)
def test_failures_are_told_apart_without_the_key(
    httpserver: Any, chat: Any, caplog: Any, answer: Any, kind: type[Exception], words: str
):
    httpserver.expect_request(PATH).respond_with_handler(lambda _: answer())
    caplog.set_level(logging.INFO)
    with pytest.raises(kind, match=words) as failed:
        chat(ask())
    assert type(failed.value) is kind
    assert KEY not in str(failed.value) + caplog.text
    assert getattr(failed.value, "filtered", False) == (words == "OTHER")


def test_the_key_and_the_address_come_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    assert make_chat("gemini:gemini-2.5-flash").name == "gemini:gemini-2.5-flash"
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", "http://127.0.0.1:1/")
    assert make_chat("gemini:gemini-2.5-flash").name == "gemini:http://127.0.0.1:1/#gemini-2.5-flash"
    monkeypatch.delenv("GEMINI_API_KEY")
    with pytest.raises(ChatError, match="GEMINI_API_KEY or GOOGLE_API_KEY"):
        make_chat("gemini:gemini-2.5-flash")
