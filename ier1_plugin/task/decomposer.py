"""decomposer.json: what lies beside merged weights, so that the agent is asked at inference as it was in training.

    {"min_pixels": 3136, "max_pixels": 1003520, "server_min_pixels": 3136, "server_max_pixels": 1203216,
     "pixels_per_token": 784, "prompt": "decompose.jinja", "prompt_sha256": "0d5f...", "rollout": "vllm", ...}

Images pass two resizes in EasyR1: first into the run's own budget (`images.prepare`), then the processor rounds both
sides to whole patches, within limits of its own. `min_pixels` and `max_pixels` are the first, for whoever sends
images; the `server_` pair is the second, for the processor.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from ier1_plugin.runs.errors import UserError

FILE_NAME = "decomposer.json"
HUB_ID = re.compile(r"\w[\w.-]*/[\w.-]+")


class DecomposerError(UserError):
    """A folder that is not a merged decomposer; the message says why in one line."""


@dataclass(frozen=True)
class Decomposer:
    """What has to be known about merged weights."""

    min_pixels: int
    max_pixels: int
    """The training budget: width x height before the processor."""
    server_min_pixels: int
    server_max_pixels: int
    """The processor's limits, which leave every image that is in the budget as training saw it."""
    pixels_per_token: int
    prompt: str
    """File name of the prompt, beside this file."""
    prompt_sha256: str
    rollout: str
    """What generated the responses in training: "vllm", or "cpu-standin" for a run without a GPU."""
    dtype: str
    imageedit_r1_version: str
    max_prompt_length: int | None = None
    max_response_length: int | None = None
    """In tokens, as in training; None if unknown, like all that follows."""
    global_step: int | None = None
    experiment: str | None = None
    base_model: str | None = None
    """A hub id; a folder, as a path from this one, starts with a dot."""
    easyr1_version: str | None = None
    verl_version: str | None = None
    """Of upstream verl, where that was the trainer."""

    @classmethod
    def read(cls, folder: Path) -> Decomposer:
        """Reads `folder`/decomposer.json. DecomposerError: not there, or not what `write` wrote."""
        file = folder / FILE_NAME
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
            known = {field.name for field in fields(cls)}
            decomposer = cls(**{name: value for name, value in values.items() if name in known})
        except OSError as error:
            raise DecomposerError(f"{file} can't be read ({error.strerror}); make one with ier1 merge") from None
        except (ValueError, TypeError, AttributeError) as error:
            raise DecomposerError(f"{file} is not what ier1 merge writes ({error})") from None
        for name in ("min_pixels", "max_pixels", "server_min_pixels", "server_max_pixels", "pixels_per_token"):
            if type(value := getattr(decomposer, name)) is not int or value <= 0:
                raise DecomposerError(f"{file}: {name} is {value!r}; wanted a number of pixels")
        return decomposer

    def write(self, folder: Path) -> None:
        (folder / FILE_NAME).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @property
    def base_hub_id(self) -> str | None:
        return self.base_model if self.base_model and HUB_ID.fullmatch(self.base_model) else None

    @property
    def max_image_tokens(self) -> int:
        return math.ceil(self.server_max_pixels / self.pixels_per_token)


def processor_limits(min_pixels: int, max_pixels: int, side: int, own: tuple[int, int]) -> tuple[int, int]:
    """Limits for the processor that treat an image in the budget exactly as the processor's `own` limits do.

    `side`: pixels along a token (patch size x merge size). The budget itself would not do: rounding to whole patches
    lifts many an image that was scaled down to `max_pixels` above it, and the processor would scale it once more. So
    the limits are wider by what rounding adds at most. An image that nobody prepared still ends near the budget.
    """
    # not at the top: serving needs no Pillow
    from ier1_plugin.task.images import MAX_ASPECT_RATIO

    # the sum of both sides is greatest for the widest image: a height of sqrt(area / aspect ratio)
    sides = math.sqrt(MAX_ASPECT_RATIO) + 1 / math.sqrt(MAX_ASPECT_RATIO)
    half = side / 2
    upper = max_pixels + half * sides * math.sqrt(max_pixels) + half**2
    # one pixel more, since `prepare` cuts the fractions of both sides off
    lower = min_pixels - (half + 1) * sides * math.sqrt(min_pixels)
    return min(max(math.floor(lower), own[0]), own[1]), min(max(math.ceil(upper), own[0]), own[1])
