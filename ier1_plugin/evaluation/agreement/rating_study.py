"""A blind rating study on the edits of an evaluation, as files: what is rated, by whom, and what they said so far.

    with Study.opened(Path("evaluations/psr"), sample=100, raters=3, seed=0) as study:
        study.rate(study.raters[0], 7, Score(4, 2, 3), seconds=12.5)
    # evaluations/psr/annotation/study.json             the pairs (item, system), the hash of the rubric that is shown,
    #                                                   and the raters with their secret tokens
    # evaluations/psr/annotation/ratings/rater-1.jsonl  {"item": ..., "system": ..., "score": {...}, "seconds": 12.5,
    #                                                    "edited_sha256": "9f2c...", ...}

All raters rate the same pairs, each in an order of their own. A rating is on the disk when `rate` returns; the last
line of a pair counts. It is of the image that it was given to: where the edit was made again since, it doesn't count.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import Any

from ier1_plugin.evaluation.agreement.annotate_lines import Rating, append, read_lines
from ier1_plugin.evaluation.agreement.annotate_pairs import RatedPair, draw, edited_pairs
from ier1_plugin.evaluation.agreement.rubric import SHOWN
from ier1_plugin.evaluation.judges.base import content_sha256
from ier1_plugin.evaluation.records import EvaluationError, Score
from ier1_plugin.runs.folder import write
from ier1_plugin.task.images import ImageError, read_file

FOLDER, STUDY, RATINGS = "annotation", "study.json", "ratings"
SAMPLE, RATERS, SEED = 100, 3, 0


@dataclass(frozen=True)
class Rater:
    """Whoever has the link with `token` rates as `name`."""

    name: str
    token: str


class Changed(Exception):
    """The edited image is not the one that was seen."""


@dataclass
class Study:
    """The files of one study. Safe to use from several threads; `opened` keeps other processes out."""

    folder: Path
    """Of the evaluation."""
    seed: int
    pairs: tuple[RatedPair, ...]
    raters: tuple[Rater, ...]
    said: dict[str, dict[tuple[str, str], Rating]] = field(default_factory=dict)
    """{rater: {(item, system): rating}}"""
    rubric_sha256: str = ""
    """Of the rubric that raters are shown; "" in a study of old, which kept none."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    @contextmanager
    def opened(
        cls,
        folder: Path,
        *,
        sample: int | None = None,
        raters: int | None = None,
        seed: int | None = None,
        systems: Sequence[str] = (),
        rubric_sha256: str = "",
    ) -> Iterator[Study]:
        """Begins a study or goes on with the one that is there; None: as it is there, or else the defaults above.

        More raters may join later. EvaluationError: no edits, other settings than before, or another server has it.
        """
        place = folder / FOLDER
        if not (place / STUDY).exists():
            # before anything is written into a folder that may be the wrong one
            edited_pairs(folder, systems)
        place.mkdir(mode=0o700, exist_ok=True)
        lock = os.open(place / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _take(lock, place)
            if not (place / STUDY).exists():
                _begin(folder, sample or SAMPLE, seed or SEED, systems)
            _check(place / STUDY, sample, seed, systems)
            _keep_rubric(place / STUDY, rubric_sha256)
            _add_raters(place / STUDY, raters)
            yield cls.read(folder)
        finally:
            os.close(lock)

    @classmethod
    def read(cls, folder: Path) -> Study:
        """The study as it stands, also while a server has it. EvaluationError: there is none, or it is damaged."""
        values = _study(folder / FOLDER / STUDY)
        try:
            pairs = tuple(RatedPair(**pair | {"actions": tuple(pair["actions"])}) for pair in values["pairs"])
            study = cls(folder, values["seed"], pairs, tuple(Rater(**rater) for rater in values["raters"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise EvaluationError(f"{folder / FOLDER / STUDY} is damaged: {error!r}") from None
        study.rubric_sha256 = str(values.get("rubric_sha256") or "")
        study.said = {rater.name: dict(read_lines(study.file(rater))) for rater in study.raters}
        return study

    def file(self, rater: Rater) -> Path:
        return self.folder / FOLDER / RATINGS / f"{rater.name}.jsonl"

    def order(self, rater: Rater) -> list[RatedPair]:
        """The pairs as this rater sees them, the same each time."""
        pairs = list(self.pairs)
        random.Random(f"{self.seed}-{rater.name}").shuffle(pairs)
        return pairs

    def scores(self, rater: Rater) -> list[Score | None]:
        """What this rater said of each pair as it is now, in the rater's order."""
        with self._lock:
            said = dict(self.said[rater.name])
        ratings = [(pair, said.get((pair.item, pair.system))) for pair in self.order(rater)]
        return [one.score if one and self.counts(pair, one) else None for pair, one in ratings]

    def edited_sha256(self, pair: RatedPair) -> str:
        """`content_sha256` of the edited image as it is now; "" where it can't be read."""
        try:
            file = self.folder / pair.edited
            there = file.stat()
            return _sha256(file, there.st_ino, there.st_size, there.st_mtime_ns)
        except (OSError, ImageError):
            return ""

    def counts(self, pair: RatedPair, said: Rating) -> bool:
        """Whether the edit is still the one that was rated, or at least not known to be another one."""
        return not said.edited_sha256 or self.edited_sha256(pair) in ("", said.edited_sha256)

    def rate(self, rater: Rater, place: int, score: Score, seconds: float, seen: str = "") -> None:
        """Keeps a rating of the pair at `place` of the rater's order; `seen`: `edited_sha256` of what was shown.

        Changed: that is not the image any more. OSError: it could not be written.
        """
        pair = self.order(rater)[place]
        edited = self.edited_sha256(pair)
        if seen and seen != edited:
            raise Changed
        line = {
            "item": pair.item,
            "system": pair.system,
            "rater": rater.name,
            "score": asdict(score),
            "seconds": round(seconds, 1),
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "edited_sha256": edited,
        }
        with self._lock:
            append(self.file(rater), json.dumps(line, ensure_ascii=False))
            self.said[rater.name][pair.item, pair.system] = Rating(score, edited)


def _begin(folder: Path, sample: int, seed: int, systems: Sequence[str]) -> None:
    pairs = draw(edited_pairs(folder, systems), sample, seed)
    values = {
        "seed": seed,
        "sample": sample,
        "systems": list(systems),
        "pairs": [asdict(pair) for pair in pairs],
        "raters": [],
    }
    write(folder / FOLDER / STUDY, json.dumps(values, indent=1, ensure_ascii=False) + "\n")


def _check(file: Path, sample: int | None, seed: int | None, systems: Sequence[str]) -> None:
    was = _study(file)
    for name, given in (("sample", sample), ("seed", seed), ("systems", list(systems) or None)):
        if given is not None and given != was.get(name):
            raise EvaluationError(
                f"{file.parent} was begun with {name} {was.get(name)!r}, now {given!r}; leave it out to go on, "
                f"or move that folder away to begin anew"
            )


def _keep_rubric(file: Path, sha256: str) -> None:
    """EvaluationError: raters saw another one before."""
    values = _study(file)
    before = values.get("rubric_sha256") or ""
    if sha256 and before and before != sha256:
        raise EvaluationError(
            f"{file.parent} was begun with another rubric ({before[:SHOWN]}, now {sha256[:SHOWN]}); give --rubric FILE "
            f"with the one that raters saw, or move that folder away to begin anew"
        )
    if sha256 and not before:
        write(file, json.dumps(values | {"rubric_sha256": sha256}, indent=1, ensure_ascii=False) + "\n")


def _add_raters(file: Path, wanted: int | None) -> None:
    values = _study(file)
    have = len(values["raters"])
    wanted = wanted or have or RATERS
    if wanted < have:
        raise EvaluationError(f"{file.parent} has {have} raters already; --raters {wanted} would drop some")
    for number in range(have + 1, wanted + 1):
        values["raters"].append(asdict(Rater(f"rater-{number}", secrets.token_urlsafe(24))))
    if wanted > have:
        write(file, json.dumps(values, indent=1, ensure_ascii=False) + "\n")


def _take(lock: int, place: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise EvaluationError(f"another server has {place}; end it first, or use the links that it shows") from None


def _study(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise EvaluationError(f"no ratings in {file.parents[1]}; `ier1 annotate {file.parents[1]}` collects them")
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise EvaluationError(f"{file} is damaged: {error}") from None
    if not isinstance(values, dict) or not isinstance(values.get("raters"), list):
        raise EvaluationError(f"{file} is damaged: raters and pairs were wanted")
    return values


@lru_cache(maxsize=10_000)
def _sha256(file: Path, *state: int) -> str:
    """`state` changes with the file."""
    return content_sha256(read_file(file))
