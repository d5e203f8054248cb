"""One build, from options to files: collect -> compare -> annotate -> write.

    build(Settings(source="jsonl", inputs=("requests.jsonl",), output=Path("data/mine")))
    -> ({"rows": {"train": 950, "val": 50, "rejected": 12}, ...}, False)

Everything unfinished lies in OUTPUT/.build, so the same command goes on after a kill at any moment. What the annotator
was paid for lies in OUTPUT/replies.jsonl and is kept for later builds too.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from data_prep.annotating import ask_annotator
from data_prep.collect import collect
from data_prep.duplicates import assign, choose
from data_prep.exclude import exclude
from data_prep.output import FILES, REPORT, write
from data_prep.records import BuildError
from data_prep.settings import Settings, differences, identity
from data_prep.sources import SOURCES
from data_prep.spool import Spool

IDENTITY = "identity"
REPLIES = "replies.jsonl"


def build(settings: Settings, overwrite: bool = False) -> tuple[dict[str, Any], bool]:
    """Builds the rows, or goes on where a killed build stopped. -> report, and whether it was there already

    BuildError: OUTPUT holds a build with other options and `overwrite` is False, or something can't be read.
    """
    settings.output.mkdir(parents=True, exist_ok=True)
    work = settings.output / ".build"
    with _alone(settings.output):
        report = _finished(settings.output)
        old = {"a finished": report.get(IDENTITY), "an unfinished": _begun(work)}
        new = json.loads(json.dumps(identity(settings)))
        done = old["a finished"] == new and not overwrite
        if not done:
            _make_way(work, old, new, overwrite)
            report = _run(settings, work)
        shutil.rmtree(work, ignore_errors=True)
        return report, done


def _make_way(work: Path, old: dict[str, Any], new: dict[str, Any], overwrite: bool) -> None:
    """Clears what is in the way of a new build; leaves a build that was begun with the same options."""
    if old["an unfinished"] == new:
        return
    for state, options in old.items():
        if options and options != new and not overwrite:
            raise BuildError(
                f"{work.parent} holds {state} build with other options ({differences(options, new)}); "
                "name another --output, or add --overwrite"
            )
    shutil.rmtree(work, ignore_errors=True)


def _run(settings: Settings, work: Path) -> dict[str, Any]:
    with closing(Spool(work)) as spool:
        spool.set_note(IDENTITY, json.dumps(identity(settings)))
        exclude(settings, spool)
        if not spool.note("collected"):
            rows = chain.from_iterable(SOURCES[settings.source](settings.reading(place)) for place in _inputs(settings))
            collect(settings, rows, spool)
            spool.set_note("collected", "yes")
        spool.forget_verdicts()
        choose(spool)
        ask_annotator(settings, spool, settings.output / REPLIES)
        assign(spool, settings.val_fraction)
        return write(settings, spool, work / "out")


def _inputs(settings: Settings) -> tuple[str, ...]:
    return settings.inputs or ("",)


def _finished(output: Path) -> dict[str, Any]:
    """The report of the build that is in `output`; {} without a whole one."""
    if not all((output / name).is_file() for name in FILES):
        return {}
    try:
        return json.loads((output / REPORT).read_text(encoding="utf-8"))
    except ValueError:
        return {}


def _begun(work: Path) -> dict[str, Any] | None:
    """The identity of the build that was begun in `work`; None where no row has been read."""
    if not work.is_dir():
        return None
    try:
        with closing(Spool(work)) as spool:
            return json.loads(spool.note(IDENTITY) or "null") if spool.count() else None
    except sqlite3.DatabaseError:
        return None


@contextmanager
def _alone(output: Path) -> Iterator[None]:
    """Keeps a second build out of the same folder; the lock ends with the process."""
    handle = os.open(output, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise BuildError(f"another build is running in {output}") from None
    finally:
        os.close(handle)
