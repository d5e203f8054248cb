"""Cases for the page: a request, its photo, what systems made of it, what the judges said; pictures as small JPEGs.

    cases = drawn(study, count=3, seed=0)      # not chosen by how well they came out
    best, worst = extremes(study, "ImageEdit-R1", beside="Original", count=2)
    filled(study, cases)                       # [{"request": ..., "source": {"url": "data:..."}, "edits": [...]}, ...]

A picture that is missing or damaged is shown as the line that says so.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from ier1_plugin.data.items import Item
from ier1_plugin.evaluation.statistics import seeded
from ier1_plugin.evaluation.study import Study
from ier1_plugin.pipeline.batch_folder import PLANS, TRACES, BatchFolder
from ier1_plugin.pipeline.trace import read_plan
from ier1_plugin.task.images import ImageError, data_url, open_image
from ier1_plugin.task.schema import PlanError

QUALITY = 80
# thumbnails get smaller as they get more, so that a page stays a few megabytes: (up to so many, longer side in pixels)
SIDES = ((60, 400), (150, 288), (300, 208))
SMALLEST = 144


@dataclass(frozen=True)
class Case:
    """An item of a benchmark and the systems whose edits of it are shown."""

    benchmark: str
    number: int
    """Of the item in its benchmark."""
    systems: tuple[str, ...]


def drawn(study: Study, count: int, seed: int) -> list[Case]:
    """`count` items of each benchmark by lot, with the edits of all systems that were given them."""
    cases = []
    for name, benchmark in study.benchmarks.items():
        order = np.random.default_rng(seeded(seed, name)).permutation(len(benchmark.items))
        cases += [Case(name, number, _entrants(study, name, number)) for number in order[:count].tolist()]
    return cases


def extremes(study: Study, system: str, beside: str | None, count: int) -> tuple[list[Case], list[Case]]:
    """The `count` best and the worst edits of a system by the mean of the judges; `beside`: shown with it."""
    scored: list[tuple[float, str, int]] = []
    for name in study.benchmarks:
        totals = [found.total for judge in study.judges if (found := study.scores.get((name, system, judge)))]
        if totals:
            # an item that one judge did not score is no fair best or worst
            means = np.mean(totals, axis=0)
            scored += [(float(means[number]), name, number) for number in np.flatnonzero(np.isfinite(means)).tolist()]
    ranked = sorted(scored, key=lambda entry: entry[0])
    worst, best = ranked[:count], ranked[count:][::-1][:count]

    def case(_: float, benchmark: str, number: int) -> Case:
        shown = beside in _entrants(study, benchmark, number) and beside != system
        return Case(benchmark, number, (system, beside) if beside and shown else (system,))

    return [case(*entry) for entry in best], [case(*entry) for entry in worst]


def filled(study: Study, cases: Sequence[Case]) -> list[dict[str, Any]]:
    """The cases with all that the page shows of them, in the same order."""
    pictures = _Pictures(study, cases)
    return [_filled(study, case, pictures) for case in cases]


def _entrants(study: Study, benchmark: str, number: int) -> tuple[str, ...]:
    given = {key[1] for key, found in study.scores.items() if key[0] == benchmark and found.given[number]}
    return tuple(system for system in study.systems if system in given)


def _filled(study: Study, case: Case, pictures: _Pictures) -> dict[str, Any]:
    benchmark = study.benchmarks[case.benchmark]
    item = benchmark.items[case.number]
    return {
        "benchmark": case.benchmark,
        "id": item.id,
        "request": item.request,
        "about": ", ".join([*item.actions, *([f"difficulty {item.difficulty}"] if item.difficulty else [])]),
        "source": pictures.of(benchmark.folders[case.number] / item.image),
        "gold": pictures.of(benchmark.folders[case.number] / item.gold_image) if item.gold_image else None,
        "edits": [_edit(study, case, system, pictures) for system in case.systems],
    }


def _edit(study: Study, case: Case, system: str, pictures: _Pictures) -> dict[str, Any]:
    verdicts = [verdict for judge in study.judges if (verdict := _verdict(study, case, system, judge))]
    return {
        "system": system,
        "image": pictures.of(_image_file(study, case, system)),
        "plan": _plan(study, case, system),
        "verdicts": verdicts,
    }


def _verdict(study: Study, case: Case, system: str, judge: str) -> dict[str, Any] | None:
    found = study.scores.get((case.benchmark, system, judge))
    if found is None or not found.given[case.number]:
        return None
    parts, total = found.parts[case.number], found.total[case.number]
    scored = bool(np.isfinite(total))
    return {
        "judge": judge,
        "total": f"{total:.1f}".removesuffix(".0") if scored else "",
        "parts": " + ".join(f"{part:.1f}".removesuffix(".0") for part in parts) if scored else "",
        "unscored": "" if scored else found.reasons.get(case.number, ""),
        "reply": found.replies.get(case.number, ""),
    }


def _image_file(study: Study, case: Case, system: str) -> Path:
    """Where the edit that was judged is; where it should have been if it is missing."""
    return BatchFolder(_batch(study, case, system)).image(Item(study.benchmarks[case.benchmark].items[case.number].id))


def _plan(study: Study, case: Case, system: str) -> list[str]:
    """The ordered sub-requests; none where the request went to the editor as it is."""
    name = Item(study.benchmarks[case.benchmark].items[case.number].id).name
    for kind in (TRACES, PLANS):
        with suppress(PlanError):
            return list(read_plan(_batch(study, case, system) / kind / f"{name}.json").sub_requests)
    return []


def _batch(study: Study, case: Case, system: str) -> Path:
    folder = study.systems[system].folders[case.benchmark][case.number]
    # cases name only systems that were given the item
    assert folder is not None, case
    return folder


class _Pictures:
    """Thumbnails of all pictures of all cases, each file opened once."""

    def __init__(self, study: Study, cases: Sequence[Case]) -> None:
        files: dict[Path, int] = {}
        for case in cases:
            for file in _files(study, case):
                files[file] = files.get(file, 0) + 1
        shown = sum(files.values())
        side = next((side for count, side in SIDES if shown <= count), SMALLEST)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            self._urls = dict(zip(files, pool.map(lambda file: _thumbnail(file, side), files), strict=True))

    def of(self, file: Path) -> dict[str, Any]:
        """{"url", "width", "height"} or {"problem"}"""
        return self._urls[file]


def _files(study: Study, case: Case) -> list[Path]:
    benchmark = study.benchmarks[case.benchmark]
    item, folder = benchmark.items[case.number], benchmark.folders[case.number]
    own = [folder / file for file in (item.image, item.gold_image) if file]
    return [*own, *(_image_file(study, case, system) for system in case.systems)]


def _thumbnail(file: Path, side: int) -> dict[str, Any]:
    if not file.is_file():
        return {"problem": "no image"}
    try:
        image = open_image(file)
    except ImageError as error:
        return {"problem": str(error)}
    image.thumbnail((side, side), reducing_gap=2.0)
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return {"url": data_url(buffer.getvalue()), "width": image.width, "height": image.height}
