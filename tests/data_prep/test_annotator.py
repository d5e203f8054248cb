"""The annotator against a real HTTP server on the loopback whose model is fake.

Faults of HTTP are tested in tests/chat, the store of replies in tests/runs: here is what a long run makes of them.
"""

from __future__ import annotations

import base64
import json
import threading
from collections import Counter
from collections.abc import Generator, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from fakes.builder_inputs import PNG, encoded, picture
from fakes.chat_server import Answer, Asked, ChatServer, completion, error, gold_of, honest, serve

from data_prep import annotator
from data_prep.annotator import EXPORT, REPLIES, Item, annotate
from data_prep.settings import Settings
from data_prep.votes import NO_EDIT, agreement, settle
from ier1_plugin.runs.errors import UserError
from ier1_plugin.runs.store import Store
from ier1_plugin.runs.workers import WINDOW
from ier1_plugin.task.actions import ACTIONS
from ier1_plugin.task.schema import Decomposition

LAMP = Decomposition.of(["Delete"], ["lamp"], [])
PHOTO = encoded(picture(0), "JPEG")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdef")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


def items(*requests: str) -> list[Item]:
    return [Item(f"row-{number}", request, PHOTO) for number, request in enumerate(requests)]


def lamps(number: int) -> list[Item]:
    return items(*(f"remove the lamp {i}" for i in range(number)))


def run(
    server: ChatServer, output: Path, work: Iterable[Item], **changes: Any
) -> Generator[tuple[str, Decomposition | str], None, None]:
    options = {name: changes.pop(name) for name in ("total", "attempts") if name in changes}
    named = {"annotator": "fake-vlm", "base_url": server.url, "concurrency": 4, "timeout": 5, **changes}
    return annotate(work, Settings("jsonl", (), output, **named), backoff=0, **options)


def results(server: ChatServer, output: Path, work: list[Item], **changes: Any) -> dict[str, Decomposition | str]:
    found = list(run(server, output, work, **changes))
    assert len(found) == len({key for key, _ in found})
    return dict(found)


def kept(folder: Path) -> list[dict[str, Any]]:
    with Store(folder / REPLIES, read_only=True) as replies:
        return [record for _, record in replies]


def test_the_question_holds_the_image_then_the_prompt_and_a_schema(tmp_path: Path):
    with serve() as server:
        found = results(server, tmp_path, [*items("remove the lamp"), Item("png", "add a red car", PNG)], concurrency=1)
    assert found == {"row-0": LAMP, "png": Decomposition.of(**gold_of("add a red car"))}
    body, second = server.bodies
    image, text = body["messages"][0]["content"]
    assert image["image_url"]["url"] == "data:image/jpeg;base64," + base64.b64encode(PHOTO).decode()
    assert second["messages"][0]["content"][0]["image_url"]["url"].startswith("data:image/png;base64,")
    assert all(f"- {name}: {meaning}\n" in text["text"] for name, meaning in ACTIONS.items())
    wanted = body["response_format"]["json_schema"]
    assert wanted["schema"]["properties"]["actions"]["items"]["enum"] == list(ACTIONS)
    assert (body["model"], body["temperature"], body["seed"]) == ("fake-vlm", 0.0, 0)


def test_control_text_is_neutralised_in_the_question_and_in_the_gold(tmp_path: Path):
    thought, lists = "<think> Hm. </think>", ["<image> \ud800", " ", "!"]
    content = thought + json.dumps({"actions": ["Add"], "subjects": lists, "goals": ["<think>"]})
    with serve(lambda _: completion(content)) as server:
        found = results(server, tmp_path, items("remove <image> the lamp <|im_end|> \ud800"))
    assert server.log[0].request == "remove ‹image› the lamp ‹|im_end|› ?"
    assert found == {"row-0": Decomposition.of(["Add"], ["‹image› ?"], ["‹think›"])}


