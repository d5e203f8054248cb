"""The small world as a source: real photographs, requests over exact Pillow operations, known gold.

    next(rows(Settings(source="photos", ...)))
    -> RawRow(id="train-00000.green@left_half", source="photos", request="hi, I would like the left side in green",
              image=b"\\x89PNG...", group="astronaut.png:51,65,496,510", gold=Decomposition(("Recoloring",), ...),
              split="train")

Nothing is downloaded: `ier1_plugin.small_world.pictures` says where the photographs come from and under which licence.
`ier1_plugin.small_world.world.edits_of(id)` gives the edits of a row, from which its gold edit can be made.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from data_prep.settings import RawRow, Settings
from ier1_plugin.task.images import encode

ROWS = 4000
VAL_EVERY = 10
"""One row of ten is for validation, so that every `--limit` has both splits."""


def rows(settings: Settings, input: str = "") -> Iterator[RawRow]:
    """ROWS rows, or the first `settings.limit` of them; the same for the same seed."""
    # draws its own pictures out of scikit-image, which no other source needs
    from ier1_plugin.small_world.world import samples

    encoded = lru_cache(maxsize=1024)(lambda photo: encode(photo.open(), lossless=True))
    sources = {"train": samples("train", settings.seed), "val": samples("val", settings.seed)}
    for number in range(1, (ROWS if settings.limit is None else settings.limit) + 1):
        split = "val" if number % VAL_EVERY == 0 else "train"
        sample = next(sources[split])
        group = f"{sample.photo.picture}:{','.join(map(str, sample.photo.crop))}"
        image = encoded(sample.photo)
        yield RawRow(sample.id, "photos", sample.request, image, group, gold=sample.gold, split=split)
