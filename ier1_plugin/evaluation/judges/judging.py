"""Judging: pairs of a source image and an edited one go in, a Judgement for each comes out; nothing is asked twice.

    judge = make_judge("openai:gpt-4o-2024-11-20")
    with JudgementStore(judgements_file(Path("study"), judge.name)) as store:
        for judgement in judge_all([Pair(item, "flux", Path("study/systems/flux/images/psr-1a2b.png"))], judge, store):
            judgement.total      # 9, or None where judgement.unscored says why

A moment of the server is waited out, a reply that can't be read is asked for again; what then has no score is unscored,
never guessed. Every judgement, every failure too, is on disk before it is seen here. Tokens and seconds are those of
its one reply; `judge_store.paid_tokens` sums up what all replies took.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_any,
    stop_when_event_set,
    wait_random_exponential,
)
from tenacity.nap import sleep_using_event

from ier1_plugin.chat.server import ChatError, RequestRejected, TransientError
from ier1_plugin.evaluation.judges.base import Case, Judge, Pair, Question, Reply, question_of
from ier1_plugin.evaluation.judges.store import HTTP, MISSING, JudgementStore
from ier1_plugin.evaluation.records import EvaluationError, Judgement
from ier1_plugin.runs.errors import one_line
from ier1_plugin.runs.workers import as_completed
from ier1_plugin.task.images import ImageError

__all__ = ["Case", "Judge", "Pair", "Reply", "judge_all"]

MAX_BACKOFF = 60.0
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
    """`samples` judgements of every pair, whichever is done first; `pairs` are read as they are needed.

    What `store` holds is not asked for. EvaluationError: the judge can't be asked (a wrong key, a server that is down);
    what was judged is kept.
    """
    worker = _Worker(judge, store, samples, jobs)
    with closing(as_completed(pairs, worker, jobs + PREPARING, worker.stop.set, on_warning)) as found:
        for judgements in found:
            yield from judgements


class _Stopped(Exception):
    """The run is ending: no more requests."""


class _Worker:
    """Judges one pair at a time; called from every thread."""

    def __init__(self, judge: Judge, store: JudgementStore, samples: int, jobs: int) -> None:
        self._judge = judge
        self._store = store
        self._samples = samples
        self._failures = 0
        self._preparing, self._asking = threading.Semaphore(PREPARING), threading.Semaphore(jobs)
        self._backoff = wait_random_exponential(multiplier=judge.backoff, max=MAX_BACKOFF)
        self.stop = threading.Event()
        self._patiently = Retrying(
            retry=retry_if_exception_type(TransientError),
            stop=stop_any(stop_after_attempt(judge.requests), stop_when_event_set(self.stop)),
            wait=self._pause,
            sleep=sleep_using_event(self.stop),
            reraise=True,
        )

    def __call__(self, pair: Pair) -> list[Judgement]:
        question = question_of(pair, self._judge)
        return [self._judged(question, replace(question.blank, sample=number)) for number in range(self._samples)]

    def _judged(self, question: Question, blank: Judgement) -> Judgement:
        if question.problem:
            return self._store.keep(replace(blank, unscored=question.problem, date=_now()))
        with self._store.claim(blank.key):
            paid = self._store.paid(blank.key)
            return self._store.keep(_taken_over(paid, blank) if paid else self._asked(question, blank))

    def _asked(self, question: Question, blank: Judgement) -> Judgement:
        """The first reply with a score, or else the last one."""
        try:
            with self._preparing:
                shown = question.shown
        except ImageError as error:
            return replace(blank, unscored=f"{MISSING}: {error}", date=_now())
        before = self._store.asked_again(blank.key)
        if before and (before[-1].score or len(before) >= self._judge.attempts):
            return _taken_over(before[-1], blank)
        return self._new_reply(shown, blank, len(before))

    def _new_reply(self, shown: Any, blank: Judgement, attempt: int) -> Judgement:
        given_up = self._store.given_up(blank.key)
        while True:
            judgement, final = self._reply(shown, blank, given_up + attempt)
            attempt += 1
            if final or judgement.score or attempt >= self._judge.attempts:
                return judgement
            self._store.keep_to_ask_again(judgement)

    def _reply(self, shown: Any, blank: Judgement, attempt: int) -> tuple[Judgement, bool]:
        start = time.perf_counter()
        try:
            reply = self._patiently(self._ask, shown, blank.sample, attempt)
        except (TransientError, RequestRejected) as error:
            self._count_failure(error)
            reply = Reply(None, f"{HTTP}: {one_line(error)}", final=True)
        except ChatError as error:
            raise EvaluationError(f"{self._judge.name}: {error}") from None
        else:
            self._failures = 0
        said = {name: getattr(reply, name) for name in ("score", "unscored", "prompt_tokens", "completion_tokens")}
        seconds = round(time.perf_counter() - start, 3)
        judgement = replace(blank, **said, reply=reply.text, model=reply.model, seconds=seconds, date=_now())
        return judgement, reply.final

    def _ask(self, shown: Any, sample: int, attempt: int) -> Reply:
        with self._asking:
            if self.stop.is_set():
                raise _Stopped
            return self._judge.ask(shown, sample, attempt)

    def _pause(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        return max(getattr(error, "wait", 0.0), self._backoff(state))

    def _count_failure(self, error: ChatError) -> None:
        if self.stop.is_set():
            # it had not all its requests, so nothing is known about it
            raise _Stopped from None
        self._failures += 1
        if self._failures >= MAX_FAILURES_IN_A_ROW:
            raise EvaluationError(
                f"{self._judge.name} has failed {self._failures} times in a row, the last time: {one_line(error)}; "
                "what was judged is kept, and the same command goes on from there"
            )


def _taken_over(earlier: Judgement, blank: Judgement) -> Judgement:
    """The answer to an equal question; it costs nothing once more."""
    whose = {"item": blank.item, "system": blank.system}
    return replace(earlier, **whose, prompt_tokens=0, completion_tokens=0, seconds=0.0)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