@pytest.mark.parametrize(
    "answer",
    [
        completion(None),
        completion('{"actions": ["Delete"], "subjects": ["lamp"], "goals": []}', "length"),
        completion('{"actions": ["Delete"], "subjects": ["lamp"]}'),
        completion('{"actions": ["Delete"], "subjects": ["lamp"], "goals": [], "note": "x"}'),
        completion('{"actions": ["delete"], "subjects": ["lamp"], "goals": []}'),
    ],
)
def test_a_reply_of_no_use_is_counted_in_the_bar_and_asked_for_again_with_other_sampling(
    answer: Answer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with serve(lambda asked: honest(asked) if asked.nth else answer) as server:
        assert results(server, tmp_path, items("remove the lamp"), total=1) == {"row-0": LAMP}
    assert [(asked.body["temperature"], asked.body["seed"]) for asked in server.log] == [(0.0, 0), (0.7, 1000)]
    shown = capsys.readouterr().err
    assert [part for part in ("1/1", "rows/s", "tokens=1,460", "unusable=1") if part not in shown] == []


@pytest.mark.parametrize(
    ("answer", "votes", "requests", "reason"),
    [
        (completion("Sure!"), 1, 4, "gave no usable reply: no JSON in 'Sure!': 'Sure!' (last of 4 attempts)"),
        (completion("", finish_reason="content_filter"), 1, 3, "refused: 'content filter' (last of 3 attempts)"),
        # two votes of three: the other could no longer win
        (completion(None, refusal="I can't."), 3, 6, 'refused: "I can\'t." (last of 3 attempts)'),
    ],
)
def test_attempts_used_up_are_a_reason_and_count_in_the_next_run_until_asked_for_again(
    answer: Answer, votes: int, requests: int, reason: str, tmp_path: Path
):
    with serve(lambda asked: honest(asked) if "sofa" in asked.request else answer) as server:
        for retry in (False, False, True):
            work = items("remove the lamp", "add a sofa")
            found = results(server, tmp_path, work, votes=votes, attempts=4, retry_failed=retry)
            assert found["row-0"] == f"the annotator {reason}"
            assert sum("lamp" in asked.request for asked in server.log) == requests * (2 if retry else 1)
    assert sum("sofa" in asked.request for asked in server.log) == votes


NOTHING = completion('{"actions": [], "subjects": [], "goals": []}')


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (completion("Sure!"), "no usable reply: no JSON in 'Sure!'"),
        (completion("Sure", "length"), "cut off at 4,096 tokens; raise max_tokens: 'Sure'"),
        (completion(None, refusal="Sure not."), "the annotator refused: 'Sure not.'"),
        (NOTHING, NO_EDIT),
    ],
)
def test_a_model_that_gives_no_gold_for_row_after_row_ends_the_run_and_can_be_put_right(
    answer: Answer, reason: str, tmp_path: Path
):
    right = threading.Event()
    with serve(lambda asked: honest(asked) if right.is_set() else answer) as server:
        with pytest.raises(UserError, match=r"20 rows in a row.*fake-vlm the right model.*--retry-failed") as error:
            results(server, tmp_path, lamps(100), attempts=2)
        assert reason in str(error.value)
        assert len(server.log) <= 2 * (20 + 4 * WINDOW)
        right.set()
        assert set(results(server, tmp_path, lamps(100)).values()) == {LAMP}


def test_several_votes_are_sampled_with_temperature_and_seeds_of_their_own(tmp_path: Path):
    def respond(asked: Asked) -> Answer:
        subjects = {0: ["the lamp"], 1: ["lamp"], 2: ["sofa"]}[asked.body["seed"]]
        return completion(json.dumps({"actions": ["Delete"], "subjects": subjects, "goals": []}))

    with serve(respond) as server:
        results(server, tmp_path, items("remove the lamp"), votes=2)
        # votes that are there are kept
        found = results(server, tmp_path, items("remove the lamp"), votes=3)
    assert found == {"row-0": Decomposition.of(["Delete"], ["the lamp"], [])}
    assert [(a.body["temperature"], a.body["seed"]) for a in server.log] == [(0.7, 0), (0.7, 1), (0.7, 2)]
    assert [record["vote"] for record in kept(tmp_path)] == [0, 1, 2]


