"""The picture as reward: what it is worth, that nothing is paid for twice, and that a failure is no zero."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from fakes import judge_server
from fakes.chat_server import Answer, Asked, ChatServer, completion, error, serve
from fakes.picture_servers import EDITOR_FAULTS, JUDGE_FAULTS, edited, serve_editor, with_faults
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ier1_plugin.editors.base import EditError, join
from ier1_plugin.evaluation.benchmarks.small_world import small_world_editor
from ier1_plugin.evaluation.judges.pixel import pixel_score
from ier1_plugin.evaluation.picture import (
    GRAIN,
    PARTS,
    WORDS,
    PictureReward,
    PictureSettings,
    Weights,
    canonical,
    combine,
    picture_value,
    render_seed,
)
from ier1_plugin.evaluation.picture_page import write_picture_page
from ier1_plugin.evaluation.records import EvaluationError, Score
from ier1_plugin.pipeline.agents import rule
from ier1_plugin.runs.errors import UserError
from ier1_plugin.runs.shared_store import SharedStore
from ier1_plugin.runs.store import Store
from ier1_plugin.small_world.world import edits_of, gold_image, samples
from ier1_plugin.task.images import open_image, png_bytes
from ier1_plugin.task.parsing import parse_decomposition, render_response
from ier1_plugin.task.rows import Case, read_answer, write_answer
from ier1_plugin.task.schema import Decomposition
from reward_fns import picture as reward_file
from reward_fns.decomposition import compute_score as compute_words

BRIGHTER = Decomposition.of(["Relighting"], ["photo"], ["brighter"])
UNREADABLE = "no tags at all"
TIMEOUT = 4.0


def item(response: str, truth: str) -> dict[str, Any]:
    return {"response": response, "response_length": 9, "ground_truth": truth}


@pytest.fixture
def world(tmp_path: Path) -> PictureSettings:
    """The small world's reward on photos in a folder of its own."""
    (tmp_path / "images").mkdir()
    return PictureSettings("small-world", "pixel", (str(tmp_path / "images"),), str(tmp_path / "store"))


def truths(
    settings: PictureSettings, count: int, with_gold: bool = True, edits: int = 1
) -> list[tuple[str, Decomposition]]:
    """Ground truths of requests for so many edits, whose photos lie in the image folder, with their gold."""
    made = []
    for sample in islice((one for one in samples("val", 0) if len(one.edits) == edits), count):
        data = png_bytes(sample.photo.open())
        name = f"{hashlib.sha256(data).hexdigest()}.png"
        Path(settings.image_root[0], name).write_bytes(data)
        case = Case(sample.id, sample.request, name)
        made.append((write_answer(sample.gold if with_gold else None, case), sample.gold))
    return made


@pytest.mark.parametrize(
    ("score", "value"),
    [
        (Score(4, 3, 3), 1.0),
        # an untouched photo: nothing is done, all is preserved
        (Score(0, 3, 3), 0.0),
        (Score(4, 0, 0), 0.0),
        (Score(2, 3, 3), 0.5),
        (Score(4, 3, 0), 0.5),
    ],
)
def test_the_value_of_a_picture(score: Score, value: float):
    assert picture_value(score) == value


def test_equal_plans_are_equal_whatever_their_order_and_spaces():
    plans = [["Delete  lamp.", "Crop photo"], ["Crop photo", "Delete lamp"], [" Crop photo;", "", "Delete lamp"]]
    assert {canonical(plan) for plan in plans} == {("Crop photo", "Delete lamp")}
    assert canonical(["Add photo to caption SALE"]) != canonical(["add photo to caption sale"])


def test_gold_earns_all_however_many_edits_it_makes(world: PictureSettings):
    known = [one for edits in (2, 3, 4) for one in truths(world, 6, edits=edits)]
    rows = PictureReward(world, Weights())([item(render_response(gold, "x"), truth) for truth, gold in known])
    assert [row["picture"] for row in rows] == [1.0] * len(known)


def test_gold_earns_all_and_doing_nothing_earns_nothing(world: PictureSettings):
    reward = PictureReward(world, Weights())
    known = truths(world, 6)
    batch = [item(render_response(gold, "x"), truth) for truth, gold in known]
    batch += [item(render_response(Decomposition.of(["Add"], ["moon"], []), "x"), truth) for truth, _ in known]
    batch += [item(UNREADABLE, truth) for truth, _ in known]
    rows = reward(batch)
    assert [row["picture"] for row in rows] == [1.0] * 6 + [0.0] * 12
    assert [row["overall"] for row in rows[:6]] == [1.0] * 6
    assert [row["renders"] for row in rows] == [1.0] * 12 + [0.0] * 6
    assert len({tuple(row) for row in rows}) == 1
    assert all(type(value) is float for row in rows for value in row.values())


