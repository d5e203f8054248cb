"""The ratings of one rater as a file of JSON lines that outlives a killed server.

append(file, json.dumps({"item": "psr-1a2b", "system": "flux", "score": {...}, "edited_sha256": "9f2c...", ...}))
dict(read_lines(file))["psr-1a2b", "flux"]
-> Said(score=Score(fulfilment=4, quality=2, preservation=3), edited_sha256="9f2c...")
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ier1_plugin.evaluation.records import EvaluationError, Score


class Rating(NamedTuple):
    """A rating as it was kept."""

    score: Score
    edited_sha256: str = ""
    """`content_sha256` of the edited image that was seen; "" in ratings of old, which kept none."""


def read_lines(file: Path) -> Iterator[tuple[tuple[str, str], Rating]]:
    """The ratings in a file; a torn last line, which a killed server may leave, is passed over."""
    lines = file.read_bytes().splitlines(keepends=True) if file.is_file() else []
    for number, line in enumerate(filter(lambda line: line.endswith(b"\n"), lines), start=1):
        try:
            values = json.loads(line)
            said = Rating(Score(**values["score"]), str(values.get("edited_sha256") or ""))
            yield (values["item"], values["system"]), said
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise EvaluationError(f"{file}, line {number} is no rating: {error!r}") from None


def append(file: Path, line: str) -> None:
    """Adds a line that is on the disk when this returns."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("ab+") as stream:
        _cut_torn_line(stream)
        stream.write(line.encode("utf-8") + b"\n")
        stream.flush()
        os.fsync(stream.fileno())


def _cut_torn_line(stream: Any) -> None:
    end = stream.seek(0, os.SEEK_END)
    if not end:
        return
    stream.seek(end - 1)
    if stream.read(1) != b"\n":
        stream.seek(0)
        stream.truncate(stream.read().rfind(b"\n") + 1)
        stream.seek(0, os.SEEK_END)
