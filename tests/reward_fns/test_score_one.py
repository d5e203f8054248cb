"""One sample a call, as verl asks: the scores of the batch, whichever way they were asked for."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Coroutine
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from fakes.chat_server import Answer, Asked, ChatServer, completion, error, serve
from fakes.judge_server import picture as picture_of
from fakes.judge_server import verdict
from hypothesis import given, settings
from hypothesis import strategies as st

from ier1_plugin.evaluation.records import EvaluationError, Score
from ier1_plugin.small_world.world import samples
from ier1_plugin.task.images import png_bytes
from ier1_plugin.task.parsing import render_response
from ier1_plugin.task.rows import Case, write_answer
from ier1_plugin.task.schema import Decomposition
from reward_fns import decomposition, picture

World = tuple[dict[str, Any], list[tuple[str, Decomposition]]]
WORDS = st.lists(st.sampled_from(["Delete", "coat", "the Coat", "red", "bright red"]), max_size=3)
PLANS = st.builds(lambda *lists: render_response(Decomposition.of(*lists), "x"), WORDS, WORDS, WORDS)
RESPONSES = st.one_of(PLANS, st.text(max_size=40), PLANS.map(lambda response: response[:-3]))
WEIGHTS = st.fixed_dictionaries({f"{part}_weight": st.floats(0.1, 5) for part in ("format", "action", "goal")})


def one(module: Any, response: str, truth: str, **options: Any) -> Coroutine[Any, Any, dict[str, float]]:
    """As verl's reward managers call it (verl/experimental/reward_loop/reward_manager/naive.py)."""
    return module.score_one(
        data_source="psr", solution_str=response, ground_truth=truth, extra_info={"num_turns": None}, **options
    )


def check_equal(single: dict[str, float], row: dict[str, float], overall: str) -> None:
    assert all(type(value) is float for value in single.values())
    assert single["score"] == row[overall]
    shared = single.keys() & row.keys() - {"seconds", "renders", "cached"}
    assert {name: single[name] for name in shared} == {name: row[name] for name in shared}
    assert not single.keys() & {"overall", "spread", "keep"}


@given(RESPONSES, st.builds(Decomposition.of, WORDS, WORDS, WORDS), WEIGHTS, st.sampled_from(["exact", "token"]))
@settings(max_examples=150, deadline=None)
def test_words_are_scored_as_in_a_batch(response: str, gold: Decomposition, weights: dict[str, float], match: str):
    options: dict[str, Any] = {**weights, "goal_match": match}
    truth = write_answer(gold)
    (row,) = decomposition.compute_score([{"response": response, "ground_truth": truth}], **options)
    check_equal(asyncio.run(one(decomposition, response, truth, **options)), row, "overall")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The picture reward's options, and ground truths of small-world requests with their gold; every other one of them
    does not hold it."""
    folder = tmp_path_factory.mktemp("world")
    (folder / "images").mkdir()
    truths = []
    for number, sample in enumerate(islice(samples("val", 0), 6)):
        data = png_bytes(sample.photo.open())
        name = f"{hashlib.sha256(data).hexdigest()}.png"
        (folder / "images" / name).write_bytes(data)
        case = Case(sample.id, sample.request, name)
        truths.append((write_answer(sample.gold if number % 2 else None, case), sample.gold))
    options = {"editor": "small-world", "judge": "pixel", "image_root": [str(folder / "images")]}
    return options, truths


@given(st.lists(st.tuples(st.integers(0, 5), RESPONSES | st.none()), min_size=1, max_size=8), WEIGHTS)
@settings(max_examples=15, deadline=None)
def test_pictures_are_scored_as_in_a_batch(
    world: World,
    tmp_path_factory: pytest.TempPathFactory,
    drawn: list[tuple[int, str | None]],
    weights: dict[str, float],
):
    truths, options = world[1], {**world[0], **weights}
    pairs = [(response or render_response(truths[index][1], "x"), truths[index][0]) for index, response in drawn]

    async def every() -> list[dict[str, float]]:
        store = str(tmp_path_factory.mktemp("one"))
        return await asyncio.gather(*(one(picture, *pair, store=store, **options) for pair in pairs))

    batch = [{"response": response, "ground_truth": truth} for response, truth in pairs]
    rows = picture.compute_score(batch, store=str(tmp_path_factory.mktemp("batch")), **options)
    singles = asyncio.run(every())
    for single, row in zip(singles, rows, strict=True):
        check_equal(single, row, "score")
    # equal plans under way at once are rendered once
    for name in ("renders", "cached"):
        assert sum(single[name] for single in singles) == pytest.approx(sum(row[name] for row in rows))


@pytest.mark.parametrize("module", [decomposition, picture])
def test_verl_awaits_it_and_may_pass_the_reward_model(module: Any, world: World, tmp_path: Path):
    assert inspect.iscoroutinefunction(module.score_one)
    options = world[0] | {"store": str(tmp_path)} if module is picture else {}
    truth, gold = world[1][1]
    more = {"reward_router_address": "127.0.0.1:1", "reward_model_tokenizer": object()}
    assert asyncio.run(one(module, render_response(gold, "x"), truth, **more, **options))["score"] == 1.0
    with pytest.raises(TypeError, match="formt_weight"):
        asyncio.run(one(module, "", truth, formt_weight=2, **options))


def test_what_needs_the_group_is_refused(world: World, tmp_path: Path):
    options = world[0] | {"store": str(tmp_path), "normalise": "components"}
    with pytest.raises(EvaluationError, match="whole groups"):
        asyncio.run(one(picture, "", world[1][0][0], **options))


# --- with a judge that is a server ----------------------------------------------------------------------------------


GOALS = ("brighter", "darker", "warmer", "cooler", "sharper", "softer")
ADJUSTED = [render_response(Decomposition.of(["Adjust"], ["photo"], [goal]), "x") for goal in GOALS]
WORKER = """
import asyncio, json, sys
from reward_fns.picture import score_one
pairs, options = json.loads(sys.argv[1])
async def every():
    return await asyncio.gather(*(score_one("psr", *pair, {}, **options) for pair in pairs))
