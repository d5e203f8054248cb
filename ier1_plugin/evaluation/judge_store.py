"""The judgements file of one judge: a line each, appended the moment it comes; a later run asks for nothing in it.

    with JudgementStore(judgements_file(Path("study"), "openai:gpt-4o-2024-11-20")) as store:
        store.keep(judgement)
    # study/judgements/openai:gpt-4o-2024-11-20.jsonl
    # {"item": "psr-1a2b", "system": "flux", "judge": "openai:gpt-4o-2024-11-20", "sample": 0, "score": {...}, ...}

The last line of an (item, system, sample) is the one that counts. What a judge wrote before it was asked again stands
in a file of the same name in judgements/retried/. Memory holds where a line is, never the line.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from ier1_plugin.batch_items import Item
from ier1_plugin.evaluation.records import EvaluationError, Judgement

FOLDER, RETRIED = "judgements", "retried"
MISSING, HTTP = "missing image", "http"
# nothing was paid for these, and the next run may fare better
FREE = (MISSING, HTTP)
SHOWN = 80


class _Place(NamedTuple):
    offset: int
    length: int


def judgements_file(folder: Path, judge: str) -> Path:
    """Where the evaluation in `folder` keeps the judgements of the judge of that name."""
    return folder / FOLDER / f"{Item(judge).name}.jsonl"


def read_judgements(file: Path) -> Iterator[Judgement]:
    """What counts in a judgements file: the last line of each (item, system, sample), in the order of the file.

    A torn last line is left out. EvaluationError: no such file, or a line is no judgement.
    """
    try:
        with file.open("rb") as lines:
            last = {_who(judgement): place for judgement, place in _whole(lines, file)}
            for place in sorted(last.values()):
                lines.seek(place.offset)
                yield _judgement(lines.read(place.length), file)
    except OSError as error:
        raise _unusable(file, error) from None


class JudgementStore:
    """The judgements of one run; safe to use from several threads, refused to a second run."""

    def __init__(self, file: Path, retry_unscored: bool = False) -> None:
        """`retry_unscored`: True asks once more for what was refused or could not be read.

        EvaluationError: another run has the file, it holds something else, or it can't be read or written.
        """
        self._lock = threading.Lock()
        self._claims: dict[bytes, threading.Lock] = {}
        self._paid: dict[bytes, _Place] = {}
        self._last: dict[tuple[str, str, int], _Place] = {}
        self._asked_again: dict[bytes, list[_Place]] = {}
        self._retry_unscored = retry_unscored
        self._judgements = _File(file)
        try:
            self._retries = _File(file.parent / RETRIED / file.name)
            self._read()
        except BaseException:
            self.close()
            raise

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
        """The judgement under this key, whichever system it was asked for."""
        with self._lock:
            place = self._paid.get(_digest(key))
        return self._judgements.read(place) if place else None

    def asked_again(self, key: tuple[object, ...]) -> list[Judgement]:
        """The replies under this key after which the judge was asked again, oldest first."""
        with self._lock:
            places = list(self._asked_again.get(_digest(key), ()))
        return [self._retries.read(place) for place in places]

    def keep(self, judgement: Judgement) -> None:
        """Writes a judgement, unless what counts for its item and system says the same already."""
        with self._lock:
            last = self._last.get(_who(judgement))
            if not last or _said(self._judgements.read(last)) != _said(judgement):
                self._note(judgement, self._judgements.append(judgement))

    def keep_to_ask_again(self, judgement: Judgement) -> None:
        with self._lock:
            self._asked_again.setdefault(_digest(judgement.key), []).append(self._retries.append(judgement))

    def _read(self) -> None:
        for judgement, place in self._judgements.earlier():
            self._note(judgement, place)
        for judgement, place in self._retries.earlier():
            # a judge that is given another chance gets all its attempts
            if not self._retry_unscored:
                self._asked_again.setdefault(_digest(judgement.key), []).append(place)

    def _note(self, judgement: Judgement, place: _Place) -> None:
        self._last[_who(judgement)] = place
        kind = judgement.unscored.partition(":")[0]
        if judgement.score or not (kind in FREE or self._retry_unscored):
            self._paid.setdefault(_digest(judgement.key), place)


class _File:
    """A file of judgements that only grows. A torn last line is cut off when it is opened."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = io.FileIO(path, "a+")
        except OSError as error:
            raise _unusable(path, error) from None
        self._size = 0
        try:
            # the lock goes when its process does, however that ends
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise EvaluationError(f"another run writes to {path}; wait for it or choose another folder") from None

    def earlier(self) -> Iterator[tuple[Judgement, _Place]]:
        """What is there. To be read to its end before anything is appended."""
        self._file.seek(0)
        reader = io.BufferedReader(self._file, buffer_size=1 << 20)
        try:
            for judgement, place in _whole(reader, self._path):
                self._size = place.offset + place.length
                yield judgement, place
        finally:
            reader.detach()
        self._file.truncate(self._size)

    def read(self, place: _Place) -> Judgement:
        return _judgement(os.pread(self._file.fileno(), place.length, place.offset), self._path)

    def append(self, judgement: Judgement) -> _Place:
        """When this returns, kill -9 can't lose the line."""
        # ASCII only: a lone surrogate in a reply could not be encoded
        line = json.dumps(judgement.as_dict()).encode() + b"\n"
        try:
            written = self._file.write(line)
        except OSError as error:
            raise _unusable(self._path, error) from None
        if written != len(line):
            raise EvaluationError(f"{self._path}: only a part of a judgement could be written; is the disk full?")
        place = _Place(self._size, len(line))
        self._size += len(line)
        return place

    def close(self) -> None:
        self._file.close()


def _who(judgement: Judgement) -> tuple[str, str, int]:
    return judgement.item, judgement.system, judgement.sample


def _said(judgement: Judgement) -> tuple[object, ...]:
    return judgement.key, judgement.score, judgement.unscored


def _digest(key: tuple[object, ...]) -> bytes:
    return hashlib.sha256(repr(key).encode("utf-8", "replace")).digest()[:16]


def _whole(lines: IO[bytes] | io.BufferedReader, file: Path) -> Iterator[tuple[Judgement, _Place]]:
    """Every line but one that was torn off by the end of a run."""
    offset = 0
    for line in lines:
        if not line.endswith(b"\n"):
            return
        yield _judgement(line, file), _Place(offset, len(line))
        offset += len(line)


def _judgement(line: bytes, file: Path) -> Judgement:
    try:
        return Judgement.from_dict(json.loads(line))
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise EvaluationError(
            f"{file} holds a line that is no judgement: {line[:SHOWN]!r}; remove the line or choose another folder"
        ) from None


def _unusable(file: Path, error: OSError) -> EvaluationError:
    return EvaluationError(f"judgements file {file} can't be used: {error.strerror or error}")
