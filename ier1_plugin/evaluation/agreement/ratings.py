"""Ratings as a CSV file: the scores that raters and judges gave to items, one per line.

    item,rater,dimension,score,group
    17/flux,rater-1,fulfilment,3,Delete
    17/flux,judge:openai:gpt-4o-2024-11-20,fulfilment,4,Delete

`group` may be missing; it is the item's, such as an action, a system or a post. A missing rating has no line. Raters
named `judge:NAME` are judges, all others are humans; a near miss, such as `Judge: gpt`, is refused, as it would count
as a human.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

from ier1_plugin.data.tables import NOT_UTF8, open_text
from ier1_plugin.evaluation.records import EvaluationError
from ier1_plugin.runs.folder import write
from ier1_plugin.task.rows import without_surrogates

JUDGE = "judge:"
NEARLY_JUDGE = re.compile(r"judge\s*:\s*", re.IGNORECASE)
SHOWN = 60
# no scale goes so far, and the squares of such numbers overflow
HIGHEST = 1e9


@dataclass(frozen=True)
class Rating:
    """One score; `group` is "" where the table has none."""

    item: str
    rater: str
    dimension: str
    score: float
    group: str = ""


COLUMNS = tuple(field.name for field in fields(Rating))
REQUIRED = COLUMNS[:-1]
WANTED = f"wanted the columns {','.join(REQUIRED)}[,group], separated by commas"


def read_ratings(file: Path) -> list[Rating]:
    """All ratings of a CSV file in UTF-8, or in UTF-16 with a byte order mark; columns in any order.

    EvaluationError: a line or the table as a whole can't be used; the message names the line.
    """
    try:
        with open_text(file, "") as lines:
            text = lines.read()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text or without_surrogates(text) != text:
        raise EvaluationError(f"{file} {NOT_UTF8}")
    ratings: list[Rating] = []
    first_lines: dict[tuple[str, str, str], int] = {}
    groups: dict[str, tuple[str, int]] = {}
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        names = [name.strip() for name in next(rows, ())]
        if sorted(names) not in (sorted(REQUIRED), sorted(COLUMNS)):
            raise EvaluationError(f"{file} begins with {','.join(names)[:SHOWN]!r}; {WANTED}")
        for row in rows:
            if not any(cell.strip() for cell in row):
                continue
            line, where = rows.line_num, f"{file}, line {rows.line_num}"
            if len(row) != len(names):
                raise EvaluationError(f"{where}: {len(row)} cells; wanted {len(names)}, as in the header")
            one = _rating(where, {name: cell.strip() for name, cell in zip(names, row, strict=True)})
            first = first_lines.setdefault((one.item, one.rater, one.dimension), line)
            if first != line:
                raise EvaluationError(
                    f"{where}: {one.rater!r} rated {one.dimension} of {one.item!r} already in line {first}; wanted once"
                )
            group, first = groups.setdefault(one.item, (one.group, line))
            if group != one.group:
                raise EvaluationError(
                    f"{where}: {one.item!r} is of group {one.group!r}, but of {group!r} in line {first}"
                )
            ratings.append(one)
    except csv.Error as error:
        raise EvaluationError(f"{file}, line {rows.line_num}: not CSV: {error}") from None
    raters = sorted({rating.rater for rating in ratings})
    if len(raters) < 2:
        raise EvaluationError(f"{file} has ratings by {', '.join(raters) or 'nobody'}; wanted two raters or more")
    return ratings


def write_ratings(file: Path, ratings: Iterable[Rating]) -> None:
    """Writes the table; the file appears complete. Scores keep their digits, whole numbers have no decimal point."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(COLUMNS)
    for one in ratings:
        score = int(one.score) if float(one.score).is_integer() else one.score
        lines.writerow([one.item, one.rater, one.dimension, score, one.group])
    write(file, text.getvalue())


def _rating(where: str, cells: dict[str, str]) -> Rating:
    empty = next((name for name in REQUIRED if not cells[name]), None)
    if empty:
        hint = "; leave out the line of a rating that does not exist" if empty == "score" else ""
        raise EvaluationError(f"{where}: {empty} is empty{hint}")
    rater = cells["rater"]
    meant = NEARLY_JUDGE.match(rater)
    if meant and (meant[0] != JUDGE or rater == JUDGE):
        name = rater[meant.end() :] or "NAME"
        raise EvaluationError(f"{where}: rater is {rater[:SHOWN]!r}; a judge is written {JUDGE}{name}")
    try:
        score = float(cells["score"])
    except ValueError:
        score = math.nan
    # float() takes 1_0 for ten
    if not abs(score) <= HIGHEST or "_" in cells["score"]:
        raise EvaluationError(f"{where}: score is {cells['score'][:SHOWN]!r}; wanted a number such as 2 or 0.5")
    return Rating(cells["item"], rater, cells["dimension"], score, cells.get("group", ""))
