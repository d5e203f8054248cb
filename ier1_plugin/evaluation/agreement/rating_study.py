"""A blind rating study of an evaluation's edits: which edits, by which rubric, and the ratings so far.

    with Study.opened(Path("evaluations/psr"), sample=100, raters=3, seed=0) as study:
        study.rate(study.raters[0], 7, Score(4, 2, 3), seconds=12.5)
    # evaluations/psr/annotation/study.json        the pairs (item, system), the hash of the rubric that raters see,
    #                                              and the raters with their secret tokens
    # evaluations/psr/annotation/ratings.sqlite    {"item": ..., "system": ..., "rater": "rater-1", "score": {...},
    #                                               "seconds": 12.5, "date": ..., "edited_sha256": "9f2c..."}
    export_ratings(Study.read(Path("evaluations/psr")))    # the rows that `ier1 agreement` reads, with the judges' own

All raters rate the same pairs, each in their own order. A rating is on disk when `rate` returns; the last one of a pair
counts. It belongs to the image that was seen: if the edit has been redone since, it does not count.
"""

from __future__ import annotations

import json
import random
import re
import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from ier1_plugin.data.items import Item
from ier1_plugin.evaluation.agreement.ratings import JUDGE, Rating
from ier1_plugin.evaluation.folder import EVALUATION, read_items, read_judgements, read_run
from ier1_plugin.evaluation.judges import PIXEL
from ier1_plugin.evaluation.judges.base import content_sha256
from ier1_plugin.evaluation.judges.prompt import JudgePrompt
from ier1_plugin.evaluation.records import DIMENSIONS, EvaluationError, Score
from ier1_plugin.evaluation.scores import read_scores
from ier1_plugin.pipeline.batch_folder import BatchFolder
from ier1_plugin.runs.folder import changes, locked, read_settings, write
from ier1_plugin.runs.store import Store
from ier1_plugin.task.images import ImageError, read_file

FOLDER, STUDY, RATINGS = "annotation", "study.json", "ratings.sqlite"
SAMPLE, RATERS, SEED = 100, 3, 0
GROUPINGS = ("system", "action", "cluster")
TOTAL = "total"
SHOWN = 12
"""Characters of a hash in a message."""
RUBRIC_FORM = (
    'a line such as "fulfilment, 0 to 4: was it done?" and below it "- 4: all of it" down to "- 0: none of it"'
)


@dataclass(frozen=True)
class Scale:
    """One dimension of DIMENSIONS; levels from the highest score to 0."""

    name: str
    question: str
    levels: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class Rubric:
    """The text of the judge's prompt: scales in the order of DIMENSIONS, and the paragraph after them ("": none)."""

    scales: tuple[Scale, ...]
    advice: str
    sha256: str
    """Hash of the prompt, as evaluation.json has it for each judge."""


def read_rubric(file: Path | None = None) -> Rubric:
    """The rubric of the judges' own prompt, or of another one. EvaluationError: it isn't in the form of RUBRIC_FORM."""
    prompt = JudgePrompt.read(file)
    # raters see each request beside its images
    text = "\n".join(line.strip() for line in prompt.template.render(request="").splitlines())
    scales: dict[str, Scale] = {}
    advice = ""
    for match in re.finditer(r"^(\w+), 0 to \d+: (.+)((?:\n- \d+: .+)+)", text, re.MULTILINE):
        name, levels = match[1], re.findall(r"- (\d+): (.+)", match[3])
        scales[name] = Scale(name, match[2], tuple((int(score), words) for score, words in levels))
        advice = text[match.end() :].strip().partition("\n\n")[0]
    for name, highest in DIMENSIONS.items():
        if name not in scales or [score for score, _ in scales[name].levels] != list(range(highest, -1, -1)):
            where = f"rubric {file}" if file else "the rubric"
            raise EvaluationError(f"{where} does not show {name} from {highest} to 0; wanted {RUBRIC_FORM}")
    return Rubric(
        tuple(scales[name] for name in DIMENSIONS), "" if advice.startswith("Answer") else advice, prompt.sha256
    )


