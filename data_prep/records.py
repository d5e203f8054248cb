"""What a source yields: a raw row, or a row that it could not read.

    RawRow(id="psr-1f3k", source="psr", request="please remove the lamp", image=b"\\x89PNG...", group="psr-1f3k")
    Rejected(id="jsonl-12", reason="line 12 is not JSON: Expecting value", row={"line": 12, "text": "{oops"})

A source is a callable `(settings) -> Iterator[RawRow | Rejected]`; `data_prep.sources.SOURCES` lists them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ier1_plugin.data.tables import Rejected, TableError
from ier1_plugin.task.schema import Decomposition

__all__ = ["SPLITS", "BuildError", "RawRow", "Rejected"]

SPLITS = ("train", "val")


BuildError = TableError
"""The build can't go on, be it for a table or for something else."""


@dataclass(frozen=True)
class RawRow:
    """One edit request as its source has it: nothing checked, nothing decoded."""

    id: str
    """Unique within its source; the same on every run."""
    source: str
    """Where it comes from; the `source` column of the RL rows."""
    request: str
    image: bytes | Path
    """The encoded image, or the file that holds it."""
    group: str
    """What must not be torn apart by the split: the photo or the post that the row belongs to."""
    gold: Decomposition | None = None
    """None: the annotator is asked."""
    split: str | None = None
    """"train" or "val" where the source decides; None: `--val-fraction` does."""
