"""The JSON in a reply: one value, or a reason why there is none."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ier1_plugin.chat.reply import json_in_reply


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('["a"]', ["a"]),
        ('\n {"a": 1}\n', {"a": 1}),
        ('<think> {"a": 0} </think>\n{"a": 1}', {"a": 1}),
        ("once </think> and again </think> [1]", [1]),
        ('no opening tag, {"a": 0}</think>[1]', [1]),
        ('["</think>"]', ["</think>"]),
        ('{"a": 0}? No.</think>\n{"a": "```json {}```"}', {"a": "```json {}```"}),
        ('```json\n["a"]\n```', ["a"]),
        ('```\n["a"]```', ["a"]),
        ('```json\n["```"]\n```', ["```"]),
        ('Here it is:\n```json\n{"a": 1}\n```\nTell me if you want more.', {"a": 1}),
        ('Hm. {"a": 0}\n[/THINK]{"a": 1}', {"a": 1}),
        ("``` json\n[1]\n```", [1]),
        ("~~~json\n[1]\n~~~", [1]),
        ("<seed:think>[0]</seed:think>[1]", [1]),
        ("<|channel|>analysis<|message|>[0]<|end|><|start|>assistant<|channel|>final<|message|>[1]", [1]),
        ("<|begin_of_box|>[1]<|end_of_box|>", [1]),
        ("<reasoning>Hm. [0]</reasoning><answer>\n[1]\n</answer>", [1]),
        ("\\boxed{[1, 2]}", [1, 2]),
        ('$\\boxed{{"a": 1}}$', {"a": 1}),
        ("null", None),
        ("3", 3),
    ],
)
def test_one_value_is_read(text: str, value: Any):
    assert json_in_reply(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<think> all thought </think>",
        "<think> [1]",
        'Here it is: {"a": 1}',
        '{"a": 1} I hope this helps.',
        '{"a": 1}\n{"a": 1}',
        'First {"a": 0}, then\n```json\n{"a": 1}\n```',
        '```json\n{"a": 1} or {"a": 2}\n```',
        '```json\n{"a": 1}\n```\n```json\n{"a": 1}\n```',
        '{"a": 1',
        "{'a': 1}",
        '{"a": NaN}',
        '{"a": {"b": 1, "b": 2}}',
        "[" * 20_000,
        "\\boxed{}",
    ],
)
def test_nothing_is_repaired_or_guessed(text: str):
    with pytest.raises(ValueError, match=r"empty|no JSON|twice"):
        json_in_reply(text)


@given(st.text('{}[]"`\\,:1a \n</think>box', max_size=40))
def test_it_returns_or_raises_value_error(text: str):
    with suppress(ValueError):
        json_in_reply(text)