print("ready", flush=True)
sys.stdin.readline()
print(json.dumps(asyncio.run(every())))
"""


def served(options: dict[str, Any], server: ChatServer, store: Path, **more: Any) -> dict[str, Any]:
    judge = {"judge": f"openai:{server.url}#vlm", "judge_settings": {"backoff": 0.0, "timeout": 30.0}}
    return options | judge | {"store": str(store)} | more


@pytest.mark.slow
def test_the_workers_of_a_node_ask_once_for_a_plan(world: World, tmp_path: Path):
    def grade(asked: Asked) -> Answer:
        time.sleep(0.2)
        return completion(verdict(Score(asked.nth, 3, 3)), usable=True)

    pairs = [(response, truth) for truth, _ in world[1][:2] for response in ADJUSTED]
    with serve(grade) as server:
        options = served(world[0], server, tmp_path / "store", concurrency=4)
        command = [sys.executable, "-c", WORKER, json.dumps([pairs, options])]
        environment = os.environ | {"PYTHONPATH": os.getcwd()}
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        workers = [subprocess.Popen(command, env=environment, **pipes) for _ in range(4)]
        for worker in workers:
            assert worker.stdout
            assert worker.stdout.readline() == "ready\n"
        for worker in workers:
            assert worker.stdin
            worker.stdin.write("go\n")
            worker.stdin.flush()
        scores = [json.loads(worker.communicate()[0]) for worker in workers]
        assert server.total == len(pairs)
    for rows in zip(*scores, strict=True):
        assert len({row["score"] for row in rows}) == 1
        assert sorted(row["renders"] for row in rows) == [0.0, 0.0, 0.0, 1.0]


def test_other_coroutines_go_on_while_plans_are_judged(world: World, tmp_path: Path):
    released = threading.Event()

    def grade(asked: Asked) -> Answer:
        assert released.wait(30)
        return completion(verdict(Score(4, 3, 3)), usable=True)

    async def every(options: dict[str, Any]) -> list[dict[str, float]]:
        truth = world[1][0][0]
        # three of each plan
        tasks = [asyncio.create_task(one(picture, response, truth, **options)) for response in 3 * ADJUSTED[:4]]
        while server.total < 4:
            await asyncio.sleep(0.01)
        released.set()
        return await asyncio.gather(*tasks)

    with serve(grade) as server:
        rows = asyncio.run(every(served(world[0], server, tmp_path, concurrency=4)))
        assert server.total == 4
    assert [row["renders"] for row in rows] == [1.0] * 4 + [0.0] * 8
    assert [row["tokens"] for row in rows] == [730.0] * 4 + [0.0] * 8


def test_a_sample_that_cannot_be_judged_raises_alone_and_too_many_end_all(world: World, tmp_path: Path):
    truths = world[1]
    dead = threading.Event()

    def grade(asked: Asked) -> Answer:
        first = picture_of(asked.body, 1).tobytes() == edits[0]
        return error(500) if dead.is_set() or first else completion(verdict(Score(4, 3, 3)), usable=True)

    edits: list[bytes] = []

    def learn(asked: Asked) -> Answer:
        edits.append(picture_of(asked.body, 1).tobytes())
        return error(500)

    async def every(options: dict[str, Any], samples: list[tuple[str, str]]) -> list[Any]:
        calls = (one(picture, *sample, **options) for sample in samples)
        return await asyncio.gather(*calls, return_exceptions=True)

    group = [(response, truths[0][0]) for response in ADJUSTED]
    with serve(learn) as server:
        (failure,) = asyncio.run(every(served(world[0], server, tmp_path / "first"), group[:1]))
        assert isinstance(failure, EvaluationError)
    with serve(grade) as server:
        options = served(world[0], server, tmp_path / "second", max_unjudged=6 / 256)
        failed, *judged = asyncio.run(every(options, group))
        assert isinstance(failed, EvaluationError)
        assert "the judge" in str(failed)
        assert all(row["picture"] == 1.0 for row in judged)
        dead.set()
        asyncio.run(every(options, [(response, truths[1][0]) for response in ADJUSTED]))
        # what is stored and what needs no picture as well, or else the rest would be trained on
        ended = asyncio.run(every(options, [*group, ("no plan", truths[0][0])]))
        assert all("7 of the last 12 plans" in str(error) for error in ended)
