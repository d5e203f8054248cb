"""One sample a call, as verl asks: the scores of the batch, whichever way they were asked for."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
from collections.abc import Coroutine
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ier1_plugin.evaluation.records import EvaluationError
from ier1_plugin.small_world.world import samples
from ier1_plugin.task.images import png_bytes
from ier1_plugin.task.parsing import render_response
from ier1_plugin.task.rows import Case, write_answer
from ier1_plugin.task.schema import Decomposition
from reward_fns import decomposition, picture

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
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[tuple[str, Decomposition]]]:
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
@settings(max_examples=25, deadline=None)
def test_pictures_are_scored_as_in_a_batch(
    world: tuple[dict[str, Any], list[tuple[str, Decomposition]]],
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
def test_verl_awaits_it_and_may_pass_the_reward_model(
    module: Any, world: tuple[dict[str, Any], list[tuple[str, Decomposition]]], tmp_path: Path
):
    assert inspect.iscoroutinefunction(module.score_one)
    options = world[0] | {"store": str(tmp_path)} if module is picture else {}
    truth, gold = world[1][1]
    more = {"reward_router_address": "127.0.0.1:1", "reward_model_tokenizer": object()}
    assert asyncio.run(one(module, render_response(gold, "x"), truth, **more, **options))["score"] == 1.0
    with pytest.raises(TypeError, match="formt_weight"):
        asyncio.run(one(module, "", truth, formt_weight=2, **options))


def test_what_needs_the_group_is_refused(world: tuple[dict[str, Any], list[tuple[str, Decomposition]]], tmp_path: Path):
    options = world[0] | {"store": str(tmp_path), "normalise": "components"}
    with pytest.raises(EvaluationError, match="whole groups"):
        asyncio.run(one(picture, "", world[1][0][0], **options))
