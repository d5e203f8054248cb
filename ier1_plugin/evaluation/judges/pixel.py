"""The judge of the small world: it compares with the gold edit, pixel by pixel, and asks no model.

    pixel_judge().ask(Case(source, edited, "make it brighter", gold=gold), 0, 0)
    -> Reply(score=Score(fulfilment=4, quality=3, preservation=3), ...)     # edited and gold are equal

With S, E, G for the source, the edited and the gold image (E and S are brought to G's size first), all values 0 to 255:

- fulfilment is 4 if E equals G in size and in every pixel. Else it says how much of the way from S to G is done:
  1 - sum |E - G| / sum |S - G| over the pixels where S and G differ, in quarters, rounded down, 3 at most.
- preservation looks at harm: by how much a value of E lies outside of what S and G have there. An untouched copy does
  none, as does half of what was asked for. 3: the mean harm is 0; 2: up to 2 % of the range; 1: up to 10 %; 0: more.
- quality looks at the mean harm of the worst of 8 x 8 tiles. 3: it is 0; 2: up to 5 %; 1: up to 20 %; 0: more.

Whoever comes nearer to G in every pixel never scores lower. A judgement without a gold edit is unscored.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from ier1_plugin.evaluation.judges import PIXEL
from ier1_plugin.evaluation.judges.base import Case, Judge, Reply
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
    """The judge; it needs no settings, no key and no patience."""
    # a judgement by another definition is another judgement
    definition = hashlib.sha256((__doc__ or "").encode()).hexdigest()
    return Judge(PIXEL, _ask, definition, compares_with_gold=True, attempts=1, requests=1)


def pixel_score(source: Image.Image, edited: Image.Image, gold: Image.Image) -> Score:
    """RGB images of any sizes."""
    if edited.size == gold.size and edited.tobytes() == gold.tobytes():
        return EXACT
    before, after, wanted = (_values(fitted(image, gold.size)) for image in (source, edited, gold))
    harm = _harm(before, after, wanted)
    return Score(
        fulfilment=_done(before, after, wanted),
        quality=_points(_worst_tile(harm), QUALITY_STEPS),
        preservation=_points(float(harm.mean()), PRESERVATION_STEPS),
    )


def _ask(case: Case, sample: int, attempt: int) -> Reply:
    if case.gold is None:
        return Reply(None, "missing image: no gold edit", final=True)
    return Reply(pixel_score(case.source, case.edited, case.gold))


def _values(image: Image.Image) -> Any:
    import numpy as np

    # signed: differences go below 0
    return np.asarray(image, dtype=np.int16)


def _done(before: Any, after: Any, wanted: Any) -> int:
    way = int(abs(before - wanted).sum(dtype=int))
    left = int((abs(after - wanted) * (before != wanted)).sum(dtype=int))
    if not way or left >= way:
        return 0
    return min(DIMENSIONS["fulfilment"] - 1, DIMENSIONS["fulfilment"] * (way - left) // way)


def _harm(before: Any, after: Any, wanted: Any) -> Any:
    """How far each value lies outside of what source and gold span."""
    import numpy as np

    low, high = np.minimum(before, wanted), np.maximum(before, wanted)
    return np.maximum(low - after, 0) + np.maximum(after - high, 0)


def _worst_tile(harm: Any) -> float:
    import numpy as np

    rows = np.array_split(harm, min(TILES, harm.shape[0]), axis=0)
    tiles = (tile for row in rows for tile in np.array_split(row, min(TILES, harm.shape[1]), axis=1))
    return max(float(tile.mean()) for tile in tiles)


def _points(harm: float, steps: tuple[float, float]) -> int:
    """3 for none, 2, 1 or 0."""
    return 3 - (harm > 0) - sum(harm > step * RANGE for step in steps)
