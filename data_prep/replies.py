"""Every reply of the annotator, one JSON line each, appended the moment it comes: the memory of a killed run.

    {"key": "jsonl-12", "digest": "5f0c...", "vote": 0, "time": "2026-03-09T10:11:12+00:00", "outcome": "stop",
     "model": "gpt-4o-2024-11-20", "usage": {"prompt_tokens": 812, "completion_tokens": 31}, "raw": {...}}

`digest` stands for model, sampling temperature, prompt, request and image, so that replies to another question are
never taken. Memory holds a digest and a file position for each reply, never the reply.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import threading
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

from data_prep.annotation import outcome
from data_prep.vlm import AnnotatorError


class _Place(NamedTuple):
    vote: int
    offset: int
    length: int


def digest_of(question: list[Any], image: bytes) -> str:
    """Names a question: 32 hexadecimal digits over JSON values and an encoded image."""
    digest = hashlib.sha256(json.dumps(question).encode())
    digest.update(image)
    return digest.hexdigest()[:32]


class Replies:
    """The replies file of one run; safe to use from several threads, refused to a second process.

    AnnotatorError: another process writes to the file, it holds something else, or it can't be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._places: dict[bytes, list[_Place]] = defaultdict(list)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists() and not path.is_file():
                raise AnnotatorError(f"replies file {path} is not a file; name another one")
            self._file = io.FileIO(path, "a+")
        except OSError as error:
            raise self._unusable(error) from None
        try:
            self._claim()
            self._size = self._read()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Replies:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def earlier(self, digest: str, vote: int) -> Iterator[dict[str, Any]]:
        """The raw completions that vote number `vote` on a question has had so far, oldest first."""
        with self._lock:
            places = list(self._places.get(bytes.fromhex(digest), ()))
        for place in places:
            if place.vote == vote:
                yield json.loads(os.pread(self._file.fileno(), place.length, place.offset))["raw"]

    def append(self, *, key: str, digest: str, vote: int, completion: dict[str, Any]) -> None:
        """Writes one reply through to the file; when this returns, kill -9 can't lose it."""
        record = {
            "key": key,
            "digest": digest,
            "vote": vote,
            "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "outcome": outcome(completion),
            "model": completion.get("model"),
            "usage": completion.get("usage"),
            "raw": completion,
        }
        # ASCII only: a lone surrogate in a reply could not be encoded
        line = json.dumps(record).encode() + b"\n"
        with self._lock:
            self._write(line)
            self._places[bytes.fromhex(digest)].append(_Place(vote, self._size, len(line)))
            self._size += len(line)

    def _write(self, line: bytes) -> None:
        try:
            written = self._file.write(line)
        except OSError as error:
            raise self._unusable(error) from None
        if written != len(line):
            raise AnnotatorError(f"{self._path}: only a part of a reply could be written; is the disk full?")

    def _claim(self) -> None:
        try:
            # lockf, not flock: a forked worker of the host program must not keep the claim when we are killed
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AnnotatorError(f"another run writes to {self._path}; wait for it, or use another output") from None
        except OSError as error:
            raise self._unusable(error) from None

    def _read(self) -> int:
        """Indexes the file, cuts a torn last line off and returns the size. Closing a second handle would unlock it."""
        offset = 0
        self._file.seek(0)
        reader = io.BufferedReader(self._file, buffer_size=1 << 20)
        try:
            for number, line in enumerate(reader, 1):
                if not line.endswith(b"\n"):
                    break
                self._index(number, line, offset)
                offset += len(line)
        finally:
            reader.detach()
        self._file.truncate(offset)
        return offset

    def _index(self, number: int, line: bytes, offset: int) -> None:
        try:
            record = json.loads(line)
            digest, vote = bytes.fromhex(record["digest"]), record["vote"]
            if not isinstance(record["raw"], dict):
                raise TypeError("raw is not an object")
        except (ValueError, TypeError, KeyError, RecursionError):
            raise AnnotatorError(
                f"{self._path}, line {number} is not a reply of the annotator: {line[:80]!r}; "
                "remove the line or name another file"
            ) from None
        self._places[digest].append(_Place(vote, offset, len(line)))

    def _unusable(self, error: OSError) -> AnnotatorError:
        return AnnotatorError(f"replies file {self._path} can't be used: {error.strerror or error}")