def test_a_row_without_gold_is_scored_by_format_and_picture(world: PictureSettings):
    ((truth, gold),) = truths(world, 1, with_gold=False)
    (right, wrong, unread) = PictureReward(world, Weights(format=1, picture=3))(
        [item(render_response(gold, "x"), truth), item(render_response(BRIGHTER, "x"), truth), item(UNREADABLE, truth)]
    )
    assert (right["overall"], right["action"], right["has_gold"]) == (1.0, 0.0, 0.0)
    assert wrong["overall"] == pytest.approx((1 + 3 * wrong["picture"]) / 4, abs=GRAIN)
    assert unread["overall"] == 0.0


def test_equal_plans_are_rendered_once_and_found_again_by_another_process(world: PictureSettings):
    known = truths(world, 3)
    batch = [item(render_response(gold, think), truth) for truth, gold in known for think in "ab"]
    first = PictureReward(world, Weights())(batch)
    assert [(row["renders"], row["cached"]) for row in first] == [(0.5, 0.5)] * 6
    # another object is what another process has: nothing but the folder
    again = PictureReward(world, Weights())(batch)
    assert [(row["renders"], row["cached"]) for row in again] == [(0.0, 1.0)] * 6
    assert [row["overall"] for row in again] == [row["overall"] for row in first]
    # another seed is another render
    other = PictureReward(replace(world, seed=1), Weights())(batch)
    assert [row["renders"] for row in other] == [0.5] * 6


def test_renders_are_kept_where_wanted(world: PictureSettings):
    ((truth, gold),) = truths(world, 1)
    PictureReward(replace(world, keep_renders=True), Weights())([item(render_response(gold, "x"), truth)])
    (file,) = Path(world.store, "renders").iterdir()
    assert Image.open(file).size == (224, 224)


@pytest.mark.parametrize(
    ("truth", "named"),
    [
        ("nope", "item 1"),
        (BRIGHTER.to_json(), "--case-images"),
        ('{"case": {"id": "x", "request": "y"}}', "case"),
        (write_answer(None, Case("x", "y", "absent.png")), "absent.png"),
    ],
)
def test_a_row_that_cannot_be_judged_by_its_picture_is_named(world: PictureSettings, truth: str, named: str):
    ((good, gold),) = truths(world, 1)
    with pytest.raises(ValueError, match=named):
        PictureReward(world, Weights())([item(render_response(gold, "x"), text) for text in (good, truth)])


@pytest.mark.parametrize("editor", ["flux-kontext", "diffusers:FOLDER", "route:pillow,flux-kontext", "nope"])
def test_an_editor_with_weights_is_refused(world: PictureSettings, editor: str):
    with pytest.raises(EditError, match="images-api"):
        PictureReward(replace(world, editor=editor), Weights())


def test_the_reward_file_takes_what_a_yaml_file_can_hold(world: PictureSettings):
    known = truths(world, 2)
    batch = [item(render_response(gold, "x"), truth) for truth, gold in known]
    keys = {"editor": "small-world", "judge": "pixel", "store": world.store, "image_root": list(world.image_root)}
    rows = reward_file.compute_score(batch, **keys, picture_weight=1.0, normalise="components")
    # groups of one stay as they are
    assert [row["overall"] for row in rows] == [1.0, 1.0]
    assert reward_file.compute_score([], **keys) == []
    reward_file.check(**keys)
    with pytest.raises(ValueError, match="normalise"):
        reward_file.compute_score([], **keys, normalise="nope")


