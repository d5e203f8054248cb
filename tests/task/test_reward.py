"""The reward: its keys and weights, its errors, and that nothing a policy emits can break it."""

from __future__ import annotations

import importlib.util
import json
import math
import random
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ier1_plugin.prompts import render
from ier1_plugin.task.parsing import MARKERS, render_response
from ier1_plugin.task.schema import Decomposition
from reward_fns.decomposition import compute_score

GOLD = Decomposition.of(["Recoloring", "Delete"], ["coat", "hair"], ["scarlet", "50%"])
KEYS = {"overall", "format", "action", "subject", "goal"}


def score(response: str, gold: Decomposition = GOLD, **options: Any) -> dict[str, float]:
    return compute_score([{"response": response, "response_length": 1, "ground_truth": gold.to_json()}], **options)[0]


def test_overall_is_the_weighted_mean_of_the_parts_and_a_weight_of_zero_takes_one_out():
    response = render_response(Decomposition.of(["Delete"], ["coat"], []), "x")
    parts = score(response, format_weight=1, action_weight=2, subject_weight=3, goal_weight=4)
    assert parts["overall"] == pytest.approx((1 + 2 * 2 / 3 + 3 * 2 / 3 + 0) / 10)
    parts = score(render_response(Decomposition.of(GOLD.actions, GOLD.subjects, []), "x"), goal_weight=0)
    assert (parts["overall"], parts["goal"]) == (1.0, 0.0)
    response = render_response(Decomposition.of([], [], ["bright scarlet"]), "x")
    assert score(response, goal_match="token")["goal"] == pytest.approx(2 * (2 / 3) / 3)


def test_options_that_make_no_sense_are_an_error():
    wrong: list[Any] = [{"goal_weight": -1}, {"format_weight": math.nan}, {"format_weight": math.inf}]
    wrong += [dict.fromkeys(("format_weight", "action_weight", "subject_weight", "goal_weight"), 0)]
    for options in wrong:
        with pytest.raises(ValueError, match="weights"):
            compute_score([], **options)
    with pytest.raises(ValueError, match="exact, token"):
        compute_score([], goal_match="fuzzy")


@pytest.mark.parametrize("bad", ["", "nope" * 1000, '{"actions": []}', None, ["x"], "[" * 20_000])
def test_a_bad_ground_truth_is_an_error_with_its_position_and_its_start(bad: object):
    good = {"response": "", "ground_truth": GOLD.to_json()}
    with pytest.raises(ValueError, match="item 1") as error:
        compute_score([good, {"response": "", "ground_truth": bad}])
    assert len(str(error.value)) < 500


def test_every_response_of_a_batch_gets_the_same_float_keys():
    responses = ["", render_response(GOLD, "x"), "<action>[]</action>", "\ud800"]
    scores = compute_score([{"response": text, "ground_truth": GOLD.to_json()} for text in responses])
    assert all(set(parts) == KEYS and all(type(value) is float for value in parts.values()) for parts in scores)


