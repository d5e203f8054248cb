"""Results that several processes pay for once: a folder in which each writes a file of its own and reads the others'.

    with SharedStore(Path("checkpoints/run/pictures")) as store:
        with store.claim("5f0c..."):                    # one at a time of all threads and processes of this node
            if store.get("5f0c...") is None:            # nor has another one written it by now
                store.keep("5f0c...", {"fulfilment": 4})    # kill -9 can't lose it when this returns
        store.refresh()                                 # what other processes have written since

No file has two writers, so that a network file system, whose locks can't be relied on, will do. Claims are locks in the
node's folder for temporary files.
"""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ier1_plugin.runs.folder import RunError
from ier1_plugin.runs.store import Store

SUFFIX = ".sqlite"
# seconds: longer than a claim is held by anything that works, and between two looks at whether it still is
CLAIM_TIMEOUT, CLAIM_POLL = 600.0, 0.02


class SharedStore:
    """One record for each key, all of them in memory. RunError: the folder or a file in it can't be used."""

    def __init__(self, folder: Path) -> None:
        self._own_file = folder / f"{socket.gethostname()}-{os.getpid()}-{os.urandom(3).hex()}{SUFFIX}"
        self._own: Store | None = None
        self._others: dict[Path, Store] = {}
        self._read: dict[Path, int] = {}
        self._records: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()
        self.folder = folder
        self.refresh()

    def __enter__(self) -> SharedStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._records)

    def get(self, key: str) -> dict[str, Any] | None:
        return self._records.get(key)

    def keep(self, key: str, record: Mapping[str, Any]) -> None:
        """Writes a record. From several threads at once, different keys only."""
        with self._lock:
            if self._own is None:
                self._own = Store(self._own_file, wal=False)
        self._own.append(key, record)
        self._records[key] = dict(record)

    def refresh(self) -> None:
        """Reads what others have written since the last time. The first record of a key counts."""
        with self._lock:
            for file in sorted(self.folder.glob(f"*{SUFFIX}")):
                if file == self._own_file:
                    continue
                # its process is just creating it, or a power failure has damaged it
                with suppress(RunError):
                    if file not in self._others:
                        self._others[file] = Store(file, read_only=True)
                    for key, record in self._others[file].after(self._read.get(file, 0)):
                        self._records.setdefault(key, record)
                        self._read[file] = self._read.get(file, 0) + 1

    @contextmanager
    def claim(self, key: str) -> Iterator[None]:
        """Keeps every other claimant of a key on this node waiting, and reads what they have written before. Ends with
        its process, however that ends.

        A claimant that holds on for CLAIM_TIMEOUT seconds is waited for no longer: paying twice is better than hanging.
        Keys that share their first three characters share a lock, so nobody may hold two claims.
        """
        lock = None
        with suppress(OSError):  # where the node can't lock, things are paid for twice
            folder = Path(tempfile.gettempdir(), f"ier1-claims-{os.getuid()}")
            folder.mkdir(mode=0o700, exist_ok=True)
            lock = os.open(folder / key[:3], os.O_RDWR | os.O_CREAT, 0o600)
        try:
            give_up = time.monotonic() + CLAIM_TIMEOUT
            while lock is not None and time.monotonic() < give_up:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(CLAIM_POLL)
            self.refresh()
            yield
        finally:
            if lock is not None:
                os.close(lock)

    def close(self) -> None:
        for store in (self._own, *self._others.values()):
            if store is not None:
                store.close()
