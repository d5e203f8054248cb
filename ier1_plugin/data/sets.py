"""The public sets of edit requests, each described once: for the builder's sources and for the benchmarks.

    SETS["psr"].hub, SETS["psr"].columns["human"]        # "PSRDataset/PSR-328", ("human_edited_image",)
    columns = columns_of(SETS["psr"], {"request": "simplified_instruction"})     # what --columns says counts first
    for line in read(SETS["psr"].hub, "test", wanted_columns): ...               # data/tables.py
        texts(columns["id"], line.row)                   # ["1f3k"]: what an id is made of, [] without
        raw_item("psr-1f3k", SETS["psr"], columns, line)
    -> RawItem(id="psr-1f3k", request="remove the lamp", cluster="1f3k", image=b"\\x89PNG...", human=(b"...",), ...)

A set with `train_split` is a source of the builder (`data_prep/sources/tables.py`), one with `split` a benchmark. Roles
are ROLES; every other column is ignored. A new set is one more entry of SETS.

UltraEdit's four million rows lie in two thousand splits of two thousand rows. Drawing from all of them means
downloading all of them, so `split` may end with *, and `pick_splits` chooses `spread` of the splits that match: a
sample represents these, and the whole set only as far as its splits are alike. `split_in` finds the split that an
item's id names.

Columns as the sets' cards and their own evaluation scripts name them, November 2026. RealEdit's are those of local
files, as its repository (AyanaBharadwaj/RealEdit) reads them (inference.py: input_image_name, instruction) and writes
them (create_dataset.py: orig_img, instruction, and edit_images with | between the paths of the human edits). The card
of its hub copy could not be read; where the columns are others, the error names those that there are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from ier1_plugin.data.tables import BASE64_IMAGES, DATA_URL, Line, TableError, hub_splits, image_of
from ier1_plugin.runs.errors import one_line
from ier1_plugin.task.rows import order_key

ROLES = ("id", "cluster", "image", "request", "actions", "difficulty", "human", "gold")
NEEDED = ("image", "request")
MOST_COMPLEX = 8
"""Complex-Edit phrases each edit at eight levels, C1 to C8: how many atomic edits it is made of (its README)."""
SHOWN = 60

Pixels = bytes | Path | Image.Image
Columns = Mapping[str, tuple[str, ...]]
"""Role -> the columns that may fill it."""


@dataclass(frozen=True)
class EditSet:
    """A public set of edit requests."""

    columns: Columns
    """Those of the id are joined; for every other role the first that a row has counts."""
    hub: str = ""
    licence: str = ""
    """The licence of the data, as its card or repository says; "" where neither could be read."""
    train_split: str = ""
    """The split that the builder reads on the hub by default; "" if the set is not a source of training rows."""
    split: str = ""
    """The split that a benchmark reads on the hub. With a * at the end: some of the splits with this prefix."""
    spread: int = 1
    """How many of the matching splits are read."""
    where: Mapping[str, str] = field(default_factory=dict)
    """Column -> the value that a row must have to be an item of the benchmark."""
    grouped: bool = False
    """True: the rows of one id are the edits of one request. The benchmark takes the human edits of all of them, the
    builder one row."""
    joined_by: str = ""
    """The separator between the paths of several human edits in one cell."""
    request_of: Callable[[Any], str] | None = None
    """Reads the request from its cell; None: the cell is the request. ValueError: it holds none."""


@dataclass(frozen=True)
class RawItem:
    """An edit request with its images as they are stored. Several of one id: of the later ones only `human` counts."""

    id: str
    request: str
    cluster: str
    """The post or photo, whose items are not independent of each other. "" if the row does not say."""
    image: Pixels
    actions: tuple[str, ...] = ()
    difficulty: str = ""
    human: tuple[Pixels, ...] = ()
    gold: Pixels | None = None
    problems: tuple[str, ...] = ()
    """Why human edits were left out; the item is used anyway."""


def _columns(**roles: str | tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    return {role: (column,) if isinstance(column, str) else column for role, column in roles.items()}


def complex_edit(level: int) -> EditSet:
    """Complex-Edit at one level: test_real, or with `--split test_syn` the synthetic photos."""

    def request_of(cell: Any) -> str:
        try:
            return cell["compound"][level - 1]["compound_instruction"]
        except (LookupError, TypeError):
            raise ValueError(f"edit holds no compound instruction of level C{level}") from None

    columns = _columns(image="image", request="edit")
    return EditSet(columns, "UCSC-VLAA/Complex-Edit", split="test_real", request_of=request_of)


def columns_of(edit_set: EditSet, named: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The columns of every role; one that the user names replaces the set's own. TableError: no such role."""
    if unknown := sorted(set(named) - set(ROLES)):
        raise TableError(f"--columns: there is no {', '.join(unknown)}; known: {', '.join(ROLES)}")
    return {role: (named[role],) if role in named else edit_set.columns.get(role, ()) for role in ROLES}


