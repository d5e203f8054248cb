"""The annotator against a real HTTP server on the loopback whose model is fake."""

from __future__ import annotations

import base64
import io
import json
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytest
from annotator_server import (
    TROUBLES,
    AnnotatorServer,
    Answer,
    Asked,
    Respond,
    completion,
    error,
    gold_of,
    honest,
    serve,
)
from PIL import Image

from data_prep.annotation import annotation_prompt
from data_prep.annotator import AnnotatorError, AnnotatorSettings, Item, annotate
from data_prep.pool import WINDOW
from data_prep.vlm import MAX_RETRY_AFTER, Server, Unanswered, retry_after
from ier1_plugin.actions import ACTIONS
from ier1_plugin.schema import Decomposition

KEY = "sk-test-0123456789abcdef"
LAMP = Decomposition.of(["Delete"], ["lamp"], [])


def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 24), "navy").save(buffer, "JPEG")
    return buffer.getvalue()


PHOTO = jpeg()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


def items(*requests: str) -> list[Item]:
    return [Item(f"row-{number}", request, PHOTO) for number, request in enumerate(requests)]


def lamps(number: int) -> list[Item]:
    return items(*(f"remove the lamp {i}" for i in range(number)))


def settings(server: AnnotatorServer, **changes: Any) -> AnnotatorSettings:
    return AnnotatorSettings("fake-vlm", server.url, **{"concurrency": 4, "backoff": 0, "timeout": 5, **changes})


def first_time(trouble: Callable[[Asked], Answer], times: int = 1) -> Respond:
    return lambda asked: trouble(asked) if asked.nth < times else honest(asked)


def run(server: AnnotatorServer, folder: Path, work: list[Item], **changes: Any) -> dict[str, Decomposition | str]:
    results = list(annotate(work, settings(server, **changes), folder / "replies.jsonl"))
    assert len(results) == len({key for key, _ in results})
    return dict(results)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "replies.jsonl").read_text().splitlines()]


def test_every_item_comes_back_once_with_its_gold(tmp_path: Path):
    with serve() as server:
        results = run(server, tmp_path, items("remove the lamp", "make the coat to scarlet red", "add a red car"))
    assert results["row-0"] == LAMP
    assert results["row-2"] == Decomposition.of(**gold_of("add a red car"))
    assert set(results) == {"row-0", "row-1", "row-2"}


def test_the_question_holds_the_image_then_the_prompt_and_a_strict_schema(tmp_path: Path):
    with serve() as server:
        run(server, tmp_path, items("remove the lamp"))
    body = server.log[0].body
    picture, text = body["messages"][0]["content"]
    assert picture["image_url"]["url"] == "data:image/jpeg;base64," + base64.b64encode(PHOTO).decode()
    assert text["text"] == annotation_prompt("remove the lamp")
    wanted = body["response_format"]["json_schema"]
    assert wanted["strict"] is True
    assert wanted["schema"]["properties"]["actions"]["items"]["enum"] == list(ACTIONS)
    assert (body["model"], body["temperature"], body["seed"]) == ("fake-vlm", 0.0, 0)


def test_a_png_is_sent_as_png(tmp_path: Path):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    with serve() as server:
        run(server, tmp_path, [Item("x", "remove the lamp", buffer.getvalue())])
    assert server.log[0].body["messages"][0]["content"][0]["image_url"]["url"].startswith("data:image/png;base64,")


def test_control_text_in_a_request_reaches_the_annotator_neutralised(tmp_path: Path):
    with serve() as server:
        run(server, tmp_path, items("remove <image> the lamp <|im_end|> \ud800"))
    assert server.log[0].request == "remove ‹image› the lamp ‹|im_end|› ?"


def test_the_prompt_names_every_action_with_its_meaning():
    text = annotation_prompt("x")
    assert all(f"- {name}: {meaning}\n" in text for name, meaning in ACTIONS.items())


@pytest.mark.parametrize("trouble", sorted(TROUBLES))
def test_a_bad_moment_is_followed_by_another_attempt(trouble: str, tmp_path: Path):
    with serve(first_time(TROUBLES[trouble], 2), slow=0.3) as server:
        results = run(server, tmp_path, items("remove the lamp"), timeout=0.2 if trouble == "timeout" else 5)
    assert results == {"row-0": LAMP}
    assert len(server.log) == 3


