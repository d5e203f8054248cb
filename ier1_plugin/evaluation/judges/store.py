"""The judgements file of one judge: a line each, appended the moment it comes; a later run asks for nothing in it.

    with JudgementStore(judgements_file(Path("study"), "openai:gpt-4o-2024-11-20")) as store:
        store.keep(judgement)
    # study/judgements/openai:gpt-4o-2024-11-20.jsonl
    # {"item": "psr-1a2b", "system": "flux", "judge": "openai:gpt-4o-2024-11-20", "sample": 0, "score": {...}, ...}

The last line of an (item, system, sample) is the one that counts. What a judge wrote before it was asked again stands
in a file of the same name in judgements/retried/. So every reply stands in one line, with its own tokens; a line that
takes over the reply to an equal question has 0 tokens. Memory holds where a line is, never the line.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from ier1_plugin.data.items import Item
from ier1_plugin.evaluation.judges.lines import Lines, Span, parsed, unusable, whole
from ier1_plugin.evaluation.records import Judgement

FOLDER, RETRIED = "judgements", "retried"
MISSING, HTTP = "missing image", "http"
# nothing was paid for these, and the next run may fare better
FREE = (MISSING, HTTP)


class Paid(NamedTuple):
    """What a judge has been paid for."""

    replies: int
    prompt_tokens: int
    completion_tokens: int
    uncounted: int
    """Replies of models whose server did not say how many tokens they took; the sums are too low by theirs."""


def judgements_file(folder: Path, judge: str) -> Path:
    """Where the evaluation in `folder` keeps the judgements of the judge of that name."""
    return folder / FOLDER / f"{Item(judge).name}.jsonl"


def read_judgements(file: Path) -> Iterator[Judgement]:
    """What counts in a judgements file: the last line of each (item, system, sample), in the order of the file.

    A torn last line is left out. EvaluationError: no such file, or a line is no judgement.
    """
    try:
        with file.open("rb") as lines:
            last = {_who(judgement): place for judgement, place in whole(lines, file)}
            for place in sorted(last.values()):
                lines.seek(place.offset)
                yield parsed(lines.read(place.length), file)
    except OSError as error:
        raise unusable(file, error) from None


def paid_tokens(file: Path) -> Paid:
    """Of every reply that was ever written for a judgements file, also those that no longer count; each counts once.

    All 0 if there is no file. EvaluationError: a line is no judgement.
    """
    replies = prompt = completion = uncounted = 0
    for judgement in chain(_all(file), _all(_retried(file))):
        counts = judgement.prompt_tokens, judgement.completion_tokens
        replies += _is_reply(judgement)
        prompt, completion = prompt + (counts[0] or 0), completion + (counts[1] or 0)
        # the pixel judge has no model, nor has a request that a server refused
        uncounted += None in counts and bool(judgement.model or judgement.reply)
    return Paid(replies, prompt, completion, uncounted)


class JudgementStore:
    """The judgements of one run; safe to use from several threads, refused to a second run."""

    def __init__(self, file: Path, retry_unscored: bool = False) -> None:
        """`retry_unscored`: True gives what was refused, unreadable or out of range all attempts anew.

        What has a score is asked for in no run again; a missing image and a server that did not answer are tried again
        in every run. EvaluationError: another run has the file, it holds something else, or it can't be used.
        """
        self._lock = threading.Lock()
        self._claims: dict[bytes, threading.Lock] = {}
        self._scored: dict[bytes, Span] = {}
        self._unscored: dict[bytes, list[Span]] = {}
        self._last: dict[tuple[str, str, int], Span] = {}
        self._asked_again: dict[bytes, list[Span]] = {}
        self._given_up: Counter[bytes] = Counter()
        self._judgements = Lines(file)
        try:
            self._retries = Lines(_retried(file))
            self._read()
        except BaseException:
            self.close()
            raise
        if retry_unscored:
            self._forget_unscored()

    def __enter__(self) -> JudgementStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for file in (self._judgements, getattr(self, "_retries", None)):
            if file:
                file.close()

    def claim(self, key: tuple[object, ...]) -> threading.Lock:
        """To be held while a question is asked, so that an equal one waits for its answer."""
        with self._lock:
            return self._claims.setdefault(_digest(key), threading.Lock())

    def paid(self, key: tuple[object, ...]) -> Judgement | None:
        """The judgement under this key, whichever system it was asked for: one with a score, or else the latest."""
        digest = _digest(key)
        with self._lock:
            place = self._scored.get(digest) or self._unscored.get(digest, [None])[-1]
        return self._judgements.read(place) if place else None

    def asked_again(self, key: tuple[object, ...]) -> list[Judgement]:
        """The replies under this key after which the judge was asked again, oldest first."""
        with self._lock:
            places = list(self._asked_again.get(_digest(key), ()))
        return [self._retries.read(place) for place in places]

    def given_up(self, key: tuple[object, ...]) -> int:
        """The number of replies under this key that count no more, now that all attempts are made anew."""
        return self._given_up[_digest(key)]

    def keep(self, judgement: Judgement) -> Judgement:
        """Writes a reply, or what else there is to say unless it is said already; the judgement that counts now."""
        with self._lock:
            place = self._last.get(_who(judgement))
            last = self._judgements.read(place) if place else None
            if last and _said(judgement) == _said(last) and not _is_reply(judgement):
                return last
            self._note(judgement, self._judgements.append(judgement))
            return judgement

    def keep_to_ask_again(self, judgement: Judgement) -> None:
        with self._lock:
            self._asked_again.setdefault(_digest(judgement.key), []).append(self._retries.append(judgement))

    def _read(self) -> None:
        for judgement, place in self._judgements.earlier():
            self._note(judgement, place)
        for judgement, place in self._retries.earlier():
            self._asked_again.setdefault(_digest(judgement.key), []).append(place)

    def _note(self, judgement: Judgement, place: Span) -> None:
        self._last[_who(judgement)] = place
        if judgement.score:
            self._scored.setdefault(_digest(judgement.key), place)
        elif _kind(judgement) not in FREE:
            self._unscored.setdefault(_digest(judgement.key), []).append(place)

    def _forget_unscored(self) -> None:
        for places in (self._unscored, self._asked_again):
            self._given_up.update({digest: len(found) for digest, found in places.items()})
            places.clear()


def _retried(file: Path) -> Path:
    return file.parent / RETRIED / file.name


def _all(file: Path) -> Iterator[Judgement]:
    if file.is_file():
        with file.open("rb") as lines:
            yield from (judgement for judgement, _ in whole(lines, file))


def _kind(judgement: Judgement) -> str:
    return judgement.unscored.partition(":")[0]


def _is_reply(judgement: Judgement) -> bool:
    """Whether the judge was asked for it, and answered."""
    taken_over = judgement.prompt_tokens == judgement.completion_tokens == 0
    return not taken_over and _kind(judgement) not in FREE


def _who(judgement: Judgement) -> tuple[str, str, int]:
    return judgement.item, judgement.system, judgement.sample


def _said(judgement: Judgement) -> tuple[object, ...]:
    return judgement.key, judgement.score, judgement.unscored


def _digest(key: tuple[object, ...]) -> bytes:
    return hashlib.sha256(repr(key).encode("utf-8", "replace")).digest()[:16]
