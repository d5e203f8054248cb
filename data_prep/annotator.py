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
from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_prep.annotation import SCHEMA
from data_prep.asking import Result, Worker
from data_prep.replies import Replies
from data_prep.vlm import AnnotatorError, Server
from ier1_plugin.runs.workers import as_completed

__all__ = ["AnnotatorError", "AnnotatorSettings", "Item", "annotate"]

# several votes must differ to be worth something
VOTE_TEMPERATURE = 0.7


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
    """How to ask whom. AnnotatorError: a value that can't be."""

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
                raise AnnotatorError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.timeout > 0 or not self.backoff >= 0:
            raise AnnotatorError(f"wanted timeout > 0 and backoff >= 0, got {self.timeout} and {self.backoff}")

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
        worker = Worker(settings, server, log, progress)
        for key, result in as_completed(items, worker, settings.concurrency, worker.stop.set, _tell):
            progress.step()
            yield key, result


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


def _tell(line: str) -> None:
    tqdm.write(f"annotator: {line}", file=sys.stderr)