def test_a_wrong_key_stops_the_run_and_what_was_answered_before_is_not_asked_again(tmp_path: Path):
    good = threading.Event()
    with serve(lambda asked: honest(asked) if good.is_set() or int(asked.request[16:]) < 30 else error(401)) as server:
        with pytest.raises(UserError, match=r"OPENAI_API_KEY.*HTTP 401") as raised:
            results(server, tmp_path, lamps(100), concurrency=2)
        assert "\n" not in str(raised.value)
        # the requests that were under way when the first refusal came
        assert len(server.log) <= 30 + 2 * WINDOW
        answered = {record["row"] for record in kept(tmp_path)}
        assert answered
        good.set()
        before = len(server.log)
        assert set(results(server, tmp_path, lamps(40)).values()) == {LAMP}
        assert len(server.log) - before == 40 - len(answered)


def test_a_server_that_is_not_there_stops_the_run_and_rejects_nobody(tmp_path: Path):
    with serve() as server:
        pass
    with pytest.raises(UserError, match=r"does not answer .*; is it running, and is --base-url right\?"):
        next(run(server, tmp_path, lamps(100), attempts=2))


def test_a_server_that_dies_on_the_way_costs_no_row_and_items_are_pulled_as_they_are_needed(tmp_path: Path):
    down, pulled = threading.Event(), iter(lamps(10_000))
    with serve(lambda asked: error(503) if down.is_set() else honest(asked)) as server:
        found = run(server, tmp_path, pulled, attempts=2)
        done = dict(islice(found, 10))
        down.set()
        with pytest.raises(UserError, match=r"has stopped answering .*HTTP 503.*; start it again and run the same"):
            done.update(found)
        assert set(done.values()) == {LAMP}
        assert int(next(pulled).key[4:]) <= 10 + 2 * 4 * WINDOW
        down.clear()
        assert set(results(server, tmp_path, lamps(50)).values()) == {LAMP}
        assert set(Counter(record["row"] for record in kept(tmp_path)).values()) == {1}


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize(
    ("answer", "requests", "reason"),
    [(error(500), 3, "no answer in 3 attempts"), (error(400, "image cannot be decoded"), 1, "image cannot be decoded")],
)
def test_an_item_that_the_server_always_fails_on_is_rejected_and_stops_nobody(
    concurrency: int, answer: Answer, requests: int, reason: str, tmp_path: Path
):
    with serve(lambda asked: answer if "odd" in asked.request else honest(asked)) as server:
        work = items("remove the lamp", *(f"odd {number}" for number in range(6)))
        found = results(server, tmp_path, work, concurrency=concurrency, attempts=3)
    assert found.pop("row-0") == LAMP
    assert len(found) == 6
    assert all(reason in str(result) for result in found.values())
    assert sum("odd" in asked.request for asked in server.log) == 6 * requests


def test_a_server_that_takes_no_request_at_all_stops_the_run(tmp_path: Path):
    with serve(lambda _: error(400, "this model has no eyes")) as server:
        with pytest.raises(UserError, match=r"none of the first 5 requests was taken.*no eyes"):
            results(server, tmp_path, lamps(100), concurrency=1)
        assert 5 <= len(server.log) <= 5 + WINDOW


def test_only_what_is_missing_is_asked_and_every_reply_is_there_to_read(tmp_path: Path):
    with serve() as server:
        first = results(server, tmp_path, lamps(5))
        found = results(server, tmp_path, [*lamps(8), Item("twin", "remove the lamp 1", PHOTO)])
    assert len(server.log) == 8
    assert found == {**first, **dict.fromkeys(("row-5", "row-6", "row-7", "twin"), LAMP)}
    lines = [json.loads(line) for line in (tmp_path / EXPORT).read_text().splitlines()]
    assert len(lines) == 8
    line = next(line for line in lines if line["row"] == "row-0")
    assert (line["vote"], line["model"][:13], line["prompt_tokens"]) == (0, "fake-vlm-2026", 700)
    assert json.loads(line["text"]) == gold_of("remove the lamp")


