"""Google's models as judges: the real client against a loopback server."""

from __future__ import annotations

import base64
import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from fakes.judge_runs import ask, pair, run
from PIL import Image
from werkzeug import Request, Response

from ier1_plugin.chat.server import ChatError, RequestRejected, TransientError
from ier1_plugin.evaluation.judges import make_judge
from ier1_plugin.evaluation.judges.judging import Case, Judge
from ier1_plugin.evaluation.records import EvaluationError, Score
from ier1_plugin.task.images import open_image

pytest.importorskip("google.genai", reason="google-genai is not installed")
pytest.importorskip("pytest_httpserver", reason="pytest-httpserver is not installed")

KEY = "AIza-very-s3cret-0123456789"
PATH = re.compile(r"/v1\w*/models/gemini-2\.5-flash:generateContent")
VERDICT = '{"reasoning": "ok", "fulfilment": 4, "quality": 2, "preservation": 3}'
CASE = Case(Image.new("RGB", (40, 30), "red"), Image.new("RGB", (40, 30), "blue"), "remove the lamp")


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    monkeypatch.delenv("GOOGLE_API_KEY", raising=False)
    monkeypatch.delenv("GOOGLE_GEMINI_BASE_URL", raising=False)


def judge_at(httpserver: Any, **settings: Any) -> Judge:
    spec = f"gemini:{httpserver.url_for('/')}#gemini-2.5-flash"
    return make_judge(spec, **{"backoff": 0.0, "requests": 1, "timeout": 5.0, **settings})


def reply(*parts: dict[str, Any], finish: str = "STOP", **more: Any) -> Response:
    candidate = {"content": {"role": "model", "parts": list(parts)}, "finishReason": finish}
    return Response(json.dumps({"candidates": [candidate], **more}), mimetype="application/json")


def error_reply(status: int, message: str) -> Response:
    return Response(
        json.dumps({"error": {"code": status, "message": message, "status": "X"}}), status, mimetype="application/json"
    )


def test_both_images_go_out_under_their_names_and_the_verdict_comes_back(httpserver: Any):
    bodies: list[Any] = []

    def answer(request: Request) -> Response:
        bodies.append((request.get_json(), dict(request.headers)))
        usage = {"promptTokenCount": 700, "candidatesTokenCount": 30, "thoughtsTokenCount": 200}
        thought = {"text": "Quality: 0?", "thought": True}
        return reply(thought, {"text": VERDICT}, usageMetadata=usage, modelVersion="gemini-2.5-flash-001")

    httpserver.expect_request(PATH, method="POST").respond_with_handler(answer)
    found = ask(judge_at(httpserver, image_format="png"), CASE, 0, 0)
    assert (found.score, found.text, found.model) == (Score(4, 2, 3), VERDICT, "gemini-2.5-flash-001")
    assert (found.prompt_tokens, found.completion_tokens) == (700, 230)
    body, headers = bodies[0]
    source_label, source, edited_label, edited, rubric = body["contents"][0]["parts"]
    assert (source_label["text"], edited_label["text"]) == ("Source image:", "Edited image:")
    sent = [open_image(base64.urlsafe_b64decode(part["inlineData"]["data"])) for part in (source, edited)]
    assert [image.getpixel((0, 0)) for image in sent] == [(255, 0, 0), (0, 0, 255)]
    # versions of the client differ in how they spell it
    assert "image/png" in (source["inlineData"].get("mimeType"), source["inlineData"].get("mime_type"))
    assert '"""\nremove the lamp\n"""' in rubric["text"]
    config = body["generationConfig"]
    assert (config["temperature"], config["seed"], config["responseMimeType"]) == (0.0, 0, "application/json")
    assert config["responseSchema"]["properties"]["fulfilment"] == {"type": "INTEGER", "minimum": 0, "maximum": 4}
    assert {name.casefold(): value for name, value in headers.items()}["x-goog-api-key"] == KEY


@pytest.mark.parametrize(
    ("answer", "unscored", "final"),
    [
        (lambda: reply(finish="SAFETY"), "refusal: 'SAFETY'", False),
        (lambda: reply({"text": VERDICT[:30]}, finish="MAX_TOKENS"), "unreadable: cut off", False),
        (lambda: reply({"text": "Fulfilment: 4/5"}), "unreadable: fulfilment is '4/5'", False),
        (lambda: reply(), "unreadable: the reply is empty", False),
        (lambda: Response("{}", mimetype="application/json"), "unreadable: the reply is empty", False),
        (
            lambda: Response('{"promptFeedback": {"blockReason": "OTHER"}}', mimetype="application/json"),
            "refusal: 'OTHER'",
            True,
        ),
    ],
)
def test_blocked_cut_and_empty_replies_are_unscored(httpserver: Any, answer: Any, unscored: str, final: bool):
    httpserver.expect_request(PATH).respond_with_handler(lambda _: answer())
    found = ask(judge_at(httpserver), CASE, 0, 0)
    assert found.score is None
    assert found.unscored.startswith(unscored)
    assert found.final == final


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (lambda: error_reply(429, "quota"), TransientError, "too many requests"),
        (lambda: error_reply(503, "busy"), TransientError, "the server failed"),
        (lambda: error_reply(404, "no model"), ChatError, "no such model"),
        (lambda: error_reply(400, "API key not valid. Please pass one."), ChatError, "was not accepted"),
        (lambda: error_reply(400, f"image too odd, {KEY}"), RequestRejected, "image too odd, \\*\\*\\*"),
        (lambda: Response("<html>Login</html>", 200, mimetype="text/html"), TransientError, "gemini-2.5-flash: "),
    ],
)
def test_what_went_wrong_is_told_apart_without_the_key(
    httpserver: Any, caplog: Any, answer: Any, kind: type[Exception], words: str
):
    httpserver.expect_request(PATH).respond_with_handler(lambda _: answer())
    caplog.set_level(logging.INFO)
    with pytest.raises(kind, match=words) as caught:
        ask(judge_at(httpserver), CASE, 0, 0)
    assert type(caught.value) is kind
    assert KEY not in str(caught.value) + caplog.text


def test_a_bad_moment_is_waited_out_by_the_run(httpserver: Any, tmp_path: Path):
    httpserver.expect_ordered_request(PATH).respond_with_handler(lambda _: error_reply(503, "busy"))
    httpserver.expect_ordered_request(PATH).respond_with_handler(lambda _: reply({"text": VERDICT}))
    (judgement,) = run(judge_at(httpserver, requests=3), tmp_path, [pair(tmp_path)])
    assert judgement.score == Score(4, 2, 3)


def test_without_a_key_it_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("GEMINI_API_KEY")
    with pytest.raises(EvaluationError, match="GEMINI_API_KEY or GOOGLE_API_KEY is not set"):
        make_judge("gemini:gemini-2.5-flash")


def test_the_server_is_in_the_settings_and_another_one_than_googles_in_the_name(monkeypatch: pytest.MonkeyPatch):
    judge = make_judge("gemini:gemini-2.5-flash")
    assert (judge.name, judge.settings["address"]) == ("gemini:gemini-2.5-flash", "generativelanguage.googleapis.com")
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", "http://127.0.0.1:1/")
    judge = make_judge("gemini:gemini-2.5-flash")
    assert judge.name == "gemini:http://127.0.0.1:1/#gemini-2.5-flash"
    assert judge.settings["address"] == "http://127.0.0.1:1/"