def check_columns(columns: Columns, there: Iterable[str], roles: Iterable[str] = NEEDED) -> None:
    """TableError: none of the columns of a role is among those that are `there`."""
    there = list(there)
    for role in roles:
        if not any(column in there for column in columns[role]):
            wanted, found = " or ".join(columns[role]), one_line(", ".join(map(str, there))) or "none"
            raise TableError(f"there is no column {wanted} (found: {found}); name the one: --columns {role}=NAME")


def raw_item(id: str, edit_set: EditSet, columns: Columns, line: Line) -> RawItem:
    """The item of a row. ValueError: this row can't be used. TableError: no row of this table can."""
    request = _needed("request", columns, line)
    if edit_set.request_of:
        request = edit_set.request_of(request)
    if isinstance(request, (list, tuple)):
        # several wordings of one request
        request = next((text for text in request if isinstance(text, str) and text.strip()), "")
    if not isinstance(request, str):
        raise ValueError(f"request is not a text: {type(request).__name__}")
    image = _needed("image", columns, line)
    if not line.folders and isinstance(image, str) and not image.startswith((DATA_URL, *BASE64_IMAGES)):
        column = next(column for column in columns["image"] if line.row.get(column) is not None)
        raise TableError(
            f"on the hub column {column} holds no image but {image[:SHOWN]!r}: download the images and give the table "
            "beside them, or name the column that holds the image itself with --columns image=NAME"
        )
    cell, gold = (_first(columns[role], line.row) for role in ("human", "gold"))
    if edit_set.joined_by and isinstance(cell, str):
        cell = cell.split(edit_set.joined_by)
    human: list[Pixels] = []
    problems = []
    for one in filter(None, cell if isinstance(cell, list) else [cell]):
        try:
            human.append(image_of(one, line.folders))
        except ValueError as error:
            problems.append(f"a human edit: {error}")
    return RawItem(
        id=id,
        request=request,
        cluster=next((text for column in columns["cluster"] for text in texts((column,), line.row)), ""),
        image=image_of(image, line.folders),
        actions=labels(_first(columns["actions"], line.row)),
        difficulty=str(_first(columns["difficulty"], line.row) or ""),
        human=tuple(human),
        gold=image_of(gold, line.folders) if gold else None,
        problems=tuple(problems),
    )


def texts(columns: Iterable[str], row: Mapping[str, Any]) -> list[str]:
    """The cells as texts; [] unless each is a text that is not blank, or a number."""
    cells = [row.get(column) for column in columns]
    usable = all(isinstance(cell, (str, int)) and str(cell).strip() for cell in cells)
    return [str(cell).strip() for cell in cells] if usable else []


def labels(cell: Any) -> tuple[str, ...]:
    """One label or a list of them; "Delete, Add" are two."""
    items = re.split(r"\s*[,;]\s*", cell) if isinstance(cell, str) else cell if isinstance(cell, (list, tuple)) else ()
    return tuple(dict.fromkeys(item.strip() for item in items if isinstance(item, str) and item.strip()))


