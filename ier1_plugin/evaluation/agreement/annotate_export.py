"""The ratings of a study as the table that `ier1 agreement` reads, and beside them what judges said of the same edits.

    exported(Study.read(Path("evaluations/psr")), group_by="system")[0][0]
    -> Rating(item="psr-1a2b/flux", rater="rater-1", dimension="fulfilment", score=4, group="flux")

Each dimension of the rubric has its lines, and so has `total`, their sum.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

import numpy as np

from ier1_plugin.evaluation import scores as report_data
from ier1_plugin.evaluation.agreement.annotate_pairs import RatedPair
from ier1_plugin.evaluation.agreement.rating_study import Study
from ier1_plugin.evaluation.agreement.ratings import JUDGE, Rating
from ier1_plugin.evaluation.agreement.rubric import other_rubrics
from ier1_plugin.evaluation.folder import read_run
from ier1_plugin.evaluation.judges.store import judgements_file
from ier1_plugin.evaluation.records import DIMENSIONS, EvaluationError

GroupBy = Literal["system", "action", "cluster"]
GROUPINGS: tuple[GroupBy, ...] = get_args(GroupBy)
TOTAL = "total"


def exported(study: Study, group_by: GroupBy = "system") -> tuple[list[Rating], list[str]]:
    """(ratings of humans, then of judges; notes on what doesn't count). EvaluationError: no rating is left."""
    notes = _left_out(study)
    ratings = list(_by_humans(study, group_by))
    if not ratings:
        reason = f": {notes[0]}" if notes else " yet"
        raise EvaluationError(f"no ratings in {study.folder}{reason}; `ier1 annotate {study.folder}` collects them")
    if not _has_judgements(study):
        return ratings, notes
    judged = report_data.read_study([study.folder])
    return [*ratings, *_by_judges(study, judged, group_by)], [*notes, *_other_rubrics(study), *judged.notes]


def _left_out(study: Study) -> list[str]:
    """How many ratings are of an image that is not there any more, in one line."""
    pairs = {(pair.item, pair.system): pair for pair in study.pairs}
    said = [(pairs[key], one) for ratings in study.said.values() for key, one in ratings.items() if key in pairs]
    changed = sum(not study.counts(pair, one) for pair, one in said)
    return [f"{changed} of {len(said)} ratings are left out, as their edits were made again since"] if changed else []


def _other_rubrics(study: Study) -> list[str]:
    return other_rubrics(study.rubric_sha256, study.folder) if study.rubric_sha256 else []


def _has_judgements(study: Study) -> bool:
    files = (judgements_file(study.folder, judge["name"]) for judge in read_run(study.folder).get("judges", []))
    return any(file.is_file() and file.stat().st_size for file in files)


def _by_humans(study: Study, group_by: GroupBy) -> Iterator[Rating]:
    for rater in study.raters:
        said = study.said[rater.name]
        for pair in study.pairs:
            one = said.get((pair.item, pair.system))
            if one and study.counts(pair, one):
                yield from _lines(pair, rater.name, [getattr(one.score, name) for name in DIMENSIONS], group_by)


def _by_judges(study: Study, judged: report_data.Study, group_by: GroupBy) -> Iterator[Rating]:
    """Means over the samples of an item; what is unscored has no line."""
    (name, benchmark), *_ = judged.benchmarks.items()
    number = {item.id: place for place, item in enumerate(benchmark.items)}
    for judge in judged.judges:
        for pair in study.pairs:
            scores = judged.scores.get((name, pair.system, judge))
            parts = scores.parts[number[pair.item]] if scores and pair.item in number else None
            if parts is not None and np.isfinite(parts).all():
                yield from _lines(pair, f"{JUDGE}{judge}", parts.tolist(), group_by)


def _lines(pair: RatedPair, rater: str, parts: list[float], group_by: GroupBy) -> Iterator[Rating]:
    group = {"system": pair.system, "action": " + ".join(pair.actions), "cluster": pair.cluster}[group_by]
    for dimension, score in zip((*DIMENSIONS, TOTAL), (*parts, sum(parts)), strict=True):
        yield Rating(f"{pair.item}/{pair.system}", rater, dimension, score, group)
