"""The annotator against a real HTTP server on the loopback whose model is fake.

Faults of HTTP are tested in tests/chat, the store of replies in tests/runs: here is what a long run makes of them.
"""

from __future__ import annotations

import base64
import json
import threading
from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from fakes.builder_inputs import PNG, encoded, picture
from fakes.chat_server import TROUBLES, Answer, Asked, ChatServer, Respond, completion, error, gold_of, honest, serve

from data_prep import annotator
from data_prep.annotator import EXPORT, REPLIES, AnnotatorSettings, Item, annotate
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


def settings(server: ChatServer, **changes: Any) -> AnnotatorSettings:
    return AnnotatorSettings("fake-vlm", server.url, **{"concurrency": 4, "backoff": 0, "timeout": 5, **changes})


def first_time(trouble: Callable[[Asked], Answer], times: int = 1) -> Respond:
    return lambda asked: trouble(asked) if asked.nth < times else honest(asked)


def run(server: ChatServer, folder: Path, work: list[Item], **changes: Any) -> dict[str, Decomposition | str]:
    results = list(annotate(work, settings(server, **changes), folder))
    assert len(results) == len({key for key, _ in results})
    return dict(results)


def kept(folder: Path) -> list[dict[str, Any]]:
    with Store(folder / REPLIES, read_only=True) as replies:
        return [record for _, record in replies]


def test_the_question_holds_the_image_then_the_prompt_and_a_schema(tmp_path: Path):
    with serve() as server:
        results = run(server, tmp_path, [*items("remove the lamp"), Item("png", "add a red car", PNG)], concurrency=1)
    assert results == {"row-0": LAMP, "png": Decomposition.of(**gold_of("add a red car"))}
    body, second = server.bodies
    image, text = body["messages"][0]["content"]
    assert image["image_url"]["url"] == "data:image/jpeg;base64," + base64.b64encode(PHOTO).decode()
    assert second["messages"][0]["content"][0]["image_url"]["url"].startswith("data:image/png;base64,")
    assert all(f"- {name}: {meaning}\n" in text["text"] for name, meaning in ACTIONS.items())
    wanted = body["response_format"]["json_schema"]
    assert wanted["schema"]["properties"]["actions"]["items"]["enum"] == list(ACTIONS)
    assert (body["model"], body["temperature"], body["seed"]) == ("fake-vlm", 0.0, 0)


def test_control_text_is_neutralised_in_the_question_and_in_the_gold(tmp_path: Path):
    content = '{"actions": ["Add"], "subjects": ["<image> \\ud800", " ", "!"], "goals": ["<think>"]}'
    with serve(lambda _: completion(content)) as server:
        results = run(server, tmp_path, items("remove <image> the lamp <|im_end|> \ud800"))
    assert server.log[0].request == "remove ‹image› the lamp ‹|im_end|› ?"
    assert results == {"row-0": Decomposition.of(["Add"], ["‹image› ?"], ["‹think›"])}


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
        assert run(server, tmp_path, items("remove the lamp")) == {"row-0": LAMP}
    assert [(asked.body["temperature"], asked.body["seed"]) for asked in server.log] == [(0.0, 0), (0.7, 1000)]


@pytest.mark.parametrize(
    ("answer", "attempts", "reason"),
    [
        (completion("Sure! I would remove it."), 4, "gave no usable reply: no JSON in 'Sure! I would remove it.'"),
        (completion(None, refusal="I can't help with that."), 3, 'refused: "I can\'t help with that."'),
        (completion("", finish_reason="content_filter"), 3, "refused: 'content filter'"),
    ],
)
def test_attempts_used_up_are_a_reason_and_count_in_the_next_run(
    answer: Answer, attempts: int, reason: str, tmp_path: Path
):
    with serve(lambda _: answer) as server:
        results = run(server, tmp_path, items("remove the lamp"), max_attempts=4)
        assert run(server, tmp_path, items("remove the lamp"), max_attempts=4) == results
    assert str(results["row-0"]).startswith(f"the annotator {reason}")
    assert str(results["row-0"]).endswith(f"(last of {attempts} attempts)")
    assert len(server.log) == attempts


def test_empty_goals_are_gold_and_empty_actions_are_a_rejection(tmp_path: Path):
    nothing = completion('{"actions": [], "subjects": [], "goals": []}')
    with serve(lambda asked: nothing if "thanks" in asked.request else honest(asked)) as server:
        assert run(server, tmp_path, items("remove the lamp", "thanks, all!")) == {"row-0": LAMP, "row-1": NO_EDIT}
    assert len(server.log) == 2


