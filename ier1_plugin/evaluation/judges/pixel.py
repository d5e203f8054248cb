"""The judge of the small world: it compares with the gold edit, pixel by pixel, and asks no model.

    pixel_score(source, edited, gold)
    -> Score(fulfilment=4, quality=3, preservation=3)     # edited and gold are equal

With S, E, G for the source, the edited and the gold image (E and S are brought to G's size first), all values 0 to 255:

- fulfilment is 4 if E equals G in size and in every pixel. Otherwise it measures how much of the way from S to G is
  done: 1 - sum |E - G| / sum |S - G| over the pixels where S and G differ, in quarters, rounded down, 3 at most.
- preservation looks at harm: by how much a value of E lies outside of what S and G have there. An untouched copy does
  none, as does half of what was asked for. 3: the mean harm is 0; 2: up to 2 % of the range; 1: up to 10 %; 0: more.
- quality looks at the mean harm of the worst of 8 x 8 tiles. 3: it is 0; 2: up to 5 %; 1: up to 20 %; 0: more.

An edit that is closer to G in every pixel never scores lower. A judgement without a gold edit is unscored.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from ier1_plugin.chat.request import Completion, RequestRejected
from ier1_plugin.evaluation.judges.base import IMAGES, IMAGES_SEEN, PIXEL, Case, Judge
from ier1_plugin.evaluation.records import DIMENSIONS, Score
from ier1_plugin.task.images import fitted

if TYPE_CHECKING:
    from PIL import Image

RANGE = 255
TILES = 8
# shares of RANGE up to which harm still earns 2 points and 1 point
PRESERVATION_STEPS, QUALITY_STEPS = (0.02, 0.1), (0.05, 0.2)
EXACT = Score(**DIMENSIONS)


def pixel_judge() -> Judge:
    """The judge; it needs no settings and no key."""

    def ask(case: Case, sample: int, attempt: int) -> Completion:
        if case.gold is None:
            raise RequestRejected("no gold edit")
        score = pixel_score(case.source, case.edited, case.gold)
        return Completion(json.dumps({IMAGES_SEEN: IMAGES, **asdict(score)}), prompt_tokens=0, completion_tokens=0)

    # a judgement by another definition is another judgement
    definition = hashlib.sha256((__doc__ or "").encode()).hexdigest()
    return Judge(PIXEL, ask, definition, compares_with_gold=True, attempts=1)


def pixel_score(source: Image.Image, edited: Image.Image, gold: Image.Image) -> Score:
    """RGB images of any sizes."""
    if edited.size == gold.size and edited.tobytes() == gold.tobytes():
        return EXACT
    import numpy as np

    # signed: differences go below 0
    before, after, wanted = (np.asarray(fitted(image, gold.size), dtype=np.int16) for image in (source, edited, gold))
    way = int(abs(before - wanted).sum(dtype=int))
    left = int((abs(after - wanted) * (before != wanted)).sum(dtype=int))
    most = DIMENSIONS["fulfilment"]
    # how far each value lies outside of what source and gold span
    low, high = np.minimum(before, wanted), np.maximum(before, wanted)
    harm = np.maximum(low - after, 0) + np.maximum(after - high, 0)
    rows = np.array_split(harm, min(TILES, harm.shape[0]), axis=0)
    tiles = (tile for row in rows for tile in np.array_split(row, min(TILES, harm.shape[1]), axis=1))

    def points(harm: float, steps: tuple[float, float]) -> int:
        return 3 - (harm > 0) - sum(harm > step * RANGE for step in steps)

    return Score(
        fulfilment=min(most - 1, most * (way - left) // way) if left < way else 0,
        quality=points(max(float(tile.mean()) for tile in tiles), QUALITY_STEPS),
        preservation=points(float(harm.mean()), PRESERVATION_STEPS),
    )
