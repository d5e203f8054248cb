"""The rows of an unfinished build, on disk: SQLite for their data, one flat file for their images.

    staging = Staging(Path("data/psr/.build"))
    staging.add(Entry(position=0, id="psr-1f3k", source="psr", request="remove the lamp", ...), image=b"\\xff\\xd8...")
    staging.commit()

What was committed survives kill -9; whatever came after is truncated when the folder is opened again. A reason is
final; a verdict (why a good row is left out after all) comes from a later stage, which may start over.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


def stamp_of(file: str | Path) -> str:
    """Another text whenever the file has changed; "" where there is none."""
    try:
        status = os.stat(file)
    except OSError:
        return ""
    return f"{status.st_size} bytes, {status.st_mtime_ns}"


class Entry(NamedTuple):
    """A row after its own checks. If `reason` is set, it failed them and the fields below it may be empty."""

    position: int
    """Its position in the source, from 0."""
    id: str
    source: str
    request: str
    group_key: str
    order_key: bytes
    """The hash of (seed, id) that the rows are ordered by."""
    split: str | None = None
    image: str = ""
    """The image's file, or its size, for `rejected.jsonl`."""
    stamp: str | None = None
    """The state of the image's file when it was read (`stamp_of`); None where there is no file."""
    unread: str | None = None
    """What is known of a row that its source could not read, as JSON."""
    reason: str | None = None
    gold: str | None = None
    """The answer column; None: the annotator is asked."""
    request_key: bytes = b""
    """Equal for requests that are equal after normalisation."""
    image_hash: int = 0
    pixels: int = 0
    case_image: str = ""
    """File name of the case's photo; "" for a row without a case."""
    start: int = 0
    length: int = 0
    """Where the image lies in the file."""


class Candidates(NamedTuple):
    """The rows that are still in, as arrays of the same length, in the order of the source."""

    position: np.ndarray
    image_hash: np.ndarray
    """uint64"""
    has_gold: np.ndarray
    request_key: list[bytes]
    group_key: list[str]
    order_key: list[bytes]
    split: list[str | None]
    id: list[str]


_COLUMNS = ", ".join(Entry._fields)
_TABLES = f"""
CREATE TABLE IF NOT EXISTS rows ({_COLUMNS}, verdict, part, PRIMARY KEY (position));
CREATE INDEX IF NOT EXISTS by_id ON rows (id);
CREATE TABLE IF NOT EXISTS notes (name PRIMARY KEY, value);
CREATE TABLE IF NOT EXISTS excluded (kind, value, PRIMARY KEY (kind, value)) WITHOUT ROWID;
"""
_IN = "reason IS NULL AND verdict IS NULL"
_BATCH = 256
# what a kill may cost
COMMIT_SECONDS = 0.25


