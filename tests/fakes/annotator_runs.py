"""How the annotator's tests run it: small items, no waits, a key that must not be seen again."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes.annotator_server import AnnotatorServer, Answer, Asked, Respond, honest
from PIL import Image

from data_prep.annotator import AnnotatorSettings, Item, annotate
from ier1_plugin.task.schema import Decomposition

KEY = "sk-test-0123456789abcdef"
LAMP = Decomposition.of(["Delete"], ["lamp"], [])


def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 24), "navy").save(buffer, "JPEG")
    return buffer.getvalue()


PHOTO = jpeg()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


def items(*requests: str) -> list[Item]:
    return [Item(f"row-{number}", request, PHOTO) for number, request in enumerate(requests)]


def lamps(number: int) -> list[Item]:
    return items(*(f"remove the lamp {i}" for i in range(number)))


def settings(server: AnnotatorServer, **changes: Any) -> AnnotatorSettings:
    return AnnotatorSettings("fake-vlm", server.url, **{"concurrency": 4, "backoff": 0, "timeout": 5, **changes})


def first_time(trouble: Callable[[Asked], Answer], times: int = 1) -> Respond:
    return lambda asked: trouble(asked) if asked.nth < times else honest(asked)


def run(server: AnnotatorServer, folder: Path, work: list[Item], **changes: Any) -> dict[str, Decomposition | str]:
    results = list(annotate(work, settings(server, **changes), folder / "replies.jsonl"))
    assert len(results) == len({key for key, _ in results})
    return dict(results)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "replies.jsonl").read_text().splitlines()]
