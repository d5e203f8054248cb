"""The picture as reward: what it is worth, that nothing is paid for twice, and that a failure is no zero."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes.chat_server import Answer, Asked, ChatServer, completion, error, raw, serve
from fakes.judge_server import picture, verdict
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ier1_plugin.editors.base import EditError
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
)
from ier1_plugin.evaluation.picture_page import write_picture_page
from ier1_plugin.evaluation.records import EvaluationError, Score
from ier1_plugin.pipeline.agents import rule
from ier1_plugin.runs.errors import UserError
from ier1_plugin.runs.shared_store import SharedStore
from ier1_plugin.small_world.world import samples
from ier1_plugin.task.images import png_bytes
from ier1_plugin.task.parsing import render_response
from ier1_plugin.task.rows import Case, write_answer
from ier1_plugin.task.schema import Decomposition
from reward_fns import picture as reward_file

BRIGHTER = Decomposition.of(["Relighting"], ["photo"], ["brighter"])
UNREADABLE = "no tags at all"


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
    judged = [row for row in results if row["renders"] and not row["unjudged"]]
    spread_of = {}
    for group in set(group_of):
        peers = [row for row, g in zip(results, group_of, strict=True) if g == group and not row["unjudged"]]
        spread_of[group] = deviation([row["score"] for row in peers]) if peers else 0.0
    for row, group in zip(final, group_of, strict=True):
        peers = [r for r, g in zip(results, group_of, strict=True) if g == group and not r["unjudged"]]
        pool = peers if any(peer["renders"] for peer in peers) else judged
        if row["unjudged"]:
            for name in ("picture", "score", "overall"):
                row[name] = mean([one[name] for one in pool]) if pool else 0.5
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
    mixed = [dict(rows[index]) for index in order]
    groups: dict[int, list[dict[str, float]]] = {}
    for index, row in zip(order, mixed, strict=True):
        groups.setdefault(group_of[index], []).append(row)
    combine(list(groups.values()), weights)
    for index, row in zip(order, mixed, strict=True):
        for name in ("picture", "score", "overall", "spread", "keep"):
            # one grain where the two sums were rounded apart
            assert row[name] == pytest.approx(wanted[index][name], abs=1.01 * GRAIN)


def advantages(rewards: Sequence[float]) -> list[float]:
    """As EasyR1 computes them for one prompt (verl/trainer/core_algos.py, compute_grpo_outcome_advantage)."""
    scores = torch.tensor(rewards, dtype=torch.float32)
    return ((scores - scores.mean()) / (scores.std() + 1e-6)).tolist()


@given(st.lists(st.integers(0, 4096), min_size=1, max_size=7), st.integers(1, 6))
@settings(max_examples=100, deadline=None)
def test_a_sample_that_could_not_be_judged_has_no_advantage(values: list[int], failed: int):
    row = dict.fromkeys((*PARTS, "cached", "unjudged"), 0.0) | {"has_gold": 0.0, "renders": 1.0}
    group = [row | {"format": 0.0, "picture": value * GRAIN} for value in values]
    group += [row | {"unjudged": 1.0} for _ in range(failed)]
    combine([group], Weights(format=0, picture=1))
    of_failed = advantages([row["overall"] for row in group])[len(values) :]
    assert max(map(abs, of_failed)) < 1e-3
    if len(set(values)) == 1:
        assert set(of_failed) == {0.0}


def graded(asked: Asked) -> Answer:
    """A judge whose scores differ with the edit."""
    red = int(hashlib.sha256(picture(asked.body, 1).tobytes()).hexdigest(), 16)
    return completion(verdict(Score(red % 5, red % 4, red % 3)), usable=True)


FAULTS = [
    lambda: error(500),
    lambda: raw("<html>bad gateway</html>", "text/html", status=502),
    lambda: error(429, "slow down", Retry_After="0"),
    lambda: completion("I can't help with that."),
    lambda: completion(None, refusal="no"),
]


def graded_with_faults(asked: Asked) -> Answer:
    """Three in ten plans never get an answer, the same ones whenever they are asked."""
    draw = int(hashlib.sha256(asked.key.encode() + picture(asked.body, 1).tobytes()).hexdigest(), 16)
    return FAULTS[draw % len(FAULTS)]() if draw % 100 < 30 else graded(asked)


def served(settings: PictureSettings, server: ChatServer) -> PictureSettings:
    judge = {"backoff": 0.0, "timeout": 5.0}
    return replace(settings, editor="small-world", judge=f"openai:{server.url}#vlm", judge_settings=judge)


def batch_of(settings: PictureSettings, groups: int, size: int) -> list[dict[str, Any]]:
    goals = ("brighter", "darker", "warmer", "cooler", "sharper", "softer", "higher contrast", "lower contrast")
    plans = [Decomposition.of(["Adjust"], ["photo"], [goal]) for goal in goals[:size]]
    return [item(render_response(plan, "x"), truth) for truth, _ in truths(settings, groups) for plan in plans]


@pytest.mark.slow
def test_training_goes_on_where_three_in_ten_judgements_fail(world: PictureSettings):
    with serve(graded_with_faults) as server:
        batch = batch_of(world, 8, 8)
        rows = PictureReward(replace(served(world, server), max_unjudged=0.6), Weights())(batch)
        failed = [row for row in rows if row["unjudged"]]
        assert 4 < len(failed) < 40
        for start in range(0, len(rows), 8):
            group = rows[start : start + 8]
            if any(row["unjudged"] for row in group) and not all(row["unjudged"] for row in group):
                values = advantages([row["overall"] for row in group])
                assert all(abs(value) < 1e-3 for value, row in zip(values, group, strict=True) if row["unjudged"])
        before = server.total
        again = PictureReward(replace(served(world, server), max_unjudged=0.6), Weights())(batch)
        judged = [index for index, row in enumerate(rows) if not row["unjudged"]]
        assert [again[index]["overall"] for index in judged] == [rows[index]["overall"] for index in judged]
        # only what failed is asked again
        assert server.total - before <= 3 * 5 * len(failed)


@pytest.mark.parametrize("dead", ["editor", "judge"])
def test_a_dead_server_ends_the_run_with_one_line(world: PictureSettings, dead: str):
    with serve(lambda asked: error(503, "the model is loading")) as server:
        settings = served(world, server)
        if dead == "editor":
            editor = {"retries": 0, "timeout": 2.0}
            settings = replace(settings, editor=f"images-api:{server.url}#x", editor_settings=editor)
        with pytest.raises(EvaluationError, match=f"65 of the last 65 plans .* the {dead}: ") as caught:
            PictureReward(settings, Weights())(batch_of(world, 12, 8))
        assert "\n" not in str(caught.value)


WORKER = """
import json, sys
from reward_fns.picture import compute_score
batch, keys = json.load(open(sys.argv[1]))
print(len(compute_score(batch, **keys)), flush=True)
"""


@pytest.mark.slow
def test_kill_9_at_any_moment_loses_no_judgement_that_was_stored(world: PictureSettings, tmp_path: Path):
    def slowly(asked: Asked) -> Answer:
        time.sleep(0.02)
        return graded(asked)

    with serve(slowly) as server:
        settings = served(world, server)
        batch, jobs = batch_of(world, 12, 8), 4
        keys = {"editor": settings.editor, "judge": settings.judge, "store": settings.store, "concurrency": jobs}
        (tmp_path / "batch.json").write_text(json.dumps([batch, keys | {"image_root": settings.image_root[0]}]))
        command = [sys.executable, "-c", WORKER, str(tmp_path / "batch.json")]
        environment = os.environ | {"PYTHONPATH": os.getcwd()}
        kills = 0
        for moment in range(20):
            process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
            # from the first request on, a little later each time
            asked = server.total
            while process.poll() is None and server.total == asked:
                time.sleep(0.01)
            time.sleep(0.02 * (moment % 5))
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                kills += 1
            process.communicate()
        assert kills >= 5
        assert subprocess.run(command, env=environment, capture_output=True, text=True).stdout == f"{len(batch)}\n"
        with SharedStore(Path(settings.store)) as store:
            assert len(store) == len(batch)
        # every kill may lose what was under way and not yet stored
        assert server.total <= len(batch) + kills * jobs


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
