"""Stage three of a build: gold for the rows that brought none, from the annotator, into the spool.

The annotator keeps its own replies file, so a killed run loses nothing and this stage may always start afresh.
"""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

from data_prep.annotator import AnnotatorSettings, Item, annotate
from data_prep.checks import gold_problem
from data_prep.collect import COMMIT_SECONDS
from data_prep.settings import Settings
from data_prep.spool import Spool
from ier1_plugin.task.schema import Decomposition


def ask_annotator(settings: Settings, spool: Spool, replies: Path) -> None:
    """Sets the gold of every row that has none, or why it gets none. AnnotatorError: the run can't go on."""
    total = spool.pending_count()
    if not total or settings.annotator is None:
        return
    asked = AnnotatorSettings(
        settings.annotator, settings.base_url, concurrency=settings.concurrency, votes=settings.votes, total=total
    )
    items = (Item(row.id, row.request, spool.image(row)) for row in spool.pending())
    last = time.monotonic()
    with closing(annotate(items, asked, replies)) as results:  # pyright: ignore[reportArgumentType]
        for id, result in results:
            spool.set_gold(id, *_judged(result))
            if time.monotonic() - last > COMMIT_SECONDS:
                spool.commit()
                last = time.monotonic()
    spool.commit()


def _judged(result: Decomposition | str) -> tuple[str | None, str | None]:
    """(gold, None) or (None, why there is none)."""
    if isinstance(result, str):
        return None, result
    problem = gold_problem(result)
    return (None, problem) if problem else (result.to_json(), None)