def pick_splits(hub: str, edit_set: EditSet, seed: int) -> list[str]:
    """`spread` of the splits that match the set's pattern, the same for the same seed. TableError: there are none."""
    known = [split for split in hub_splits(hub) if split_in(split, edit_set.split)]
    if not known:
        raise TableError(f"{hub} has no split {edit_set.split}; name one with --split")
    return sorted(known, key=lambda split: order_key(seed, split))[: edit_set.spread]


def split_in(name: str, pattern: str) -> str:
    """The split that a name begins with, as in FreeForm_91-7 or FreeForm_91-00000-of-00001; "" without a pattern."""
    split, start = name.partition("-")[0], pattern.removesuffix("*")
    return split if start != pattern and split.startswith(start) and split != start else ""


def _first(columns: Iterable[str], row: Mapping[str, Any]) -> Any:
    """The first cell that is not null, or None."""
    return next((row[column] for column in columns if row.get(column) is not None), None)


def _needed(role: str, columns: Columns, line: Line) -> Any:
    cell = _first(columns[role], line.row)
    if cell is not None:
        return cell
    if any(column in line.row for column in columns[role]):
        raise ValueError(f"no {role}: {' and '.join(filter(line.row.__contains__, columns[role]))} is null")
    try:
        check_columns(columns, line.columns or line.row, [role])
    except TableError as error:
        raise error if line.columns else ValueError(f"no {role}: {error}") from None
    return None


SETS: dict[str, EditSet] = {
    # one's own files
    "jsonl": EditSet(
        _columns(id="id", cluster=("cluster", "group"), image=("image", "images"), request=("request", "instruction"))
        | _columns(actions="actions", difficulty="difficulty", human="human_images", gold="gold_image"),
        train_split="train",
    ),
    # 10,405 rows: 328 posts x AI edits x human edits
    "psr": EditSet(
        _columns(id="post_id", cluster="post_id", image="source_image", request="instruction")
        | _columns(difficulty="creativity_index", human="human_edited_image"),
        "PSRDataset/PSR-328",
        "CC BY-NC-SA 4.0",
        train_split="test",
        split="test",
        grouped=True,
    ),
    "realedit": EditSet(
        _columns(id="input_image_name", cluster="input_image_name", image=("input_image_name", "orig_img"))
        | _columns(request="instruction", human="edit_images"),
        "peter-sushko/RealEdit",
        train_split="train",
        split="test",
        joined_by="|",
    ),
    # FreeForm_0, FreeForm_1, ...: 2,000 rows each, 4 million in all
    "ultraedit": EditSet(
        _columns(id="idx", cluster="source_caption", image="source_image", request="edit_prompt"),
        "BleachNick/UltraEdit",
        "CC BY 4.0",
        train_split="FreeForm_0",
        split="FreeForm_*",
        spread=4,
    ),
    # its test split is a download of its own; target_img was made by people with DALL-E 2
    "magicbrush": EditSet(
        _columns(id=("img_id", "turn_index"), cluster="img_id", image="source_img", request="instruction")
        | _columns(human="target_img"),
        "osunlp/MagicBrush",
        "CC BY 4.0",
        train_split="train",
        split="dev",
    ),
    "omniedit": EditSet(
        _columns(id="omni_edit_id", image="src_img", request="edited_prompt_list"),
        "TIGER-Lab/OmniEdit-Filtered-1.2M",
        "MIT",
        train_split="train",
    ),
    "anyedit": EditSet(
        _columns(image="image_file", request="edit"), "Bin1117/AnyEdit", "CC BY 4.0", train_split="train"
    ),
    "gedit": EditSet(
        _columns(id="key", cluster="key", image="input_image_raw", request="instruction", actions="task_type"),
        "stepfun-ai/GEdit-Bench",
        "MIT",
        split="train",
        # the other half are the same requests in Chinese
        where={"instruction_language": "en"},
    ),
    "complex-edit": complex_edit(MOST_COMPLEX),
    # rows of ImgEdit-Bench's basic_edit.json: {"1082": {"id": "animal/1.jpg", "prompt": ..., "edit_type": ...}}
    "imgedit": EditSet(_columns(id="key", cluster="id", image="id", request="prompt", actions="edit_type")),
}
