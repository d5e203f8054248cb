"""One row of a benchmark's table as an item, with its images as they are stored.

draft_of("psr-1f3k", SETS["psr"], columns, line)
-> Draft(id="psr-1f3k", request="remove the lamp", cluster="1f3k", image=b"\\x89PNG...", difficulty="low", ...)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from ier1_plugin.data.image_cells import DATA_URL, image_of
from ier1_plugin.data.tables import Line, Rejected
from ier1_plugin.evaluation.benchmarks.sets import EditSet, texts_of
from ier1_plugin.evaluation.records import EvaluationError

NEEDED = ("image", "request")
SHOWN = 60
Pixels = bytes | Path | Image.Image
Columns = Mapping[str, tuple[str, ...]]
"""Role -> the columns that may have it."""


@dataclass(frozen=True)
class RawItem:
    """An item with its images as they are stored. Several of one id: only the human edits of the later ones count."""

    id: str
    request: str
    cluster: str
    image: Pixels
    actions: tuple[str, ...] = ()
    difficulty: str = ""
    human: tuple[Pixels, ...] = ()
    gold: Pixels | None = None
    problems: tuple[str, ...] = ()
    """Why human edits were left out; the item is used all the same."""


def draft_of(id: str, edit_set: EditSet, columns: Columns, line: Line) -> RawItem | Rejected:
    """The item, or why the row is none. EvaluationError: no row of this table can be one."""
    gold = _found("gold", columns, line)
    try:
        request, image = _request(_cell("request", columns, line), edit_set), _cell("image", columns, line)
        _check_hub(image, columns, line)
        human, problems = _human(edit_set, columns, line)
        return RawItem(
            id=id,
            request=request,
            cluster="-".join(texts(columns["cluster"], line.row)) or id,
            image=image_of(image, line.folder),
            actions=texts_of(_found("actions", columns, line)),
            difficulty=str(_found("difficulty", columns, line) or ""),
            human=human,
            gold=image_of(gold, line.folder) if gold else None,
            problems=problems,
        )
    except EvaluationError:
        raise
    except ValueError as error:
        return Rejected(id, str(error))


def check_columns(columns: Columns, there: Iterable[str], named: Iterable[str] = ()) -> None:
    """EvaluationError: the table has no column for what an item can't do without, or none that the user named.

    `there`: all its columns. `named`: the roles whose columns the user named.
    """
    there = list(there)
    for role in dict.fromkeys((*NEEDED, *named)):
        if not any(column in there for column in columns[role]):
            found, asked = ", ".join(map(str, there)) or "none", " or ".join(columns[role])
            raise EvaluationError(f"there is no column {asked} (found: {found}); name the one: --columns {role}=NAME")


def texts(columns: tuple[str, ...], row: Mapping[str, Any]) -> list[str]:
    """The cells as texts; [] unless each is a text that is not blank, or a number."""
    cells = [row.get(column) for column in columns]
    usable = all(isinstance(cell, (str, int)) and str(cell).strip() for cell in cells)
    return [str(cell).strip() for cell in cells] if usable else []


def _request(cell: Any, edit_set: EditSet) -> str:
    words = edit_set.request_of(cell) if edit_set.request_of else cell
    if not isinstance(words, str) or not words.strip():
        raise ValueError(f"request is {words!r}; wanted a text")
    return words.strip()


def _human(edit_set: EditSet, columns: Columns, line: Line) -> tuple[tuple[Pixels, ...], tuple[str, ...]]:
    """The edits by people, and what is wrong with those that can't be had."""
    cell = _found("human", columns, line)
    if edit_set.joined_by and isinstance(cell, str):
        cell = cell.split(edit_set.joined_by)
    images: list[Pixels] = []
    problems = []
    for one in filter(None, cell if isinstance(cell, list) else [cell]):
        try:
            images.append(image_of(one, line.folder))
        except ValueError as error:
            problems.append(f"a human edit: {error}")
    return tuple(images), tuple(problems)


def _check_hub(cell: Any, columns: Columns, line: Line) -> None:
    """EvaluationError: the set on the hub has names or addresses where its images should be, and so in every row."""
    if line.folder is None and isinstance(cell, str) and not cell.startswith(DATA_URL):
        column = next(column for column in columns["image"] if line.row.get(column) is not None)
        raise EvaluationError(
            f"on the hub column {column} holds no image but {cell[:SHOWN]!r}: download the images and name the table "
            "beside them with --data FILE, or name the column that holds the image itself with --columns image=NAME"
        )


def _cell(role: str, columns: Columns, line: Line) -> Any:
    """What the row has of `role`. ValueError: nothing."""
    cell = _found(role, columns, line)
    if cell is None:
        raise ValueError(f"no {role}: {' or '.join(columns[role])} is missing")
    return cell


def _found(role: str, columns: Columns, line: Line) -> Any:
    return next((line.row[column] for column in columns[role] if line.row.get(column) is not None), None)
