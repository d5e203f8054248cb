"""Loopback servers of the picture reward: an editor behind OpenAI's images API, and the judge of `judge_server`.

    with serve_editor() as editor, serve(judge_server.honest) as judge: ...
    editor.log[0] -> Asked(key="Delete lamp. 7812", request="Delete lamp.", nth=0, body={...}, headers={...})

    serve_editor(with_faults(edited, EDITOR_FAULTS, seed=7))     # three requests in ten fail, in every way

An edit is the photo with the score of its plan in a corner, where the judge reads it. Every third seed, of cases that
is, scores all plans alike.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from fakes.chat_server import SLOW, Answer, Asked, ChatServer, Respond, completion, draw, error, raw, running
from fakes.judge_server import colour
from PIL import Image

from ier1_plugin.evaluation.records import Score
from ier1_plugin.task.images import open_image, png_bytes

COMMON: dict[str, Callable[[Asked], Answer]] = {
    "429": lambda asked: error(429, "slow down", Retry_After="0"),
    "500": lambda asked: error(500),
    "timeout": lambda asked: Answer(trouble=SLOW),
    "HTML": lambda asked: raw("<html><h1>Welcome</h1></html>", "text/html"),
}
EDITOR_FAULTS = COMMON | {
    "black": lambda asked: image_reply(Image.new("RGB", open_image(asked.body["image"]).size)),
    "refusal": lambda asked: error(400, "Your request was rejected by the safety system.", "moderation_blocked"),
}
JUDGE_FAULTS = COMMON | {
    "prose": lambda asked: completion("A fine picture: 9 of 10."),
    "refusal": lambda asked: completion(None, refusal="I can't help with this image."),
}


class EditorServer(ChatServer):
    """A key is the plan and the seed: what a case may be rendered for once."""

    def question(self, body: dict[str, Any]) -> tuple[str, str]:
        return body["prompt"], f"{body['prompt']} {body['seed']}"


def serve_editor(respond: Respond | None = None, slow: float = 1.0) -> AbstractContextManager[EditorServer]:
    return running(EditorServer(respond or edited, slow))


def edited(asked: Asked) -> Answer:
    image = open_image(asked.body["image"])
    seed = int(asked.body["seed"])
    best = Score(4, 3, 3) if seed % 3 == 0 else Score(*(int(draw(asked.key, part) * 3) + 1 for part in range(3)))
    image.paste(colour(best), (0, 0, image.width // 2, image.height // 2))
    return image_reply(image, usable=True)


def image_reply(image: Image.Image, usable: bool = False) -> Answer:
    data = base64.b64encode(png_bytes(image)).decode()
    answer = raw(json.dumps({"created": 1, "data": [{"b64_json": data}]}))
    return Answer(answer.status, answer.body, answer.headers, usable=usable)


def with_faults(good: Respond, faults: Mapping[str, Respond], seed: int, share: float = 0.3) -> Respond:
    """A `share` of all requests fails, in one of the ways of `faults`."""

    def respond(asked: Asked) -> Answer:
        if draw(seed, asked.key, asked.nth) >= share:
            return good(asked)
        return list(faults.values())[int(draw(seed, asked.key, asked.nth, "kind") * len(faults))](asked)

    return respond
