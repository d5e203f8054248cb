"""Models behind servers: real HTTP to loopback servers with faults."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from typing import Any

import pytest
from fakes.chain_helpers import ask, encoded, sent_image
from fakes.chat_fakes import chat_server, completion, error, free_port, photo, reply, slow
from PIL import Image, ImageChops
from werkzeug import Response

from ier1_plugin.chat import MAX_TOKENS, Chat, ChatError, ChatRequest, Completion, RequestRejected, TransientError
from ier1_plugin.chat import make_chat as make
from ier1_plugin.chat.server import MAX_RETRY_AFTER, error_message, retry_after
from ier1_plugin.task.rows import messages

KEY = "sk-test-0123456789abcdef"
QUICK: dict[str, Any] = {"backoff": 0.01, "timeout": 20.0}
SCHEMA = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def chat_at(server: Any, **settings: Any) -> Chat:
    return make(f"openai:{server.url}#m", **QUICK | settings)


def test_the_request_goes_over_the_wire_as_it_was_trained():
    with chat_server(lambda body, number: reply()) as server:
        assert chat_at(server)(ask()).text == reply()
    body = server.bodies[0]
    picture, text = body["messages"][0]["content"]
    assert len(body["messages"]) == 1
    assert body["messages"][0]["role"] == "user"
    assert picture["type"] == "image_url"
    assert text == messages("remove the lamp")[0]["content"][1]
    assert ImageChops.difference(sent_image(body), photo()).getbbox() is None
    assert (body["model"], body["temperature"], body["seed"]) == ("m", 0.0, 0)
    assert body["max_completion_tokens"] == MAX_TOKENS
    assert "response_format" not in body


def test_an_encoded_image_is_sent_as_it_is():
    file = encoded(photo(), "JPEG")
    with chat_server(lambda body, number: "done") as server:
        chat_at(server)(ChatRequest(messages("remove the lamp"), (file,)))
    assert server.bodies[0]["messages"][0]["content"][0]["image_url"]["url"].startswith("data:image/jpeg;base64,")
    assert sent_image(server.bodies[0]).format == "JPEG"


def test_a_schema_becomes_structured_output():
    with chat_server(lambda body, number: "{}") as server:
        chat_at(server)(ask(schema=SCHEMA))
    form = server.bodies[0]["response_format"]
    assert (form["type"], form["json_schema"]["strict"]) == ("json_schema", True)
    assert form["json_schema"]["schema"] == SCHEMA


def body_of(message: dict[str, Any], finish: str = "stop", **more: Any) -> Response:
    choice = {"index": 0, "finish_reason": finish, "message": message}
    return Response(json.dumps({"choices": [choice], **more}), mimetype="application/json")


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (completion("yes"), Completion("yes")),
        (completion(None), Completion("")),
        (completion(None, refusal="I won't."), Completion("", refusal="I won't.")),
        (body_of({"content": ""}, "content_filter"), Completion("", refusal="content filter")),
        (body_of({"content": "[1, 2"}, "length"), Completion("[1, 2", cut_off=True)),
        (body_of({"content": "a\ud800b"}), Completion("a?b")),
        (
            body_of({"content": "yes"}, model="m-2024", usage={"prompt_tokens": 812, "completion_tokens": 31}),
            Completion("yes", model="m-2024", prompt_tokens=812, completion_tokens=31),
        ),
        (body_of({"content": "yes"}, usage={"prompt_tokens": True, "completion_tokens": "31"}), Completion("yes")),
        (body_of({"content": "yes"}, usage=None, model=None), Completion("yes")),
    ],
)
def test_a_completion_says_how_it_ended_and_what_it_took(answer: Response, wanted: Completion):
    with chat_server(lambda body, number: answer) as server:
        found = chat_at(server)(ask())
    assert found == wanted == Completion.from_dict(json.loads(json.dumps(found.as_dict())) | {"other": 1})


def test_the_key_comes_from_the_environment_and_stays_out_of_messages_replies_and_logs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    answers = [completion(f"Bearer {KEY}"), error(400, f"what do you want with {KEY}?"), error(401, f"no {KEY}")]
    with chat_server(lambda body, number: answers[number]) as server:
        chat = chat_at(server)
        assert chat(ask()).text == "Bearer ***"
        with pytest.raises(RequestRejected, match=r"what do you want with \*\*\*\?") as refused:
            chat(ask())
        with pytest.raises(ChatError, match=r"OPENAI_API_KEY.*HTTP 401") as wrong:
            chat(ask())
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    own = [record.getMessage() for record in caplog.records if not record.name.startswith(("openai", "httpcore"))]
    assert KEY not in str(refused.value) + str(wrong.value) + "".join(own)


def test_a_failing_server_is_asked_again():
    troubles = [
        error(500),
        error(429, Retry_After="0"),
        Response("<html>bad gateway</html>", 200, mimetype="text/html"),
        *(Response(text, mimetype="application/json") for text in ('{"choices": []}', '{"choices": {}}', "[]", "1")),
        Response('{"choices": ["text"]}', mimetype="application/json"),
    ]
    with chat_server(lambda body, number: [*troubles, completion("done")][number]) as server:
        assert chat_at(server, attempts=9)(ask()).text == "done"
    assert len(server.bodies) == 9


def test_attempts_are_bounded_and_the_last_reason_is_told():
    with (
        chat_server(lambda body, number: Response("<html>bad gateway</html>", mimetype="text/html")) as server,
        pytest.raises(TransientError, match=r"no answer in 3 attempts.*'<html>bad"),
    ):
        chat_at(server, attempts=3)(ask())
    assert len(server.bodies) == 3


def test_a_server_that_is_down_or_too_slow_gives_one_line():
    down = make(f"openai:http://127.0.0.1:{free_port()}/v1#m", attempts=2, **QUICK)
    with pytest.raises(TransientError, match=r"no answer in 2 attempts.*Connection refused") as refused:
        down(ask())
    assert "\n" not in str(refused.value)
    with chat_server(lambda body, number: slow(1.0)) as server, pytest.raises(TransientError, match="timed out"):
        chat_at(server, attempts=1, timeout=0.2)(ask())


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        *((error(status), ChatError, f"HTTP {status}") for status in (401, 402, 403, 404)),
        (error(429, "no credit", code="insufficient_quota"), ChatError, "no credit left"),
        (error(400, "maximum context length is 4096 tokens, max_tokens is 2048"), RequestRejected, "context length"),
        (error(413), RequestRejected, "too large"),
        (error(400, "flagged", code="content_filter"), RequestRejected, "flagged"),
        (error(400, "filtered due to Azure's content management policy"), RequestRejected, "policy"),
    ],
)
def test_what_another_attempt_cannot_mend_is_not_asked_again(answer: Response, kind: type[ChatError], words: str):
    with (
        chat_server(lambda body, number: answer) as server,
        pytest.raises(ChatError, match=words) as failed,
    ):
        chat_at(server)(ask())
    assert type(failed.value) is kind
    assert getattr(failed.value, "filtered", False) == (words in ("flagged", "policy"))
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('{"error": {"message": "too long", "param": "seed", "code": null}}', "too long (seed)"),
        ('{"object": "error", "message": "too long", "code": 400}', "too long"),
        ('{"detail": "Not Found"}', "Not Found"),
        ('{"detail": [{"loc": ["body", "seed"], "msg": "not permitted"}]}', "not permitted (body, seed)"),
        ('{"message": {"detail": [{"loc": ["body", "seed"], "msg": "no"}]}}', "no (body, seed)"),
        ('{"status": 7}', '{"status": 7}'),
        ("upstream connect error", "upstream connect error"),
        ("<html><style>b {}</style><h1>Bad gateway</h1></html>", "Bad gateway"),
        ("[" * 20_000, "[" * 20_000),
        ("", ""),
    ],
)
def test_the_errors_of_all_servers_are_read(body: str, message: str):
    assert " ".join(error_message(body).split()) == message


def test_a_parameter_that_the_server_does_not_take_is_left_out_from_then_on():
    def picky(body: dict[str, Any], number: int) -> Any:
        unknown = next((name for name in ("temperature", "max_completion_tokens") if name in body), None)
        return error(400, f"Unsupported parameter: '{unknown}'") if unknown else "done"

    warnings: list[str] = []
    with chat_server(picky) as server:
        chat = chat_at(server, on_warning=warnings.append)
        assert [chat(ask()).text, chat(ask()).text] == ["done", "done"]
    assert len(server.bodies) == 4
    assert server.bodies[-1]["max_tokens"] == MAX_TOKENS
    assert [line.split()[1:3] for line in warnings] == [
        ["refused", "temperature:"],
        ["refused", "max_completion_tokens:"],
    ]


def test_a_schema_that_the_server_does_not_take_is_spelled_out_in_the_text():
    def picky(body: dict[str, Any], number: int) -> Any:
        return error(422, "guided decoding is off") if "response_format" in body else "{}"

    warnings: list[str] = []
    with chat_server(picky) as server:
        chat = chat_at(server, on_warning=warnings.append)
        assert [chat(ask(schema=SCHEMA)).text, chat(ask(schema=SCHEMA)).text, chat(ask()).text] == ["{}"] * 3
    assert len(server.bodies) == 4
    assert len(warnings) == 1
    for body in server.bodies[1:3]:
        picture, question, form = body["messages"][0]["content"]
        assert picture["type"] == "image_url"
        assert question == messages("remove the lamp")[0]["content"][1]
        assert json.dumps(SCHEMA) in form["text"]
    assert len(server.bodies[-1]["messages"][0]["content"]) == 2


def test_a_refusal_that_names_no_parameter_leaves_everything_in():
    with (
        chat_server(lambda body, number: error(400, "the images are too odd")) as server,
        pytest.raises(RequestRejected, match="too odd"),
    ):
        chat_at(server)(ask(schema=SCHEMA))
    assert len(server.bodies) == 1


def test_a_wait_that_a_person_would_wonder_about_is_reported():
    warnings: list[str] = []
    busy = error(429, Retry_After="1")
    with chat_server(lambda body, number: busy if number == 0 else completion("done")) as server:
        assert chat_at(server, on_warning=warnings.append)(ask()).text == "done"
    (line,) = warnings
    assert server.url in line
    assert line.endswith("(HTTP 429); asking again in 1 s")


def test_a_rest_that_the_server_asks_for_is_read_as_number_and_as_date():
    assert retry_after({"retry-after": "7"}) == 7
    assert retry_after({"retry-after": "86400"}) == MAX_RETRY_AFTER
    assert retry_after({"retry-after": "Wed, 21 Oct 2099 07:28:00 GMT"}) == MAX_RETRY_AFTER
    for value in ("soon", "-3", "nan", "Wed, 21 Oct 2015 07:28:00 GMT", ""):
        assert retry_after({"retry-after": value}) == 0
    assert retry_after({}) == 0


def test_closing_ends_the_wait_for_another_attempt():
    with chat_server(lambda body, number: error(503, Retry_After="250")) as server:
        chat = make(f"openai:{server.url}#m")
        reasons: list[str] = []

        def wait() -> None:
            try:
                chat(ask())
            except TransientError as error:
                reasons.append(str(error))

        waiting = threading.Thread(target=wait)
        waiting.start()
        while not server.bodies:
            pass
        chat.close()
        waiting.join(20)
    assert len(reasons) == 1


def test_many_threads_share_one_chat():
    with chat_server(lambda body, number: error(503) if number % 3 == 0 else str(body["seed"])) as server:
        chat, texts = chat_at(server, attempts=20), {}
        threads = [
            threading.Thread(target=lambda seed=seed: texts.setdefault(seed, chat(ask(seed=seed)).text))
            for seed in range(12)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert texts == {seed: str(seed) for seed in range(12)}


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("", "names no model; wanted openai:BASE_URL"),
        ("gpt-4o", "names no model; wanted openai:BASE_URL"),
        ("claude:x", "names no model"),
        ("openai:", "names no model"),
        ("openai:http://me:secret@127.0.0.1:8000/v1", r"'openai:http://127\.0\.0\.1:8000/v1' names no model"),
        ("openai:http://127.0.0.1:8000/v1#", "names no model"),
        ("openai:127.0.0.1#m", "'127.0.0.1' is no address; wanted one such as http"),
        ("openai:http://127.0.0.1:1/v1,http://me:secret@h/v1#m", r"'http://127.0.0.1:1/v1,http://h/v1' names several"),
        ("openai:#gpt-4o", "OPENAI_API_KEY is not set"),
        ("openai:gpt-4o", "OPENAI_API_KEY is not set"),
        ("local:", "names no model"),
        ("local:/nowhere/at/all", "no model in /nowhere/at/all: config.json is missing"),
    ],
)
def test_a_spec_that_names_no_model_says_what_is_wanted(spec: str, reason: str):
    with pytest.raises(ChatError, match=reason) as refused:
        make(spec)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("spec", "variable", "name", "address"),
    [
        (
            "openai:http://me:secret@h:1/v1#Qwen/Qwen2.5-VL-7B",
            "",
            "openai:http://h:1/v1#Qwen/Qwen2.5-VL-7B",
            "http://h:1/v1",
        ),
        ("openai:gpt-4o", "", "openai:gpt-4o", "api.openai.com"),
        ("openai:#gpt-4o", "", "openai:gpt-4o", "api.openai.com"),
        ("openai:https://api.openai.com/v1#gpt-4o", "", "openai:gpt-4o", "api.openai.com"),
        ("openai:gpt-4o", "https://api.openai.com/v1/", "openai:gpt-4o", "api.openai.com"),
        ("openai:gpt-4o", "http://me:secret@h/v1", "openai:http://h/v1#gpt-4o", "http://h/v1"),
        ("openai:http://other/v1#gpt-4o", "http://h/v1", "openai:http://other/v1#gpt-4o", "http://other/v1"),
    ],
)
def test_a_name_says_which_server_and_holds_no_password(
    spec: str, variable: str, name: str, address: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    if variable:
        monkeypatch.setenv("OPENAI_BASE_URL", variable)
    chat: Any = make(spec)
    assert (chat.name, chat.address, chat.local) == (name, address, False)


def test_a_key_that_cannot_be_sent_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "“sk-123”")
    with pytest.raises(ChatError, match="OPENAI_API_KEY holds a character that no key has"):
        make("openai:gpt-4o")


def test_importing_the_chats_loads_no_client_and_no_image_library():
    code = (
        "import sys, ier1_plugin.chat; print([name for name in ('PIL', 'tenacity', 'openai') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True)
    assert found.stdout.strip() == "[]"


def test_pictures_of_any_kind_are_sent_as_png():
    with chat_server(lambda body, number: "done") as server:
        chat_at(server)(ChatRequest(messages("x"), (Image.new("RGB", (9, 9), "red"),)))
    assert sent_image(server.bodies[0]).format == "PNG"
