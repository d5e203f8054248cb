"""Errors and log lines for people to read: one line, without secrets."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from ier1_plugin.runs.secrets import HIDDEN, SHORTEST_KEY, without_secrets

MAX_LINE = 300


class UserError(ValueError):
    """Something that the user can fix. The message is one line: what was given, what was expected, what to do."""


def one_line(error: BaseException | str, secrets: Iterable[str] = ()) -> str:
    """The message in one line of at most MAX_LINE characters, with `secrets` and whatever looks like one masked."""
    text = str(error) or (type(error).__name__ if isinstance(error, BaseException) else "")
    for secret in secrets:
        text = text.replace(secret, HIDDEN) if len(secret) >= SHORTEST_KEY else text
    text = " ".join(without_secrets(text).split())
    return text if len(text) <= MAX_LINE else f"{text[: MAX_LINE - 1]}…"


def with_class(error: BaseException) -> str:
    """One line for an error that nobody foresaw: its class says more than its message. A UserError needs none."""
    known = isinstance(error, UserError) or not str(error)
    return one_line(error if known else f"{type(error).__name__}: {error}")


def log(line: str) -> None:
    """Prints a line on standard error, above the progress bar if there is one."""
    from tqdm import tqdm

    tqdm.write(line, file=sys.stderr)
