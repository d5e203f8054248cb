"""Gold by a vision-language model: (request, image) -> Decomposition, for raw edit data that carries no labels.

    items = [Item("jsonl-12", "please remove the lamp, will tip $5", jpeg_bytes)]
    dict(annotate(items, AnnotatorSettings("gpt-4o-2024-11-20"), Path("out/replies.jsonl")))
    -> {"jsonl-12": Decomposition(actions=("Delete",), subjects=("lamp",), goals=())}

Any OpenAI-compatible server will do. Items are pulled as they are needed, results come in completion order, and every
reply is in the replies file before it is looked at, so that a run that was killed goes on where it stopped.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential
from tenacity.nap import sleep_using_event
from tqdm import tqdm

from data_prep.annotation import SCHEMA, Problem, annotation_prompt, question, read_completion
from data_prep.pool import in_completion_order
from data_prep.replies import Replies, digest_of
from data_prep.vlm import AnnotatorError, Refused, Server, Unanswered
from data_prep.votes import settle
from ier1_plugin.schema import Decomposition

__all__ = ["AnnotatorError", "AnnotatorSettings", "Item", "annotate"]

# several votes must differ to be worth something; a question that was answered badly is not asked the same way again
VOTE_TEMPERATURE = 0.7
MAX_REFUSALS = 3
MAX_BACKOFF = 60.0
# a server that takes none of this many requests will not take the other 100,000 either
MAX_REJECTED_AT_START = 5

Result = Decomposition | str


@dataclass(frozen=True)
class Item:
    """One request to annotate."""

    key: str
    """Given back with the result; the row's id."""
    request: str
    image: bytes
    """JPEG or PNG, already within the pixel budget."""