def other_rubrics(shown_sha256: str, folder: Path, required: bool = False) -> list[str]:
    """A note on each judge of an evaluation whose rubric is not the one that raters see.

    EvaluationError: it is `required` that one judge has that rubric, and none has.
    """
    # the hash of `pixel` is that of its definition
    judges = [one for one in read_run(folder).get("judges", []) if one.get("rubric_sha256") and one["name"] != PIXEL]
    notes = [
        f"{judge['name']} judged {folder} by rubric {judge.get('rubric') or 'FILE'} "
        f"({judge['rubric_sha256'][:SHOWN]}), but raters see another one ({shown_sha256[:SHOWN]})"
        for judge in judges
        if judge["rubric_sha256"] != shown_sha256
    ]
    if required and notes and len(notes) == len(judges):
        raise EvaluationError(f"{notes[0]}; pass that rubric with --rubric FILE")
    return notes


@dataclass(frozen=True)
class RatedPair:
    """One system's edit of one item. Paths are relative to the evaluation's folder, or absolute."""

    item: str
    system: str
    request: str
    source: str
    edited: str
    actions: tuple[str, ...] = ()
    cluster: str = ""


def edited_pairs(folder: Path, systems: Sequence[str] = ()) -> dict[str, list[RatedPair]]:
    """{system: pairs that have an edited image}, of all systems of an evaluation or of those named.

    EvaluationError: there are none, or there is no such system.
    """
    facts, items = read_run(folder), read_items(folder)
    if not facts:
        raise EvaluationError(f"{folder} holds no {EVALUATION}; wanted a folder that `ier1 evaluate --out` made")
    folders = {str(one["name"]): str(one.get("folder") or f"systems/{one['name']}") for one in facts["systems"]}
    if unknown := sorted(set(systems) - set(folders)):
        raise EvaluationError(f"{folder} has no system {unknown[0]!r}; it has {', '.join(folders)}")
    pairs: dict[str, list[RatedPair]] = {}
    for system in [name for name in folders if name in (systems or folders)]:
        store, pairs[system] = BatchFolder(folder / folders[system]), []
        for item in items:
            edited = store.image(Item(item.id))
            if edited.is_file():
                file = str(edited.relative_to(folder) if edited.is_relative_to(folder) else edited)
                pair = RatedPair(item.id, system, item.request, item.image, file, item.actions, item.cluster)
                pairs[system].append(pair)
    if not any(pairs.values()):
        raise EvaluationError(f"{folder} has no edited images to rate; `ier1 evaluate --out {folder}` makes them")
    return pairs


def sample_pairs(pairs: dict[str, list[RatedPair]], sample: int, seed: int) -> list[RatedPair]:
    """A random sample, or all pairs: every item once before any item twice, systems in turn."""
    by_item: dict[str, dict[str, RatedPair]] = {}
    for system, of_system in pairs.items():
        for pair in of_system:
            by_item.setdefault(pair.item, {})[system] = pair
    items = sorted(by_item)
    random.Random(f"{seed}-items").shuffle(items)
    systems = list(pairs)
    turns = (
        (item, systems[(position + turn) % len(systems)])
        for turn in range(len(systems))
        for position, item in enumerate(items)
    )
    return [by_item[item][system] for item, system in turns if system in by_item[item]][:sample]


@dataclass(frozen=True)
class Rater:
    """A rater; whoever has the link with `token` rates as `name`."""

    name: str
    token: str


class EditRating(NamedTuple):
    """A rater's scores of one edit, and `content_sha256` of the edited image that they saw."""

    score: Score
    edited_sha256: str


class EditChanged(EvaluationError):
    """The edited image is no longer the one that was seen."""


