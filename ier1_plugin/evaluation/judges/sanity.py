"""Can a judge tell a good edit from none at all? Its scores of edits whose worth is known, held against each other.

    report = check_judge(judge, items, folder=Path("study/sanity"))
    report.passed      # False for a judge that scores a black image like an edit
    print(report.table())

Of every item five pairs are judged: the gold edit (or the first that a person made), an untouched copy, a black image,
the photo of another item, and the gold edit under the request of another item. No score is right or wrong by itself;
what counts is which pair must come out above which, in the mean over the items, and by how much at least.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from PIL import Image

from ier1_plugin.data.items import Item
from ier1_plugin.evaluation.judges.judging import Judge, Pair, judge_all
from ier1_plugin.evaluation.judges.store import JudgementStore, judgements_file
from ier1_plugin.evaluation.records import DIMENSIONS, HIGHEST, BenchmarkItem, EvaluationError, Judgement
from ier1_plugin.runs.folder import write
from ier1_plugin.task.images import open_image, png_bytes

GOLD, UNTOUCHED, BLACK = "gold edit", "untouched copy", "black image"
OTHER_PHOTO, OTHER_REQUEST = "another photo", "another request"
KINDS = GOLD, UNTOUCHED, BLACK, OTHER_PHOTO, OTHER_REQUEST
TOTAL = "total"
SCALES = DIMENSIONS | {TOTAL: HIGHEST}
MARGIN = 0.1
"""Least distance of two means, as a share of the scale: less is noise in a handful of items."""


@dataclass(frozen=True)
class Expectation:
    """What a judge that looks at everything must find."""

    higher: str
    lower: str
    dimension: str
    meaning: str
    """What is wrong with a judge that does not."""


EXPECTATIONS = (
    Expectation(GOLD, UNTOUCHED, "fulfilment", "it does not see whether anything was edited"),
    Expectation(GOLD, OTHER_REQUEST, "fulfilment", "it does not heed the request"),
    Expectation(GOLD, BLACK, "fulfilment", "it does not look at the edited image"),
    Expectation(GOLD, BLACK, "quality", "it does not see that there is no image left"),
    Expectation(UNTOUCHED, BLACK, "preservation", "it does not see what was lost"),
    Expectation(UNTOUCHED, OTHER_PHOTO, "preservation", "it does not compare with the source image"),
    *(Expectation(GOLD, kind, TOTAL, "a good edit earns no more from it") for kind in KINDS[1:]),
)


@dataclass(frozen=True)
class Finding:
    """One expectation, and what the judge found."""

    expectation: Expectation
    difference: float | None
    """Mean of higher minus lower over the items where both have a score; None if those are less than half."""
    items: int

    @property
    def holds(self) -> bool:
        least = MARGIN * SCALES[self.expectation.dimension]
        return self.difference is not None and self.difference >= least


@dataclass(frozen=True)
class SanityReport:
    """What came of a check."""

    judge: str
    items: int
    means: dict[str, dict[str, float]]
    """Kind -> dimension -> mean over the items that have a score."""
    scored: dict[str, int]
    findings: tuple[Finding, ...]
    unscored: tuple[str, ...] = ()
    """The first reason of each kind that has any."""

    @property
    def passed(self) -> bool:
        return all(finding.holds for finding in self.findings)

    @property
    def failed(self) -> tuple[str, ...]:
        """What is wrong with the judge, a line each."""
        return tuple(dict.fromkeys(one.expectation.meaning for one in self.findings if not one.holds))

    def table(self) -> str:
        """Means, expectations and the verdict, for a terminal."""
        return "\n".join(
            [f"{self.judge} on {self.items} items", *self._means(), "", *self._findings(), self._verdict()]
        )

    def _means(self) -> Iterator[str]:
        yield f"{'':<16}" + "".join(f"{f'{name} (0-{highest})':>21}" for name, highest in SCALES.items()) + "  scored"
        for kind in KINDS:
            numbers = (self.means[kind].get(name) for name in SCALES)
            cells = "".join(f"{'-' if number is None else f'{number:.2f}':>21}" for number in numbers)
            yield f"{kind:<16}{cells}{self.scored[kind]:>5}/{self.items}"
        yield from self.unscored

    def _findings(self) -> Iterator[str]:
        for finding in self.findings:
            wanted, found = finding.expectation, finding.difference
            said = f"only {finding.items} items have both scores" if found is None else f"{found:+.2f}"
            least = f"wanted {MARGIN * SCALES[wanted.dimension]:+.2f} or more"
            why = "" if finding.holds else f": {wanted.meaning}"
            mark = "ok    " if finding.holds else "FAILED"
            yield f"{mark} {wanted.dimension}: {wanted.higher} over {wanted.lower} {said} ({least}){why}"

    def _verdict(self) -> str:
        failed = sum(not finding.holds for finding in self.findings)
        return f"{self.judge} " + (f"FAILED {failed} of {len(self.findings)} checks" if failed else "passed")


def check_judge(
    judge: Judge,
    items: Sequence[BenchmarkItem],
    folder: Path,
    jobs: int = 8,
    on_warning: Callable[[str], None] = lambda line: None,
) -> SanityReport:
    """Has `judge` score all pairs of the items; their paths are absolute. `folder` keeps images and judgements.

    Items without a gold or human edit are left out. EvaluationError: fewer than two items are left, none of them has
    another photo and another request than the rest, or the judge can't be asked.
    """
    able = [item for item in items if item.gold_image or item.human_images]
    if len(able) < 2:
        raise EvaluationError(f"{len(able)} items have a gold or human edit; wanted 2 at least, 8 to 20 are good")
    found: dict[str, dict[str, Judgement]] = {kind: {} for kind in KINDS}
    pairs = [pair for item in able for pair in _pairs(item, _other(item, able), folder)]
    with JudgementStore(judgements_file(folder, judge.name)) as store:
        for judgement in judge_all(pairs, judge, store, 1, jobs, on_warning):
            found[judgement.system][judgement.item] = judgement
    return _report(judge.name, len(able), found)


def _pairs(item: BenchmarkItem, other: BenchmarkItem, folder: Path) -> Iterator[Pair]:
    best, best_of_other = _best(item), _best(other)
    asked = replace(item, gold_image=best)
    yield Pair(asked, GOLD, Path(best))
    yield Pair(asked, UNTOUCHED, Path(item.image))
    yield Pair(asked, BLACK, _black(item, folder))
    yield Pair(asked, OTHER_PHOTO, Path(other.image))
    yield Pair(replace(item, request=other.request, gold_image=best_of_other), OTHER_REQUEST, Path(best))


def _best(item: BenchmarkItem) -> str:
    return item.gold_image or item.human_images[0]


def _other(item: BenchmarkItem, items: Sequence[BenchmarkItem]) -> BenchmarkItem:
    """The next item with another photo and other words; one that asks for other actions where there is any."""
    here = items.index(item)
    turned = [*items[here + 1 :], *items[:here]]
    able = [other for other in turned if _differ(item, other)]
    if not able:
        raise EvaluationError(f"no other item than {item.id} has both another photo and another request; wanted one")
    return next((other for other in able if not set(other.actions) & set(item.actions)), able[0])


def _differ(item: BenchmarkItem, other: BenchmarkItem) -> bool:
    return item.cluster != other.cluster and item.image != other.image and item.request != other.request


def _black(item: BenchmarkItem, folder: Path) -> Path:
    file = folder / "black" / f"{Item(item.id).name}.png"
    if not file.exists():
        write(file, png_bytes(Image.new("RGB", open_image(item.image).size)))
    return file


def _report(judge: str, items: int, found: dict[str, dict[str, Judgement]]) -> SanityReport:
    scores = {
        kind: {item: _numbers(word) for item, word in words.items() if word.score} for kind, words in found.items()
    }
    means = {
        kind: {name: fmean(numbers[name] for numbers in known.values()) for name in SCALES} if known else {}
        for kind, known in scores.items()
    }
    reasons = {
        kind: next(f"{kind}: {word.unscored}" for word in words.values() if not word.score)
        for kind, words in found.items()
        if len(scores[kind]) < len(words)
    }
    findings = tuple(_finding(expectation, scores, items) for expectation in EXPECTATIONS)
    counts = {kind: len(known) for kind, known in scores.items()}
    return SanityReport(judge, items, means, counts, findings, tuple(reasons.values()))


def _numbers(judgement: Judgement) -> dict[str, int]:
    return {name: getattr(judgement, name) if name == TOTAL else getattr(judgement.score, name) for name in SCALES}


def _finding(expectation: Expectation, scores: dict[str, dict[str, dict[str, int]]], items: int) -> Finding:
    high, low = scores[expectation.higher], scores[expectation.lower]
    both = [item for item in high if item in low]
    name = expectation.dimension
    difference = fmean(high[item][name] - low[item][name] for item in both) if 2 * len(both) >= items else None
    return Finding(expectation, difference, len(both))
