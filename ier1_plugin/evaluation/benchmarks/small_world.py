"""The small world as a benchmark: photographs, requests over exact edits, and the gold edit of each.

    next(small_world("400-600", EvaluationConfig()).ids())    # "val-00400.warmer@photo"

Its crops and wordings are those of the validation split, which no training sees. Of the ITEMS, the first VALIDATED are
the rows that trainings validate on, and by which their checkpoints may be chosen. The benchmark is the rest, which no
training uses; a range after the colon picks any others: `small-world:400-600`. Items of one crop are one cluster.

Its editor, `small-world`, is the `pillow` editor, except that it does what it understands and leaves out the rest, as
generative editors do, where `pillow` refuses the whole instruction. It knows where the subjects of an item are, but not
what to do to them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice

from PIL import Image

from ier1_plugin.data.sets import RawItem
from ier1_plugin.data.tables import Rejected
from ier1_plugin.editors.base import Edit, EditError, Editor, split
from ier1_plugin.editors.pillow.editor import pillow_editor
from ier1_plugin.editors.pillow.operations import Fractions
from ier1_plugin.evaluation.benchmarks.table import Benchmark
from ier1_plugin.evaluation.config import EvaluationConfig
from ier1_plugin.evaluation.records import EvaluationError
from ier1_plugin.small_world.world import Sample, edits_of, gold_image, samples

NAME = "small-world"
VALIDATED, ITEMS = 400, 1400
WORLD_SEED = 0
"""The builder's default: another seed has other crops, and a model may have been trained on them."""


def small_world(argument: str, config: EvaluationConfig) -> Benchmark:
    """The benchmark; `argument`: a range of item numbers, or "" for VALIDATED-ITEMS. EvaluationError: it is not a
    range."""
    numbers = range(VALIDATED, ITEMS)
    if argument:
        ends = re.fullmatch(r"(\d+)-(\d+)", argument)
        if not ends or not int(ends[1]) < int(ends[2]) <= ITEMS:
            raise EvaluationError(
                f"{NAME}:{argument} is not a range; wanted one such as {NAME}:400-600, at most to {ITEMS}"
            )
        numbers = range(int(ends[1]), int(ends[2]))

    def chosen() -> Iterator[Sample]:
        return islice(samples("val", WORLD_SEED), numbers.start, numbers.stop)

    def raw_items(wanted: frozenset[str]) -> Iterator[RawItem | Rejected]:
        for sample in chosen():
            if sample.id in wanted:
                photo, count = sample.photo.open(), len(sample.edits)
                yield RawItem(
                    id=sample.id,
                    request=sample.request,
                    cluster=f"{sample.photo.picture}:{','.join(map(str, sample.photo.crop))}",
                    image=photo,
                    actions=sample.gold.actions,
                    difficulty=f"{count} edit{'s' if count > 1 else ''}",
                    gold=gold_image(photo, edits_of(sample.id)),
                )

    origin = f"validation split, items {numbers.start} to {numbers.stop - 1}"
    return Benchmark(NAME, origin, lambda: (sample.id for sample in chosen()), raw_items)


def small_world_editor(argument: str) -> Editor:
    """The editor; EditError: it takes no argument."""
    if argument:
        raise EditError(f"{NAME} takes no argument, got {argument!r}")

    def lenient(places: Mapping[str, Fractions]) -> Edit:
        exact = pillow_editor("", places=places)

        def edit(image: Image.Image, instruction: str, seed: int) -> Image.Image:
            for part in split(instruction):
                with suppress(EditError):
                    image = exact(image, part, seed)
            return image

        return edit

    def for_item(id: str) -> Edit:
        try:
            return lenient({edit.subject: edit.box for edit in edits_of(id) if edit.box})
        except ValueError as error:
            raise EditError(f"{NAME} edits items of its own benchmark only: {error}") from None

    return Editor(NAME, lenient({}), preserves_size=False, for_item=for_item)