def test_several_votes_are_sampled_with_temperature_and_seeds_of_their_own(tmp_path: Path):
    def respond(asked: Asked) -> Answer:
        subjects = {0: ["the lamp"], 1: ["lamp"], 2: ["sofa"]}[asked.body["seed"]]
        return completion(json.dumps({"actions": ["Delete"], "subjects": subjects, "goals": []}))

    with serve(respond) as server:
        run(server, tmp_path, items("remove the lamp"), votes=2)
        # votes that are there are kept
        results = run(server, tmp_path, items("remove the lamp"), votes=3)
    assert results == {"row-0": Decomposition.of(["Delete"], ["the lamp"], [])}
    assert [(a.body["temperature"], a.body["seed"]) for a in server.log] == [(0.7, 0), (0.7, 1), (0.7, 2)]
    assert [record["vote"] for record in kept(tmp_path)] == [0, 1, 2]


def test_votes_that_can_no_longer_win_are_not_paid_for(tmp_path: Path):
    with serve(lambda _: completion(None, refusal="no")) as server:
        assert "the annotator refused" in str(run(server, tmp_path, items("remove the lamp"), votes=3)["row-0"])
    # two votes of three refused, each three times
    assert len(server.log) == 6


def test_items_are_pulled_as_they_are_needed_and_what_was_under_way_at_the_end_is_kept(tmp_path: Path):
    pulled = iter(lamps(10_000))
    with serve() as server:
        results = annotate(pulled, settings(server, concurrency=3), tmp_path)
        assert len(list(islice(results, 25))) == 25
        results.close()
    assert int(next(pulled).key[4:]) <= 25 + 3 * WINDOW
    assert len(kept(tmp_path)) == sum(server.answered.values())


@pytest.mark.parametrize("wrong", [{"concurrency": 0}, {"votes": 0}, {"max_attempts": 0}, {"timeout": 0}])
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]):
    with pytest.raises(UserError, match=next(iter(wrong))):
        AnnotatorSettings("m", **wrong)


def test_seconds_come_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("IER1_ANNOTATOR_TIMEOUT", "300")
    monkeypatch.setenv("IER1_ANNOTATOR_BACKOFF", "0.5")
    assert (AnnotatorSettings("m").timeout, AnnotatorSettings("m").backoff) == (300, 0.5)
    monkeypatch.setenv("IER1_ANNOTATOR_TIMEOUT", "soon")
    with pytest.raises(UserError, match="IER1_ANNOTATOR_TIMEOUT='soon'"):
        AnnotatorSettings("m")


def test_the_bar_shows_rate_tokens_and_replies_that_were_of_no_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with serve(first_time(TROUBLES["no JSON"])) as server:
        run(server, tmp_path, lamps(3), total=3)
    shown = capsys.readouterr().err
    for part in ("3/3", "rows/s", "tokens=4,380", "unusable=3"):
        assert part in shown


def test_a_wrong_key_stops_the_run_and_what_was_answered_before_is_not_asked_again(tmp_path: Path):
    good = threading.Event()
    with serve(lambda asked: honest(asked) if good.is_set() or int(asked.request[16:]) < 30 else error(401)) as server:
        with pytest.raises(UserError, match=r"OPENAI_API_KEY.*HTTP 401") as raised:
            run(server, tmp_path, lamps(100), concurrency=2)
        assert "\n" not in str(raised.value)
        # the requests that were under way when the first refusal came
        assert len(server.log) <= 30 + 2 * WINDOW
        answered = {record["row"] for record in kept(tmp_path)}
        assert answered
        good.set()
        before = len(server.log)
        assert set(run(server, tmp_path, lamps(40)).values()) == {LAMP}
        assert len(server.log) - before == 40 - len(answered)


def test_a_server_that_is_not_there_stops_the_run_and_rejects_nobody(tmp_path: Path):
    with serve() as server:
        pass
    with pytest.raises(UserError, match=r"does not answer .*; is it running, and is --base-url right\?"):
        next(annotate(lamps(100), settings(server, max_attempts=2), tmp_path))


