"""Reads and checks rows with Ray Data, and gives them back in the order in which one process comes by them.

    for shard, entry, image in checked(shards(settings), skip=0, limit=None, settings=settings): ...

What concerns all rows (repeated ids, duplicates, splits, their order) is not done here. Errors travel as rows: the one
that ends a build is that of the first row that would end it in one process, and none if `--limit` comes before it.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import data_prep
from data_prep.checks import check
from data_prep.settings import Settings
from data_prep.sources import Shard
from data_prep.staging import Entry
from ier1_plugin.runs.cluster import connected
from ier1_plugin.runs.errors import UserError, with_class
from ier1_plugin.task.rows import CASE_IMAGES

# of rows between tasks: a table of a million image paths makes some hundred tasks, and no node holds many at a time
BLOCK_BYTES = 4 << 20
# it waits for disks; and with another number than checks have, Ray Data doesn't make one task of both
READING_CPUS = 0.5


def checked(
    shards: Sequence[Shard], skip: int, limit: int | None, settings: Settings
) -> Generator[tuple[int, Entry, bytes], None, None]:
    """(number of the shard, entry, image) of each row after the first `skip` of the first shard; no more than `limit`
    of any shard. Inputs, OUTPUT and the folder of the command must be what every node finds under the same path.
    UserError: they are not, or Ray fails.
    """
    # data_prep is installed nowhere, so it travels with the job
    with connected(runtime_env={"py_modules": [str(Path(data_prep.__file__).parent)]}):
        import ray
        from ray.exceptions import RayError

        context = ray.data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.target_max_block_size = BLOCK_BYTES
        pieces = [
            {"piece": pickle.dumps((number, shard, 0 if number else skip, limit))}
            for number, shard in enumerate(shards)
        ]
        rows = (
            ray.data.from_items(pieces, override_num_blocks=len(pieces))
            .flat_map(partial(_read, os.getcwd()), num_cpus=READING_CPUS)
            .map(partial(_check, os.getcwd(), settings), num_cpus=1)
        )
        try:
            for row in rows.iter_rows():
                number, result = pickle.loads(row["row"])
                if isinstance(result, Exception):
                    raise result
                entry, image = result
                _rule_out_another_disk(settings, entry)
                yield number, entry, image
        except RayError as error:
            # what a worker raised, without the way that it took
            cause = with_class(getattr(error, "cause", error))
            raise UserError(f"Ray gave up: {cause}; run the same command again to continue") from error


def _rule_out_another_disk(settings: Settings, entry: Entry) -> None:
    """UserError: the node that made this entry does not see the files that this one sees."""
    lacking = [file for file in entry.image.split("\0") if entry.stamp == "" and os.path.isfile(file)]
    if entry.case_image and not (photo := settings.output / CASE_IMAGES / entry.case_image).is_file():
        lacking.append(str(photo))
    if lacking:
        raise UserError(
            f"a node of the Ray cluster has other files than this one at {lacking[0]}: --ray needs a file "
            "system that all of them share"
        )


def _read(folder: str, piece: dict[str, Any]) -> Iterator[dict[str, Any]]:
    number, shard, skip, limit = pickle.loads(piece["piece"])
    # relative paths in the input mean the same everywhere
    with suppress(OSError):
        os.chdir(folder)
    try:
        for row in islice(shard(), skip, None if limit is None else skip + limit):
            yield {"row": pickle.dumps((number, row))}
    except Exception as error:
        yield {"row": pickle.dumps((number, error))}


def _check(folder: str, settings: Settings, row: dict[str, Any]) -> dict[str, Any]:
    number, result = pickle.loads(row["row"])
    with suppress(OSError):
        os.chdir(folder)
    if not isinstance(result, Exception):
        try:
            result = check(result, settings)
        except Exception as error:
            result = error
    return {"row": pickle.dumps((number, result))}
