"""Where raw rows come from: `SOURCES[name](settings, input)` yields the rows of one input, read one by one.

next(SOURCES["folder"](settings, "photos"))
-> RawRow(id="cat.jpg", source="folder", request="remove the lamp", image=Path("photos/cat.jpg"), group="cat.jpg")

`shards(settings)` yields the same rows in pieces that need not be read one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from data_prep.settings import SPLITS, RawRow, Settings
from data_prep.sources.folder import files_of, folder_rows
from data_prep.sources.rl_rows import rl_rows
from data_prep.sources.small_world import rows as small_world_rows
from data_prep.sources.tables import SOURCES as TABLE_SOURCES
from ier1_plugin.data.sets import SETS
from ier1_plugin.data.tables import Rejected, split_files, table_files

Shard = Callable[[], Iterator[RawRow | Rejected]]
Source = Callable[..., Iterator[RawRow | Rejected]]

SOURCES: dict[str, Source] = {**TABLE_SOURCES, "folder": folder_rows, "rl-rows": rl_rows, "photos": small_world_rows}
NEEDS_NO_INPUT = {"photos"}


def shards(settings: Settings) -> list[Shard]:
    """The rows of all inputs in their order: a shard for each table, or for an input that is none or whose rows repeat
    from table to table. They can be pickled. TableError: there are no tables in an input.
    """
    source, edit_set = partial(SOURCES[settings.source], settings), SETS.get(settings.source)
    found: list[Shard] = []
    for input in settings.inputs or ("",):
        if edit_set and not edit_set.grouped and Path(input).exists():
            found += [partial(source, input, file) for file in split_files(Path(input), settings.split)]
        else:
            found.append(partial(source, input))
    return found


def files_read(source: str, folder: Path) -> list[Path]:
    """The files of an input folder that the source reads; images that a table names are not among them."""
    if source == "folder":
        return files_of(folder)
    if source == "rl-rows":
        return [file for split in SPLITS if (file := folder / f"{split}.parquet").is_file()]
    return table_files(folder)