@dataclass(frozen=True)
class AnnotatorSettings:
    model: str
    base_url: str | None = None
    """None: OPENAI_BASE_URL, else OpenAI itself."""
    concurrency: int = 8
    """Requests at a time."""
    votes: int = 1
    """Samples a request, of which the majority counts (`votes.settle`)."""
    timeout: float = field(default_factory=lambda: _from_environment("IER1_ANNOTATOR_TIMEOUT", 60.0))
    """Seconds a request; a slow local server may need more."""
    max_attempts: int = 6
    """Requests a vote, unusable replies of earlier runs included."""
    temperature: float | None = None
    """None: 0 for one vote, VOTE_TEMPERATURE for several."""
    backoff: float = field(default_factory=lambda: _from_environment("IER1_ANNOTATOR_BACKOFF", 1.0))
    """Longest wait before the second attempt in seconds, doubled for each further one; 0 for none."""
    total: int | None = None
    """How many items will come, for the bar."""

    def __post_init__(self) -> None:
        for name in ("concurrency", "votes", "max_attempts"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.timeout > 0 or not self.backoff >= 0:
            raise ValueError(f"wanted timeout > 0 and backoff >= 0, got {self.timeout} and {self.backoff}")

    @property
    def sampling_temperature(self) -> float:
        if self.temperature is not None:
            return self.temperature
        return 0.0 if self.votes == 1 else VOTE_TEMPERATURE


def annotate(
    items: Iterable[Item], settings: AnnotatorSettings, replies: Path
) -> Generator[tuple[str, Result], None, None]:
    """Yields (key, decomposition) or (key, reason), each item once, in completion order.

    At most 2 x `concurrency` items are held at a time. AnnotatorError stops the run: a wrong key or model, a dead
    server, an unusable replies file. What was answered by then is in `replies`, and the next run does not ask again.
    """
    opened = Server(settings.model, settings.base_url, settings.timeout, SCHEMA, _tell)
    with Replies(replies) as log, closing(opened) as server, closing(_Progress(settings.total)) as progress:
        worker = _Worker(settings, server, log, progress)
        for key, result in in_completion_order(items, worker, settings.concurrency, worker.stop, _tell):
            progress.step()
            yield key, result


class _BadReply(Exception):
    """A reply without a decomposition in it; another one is asked for."""


class _Stopped(Exception):
    """The run is ending: no more requests."""


class _Worker:
    """Annotates one item at a time; called from every thread of the pool."""

    def __init__(self, settings: AnnotatorSettings, server: Server, log: Replies, progress: _Progress) -> None:
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
        except Refused as error:
            self._note_rejection(error)
            return str(error)
        except Unanswered as error:
            self._rule_out_a_dead_server(error)
            return f"the annotator gave no answer in {self._settings.max_attempts} attempts, the last time: {error}"

    def _rule_out_a_dead_server(self, last: Unanswered) -> None:
        """Only a sign of life that is younger than the last failure tells a bad item from a dead server."""
        seen = self._server.answers
        with self._probing:
            # one worker's finding is enough: the next in line need not probe as well
            if self._down is None:
                try:
                    self._retrying(stop_after_attempt(self._settings.max_attempts))(self._probe, seen)
                except Unanswered:
                    self._down = self._server.down(last)
            if self._down is not None:
                raise self._down

    def _probe(self, seen: int) -> None:
        if self.stop.is_set():
            raise _Stopped
        self._server.probe(seen)

    def _retrying(self, stop: Callable[[RetryCallState], bool]) -> Retrying:
        return Retrying(
            retry=retry_if_exception_type((Unanswered, _BadReply)),
            stop=stop,
            wait=self._pause,
            sleep=sleep_using_event(self.stop),
            before_sleep=lambda _: self._progress.retry(),
            reraise=True,
        )

    def _pause(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        if not isinstance(error, Unanswered):
            return 0.0
        return max(error.wait, wait_random_exponential(multiplier=self._settings.backoff, max=MAX_BACKOFF)(state))

    def _attempt(self, item: Item, digest: str, number: int, problems: list[Problem]) -> Decomposition:
        if self.stop.is_set():
            raise _Stopped
        temperature = self._settings.sampling_temperature
        completion = self._server.ask(
            lambda schema_in_text: annotation_prompt(item.request, schema_in_text),
            item.image,
            temperature=max(temperature, VOTE_TEMPERATURE) if problems else temperature,
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
        result = read_completion(completion)
        if isinstance(result, Decomposition):
            self._takes_requests = True
            return result
        problems.append(result)
        return None

    def _given_up(self, problems: list[Problem]) -> bool:
        refusals = sum(problem.refusal for problem in problems)
        return refusals >= MAX_REFUSALS or len(problems) >= self._settings.max_attempts

    def _note_rejection(self, error: Refused) -> None:
        self._rejected_at_start += not self._takes_requests
        if not self._takes_requests and self._rejected_at_start >= MAX_REJECTED_AT_START:
            raise self._server.rejects_everything(error) from None


class _Progress:
    """A bar with rate, tokens paid in this run and retries."""

    def __init__(self, total: int | None) -> None:
        # a log file wants a line now and then, a terminal a live bar
        every = 0.5 if sys.stderr.isatty() else 30.0
        self._bar = tqdm(desc="annotating", unit=" rows", total=total, mininterval=every)
        self._lock = threading.Lock()
        self._tokens = 0
        self._retries = 0

    def paid(self, completion: dict[str, Any]) -> None:
        usage = completion.get("usage")
        counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")] if isinstance(usage, dict) else []
        with self._lock:
            self._tokens += sum(count for count in counts if isinstance(count, int))

    def retry(self) -> None:
        with self._lock:
            self._retries += 1

    def step(self) -> None:
        self._bar.set_postfix(tokens=f"{self._tokens:,}", retries=self._retries, refresh=False)
        self._bar.update()

    def close(self) -> None:
        self._bar.close()


def _from_environment(name: str, default: float) -> float:
    value = os.environ.get(name) or default
    try:
        return float(value)
    except ValueError:
        raise AnnotatorError(f"{name}={value!r}: wanted a number of seconds") from None


def _reason(problems: list[Problem]) -> str:
    return f"the annotator gave no usable reply in {len(problems)} attempts, the last time: {problems[-1].reason}"


def _tell(line: str) -> None:
    tqdm.write(f"annotator: {line}", file=sys.stderr)
