"""Tables as text: a Grid in; Markdown, LaTeX (booktabs) or CSV out.

    grid = Grid("Scores", (Head("psr", "gpt-4o"), Head("Average")),
                (Line("flux-kontext", "Original", (Text("6.29", "[6.01, 6.55]", "100 %"), Text("7.21"))),))
    markdown(grid)    # | flux-kontext | Original | 6.29 [6.01, 6.55] 100 % | 7.21 |

Nothing is computed here; see `grids.py` for what stands in the cells.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

UNDEFINED = "n/a"
GROUP, LABEL = "Edit model", "Method"
LINE_END = r"\\"
LONGEST = 36
# LaTeX counts tables itself
NUMBERED = re.compile(r"^Table \d+\. ")
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
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
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
    runs: str = ""
    """Below that, what stands for single runs."""
    best: bool = False
    warn: bool = False
    """True: read with care, as too many scores are missing."""
    tone: str = ""
    """ "up" or "down" for a difference whose interval leaves 0 out."""

    def __str__(self) -> str:
        return " ".join(part for part in (self.main, self.small, self.note, self.runs) if part)


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
    title = NUMBERED.sub("", grid.title)
    lines = [
        "\\begin{table*}",
        "\\centering\\small",
        f"\\caption{{{escaped(f'{title}. {grid.caption}'.strip())}}}\\label{{tab:{label}}}",
        "\\par\\medskip",
        # a wide table shrinks, a small one does not grow
        "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%",
        f"\\begin{{tabular}}{{l{'c' * len(grid.heads)}}}",
        "\\toprule",
        *_latex_heads(grid),
        *_latex_body(grid),
        "\\bottomrule",
        "\\end{tabular}}",
        "\\end{table*}",
    ]
    return "\n".join(line for line in lines if line) + "\n"


def percent(share: float) -> str:
    """Never rounded up: "100 %" only where nothing is missing."""
    if not math.isfinite(share):
        return UNDEFINED
    # 1000 * 0.285 is a hair less than 285
    return "100 %" if share == 1 else f"{math.floor(1000 * share + 1e-9) / 10:.1f} %"


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


def _latex_heads(grid: Grid) -> list[str]:
    if not any(head.sub for head in grid.heads):
        return [" & ".join([escaped(grid.names[1]), *(escaped(head.top) for head in grid.heads)]) + " \\\\"]
    tops = " & ".join(["", *(_spanning(top, width) for top, width in grid.tops)])
    subs = " & ".join([escaped(grid.names[1]), *(escaped(head.sub) for head in grid.heads)])
    return [f"{tops} \\\\", " ".join(_rules(grid, 1)), f"{subs} \\\\"]


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
        lines += [" & ".join([_latex_label(line.label), *map(_latex_cell, line.texts)]) + " \\\\" for line in members]
    return lines


def _latex_label(label: str) -> str:
    """Broken into lines where it is long: one long name would shrink the whole table."""
    return f"\\parbox[t]{{45mm}}{{\\raggedright {escaped(label)}\\strut}}" if len(label) > LONGEST else escaped(label)


def _latex_cell(text: Text) -> str:
    main = f"\\textbf{{{escaped(text.main)}}}" if text.best else escaped(text.main)
    below = [f"{{\\tiny {escaped(part)}}}" for part in (text.small, text.note, text.runs) if part]
    # by its first line in line with the label
    return f"\\begin{{tabular}}[t]{{@{{}}c@{{}}}}{LINE_END.join([main, *below])}\\end{{tabular}}" if below else main
