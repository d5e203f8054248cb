"""Files that are there whole or not at all.

write(Path("run.json"), "{}")
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

PART = ".part"


def write(path: Path, data: bytes | str) -> None:
    """Writes a file that appears complete."""
    with writing(path) as file:
        file.write(data.encode("utf-8") if isinstance(data, str) else data)


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """A file that appears when it is complete; what a killed process leaves is a hidden one that ends in .part.

    OSError names `path`, whatever could not be written.
    """
    # short, since a name that the file system takes need not leave room for a longer one
    part = path.with_name(f".{os.getpid():x}-{threading.get_ident():x}{PART}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            yield file
        os.replace(part, path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise
