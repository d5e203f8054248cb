"""The public sets of edit requests: which column holds what. The builder of training rows and the benchmarks read them.

TABLES["psr"].request    # "instruction"
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """Which column holds what; several columns of an id are joined."""

    image: str
    request: str
    id: tuple[str, ...] = ()
    """() or absent in a row: the number of the row."""
    group: tuple[str, ...] = ()
    """What the split must not tear apart; () or absent in a row: the image's file, else the id."""
    split: str | None = None
    """Split of the hub set that is read where `--split` is not given; None: train."""
    once: bool = False
    """True where the set repeats a request for each of its edits: one row for each id and request, the rest is passed
    over."""


# columns as their cards on the hub list them, November 2026; RealEdit's are those that its inference script reads
TABLES = {
    "jsonl": Table("image", "request", id=("id",), group=("group",)),
    "psr": Table("source_image", "instruction", id=("post_id",), group=("post_id",), split="test", once=True),
    "realedit": Table("input_image_name", "instruction", id=("input_image_name",), group=("input_image_name",)),
    "ultraedit": Table("source_image", "edit_prompt", id=("idx",), group=("source_caption",), split="FreeForm_0"),
    "magicbrush": Table("source_img", "instruction", id=("img_id", "turn_index"), group=("img_id",)),
    "omniedit": Table("src_img", "edited_prompt_list", id=("omni_edit_id",)),
    "anyedit": Table("image_file", "edit"),
}
