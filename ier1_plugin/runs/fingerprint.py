"""Are the weights in a folder still those that gave the answers? One hash over all files of a model.

    fingerprint(Path("decomposer"))      # "9f2c...", the same for a copy of the folder elsewhere
    sha256_of(Path("val.parquet"))       # "51d0..."

About ten seconds for 15 GB, if the disk is fast enough.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

BLOCK_BYTES = 1 << 20
# written for people and by tools; no model reads them
NOT_READ = (".md", ".pyc")


def fingerprint(folder: Path) -> str:
    """sha256 over the names and contents of all files below `folder`, in hexadecimal.

    Files that no model reads are left out: hidden files and folders (.git, .cache), cards (*.md) and compiled Python.
    Links are followed. OSError: it is not a folder, or a file in it can't be read.
    """
    whole = sha256()
    named = {file.relative_to(folder).as_posix(): file for file in _files(folder)}
    for name, file in sorted(named.items()):
        # a name can't hold a NUL, so that no two folders give the same text
        whole.update(f"{name}\0{sha256_of(file)}\0".encode("utf-8", "surrogateescape"))
    return whole.hexdigest()


def sha256_of(file: Path) -> str:
    """sha256 of a file's content, read in blocks. OSError: it can't be read."""
    digest = sha256()
    with file.open("rb") as data:
        while block := data.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _files(folder: Path, above: tuple[str, ...] = ()) -> Iterator[Path]:
    real = os.path.realpath(folder)
    # a link to a folder above goes round for ever
    for path in [] if real in above else folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _files(path, (*above, real))
        elif not path.name.endswith(NOT_READ):
            yield path