def test_a_server_that_dies_on_the_way_costs_no_row(tmp_path: Path):
    down = threading.Event()
    with serve(lambda asked: error(503) if down.is_set() else honest(asked)) as server:
        results = annotate(lamps(50), settings(server, max_attempts=2), tmp_path)
        done = dict(islice(results, 10))
        down.set()
        with pytest.raises(UserError, match=r"has stopped answering .*HTTP 503.*; start it again and run the same"):
            done.update(results)
        assert set(done.values()) == {LAMP}
        down.clear()
        assert set(run(server, tmp_path, lamps(50)).values()) == {LAMP}
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
        results = run(server, tmp_path, work, concurrency=concurrency, max_attempts=3)
    assert results.pop("row-0") == LAMP
    assert len(results) == 6
    assert all(reason in str(result) for result in results.values())
    assert sum("odd" in asked.request for asked in server.log) == 6 * requests


def test_a_server_that_takes_no_request_at_all_stops_the_run(tmp_path: Path):
    with serve(lambda _: error(400, "this model has no eyes")) as server:
        with pytest.raises(UserError, match=r"takes none of the requests: .*no eyes.*can fake-vlm see images\?"):
            run(server, tmp_path, lamps(100), concurrency=1)
        assert 5 <= len(server.log) <= 5 + WINDOW


def test_only_what_is_missing_is_asked_and_every_reply_is_there_to_read(tmp_path: Path):
    with serve() as server:
        first = run(server, tmp_path, lamps(5))
        results = run(server, tmp_path, [*lamps(8), Item("twin", "remove the lamp 1", PHOTO)])
    assert len(server.log) == 8
    assert results == {**first, **dict.fromkeys(("row-5", "row-6", "row-7", "twin"), LAMP)}
    lines = [json.loads(line) for line in (tmp_path / EXPORT).read_text().splitlines()]
    assert len(lines) == 8
    line = next(line for line in lines if line["row"] == "row-0")
    assert (line["vote"], line["model"][:13], line["prompt_tokens"]) == (0, "fake-vlm-2026", 700)
    assert json.loads(line["text"]) == gold_of("remove the lamp")


def test_another_model_prompt_temperature_or_image_is_another_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with serve() as server:
        run(server, tmp_path, items("remove the lamp"))
        run(server, tmp_path, items("remove the lamp"), temperature=0.5)
        run(server, tmp_path, items("Remove the lamp"))
        run(server, tmp_path, [Item("row-0", "remove the lamp", PHOTO + b"\0")])
        prompt = annotator._prompt
        monkeypatch.setattr(annotator, "_prompt", lambda request: f"{prompt(request)} please")
        run(server, tmp_path, items("remove the lamp"))
    assert len(server.log) == 5


def test_replies_of_an_older_version_are_refused_and_left_alone(tmp_path: Path):
    (tmp_path / "replies.jsonl").write_text('{"key": "row-0", "digest": "00"}\n')
    with serve() as server, pytest.raises(UserError, match=r"replies\.jsonl holds replies that an older version"):
        run(server, tmp_path, lamps(1))
    assert [path.name for path in tmp_path.iterdir()] == ["replies.jsonl"]


@pytest.mark.parametrize(
    ("votes", "closest", "agreed"),
    [
        # more than half of the votes must hold a phrase; it stands where it was first said
        ([("lamp", "table"), ("lamp", "sofa"), ("table", "lamp"), ("rug",)], False, ("lamp",)),
        ([("sky", "lamp", "dog"), ("lamp", "sky"), ("dog", "lamp", "sky")], False, ("sky", "lamp", "dog")),
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
        ([Decomposition(), Decomposition(), LAMP], NO_EDIT),
        ([LAMP, vote("Crop"), vote("Move")], "annotators disagree on the actions: Delete | Crop | Move"),
        ([LAMP, vote("Delete", subject="sofa"), vote("Delete", subject="rug")], "annotators disagree on the subjects"),
        # actions are never taken from the closest vote
        ([vote("Add", "Crop"), vote("Crop", "Move"), vote("Move", "Add")], vote("Add", "Crop", "Move")),
        ([vote("Add", "Crop"), vote("Crop", "Zoom")], vote("Crop")),
        ([vote("Add"), vote("Add", "Zoom"), vote("Zoom"), vote("Clone")], "annotators disagree on the actions"),
    ],
)
def test_what_votes_come_to(votes: list[Decomposition | str], settled: Decomposition | str):
    result = settle(votes, asked=len(votes))
    assert str(result).startswith(str(settled)) if isinstance(settled, str) else result == settled
