"""Stage one of a build: raw rows out of their source, checked one by one, into the spool.

    collect(settings, rows, spool)     # 0 ... 100,000 rows, the images decoded by as many threads as there are cores

A row's checks look at nothing but that row; what rows have to do with each other comes later (`compare.py`).
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from data_prep.checks import gold_problem, picture, request_problem
from data_prep.progress import bar
from data_prep.records import SPLITS, BuildError, RawRow, Rejected
from data_prep.settings import Settings
from data_prep.spool import Entry, Spool
from ier1_plugin.task.images import ImageError
from ier1_plugin.task.rows import neutralise, order_key
from ier1_plugin.task.scoring import normalise

NO_GOLD = "no gold: give actions, subjects and goals, or name an annotator with --annotator MODEL"
# what a kill may cost
COMMIT_SECONDS = 0.25
# Pillow's decoders let other threads run, so threads do as well here as processes and leave nothing behind when killed
WORKERS = min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
IN_FLIGHT = 4 * WORKERS

In = TypeVar("In")
Out = TypeVar("Out")


def collect(settings: Settings, rows: Iterable[RawRow | Rejected], spool: Spool) -> None:
    """Reads `rows` to their end into the spool; rows that an earlier, killed run put there are skipped."""
    done = spool.count()
    numbered = enumerate(islice(rows, done, settings.limit), done)
    checked = _in_order(lambda item: check(*item, settings), numbered)
    last = time.monotonic()
    try:
        for entry, image in bar(checked, "reading", total=settings.limit, initial=done):
            spool.add(_unless_known(entry, spool), image)
            if time.monotonic() - last > COMMIT_SECONDS:
                spool.commit()
                last = time.monotonic()
    finally:
        spool.commit()


def check(position: int, row: RawRow | Rejected, settings: Settings) -> tuple[Entry, bytes]:
    """The entry of a row and its image; a row that fails a check gets a reason and no image."""
    if isinstance(row, Rejected):
        entry = Entry(position, _utf8(row.id), settings.source, "", "", b"", unread=_json(row.row), reason=row.reason)
        return entry, b""
    entry = _entry(position, row, settings)
    reason = request_problem(row.request) or _gold_or_annotator(row, settings)
    if reason:
        return entry._replace(reason=reason), b""
    try:
        image = picture(row.image, settings.min_pixels, settings.max_pixels)
    except ImageError as error:
        return entry._replace(reason=str(error)), b""
    signed = int.from_bytes(image.hash.to_bytes(8, "big"), "big", signed=True)
    return entry._replace(image_hash=signed, pixels=image.pixels), image.data


def request_key(request: str) -> bytes:
    """Equal for requests that are equal after normalisation."""
    return hashlib.blake2b(normalise(neutralise(request)).encode(), digest_size=16).digest()


def _entry(position: int, row: RawRow, settings: Settings) -> Entry:
    if row.split not in (None, *SPLITS):
        raise BuildError(f"source {settings.source} puts row {row.id} into split {row.split!r}; known: {SPLITS}")
    id, request = _utf8(row.id), neutralise(row.request)
    return Entry(
        position,
        id,
        _utf8(row.source),
        request,
        _utf8(row.group),
        order_key(settings.seed, id),
        split=row.split,
        image=str(row.image) if isinstance(row.image, Path) else f"{len(row.image)} bytes",
        # a gold that UTF-8 can't carry is rejected right after
        gold=_utf8(row.gold.to_json()) if row.gold else None,
        request_key=request_key(request),
    )


def _gold_or_annotator(row: RawRow, settings: Settings) -> str | None:
    if row.gold:
        return gold_problem(row.gold)
    return None if settings.annotator else NO_GOLD


def _unless_known(entry: Entry, spool: Spool) -> Entry:
    if entry.reason or not spool.knows(entry.id):
        return entry
    return entry._replace(reason=f"id is repeated: {entry.id}", image_hash=0)


def _json(row: dict[str, Any]) -> str:
    return _utf8(json.dumps(row, ensure_ascii=False, default=str))


def _utf8(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def _in_order(function: Callable[[In], Out], items: Iterable[In]) -> Iterator[Out]:
    """map() on a pool of threads: results in the order of the items, a bounded number of items pulled ahead."""
    with ThreadPoolExecutor(WORKERS) as pool:
        running: deque = deque()
        try:
            for item in items:
                running.append(pool.submit(function, item))
                if len(running) >= IN_FLIGHT:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            # left early: what has not begun need not begin
            pool.shutdown(wait=False, cancel_futures=True)
