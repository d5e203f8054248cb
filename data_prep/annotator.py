"""Gold labels from a vision-language model: (request, image) -> Decomposition, for raw edit data without labels.

    items = [Item("jsonl-12", "please remove the lamp, will tip $5", jpeg_bytes)]
    dict(annotate(items, AnnotatorSettings("gpt-4o-2024-11-20"), Path("data/mine")))
    -> {"jsonl-12": Decomposition(actions=("Delete",), subjects=("lamp",), goals=())}

Any OpenAI-compatible server will do. Items are pulled as they are needed, results come in completion order, and every
reply is in FOLDER/annotator.sqlite before it is parsed, so that a killed run continues where it stopped and no reply is
paid for twice. At the end of a run the same replies are exported to annotator.jsonl, for people to read:

    {"key": "5f0c...", "row": "jsonl-12", "vote": 0, "time": "2026-03-09T10:11:12+00:00", "text": "{\\"actions\\": ...",
     "refusal": "", "cut_off": false, "model": "gpt-4o-2024-11-20", "prompt_tokens": 812, "completion_tokens": 31}

The key stands for model, sampling temperature, prompt, request and image: replies to another question are never reused.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from data_prep.votes import settle
from ier1_plugin.chat import Chat, ChatRequest, Completion, RequestRejected, TransientError, make_chat
from ier1_plugin.chat.reply import json_in_reply
from ier1_plugin.prompts import render
from ier1_plugin.runs.errors import UserError, log
from ier1_plugin.runs.store import Store
from ier1_plugin.runs.workers import as_completed, progress
from ier1_plugin.task.actions import ACTIONS
from ier1_plugin.task.rows import neutralise, quoted
from ier1_plugin.task.schema import COMPONENTS, Decomposition
from ier1_plugin.task.scoring import normalise

REPLIES, EXPORT = "annotator.sqlite", "annotator.jsonl"
# several votes must differ to be worth something; a question that was answered badly is not asked the same way again
VOTE_TEMPERATURE = SECOND_TEMPERATURE = 0.7
MAX_REFUSALS = 3
# a server that takes none of this many requests will not take the other 100,000 either
MAX_REJECTED_AT_START = 5
# a reply is three short lists; the rest is room for models that reason first, and an end to those that never stop
MAX_REPLY_TOKENS = 4096
SHOWN = 80
_STRINGS = {"type": "array", "items": {"type": "string"}}
# strict mode of OpenAI's structured outputs: every key required, no others, and only keywords that all servers know
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "actions": {"type": "array", "items": {"type": "string", "enum": list(ACTIONS)}},
        "subjects": _STRINGS,
        "goals": _STRINGS,
    },
    "required": list(COMPONENTS),
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Item:
    """One request to annotate."""

    key: str
    """The row's id, returned with the result."""
    request: str
    image: bytes
    """JPEG or PNG, already within the pixel budget."""


def _from_environment(name: str, default: float) -> float:
    value = os.environ.get(name) or default
    try:
        return float(value)
    except ValueError:
        raise UserError(f"{name}={value!r}: wanted a number of seconds") from None