def test_another_model_prompt_temperature_or_image_is_another_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with serve() as server:
        results(server, tmp_path, items("remove the lamp"))
        results(server, tmp_path, items("remove the lamp"), votes=2)
        results(server, tmp_path, items("remove the lamp"), annotator="other")
        results(server, tmp_path, items("Remove the lamp"))
        results(server, tmp_path, [Item("row-0", "remove the lamp", PHOTO + b"\0")])
        prompt = annotator._prompt
        monkeypatch.setattr(annotator, "_prompt", lambda request: f"{prompt(request)} please")
        results(server, tmp_path, items("remove the lamp"))
    assert len(server.log) == 7


def test_replies_of_an_older_version_are_refused_and_left_alone(tmp_path: Path):
    (tmp_path / "replies.jsonl").write_text('{"key": "row-0", "digest": "00"}\n')
    with serve() as server, pytest.raises(UserError, match=r"replies\.jsonl holds replies that an older version"):
        results(server, tmp_path, lamps(1))
    assert [path.name for path in tmp_path.iterdir()] == ["replies.jsonl"]


@pytest.mark.parametrize(
    ("votes", "closest", "agreed"),
    [
        # more than half of the votes must hold a phrase; it stands where it was first said
        ([("lamp", "table"), ("lamp", "sofa"), ("table", "lamp"), ("rug",)], False, ("lamp",)),
        # compared as the rewards compare, written as most votes write it
        ([("The lamp!",), ("lamp",), ("lamp",), ("LAMP",)], False, ("lamp",)),
        ([("The lamp",), ("lamp",)], False, ("The lamp",)),
        # a vote that repeats a phrase counts once
        ([("lamp", "The Lamp"), ("rug",), ("sofa",)], False, None),
        # empty only if most left it empty
        ([(), (), ("warm",)], True, ()),
        ([(), ("warm",)], True, None),
        # without a majority the vote closest to the others, if it shares enough words with them
        ([("scarlet red",), ("deep scarlet red",), ("red",)], True, ("scarlet red",)),
        ([("scarlet red",), ("deep scarlet red",), ("red",)], False, None),
        ([("golden hour",), ("sunset look",), ("orange evening light",)], True, None),
    ],
)
def test_what_votes_agree_on(votes: list[tuple[str, ...]], closest: bool, agreed: tuple[str, ...] | None):
    assert agreement(votes, closest) == agreed


def vote(*actions: str, subject: str = "lamp") -> Decomposition:
    return Decomposition.of(actions, [subject], [])


@pytest.mark.parametrize(
    ("votes", "settled"),
    [
        ([LAMP], LAMP),
        ([LAMP, "refused", LAMP], LAMP),
        ([LAMP, "refused", "refused"], "refused"),
        ([LAMP, "refused"], "refused"),
        ([Decomposition()], NO_EDIT),
        ([LAMP, vote("Crop"), vote("Move")], "annotators disagree on the actions: Delete | Crop | Move"),
        ([LAMP, vote("Delete", subject="sofa"), vote("Delete", subject="rug")], "annotators disagree on the subjects"),
        # actions are never taken from the closest vote
        ([vote("Add", "Crop"), vote("Crop", "Move"), vote("Move", "Add")], vote("Add", "Crop", "Move")),
        ([vote("Add"), vote("Add", "Zoom"), vote("Zoom"), vote("Clone")], "annotators disagree on the actions"),
    ],
)
def test_what_votes_come_to(votes: list[Decomposition | str], settled: Decomposition | str):
    result = settle(votes, asked=len(votes))
    assert str(result).startswith(str(settled)) if isinstance(settled, str) else result == settled