def expected(rows: Sequence[dict[str, float]], group_of: Sequence[int], weights: Weights) -> list[dict[str, float]]:
    """A second, obvious implementation of `combine`: row by row, by the words of the documentation."""

    def mean(values: Sequence[float]) -> float:
        return sum(values) / len(values)

    def deviation(values: Sequence[float]) -> float:
        return mean([(value - mean(values)) ** 2 for value in values]) ** 0.5

    def share(row: dict[str, float], part: str) -> float:
        return 0.0 if part in WORDS and not row["has_gold"] else getattr(weights, part)

    def rounded(value: float) -> float:
        return round(value * 4096) / 4096

    results = [dict(row) for row in rows]
    for row in results:
        total = sum(share(row, part) for part in PARTS)
        row["score"] = row["overall"] = rounded(sum(share(row, part) * row[part] for part in PARTS) / total)
    if weights.normalise:
        for row, group in zip(results, group_of, strict=True):
            peers = [r for r, g in zip(rows, group_of, strict=True) if g == group and not r["unjudged"]]
            if len(peers) < 2 or row["unjudged"]:
                continue
            value = 0.0
            for part in PARTS:
                values = [peer[part] for peer in peers]
                if deviation(values) > 1e-12:
                    value += share(row, part) * (row[part] - mean(values)) / deviation(values)
            row["overall"] = rounded(value / sum(share(row, part) for part in PARTS))
    final = [dict(row) for row in results]
    judged = [row for row in results if row["renders"] + row["cached"] and not row["unjudged"]]
    spread_of = {}
    for group in set(group_of):
        peers = [row for row, g in zip(results, group_of, strict=True) if g == group and not row["unjudged"]]
        spread_of[group] = deviation([row["score"] for row in peers]) if peers else 0.0
    for row, group in zip(final, group_of, strict=True):
        peers = [r for r, g in zip(results, group_of, strict=True) if g == group and not r["unjudged"]]
        if row["unjudged"]:
            for name in ("picture", "score", "overall"):
                value = mean([one[name] for one in peers or judged]) if peers or judged else 0.5
                row[name] = value if peers else rounded(value)
        row["spread"] = spread_of[group]
        row["keep"] = float(spread_of[group] > 1e-12 or max(spread_of.values()) <= 1e-12)
    return final


GRADES = st.sampled_from([0.0, 0.25, 0.5, 2 / 3, 1.0])
SAMPLES = st.tuples(st.integers(0, 3), st.sampled_from(["judged", "unjudged", "unreadable"]), *[GRADES] * 4)


@given(
    st.lists(SAMPLES, min_size=1, max_size=16),
    st.sampled_from(["", "components"]),
    st.tuples(*[st.sampled_from([0.0, 1.0, 2.5])] * 5),
    st.randoms(use_true_random=False),
)
@settings(max_examples=200, deadline=None)
def test_scores_agree_with_a_second_implementation_in_any_order(
    drawn: list[tuple[Any, ...]], normalise: str, shares: tuple[float, ...], rng: random.Random
):
    if not shares[0] + shares[4]:
        return
    weights = Weights(**dict(zip(PARTS, shares, strict=True)), normalise=normalise)  # pyright: ignore[reportArgumentType]
    rows, group_of = [], []
    for group, kind, *grades in drawn:
        row = dict(zip(PARTS, (1.0, *grades), strict=True))
        # group 3 has no gold
        row |= {"has_gold": float(group != 3), "unjudged": float(kind == "unjudged"), "cached": 0.0, "renders": 1.0}
        if group == 3:
            row |= dict.fromkeys(WORDS, 0.0)
        if kind == "unreadable":
            row |= dict.fromkeys((*PARTS, "renders"), 0.0)
        rows.append(row)
        group_of.append(group)
    wanted = expected(rows, group_of, weights)
    order = list(range(len(rows)))
    rng.shuffle(order)
    found = combined(rows, group_of, order, weights)
    assert found == combined(rows, group_of, range(len(rows)), weights)
    for row, known in zip(found, wanted, strict=True):
        for name in ("picture", "score", "overall", "spread", "keep"):
            # one grain where the two sums were rounded apart
            assert row[name] == pytest.approx(known[name], abs=1.01 * GRAIN)
        if not row["unjudged"]:
            assert all(float(row[name] / GRAIN).is_integer() for name in ("score", "overall"))


def combined(
    rows: Sequence[dict[str, float]], group_of: Sequence[int], order: Sequence[int], weights: Weights
) -> list[dict[str, float]]:
    """What `combine` makes of the rows of a batch in some order; in the given order."""
    copies = [dict(row) for row in rows]
    groups: dict[int, list[dict[str, float]]] = {}
    for index in order:
        groups.setdefault(group_of[index], []).append(copies[index])
    combine(list(groups.values()), weights)
    return copies