def test_it_loads_by_path_the_way_easyr1_does():
    file = Path(__file__).parents[2] / "reward_fns" / "decomposition.py"
    spec: Any = importlib.util.spec_from_file_location("custom_reward_fn", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.REWARD_TYPE == "batch"
    assert module.compute_score is not compute_score


# --- a second, obvious implementation -------------------------------------------------------------------------------


def obvious_normalise(text: str) -> str:
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    text = re.sub(r"\s+", " ", text)
    while True:
        before = text
        text = text.strip()
        while text and unicodedata.category(text[0])[0] == "P" and not re.match(r"%\d", text):
            text = text[1:].strip()
        while text and unicodedata.category(text[-1])[0] == "P" and not re.search(r"\d%$", text):
            text = text[:-1].strip()
        text = re.sub(r"^(a|an|the) ", "", text)
        if text == before:
            return text


def obvious_component(text: str, tag: str) -> list[str] | None:
    found = re.fullmatch(rf"(?:(?!</?{tag}>).)*<{tag}>((?:(?!</?{tag}>).)*)</{tag}>(?:(?!</?{tag}>).)*", text, re.S)
    try:
        items = json.loads(found[1]) if found else None
    except ValueError:
        return None
    return items if isinstance(items, list) and all(isinstance(item, str) for item in items) else None


def obvious_f1(predicted: list[str] | None, gold: tuple[str, ...]) -> float:
    if predicted is None:
        return 0.0
    p = {obvious_normalise(item) for item in predicted} - {""}
    g = {obvious_normalise(item) for item in gold} - {""}
    if not p and not g:
        return 1.0
    hits = len(p & g)
    precision, recall = hits / max(1, len(p)), hits / max(1, len(g))
    return 0.0 if hits == 0 else 2 * precision * recall / (precision + recall)


def obvious_score(response: str, gold: Decomposition) -> dict[str, float]:
    rest = re.sub(r"<think>.*?(</think>|\Z)", "", response, count=1, flags=re.S)
    read = {tag: obvious_component(rest, tag) for tag in ("action", "subjects", "goals")}
    shape = r"\s*<think>(.*?)</think>\s*<action>.*</action>\s*<subjects>.*</subjects>\s*<goals>.*</goals>\s*"
    shaped = re.fullmatch(shape, response, re.S)
    think = shaped[1] if shaped else ""
    clean = bool(think.strip()) and not any(marker in think for marker in MARKERS)
    gaps = re.sub(r"<(action|subjects|goals)>.*?</\1>", "", rest, flags=re.S).strip() == ""
    parts = {
        "format": float(clean and gaps and None not in read.values()),
        "action": obvious_f1(read["action"], gold.actions),
        "subject": obvious_f1(read["subjects"], gold.subjects),
        "goal": obvious_f1(read["goals"], gold.goals),
    }
    return {"overall": sum(parts.values()) / 4, **parts}


WORDS = ["coat", "The coat!", "hair", "50%", "% 50", "a", "an  apple", "Straße", "ﬁne", "", "…", "İ", "\\"]
SETS = st.lists(st.one_of(st.sampled_from(WORDS), st.text(max_size=8)), max_size=4)
PIECES = [*MARKERS, " ", "\n", "[]", '["coat"]', '["hair", "coat"]', "[1]", "{}", "x", '["<goals>"]', "null"]
FRAGMENTS = st.one_of(st.sampled_from(PIECES), st.text(max_size=5), SETS.map(json.dumps))
NEARLY = st.builds(
    lambda a, s, g, cut, text: (whole := render_response(Decomposition.of(a, s, g), "why"))[:cut] + text + whole[cut:],
    SETS,
    SETS,
    SETS,
    st.integers(0, 200),
    st.sampled_from(["", "", "", " ", "x", *MARKERS]),
)


@settings(max_examples=1500, deadline=None)
@given(st.one_of(st.lists(FRAGMENTS, max_size=16).map("".join), NEARLY), st.builds(Decomposition.of, SETS, SETS, SETS))
@example(render_response(GOLD, "x"), GOLD)
def test_it_agrees_with_an_obvious_second_implementation(response: str, gold: Decomposition):
    assert score(response, gold) == pytest.approx(obvious_score(response, gold))


# --- whatever a policy emits ----------------------------------------------------------------------------------------

MEGABYTE = 1_000_000
COMBINING = "\u0315\u0300"
HARD: dict[str, Callable[[], str]] = {
    "1 MB of text": lambda: "word " * (MEGABYTE // 5),
    "1 MB in a component": lambda: f"<think>x</think><action>[]</action><subjects>[]</subjects><goals>{'[' * MEGABYTE}",
    "20,000 nested arrays": lambda: f"<action>{'[' * 20_000}{']' * 20_000}</action>",
    "a million opening tags": lambda: "<action>" * (MEGABYTE // 8),
    "repeated thinks": lambda: "<think>x</think>" * (MEGABYTE // 16),
    "a million brackets in a string": lambda: f"<goals>{json.dumps(['(' * MEGABYTE])}</goals>",
    "a run of articles": lambda: f"<goals>{json.dumps(['the a an ' * (MEGABYTE // 9)])}</goals>",
    "a run of combining marks": lambda: f"<goals>{json.dumps([COMBINING * (MEGABYTE // 2)])}</goals>",
    "many goals": lambda: f"<goals>{json.dumps([str(i) for i in range(100_000)])}</goals>",
    "a huge number": lambda: f"<goals>[{'9' * 10_000}]</goals>",
    "not a number": lambda: "<goals>[NaN, Infinity]</goals>",
    "lone surrogates": lambda: '\ud800<goals>["\\ud800", "\udfff"]</goals>',
    "tags in tags": lambda: "<action><subjects><goals>[]</goals></subjects></action>",
    "the prompt": lambda: render("decompose", content="<image>x"),
    "a control character": lambda: '<goals>["\x00\n"]</goals>',
}


@pytest.mark.parametrize("goal_match", ["exact", "token"])
@pytest.mark.parametrize("make", HARD.values(), ids=HARD)
def test_the_hardest_responses_score_between_zero_and_one(make: Callable[[], str], goal_match: str):
    assert all(0.0 <= value <= 1.0 for value in score(make(), goal_match=goal_match).values())


def fuzzed(rng: random.Random) -> str:
    """A response put together of tags, JSON, noise, and valid responses with bytes knocked out."""
    if rng.random() < 0.3:
        text = list(render_response(GOLD, "because"))
        for _ in range(rng.randrange(4)):
            text[rng.randrange(len(text))] = rng.choice(["", "<", ">", '"', "]", chr(rng.randrange(0x110000))])
        return "".join(text)
    pieces = [*MARKERS, '["coat"]', "[", "]", "{}", '"', "\\u", "\ud800", " ", "\n", "<|im_end|>", "é", "[[", "1e999"]
    return "".join(rng.choice(pieces) for _ in range(rng.randrange(24)))


def test_a_hundred_thousand_fuzzed_responses_raise_nothing():
    rng, answer = random.Random(0), GOLD.to_json()
    scores = compute_score([{"response": fuzzed(rng), "ground_truth": answer} for _ in range(100_000)])
    assert len(scores) == 100_000
    assert all(0.0 <= value <= 1.0 for parts in scores for value in parts.values())
    assert any(parts["format"] == 1.0 for parts in scores)
