"""A loopback judge: the model is fake, the HTTP is real, and the score of an edit is written into its first pixel.

with serve_judge(flaky(seed=7)) as server:
    judge = make_judge(f"openai:{server.url}#fake-vlm")
server.log[0] -> Asked(key="9f2c...", request="remove the lamp", nth=0, body={...}, headers={...})
"""

from __future__ import annotations

import base64
import json
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import Any

from fakes.chat_server import CLOSE, Answer, Asked, ChatServer, Respond, completion, draw, error, serve
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


def flaky(seed: int, failures: float = 0.5) -> Respond:
    """Each edit fails up to MOST_FAILURES times before it is answered."""

    def respond(asked: Asked) -> Answer:
        draws = [draw(seed, asked.key, number) < failures for number in range(asked.nth + 1)]
        if asked.nth >= MOST_FAILURES or not all(draws):
            return honest(asked)
        kind = sorted(FAULTS)[int(draw(seed, asked.key, asked.nth, "kind") * len(FAULTS))]
        return FAULTS[kind](verdict(score_of(picture(asked.body, 1))))

    return respond


def serve_judge(respond: Respond = honest) -> AbstractContextManager[ChatServer]:
    """A server in a thread of this process."""
    return serve(respond)
