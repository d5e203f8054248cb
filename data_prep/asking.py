"""One item at a time from request to gold: votes, attempts, and when to give up. Called from several threads.

    Worker(settings, server, replies, progress)(Item("jsonl-12", "remove the lamp", jpeg_bytes))
    -> ("jsonl-12", Decomposition(actions=("Delete",), subjects=("lamp",), goals=()))

A moment of the server is waited out with growing pauses, a reply without a decomposition is asked for again, and what
was answered in an earlier run is taken from the replies file.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential
from tenacity.nap import sleep_using_event

from data_prep.annotation import Problem, annotation_prompt, question, read_completion
from data_prep.replies import Replies, digest_of
from data_prep.vlm import AnnotatorError, Server
from data_prep.votes import settle
from ier1_plugin.chat.server import RequestRejected, TransientError
from ier1_plugin.task.schema import Decomposition

if TYPE_CHECKING:
    from data_prep.annotator import AnnotatorSettings, Item

# a question that was answered badly is not asked the same way again
SECOND_TEMPERATURE = 0.7
MAX_REFUSALS = 3
MAX_BACKOFF = 60.0
# a server that takes none of this many requests will not take the other 100,000 either
MAX_REJECTED_AT_START = 5

Result = Decomposition | str


class Progress(Protocol):
    """Hears of every completion and every further attempt."""

    def paid(self, completion: dict[str, Any]) -> None: ...

    def retry(self) -> None: ...


class _BadReply(Exception):
    """A reply without a decomposition in it; another one is asked for."""


class _Stopped(Exception):
    """The run is ending: no more requests."""


class Worker:
    """Annotates one item at a time; called from every thread of the pool."""

    def __init__(self, settings: AnnotatorSettings, server: Server, log: Replies, progress: Progress) -> None:
        self._settings = settings
        self._server = server
        self._log = log
        self._progress = progress
        self._takes_requests = False
        self._rejected_at_start = 0
        self._probing = threading.Lock()
        self._down: AnnotatorError | None = None
        self.stop = threading.Event()

    def __call__(self, item: Item) -> tuple[str, Result]:
        settings = self._settings
        asked = [settings.model, settings.sampling_temperature, question(item.request)]
        digest = digest_of(asked, item.image)
        votes: list[Result] = []
        for number in range(settings.votes):
            votes.append(self._vote(item, digest, number))
            # once no majority is left to be had, the other votes would be paid for nothing
            if 2 * sum(isinstance(vote, str) for vote in votes) >= settings.votes:
                break
        return item.key, settle(votes, settings.votes)

    def _vote(self, item: Item, digest: str, number: int) -> Result:
        problems: list[Problem] = []
        for completion in self._log.earlier(digest, number):
            result = self._read(completion, problems)
            if result is not None:
                return result
        if self._given_up(problems):
            return _reason(problems)
        return self._ask(item, digest, number, problems)

    def _ask(self, item: Item, digest: str, number: int, problems: list[Problem]) -> Result:
        attempts = self._settings.max_attempts - len(problems)
        try:
            return self._retrying(
                lambda state: state.attempt_number >= attempts or self._given_up(problems),
            )(self._attempt, item, digest, number, problems)
        except _BadReply:
            return _reason(problems)
        except RequestRejected as error:
            self._note_rejection(error)
            return str(error)
        except TransientError as error:
            self._rule_out_a_dead_server(error)
            return f"the annotator gave no answer: {error} (last of {self._settings.max_attempts} attempts)"

    def _rule_out_a_dead_server(self, last: TransientError) -> None:
        """Only a sign of life that is younger than the last failure tells a bad item from a dead server."""
        seen = self._server.answers
        with self._probing:
            # one worker's finding is enough: the next in line need not probe as well
            if self._down is None:
                try:
                    self._retrying(stop_after_attempt(self._settings.max_attempts))(self._probe, seen)
                except TransientError:
                    self._down = self._server.down(last)
            if self._down is not None:
                raise self._down

    def _probe(self, seen: int) -> None:
        if self.stop.is_set():
            raise _Stopped
        self._server.probe(seen)

    def _retrying(self, stop: Callable[[RetryCallState], bool]) -> Retrying:
        return Retrying(
            retry=retry_if_exception_type((TransientError, _BadReply)),
            stop=stop,
            wait=self._pause,
            sleep=sleep_using_event(self.stop),
            before_sleep=lambda _: self._progress.retry(),
            reraise=True,
        )

    def _pause(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        if not isinstance(error, TransientError):
            return 0.0
        return max(error.wait, wait_random_exponential(multiplier=self._settings.backoff, max=MAX_BACKOFF)(state))

    def _attempt(self, item: Item, digest: str, number: int, problems: list[Problem]) -> Decomposition:
        if self.stop.is_set():
            raise _Stopped
        temperature = self._settings.sampling_temperature
        completion = self._server.ask(
            lambda schema_in_text: annotation_prompt(item.request, schema_in_text),
            item.image,
            temperature=max(temperature, SECOND_TEMPERATURE) if problems else temperature,
            seed=number + 1000 * len(problems),
        )
        self._log.append(key=item.key, digest=digest, vote=number, completion=completion)
        self._progress.paid(completion)
        result = self._read(completion, problems)
        if result is None:
            raise _BadReply
        return result

    def _read(self, completion: dict[str, Any], problems: list[Problem]) -> Decomposition | None:
        """The decomposition, or None and one more problem."""
        self._takes_requests = True
        result = read_completion(completion)
        if isinstance(result, Decomposition):
            return result
        problems.append(result)
        return None

    def _given_up(self, problems: list[Problem]) -> bool:
        refusals = sum(problem.refusal for problem in problems)
        return refusals >= MAX_REFUSALS or len(problems) >= self._settings.max_attempts

    def _note_rejection(self, error: RequestRejected) -> None:
        self._rejected_at_start += not self._takes_requests
        if not self._takes_requests and self._rejected_at_start >= MAX_REJECTED_AT_START:
            raise self._server.rejects_everything(error) from None


def _reason(problems: list[Problem]) -> str:
    """Reasons are counted by what stands before the colon."""
    last = problems[-1]
    what = "the annotator refused" if last.refusal else "the annotator gave no usable reply"
    return f"{what}: {last.reason} (last of {len(problems)} attempts)"
