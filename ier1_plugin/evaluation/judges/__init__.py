"""Judges by name: models behind OpenAI-compatible servers, Google's models, and the pixel judge of the small world.

    make_judge("openai:gpt-4o-2024-11-20")                             # the key is in OPENAI_API_KEY
    make_judge("openai:http://127.0.0.1:8000/v1#Qwen/Qwen2.5-VL-72B")  # any server that speaks that protocol
    make_judge("gemini:gemini-2.5-flash", max_side=768)                # GEMINI_API_KEY or GOOGLE_API_KEY
    make_judge("pixel")                                                # compares with the gold edit; see pixel.py

A model is shown the source image first and the edited one second, each under its name, and then the rubric. The name of
a judge says which server it is, also where OPENAI_BASE_URL or GOOGLE_GEMINI_BASE_URL names it, and how it is asked:
judgements of one name are by one judge.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from ier1_plugin.chat.server import OPENAI, ChatError, without_password
from ier1_plugin.evaluation.judges import gemini as judge_gemini
from ier1_plugin.evaluation.judges import vlm as judge_openai
from ier1_plugin.evaluation.judges.base import ATTEMPTS, REQUESTS, Judge
from ier1_plugin.evaluation.judges.prompt import JPEG, MAX_SIDE, Asking, JudgePrompt
from ier1_plugin.evaluation.records import EvaluationError

PIXEL, KINDS = "pixel", "openai:MODEL, openai:BASE_URL#MODEL, gemini:MODEL or pixel"
MAKERS = {"openai": judge_openai.make, "gemini": judge_gemini.make}
# servers that a judge's name leaves out
OWN = (OPENAI, judge_gemini.GOOGLE)
TIMEOUT = 120.0
# where several judgements of one edit are wanted, they must be able to differ
SEVERAL = 1.0


def make_judge(
    spec: str,
    *,
    max_side: int = MAX_SIDE,
    rubric: Path | None = None,
    samples: int = 1,
    temperature: float | None = None,
    image_format: str = JPEG,
    timeout: float = TIMEOUT,
    max_tokens: int | None = None,
    attempts: int = ATTEMPTS,
    requests: int = REQUESTS,
    backoff: float = 1.0,
    on_warning: Callable[[str], None] = lambda line: None,
) -> Judge:
    """The judge that `spec` names; the pixel judge takes none of the other settings.

    `max_side` in pixels, `timeout` in seconds a request, `max_tokens` of a reply. `temperature`: None for 0, or 1 where
    there are several `samples`, which could not differ at 0. So a judge of one sample and a judge of several have two
    names and take over nothing from each other; only from two samples on are further ones added to what is there. To
    begin with one sample and add to it later, give a `temperature` of 1 from the start.

    EvaluationError: there is no such judge, or it can't be had here (no key, no client).
    """
    if spec == PIXEL:
        from ier1_plugin.evaluation.judges.pixel import pixel_judge

        return pixel_judge()
    if temperature is None:
        temperature = SEVERAL if samples > 1 else 0.0
    asking = Asking(max_side, image_format, temperature)
    kind, base_url, model = _parsed(spec)
    question = JudgePrompt.read(rubric)
    try:
        made = MAKERS[kind](model, base_url, question, asking, timeout, max_tokens, on_warning)
    except ChatError as error:
        raise EvaluationError(f"{without_password(spec)}: {error}") from None
    return Judge(
        name=_name(kind, made.address, model) + asking.suffix(),
        ask=made.ask,
        show=made.show,
        rubric_sha256=question.sha256,
        max_side=max_side,
        attempts=attempts,
        requests=requests,
        backoff=backoff,
        settings={"model": model, "address": made.address, "rubric": str(rubric or "judge.jinja"), **asdict(asking)},
        close=made.close,
    )


def _name(kind: str, address: str, model: str) -> str:
    return f"{kind}:{model}" if address in OWN else f"{kind}:{address}#{model}"


def _parsed(spec: str) -> tuple[str, str, str]:
    """(kind, address or "", model)"""
    kind, _, rest = spec.partition(":")
    base_url, _, model = rest.rpartition("#")
    if kind not in MAKERS or not model.strip() or re.match(r"https?://", model):
        raise EvaluationError(f"{without_password(spec)!r} names no judge; wanted {KINDS}")
    return kind, base_url.strip(), model.strip()
