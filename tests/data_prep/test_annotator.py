"""The annotator against a real HTTP server on the loopback whose model is fake."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

import pytest
from fakes.annotator_runs import LAMP, PHOTO, environment, first_time, items, lamps, lines, run, settings
from fakes.annotator_server import (
    TROUBLES,
    Answer,
    Asked,
    completion,
    gold_of,
    honest,
    serve,
)
from PIL import Image

from data_prep.annotation import annotation_prompt
from data_prep.annotator import AnnotatorError, AnnotatorSettings, Item, annotate
from ier1_plugin.runs.workers import WINDOW
from ier1_plugin.task.actions import ACTIONS
from ier1_plugin.task.schema import Decomposition

__all__ = ["environment"]


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
    assert reason.startswith("the annotator gave no usable reply: not JSON (")
    assert reason.endswith("'Sure! I would remove it.' (last of 4 attempts)")
    assert len(server.log) == 4


def test_a_refusal_is_asked_about_three_times_and_then_is_the_reason(tmp_path: Path):
    with serve(lambda _: completion(None, refusal="I can't help with that.")) as server:
        results = run(server, tmp_path, items("remove the lamp"))
    assert results == {"row-0": 'the annotator refused: "I can\'t help with that." (last of 3 attempts)'}
    assert len(server.log) == 3


def test_a_reply_of_the_content_filter_is_a_refusal(tmp_path: Path):
    with serve(lambda _: completion("", finish_reason="content_filter")) as server:
        assert "the annotator refused" in str(run(server, tmp_path, items("remove the lamp"))["row-0"])
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
        assert "the annotator refused" in str(run(server, tmp_path, items("remove the lamp"), votes=3)["row-0"])
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


@pytest.mark.parametrize("wrong", [{"concurrency": 0}, {"votes": 0}, {"max_attempts": 0}, {"timeout": 0}])
def test_settings_out_of_range_are_refused(wrong: dict[str, int]):
    with pytest.raises(AnnotatorError, match=next(iter(wrong))):
        AnnotatorSettings("m", **wrong)  # pyright: ignore[reportArgumentType]


def test_waits_can_be_set_in_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("IER1_ANNOTATOR_TIMEOUT", "300")
    monkeypatch.setenv("IER1_ANNOTATOR_BACKOFF", "0.5")
    assert (AnnotatorSettings("m").timeout, AnnotatorSettings("m").backoff) == (300, 0.5)
    monkeypatch.setenv("IER1_ANNOTATOR_TIMEOUT", "soon")
    with pytest.raises(AnnotatorError, match="IER1_ANNOTATOR_TIMEOUT='soon': wanted a number of seconds"):
        AnnotatorSettings("m")


def test_the_bar_shows_rate_tokens_and_retries(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with serve(first_time(TROUBLES["500"])) as server:
        run(server, tmp_path, lamps(3), total=3)
    shown = capsys.readouterr().err
    assert "3/3" in shown
    assert "rows/s" in shown
    assert "tokens=2,190" in shown
    assert "retries=3" in shown
