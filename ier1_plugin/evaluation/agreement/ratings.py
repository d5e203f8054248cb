"""Ratings as a table of long CSV: what raters and judges gave to which item, a score a line.

    item,rater,dimension,score,group
    17/flux,rater-1,fulfilment,3,Delete
    17/flux,judge:openai:gpt-4o-2024-11-20,fulfilment,4,Delete

`group` may be missing; it is the item's, such as an action, a system or a post. A rating that does not exist has no
line. Raters named `judge:NAME` are judges, all others are humans; what is nearly that name, such as `Judge: gpt`, is
refused, as it would count as a human.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from ier1_plugin.evaluation.records import EvaluationError
from ier1_plugin.runs.folder import write

JUDGE = "judge:"
_MEANT_AS_JUDGE = re.compile(r"judge\s*:\s*", re.IGNORECASE)
SHOWN = 60
# no scale goes so far, and the squares of such numbers overflow
HIGHEST = 1e9
OTHER_DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "bars"}


@dataclass(frozen=True)
class Rating:
    """One score; `group` is "" where the table has none."""

    item: str
    rater: str
    dimension: str
    score: float
    group: str = ""

    @property
    def is_judge(self) -> bool:
        return self.rater.startswith(JUDGE)


COLUMNS = tuple(field.name for field in fields(Rating))
NEEDED = COLUMNS[:-1]


def read_ratings(file: Path) -> list[Rating]:
    """All ratings of a CSV file in UTF-8, with or without a byte order mark; columns in any order.

    EvaluationError: a line or the table as a whole can't be used; the message names the line.
    """
    ratings: list[Rating] = []
    seen: dict[tuple[str, str, str], int] = {}
    groups: dict[str, tuple[str, int]] = {}
    for line, rating in _parsed(file):
        _check_once(file, line, rating, seen)
        _check_group(file, line, rating, groups)
        ratings.append(rating)
    if not ratings:
        raise EvaluationError(f"{file} has a header and no ratings")
    raters = sorted({rating.rater for rating in ratings})
    if len(raters) < 2:
        raise EvaluationError(f"{file} has one rater, {raters[0]!r}; agreement wants two or more")
    return ratings


def write_ratings(file: Path, ratings: Iterable[Rating]) -> None:
    """Writes the table; the file appears whole. Scores keep their digits, whole numbers have no point."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(COLUMNS)
    for one in ratings:
        score = int(one.score) if float(one.score).is_integer() else one.score
        lines.writerow([one.item, one.rater, one.dimension, score, one.group])
    write(file, text.getvalue())


def _parsed(file: Path) -> Iterator[tuple[int, Rating]]:
    """(number of the line, rating)"""
    rows = csv.reader(io.StringIO(_text(file), newline=""), strict=True)
    try:
        columns = _columns(file, next(rows))
        for row in rows:
            if any(cell.strip() for cell in row):
                yield rows.line_num, _rating(file, rows.line_num, columns, row)
    except csv.Error as error:
        raise EvaluationError(f"{file}, line {rows.line_num}: not CSV: {error}") from None


def _text(file: Path) -> str:
    try:
        # spreadsheets begin UTF-8 with a byte order mark
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise EvaluationError(f"{file} is not UTF-8 text; save it as CSV in UTF-8") from None
    if not text.strip():
        raise EvaluationError(f"{file} is empty; wanted {','.join(NEEDED)}[,group] and a line for each rating")
    return text


def _columns(file: Path, header: list[str]) -> dict[str, int]:
    """Where each column stands."""
    names = [name.strip() for name in header]
    if sorted(names) in (sorted(NEEDED), sorted(COLUMNS)):
        return {name: place for place, name in enumerate(names)}
    wanted = f"wanted {','.join(NEEDED)}[,group]"
    for mark, called in OTHER_DELIMITERS.items():
        if set(NEEDED) <= {name.strip() for name in ",".join(header).split(mark)}:
            raise EvaluationError(f"{file} parts its columns by {called}; {wanted}, with commas")
    raise EvaluationError(f"{file} begins with {_short(','.join(header))}; {wanted}")


def _rating(file: Path, line: int, columns: dict[str, int], row: list[str]) -> Rating:
    if len(row) != len(columns):
        raise EvaluationError(f"{file}, line {line}: {len(row)} cells; wanted {len(columns)}, as in the header")
    cells = {name: row[place].strip() for name, place in columns.items()}
    empty = next((name for name in NEEDED if not cells[name]), None)
    if empty:
        hint = "; leave out the line of a rating that does not exist" if empty == "score" else ""
        raise EvaluationError(f"{file}, line {line}: {empty} is empty{hint}")
    _check_judge(file, line, cells["rater"])
    score = _number(file, line, cells["score"])
    return Rating(cells["item"], cells["rater"], cells["dimension"], score, cells.get("group", ""))


def _check_judge(file: Path, line: int, rater: str) -> None:
    meant = _MEANT_AS_JUDGE.match(rater)
    if meant and (meant[0] != JUDGE or rater == JUDGE):
        name = rater[meant.end() :] or "NAME"
        raise EvaluationError(f"{file}, line {line}: rater is {_short(rater)}; a judge is written {JUDGE}{name}")


def _number(file: Path, line: int, cell: str) -> float:
    try:
        number = float(cell)
    except ValueError:
        number = math.nan
    # float() takes 1_0 for ten
    if not abs(number) <= HIGHEST or "_" in cell:
        raise EvaluationError(f"{file}, line {line}: score is {_short(cell)}; wanted a number such as 2 or 0.5")
    return number


def _check_once(file: Path, line: int, rating: Rating, seen: dict[tuple[str, str, str], int]) -> None:
    key = rating.item, rating.rater, rating.dimension
    first = seen.setdefault(key, line)
    if first != line:
        what = f"{rating.rater!r} rated {rating.dimension} of {rating.item!r}"
        raise EvaluationError(f"{file}, line {line}: {what} already in line {first}; wanted once")


def _check_group(file: Path, line: int, rating: Rating, groups: dict[str, tuple[str, int]]) -> None:
    group, first = groups.setdefault(rating.item, (rating.group, line))
    if group != rating.group:
        was = f"{group!r} in line {first}"
        raise EvaluationError(f"{file}, line {line}: {rating.item!r} is of group {rating.group!r}, and {was}")


def _short(text: str) -> str:
    return repr(text if len(text) <= SHOWN else f"{text[:SHOWN]}…")
