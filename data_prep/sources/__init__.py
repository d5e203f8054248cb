"""Where raw rows come from: `SOURCES[name](settings, input)` yields the rows of one input, read one by one.

next(SOURCES["folder"](settings, "photos"))
-> RawRow(id="cat.jpg", source="folder", request="remove the lamp", image=Path("photos/cat.jpg"), group="cat.jpg")
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from data_prep.settings import SPLITS, RawRow, Settings
from data_prep.sources.folder import files_of, folder_rows
from data_prep.sources.rl_rows import rl_rows
from data_prep.sources.small_world import rows as small_world_rows
from data_prep.sources.tables import SOURCES as TABLE_SOURCES
from ier1_plugin.data.tables import Rejected, table_files

Source = Callable[[Settings, str], Iterator[RawRow | Rejected]]

SOURCES: dict[str, Source] = {**TABLE_SOURCES, "folder": folder_rows, "rl-rows": rl_rows, "photos": small_world_rows}
NEEDS_NO_INPUT = {"photos"}


def files_read(source: str, folder: Path) -> list[Path]:
    """The files of an input folder that the source reads; images that a table names are not among them."""
    if source == "folder":
        return files_of(folder)
    if source == "rl-rows":
        return [file for split in SPLITS if (file := folder / f"{split}.parquet").is_file()]
    return table_files(folder)
