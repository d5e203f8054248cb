"""Results that were paid for and must not be lost: records in one SQLite file, appended and never changed.

    with Store(Path("study/judgements.sqlite")) as store:
        store.append("5f0c...", {"item": "psr-1a2b", "score": {...}})    # on disk when this returns
        store.get("5f0c...")                                             # [{"item": "psr-1a2b", ...}], oldest first
        store.export(Path("study/judgements.jsonl"))                     # the same for people to read

Safe for many threads and processes: SQLite's write-ahead log lets readers and one writer work side by side. A record
survives kill -9 once `append` has returned. On a network file system, where processes can't share the log's memory,
SQLite falls back to a rollback journal: slower, and one process at a time.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ier1_plugin.runs.folder import RunError, writing

# milliseconds that a writer waits for another process
BUSY_TIMEOUT = 60_000


class Store:
    """The records of one file. RunError, from every method: the file is not a store, or can't be read or written."""

    def __init__(self, path: Path, read_only: bool = False, wal: bool = True) -> None:
        """`read_only`: a missing file is an error, and none is created. `wal`: False keeps to a rollback journal, which
        network file systems can hold. Either way no record waits for the disk: kill -9 loses none, but a power failure
        may lose the last ones, and without the log the file.
        """
        self.path = path
        self._lock = threading.Lock()
        if read_only and not path.is_file():
            raise RunError(f"{path} is not there; has this run begun?")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from None
        try:
            self._execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT}")
            if read_only:
                self._execute("PRAGMA query_only = ON")
                self._execute("SELECT key FROM records LIMIT 1")
                return
            self._execute(f"PRAGMA journal_mode = {'WAL' if wal else 'DELETE'}")
            # a rollback journal would wait for the disk three times a record, which takes longer than to make one
            self._execute(f"PRAGMA synchronous = {'NORMAL' if wal else 'OFF'}")
            self._execute("CREATE TABLE IF NOT EXISTS records (id INTEGER PRIMARY KEY, key TEXT, record TEXT)")
            self._execute("CREATE INDEX IF NOT EXISTS by_key ON records (key)")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def append(self, key: str, record: Mapping[str, Any]) -> None:
        """Adds a record, whole or not at all."""
        # ASCII only: SQLite can't hold a lone surrogate, which a model's reply may contain
        self._execute("INSERT INTO records (key, record) VALUES (?, ?)", key, json.dumps(record))

    def get(self, key: str) -> list[dict[str, Any]]:
        """The records under `key`, oldest first."""
        rows = self._execute("SELECT record FROM records WHERE key = ? ORDER BY id", key)
        return [json.loads(record) for (record,) in rows]

    def __iter__(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Every key and record, oldest first. Memory holds a page of them at a time."""
        return self.after(0)

    def after(self, count: int) -> Iterator[tuple[str, dict[str, Any]]]:
        """As iteration, without the oldest `count`."""
        return self._pages("id > ? ORDER BY id", count)

    def __reversed__(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Newest first."""
        return self._pages("id < ? ORDER BY id DESC", 2**63 - 1)

    def _pages(self, where: str, last: int) -> Iterator[tuple[str, dict[str, Any]]]:
        while rows := self._execute(f"SELECT id, key, record FROM records WHERE {where} LIMIT 1000", last):
            for _, key, record in rows:
                yield key, json.loads(record)
            last = rows[-1][0]

    def export(self, file: Path) -> None:
        """Writes the records as JSON lines, each with its key."""
        with writing(file) as lines:
            for key, record in self:
                lines.write(json.dumps({"key": key, **record}).encode() + b"\n")

    def _execute(self, statement: str, *values: object) -> list[Any]:
        try:
            # one connection for all threads: SQLite would serialise their writes anyhow
            with self._lock:
                return self._connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise self._unusable(error) from None

    def _unusable(self, error: Exception) -> RunError:
        if isinstance(error, sqlite3.DatabaseError) and "not a database" in str(error):
            return RunError(f"{self.path} is not a store of this program; name another file or folder")
        return RunError(f"{self.path} can't be used: {getattr(error, 'strerror', None) or error}")
