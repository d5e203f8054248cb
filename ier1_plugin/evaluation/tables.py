"""Tables as text: a Grid in; Markdown, LaTeX (booktabs) or CSV out.

    grid = Grid("Scores", (Head("psr", "gpt-4o"), Head("Average")),
                (Line("flux-kontext", "Original", (Text("6.29", "[6.01, 6.55]", "100 %"), Text("7.21"))),))
    markdown(grid)    # | flux-kontext | Original | 6.29 [6.01, 6.55] 100 % | 7.21 |

Nothing is computed here; see `grids.py` for what stands in the cells.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

UNDEFINED = "n/a"
GROUP, LABEL = "Edit model", "Method"
LINE_END = r"\\"
LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": "$-$",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    # at the start of a cell it would be an argument of the line break before it
    "[": "{[}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


@dataclass(frozen=True)
class Head:
    """Of a column; neighbours with the same `top` share it."""

    top: str
    sub: str = ""


@dataclass(frozen=True)
class Text:
    """What stands in a cell."""

    main: str
    small: str = ""
    """Below it, such as an interval."""
    note: str = ""
    """Below that, such as the coverage."""
    best: bool = False
    warn: bool = False
    """True: read with care, as too many scores are missing."""
    tone: str = ""
    """ "up" or "down" for a difference whose interval leaves 0 out."""

    def __str__(self) -> str:
        return " ".join(part for part in (self.main, self.small, self.note) if part)


@dataclass(frozen=True)
class Line:
    """A row."""

    group: str
    label: str
    texts: tuple[Text, ...]


@dataclass(frozen=True)
class Grid:
    """A table, ready to be printed."""

    title: str
    heads: tuple[Head, ...]
    lines: tuple[Line, ...]
    caption: str = ""
    names: tuple[str, str] = (GROUP, LABEL)
    """What groups and labels are."""
    quoted: bool = False
    """True: figures that somebody else has published."""

    @property
    def grouped(self) -> bool:
        return any(line.group for line in self.lines)

    @property
    def tops(self) -> list[tuple[str, int]]:
        """Each head over its columns, and how many those are."""
        return [(top, len(list(heads))) for top, heads in groupby(self.heads, lambda head: head.top)]


def markdown(grid: Grid) -> str:
    """A heading, the table and its caption."""
    heads = [f"{head.top}, {head.sub}" if head.sub else head.top for head in grid.heads]
    stubs = list(grid.names if grid.grouped else grid.names[1:])
    rows = [[*_stub(grid, line), *(_markdown_cell(text) for text in line.texts)] for line in grid.lines]
    table = [[*stubs, *heads], [*("---" for _ in stubs), *("---:" for _ in heads)], *rows]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table]
    return "\n".join([f"### {grid.title}", "", *lines, "", *([grid.caption, ""] if grid.caption else [])])


def latex(grid: Grid, label: str) -> str:
    r"""A table* with \toprule and the rest of booktabs; heads that neighbours share are set over them."""
    stubs = 1
    tops = " & ".join(["", *(_spanning(top, width) for top, width in grid.tops)])
    subs = " & ".join([escaped(grid.names[1]), *(escaped(head.sub) for head in grid.heads)])
    lines = [
        "\\begin{table*}",
        "\\centering\\small",
        f"\\caption{{{escaped(grid.title)}. {escaped(grid.caption)}}}\\label{{tab:{label}}}",
        "\\resizebox{\\linewidth}{!}{%",
        f"\\begin{{tabular}}{{l{'c' * len(grid.heads)}}}",
        "\\toprule",
        f"{tops} \\\\",
        " ".join(_rules(grid, stubs)),
        f"{subs} \\\\",
        *_latex_body(grid),
        "\\bottomrule",
        "\\end{tabular}}",
        "\\end{table*}",
    ]
    return "\n".join(line for line in lines if line) + "\n"


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Rows as CSV with the line ends that spreadsheets and git both take."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()


def escaped(text: str) -> str:
    """Text as LaTeX prints it."""
    return "".join(LATEX.get(character, character) for character in text)


def _stub(grid: Grid, line: Line) -> list[str]:
    return [line.group, line.label] if grid.grouped else [line.label]


def _markdown_cell(text: Text) -> str:
    return str(replace(text, main=f"**{text.main}**")) if text.best else str(text)


def _spanning(top: str, width: int) -> str:
    return f"\\multicolumn{{{width}}}{{c}}{{{escaped(top)}}}"


def _rules(grid: Grid, first: int) -> list[str]:
    """A thin line under each head that several columns share."""
    rules, column = [], first + 1
    for _, width in grid.tops:
        if width > 1:
            rules.append(f"\\cmidrule(lr){{{column}-{column + width - 1}}}")
        column += width
    return rules


def _latex_body(grid: Grid) -> list[str]:
    lines = []
    for group, members in groupby(grid.lines, lambda line: line.group):
        lines.append("\\midrule")
        if group:
            lines.append(f"\\multicolumn{{{len(grid.heads) + 1}}}{{l}}{{\\textit{{{escaped(group)}}}}} \\\\")
        lines += [" & ".join([escaped(line.label), *map(_latex_cell, line.texts)]) + " \\\\" for line in members]
    return lines


def _latex_cell(text: Text) -> str:
    main = f"\\textbf{{{escaped(text.main)}}}" if text.best else escaped(text.main)
    below = [f"{{\\tiny {escaped(part)}}}" for part in (text.small, text.note) if part]
    return f"\\shortstack{{{LINE_END.join([main, *below])}}}" if below else main
