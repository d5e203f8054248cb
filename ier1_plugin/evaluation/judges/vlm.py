"""Vision-language models as judges: two labelled images and the rubric in, a JSON object with three scores out.

judge = vlm_judge("gemini:gemini-2.5-flash")
judge.ask(judge.prepare(Case(source, edited, "remove the lamp")), 0, 0)
-> Completion(text='{"reasoning": "The lamp is gone.", "fulfilment": 4, "quality": 2, "preservation": 3}', ...)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ier1_plugin.chat import ChatError, ChatRequest, Completion, make_chat
from ier1_plugin.evaluation.judges.base import ATTEMPTS, Case, Judge
from ier1_plugin.evaluation.judges.prompt import JudgePrompt
from ier1_plugin.evaluation.records import DIMENSIONS, EvaluationError
from ier1_plugin.runs.secrets import without_password
from ier1_plugin.task.images import encode, png_bytes

KINDS = "openai:MODEL, openai:BASE_URL#MODEL, gemini:MODEL, local:FOLDER or pixel"
# JPEG holds no more (ITU-T T.81 has 16 bits for a side)
MAX_SIDE, MOST_SIDE = 1024, 65535
PNG, JPEG = "png", "jpeg"
# what differs from these makes another judge and is part of its name
DEFAULTS = {"max_side": MAX_SIDE, "image_format": JPEG, "temperature": 0.0}
# where several judgements of one edit are wanted, they must be able to differ
SEVERAL = 1.0
# a question that was answered badly is not asked the same way again
SECOND_TEMPERATURE = 0.7
# a verdict is short; the rest is room for models that reason first, and an end to those that never stop
MAX_TOKENS = 4096
SOURCE_LABEL, EDITED_LABEL = "Source image:", "Edited image:"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        # first, so that the model thinks before it scores
        "reasoning": {"type": "string"},
        **{name: {"type": "integer", "enum": list(range(highest + 1))} for name, highest in DIMENSIONS.items()},
    },
    "required": ["reasoning", *DIMENSIONS],
    "additionalProperties": False,
}


def vlm_judge(
    spec: str,
    *,
    max_side: int = MAX_SIDE,
    rubric: Path | None = None,
    samples: int = 1,
    temperature: float | None = None,
    image_format: str = JPEG,
    timeout: float = 120.0,
    max_tokens: int = MAX_TOKENS,
    attempts: int = ATTEMPTS,
    requests: int = 5,
    backoff: float = 1.0,
    on_warning: Callable[[str], None] = lambda line: None,
) -> Judge:
    """The judge of a model that `chat.make_chat` knows.

    `max_side` in pixels, `timeout` in seconds a request, `max_tokens` of a reply. `requests` for one reply while the
    server fails; `backoff`: longest wait in seconds before the second of them. `image_format`: JPEG (at
    images.JPEG_QUALITY) takes a tenth of PNG's time, and far fewer bytes. `temperature`: None for 0, or 1 where there
    are several `samples`, which could not differ at 0. So a judge with one sample and a judge with several have two
    names and share no judgements; only from two samples on are further ones added to the existing ones. To begin with
    one sample and add to it later, give a `temperature` of 1 from the start.

    EvaluationError: there is no such judge, or it is not available on this machine (no key, no client).
    """
    if temperature is None:
        temperature = SEVERAL if samples > 1 else 0.0
    if not 0 < max_side <= MOST_SIDE:
        raise EvaluationError(f"max_side is {max_side}; wanted a number of pixels from 1 to {MOST_SIDE}")
    if image_format not in (PNG, JPEG):
        raise EvaluationError(f"image_format is {image_format!r}; wanted {PNG} or {JPEG}")
    if spec.partition(":")[0] not in ("openai", "gemini", "local"):
        raise EvaluationError(f"{without_password(spec)!r} names no judge; wanted {KINDS}")
    prompt = JudgePrompt.read(rubric)
    try:
        chat = make_chat(spec, timeout=timeout, attempts=requests, backoff=backoff, on_warning=on_warning)
    except ChatError as error:
        raise EvaluationError(f"judge {without_password(spec)}: {error}") from None
    settings = {"max_side": max_side, "image_format": image_format, "temperature": temperature}
    changed = [f"{name}={value}" for name, value in settings.items() if value != DEFAULTS[name]]
    save = png_bytes if image_format == PNG else partial(encode, lossless=False)

    def prepare(case: Case) -> ChatRequest:
        image = {"type": "image"}
        source, edited, question = (
            {"type": "text", "text": text} for text in (SOURCE_LABEL, EDITED_LABEL, prompt.question(case.request))
        )
        return ChatRequest(
            [{"role": "user", "content": [source, image, edited, image, question]}],
            (save(case.source), save(case.edited)),
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
        attempts=attempts,
        settings=settings | {"rubric": str(rubric or "judge.jinja")},
        close=chat.close,
    )
