"""The folder of a long run: files that appear complete or not at all, one run at a time, fixed settings.

with locked(out):                                          # a second run is refused
    freeze_settings(out / "run.json", {"editor": "pillow"})    # as is a run with other settings
    write(out / "plans" / "1.json", "{}")
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from ier1_plugin.runs.errors import UserError
from ier1_plugin.runs.secrets import without_secrets

LOCK = ".lock"
PART = ".part"


class RunError(UserError):
    """A run that can't start or continue in its folder."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps a second run out of `folder`, which is created if needed. RunError: another run holds it, or it can't be
    created. The lock ends with the process that holds it, however that ends.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise RunError(f"{folder} can't be written: {error.strerror}; choose another folder") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise RunError(f"another run is writing to {folder}; wait for it or choose another folder") from None
    try:
        yield
    finally:
        os.close(lock)


def freeze_settings(file: Path, settings: Mapping[str, Any]) -> None:
    """Writes the settings of a run, without secrets, when it starts; RunError names what differs if it continues with
    others."""
    now = without_secrets(settings)
    if not file.exists():
        write(file, json.dumps(now, indent=2, ensure_ascii=False) + "\n")
        return
    if changed := changes(without_secrets(read_settings(file)), now):
        raise RunError(f"{file.parent} was begun with other settings ({', '.join(changed)}); choose another folder")


def read_settings(file: Path) -> dict[str, Any]:
    """The JSON object in `file`. RunError: it can't be read."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"{file} can't be read: {error.strerror}") from None
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise RunError(f"{file} is damaged; choose another folder")
    return values


def changes(before: Mapping[str, Any], now: Mapping[str, Any], free: Sequence[str] = ()) -> list[str]:
    """The differences, such as "seed 0, now 1"; objects are compared key by key. Keys in `free` may differ."""
    lines = []
    for key in sorted({*before, *now} - set(free)):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            lines += changes(old, new)
        elif old != new:
            lines.append(f"{key} {old!r}, now {new!r}")
    return lines


def write(path: Path, data: bytes | str) -> None:
    """Writes a file that appears complete."""
    with writing(path) as file:
        file.write(data.encode("utf-8") if isinstance(data, str) else data)


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """A file that appears when it is complete; a killed process leaves a hidden one that ends in .part. OSError always
    names `path`.
    """
    # short, since a name that the file system takes need not leave room for a longer one
    part = path.with_name(f".{os.getpid():x}-{threading.get_ident():x}{PART}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            yield file
        os.replace(part, path)
    except BaseException as error:
        with suppress(OSError):
            part.unlink()
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise


def clear_parts(folder: Path) -> None:
    """Removes files that killed runs left incomplete in `folder`; call it with the folder locked."""
    for part in folder.glob(f".*{PART}"):
        part.unlink()