@dataclass
class Study:
    """One study. Safe to use from several threads; `opened` keeps other processes out."""

    folder: Path
    """Of the evaluation."""
    seed: int
    pairs: tuple[RatedPair, ...]
    raters: tuple[Rater, ...]
    rubric_sha256: str
    """Of the rubric that raters see."""
    ratings: dict[str, dict[tuple[str, str], EditRating]] = field(default_factory=dict)
    """{rater: {(item, system): rating}}"""
    _store: Store | None = None
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
        """Starts a study or continues the one in `folder`; None: as it was started, or else the defaults above.

        More raters may join later. EvaluationError: no edits, or other settings than before. RunError: another server
        is running it.
        """
        place, file = folder / FOLDER, folder / FOLDER / STUDY
        # before anything is written into a folder that may be the wrong one
        pairs = {} if file.exists() else edited_pairs(folder, systems)
        place.mkdir(mode=0o700, exist_ok=True)
        with locked(place):
            if file.exists():
                values = _read_values(folder)
                now = {"sample": sample, "seed": seed, "systems": list(systems) or None}
                now |= {"rubric": rubric_sha256[:SHOWN] or None}
                now = {name: value for name, value in now.items() if value is not None}
                before = values | {"rubric": str(values.get("rubric_sha256"))[:SHOWN]}
                if changed := changes({name: before.get(name) for name in now}, now):
                    raise EvaluationError(
                        f"{place} was begun with other settings ({', '.join(changed)}); leave them out to resume (but "
                        f"pass the rubric that raters saw with --rubric FILE), or move that folder away to start over"
                    )
            else:
                seed, sample = seed or SEED, sample or SAMPLE
                values = {"seed": seed, "sample": sample, "systems": list(systems), "rubric_sha256": rubric_sha256}
                values |= {"pairs": [asdict(pair) for pair in sample_pairs(pairs, sample, seed)], "raters": []}
            known = len(values["raters"])
            wanted = raters or known or RATERS
            if wanted < known:
                raise EvaluationError(f"{place} has {known} raters already; --raters {wanted} would drop some")
            for number in range(known + 1, wanted + 1):
                values["raters"].append(asdict(Rater(f"rater-{number}", secrets.token_urlsafe(24))))
            study = cls.read(folder, values)
            write(file, json.dumps(values, indent=1, ensure_ascii=False) + "\n")
            with Store(place / RATINGS) as store:
                study._store = store
                yield study
                store.export((place / RATINGS).with_suffix(".jsonl"))

    @classmethod
    def read(cls, folder: Path, values: dict[str, Any] | None = None) -> Study:
        """The study as it is now, also while a server is running it. EvaluationError: there is none, or it is damaged.

        `values`: the contents of study.json, if already read.
        """
        values = values or _read_values(folder)
        place = folder / FOLDER
        if (place / "ratings").is_dir():
            raise EvaluationError(
                f"{place / 'ratings'} holds JSON lines of an earlier version; export them with that version, or move "
                f"{place} away to start over"
            )
        try:
            pairs = tuple(RatedPair(**pair | {"actions": tuple(pair["actions"])}) for pair in values["pairs"])
            raters = tuple(Rater(**rater) for rater in values["raters"])
            study = cls(folder, values["seed"], pairs, raters, str(values.get("rubric_sha256") or ""))
            study.ratings = {rater.name: {} for rater in raters}
            if (place / RATINGS).exists():
                with Store(place / RATINGS, read_only=True) as store:
                    for _, one in store:
                        rating = EditRating(Score(**one["score"]), one["edited_sha256"])
                        study.ratings[one["rater"]][one["item"], one["system"]] = rating
        except (KeyError, TypeError, AttributeError) as error:
            raise EvaluationError(f"{place} is damaged: {error!r}") from None
        return study

    def order(self, rater: Rater) -> list[RatedPair]:
        """The pairs as this rater sees them, the same each time."""
        pairs = list(self.pairs)
        random.Random(f"{self.seed}-{rater.name}").shuffle(pairs)
        return pairs

    def scores(self, rater: Rater) -> list[Score | None]:
        """This rater's score of each pair as it is now, in the rater's order."""
        with self._lock:
            ratings = dict(self.ratings[rater.name])
        pairs = [(pair, ratings.get((pair.item, pair.system))) for pair in self.order(rater)]
        return [one.score if one and self.counts(pair, one) else None for pair, one in pairs]

    def edited_sha256(self, pair: RatedPair) -> str:
        """`content_sha256` of the edited image as it is now; "" if it can't be read."""
        try:
            file = self.folder / pair.edited
            stat = file.stat()
            return _sha256(file, stat.st_ino, stat.st_size, stat.st_mtime_ns)
        except (OSError, ImageError):
            return ""

    def counts(self, pair: RatedPair, rating: EditRating) -> bool:
        """Whether the edit is still the one that was rated, as far as it can be read."""
        return self.edited_sha256(pair) in ("", rating.edited_sha256)

    def rate(self, rater: Rater, position: int, score: Score, seconds: float, seen: str = "") -> None:
        """Stores a rating of the pair at `position` of the rater's order; `seen`: `edited_sha256` of the shown image.

        EditChanged: the image has changed since. RunError: the rating could not be written.
        """
        pair = self.order(rater)[position]
        edited = self.edited_sha256(pair)
        if seen and seen != edited:
            raise EditChanged("this edit was redone; reload the page to see it")
        record = {
            "item": pair.item,
            "system": pair.system,
            "rater": rater.name,
            "score": asdict(score),
            "seconds": round(seconds, 1),
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "edited_sha256": edited,
        }
        assert self._store is not None, "a study that was only read takes no ratings"
        with self._lock:
            self._store.append(json.dumps([rater.name, pair.item, pair.system]), record)
            self.ratings[rater.name][pair.item, pair.system] = EditRating(score, edited)


