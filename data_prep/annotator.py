"""Gold labels from a vision-language model: (request, image) -> Decomposition, for raw edit data without labels.

    items = [Item("jsonl-12", "please remove the lamp, will tip $5", jpeg_bytes)]
    dict(annotate(items, Settings(annotator="gpt-4o-2024-11-20", output=Path("data/mine"), ...)))
    -> {"jsonl-12": Decomposition(actions=("Delete",), subjects=("lamp",), goals=())}

Any OpenAI-compatible server will do. Items are pulled as they are needed, results come in completion order, and every
reply is in OUTPUT/annotator.sqlite before it is parsed, so that a killed run continues where it stopped and no reply is
paid for twice. At the end of a run the same replies are exported to annotator.jsonl, for people to read:

    {"key": "5f0c...", "row": "jsonl-12", "vote": 0, "time": "2026-03-09T10:11:12+00:00", "text": "{\\"actions\\": ...",
     "refusal": "", "cut_off": false, "model": "gpt-4o-2024-11-20", "prompt_tokens": 812, "completion_tokens": 31}

The key stands for model, sampling temperature, prompt, request and image: replies to another question are never reused.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from data_prep.settings import MAX_TOKENS, Settings
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
# replies per vote, with those of earlier runs; also the requests made for one reply while the server fails
MAX_ATTEMPTS = 6
MAX_REFUSALS = 3
# a fault of single rows does not show in this many of them one after the other
MAX_FAILED_ROWS = 20
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


def annotate(
    items: Iterable[Item],
    settings: Settings,
    total: int | None = None,
    attempts: int = MAX_ATTEMPTS,
    backoff: float = 1.0,
) -> Generator[tuple[str, Decomposition | str], None, None]:
    """Yields (key, decomposition) or (key, reason), each item once, in completion order.

    At most 2 x `concurrency` items are held at a time. `total` of them will come, for the bar. `backoff`: longest wait
    before the second of `attempts`, in seconds. UserError stops the run: a wrong key or model, a dead server, no gold
    for row after row. Replies received by then are kept, and the next run does not ask for them again, except for
    unusable ones where `settings.retry_failed`, or where there are no others.
    """
    old = settings.output / "replies.jsonl"
    if old.exists():
        raise UserError(
            f"{old} holds replies that an older version paid for and this one can't read; "
            "move it away to have them asked for again, or name another output"
        )

    def warn(line: str) -> None:
        log(f"annotator: {line}")

    chat = make_chat(
        f"openai:{settings.base_url or ''}#{settings.annotator}",
        timeout=settings.timeout,
        attempts=attempts,
        backoff=backoff,
        on_warning=warn,
    )
    with Store(settings.output / REPLIES) as replies, closing(chat), progress(None, "annotating", total) as bar:
        worker = _Worker(settings, chat, replies, attempts)
        try:
            for key, result in as_completed(items, worker, settings.concurrency, worker.stop, warn):
                bar.set_postfix(tokens=f"{worker.tokens:,}", unusable=worker.unusable, refresh=False)
                bar.update()
                yield key, result
        finally:
            replies.export(settings.output / EXPORT)


class _Worker:
    """Annotates one item at a time: votes, attempts, and when to give up. Called from every thread of the pool."""

    def __init__(self, settings: Settings, chat: Chat, replies: Store, attempts: int) -> None:
        self._settings, self._chat, self._replies, self._attempts = settings, chat, replies, attempts
        self._temperature = 0.0 if settings.votes == 1 else VOTE_TEMPERATURE
        self._lock, self._probing = threading.Lock(), threading.Lock()
        self._empty_prompt = _prompt("")
        self._stopped = threading.Event()
        self._answers = 0
        # a model that has never given a usable reply may have been put right since
        self._retry = settings.retry_failed or not any(_is_usable(record) for _, record in replies)
        self._failed_rows = 0
        self._down: UserError | None = None
        self.tokens = 0
        """Paid in this run."""
        self.unusable = 0
        """Replies of this run without a decomposition."""

    def __call__(self, item: Item) -> tuple[str, Decomposition | str]:
        settings = self._settings
        # what names the question without the work of rendering it: the prompt without a request, and the request
        question = [settings.annotator, self._temperature, [self._empty_prompt, neutralise(item.request)]]
        digest = hashlib.sha256(json.dumps(question).encode() + item.image).hexdigest()[:32]
        earlier = self._replies.get(digest)
        if self._retry:
            earlier = [record for record in earlier if _is_usable(record)]
        votes: list[Decomposition | str] = []
        fresh = False
        for number in range(settings.votes):
            kept = [Completion.from_dict(record) for record in earlier if record["vote"] == number]
            before = len(kept)
            votes.append(self._vote(item, digest, number, kept))
            fresh = fresh or len(kept) > before
            # once no majority can be reached, the other votes would be paid for nothing
            if 2 * sum(isinstance(vote, str) for vote in votes) >= settings.votes:
                break
        result = settle(votes, settings.votes)
        with self._lock:
            if not isinstance(result, str):
                self._failed_rows = 0
            elif fresh:
                self._failed_rows += 1
            if self._failed_rows >= MAX_FAILED_ROWS:
                raise UserError(
                    f"{MAX_FAILED_ROWS} rows in a row got no gold; the last one: {result}; is {settings.annotator} the "
                    "right model, and set up to see images? put it right, and run again with --retry-failed"
                )
        return item.key, result

    def stop(self) -> None:
        """Makes no further requests; those under way still get their answers."""
        self._stopped.set()
        self._chat.close()

    def _vote(self, item: Item, digest: str, number: int, kept: list[Completion]) -> Decomposition | str:
        """The first usable reply, or the reason why there is none. New replies are added to those that were kept.
        Reasons are counted by what precedes the colon.
        """
        temperature = self._temperature
        attempts = refusals = 0
        reason = ""
        while attempts < len(kept) or (attempts < self._attempts and refusals < MAX_REFUSALS):
            if attempts == len(kept):
                request = ChatRequest(
                    [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": _prompt(item.request)}]}],
                    (item.image,),
                    temperature=max(temperature, SECOND_TEMPERATURE) if attempts else temperature,
                    seed=number + 1000 * attempts,
                    max_tokens=self._settings.max_tokens,
                    schema=SCHEMA,
                )
                try:
                    completion = self._chat(request)
                except RequestRejected as error:
                    return str(error)
                except TransientError as error:
                    self._rule_out_dead_server(error)
                    return f"the annotator gave no answer: {error}"
                now = datetime.now(timezone.utc).isoformat(timespec="seconds")
                record = {"row": item.key, "vote": number, "time": now, **completion.as_dict()}
                self._replies.append(digest, record)
                kept.append(completion)
                with self._lock:
                    self._answers += 1
                    self.unusable += not _is_usable(record)
                    self.tokens += (completion.prompt_tokens or 0) + (completion.completion_tokens or 0)
            completion = kept[attempts]
            attempts += 1
            try:
                return read_reply(completion, self._settings.max_tokens)
            except ValueError as error:
                refusals += bool(completion.refusal)
                what = "the annotator refused" if completion.refusal else "the annotator gave no usable reply"
                reason = f"{what}: {error}"
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


def _is_usable(record: dict[str, Any]) -> bool:
    try:
        return bool(read_reply(Completion.from_dict(record)).actions)
    except ValueError:
        return False


def read_reply(completion: Completion, max_tokens: int = MAX_TOKENS) -> Decomposition:
    """The decomposition in a reply; its actions may be empty (no edit requested). ValueError: there is none.

    read_reply(Completion('{"actions": ["Delete"], "subjects": ["lamp"], "goals": []}'))
    -> Decomposition(actions=("Delete",), subjects=("lamp",), goals=())
    """
    shown = repr(" ".join((completion.refusal or completion.text).split())[:SHOWN])
    if completion.refusal:
        raise ValueError(shown)
    if flaw := completion.flaw(max_tokens):
        raise ValueError(f"{flaw}: {shown}")
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
