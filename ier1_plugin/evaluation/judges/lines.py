"""A file of judgements that only grows, a line each; one process writes to it, and any may read.

    lines = Lines(Path("judgements/openai:gpt-4o-2024-11-20.jsonl"))
    earlier = list(lines.earlier())      # [(Judgement(...), Place(offset=0, length=412)), ...]
    place = lines.append(judgement)      # on disk now
    lines.read(place)

A last line that was torn off by the end of a run, or by a full disk, is cut off and never written behind.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

from ier1_plugin.evaluation.records import EvaluationError, Judgement

SHOWN = 80


class Span(NamedTuple):
    """Where a line is, in bytes; its length holds the line's end."""

    offset: int
    length: int


class Lines:
    """The file, locked; not safe to append to from several threads at once."""

    def __init__(self, path: Path) -> None:
        """EvaluationError: another run has the file, or it can't be read or written."""
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = io.FileIO(path, "a+")
        except OSError as error:
            raise unusable(path, error) from None
        self._size = 0
        try:
            # the lock goes when its process does, however that ends
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise EvaluationError(f"another run writes to {path}; wait for it or choose another folder") from None

    def earlier(self) -> Iterator[tuple[Judgement, Span]]:
        """What is there. To be read to its end before anything is appended."""
        self._file.seek(0)
        reader = io.BufferedReader(self._file, buffer_size=1 << 20)
        try:
            for judgement, place in whole(reader, self._path):
                self._size = place.offset + place.length
                yield judgement, place
        finally:
            reader.detach()
        self._file.truncate(self._size)

    def read(self, place: Span) -> Judgement:
        return parsed(os.pread(self._file.fileno(), place.length, place.offset), self._path)

    def append(self, judgement: Judgement) -> Span:
        """When this returns, kill -9 can't lose the line. EvaluationError: it is not there, nor is a part of it."""
        # ASCII only: a lone surrogate in a reply could not be encoded
        line = json.dumps(judgement.as_dict()).encode() + b"\n"
        try:
            if self._file.write(line) != len(line):
                raise OSError("only a part of a judgement could be written; is the disk full?")
        except OSError as error:
            # another thread may write once more before the run ends
            with suppress(OSError):
                self._file.truncate(self._size)
            raise unusable(self._path, error) from None
        place = Span(self._size, len(line))
        self._size += len(line)
        return place

    def close(self) -> None:
        self._file.close()


def whole(lines: IO[bytes] | io.BufferedReader, file: Path) -> Iterator[tuple[Judgement, Span]]:
    """Every line but one that was torn off by the end of a run."""
    offset = 0
    for line in lines:
        if not line.endswith(b"\n"):
            return
        yield parsed(line, file), Span(offset, len(line))
        offset += len(line)


def parsed(line: bytes, file: Path) -> Judgement:
    try:
        return Judgement.from_dict(json.loads(line))
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise EvaluationError(
            f"{file} holds a line that is no judgement: {line[:SHOWN]!r}; remove the line or choose another folder"
        ) from None


def unusable(file: Path, error: OSError) -> EvaluationError:
    return EvaluationError(f"judgements file {file} can't be used: {error.strerror or error}")
