"""Whatever a server or a model sends: an answer or an error, never a traceback or a hang."""

from __future__ import annotations

import random
from contextlib import suppress

import pytest

from ier1_plugin.chat import ChatError
from ier1_plugin.chat.http import MAX_RETRY_AFTER, failure
from ier1_plugin.chat.reply import json_in_reply
from ier1_plugin.chat.server import DISPENSABLE, read_completion, refused_parameter

COUNT = 10_000
ERRORS = (
    '{"error": {"message": "Unsupported value: \'temperature\' does not support 0.7", "param": "seed", "code": null}}',
    '{"message": {"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted", "input": {"a": 1}}]}}',
    '[{"error": {"message": "Please retry in 41.5s.", "details": [{"retryDelay": "41s"}], "metadata": {"raw": "x"}}}]',
    "<html><style>b {}</style><h1>Bad &amp; gone</h1>try again in 1h2m3s</html>",
)
REPLIES = (
    '{"choices": [{"finish_reason": "stop", "message": {"content": "[1]", "refusal": null}}], "usage": {"a": 1}}',
    '{"choices": [{"message": {"content": [{"type": "thinking", "thinking": []}, {"type": "text", "text": "a"}]}}]}',
    '{"choices": [], "error": {"message": "no", "code": 400}, "model": "m"}',
)
TEXTS = (
    '<think>Hm. {"a": 0}</think>\n```json\n{"a": [1, "b"]}\n```\nMore?',
    '\\boxed{{"a": NaN}}',
    "<|begin_of_box|>[1, 2, {}]<|end_of_box|>",
)
# what a change puts in, some of it many times over
WORDS = "null true 1e999 -1 \ud800 \\ud800 </think> ``` \\boxed{ [/THINK]"
BITS = (*"{}[]\"`\\<>&,:'\n\0", *WORDS.split())


def mutated(rng: random.Random, texts: tuple[str, ...]) -> str:
    text = rng.choice(texts)
    for _ in range(rng.randint(1, 6)):
        begin, end = sorted(rng.randint(0, len(text)) for _ in range(2))
        times = rng.choice((1, 1, 1, 2, 3_000))
        text = text[:begin] + rng.choice((text[begin:end], rng.choice(BITS) * times, "")) + text[end:]
    return text


@pytest.mark.full
@pytest.mark.timeout(600)
def test_no_error_reply_or_text_is_too_odd():
    rng = random.Random(11)
    for number in range(COUNT):
        body = mutated(rng, ERRORS)
        error = failure("here", rng.choice((400, 403, 404, 422, 429, 500)), body, {"retry-after": body[:9]}, "KEY", "k")
        assert isinstance(error, ChatError), number
        assert 0 <= getattr(error, "wait", 0.0) <= MAX_RETRY_AFTER
        assert refused_parameter(body, dict.fromkeys(DISPENSABLE)) in ("", *DISPENSABLE)
        with suppress(ChatError):
            read_completion(mutated(rng, REPLIES), "here", "")
        with suppress(ValueError):
            json_in_reply(mutated(rng, TEXTS))
