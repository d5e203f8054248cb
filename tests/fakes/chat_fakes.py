"""Agents and editors for tests of the inference chain: ordinary callables that remember what they were asked.

chat = FakeChat([reply(GOLD)])
"""

from __future__ import annotations

import socket
from collections.abc import Iterable

from PIL import Image, ImageDraw

from ier1_plugin.chat import Chat, ChatRequest, Completion
from ier1_plugin.task.parsing import render_response
from ier1_plugin.task.schema import Decomposition

GOLD = Decomposition(("Delete", "Recoloring"), ("lamp", "sofa"), ("navy",))
NONSENSE = "Sure! I removed the lamp for you."


def reply(decomposition: Decomposition = GOLD) -> str:
    return render_response(decomposition, "I look at the photo.")


def photo(width: int = 64, height: int = 48, seed: int = 0) -> Image.Image:
    """A picture whose pixels differ from each other and for each seed."""
    image = Image.linear_gradient("L").resize((width, height)).convert("RGB")
    box = (seed % max(1, width // 2), seed % max(1, height // 2), width - 1, height - 1)
    ImageDraw.Draw(image).rectangle(box, outline=(37 * seed % 256, 91 * seed % 256, 200))
    return image


class FakeChat(Chat):
    """Answers with the given replies one after another, the last one for ever; raises those that are exceptions."""

    name = "fake"
    budget = (16, 10**6)

    def __init__(self, replies: Iterable[str | Completion | Exception]) -> None:
        self.replies = list(replies)
        self.asked: list[ChatRequest] = []
        self.closed = False

    def __call__(self, request: ChatRequest, /) -> Completion:
        self.asked.append(request)
        answer = self.replies[min(len(self.asked), len(self.replies)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return Completion(answer) if isinstance(answer, str) else answer

    def close(self) -> None:
        self.closed = True


class FakeEditor:
    """Writes a mark that depends on instruction and seed into the picture, and remembers both."""

    def __init__(self) -> None:
        self.calls: list[tuple[Image.Image, str, int]] = []

    def __call__(self, image: Image.Image, instruction: str, seed: int) -> Image.Image:
        self.calls.append((image.copy(), instruction, seed))
        edited = image.copy()
        edited.putpixel((0, 0), (sum(instruction.encode()) % 256, seed % 256, len(self.calls)))
        return edited


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