@pytest.mark.parametrize(
    "content",
    [
        "",
        None,
        "[]",
        '{"actions": ["Delete"], "subjects": ["lamp"]}',
        '{"actions": ["Delete"], "subjects": ["lamp"], "goals": [], "note": "x"}',
        '{"actions": ["Delete"], "subjects": ["lamp"], "goals": [1]}',
        '{"actions": "Delete", "subjects": ["lamp"], "goals": []}',
        '{"actions": ["delete"], "subjects": ["lamp"], "goals": []}',
        "[" * 20000,
    ],
)
def test_a_reply_that_breaks_the_schema_is_asked_for_again_with_other_sampling(content: str | None, tmp_path: Path):
    with serve(first_time(lambda _: completion(content))) as server:
        results = run(server, tmp_path, items("remove the lamp"))
    assert results == {"row-0": LAMP}
    sampling = [(asked.body["temperature"], asked.body["seed"]) for asked in server.log]
    assert sampling == [(0.0, 0), (0.7, 1000)]


def test_replies_that_stay_bad_end_in_a_reason_after_the_attempts_are_used_up(tmp_path: Path):
    with serve(TROUBLES["no JSON"]) as server:
        results = run(server, tmp_path, items("remove the lamp"), max_attempts=4)
    reason = str(results["row-0"])
    assert reason.startswith("the annotator gave no usable reply in 4 attempts, the last time: not JSON")
    assert "Sure! I would remove it." in reason
    assert len(server.log) == 4


def test_a_refusal_is_asked_about_three_times_and_then_is_the_reason(tmp_path: Path):
    with serve(lambda _: completion(None, refusal="I can't help with that.")) as server:
        results = run(server, tmp_path, items("remove the lamp"))
    assert 'it refused: "I can\'t help with that."' in str(results["row-0"])
    assert len(server.log) == 3


def test_a_reply_of_the_content_filter_is_a_refusal(tmp_path: Path):
    with serve(lambda _: completion("", finish_reason="content_filter")) as server:
        assert "it refused" in str(run(server, tmp_path, items("remove the lamp"))["row-0"])
    assert [line["outcome"] for line in lines(tmp_path)] == ["refusal"] * 3


def test_empty_goals_are_gold_and_empty_actions_are_a_rejection(tmp_path: Path):
    nothing = completion('{"actions": [], "subjects": [], "goals": []}')
    with serve(lambda asked: nothing if "thanks" in asked.request else honest(asked)) as server:
        results = run(server, tmp_path, items("remove the lamp", "thanks, all!"))
    assert results == {"row-0": LAMP, "row-1": "the annotator found no edit in the request"}
    assert len(server.log) == 2


def test_gold_phrases_are_neutralised_and_empty_ones_dropped(tmp_path: Path):
    content = '{"actions": ["Add"], "subjects": ["<image> \\ud800", " ", "!"], "goals": ["<think>"]}'
    with serve(lambda _: completion(content)) as server:
        results = run(server, tmp_path, items("add it"))
    assert results == {"row-0": Decomposition.of(["Add"], ["‹image› ?"], ["‹think›"])}


def test_a_markdown_fence_around_the_json_is_taken_off(tmp_path: Path):
    with serve(lambda asked: completion(f"```json\n{json.dumps(gold_of(asked.request))}\n```")) as server:
        assert run(server, tmp_path, items("remove the lamp")) == {"row-0": LAMP}


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
        with pytest.raises(Unanswered) as raised:
            server.ask(lambda _: '"""\nx\n"""', PHOTO, temperature=0.0, seed=0)
    assert raised.value.wait == 17
    assert str(raised.value) == "HTTP 429"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (error(401, f"Incorrect API key provided: {KEY}"), "OPENAI_API_KEY was not accepted"),
        (error(402, "Insufficient Balance"), "no credit left"),
        (error(403, "no"), "no access to this model"),
        (error(404, "The model `fake-vlm` does not exist"), "no such model or address; see --annotator and --base-url"),
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
    with pytest.raises(AnnotatorError, match=r"has stopped answering .*; start it again and run the same command"):
        next(results)


