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
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from ier1_plugin.evaluation.records import EvaluationError
from ier1_plugin.runs.folder import write

JUDGE = "judge:"
NEARLY_JUDGE = re.compile(r"judge\s*:\s*", re.IGNORECASE)
MAX_SHOWN = 60
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
REQUIRED = COLUMNS[:-1]
WANTED = f"wanted {','.join(REQUIRED)}[,group]"


def read_ratings(file: Path) -> list[Rating]:
    """All ratings of a CSV file in UTF-8, with or without a byte order mark; columns in any order.

    EvaluationError: a line or the table as a whole can't be used; the message names the line.
    """
    try:
        # spreadsheets begin UTF-8 with a byte order mark
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise EvaluationError(f"{file} is not UTF-8 text; save it as CSV in UTF-8") from None
    if not text.strip():
        raise EvaluationError(f"{file} is empty; {WANTED} and a line for each rating")
    ratings: list[Rating] = []
    first_lines: dict[tuple[str, str, str], int] = {}
    groups: dict[str, tuple[str, int]] = {}
    for line, rating in _parse(file, text):
        key = rating.item, rating.rater, rating.dimension
        first = first_lines.setdefault(key, line)
        if first != line:
            what = f"{rating.rater!r} rated {rating.dimension} of {rating.item!r}"
            raise EvaluationError(f"{file}, line {line}: {what} already in line {first}; wanted once")
        group, first = groups.setdefault(rating.item, (rating.group, line))
        if group != rating.group:
            raise EvaluationError(
                f"{file}, line {line}: {rating.item!r} is of group {rating.group!r}, but of {group!r} in line {first}"
            )
        ratings.append(rating)
    if not ratings:
        raise EvaluationError(f"{file} has a header and no ratings")
    raters = sorted({rating.rater for rating in ratings})
    if len(raters) < 2:
        raise EvaluationError(f"{file} has one rater, {raters[0]!r}; agreement needs two or more")
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


def _parse(file: Path, text: str) -> Iterator[tuple[int, Rating]]:
    """(number of the line, rating)"""
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(rows)
        names = [name.strip() for name in header]
        if sorted(names) not in (sorted(REQUIRED), sorted(COLUMNS)):
            for mark, name in OTHER_DELIMITERS.items():
                if set(REQUIRED) <= {part.strip() for part in ",".join(header).split(mark)}:
                    raise EvaluationError(f"{file} separates its columns by {name}; {WANTED}, with commas")
            raise EvaluationError(f"{file} begins with {_short(','.join(header))}; {WANTED}")
        for row in rows:
            if not any(cell.strip() for cell in row):
                continue
            if len(row) != len(names):
                raise EvaluationError(
                    f"{file}, line {rows.line_num}: {len(row)} cells; wanted {len(names)}, as in the header"
                )
            cells = {name: cell.strip() for name, cell in zip(names, row, strict=True)}
            yield rows.line_num, _rating(f"{file}, line {rows.line_num}", cells)
    except csv.Error as error:
        raise EvaluationError(f"{file}, line {rows.line_num}: not CSV: {error}") from None


def _rating(where: str, cells: dict[str, str]) -> Rating:
    empty = next((name for name in REQUIRED if not cells[name]), None)
    if empty:
        hint = "; leave out the line of a rating that does not exist" if empty == "score" else ""
        raise EvaluationError(f"{where}: {empty} is empty{hint}")
    rater = cells["rater"]
    meant = NEARLY_JUDGE.match(rater)
    if meant and (meant[0] != JUDGE or rater == JUDGE):
        name = rater[meant.end() :] or "NAME"
        raise EvaluationError(f"{where}: rater is {_short(rater)}; a judge is written {JUDGE}{name}")
    try:
        score = float(cells["score"])
    except ValueError:
        score = math.nan
    # float() takes 1_0 for ten
    if not abs(score) <= HIGHEST or "_" in cells["score"]:
        raise EvaluationError(f"{where}: score is {_short(cells['score'])}; wanted a number such as 2 or 0.5")
    return Rating(cells["item"], rater, cells["dimension"], score, cells.get("group", ""))


def _short(text: str) -> str:
    return repr(text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…")
