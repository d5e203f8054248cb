"""How the judge's tests run it: pairs whose scores are known, no waits, a key that must not be seen again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes.judge_server import colour, verdict
from PIL import Image

from ier1_plugin.chat import Completion
from ier1_plugin.evaluation.folder import JUDGEMENTS
from ier1_plugin.evaluation.judges.base import Case, Judge, Pair
from ier1_plugin.evaluation.judges.judging import JudgementStore, judge_all
from ier1_plugin.evaluation.records import BenchmarkItem, Judgement, Score
from ier1_plugin.runs.folder import write
from ier1_plugin.runs.store import Store
from ier1_plugin.task.images import png_bytes

KEY = "sk-test-0123456789abcdef"
SIZE = (24, 16)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


def image(folder: Path, name: str, fill: tuple[int, int, int], size: tuple[int, int] = SIZE) -> Path:
    file = folder / f"{name}.png"
    write(file, png_bytes(Image.new("RGB", size, fill)))
    return file


def item(folder: Path, id: str = "lamp", request: str = "remove the lamp", **more: Any) -> BenchmarkItem:
    """An item with a grey source of its own."""
    shade = sum(id.encode()) % 200 + 5
    source = image(folder, f"{id}-source", (shade, shade, shade))
    return BenchmarkItem(id, request, str(source), cluster=id, **more)


def pair(folder: Path, id: str = "lamp", system: str = "flux", score: Score | None = None) -> Pair:
    """A pair whose edited image shows the loopback judge its score."""
    edited = image(folder, f"{id}-{system}", colour(score or Score(4, 2, 3)))
    return Pair(item(folder, id, f"remove the {id}"), system, edited)


def completion_of(score: Score) -> Completion:
    return Completion(verdict(score), model="fake-2026", prompt_tokens=700, completion_tokens=30)


GOOD = completion_of(Score(4, 2, 3))
BAD = Completion("hm", prompt_tokens=700, completion_tokens=5)


def fake(
    *replies: Completion | BaseException | Callable[[Case], Completion], **more: Any
) -> tuple[Judge, list[tuple[Case, int, int]]]:
    """A judge that gives these replies, the last one for ever, and what it was asked."""
    asked: list[tuple[Case, int, int]] = []

    def ask(case: Case, sample: int, attempt: int) -> Completion:
        asked.append((case, sample, attempt))
        reply = replies[min(len(asked), len(replies)) - 1]
        if isinstance(reply, BaseException):
            raise reply
        return reply if isinstance(reply, Completion) else reply(case)

    return Judge("fake", ask, "rubric", **more), asked


def ask(judge: Judge, case: Case, sample: int = 0, attempt: int = 0) -> Completion:
    return judge.ask(judge.prepare(case), sample, attempt)


def run(judge: Judge, folder: Path, pairs: list[Pair], samples: int = 1, jobs: int = 4, **more: Any) -> list[Judgement]:
    with JudgementStore(folder / JUDGEMENTS, **more) as store:
        return list(judge_all(pairs, judge, store, samples, jobs))


def records(folder: Path) -> list[dict[str, Any]]:
    """All that the store in `folder` holds, oldest first."""
    with Store(folder / JUDGEMENTS, read_only=True) as store:
        return [record for _, record in store]