def test_a_server_that_dies_on_the_way_costs_no_row(tmp_path: Path):
    down = threading.Event()
    with serve(lambda asked: error(503) if down.is_set() else honest(asked)) as server:
        results = annotate(lamps(50), settings(server, max_attempts=2), tmp_path / "replies.jsonl")
        done = dict(islice(results, 10))
        down.set()
        with pytest.raises(AnnotatorError, match="HTTP 503"):
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
    reason = "the annotator gave no answer in 3 attempts, the last time: HTTP 500"
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
        assert len(server.log) == 5


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


def test_several_votes_are_sampled_with_temperature_and_seeds_of_their_own(tmp_path: Path):
    def respond(asked: Asked) -> Answer:
        subjects = {0: ["the lamp"], 1: ["lamp"], 2: ["sofa"]}[asked.body["seed"]]
        return completion(json.dumps({"actions": ["Delete"], "subjects": subjects, "goals": []}))

    with serve(respond) as server:
        results = run(server, tmp_path, items("remove the lamp"), votes=3)
    assert results == {"row-0": Decomposition.of(["Delete"], ["the lamp"], [])}
    assert [(a.body["temperature"], a.body["seed"]) for a in server.log] == [(0.7, 0), (0.7, 1), (0.7, 2)]
    assert [line["vote"] for line in lines(tmp_path)] == [0, 1, 2]


def test_votes_that_can_no_longer_win_are_not_paid_for(tmp_path: Path):
    with serve(lambda _: completion(None, refusal="no")) as server:
        assert "it refused" in str(run(server, tmp_path, items("remove the lamp"), votes=3)["row-0"])
    # two votes of three refused, each three times
    assert len(server.log) == 6


def endless(pulled: list[int]) -> Iterator[Item]:
    for number in count():
        pulled.append(number)
        yield Item(f"row-{number}", f"remove the lamp {number}", PHOTO)


def test_items_are_pulled_only_as_they_are_needed(tmp_path: Path):
    pulled: list[int] = []
    with serve() as server:
        results = annotate(endless(pulled), settings(server, concurrency=3), tmp_path / "replies.jsonl")
        for done, _ in enumerate(islice(results, 25), 1):
            assert len(pulled) <= done + 3 * WINDOW
        results.close()
    assert len(server.log) <= 25 + 3 * WINDOW
    # what was under way when the stream was closed has been waited for and kept
    assert len(lines(tmp_path)) == sum(server.answered.values())


def test_no_more_requests_than_allowed_are_under_way_at_a_time(tmp_path: Path):
    lock, now, most = threading.Lock(), [0], [0]

    def respond(asked: Asked) -> Answer:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        threading.Event().wait(0.02)
        with lock:
            now[0] -= 1
        return honest(asked)

    with serve(respond) as server:
        run(server, tmp_path, lamps(40), concurrency=3)
    assert 1 < most[0] <= 3


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
    with pytest.raises(AnnotatorError, match="OPENAI_API_KEY is not set: export it, or name a local server"):
        next(annotate(lamps(1), AnnotatorSettings("gpt"), tmp_path / "other.jsonl"))


@pytest.mark.parametrize("address", ["localhost:8000", "ftp://x/v1", "http://"])
def test_an_address_that_is_none_is_told_at_once(address: str, tmp_path: Path):
    with pytest.raises(AnnotatorError, match=r"wanted an address such as http://127.0.0.1:8000/v1"):
        next(annotate(lamps(1), AnnotatorSettings("m", address), tmp_path / "replies.jsonl"))


def test_a_password_in_the_address_is_not_shown(tmp_path: Path):
    with serve() as server:
        pass
    address = server.url.replace("http://", "http://ann:s3cret@")
    with pytest.raises(AnnotatorError) as raised:
        next(annotate(lamps(1), AnnotatorSettings("m", address, max_attempts=1, backoff=0), tmp_path / "r.jsonl"))
    assert server.url in str(raised.value)
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize("wrong", [{"concurrency": 0}, {"votes": 0}, {"max_attempts": 0}, {"timeout": 0}])
def test_settings_out_of_range_are_refused(wrong: dict[str, int]):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        AnnotatorSettings("m", **wrong)  # pyright: ignore[reportArgumentType]


def test_the_bar_shows_rate_tokens_and_retries(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with serve(first_time(TROUBLES["500"])) as server:
        run(server, tmp_path, lamps(3), total=3)
    shown = capsys.readouterr().err
    assert "3/3" in shown
    assert "rows/s" in shown
    assert "tokens=2,190" in shown
    assert "retries=3" in shown
