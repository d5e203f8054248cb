"""Judging: pairs of a source image and an edited one go in, a Judgement for each comes out; nothing is asked twice.

    judge = make_judge("openai:gpt-4o-2024-11-20")
    with JudgementStore(Path("evaluations/psr/judgements.sqlite")) as store:
        for judgement in judge_all([Pair(item, "flux", Path("flux/images/psr-1a2b.png"))], judge, store):
            judgement.total      # 9, or None where judgement.unscored says why

A reply without a score is asked for again; a case that still has none is unscored, never guessed. Every judgement and
every failure is on disk before it is returned. Each reply stands in one record, with its own tokens; a record that
takes over the reply to an equal question has 0 tokens.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ier1_plugin.chat.request import ChatError, RequestRejected, TransientError
from ier1_plugin.evaluation.judges.base import (
    HTTP,
    MISSING,
    REFUSAL,
    UNFORESEEN,
    Case,
    Judge,
    Pair,
    content_sha256,
    read_verdict,
)
from ier1_plugin.evaluation.records import EvaluationError, Judgement
from ier1_plugin.runs.errors import UserError, one_line, with_class
from ier1_plugin.runs.store import Store
from ier1_plugin.runs.workers import as_completed
from ier1_plugin.task.images import ImageError, open_image, read_file

# the next run may fare better
FREE = (MISSING, HTTP, UNFORESEEN)
# pairs that are made ready while `jobs` requests are under way; a decoded photo may take 300 MB, so not all at once
PREPARING = 4
# a server that fails so often in a row is down, whatever the pairs are
MAX_FAILURES_IN_A_ROW = 10


def judge_all(
    pairs: Iterable[Pair],
    judge: Judge,
    store: JudgementStore,
    samples: int = 1,
    jobs: int = 8,
    on_warning: Callable[[str], None] = lambda line: None,
) -> Iterator[Judgement]:
    """`samples` judgements of every pair, in completion order; `pairs` are read as they are needed. What is in `store`
    is not asked for again. EvaluationError: the judge can't be asked (a wrong key, a server that is down); what was
    judged is kept, and the judge is closed.
    """
    worker = _Worker(judge, store, samples, jobs)
    with closing(as_completed(pairs, worker, jobs + PREPARING, worker.stop, on_warning)) as results:
        for judgements in results:
            yield from judgements


class JudgementStore:
    """The judgements of one evaluation, by all its judges; safe to use from several threads."""

    def __init__(self, file: Path, retry_unscored: bool = False) -> None:
        """`retry_unscored`: True gives judgements that were refused, unreadable or out of range all attempts again.
        What has a score is never asked for again; a missing image and a server that did not answer are retried in every
        run. RunError: the file is not a store, or can't be used.
        """
        self._store = Store(file)
        self._lock = threading.Lock()
        self._claims: dict[str, threading.Lock] = {}
        # (item, system, judge, sample) -> what counts of it; the judgement itself stays on disk
        self._latest: dict[tuple[str, str, str, int], tuple[object, ...]] = {}
        # question -> how many replies count no more, now that all attempts are made anew
        self._given_up: Counter[str] = Counter()
        for key, record in self._store:
            judgement = Judgement.from_dict(record)
            if not judgement.asked_again:
                self._latest[judgement.who] = (key, judgement.score, judgement.unscored)
            if retry_unscored and not judgement.score and judgement.kind not in FREE:
                self._given_up[key] += 1

    def __enter__(self) -> JudgementStore:
        return self

    def __exit__(self, *_: object) -> None:
        self._store.close()

    def claim(self, judgement: Judgement) -> threading.Lock:
        """A lock to hold while its question is asked, so that an equal one waits for the answer."""
        with self._lock:
            return self._claims.setdefault(_digest(judgement), threading.Lock())

    def replies(self, judgement: Judgement) -> tuple[list[Judgement], int]:
        """The replies to its question, whichever system it was asked for: one with a score, or else all that count.
        Oldest first, with the number of those that no longer count.
        """
        key = _digest(judgement)
        records = [Judgement.from_dict(record) for record in self._store.get(key)]
        scored = [one for one in records if one.score]
        paid = [one for one in records if not one.score and one.kind not in FREE]
        return scored[:1] or paid[self._given_up[key] :], self._given_up[key]

    def keep(self, judgement: Judgement) -> Judgement:
        """Writes a reply, and whatever else is not stored yet; returns the judgement that counts from now on."""
        key = _digest(judgement)
        if judgement.asked_again:
            self._store.append(key, asdict(judgement))
            return judgement
        says = key, judgement.score, judgement.unscored
        with self._lock:
            if self._latest.get(judgement.who) == says and (judgement.taken_over or judgement.kind in FREE):
                earlier = map(Judgement.from_dict, reversed(self._store.get(key)))
                return next(one for one in earlier if one.who == judgement.who and not one.asked_again)
            self._store.append(key, asdict(judgement))
            self._latest[judgement.who] = says
        return judgement

    def export(self, file: Path) -> None:
        """Writes all records as JSON lines, for people to read."""
        self._store.export(file)


class _Worker:
    """Judges one pair at a time; called from every thread."""

    def __init__(self, judge: Judge, store: JudgementStore, samples: int, jobs: int) -> None:
        self._judge = judge
        self._store = store
        self._samples = samples
        self._failures = self._under_way = 0
        self._stopped = False
        self._preparing, self._asking = threading.Semaphore(PREPARING), threading.Semaphore(jobs)
        self._lock = threading.Lock()

    def __call__(self, pair: Pair) -> list[Judgement]:
        """All samples of the pair. EvaluationError: the judge can't be asked."""
        files, blank = self._read(pair)
        # made by the first sample that asks, if any
        prepared: list[Any] = []
        judgements = []
        for sample in range(self._samples):
            one = replace(blank, sample=sample, date=_now())
            # kept before the claim ends, or else an equal question would be asked once more
            with self._store.claim(one):
                if not one.unscored:
                    try:
                        one = self._judged(one, files, pair.item.request, prepared)
                    except (UserError, _Stopped):
                        raise
                    except Exception as error:
                        one = replace(one, unscored=f"{UNFORESEEN}: {with_class(error)}")
                judgements.append(self._store.keep(one))
        return judgements

    def stop(self) -> None:
        """Makes no more requests; those under way end after at most one answer."""
        with self._lock:
            self._stopped = True
            if self._under_way:
                # ends the waiting between two attempts
                self._judge.close()

    def _read(self, pair: Pair) -> tuple[dict[str, bytes], Judgement]:
        """The files of the pair, and the judgement without the judge's reply; it is unscored if a file is missing."""
        paths: dict[str, Path | str] = {"source": Path(pair.item.image), "edited": pair.edited}
        if self._judge.compares_with_gold:
            paths["gold"] = Path(pair.item.gold_image) if pair.item.gold_image else "no gold edit"
        files, problem = {}, ""
        for name, path in paths.items():
            try:
                if not isinstance(path, Path):
                    raise ImageError(path)
                files[name] = read_file(path)
            # an ImageError, or what Python says of a path with a NUL
            except ValueError as error:
                problem = problem or f"{MISSING}: {error}"
        hashes = {name: content_sha256(data) for name, data in files.items()}
        # with another gold edit it is another question
        request = pair.item.request.encode("utf-8", "replace") + hashes.get("gold", "").encode()
        return files, Judgement(
            item=pair.item.id,
            system=pair.system,
            judge=self._judge.name,
            sample=0,
            source_sha256=hashes.get("source", ""),
            edited_sha256=hashes.get("edited", ""),
            request_sha256=hashlib.sha256(request).hexdigest(),
            rubric_sha256=self._judge.rubric_sha256,
            score=None,
            unscored=problem,
        )

    def _judged(self, blank: Judgement, files: dict[str, bytes], request: str, prepared: list[Any]) -> Judgement:
        """The first reply with a score, or else the last one: one that was paid for already, or a new one."""
        replies, given_up = self._store.replies(blank)
        done = [one for one in replies if not one.asked_again]
        if not done and len(replies) >= self._judge.attempts:
            done = replies
        if done:
            # the answer to an equal question costs nothing once more
            whose = {"item": blank.item, "system": blank.system, "asked_again": False}
            return replace(done[-1], **whose, prompt_tokens=0, completion_tokens=0, seconds=0.0)
        if not prepared:
            images = {}
            with self._preparing:
                for name, data in files.items():
                    try:
                        images[name] = open_image(data)
                    except ImageError as error:
                        return replace(blank, unscored=f"{MISSING}: {name}: {error}")
                prepared.append(self._judge.question(Case(request=request, **images)))
        for attempt in range(len(replies), self._judge.attempts):
            reply, final = self._reply(blank, prepared[0], given_up + attempt)
            if final or reply.score or attempt + 1 == self._judge.attempts:
                return reply
            self._store.keep(replace(reply, asked_again=True))
        raise AssertionError("a judge has one attempt at least")

    def _reply(self, blank: Judgement, prepared: Any, attempt: int) -> tuple[Judgement, bool]:
        """One reply, and whether asking again would bring no other."""
        with self._asking:
            with self._lock:
                if self._stopped:
                    raise _Stopped
                self._under_way += 1
            start = time.perf_counter()
            try:
                completion = self._judge.ask(prepared, blank.sample, attempt)
            except (TransientError, RequestRejected) as error:
                filtered = isinstance(error, RequestRejected) and error.filtered
                if self._stopped and not filtered:
                    # it did not get all its attempts, so nothing is known about it
                    raise _Stopped from None
                # what is rejected is the fault of this case: a server that rejects them all is noticed by the chat
                self._failures = 0 if isinstance(error, RequestRejected) else self._failures + 1
                if self._failures >= MAX_FAILURES_IN_A_ROW:
                    raise EvaluationError(
                        f"{self._judge.name} has failed {self._failures} times in a row, the last time: "
                        f"{one_line(error)}; what was judged is kept; run the same command again to continue"
                    ) from None
                unscored = f"{REFUSAL if filtered else HTTP}: {one_line(error)}"
                return replace(blank, unscored=unscored, date=_now()), True
            except ChatError as error:
                raise EvaluationError(f"{self._judge.name}: {error}") from None
            finally:
                with self._lock:
                    self._under_way -= 1
        self._failures = 0
        score, unscored = read_verdict(completion)
        judgement = replace(
            blank,
            score=score,
            unscored=unscored,
            reply=completion.text or completion.refusal,
            prompt_tokens=completion.prompt_tokens,
            completion_tokens=completion.completion_tokens,
            seconds=round(time.perf_counter() - start, 3),
            date=_now(),
            model=completion.model,
        )
        return judgement, False


class _Stopped(Exception):
    """The run is ending: no more requests."""


def _digest(judgement: Judgement) -> str:
    return hashlib.sha256(repr(judgement.key).encode("utf-8", "replace")).hexdigest()[:32]


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
