"""A loopback judge: the model is fake, the HTTP is real, and the score of an edit is written into its first pixel.

with serve_judge(flaky(seed=7)) as server:
    judge = make_judge(f"openai:{server.url}#fake-vlm")
server.log[0] -> Asked(key="remove the lamp|4-2-3|0", request="remove the lamp", nth=0, body={...}, headers={...})
"""

from __future__ import annotations

import base64
import json
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import Any

from fakes.chat_server import CLOSE, Answer, Asked, ChatServer, Respond, completion, draw, error, running
from PIL import Image

from ier1_plugin.evaluation.records import DIMENSIONS, Score
from ier1_plugin.task.images import open_image

# far enough apart that no encoding takes one for another
STEP = 40
MOST_FAILURES = 2


def colour(score: Score) -> tuple[int, int, int]:
    return STEP * score.fulfilment, STEP * score.quality, STEP * score.preservation


def score_of(image: Image.Image) -> Score:
    """The inverse of `colour`, read from the first pixel of an image."""
    pixel: Any = image.getpixel((0, 0))
    return Score(*(min(round(value / STEP), most) for value, most in zip(pixel, DIMENSIONS.values(), strict=True)))


def picture(body: dict[str, Any], number: int) -> Image.Image:
    """The first (0) or second (1) image of a request."""
    parts = [part for part in body["messages"][0]["content"] if part["type"] == "image_url"]
    return open_image(base64.b64decode(parts[number]["image_url"]["url"].partition(",")[2]))


def verdict(score: Score) -> str:
    return json.dumps({"images_seen": 2, "reasoning": "I looked.", **asdict(score)})


def honest(asked: Asked) -> Answer:
    return completion(verdict(score_of(picture(asked.body, 1))), usable=True)


def flaky(seed: int, failures: float = 0.33) -> Respond:
    """Each question fails up to MOST_FAILURES times before it is answered: 30 % of all requests for 0.33."""

    def respond(asked: Asked) -> Answer:
        draws = (draw(seed, asked.key, number) < failures for number in range(MOST_FAILURES))
        first = next((number for number, fails in enumerate(draws) if not fails), MOST_FAILURES)
        return _fault(asked, seed) if asked.nth < first else honest(asked)

    return respond


FAULTS = {
    "429": lambda text: error(429, "slow down", Retry_After="0"),
    "closed": lambda text: Answer(trouble=CLOSE),
    "cut": lambda text: completion(text[:-9], "length"),
    "cut in silence": lambda text: completion(text[:-9]),
    "refusal": lambda text: completion(None, refusal="I can't help with this image."),
    "prose": lambda text: completion("Fulfilment: 4\nQuality: 3\nPreservation: 3"),
    "saw one image": lambda text: completion(text.replace('"images_seen": 2', '"images_seen": 1')),
    "out of range": lambda text: completion('{"images_seen": 2, "fulfilment": 9, "quality": 9, "preservation": 9}'),
}


def _fault(asked: Asked, seed: int) -> Answer:
    names = sorted(FAULTS)
    kind = names[int(draw(seed, asked.key, asked.nth, "kind") * len(names))]
    return FAULTS[kind](verdict(score_of(picture(asked.body, 1))))


class JudgeServer(ChatServer):
    """Counts every question: a request, the score in the edited image, a sample number."""

    def question(self, body: dict[str, Any]) -> tuple[str, str]:
        request = body["messages"][0]["content"][-1]["text"].split('"""')[1].strip()
        return request, question_key(request, score_of(picture(body, 1)), body.get("seed", 0) % 1000)


def question_key(request: str, score: Score, sample: int) -> str:
    return f"{request}|{score.fulfilment}-{score.quality}-{score.preservation}|{sample}"


def serve_judge(respond: Respond = honest) -> AbstractContextManager[JudgeServer]:
    """A server in a thread of this process."""
    return running(JudgeServer(respond))
