"""Results that several processes pay for once: a folder in which each writes a file of its own and reads the others'.

    with SharedStore(Path("checkpoints/run/pictures")) as store:
        store.keep("5f0c...", {"fulfilment": 4})    # on disk when this returns
        store.refresh()                             # what other processes have written since
        store.get("5f0c...")                        # {"fulfilment": 4}

No file has two writers, so that a network file system, whose locks can't be relied on, will do.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ier1_plugin.runs.folder import RunError
from ier1_plugin.runs.store import Store

SUFFIX = ".sqlite"


class SharedStore:
    """One record for each key, all of them in memory. RunError: the folder or a file in it can't be used."""

    def __init__(self, folder: Path) -> None:
        self._own_file = folder / f"{socket.gethostname()}-{os.getpid()}-{os.urandom(3).hex()}{SUFFIX}"
        self._own: Store | None = None
        self._others: dict[Path, Store] = {}
        self._read: dict[Path, int] = {}
        self._records: dict[str, dict[str, Any]] = {}
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
        if self._own is None:
            self._own = Store(self._own_file, wal=False)
        self._own.append(key, record)
        self._records[key] = dict(record)

    def refresh(self) -> None:
        """Reads what others have written since the last time. The first record of a key counts."""
        for file in sorted(self.folder.glob(f"*{SUFFIX}")):
            if file == self._own_file:
                continue
            try:
                if file not in self._others:
                    self._others[file] = Store(file, read_only=True)
            except RunError:
                # its process is just creating it
                continue
            for key, record in self._others[file].after(self._read.get(file, 0)):
                self._records.setdefault(key, record)
                self._read[file] = self._read.get(file, 0) + 1

    def close(self) -> None:
        for store in (self._own, *self._others.values()):
            if store is not None:
                store.close()
