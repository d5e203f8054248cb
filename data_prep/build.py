"""One build, from options to files: read and check, compare, annotate, write.

    build(Settings(source="jsonl", inputs=("requests.jsonl",), output=Path("data/mine")))
    -> ({"rows": {"train": 950, "val": 50, "rejected": 12}, ...}, False)

Unfinished work is kept in OUTPUT/.build, so the same command continues after a kill at any moment. Replies that were
paid for are in OUTPUT/annotator.sqlite and are kept for later builds too.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import asdict
from itertools import chain, islice
from pathlib import Path
from typing import Any

from data_prep.annotator import Item, annotate
from data_prep.checks import clean_request, gold_problem, picture, request_key, request_problem
from data_prep.duplicates import assign, choose, marks
from data_prep.output import FILES, IMAGES, REPORT, keep_case_image, write
from data_prep.settings import SPLITS, RawRow, Settings
from data_prep.sources import SOURCES, files_read
from data_prep.staging import Entry, Staging, stamp_of
from ier1_plugin.data.tables import Rejected
from ier1_plugin.runs.errors import UserError, one_line
from ier1_plugin.runs.folder import changes, locked
from ier1_plugin.runs.workers import progress
from ier1_plugin.task.images import ImageError, read_file
from ier1_plugin.task.rows import order_key, without_surrogates

IDENTITY = "identity"
# raised when the same options would give other rows than before
FORMAT = 1
# these change how fast rows come, not which
NO_INFLUENCE = ("output", "base_url", "concurrency", "timeout", "max_tokens", "retry_failed")
OF_CASES = ("case_images", "case_max_pixels", "without_gold")
NO_GOLD = "no gold: give actions, subjects and goals, or name an annotator with --annotator MODEL"
# Pillow's decoders let other threads run, so threads do as well here as processes and leave nothing behind when killed
WORKERS = min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
IN_FLIGHT = 4 * WORKERS


def build(settings: Settings, overwrite: bool = False) -> tuple[dict[str, Any], bool]:
    """Builds the rows, or continues where a killed build stopped. Returns the report, and whether it already existed.

    UserError: OUTPUT holds a build with other options or inputs and `overwrite` is False, or something can't be read.
    """
    output, work = settings.output, settings.output / ".build"
    with locked(output):
        new = json.loads(json.dumps(identity(settings)))
        report: dict[str, Any] = {}
        finished = unfinished = None
        if all((output / name).is_file() for name in FILES):
            with suppress(ValueError, LookupError):
                report = json.loads((output / REPORT).read_text(encoding="utf-8"))
                images = json.loads((output / IMAGES).read_text()) if (output / IMAGES).is_file() else {}
                # a build without rows is begun anew
                if report["rows"]["train"] + report["rows"]["val"]:
                    finished = differences(report[IDENTITY], new, images)
        if finished == [] and not overwrite and not settings.retry_failed:
            shutil.rmtree(work, ignore_errors=True)
            return report, True
        if work.is_dir():
            with suppress(sqlite3.DatabaseError), closing(Staging(work)) as staging:
                if staging.count():
                    unfinished = differences(json.loads(staging.note(IDENTITY) or "{}"), new, staging.stamps())
        if unfinished != []:
            for state, changed in {"a finished": finished, "an unfinished": unfinished}.items():
                if changed and not overwrite:
                    raise UserError(
                        f"{output} holds {state} build with other options or inputs ({'; '.join(changed)}); "
                        "name another --output, or add --overwrite"
                    )
            shutil.rmtree(work, ignore_errors=True)
        with closing(Staging(work)) as staging:
            staging.set_note(IDENTITY, json.dumps(new))
            if not staging.note("excluded"):
                for file in settings.exclude:
                    staging.exclude(marks(file, settings))
                staging.set_note("excluded", "yes")
            if not staging.note("collected"):
                source, inputs = SOURCES[settings.source], settings.inputs or ("",)
                collect(settings, chain.from_iterable(source(settings, name) for name in inputs), staging)
                staging.set_note("collected", "yes")
            staging.forget_verdicts()
            choose(staging)
            ask_annotator(settings, staging)
            assign(staging, settings.val_fraction)
            report = write(settings, new, staging, work / "out")
        shutil.rmtree(work, ignore_errors=True)
        return report, False


def differences(old: dict[str, Any], new: dict[str, Any], images: dict[str, str]) -> list[str]:
    """What has changed between two identities, and in the files of images since they had these stamps."""
    lines = changes(old, new)
    if others := [file for file, stamp in images.items() if stamp_of(file) != stamp]:
        lines.append(f"images that it read or missed: {len(others)} have changed, such as {others[0]}")
    return lines


def identity(settings: Settings) -> dict[str, Any]:
    """The options and the state of the files that decide the rows; two builds with equal identities give the same
    files. No secret is among them.
    """

    def state(name: str, source: str = settings.source) -> str:
        path = Path(name)
        if not path.is_dir():
            stamp = stamp_of(path)
            return f"{name} ({stamp})" if stamp else name
        files = files_read(source, path)
        states = "".join(f"{file.relative_to(path)}\0{stamp_of(file)}\0" for file in files)
        digest = hashlib.blake2b(states.encode("utf-8", "surrogateescape"), digest_size=8)
        return f"{name} ({len(files)} files, {digest.hexdigest()})"

    options = {name: value for name, value in asdict(settings).items() if name not in NO_INFLUENCE}
    if not (settings.case_images or settings.without_gold):
        # as in builds that did not know of cases
        options = {name: value for name, value in options.items() if name not in OF_CASES}
    options |= {"inputs": list(map(state, settings.inputs)), "exclude": [state(name, "") for name in settings.exclude]}
    return {"format": FORMAT, **options, "image_roots": list(map(str, settings.image_roots)) or None}


def collect(settings: Settings, rows: Iterable[RawRow | Rejected], staging: Staging) -> None:
    """Reads `rows` to their end and checks each by itself; rows that an earlier, killed run staged are skipped."""
    done = staging.count()

    def checked() -> Iterator[tuple[Entry, bytes]]:
        """The rows in their order, checked by threads; a bounded number of them is pulled ahead."""
        with ThreadPoolExecutor(WORKERS) as pool:
            running: deque = deque()
            try:
                for position, row in enumerate(islice(rows, done, settings.limit), done):
                    running.append(pool.submit(check, position, row, settings))
                    if len(running) >= IN_FLIGHT:
                        yield running.popleft().result()
                while running:
                    yield running.popleft().result()
            finally:
                # left early: what has not begun need not begin
                pool.shutdown(wait=False, cancel_futures=True)

    try:
        for entry, image in progress(checked(), "reading", total=settings.limit, initial=done):
            if not entry.reason and staging.knows(entry.id):
                entry = entry._replace(reason=f"id is repeated: {entry.id}", image_hash=0)
            staging.add(entry, image)
    finally:
        staging.commit()


def check(position: int, row: RawRow | Rejected, settings: Settings) -> tuple[Entry, bytes]:
    """The entry of a row and its image; a row that fails a check gets a reason and no image."""
    if isinstance(row, Rejected):
        unread = without_surrogates(json.dumps(row.row, ensure_ascii=False, default=str))
        entry = Entry(position, without_surrogates(row.id), settings.source, "", "", b"", unread=unread)
        if row.missing:
            # a name that is not UTF-8 could not be found again
            places = "\0".join(path for path in row.missing if path == without_surrogates(path))
            entry = entry._replace(image=places, stamp="")
        return entry._replace(reason=one_line(row.reason)), b""
    if row.split not in (None, *SPLITS):
        raise UserError(f"source {settings.source} puts row {row.id} into split {row.split!r}; known: {SPLITS}")
    id, request = without_surrogates(row.id), clean_request(row.request)
    file = str(row.image) if isinstance(row.image, Path) else ""
    entry = Entry(
        position,
        id,
        without_surrogates(row.source),
        request,
        without_surrogates(row.group),
        order_key(settings.seed, id),
        split=row.split,
        image=without_surrogates(file) or f"{len(bytes(row.image))} bytes",
        # a name that is not UTF-8 could not be found again
        stamp=stamp_of(file) if file and file == without_surrogates(file) else None,
        # a gold that UTF-8 can't carry is rejected right after
        gold=without_surrogates(row.gold.to_json()) if row.gold else None,
        request_key=request_key(request),
    )
    reason = request_problem(request)
    if not reason and row.gold:
        reason = gold_problem(row.gold)
    elif not reason and not (settings.annotator or settings.case_images or row.case_image):
        reason = NO_GOLD
    if reason:
        return entry._replace(reason=reason), b""
    try:
        image = picture(row.image, settings.min_pixels, settings.max_pixels)
        if row.case_image:
            entry = entry._replace(case_image=keep_case_image(settings.output, read_file(row.case_image)))
        elif settings.case_images:
            photo = picture(row.image, 1, settings.case_max_pixels)
            entry = entry._replace(case_image=keep_case_image(settings.output, photo.data))
    except ImageError as error:
        return entry._replace(reason=one_line(error)), b""
    signed = int.from_bytes(image.hash.to_bytes(8, "big"), "big", signed=True)
    return entry._replace(image_hash=signed, pixels=image.pixels), image.data


def ask_annotator(settings: Settings, staging: Staging) -> None:
    """Sets the gold of every row without one, or the reason why it gets none. UserError: the run can't continue.

    The annotator keeps its own replies, so a killed run loses nothing and this stage can always start over.
    """
    total = staging.pending_count()
    if not total or settings.annotator is None:
        return
    items = (Item(row.id, row.request, staging.image(row)) for row in staging.pending())
    with closing(annotate(items, settings, total)) as results:
        for id, result in results:
            problem = result if isinstance(result, str) else gold_problem(result)
            staging.set_gold(id, None if problem or isinstance(result, str) else result.to_json(), problem)
    staging.commit()
