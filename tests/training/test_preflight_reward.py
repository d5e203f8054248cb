"""Reward files, prompts and chat templates that EasyR1 would drop without a word, or fail on while it trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import verl
from fakes.preflight_runs import config, of_rows, one, row, run

from ier1_plugin.training.preflight import reward


def test_a_missing_prompt_file_is_named():
    assert "no such file" in one(reward.prompt(run(data__format_prompt="nowhere.jinja")))
    assert "no such file" in one(reward.prompt(run(data__format_prompt=None)))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Take this apart.", "never uses {{ content }}"),
        ("{{ content }} {{ image }}", "uses image: EasyR1 gives it nothing but content"),
        ("one\n{{ content", "line 2: "),
    ],
)
def test_a_prompt_that_easyr1_would_render_with_a_hole_is_named(tmp_path: Path, text: str, told: str):
    (tmp_path / "p.jinja").write_text(text)
    assert told in one(reward.prompt(run(data__format_prompt=str(tmp_path / "p.jinja"))))


def test_a_chat_template_that_easyr1_would_drop_or_take_for_text_is_named(tmp_path: Path):
    (tmp_path / "chat.jinja").write_text("{{ messages }}")
    file = list(reward.chat_template(run(data__override_chat_template=f"{tmp_path}/chat.jinja")))
    if verl.__version__ == "0.3.2.dev2":
        assert "takes the text of the template" in one(file)
    else:
        assert file == []
        assert "no such file" in one(reward.chat_template(run(data__override_chat_template="gone.jinja")))


def test_an_image_folder_that_easyr1_would_drop_is_named(tmp_path: Path):
    assert "no such folder" in of_rows(tmp_path, [row(n) for n in range(4)], data__image_dir="gone")[0]


def reward_of(tmp_path: Path, text: str, **changes: Any) -> list[str]:
    (tmp_path / "r.py").write_text(text)
    return list(reward.reward_function(run(worker__reward__reward_function=f"{tmp_path / 'r.py'}:f", **changes)))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import no_such_package", "fails to load: ModuleNotFoundError"),
        ("f(", "fails to load: SyntaxError"),
        ("def g(x): return []", "has no function f"),
        ("REWARD_TYPE = 'group'\ndef f(x): return []", "REWARD_TYPE='group'"),
        ("def f(x): return [{'overall': 1.0}]", "one score for each response"),
        ("def f(x): return [{'score': 1.0} for _ in x]", "dicts with `overall`"),
        ("def f(x): return [{'overall': 1.0, 'why': 'good'} for _ in x]", "the same finite numbers"),
        ("def f(x): return [{'overall': float('nan')} for _ in x]", "the same finite numbers"),
        ("def f(x): return [{'overall': 1.0, str(i): 1.0} for i, _ in enumerate(x)]", "the same finite numbers"),
        ("def f(x): raise KeyError('label')", "a trial call fails: KeyError: 'label'"),
    ],
)
def test_a_reward_file_that_would_fail_in_training_is_named(tmp_path: Path, text: str, told: str):
    assert told in one(reward_of(tmp_path, text))


def test_a_sequential_reward_is_called_one_response_at_a_time(tmp_path: Path):
    text = "REWARD_TYPE = 'sequential'\ndef f(x): return {'overall': float(len(x['response']))}"
    kind = {"worker__reward__reward_type": "sequential"} if "reward_type" in config().worker.reward else {}
    assert reward_of(tmp_path, text, **kind) == []


def test_a_reward_type_that_does_not_match_the_file_is_named(tmp_path: Path):
    if "reward_type" not in config().worker.reward:
        pytest.skip("this EasyR1 takes the type from the file")
    lines = reward_of(
        tmp_path, "def f(x): return [{'overall': 1.0} for _ in x]", worker__reward__reward_type="sequential"
    )
    assert "worker.reward.reward_type=sequential, but the reward file is written for batch" in one(lines)


def test_a_missing_reward_file_and_an_unset_one_are_named():
    assert "there is no file nowhere.py" in one(
        reward.reward_function(run(worker__reward__reward_function="nowhere.py:f"))
    )
    assert "is not set" in one(reward.reward_function(run(worker__reward__reward_function=None)))


def test_the_reward_of_this_project_has_no_problem():
    assert list(reward.reward_function(run())) == []


@pytest.mark.parametrize(
    ("kwargs", "told"),
    [
        ({"goal_wieght": 0.0}, "kwargs.goal_wieght: the function takes no such argument; nearest: goal_weight"),
        ({"goal_weight": -1.0}, "a trial call fails: ValueError: reward weights must be >= 0"),
        ({"goal_match": "fuzzy"}, "a trial call fails: ValueError: goal_match='fuzzy'"),
    ],
)
def test_arguments_that_the_reward_does_not_take_are_named(kwargs: dict[str, Any], told: str):
    assert told in one(reward.reward_function(run(worker__reward__reward_function_kwargs=kwargs)))
