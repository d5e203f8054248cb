"""What the annotator does when its server is wrong, dead or of another dialect; what it says, and what it hides."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from itertools import islice
from pathlib import Path

import pytest
from fakes.annotator_runs import KEY, LAMP, PHOTO, environment, items, lamps, lines, run, settings
from fakes.annotator_server import (
    Answer,
    Asked,
    completion,
    error,
    honest,
    serve,
)

from data_prep.annotation import annotation_prompt
from data_prep.annotator import AnnotatorError, AnnotatorSettings, annotate
from data_prep.vlm import Server
from ier1_plugin.chat.server import MAX_RETRY_AFTER, TransientError, retry_after
from ier1_plugin.runs.workers import WINDOW

__all__ = ["environment"]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7), ("0.5", 0.5), ("-3", 0), ("", 0), ("soon", 0), ("nan", 0), ("inf", MAX_RETRY_AFTER), ("9999", 300)],
)
def test_retry_after_is_read_in_seconds(value: str, seconds: float):
    assert retry_after({"retry-after": value}) == seconds


def test_retry_after_is_read_as_a_date():
    in_a_minute = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=60), usegmt=True)
    assert 0 < retry_after({"retry-after": in_a_minute}) <= 60
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0


def test_the_wait_that_a_server_asks_for_is_what_the_retry_waits_for():
    with serve(lambda _: error(429, headers={"Retry-After": "17"})) as annotator:
        server = Server("fake-vlm", annotator.url, 5.0, {}, print)
        with pytest.raises(TransientError) as raised:
            server.ask(lambda _: '"""\nx\n"""', PHOTO, temperature=0.0, seed=0)
    assert raised.value.wait == 17
    assert str(raised.value).endswith(": HTTP 429")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (error(401, f"Incorrect API key provided: {KEY}"), "OPENAI_API_KEY was not accepted"),
        (error(402, "Insufficient Balance"), "no credit left"),
        (error(403, "no"), "no access to this model"),
        (error(404, "The model `fake-vlm` does not exist"), "no such model or address (HTTP 404, model fake-vlm)"),
        (error(429, "You exceeded your current quota", code="insufficient_quota"), "no credit left"),
    ],
)
def test_what_no_retry_can_cure_stops_the_run_with_one_line(answer: Answer, words: str, tmp_path: Path):
    with serve(lambda _: answer) as server, pytest.raises(AnnotatorError) as raised:
        run(server, tmp_path, lamps(100), concurrency=2)
    message = str(raised.value)
    assert words in message
    assert "\n" not in message
    assert KEY not in message
    # the requests that were under way when the first answer came
    assert len(server.log) <= 2 * WINDOW


def test_what_was_answered_before_the_run_stopped_is_not_asked_again(tmp_path: Path):
    good = threading.Event()
    with serve(lambda asked: honest(asked) if good.is_set() or int(asked.request[-2:]) < 30 else error(401)) as server:
        with pytest.raises(AnnotatorError):
            run(server, tmp_path, items(*(f"remove the lamp {i:02}" for i in range(40))))
        answered = {line["key"] for line in lines(tmp_path)}
        assert answered
        good.set()
        before = len(server.log)
        results = run(server, tmp_path, items(*(f"remove the lamp {i:02}" for i in range(40))))
        assert len(server.log) - before == 40 - len(answered)
    assert set(results.values()) == {LAMP}


def test_a_server_that_is_not_there_stops_the_run_and_rejects_nobody(tmp_path: Path):
    with serve() as server:
        pass
    results = annotate(lamps(100), settings(server, max_attempts=2), tmp_path / "replies.jsonl")
    with pytest.raises(AnnotatorError, match=r"does not answer .*refused.*; is it running, and is --base-url right\?"):
        next(results)


def test_a_server_that_dies_on_the_way_costs_no_row(tmp_path: Path):
    down = threading.Event()
    with serve(lambda asked: error(503) if down.is_set() else honest(asked)) as server:
        results = annotate(lamps(50), settings(server, max_attempts=2), tmp_path / "replies.jsonl")
        done = dict(islice(results, 10))
        down.set()
        with pytest.raises(
            AnnotatorError,
            match=r"has stopped answering \(http\S+: HTTP 503\); start it again and run the same",
        ):
            done.update(results)
        assert set(done.values()) == {LAMP}
        down.clear()
        assert set(run(server, tmp_path, lamps(50)).values()) == {LAMP}
        assert set(Counter(line["key"] for line in lines(tmp_path)).values()) == {1}


@pytest.mark.parametrize("concurrency", [1, 4])
def test_an_item_that_the_server_always_fails_on_is_rejected_and_stops_nobody(concurrency: int, tmp_path: Path):
    def respond(asked: Asked) -> Answer:
        return error(500) if "poison" in asked.request else honest(asked)

    with serve(respond) as server:
        work = items("poison", "remove the lamp", "another poison")
        results = run(server, tmp_path, work, concurrency=concurrency, max_attempts=3)
    reason = f"the annotator gave no answer: {server.url}: HTTP 500 (last of 3 attempts)"
    assert results == {"row-0": reason, "row-1": LAMP, "row-2": reason}


def test_a_request_that_the_server_will_not_take_is_rejected_at_once(tmp_path: Path):
    def respond(asked: Asked) -> Answer:
        return error(400, "image cannot be decoded") if "odd" in asked.request else honest(asked)

    with serve(respond) as server:
        results = run(server, tmp_path, items("remove the lamp", *(f"odd {i}" for i in range(9))), concurrency=1)
    assert results.pop("row-0") == LAMP
    assert len(results) == 9
    assert all("refused the request" in str(r) and "image cannot be decoded" in str(r) for r in results.values())
    assert len(server.log) == 10


def test_a_server_that_takes_no_request_at_all_stops_the_run(tmp_path: Path):
    with serve(lambda _: error(400, "this model has no eyes")) as server:
        with pytest.raises(AnnotatorError, match=r"takes none of the requests: .*no eyes.*can fake-vlm see images\?"):
            run(server, tmp_path, lamps(100), concurrency=1)
        assert 5 <= len(server.log) <= 5 + WINDOW


def test_a_server_without_json_schema_gets_it_in_the_prompt_and_is_told_about_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    def respond(asked: Asked) -> Answer:
        if asked.body["response_format"]["type"] == "json_schema":
            return error(400, "This response_format type is unavailable now")
        return honest(asked)

    with serve(respond) as server:
        assert set(run(server, tmp_path, lamps(40)).values()) == {LAMP}
    refused = [asked for asked in server.log if asked.body["response_format"]["type"] == "json_schema"]
    assert 1 <= len(refused) <= 4
    asked = server.log[-1]
    assert asked.body["response_format"] == {"type": "json_object"}
    assert asked.body["messages"][0]["content"][1]["text"] == annotation_prompt(asked.request, schema_in_text=True)
    assert '"additionalProperties": false' in annotation_prompt("x", schema_in_text=True)
    told = [line for line in capsys.readouterr().err.splitlines() if "refused json_schema" in line]
    assert len(told) == 1


def test_parameters_that_a_model_does_not_know_are_left_out_from_then_on(tmp_path: Path):
    def respond(asked: Asked) -> Answer:
        for name in ("temperature", "seed"):
            if name in asked.body:
                return error(400, f"Unsupported value: '{name}' is not supported with this model.")
        return honest(asked)

    with serve(respond) as server:
        assert set(run(server, tmp_path, lamps(9), concurrency=1).values()) == {LAMP}
    assert len(server.log) == 9 + 2
    assert "json_schema" in server.log[-1].body["response_format"]


def test_the_key_is_sent_and_is_found_nowhere_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)

    def respond(asked: Asked) -> Answer:
        if asked.nth == 0:
            return completion(f"your key is {KEY}")
        return error(400, f"{KEY} is a bad key") if "odd" in asked.request else honest(asked)

    with serve(respond) as server:
        results = run(server, tmp_path, items("remove the lamp", "odd"))
    assert server.log[0].headers["authorization"] == f"Bearer {KEY}"
    assert "your key is [key]" in (tmp_path / "replies.jsonl").read_text()
    everything = (tmp_path / "replies.jsonl").read_text() + str(results) + "".join(capsys.readouterr()) + caplog.text
    assert KEY not in everything


def test_a_local_server_needs_no_key_and_openai_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    with serve() as server:
        assert run(server, tmp_path, items("remove the lamp")) == {"row-0": LAMP}
    with pytest.raises(AnnotatorError, match="OPENAI_API_KEY is not set: export it, or name a server by its address"):
        next(annotate(lamps(1), AnnotatorSettings("gpt"), tmp_path / "other.jsonl"))


@pytest.mark.parametrize("key", ["\u201csk-abc\u201d", "sk abc", "sk-abc\nsk-abc"])
def test_a_key_that_can_not_be_one_is_told_and_not_shown(key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(AnnotatorError, match="OPENAI_API_KEY holds a character that no key has") as raised:
        next(annotate(lamps(1), AnnotatorSettings("m", "http://127.0.0.1:9/v1"), tmp_path / "replies.jsonl"))
    assert "abc" not in str(raised.value)


@pytest.mark.parametrize("address", ["localhost:8000", "ftp://x/v1", "http://"])
def test_an_address_that_is_none_is_told_at_once(address: str, tmp_path: Path):
    with pytest.raises(AnnotatorError, match=r"wanted one such as http://127.0.0.1:8000/v1"):
        next(annotate(lamps(1), AnnotatorSettings("m", address), tmp_path / "replies.jsonl"))


def test_a_password_in_the_address_is_not_shown(tmp_path: Path):
    with serve() as server:
        pass
    address = server.url.replace("http://", "http://ann:s3cret@")
    with pytest.raises(AnnotatorError) as raised:
        next(annotate(lamps(1), AnnotatorSettings("m", address, max_attempts=1, backoff=0), tmp_path / "r.jsonl"))
    assert server.url in str(raised.value)
    assert "s3cret" not in str(raised.value)
