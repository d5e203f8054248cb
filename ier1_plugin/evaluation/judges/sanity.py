"""Can a judge tell a good edit from none at all? Compares its scores of edits whose quality is known.

    report = check_judge(judge, items, folder=Path("evaluations/psr/sanity"))
    report.failed      # () or, for a judge that scores a black image like an edit, what is wrong with it
    print(report.table())

Of every item five pairs are judged: the gold edit (or the first that a person made), an untouched copy, a black image,
the photo of another item, and the gold edit under the request of another item. No score is right or wrong by itself;
what counts is which pair must score above which, in the mean over the items, and by at least how much.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from ier1_plugin.data.items import Item
from ier1_plugin.evaluation.folder import JUDGEMENTS
from ier1_plugin.evaluation.judges.base import Judge, Pair
from ier1_plugin.evaluation.judges.judging import JudgementStore, judge_all
from ier1_plugin.evaluation.records import DIMENSIONS, HIGHEST, BenchmarkItem, EvaluationError, Judgement, Score
from ier1_plugin.runs.folder import write
from ier1_plugin.task.images import open_image, png_bytes

ITEMS = 12
"""How many items of a benchmark are used."""
GOLD, UNTOUCHED, BLACK = "gold edit", "untouched copy", "black image"
OTHER_PHOTO, OTHER_REQUEST = "another photo", "another request"
KINDS = GOLD, UNTOUCHED, BLACK, OTHER_PHOTO, OTHER_REQUEST
SCALES = DIMENSIONS | {"total": HIGHEST}
MARGIN = 0.1
"""Least difference of two means, as a share of the scale: less is noise in a handful of items."""


class Expectation(NamedTuple):
    """A difference that a judge which looks at everything must find."""

    higher: str
    lower: str
    dimension: str
    meaning: str
    """What is wrong with a judge that does not find it."""

    @property
    def least(self) -> float:
        return MARGIN * SCALES[self.dimension]


EXPECTATIONS = (
    Expectation(GOLD, UNTOUCHED, "fulfilment", "it does not see whether anything was edited"),
    Expectation(GOLD, OTHER_REQUEST, "fulfilment", "it does not heed the request"),
    Expectation(GOLD, BLACK, "fulfilment", "it does not look at the edited image"),
    Expectation(GOLD, BLACK, "quality", "it does not see that there is no image left"),
    Expectation(UNTOUCHED, BLACK, "preservation", "it does not see what was lost"),
    Expectation(UNTOUCHED, OTHER_PHOTO, "preservation", "it does not compare with the source image"),
    *(Expectation(GOLD, kind, "total", "a good edit earns no more from it") for kind in KINDS[1:]),
)


@dataclass(frozen=True)
class SanityReport:
    """The judgements of a check, and what follows from them."""

    judge: str
    items: int
    judgements: Mapping[str, Mapping[str, Judgement]]
    """Kind -> item -> judgement."""

    @cached_property
    def scores(self) -> dict[str, dict[str, Score]]:
        """Kind -> item -> score."""
        return {
            kind: {item: one.score for item, one in ones.items() if one.score} for kind, ones in self.judgements.items()
        }

    def mean(self, kind: str, dimension: str) -> float | None:
        points = [getattr(score, dimension) for score in self.scores[kind].values()]
        return fmean(points) if points else None

    @cached_property
    def differences(self) -> list[tuple[Expectation, float | None, bool]]:
        """Of each expectation the mean of higher minus lower over the items where both have a score, None if those are
        fewer than half; and whether it is met."""
        found = []
        for wanted in EXPECTATIONS:
            high, low = self.scores[wanted.higher], self.scores[wanted.lower]
            points = attrgetter(wanted.dimension)
            both = [points(high[item]) - points(low[item]) for item in high if item in low]
            value = fmean(both) if 2 * len(both) >= self.items else None
            found.append((wanted, value, value is not None and value >= wanted.least))
        return found

    @property
    def failed(self) -> tuple[str, ...]:
        """What is wrong with the judge, a line each; () for one that passed."""
        return tuple(dict.fromkeys(wanted.meaning for wanted, _, met in self.differences if not met))

    def table(self) -> str:
        """Means, expectations and the verdict, for a terminal."""
        heads = "".join(f"{f'{name} (0-{highest})':>21}" for name, highest in SCALES.items())
        lines = [f"{self.judge} on {self.items} items", f"{'':<16}{heads}  scored"]
        for kind in KINDS:
            means = (self.mean(kind, name) for name in SCALES)
            cells = "".join(f"{'-' if mean is None else f'{mean:.2f}':>21}" for mean in means)
            lines.append(f"{kind:<16}{cells}{len(self.scores[kind]):>5}/{self.items}")
        for kind, ones in self.judgements.items():
            # one reason of each kind of pair is enough
            lines += [f"{kind}: {one.unscored}" for one in ones.values() if not one.score][:1]
        lines.append("")
        for wanted, value, met in self.differences:
            result = "too few items have both scores" if value is None else f"{value:+.2f}"
            lines.append(
                f"{'ok    ' if met else 'FAILED'} {wanted.dimension}: {wanted.higher} over {wanted.lower} {result} "
                f"(wanted {wanted.least:+.2f} or more){'' if met else f': {wanted.meaning}'}"
            )
        failures = sum(not met for _, _, met in self.differences)
        verdict = f"FAILED {failures} of {len(EXPECTATIONS)} checks" if failures else "passed"
        return "\n".join([*lines, f"{self.judge} {verdict}"])


def check_judge(
    judge: Judge,
    items: Sequence[BenchmarkItem],
    folder: Path,
    jobs: int = 8,
    on_warning: Callable[[str], None] = lambda line: None,
    retry_unscored: bool = False,
) -> SanityReport:
    """Has `judge` score all pairs of the first ITEMS items with a gold or human edit; their paths are absolute.
    `folder`: for images and judgements. `retry_unscored`: as for `JudgementStore`.

    EvaluationError: fewer than two items are left, none of them has
    another photo and another request than the rest, or the judge can't be asked.
    """
    able = [item for item in items if item.known_edit][:ITEMS]
    if len(able) < 2:
        raise EvaluationError(
            f"{len(able)} items have a gold or human edit; a sanity check needs at least 2, better 8 to 20: "
            "try it on --benchmark small-world"
        )
    pairs = []
    for number, item in enumerate(able):
        # the next item with another photo and other words; one that asks for other actions where there is any
        others = [
            other
            for other in (*able[number + 1 :], *able[:number])
            if item.cluster != other.cluster and item.image != other.image and item.request != other.request
        ]
        if not others:
            raise EvaluationError(
                f"no other item than {item.id} has both another photo and another request; wanted one"
            )
        other = next((one for one in others if not set(one.actions) & set(item.actions)), others[0])
        black = folder / "black" / f"{Item(item.id).name}.png"
        if not black.exists():
            from PIL import Image

            write(black, png_bytes(Image.new("RGB", open_image(item.image).size)))
        best = Path(str(item.known_edit))
        asked = replace(item, gold_image=item.known_edit)
        pairs += [
            Pair(asked, GOLD, best),
            Pair(asked, UNTOUCHED, Path(item.image)),
            Pair(asked, BLACK, black),
            Pair(asked, OTHER_PHOTO, Path(other.image)),
            Pair(replace(item, request=other.request, gold_image=other.known_edit), OTHER_REQUEST, best),
        ]
    judgements: dict[str, dict[str, Judgement]] = {kind: {} for kind in KINDS}
    with JudgementStore(folder / JUDGEMENTS, retry_unscored) as store:
        for judgement in judge_all(pairs, judge, store, 1, jobs, on_warning):
            judgements[judgement.system][judgement.item] = judgement
    return SanityReport(judge.name, len(able), judgements)
