"""The chats: real HTTP to loopback servers with faults, and real weights in a folder."""

from __future__ import annotations

import logging
import threading
from functools import partial
from typing import Any

import pytest
from fakes.chain_helpers import ask, sent_image
from fakes.chat_fakes import chat_server, completion, error, free_port, photo, reply, slow
from PIL import ImageChops
from werkzeug import Response

from ier1_plugin import chat as chat_module
from ier1_plugin.chat import ChatError, RequestRejected, TransientError, make_chat, openai_chat
from ier1_plugin.task.rows import messages

KEY = "sk-test-0123456789abcdef"
QUICK: dict[str, Any] = {"backoff": 0.01, "timeout": 20.0}


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def test_the_question_goes_over_the_wire_as_it_was_trained():
    with chat_server(lambda body, number: reply()) as server:
        assert openai_chat("decomposer", [server.url])(ask()) == reply()
    body = server.bodies[0]
    picture, text = body["messages"][0]["content"]
    assert len(body["messages"]) == 1
    assert body["messages"][0]["role"] == "user"
    assert picture["type"] == "image_url"
    assert text == messages("remove the lamp")[0]["content"][1]
    assert ImageChops.difference(sent_image(body), photo()).getbbox() is None
    assert (body["model"], body["temperature"], body["seed"]) == ("decomposer", 0.0, 0)
    assert "response_format" not in body


def test_a_schema_becomes_structured_output():
    schema = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    with chat_server(lambda body, number: "{}") as server:
        openai_chat("m", [server.url])(ask(schema=schema))
    assert server.bodies[0]["response_format"]["json_schema"]["schema"] == schema