def obvious_picture(settings: PictureSettings, response: str, case: Case, gold: Decomposition) -> float:
    """The value of one response's picture, without keys, store or shared renders."""
    if not compute_words([item(response, gold.to_json())])[0]["format"]:
        return 0.0
    plan = sorted(line.rstrip(".") for line in rule(parse_decomposition(response)))
    photo = open_image(Path(settings.image_root[0], case.image))
    edit = small_world_editor("").for_item
    assert edit is not None
    edited = edit(case.id)(photo, "".join(f"{line}.\n" for line in plan), 0)
    score = pixel_score(photo, edited, gold_image(photo, edits_of(case.id)))
    return score.fulfilment / 4 * (score.quality + score.preservation) / 6


POOL = [BRIGHTER, Decomposition.of(["Relighting", "Crop"], ["photo"], ["brighter", "the left half"]), Decomposition()]


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, len(POOL) + 1)), min_size=1, max_size=20),
    st.sampled_from(["", "components"]),
    st.randoms(use_true_random=False),
)
@settings(max_examples=20, deadline=None)
def test_whole_calls_agree_with_a_second_implementation_in_any_order(
    drawn: list[tuple[int, int]], normalise: str, rng: random.Random
):
    weights = Weights(format=0.5, action=1, subject=0.25, goal=0, picture=2, normalise=normalise)
    with TemporaryDirectory() as folder:
        images, stores = f"{folder}/images", (f"{folder}/{name}" for name in ("first", "second"))
        Path(images).mkdir()
        world = PictureSettings("small-world", "pixel", (images,), "")
        known = [*truths(world, 3), *truths(world, 3, with_gold=False)]
        batch, expected_rows = [], []
        for case_number, number in drawn:
            truth, gold = known[case_number]
            plan = [*POOL, gold][min(number, len(POOL))]
            response = UNREADABLE if number > len(POOL) else render_response(plan, "x")
            batch.append(item(response, truth))
            words, case = compute_words([item(response, gold.to_json())])[0], read_answer(truth)[1]
            assert case is not None
            row = {part: words[part] if case_number < 3 or part == "format" else 0.0 for part in PARTS[:-1]}
            row |= {"picture": obvious_picture(world, response, case, gold), "has_gold": float(case_number < 3)}
            expected_rows.append(row | {"unjudged": 0.0, "renders": 1.0, "cached": 0.0})
        order = list(range(len(batch)))
        rng.shuffle(order)
        given_rows, mixed_rows = (
            PictureReward(replace(world, store=store), weights)([batch[index] for index in positions])
            for store, positions in zip(stores, (range(len(batch)), order), strict=True)
        )
    assert [without_seconds(given_rows[index]) for index in order] == [without_seconds(row) for row in mixed_rows]
    wanted = expected(expected_rows, [case_number for case_number, _ in drawn], weights)
    for row, obvious in zip(given_rows, wanted, strict=True):
        for name in (*PARTS, "score", "overall", "spread", "keep"):
            assert row[name] == pytest.approx(obvious[name], abs=1.01 * GRAIN), name


def without_seconds(row: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in row.items() if name != "seconds"}


