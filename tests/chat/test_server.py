"""Models behind servers: real HTTP to loopback servers with faults."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from fakes.chain_helpers import ask, encoded, no_settings_from_outside, sent_image
from fakes.chat_fakes import free_port, photo, reply
from fakes.chat_server import Answer, ChatServer, chat_server, completion, error, raw, slow
from PIL import ImageChops

from ier1_plugin.chat import MAX_TOKENS, Chat, ChatError, ChatRequest, Completion, RequestRejected, TransientError
from ier1_plugin.chat import make_chat as make
from ier1_plugin.chat.http import MAX_REJECTED_AT_START, MAX_RETRY_AFTER, MAX_TEXT, read_error, retry_after
from ier1_plugin.chat.server import refused_parameter
from ier1_plugin.task.rows import messages

__all__ = ["no_settings_from_outside"]
KEY = "sk-test-0123456789abcdef"
QUICK: dict[str, Any] = {"backoff": 0.01, "timeout": 20.0}
SCHEMA = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
SENT = ("temperature", "seed", "max_completion_tokens", "response_format")
Serve = Callable[..., tuple[ChatServer, Chat]]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """serve(*answers): a server that gives them one after another, the last for ever, and a chat with its model m."""
    with ExitStack() as servers:

        def start(*answers: Any, **settings: Any) -> tuple[ChatServer, Chat]:
            def answer(body: dict[str, Any], number: int) -> Any:
                chosen = answers[min(number, len(answers) - 1)]
                return chosen if isinstance(chosen, str | Answer) else chosen(body, number)

            server = servers.enter_context(chat_server(answer))
            return server, make(f"openai:{server.url}#m", **QUICK | settings)

        yield start


def body_of(message: dict[str, Any], finish: str = "stop", **more: Any) -> Answer:
    choice = {"index": 0, "finish_reason": finish, "message": message}
    return raw(json.dumps({"choices": [choice], **more}))


def test_the_request_goes_over_the_wire_as_it_was_trained(serve: Serve):
    server, chat = serve(reply())
    assert chat(ask()).text == reply()
    chat(ChatRequest(messages("remove the lamp"), (encoded(photo(), "JPEG"),), schema=SCHEMA))
    free, held = server.bodies
    (turn,) = free["messages"]
    picture, text = turn["content"]
    assert (turn["role"], picture["type"]) == ("user", "image_url")
    assert text == messages("remove the lamp")[0]["content"][1]
    assert sent_image(free).format == "PNG"
    assert ImageChops.difference(sent_image(free), photo()).getbbox() is None
    assert (free["model"], free["temperature"], free["seed"]) == ("m", 0.0, 0)
    assert free["max_completion_tokens"] == MAX_TOKENS
    assert "response_format" not in free
    # an encoded image is sent as it is
    assert held["messages"][0]["content"][0]["image_url"]["url"].startswith("data:image/jpeg;base64,")
    form = {"name": "answer", "strict": True, "schema": SCHEMA}
    assert held["response_format"] == {"type": "json_schema", "json_schema": form}


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (body_of({"content": None}), Completion("")),
        (body_of({"content": None, "refusal": "I won't."}), Completion("", refusal="I won't.")),
        (body_of({"content": ""}, "content_filter"), Completion("", refusal="content filter")),
        (body_of({"content": "[1, 2"}, "length"), Completion("[1, 2", cut_off=True)),
        (body_of({"content": "\n"}), Completion("\n")),
        (body_of({"content": "a\ud800b"}), Completion("a?b")),
        (body_of({"content": [{"type": "text", "text": "a"}, {"type": "output_text", "text": "b"}]}), Completion("ab")),
        (body_of({"content": [{"type": "thinking", "thinking": [{"text": "no"}]}, "yes"]}), Completion("yes")),
        (body_of({"content": [{"type": "thinking", "thinking": "no"}]}), Completion("", only_thoughts=True)),
        (body_of({"content": [{"type": "refusal", "refusal": "No."}]}), Completion("", "No.")),
        (body_of({"content": "[1"}, "max_tokens"), Completion("[1", cut_off=True)),
        *(
            (body_of({"content": content, name: "Hm."}), Completion(content or "", only_thoughts=not content))
            for content in ("yes", None, "")
            for name in ("reasoning_content", "reasoning")
        ),
        (
            body_of({"content": "yes"}, model="m-2024", usage={"prompt_tokens": 812, "completion_tokens": 31}),
            Completion("yes", model="m-2024", prompt_tokens=812, completion_tokens=31),
        ),
        (body_of({"content": "yes"}, usage={"prompt_tokens": True, "completion_tokens": "31"}), Completion("yes")),
        (body_of({"content": "yes"}, usage=None, model=None), Completion("yes")),
    ],
)
def test_a_completion_says_how_it_ended_and_what_it_took(serve: Serve, answer: Answer, wanted: Completion):
    found = serve(answer)[1](ask())
    assert found == wanted == Completion.from_dict(json.loads(json.dumps(found.as_dict())) | {"other": 1})


@pytest.mark.parametrize(
    ("completion", "words"),
    [
        (Completion("", refusal="I won't."), "declined: I won't."),
        (Completion("", cut_off=True, only_thoughts=True), r"cut off at 2,048 tokens; raise max_tokens"),
        (Completion("", only_thoughts=True), "as reasoning"),
        (Completion("odd"), "^$"),
    ],
)
def test_a_reply_without_an_answer_says_why(completion: Completion, words: str):
    assert re.search(words, completion.flaw(2048))


def test_the_key_comes_from_the_environment_and_stays_out_of_messages_replies_and_logs(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    server, chat = serve(completion(f"Bearer {KEY}"), error(400, f"why {KEY}?"), error(401, f"no {KEY}"))
    assert chat(ask()).text == "Bearer ***"
    with pytest.raises(RequestRejected, match=r"why \*\*\*\?") as refused:
        chat(ask())
    with pytest.raises(ChatError, match=r"OPENAI_API_KEY.*HTTP 401") as wrong:
        chat(ask())
    assert server.log[0].headers["authorization"] == f"Bearer {KEY}"
    own = [record.getMessage() for record in caplog.records if not record.name.startswith(("openai", "httpcore"))]
    assert KEY not in str(refused.value) + str(wrong.value) + "".join(own)
    monkeypatch.setenv("OPENAI_API_KEY", "“sk-123”")
    with pytest.raises(ChatError, match="OPENAI_API_KEY"):
        make("openai:gpt-4o")


def test_a_failing_server_is_asked_again_and_a_long_wait_is_reported(serve: Serve):
    error_in_200 = '{"error": {"message": "Provider returned error", "code": 502}}'
    damaged = (
        error_in_200,
        '{"choices": [{"finish_reason": "error"}]}',
        '{"choices": []}',
        '{"choices": {}}',
        "[]",
        "1",
        '{"choices": ["text"]}',
        "<html>bad gateway</html>",
    )
    warnings: list[str] = []
    troubles = [error(500), error(429, Retry_After="1"), *map(raw, damaged)]
    server, chat = serve(*troubles, "done", attempts=11, backoff=0.001, on_warning=warnings.append)
    assert chat(ask()).text == "done"
    assert len(server.bodies) == 11
    (line,) = warnings
    assert server.url in line
    assert "HTTP 429" in line
    assert line.endswith(" 1 s")


def test_a_server_that_is_down_slow_or_no_model_is_one_line_after_bounded_attempts(serve: Serve):
    server, chat = serve(raw("<html>bad gateway</html>"), attempts=3)
    with pytest.raises(TransientError, match=r" 3 attempts.*'<html>bad"):
        chat(ask())
    assert len(server.bodies) == 3
    down = make(f"openai:http://127.0.0.1:{free_port()}/v1#m", attempts=2, backoff=0.01)
    with pytest.raises(TransientError, match=r" 2 attempts.*Connection refused") as refused:
        down(ask())
    assert "\n" not in str(refused.value)
    with pytest.raises(TransientError, match="timed out"):
        serve(lambda body, number: slow(1.0), attempts=1, timeout=0.2)[1](ask())


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        *((error(status, "odd one"), ChatError, rf"odd one \(HTTP {status}\)") for status in (401, 402)),
        *((error(status, "odd one"), RequestRejected, rf"odd one \(HTTP {status}\)") for status in (403, 404)),
        (error(429, "no credit", code="insufficient_quota"), ChatError, "no credit left"),
        (error(400, "maximum context length is 4096 tokens, max_tokens is 2048"), RequestRejected, "context length"),
        (error(400, "the images are too odd"), RequestRejected, "too odd"),
        (error(413), RequestRejected, "too large"),
        (raw('{"error": {"message": "odd one", "code": 400}}'), RequestRejected, "odd one"),
        (raw('{"error": {"message": "odd one", "code": 401}}'), ChatError, "OPENAI_API_KEY was not accepted: odd one"),
        (error(400, "flagged", code="content_filter"), RequestRejected, "flagged"),
        (error(403, "Your input was flagged for violence."), RequestRejected, "flagged"),
        (error(400, "filtered due to Azure's content management policy"), RequestRejected, "policy"),
        (error(403, "the prompt violates our policy"), RequestRejected, "policy"),
        (error(400, "Input may contain inappropriate content, policy 7"), RequestRejected, "policy"),
    ],
)
def test_what_another_attempt_cannot_mend_is_not_asked_again(
    serve: Serve, answer: Answer, kind: type[ChatError], words: str
):
    server, chat = serve(answer)
    with pytest.raises(ChatError, match=words) as failed:
        chat(ask(schema=SCHEMA))
    assert type(failed.value) is kind
    assert getattr(failed.value, "filtered", False) == (words in ("flagged", "policy"))
    assert len(server.bodies) == 1


def test_a_server_that_takes_none_of_the_first_requests_ends_the_run(serve: Serve):
    missing, flagged = error(404, "no endpoint for images"), error(403, "flagged for violence")
    rejected = [RequestRejected] * (MAX_REJECTED_AT_START - 1)
    for answers, kinds in (
        ([missing], [*rejected, ChatError]),
        ([flagged], [*rejected, RequestRejected, RequestRejected]),
        (["done", missing], [*rejected, RequestRejected, RequestRejected]),
    ):
        chat = serve(*answers)[1]
        if answers[0] == "done":
            chat(ask())
        for kind in kinds:
            with pytest.raises(ChatError, match=r"no endpoint for images|flagged for violence") as failed:
                chat(ask())
            assert type(failed.value) is kind


def said(message: str, **more: Any) -> str:
    return json.dumps({"error": {"message": message, **more}})


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('{"error": {"message": "too long", "param": "seed", "code": null}}', "too long (seed)"),
        ('{"object": "error", "message": "too long", "code": 400}', "too long"),
        ('{"error": "too long"}', "too long"),
        ('{"error": true, "message": "too long"}', "too long"),
        ('{"status": 400, "error": "Bad Request", "message": "too long"}', "Bad Request: too long"),
        ('{"errors": [{"message": "too long"}, "too wide"]}', "too long; too wide"),
        ('[{"error": {"code": 400, "message": "too long", "status": "INVALID_ARGUMENT"}}]', "too long"),
        ('{"error": {"message": "Provider failed", "metadata": {"raw": "too long"}}}', "Provider failed: too long"),
        (said("Provider failed", metadata={"raw": said("too long", param="seed")}), "Provider failed: too long (seed)"),
        ('{"error": "{too long"}', "{too long"),
        ('{"detail": "Not Found"}', "Not Found"),
        ('{"detail": [{"loc": ["body", "seed"], "msg": "not permitted"}]}', "not permitted (body, seed)"),
        ('{"message": {"detail": [{"loc": ["body", "seed"], "msg": "no"}]}}', "no (body, seed)"),
        ('{"status": 7}', '{"status": 7}'),
        ("upstream connect error", "upstream connect error"),
        ("<html><style>b {}</style><h1>Bad &amp; gone</h1></html>", "Bad & gone"),
        ("[" * 20_000, "[" * MAX_TEXT),
        ("", ""),
    ],
)
def test_the_errors_of_all_servers_are_read(body: str, message: str):
    assert " ".join(read_error(body)[0].split()) == message


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (said("Unsupported value: 'temperature' does not support 0.7 with this model."), "temperature"),
        (said("Bad value.", param="temperature"), "temperature"),
        (said("Provider failed", metadata={"raw": said("`temperature` is deprecated for this model.")}), "temperature"),
        (said("Unrecognized request argument supplied: max_completion_tokens"), "max_completion_tokens"),
        ('{"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}', "seed"),
        ('{"message": {"detail": [{"loc": ["body", "max_completion_tokens"], "msg": "no"}]}}', "max_completion_tokens"),
        ("{\"error\": \"'response_format.type' must be 'text'\"}", "response_format"),
        (said("guided decoding is off"), "response_format"),
        (said('Invalid JSON payload. Unknown name "seed": Cannot find field.'), "seed"),
        ("1 validation error\nseed\n  Extra inputs are not permitted [input_value={'temperature': 0}]", "seed"),
        # the request once more, in the server's words
        ('{"detail": [{"loc": ["body", "messages", 0, "seed"], "msg": "not permitted here"}]}', ""),
        ('{"detail": [{"loc": ["body", "messages"], "msg": "no image", "input": {"temperature": 0.0}}]}', ""),
        (said("{'temperature': 0.0, 'seed': 0} is not supported"), ""),
        (said('The prompt "raise the temperature of the light" is not allowed.'), ""),
        (said("The prompt 'it isn't the seed' is not allowed."), ""),
        (said("I see a seed and the temperature of the light. This image is not supported."), ""),
        # the value is to blame
        (said("max_completion_tokens is too large: 2048. This model supports at most 1024.", param="max_tokens"), ""),
        (said("This model's maximum context length is 4096, max_completion_tokens is not supported above"), ""),
        (said("max_completion_tokens must be <= 1024"), ""),
        (said("", code="bad"), ""),
    ],
)
def test_a_parameter_is_given_up_only_where_the_server_refuses_it(body: str, name: str):
    assert refused_parameter(body, dict.fromkeys(SENT)) == name


def test_a_parameter_that_the_server_does_not_take_is_left_out_from_then_on(serve: Serve):
    def picky(body: dict[str, Any], number: int) -> Any:
        unknown = next((name for name in ("temperature", "max_completion_tokens") if name in body), None)
        return error(400, f"Unsupported parameter: '{unknown}'") if unknown else "done"

    warnings: list[str] = []
    server, chat = serve(picky, on_warning=warnings.append)
    assert [chat(ask()).text, chat(ask()).text] == ["done", "done"]
    assert len(server.bodies) == 4
    assert server.bodies[-1]["max_tokens"] == MAX_TOKENS
    first, second = warnings
    assert "temperature" in first
    assert "max_completion_tokens" in second


def test_a_schema_that_the_server_does_not_take_is_spelled_out_in_the_text(serve: Serve):
    def picky(body: dict[str, Any], number: int) -> Any:
        return error(422, "guided decoding is off") if "response_format" in body else "{}"

    server, chat = serve(picky)
    assert [chat(ask(schema=SCHEMA)).text, chat(ask(schema=SCHEMA)).text, chat(ask()).text] == ["{}"] * 3
    assert len(server.bodies) == 4
    for body in server.bodies[1:3]:
        picture, question, form = body["messages"][0]["content"]
        assert picture["type"] == "image_url"
        assert question == messages("remove the lamp")[0]["content"][1]
        assert json.dumps(SCHEMA) in form["text"]
    assert len(server.bodies[-1]["messages"][0]["content"]) == 2


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({}, "", 0),
        ({"retry-after": "7"}, "", 7),
        ({"retry-after": "86400"}, "", MAX_RETRY_AFTER),
        ({"retry-after": "Wed, 21 Oct 2099 07:28:00 GMT"}, "", MAX_RETRY_AFTER),
        *(({"retry-after": value}, "", 0) for value in ("soon", "-3", "nan", "Wed, 21 Oct 2015 07:28:00 GMT", "")),
        ({"retry-after-ms": "2500"}, "", 2.5),
        ({"retry-after": "1m 30s"}, "", 90),
        ({"retry-after": "1"}, '{"error": {"details": [{"retryDelay": "41s"}]}}', 41),
        ({}, said("You exceeded your quota. Please retry in 41.5s."), 41.5),
        ({}, "Rate limit reached. Please try again in 1m30s", 90),
        ({}, "please try again in 250ms", 0.25),
        ({}, "Retry after 20 seconds.", 20),
        ({}, "wait 2 minutes", 120),
        ({}, '{"retry_after": 20}', 20),
        ({}, '{"retry_after_ms": 500}', 0.5),
        ({}, "The limit will reset in 12 s", 12),
        ({}, '{"headers": {"X-RateLimit-Reset": "1741305600000"}}', 0),
        ({}, '{"reset": 4102444800}', MAX_RETRY_AFTER),
        ({}, "retry after 2026-11-28T12:00:00Z", 0),
        ({}, "try again in 2h5m", MAX_RETRY_AFTER),
        ({}, "The 3 retry servers of 5 are busy, try later", 0),
    ],
)
def test_a_rest_that_the_server_asks_for_is_read_wherever_it_stands(headers: Any, body: str, seconds: float):
    assert retry_after(headers, body) == pytest.approx(seconds)


def test_closing_ends_the_wait_for_another_attempt(serve: Serve):
    server, chat = serve(error(503, Retry_After="250"))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(chat, ask())
        while not server.bodies:
            threading.Event().wait(0.01)
        chat.close()
        assert isinstance(waiting.exception(20), TransientError)


def test_many_threads_share_one_chat(serve: Serve):
    _, chat = serve(lambda body, number: error(503) if number % 3 == 0 else str(body["seed"]), attempts=20)
    with ThreadPoolExecutor(12) as pool:
        texts = list(pool.map(lambda seed: chat(ask(seed=seed)).text, range(12)))
    assert texts == list(map(str, range(12)))


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        *((spec, "wanted openai:BASE_URL") for spec in ("", "gpt-4o", "claude:x", "openai:", "local:")),
        ("openai:http://me:secret@127.0.0.1:8000/v1", r"'openai:http://127\.0\.0\.1:8000/v1' names no model"),
        ("openai:http://127.0.0.1:8000/v1#", "names no model"),
        ("openai:127.0.0.1#m", "'127.0.0.1' is not an address"),
        ("openai:http://127.0.0.1:1/v1,http://me:secret@h/v1#m", r"'http://127.0.0.1:1/v1,http://h/v1' names several"),
        ("openai:#gpt-4o", "OPENAI_API_KEY"),
        ("local:/nowhere/at/all", "/nowhere/at/all: config.json is missing"),
    ],
)
def test_a_spec_that_names_no_model_says_what_is_wanted(spec: str, reason: str):
    with pytest.raises(ChatError, match=reason) as refused:
        make(spec)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("spec", "variable", "name", "address"),
    [
        ("openai:http://me:secret@h:1/v1#Qwen/Q-7B", "", "openai:http://h:1/v1#Qwen/Q-7B", "http://h:1/v1"),
        ("openai:gpt-4o", "", "openai:gpt-4o", "api.openai.com"),
        ("openai:https://api.openai.com/v1#gpt-4o", "", "openai:gpt-4o", "api.openai.com"),
        ("openai:gpt-4o", "https://api.openai.com/v1/", "openai:gpt-4o", "api.openai.com"),
        ("openai:gpt-4o", "http://me:se@cret@h/v1", "openai:http://h/v1#gpt-4o", "http://h/v1"),
        ("openai:http://h/v1?key=secret#m", "", "openai:http://h/v1?key=***#m", "http://h/v1?key=***"),
        ("openai:http://other/v1#gpt-4o", "http://h/v1", "openai:http://other/v1#gpt-4o", "http://other/v1"),
    ],
)
def test_a_name_says_which_server_and_holds_no_password(
    spec: str, variable: str, name: str, address: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", variable)
    chat: Any = make(spec)
    assert (chat.name, chat.address, chat.local) == (name, address, False)


def test_importing_the_chats_loads_no_client_and_no_image_library():
    code = "import sys, ier1_plugin.chat; print({'PIL', 'tenacity', 'openai'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True)
    assert found.stdout.strip() == "set()"
