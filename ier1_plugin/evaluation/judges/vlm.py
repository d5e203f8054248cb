"""Vision-language models as judges: two labelled images and the rubric in, a JSON object with three scores out.

judge = vlm_judge("gemini:gemini-2.5-flash")
judge.ask(judge.prepare(Case(source, edited, "remove the lamp")), 0, 0)
-> Completion(text='{"images_seen": 2, "reasoning": "The lamp is gone.", "fulfilment": 4, ...}', ...)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ier1_plugin.chat import ChatError, ChatRequest, Completion, make_chat
from ier1_plugin.evaluation.judges.base import IMAGES, IMAGES_SEEN, Case, Judge
from ier1_plugin.evaluation.judges.prompt import JudgePrompt
from ier1_plugin.evaluation.records import DIMENSIONS, EvaluationError
from ier1_plugin.runs.secrets import without_password
from ier1_plugin.task.images import encode

MAX_SIDE = 1024
# several judgements of one edit must be able to differ
ONCE, SEVERAL = 0.0, 1.0
# a question that was answered badly is not asked the same way again
SECOND_TEMPERATURE = 0.7
MAX_TOKENS = 4096
"""A verdict is short; the rest is room for models that reason first, and an end to those that never stop."""
SOURCE_LABEL, EDITED_LABEL = "Source image:", "Edited image:"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        # first what it sees, then what it thinks, then the scores
        IMAGES_SEEN: {"type": "integer", "enum": list(range(IMAGES + 1))},
        "reasoning": {"type": "string"},
        **{name: {"type": "integer", "enum": list(range(highest + 1))} for name, highest in DIMENSIONS.items()},
    },
    "required": [IMAGES_SEEN, "reasoning", *DIMENSIONS],
    "additionalProperties": False,
}


def vlm_judge(
    spec: str,
    *,
    max_side: int = MAX_SIDE,
    rubric: Path | None = None,
    samples: int = 1,
    timeout: float = 120.0,
    max_tokens: int = MAX_TOKENS,
    backoff: float = 1.0,
    on_warning: Callable[[str], None] = lambda line: None,
) -> Judge:
    """The judge of a model that `chat.make_chat` knows.

    `max_side` in pixels, `timeout` in seconds a request, `max_tokens` of a reply, its thoughts included; `backoff`: see
    `make_chat`. One sample is judged at temperature 0, several at 1, since they could not differ at 0: these are two
    judges, which have two names and share no judgements.

    EvaluationError: there is no such judge, or it is not available on this machine (no key, no client).
    """
    temperature = SEVERAL if samples > 1 else ONCE
    prompt = JudgePrompt.read(rubric)
    if IMAGES_SEEN not in prompt.question(""):
        raise EvaluationError(
            f"rubric {rubric} never asks for {IMAGES_SEEN}; let a judge's JSON object begin with it: the number of "
            f"images that it sees, {IMAGES} or less"
        )
    try:
        chat = make_chat(spec, timeout=timeout, backoff=backoff, on_warning=on_warning)
    except ChatError as error:
        raise EvaluationError(f"judge {without_password(spec)}: {error}") from None
    # what makes another judge is part of its name
    changed = [f"max_side={max_side}"] if max_side != MAX_SIDE else []
    changed += [f"temperature={temperature}"] if temperature else []

    def prepare(case: Case) -> ChatRequest:
        image = {"type": "image"}
        source, edited, question = (
            {"type": "text", "text": text} for text in (SOURCE_LABEL, EDITED_LABEL, prompt.question(case.request))
        )
        return ChatRequest(
            [{"role": "user", "content": [source, image, edited, image, question]}],
            # JPEG takes a tenth of PNG's time, and far fewer bytes
            (encode(case.source, lossless=False), encode(case.edited, lossless=False)),
            max_tokens=max_tokens,
            # weights in this process can't be held to one; the rubric spells the form out
            schema=None if chat.local else SCHEMA,
        )

    def ask(request: ChatRequest, sample: int, attempt: int) -> Completion:
        again = max(temperature, SECOND_TEMPERATURE) if attempt else temperature
        return chat(replace(request, temperature=again, seed=sample + 1000 * attempt))

    return Judge(
        name=chat.name + (f" ({', '.join(changed)})" if changed else ""),
        ask=ask,
        prepare=prepare,
        rubric_sha256=prompt.sha256,
        max_side=max_side,
        settings={
            "image_format": "jpeg",
            "temperature": temperature,
            "max_tokens": max_tokens,
            "rubric": str(rubric or "judge.jinja"),
        },
        close=chat.close,
    )
