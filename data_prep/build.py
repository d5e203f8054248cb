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
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from data_prep.annotator import Item, annotate
from data_prep.checks import check, gold_problem
from data_prep.duplicates import assign, choose, marks
from data_prep.output import FILES, IMAGES, REPORT, write
from data_prep.settings import Settings
from data_prep.sources import Shard, files_read, shards
from data_prep.staging import Entry, Staging, stamp_of
from ier1_plugin.runs.errors import UserError
from ier1_plugin.runs.folder import changes, locked
from ier1_plugin.runs.workers import progress

IDENTITY = "identity"
# raised when the same options would give other rows than before
FORMAT = 1
# these change how fast rows come, not which
NO_INFLUENCE = ("output", "base_url", "concurrency", "timeout", "max_tokens", "retry_failed", "ray")
OF_CASES = ("case_images", "case_max_pixels", "without_gold")
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
                collect(settings, staging)
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


def collect(settings: Settings, staging: Staging) -> None:
    """Reads the source to its end and checks each row by itself; rows that an earlier, killed run staged are skipped,
    and what was read to its end is not opened again.
    """
    done, pieces = staging.count(), shards(settings)
    # the shard that was being read, and the position of its first row
    first, begun = json.loads(staging.note("shard") or "[0, 0]")
    number, left = first, None if settings.limit is None else settings.limit - done
    if settings.ray:
        # Ray takes seconds to import
        from data_prep.on_ray import checked
    else:
        checked = in_threads
    with closing(checked(pieces[first:], done - begun, left, settings)) as results:
        rows = progress(islice(results, left), "reading", total=settings.limit, initial=done)
        try:
            for position, (shard, entry, image) in enumerate(rows, done):
                if first + shard != number:
                    number = first + shard
                    # its rows must not be committed before their images are
                    staging.commit()
                    staging.set_note("shard", json.dumps([number, position]))
                if not entry.reason and staging.knows(entry.id):
                    entry = entry._replace(reason=f"id is repeated: {entry.id}", image_hash=0)
                staging.add(entry._replace(position=position), image)
        finally:
            staging.commit()


def in_threads(
    shards: Sequence[Shard], skip: int, limit: int | None, settings: Settings
) -> Generator[tuple[int, Entry, bytes], None, None]:
    """(number of the shard, entry, image) of `limit` rows after the first `skip`, in their order, checked by threads; a
    bounded number of them is pulled ahead.
    """
    rows = ((number, row) for number, shard in enumerate(shards) for row in shard())
    with ThreadPoolExecutor(WORKERS) as pool:
        running: deque = deque()
        try:
            for number, row in islice(rows, skip, None if limit is None else skip + limit):
                running.append((number, pool.submit(check, row, settings)))
                if len(running) >= IN_FLIGHT:
                    number, result = running.popleft()
                    yield number, *result.result()
            for number, result in running:
                yield number, *result.result()
        finally:
            # left early: what has not begun need not begin
            pool.shutdown(wait=False, cancel_futures=True)


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
