"""The small world's own rows as the builder would write them."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from data_prep.output import write_parquet
from ier1_plugin.small_world.world import Sample, Split, samples
from ier1_plugin.task.images import encode
from ier1_plugin.task.rows import format_row


def row_of(sample: Sample) -> dict[str, Any]:
    image = encode(sample.photo.open(56), lossless=True)
    return format_row(id=sample.id, source="photos", request=sample.request, image=image, gold=sample.gold)


def write_rows(folder: Path, count: int, split: Split = "val") -> Path:
    """A SPLIT.parquet with the first rows of a split."""
    pytest.importorskip("pyarrow")
    pytest.importorskip("skimage")
    file = folder / f"{split}.parquet"
    write_parquet(file, map(row_of, islice(samples(split, 0), count)))
    return file