def advantages(rows: Sequence[dict[str, float]], size: int) -> list[float]:
    """By EasyR1's own code, of samples that stand in groups of `size`."""
    pytest.importorskip("verl", reason="EasyR1 from PyPI (lazyllm-verl) is not installed")
    from verl.trainer.core_algos import compute_grpo_outcome_advantage

    rewards = torch.tensor([[row["overall"]] for row in rows])
    prompts: Any = np.array([str(index // size) for index in range(len(rows))], dtype=object)
    return compute_grpo_outcome_advantage(rewards, torch.ones_like(rewards), prompts)[0].flatten().tolist()


@given(st.lists(st.integers(0, 4096), max_size=8), st.integers(1, 8), st.lists(st.integers(0, 4096), max_size=3))
@settings(max_examples=300, deadline=None)
def test_a_sample_that_could_not_be_judged_has_no_advantage(values: list[int], failed: int, elsewhere: list[int]):
    row = dict.fromkeys((*PARTS, "cached", "unjudged"), 0.0) | {"has_gold": 0.0, "renders": 1.0}
    judged = [row | {"picture": value * GRAIN} for value in values]
    group = [*judged, *(row | {"unjudged": 1.0} for _ in range(failed))]
    combine([group, [row | {"picture": value * GRAIN} for value in elsewhere]], Weights(format=0, picture=1))
    if len(group) > 1:
        of_failed = advantages(group, len(group))[len(values) :]
        assert max(map(abs, of_failed)) < 1e-3
        if len(set(values)) <= 1:
            assert set(of_failed) == {0.0}


def served(settings: PictureSettings, editor: ChatServer, judge: ChatServer, **changes: Any) -> PictureSettings:
    """Of servers on loopback, whose requests may take TIMEOUT seconds."""
    specs = {"editor": f"images-api:{editor.url}#e", "judge": f"openai:{judge.url}#j"}
    editing = {"timeout": TIMEOUT, "retries": 1, "canvas_pixels": 224 * 224}
    judging = {"timeout": TIMEOUT, "backoff": 0.0}
    return replace(settings, **specs, editor_settings=editing, judge_settings=judging, **changes)


def batch_of(settings: PictureSettings, groups: int, size: int) -> list[dict[str, Any]]:
    goals = ("brighter", "darker", "warmer", "cooler", "sharper", "softer", "higher contrast", "lower contrast")
    plans = [Decomposition.of(["Adjust"], ["photo"], [goal]) for goal in goals[:size]]
    return [item(render_response(plan, "x"), truth) for truth, _ in truths(settings, groups) for plan in plans]


def plans_stored(settings: PictureSettings) -> Counter[str]:
    """How often each plan and seed is in the store, by the editor's keys."""
    found: Counter[str] = Counter()
    for file in Path(settings.store).glob("*.sqlite"):
        with Store(file, read_only=True) as store:
            for _, record in store:
                case = Case(*(record[name] for name in Case._fields))
                found[f"{join(record['plan'])} {render_seed(settings.seed, case)}"] += 1
    return found


@pytest.mark.slow
def test_three_faults_in_ten_leave_no_advantage_and_are_all_that_is_asked_again(world: PictureSettings):
    editing = with_faults(edited, EDITOR_FAULTS, seed=5)
    judging = with_faults(judge_server.honest, JUDGE_FAULTS, seed=6)
    with serve_editor(editing, slow=2 * TIMEOUT) as editor, serve(judging) as judge:
        settings, batch = served(world, editor, judge, concurrency=8, max_unjudged=1.0), batch_of(world, 12, 8)
        rows = PictureReward(settings, Weights())(batch)
        failed = [index for index, row in enumerate(rows) if row["unjudged"]]
        assert 6 < len(failed) < len(rows) - 6
        values = advantages(rows, 8)
        assert max(abs(values[index]) for index in failed) < 1e-3
        flat = [start for start in range(0, len(rows), 8) if rows[start]["spread"] == 0]
        assert {rows[start]["keep"] for start in flat} == {0.0}
        assert flat
        assert {value for start in flat for value in values[start : start + 8]} == {0.0}
        assert sum(plans_stored(settings).values()) == len(rows) - len(failed)
        # what waits for another judgement need not be rendered for it
        assert len(list(Path(settings.store, "renders").glob("*.png"))) < len(failed)
        stored, before = plans_stored(settings), editor.total
        again = PictureReward(settings, Weights())(batch)
        assert not {asked.key for asked in editor.log[before:]} & set(stored)
        judged = [index for index in range(len(rows)) if index not in failed]
        assert all(again[index]["picture"] == rows[index]["picture"] for index in judged)


@pytest.mark.slow
@pytest.mark.parametrize("dead", ["editor", "judge"])
def test_a_dead_server_ends_the_run_with_one_line(world: PictureSettings, dead: str):
    def loading(asked: Asked) -> Answer:
        return error(503, "the model is loading")

    with (
        serve_editor(loading if dead == "editor" else edited) as editor,
        serve(loading if dead == "judge" else judge_server.honest) as judge,
    ):
        settings = served(world, editor, judge, max_unjudged=0.05)
        with pytest.raises(EvaluationError, match=f"13 of the last 13 plans .* the {dead}: ") as caught:
            PictureReward(settings, Weights())(batch_of(world, 3, 8))
        assert "\n" not in str(caught.value)


def test_a_sequencer_is_asked_once_for_each_decomposition_and_its_failure_is_no_zero(world: PictureSettings):
    def order(asked: Asked) -> Answer:
        refused = '["b"]' in asked.request
        return error(400, "no") if refused else completion('["Relighting photo to brighter"]')

    known = truths(world, 2)
    plans = [Decomposition.of(["Apply"], ["photo"], [goal]) for goal in "ab"]
    batch = [item(render_response(plan, "x"), truth) for truth, _ in known for plan in plans]
    of_rule = PictureReward(world, Weights())([item(render_response(BRIGHTER, "x"), truth) for truth, _ in known])
    with serve(order) as sequencer:
        settings = replace(world, sequencer=f"openai:{sequencer.url}#s", store=f"{world.store}-sequenced")
        rows = PictureReward(settings, Weights(format=0, picture=1))(batch)
        assert [row["unjudged"] for row in rows] == [0, 1, 0, 1]
        assert [row["picture"] for row in rows] == [of_rule[index]["picture"] for index in (0, 0, 1, 1)]
        again = PictureReward(settings, Weights(format=0, picture=1))(batch)
        assert [row["picture"] for row in again] == [row["picture"] for row in rows]
        assert ['["a"]' in asked.request for asked in sequencer.log].count(True) == 1
    with pytest.raises(EvaluationError, match="address"):
        PictureReward(replace(world, sequencer="local:model"), Weights())


WORKER = """
import json, sys
from reward_fns.picture import compute_score
batch, keys = json.load(open(sys.argv[1]))
print(len(compute_score(batch, **keys)), flush=True)
"""


@pytest.mark.full
def test_kill_9_at_twenty_moments_loses_no_more_renders_than_were_under_way(world: PictureSettings, tmp_path: Path):
    def slowly(asked: Asked) -> Answer:
        time.sleep(0.03)
        return edited(asked)

    rng, jobs = random.Random(0), 4
    with serve_editor(slowly) as editor, serve(judge_server.honest) as judge:
        settings, batch = served(world, editor, judge, concurrency=jobs), batch_of(world, 32, 8)
        (tmp_path / "batch.json").write_text(json.dumps([batch, asdict(settings)]))
        command = [sys.executable, "-c", WORKER, str(tmp_path / "batch.json")]
        environment = os.environ | {"PYTHONPATH": os.getcwd()}
        kills = 0
        while True:
            stored, before = plans_stored(settings), editor.total
            moment = before + rng.randint(1, 12) if kills < 20 else sys.maxsize
            process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)
            while process.poll() is None and editor.total < moment:
                time.sleep(0.005)
            # within a render, a judgement, or what lies between them
            time.sleep(rng.uniform(0, 0.06))
            process.kill()
            printed, _ = process.communicate()
            asked = editor.log[before:]
            assert not {one.key for one in asked} & set(stored)
            assert sum(one.nth > 0 for one in asked) <= jobs
            if printed:
                break
            kills += 1
        assert (kills, int(printed)) == (20, len(batch))
        assert set(plans_stored(settings).values()) == {1}
        assert sum(plans_stored(settings).values()) == len(batch)


def test_processes_read_what_others_have_stored(tmp_path: Path):
    with SharedStore(tmp_path) as one, SharedStore(tmp_path) as other:
        one.keep("a", {"picture": 0.5})
        assert other.get("a") is None
        other.refresh()
        assert other.get("a") == {"picture": 0.5}
        other.keep("b", {"picture": 1.0})
        one.refresh()
        assert (one.get("b"), len(one), len(other)) == ({"picture": 1.0}, 2, 2)
    assert len(list(tmp_path.glob("*.sqlite"))) == 2


def test_the_plan_of_the_rule_is_what_is_rendered(world: PictureSettings):
    ((truth, gold),) = truths(world, 1)
    PictureReward(world, Weights())([item(render_response(gold, "x"), truth)])
    with SharedStore(Path(world.store)) as store:
        (record,) = store._records.values()  # pyright: ignore[reportPrivateUsage]
    assert tuple(record["plan"]) == canonical(rule(gold))


def test_a_page_shows_the_best_and_the_worst_plans(world: PictureSettings, tmp_path: Path):
    batch = [item(render_response(gold, "x"), truth) for truth, gold in truths(world, 2)]
    PictureReward(world, Weights())([*batch, item(render_response(BRIGHTER, "x"), batch[0]["ground_truth"])])
    write_picture_page(Path(world.store), tmp_path / "out" / "pictures.html")
    page = (tmp_path / "out" / "pictures.html").read_text()
    # best and worst of three plans, with photo and edit each
    assert page.count("<article>") == 6
    assert page.count("data:image/jpeg;base64,") == 12
    with pytest.raises(UserError, match="last_call"):
        write_picture_page(tmp_path, tmp_path / "none.html")