@dataclass(frozen=True)
class AnnotatorSettings:
    """Which model is asked, and how. UserError: an invalid value."""

    model: str
    base_url: str | None = None
    """None: OPENAI_BASE_URL, else OpenAI itself."""
    concurrency: int = 8
    """Requests at a time."""
    votes: int = 1
    """Samples per request, of which the majority counts (`votes.settle`)."""
    timeout: float = field(default_factory=lambda: _from_environment("IER1_ANNOTATOR_TIMEOUT", 60.0))
    """Seconds per request; a slow local server may need more."""
    max_attempts: int = 6
    """Replies per vote, including unusable ones from earlier runs; also the requests made for one reply while the
    server fails."""
    temperature: float | None = None
    """None: 0 for one vote, VOTE_TEMPERATURE for several."""
    backoff: float = field(default_factory=lambda: _from_environment("IER1_ANNOTATOR_BACKOFF", 1.0))
    """Longest wait before the second attempt in seconds, doubled for each further one; 0 for none."""
    total: int | None = None
    """How many items will come, for the bar."""

    def __post_init__(self) -> None:
        for name in ("concurrency", "votes", "max_attempts"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.timeout > 0 or not self.backoff >= 0:
            raise UserError(f"wanted timeout > 0 and backoff >= 0, got {self.timeout} and {self.backoff}")

    @property
    def sampling_temperature(self) -> float:
        if self.temperature is not None:
            return self.temperature
        return 0.0 if self.votes == 1 else VOTE_TEMPERATURE


def annotate(
    items: Iterable[Item], settings: AnnotatorSettings, folder: Path
) -> Generator[tuple[str, Decomposition | str], None, None]:
    """Yields (key, decomposition) or (key, reason), each item once, in completion order.

    At most 2 x `concurrency` items are held at a time. UserError stops the run: a wrong key or model, a dead server,
    unusable replies. Replies received by then are kept in `folder`, and the next run does not ask for them again. The
    caller keeps other runs out of `folder`.
    """
    old = folder / "replies.jsonl"
    if old.exists():
        raise UserError(
            f"{old} holds replies that an older version paid for and this one can't read; "
            "move it away to have them asked for again, or name another output"
        )

    def warn(line: str) -> None:
        log(f"annotator: {line}")

    chat = make_chat(
        f"openai:{settings.base_url or ''}#{settings.model}",
        timeout=settings.timeout,
        attempts=settings.max_attempts,
        backoff=settings.backoff,
        on_warning=warn,
    )
    with Store(folder / REPLIES) as replies, closing(chat), progress(None, "annotating", settings.total) as bar:
        worker = _Worker(settings, chat, replies)
        try:
            for key, result in as_completed(items, worker, settings.concurrency, worker.stop, warn):
                bar.set_postfix(tokens=f"{worker.tokens:,}", unusable=worker.unusable, refresh=False)
                bar.update()
                yield key, result
        finally:
            replies.export(folder / EXPORT)


class _Worker:
    """Annotates one item at a time: votes, attempts, and when to give up. Called from every thread of the pool."""

    def __init__(self, settings: AnnotatorSettings, chat: Chat, replies: Store) -> None:
        self._settings, self._chat, self._replies = settings, chat, replies
        self._lock, self._probing = threading.Lock(), threading.Lock()
        self._empty_prompt = _prompt("")
        self._stopped = threading.Event()
        self._answers = 0
        self._replies_before = len(replies)
        self._rejected = 0
        self._down: UserError | None = None
        self.tokens = 0
        """Paid in this run."""
        self.unusable = 0
        """Replies of this run without a decomposition."""

    def __call__(self, item: Item) -> tuple[str, Decomposition | str]:
        settings = self._settings
        # what names the question without the work of rendering it: the prompt without a request, and the request
        question = [settings.model, settings.sampling_temperature, [self._empty_prompt, neutralise(item.request)]]
        digest = hashlib.sha256(json.dumps(question).encode() + item.image).hexdigest()[:32]
        earlier = self._replies.get(digest)
        votes: list[Decomposition | str] = []
        for number in range(settings.votes):
            kept = [Completion.from_dict(record) for record in earlier if record["vote"] == number]
            votes.append(self._vote(item, digest, number, kept))
            # once no majority can be reached, the other votes would be paid for nothing
            if 2 * sum(isinstance(vote, str) for vote in votes) >= settings.votes:
                break
        return item.key, settle(votes, settings.votes)

    def stop(self) -> None:
        """Makes no further requests; those under way still get their answers."""
        self._stopped.set()
        self._chat.close()

    def _vote(self, item: Item, digest: str, number: int, kept: list[Completion]) -> Decomposition | str:
        """The first usable reply, or the reason why there is none. Reasons are counted by what precedes the colon."""
        temperature = self._settings.sampling_temperature
        attempts = refusals = 0
        reason = ""
        while attempts < len(kept) or (attempts < self._settings.max_attempts and refusals < MAX_REFUSALS):
            if attempts < len(kept):
                completion = kept[attempts]
            else:
                request = ChatRequest(
                    [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": _prompt(item.request)}]}],
                    (item.image,),
                    temperature=max(temperature, SECOND_TEMPERATURE) if attempts else temperature,
                    seed=number + 1000 * attempts,
                    max_tokens=MAX_REPLY_TOKENS,
                    schema=SCHEMA,
                )
                try:
                    completion = self._chat(request)
                except RequestRejected as error:
                    with self._lock:
                        self._rejected += not error.filtered
                        if not self._replies_before and not self._answers and self._rejected >= MAX_REJECTED_AT_START:
                            model = self._settings.model
                            raise UserError(
                                f"the server takes none of the requests: {error}; can {model} see images?"
                            ) from None
                    return str(error)
                except TransientError as error:
                    self._rule_out_dead_server(error)
                    return f"the annotator gave no answer: {error}"
                now = datetime.now(timezone.utc).isoformat(timespec="seconds")
                record = {"row": item.key, "vote": number, "time": now, **completion.as_dict()}
                self._replies.append(digest, record)
                with self._lock:
                    self._answers += 1
                    self.tokens += (completion.prompt_tokens or 0) + (completion.completion_tokens or 0)
            attempts += 1
            try:
                return read_reply(completion)
            except ValueError as error:
                refusals += bool(completion.refusal)
                what = "the annotator refused" if completion.refusal else "the annotator gave no usable reply"
                reason = f"{what}: {error}"
                with self._lock:
                    self.unusable += attempts > len(kept)
        return f"{reason} (last of {attempts} attempts)"

    def _rule_out_dead_server(self, last: TransientError) -> None:
        """UserError: the server is down, as it answers nothing since the last failure; so the fault is not this item's
        alone."""
        if self._stopped.is_set():
            raise last
        before = self._answers
        with self._probing:
            # one worker's finding is enough: the next in line need not ask as well
            if self._down is None and self._answers == before:
                try:
                    self._chat(ChatRequest([{"role": "user", "content": "Answer with the word yes."}]))
                    self._answers += 1
                except RequestRejected:
                    pass
                except TransientError:
                    problem = f"the server does not answer ({last}); is it running, and is --base-url right?"
                    if self._answers:
                        problem = f"the server has stopped answering ({last}); start it again and run the same command"
                    self._down = UserError(problem)
            if self._down is not None:
                raise self._down


def read_reply(completion: Completion) -> Decomposition:
    """The decomposition in a reply; its actions may be empty (no edit requested). ValueError: there is none.

    read_reply(Completion('{"actions": ["Delete"], "subjects": ["lamp"], "goals": []}'))
    -> Decomposition(actions=("Delete",), subjects=("lamp",), goals=())
    """
    shown = repr(" ".join((completion.refusal or completion.text).split())[:SHOWN])
    if completion.refusal:
        raise ValueError(shown)
    if completion.cut_off:
        raise ValueError(f"cut off at its length limit: {shown}")
    try:
        reply = Decomposition.from_json(json.dumps(json_in_reply(completion.text)))
    except ValueError as error:
        raise ValueError(f"{error}: {shown}") from None
    if unknown := [action for action in reply.actions if action not in ACTIONS]:
        raise ValueError(f"{unknown[0][:SHOWN]!r} is not one of the {len(ACTIONS)} actions")
    # gold goes through the same neutralising as the request that it may quote; what says nothing is dropped
    subjects, goals = (filter(normalise, map(neutralise, phrases)) for phrases in (reply.subjects, reply.goals))
    return Decomposition.of(reply.actions, subjects, goals)


def _prompt(request: str) -> str:
    """The text beside the image."""
    return render("annotate", request=quoted(request), actions=ACTIONS)
