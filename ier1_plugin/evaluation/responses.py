"""Responses of a model to RL rows: asked once each, kept as they come, read again by a later run.

asked(Path("out"), "local:decomposer", Path("val.parquet"), ["psr-1f3k"], jobs=8, tell=print)
-> {"psr-1f3k": {"response": "<think> ..."}}      # and a line in out/responses/local%3Adecomposer.jsonl
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ier1_plugin.chat import Chat, RequestRejected, TransientError, make_chat
from ier1_plugin.chat.server import without_password
from ier1_plugin.data.tables import Line, read
from ier1_plugin.evaluation.model_identity import answers_file
from ier1_plugin.evaluation.records import EvaluationError
from ier1_plugin.pipeline.agents import decomposition_request
from ier1_plugin.runs.workers import as_completed
from ier1_plugin.task.images import ImageError, open_image
from ier1_plugin.task.rows import IMAGE_PLACEHOLDER

# what one row can do wrong; anything else would befall the others too
ROW_ERRORS = (ImageError, RequestRejected, TransientError)
Answer = dict[str, str]


def asked(
    out: Path, model: str, rows: Path, ids: Sequence[str], jobs: int, on_warning: Callable[[str], None]
) -> dict[str, Answer]:
    """The answers by the ids of their rows; those that are there already are not asked for.

    A row that could not be asked has an "error", and is asked again by the next run. ChatError: the model can't be had.
    """
    file = answers_file(out, model)
    known = _kept(file)
    answers = {id: known[id] for id in ids if id in known}
    missing = frozenset(ids) - set(answers)
    if not missing:
        return answers
    chat = make_chat(model, on_warning=on_warning)
    stop = getattr(chat, "close", lambda: None)
    found = as_completed(_rows(rows, missing), partial(_answer, chat), jobs, stop, on_warning)
    with file.open("a", encoding="utf-8") as lines, closing(found):
        for id, answer in tqdm(
            found, desc=without_password(model), unit=" rows", total=len(missing), mininterval=_every()
        ):
            answers[id] = answer
            if "response" in answer:
                lines.write(json.dumps({"id": id} | answer) + "\n")
                lines.flush()
    return answers


def read_responses(file: Path) -> dict[str, Answer]:
    """A file of responses, {"id", "response"} a line.

    EvaluationError: it is missing, a line is none, or two lines have one id.
    """
    try:
        # not splitlines, which would cut a response at the line separators that JSON lets stand
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluationError(f"{file} can't be read: {getattr(error, 'strerror', None) or error}") from None
    found: dict[str, Answer] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        answer = _line(line)
        if answer is None:
            wanted = '{"id": "...", "response": "..."}'
            raise EvaluationError(f"{file}, line {number}: wanted {wanted}, got {line[:80]!r}")
        twice = found.keys() & answer.keys()
        if twice:
            raise EvaluationError(f"{file}, line {number}: a second response to {twice.pop()!r}; leave one of the two")
        found |= answer
    return found


def _kept(file: Path) -> dict[str, Answer]:
    """What earlier runs got; the torn last line of one that was killed is cut off."""
    file.parent.mkdir(parents=True, exist_ok=True)
    data = file.read_bytes() if file.is_file() else b""
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        with file.open("r+b") as lines:
            lines.truncate(whole)
    return read_responses(file) if whole else {}


def _line(line: str) -> dict[str, Answer] | None:
    try:
        values = json.loads(line)
        id, response = values["id"], values["response"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return {id: {"response": response}} if isinstance(id, str) and isinstance(response, str) else None


def _rows(file: Path, ids: frozenset[str]) -> Iterator[dict[str, Any]]:
    for line in read(str(file), None, ("id", "problem", "images")):
        if isinstance(line, Line) and line.row["id"] in ids:
            yield line.row


def _answer(chat: Chat, row: dict[str, Any]) -> tuple[str, Answer]:
    try:
        photo = open_image(row["images"][0]["bytes"] or b"")
        completion = chat(decomposition_request(photo, row["problem"].removeprefix(IMAGE_PLACEHOLDER), chat))
        return row["id"], {"response": completion.text or completion.refusal}
    except ROW_ERRORS as error:
        return row["id"], {"error": " ".join(str(error).split())}


def _every() -> float:
    """Seconds: a log file wants a line now and then, a terminal a live bar."""
    return 0.5 if sys.stderr.isatty() else 30.0
