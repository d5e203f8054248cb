"""What the tests of the chain and of its command share: questions, chains with plain functions, options of `ier1`.

chain(FakeEditor()).edit(photo(), REQUEST).trace.plan.sub_requests == ORDER
"""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from fakes.chat_fakes import GOLD, photo
from PIL import Image

from ier1_plugin.chat import ChatRequest
from ier1_plugin.data.items import Item
from ier1_plugin.editors import Editor
from ier1_plugin.pipeline.chain import ImageEditR1
from ier1_plugin.task.rows import messages
from ier1_plugin.task.schema import Decomposition

REQUEST = "remove the lamp and make the sofa navy"

ORDER = ("Delete lamp", "Recoloring sofa to navy")

BRIGHTER = Decomposition(("Relighting", "Transform"), ("photo",), ("brighter", "flipped horizontally"))

ORIGINAL = ("--method", "original", "--editor", "pillow")


def ask(request: str = "remove the lamp", size: tuple[int, int] = (64, 48), **more: Any) -> ChatRequest:
    return ChatRequest(messages(request), (photo(*size),), **more)


def sent_image(body: dict[str, Any]) -> Image.Image:
    url = body["messages"][0]["content"][0]["image_url"]["url"]
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))


def encoded(image: Image.Image, kind: str, **more: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **more)
    return buffer.getvalue()


def chain(editor: Any = None, on_warning: Any = lambda line: None) -> ImageEditR1:
    return ImageEditR1(lambda image, request: GOLD, lambda parts, image, request: list(ORDER), editor, on_warning)


def canvas_editor(calls: list[Any], preserves_size: bool = True, returns: tuple[int, int] | None = None) -> Editor:
    def edit(image: Image.Image, instruction: str, seed: int) -> Image.Image:
        calls.append(image.size)
        return image.resize(returns) if returns else image.copy()

    return Editor("fake", edit, canvas=lambda size: (32, 16), preserves_size=preserves_size)


def write_photos(folder: Path, count: int) -> list[Item]:
    folder.mkdir(exist_ok=True)
    items = []
    for number in range(count):
        path = folder / f"photo-{number:03d}.png"
        photo(64, 48, seed=number).save(path)
        items.append(Item(f"item-{number}", str(path), f"request {number}"))
    return items


def results(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "results.jsonl").read_text(encoding="utf-8").splitlines()]


def planner(url: str) -> tuple[str, ...]:
    return "--decomposer", f"openai:{url}#fake", "--sequencer", "rule", "--editor", "pillow"


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for kind in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "GEMINI_API_KEY", "GOOGLE_API_KEY", "HTTP_PROXY", "ALL_PROXY"):
        for name in (kind, kind.lower()):
            monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