def test_the_key_comes_from_the_environment_and_stays_out_of_messages(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    with (
        chat_server(lambda body, number: error(400, f"what do you want with {KEY}?")) as server,
        pytest.raises(RequestRejected) as refused,
    ):
        openai_chat("m", [server.url])(ask())
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert KEY not in str(refused.value)
    assert "[key]" in str(refused.value)


def test_a_bad_moment_is_asked_again():
    troubles = [
        error(500),
        error(429, Retry_After="0"),
        Response("<html>bad gateway</html>", 200, mimetype="text/html"),
        Response('{"choices": []}', mimetype="application/json"),
    ]
    with chat_server(lambda body, number: [*troubles, completion("done")][number]) as server:
        assert openai_chat("m", [server.url], **QUICK)(ask()) == "done"
    assert len(server.bodies) == 5


def test_attempts_are_bounded_and_the_last_reason_is_told():
    with (
        chat_server(lambda body, number: Response("<html>bad gateway</html>", mimetype="text/html")) as server,
        pytest.raises(
            TransientError, match=r"no answer in 3 attempts, the last time: .*sent no completion but '<html>"
        ),
    ):
        openai_chat("m", [server.url], attempts=3, **QUICK)(ask())
    assert len(server.bodies) == 3


def test_a_server_that_is_down_gives_one_line():
    url = f"http://127.0.0.1:{free_port()}/v1"
    with pytest.raises(TransientError, match=r"no answer in 2 attempts.*Connection refused") as down:
        openai_chat("m", [url], attempts=2, **QUICK)(ask())
    assert "\n" not in str(down.value)


def test_a_server_that_is_too_slow_is_given_up():
    with chat_server(lambda body, number: slow(1.0)) as server, pytest.raises(TransientError, match="timed out"):
        openai_chat("m", [server.url], attempts=1, backoff=0.0, timeout=0.2)(ask())


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_what_no_question_can_mend_is_not_asked_again(status: int):
    with (
        chat_server(lambda body, number: error(status)) as server,
        pytest.raises(ChatError, match=f"HTTP {status}") as hopeless,
    ):
        openai_chat("m", [server.url], **QUICK)(ask())
    assert not isinstance(hopeless.value, RequestRejected | TransientError)
    assert len(server.bodies) == 1


def test_a_question_that_is_too_long_is_refused_alone():
    with (
        chat_server(lambda body, number: error(400, "maximum context length is 4096 tokens")) as server,
        pytest.raises(RequestRejected, match="maximum context length"),
    ):
        openai_chat("m", [server.url], **QUICK)(ask())
    assert len(server.bodies) == 1


def test_a_parameter_that_the_server_does_not_take_is_left_out_and_told():
    def picky(body: dict[str, Any], number: int) -> Any:
        unknown = next((name for name in ("temperature", "max_completion_tokens") if name in body), None)
        return error(400, f"Unsupported parameter: '{unknown}'") if unknown else "done"

    told: list[str] = []
    with chat_server(picky) as server:
        chat = openai_chat("m", [server.url], on_warning=told.append, **QUICK)
        assert [chat(ask()), chat(ask())] == ["done", "done"]
    assert len(server.bodies) == 4
    assert server.bodies[-1]["max_tokens"] == chat_module.MAX_TOKENS
    assert [line.partition(" ")[2] for line in told] == [
        f"refused {name}: going on without it" for name in ("temperature", "max_completion_tokens")
    ]


def test_a_schema_that_is_refused_is_never_left_out():
    with (
        chat_server(lambda body, number: error(400, "response_format is not supported")) as server,
        pytest.raises(RequestRejected, match="response_format"),
    ):
        openai_chat("m", [server.url], **QUICK)(ask(schema={"type": "object"}))


def test_a_refusal_is_a_reply():
    with chat_server(lambda body, number: completion(None, refusal="I won't.")) as server:
        assert openai_chat("m", [server.url])(ask()) == "I won't."


def test_a_reply_holds_nothing_that_utf8_cannot_carry():
    with chat_server(lambda body, number: "a\ud800b") as server:
        assert openai_chat("m", [server.url])(ask()) == "a?b"


def test_several_servers_share_the_work_evenly():
    counts = [0, 0, 0]

    def count(index: int, body: dict[str, Any], number: int) -> str:
        counts[index] += 1
        return "done"

    with (
        chat_server(partial(count, 0)) as first,
        chat_server(partial(count, 1)) as second,
        chat_server(partial(count, 2)) as third,
    ):
        chat = openai_chat("m", [first.url, second.url, third.url])
        for _ in range(9):
            chat(ask())
    assert counts == [3, 3, 3]


def test_a_dead_server_is_skipped_while_another_answers():
    with chat_server(lambda body, number: error(500)) as broken, chat_server(lambda body, number: "done") as sound:
        dead = f"http://127.0.0.1:{free_port()}/v1"
        chat = openai_chat("m", [dead, broken.url, sound.url], attempts=3, **QUICK)
        assert [chat(ask()) for _ in range(6)] == ["done"] * 6
    assert len(broken.bodies) == 1


def test_many_dead_servers_do_not_use_up_the_attempts():
    with chat_server(lambda body, number: "done") as sound:
        dead = [f"http://127.0.0.1:{free_port()}/v1" for _ in range(6)]
        assert openai_chat("m", [*dead, sound.url], attempts=1, **QUICK)(ask()) == "done"


def test_a_server_may_fail_for_ever_without_harm_to_the_count():
    with chat_server(lambda body, number: error(500)) as server:
        chat = openai_chat("m", [server.url], attempts=1, backoff=0.0)
        chat._pool._failures = dict.fromkeys(chat._pool._endpoints, 5000)
        with pytest.raises(TransientError):
            chat(ask())


def test_servers_that_rest_are_asked_again_when_all_rest():
    with chat_server(lambda body, number: error(500) if number < 2 else completion("done")) as server:
        assert openai_chat("m", [server.url], **QUICK)(ask()) == "done"


def test_a_wait_that_a_person_would_wonder_about_is_told():
    told: list[str] = []
    busy = error(429, Retry_After="1")
    with chat_server(lambda body, number: busy if number == 0 else completion("done")) as server:
        assert openai_chat("m", [server.url], on_warning=told.append, **QUICK)(ask()) == "done"
    assert told == [f"{server.url}: HTTP 429; asking again in 1 s"]


def test_a_busy_server_gets_nothing_while_another_is_free():
    release = threading.Event()

    def held(body: dict[str, Any], number: int) -> str:
        release.wait(20)
        return "held"

    with chat_server(held) as stuck, chat_server(lambda body, number: "free") as free:
        chat = openai_chat("m", [stuck.url, free.url])
        first = threading.Thread(target=chat, args=(ask(),))
        first.start()
        while not stuck.bodies:
            pass
        assert [chat(ask()) for _ in range(3)] == ["free"] * 3
        release.set()
        first.join()


def test_closing_ends_the_wait_for_another_attempt():
    with chat_server(lambda body, number: error(503, Retry_After="250")) as server:
        chat = openai_chat("m", [server.url])
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


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("", "names no model; wanted openai:BASE_URL"),
        ("gpt-4o", "names no model; wanted openai:BASE_URL"),
        ("openai:http://127.0.0.1:8000/v1", "names no model"),
        ("openai:http://127.0.0.1:8000/v1#", "names no model"),
        ("openai:127.0.0.1#m", "'127.0.0.1' is no address; wanted one such as http"),
        ("openai:#gpt-4o", "OPENAI_API_KEY is not set"),
        ("local:", "names no model"),
        ("local:/nowhere/at/all", "no model in /nowhere/at/all: config.json is missing"),
    ],
)
def test_a_spec_that_names_no_model_says_what_is_wanted(spec: str, reason: str):
    with pytest.raises(ChatError, match=reason):
        make_chat(spec)


def test_a_spec_names_several_servers_and_its_name_has_no_password():
    chat: Any = make_chat("openai:http://me:secret@127.0.0.1:1/v1,http://127.0.0.1:2/v1#Qwen/Qwen2.5-VL-7B-Instruct")
    assert chat.name == "openai:http://127.0.0.1:1/v1,http://127.0.0.1:2/v1#Qwen/Qwen2.5-VL-7B-Instruct"