def export_ratings(study: Study, group_by: str = "system") -> tuple[list[Rating], list[str]]:
    """(ratings of humans, then of judges on the same edits; notes on what doesn't count).

    Each dimension of the rubric has its rows, and so does their sum, `total`. A judge's scores are means over its
    samples of an edit; an unscored edit has no row. EvaluationError: no rating is left, or `group_by` is not one of
    GROUPINGS.
    """
    if group_by not in GROUPINGS:
        raise EvaluationError(f"--group-by is {group_by!r}; wanted one of {', '.join(GROUPINGS)}")

    def rows(pair: RatedPair, rater: str, parts: Sequence[float]) -> list[Rating]:
        group = {"system": pair.system, "action": " + ".join(pair.actions), "cluster": pair.cluster}[group_by]
        scores = zip((*DIMENSIONS, TOTAL), (*parts, sum(parts)), strict=True)
        return [Rating(f"{pair.item}/{pair.system}", rater, dimension, score, group) for dimension, score in scores]

    rated = [
        (pair, rater.name, rating)
        for rater in study.raters
        for pair in study.pairs
        if (rating := study.ratings[rater.name].get((pair.item, pair.system)))
    ]
    current = [(pair, rater, rating.score) for pair, rater, rating in rated if study.counts(pair, rating)]
    ratings = [row for pair, rater, score in current for row in rows(pair, rater, [*asdict(score).values()])]
    notes = []
    if changed := len(rated) - len(current):
        notes.append(f"{changed} of {len(rated)} ratings are left out, as their edits have been redone since")
    if not ratings:
        reason = f": {notes[0]}" if notes else " yet"
        raise EvaluationError(f"no ratings in {study.folder}{reason}; `ier1 annotate {study.folder}` collects them")
    if next(read_judgements(study.folder), None) is None:
        return ratings, notes
    if study.rubric_sha256:
        notes += other_rubrics(study.rubric_sha256, study.folder)
    judged = read_scores([study.folder])
    (benchmark,) = judged.items
    parts = judged.by_item[[*DIMENSIONS]].dropna().T.to_dict("list")
    for judge in judged.judges:
        for pair in study.pairs:
            if (key := (benchmark, pair.item, pair.system, judge)) in parts:
                ratings += rows(pair, f"{JUDGE}{judge}", parts[key])
    return ratings, [*notes, *judged.notes]


def _read_values(folder: Path) -> dict[str, Any]:
    file = folder / FOLDER / STUDY
    if not file.is_file():
        raise EvaluationError(f"no ratings in {folder}; `ier1 annotate {folder}` collects them")
    values = read_settings(file)
    if not isinstance(values.get("raters"), list):
        raise EvaluationError(f"{file} is damaged: it has no raters")
    return values


@lru_cache(maxsize=10_000)
def _sha256(file: Path, *state: int) -> str:
    """`state` changes with the file."""
    return content_sha256(read_file(file))