class Staging:
    """One writer, in the thread that opened it; `pending` may be iterated in another thread."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path, self._images_path = folder / "rows.sqlite", folder / "images.bin"
        self._db = sqlite3.connect(self._path)
        self._db.execute("PRAGMA journal_mode = WAL")
        # a killed process loses nothing that way; a power cut may lose the last commits, never the file
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.executescript(_TABLES)
        self._images = self._images_path.open("ab")
        self._size = self._scalar("SELECT coalesce(max(start + length), 0) FROM rows")
        self._images.truncate(self._size)
        self._reader = self._images_path.open("rb")
        self._committed = time.monotonic()

    def close(self) -> None:
        self._images.close()
        self._reader.close()
        self._db.close()

    def note(self, name: str) -> str | None:
        """A note left by an earlier stage or run."""
        row = self._db.execute("SELECT value FROM notes WHERE name = ?", (name,)).fetchone()
        return row[0] if row else None

    def set_note(self, name: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (name, value))
        self._db.commit()

    def count(self) -> int:
        """How many rows of the source are stored, including rejected ones; their positions are 0 ... count - 1."""
        return self._scalar("SELECT count(*) FROM rows")

    def knows(self, id: str) -> bool:
        """True if a row with this id is stored and passed its checks."""
        return bool(self._scalar("SELECT count(*) FROM rows WHERE id = ? AND reason IS NULL", (id,)))

    def add(self, entry: Entry, image: bytes = b"") -> None:
        """Adds a row, committed before long; `start` and `length` of the entry are set here."""
        entry = entry._replace(start=self._size, length=len(image))
        self._images.write(image)
        self._size += len(image)
        self._db.execute(f"INSERT INTO rows ({_COLUMNS}) VALUES ({', '.join('?' * len(entry))})", entry)
        self._commit_in_time()

    def stamps(self) -> dict[str, str]:
        """The files of images that were read or looked for, each with its state at that time."""
        excluded = dict(file.split("\0") for file in self.excluded("file"))
        # of a missing image all places
        rows = self._db.execute("SELECT image, stamp FROM rows WHERE stamp IS NOT NULL")
        return excluded | {file: stamp for files, stamp in rows for file in files.split("\0")}

    def commit(self) -> None:
        # the images first: a committed row must find its image
        self._images.flush()
        self._db.commit()
        self._committed = time.monotonic()

    def _commit_in_time(self) -> None:
        if time.monotonic() - self._committed > COMMIT_SECONDS:
            self.commit()

    def image(self, entry: Entry) -> bytes:
        self._reader.seek(entry.start)
        return self._reader.read(entry.length)

    def forget_verdicts(self) -> None:
        """Resets the stages after collecting."""
        self._db.execute("CREATE INDEX IF NOT EXISTS by_order ON rows (order_key, id)")
        self._db.execute("UPDATE rows SET verdict = NULL, part = NULL WHERE verdict IS NOT NULL OR part IS NOT NULL")
        self._db.commit()

    def leave_out(self, verdicts: Iterable[tuple[int, str]]) -> None:
        """Marks rows (position, reason) that passed their own checks but are left out."""
        self._db.executemany("UPDATE rows SET verdict = ? WHERE position = ?", ((why, at) for at, why in verdicts))
        self._db.commit()

    def set_gold(self, id: str, gold: str | None, verdict: str | None) -> None:
        """Stores the annotator's result for a row, committed before long."""
        self._db.execute(
            "UPDATE rows SET gold = ?, verdict = ? WHERE id = ? AND reason IS NULL AND verdict IS NULL",
            (gold, verdict, id),
        )
        self._commit_in_time()

    def set_parts(self, parts: Iterable[tuple[int, str]]) -> None:
        """Puts rows (position, "train" or "val") into a split."""
        self._db.executemany("UPDATE rows SET part = ? WHERE position = ?", ((part, at) for at, part in parts))
        self._db.commit()

    def candidates(self) -> Candidates:
        """Everything that the comparison of rows needs; about 300 bytes per row."""
        columns = "position, image_hash, gold IS NOT NULL, request_key, group_key, order_key, split, id"
        rows = list(self._db.execute(f"SELECT {columns} FROM rows WHERE {_IN} ORDER BY position"))
        position, hashes, has_gold, *lists = map(list, zip(*rows, strict=True)) if rows else ([] for _ in range(8))
        # SQLite's integers are signed
        unsigned = np.array(hashes, dtype=np.int64).view(np.uint64)
        return Candidates(np.array(position, dtype=np.int64), unsigned, np.array(has_gold, dtype=bool), *lists)

    def pending(self) -> Iterator[Entry]:
        """The accepted rows that have no gold yet, in their final order."""
        # a connection of its own: whoever iterates may do so in another thread while results are written here
        reader = sqlite3.connect(self._path, check_same_thread=False)
        where = f"{_IN} AND gold IS NULL AND (order_key, id) > (?, ?) ORDER BY order_key, id LIMIT {_BATCH}"
        after = (b"", "")
        try:
            while page := list(self._read(reader, where, after)):
                yield from page
                after = (page[-1].order_key, page[-1].id)
        finally:
            reader.close()

    def pending_count(self) -> int:
        return self._scalar(f"SELECT count(*) FROM rows WHERE {_IN} AND gold IS NULL")

    def part(self, part: str) -> Iterator[Entry]:
        """The rows of a split, in their final order."""
        return self._read(self._db, f"{_IN} AND part = ? ORDER BY order_key, id", (part,))

    def rejected(self) -> Iterator[Entry]:
        """Every rejected row, with its reason or verdict as `reason`, in the order of the source."""
        chosen = _COLUMNS.replace("reason", "coalesce(reason, verdict)")
        where = "reason IS NOT NULL OR verdict IS NOT NULL ORDER BY position"
        return (Entry(*row) for row in self._db.execute(f"SELECT {chosen} FROM rows WHERE {where}"))

    def exclude(self, marks: Iterable[tuple[str, Any]]) -> None:
        """Stores (kind, value) pairs that no row may share with a benchmark."""
        self._db.executemany("INSERT OR IGNORE INTO excluded VALUES (?, ?)", marks)
        self._db.commit()

    def excluded(self, kind: str) -> set[Any]:
        return {value for (value,) in self._db.execute("SELECT value FROM excluded WHERE kind = ?", (kind,))}

    def _scalar(self, query: str, values: tuple[Any, ...] = ()) -> int:
        return self._db.execute(query, values).fetchone()[0]

    @staticmethod
    def _read(db: sqlite3.Connection, where: str, values: tuple[Any, ...]) -> Iterator[Entry]:
        return (Entry(*row) for row in db.execute(f"SELECT {_COLUMNS} FROM rows WHERE {where}", values))
