"""Tables as a report prints them: estimates in, cells of text out; and those as Markdown or LaTeX (booktabs).

table = scores_table(estimates, judges)
table.cells.loc[("flux-kontext", "ImageEdit-R1"), ("psr", "gpt-4o")]
# Cell(("8.23", "[8.11, 8.34]", "100 %"), "best")
markdown(table)    # | flux-kontext | ImageEdit-R1 | **8.23** [8.11, 8.34] 100 % | ...
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd

from ier1_plugin.evaluation.report.comparisons import Row
from ier1_plugin.evaluation.report.estimates import AVERAGE, FAILURES_AS_0, Column
from ier1_plugin.evaluation.scores import Frame, Scores

UNDEFINED = "n/a"
GAIN = "Gain"
STUB = ("Edit model", "Method")
FULL_COVERAGE = 0.95
"""Below this coverage a table's title says how much of it is missing."""
INTERVALS = (
    "Mean [95 % bootstrap interval over requests, resampled by cluster: post, photo or crop] and coverage: the share "
    "of items that have a score."
)
RUNS = (
    "Runs: the mean of each run, the gain of each over the same run of the reference; intervals are over requests, "
    "not over trainings."
)
# a longer label is broken into lines in LaTeX: one long name would shrink the whole table
LONGEST = 36
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
class Cell:
    """The lines of a cell: a number, and in small print its interval, coverage or test, single runs."""

    lines: tuple[str, ...]
    marks: str = ""
    """Any of "best"; "warn": too many scores are missing; "up" or "down": the interval of a gain leaves 0 out."""

    def __str__(self) -> str:
        return " ".join(line for line in self.lines if line)


@dataclass(frozen=True)
class Table:
    """Ready to be printed."""

    title: str
    cells: Frame
    """Of Cell; rows by (group, label), whose levels have names, and columns by (head, line below it)."""
    caption: str = ""
    quoted: bool = False
    """True: figures published by somebody else."""

    @property
    def is_grouped(self) -> bool:
        return any(group for group, _ in self.cells.index)

    @property
    def has_subs(self) -> bool:
        """Whether any head has a line below it."""
        return any(sub for _, sub in self.cells.columns)

    @property
    def heads(self) -> list[tuple[str, int]]:
        """Each head and how many columns it spans."""
        return [(head, len(list(columns))) for head, columns in groupby(head for head, _ in self.cells.columns)]


def grid(columns: Sequence[tuple[str, str]], rows: Mapping[Any, Sequence[Cell]], names: Sequence[str] = STUB) -> Frame:
    """A frame of cells. `rows`: {(group, label): its cells}"""
    frame = pd.DataFrame(index=pd.MultiIndex.from_tuples(rows, names=names), columns=pd.MultiIndex.from_tuples(columns))
    for key, cells in rows.items():
        frame.loc[key, :] = cells
    return frame


def short_names(judges: Iterable[str]) -> dict[str, str]:
    """Judges without their provider and address, if they remain distinct: "gpt-4o" for "openai:gpt-4o"."""
    names = {judge: judge.rpartition("#")[2] if "#" in judge else judge.partition(":")[2] or judge for judge in judges}
    times = Counter(names.values())
    return {judge: name if times[name] == 1 else judge for judge, name in names.items()}


def warned(title: str, estimates: Frame) -> str:
    """The title, with the lowest coverage of a cell if that is too low."""
    coverage = estimates["coverage"].min()
    if not coverage < FULL_COVERAGE:
        return title
    return f"{title} [incomplete: a cell covers only {percent(coverage)} of its items]"


def scores_table(estimates: Frame, judges: Mapping[str, str], as_zero: bool = False) -> Table:
    """Means over scored items, or with failures as 0; the gain beside the average where a row has a reference."""
    kind = FAILURES_AS_0 if as_zero else ""
    best = {
        key: own.idxmax() if len(own) > 1 and own.notna().any() else None
        for key, own in estimates.groupby(["column", "judge"])[f"mean{kind}"]
    }
    heads = [*dict.fromkeys(zip(estimates["column"], estimates["judge"], strict=True))]
    has_gain = bool((estimates["reference"] != "").any()) and heads[-1][0] == AVERAGE
    rows = {}
    for key, own in estimates.groupby(["group", "row"], sort=False):
        cells = [_mean(cell, kind, best[cell["column"], cell["judge"]] == place) for place, cell in own.iterrows()]
        last = own.iloc[-1]
        rows[key] = [*cells, *([_gain(last, kind) if last["reference"] else Cell(("",))] if has_gain else [])]
    title, caption = estimates["table"].iloc[0], f"{INTERVALS} Items without a score are left out."
    if as_zero:
        title += ", items without a score as 0"
        caption = f"{INTERVALS} Items without a score count as 0, those that are not judged yet among them."
    if has_gain:
        items = "all items that both were given" if as_zero else "the items that both have a score for"
        caption += f" Gain: mean paired difference on {items}; p: sign-flip permutation test; n: pairs of scores."
    if not as_zero and estimates["runs"].map(len).any():
        caption += f" {RUNS}"
    columns = [(head, judges.get(sub, sub)) for head, sub in heads] + [(GAIN, "over the reference")] * has_gain
    return Table(warned(title, estimates), grid(columns, rows), caption)


def gains_table(estimates: Frame, judges: Mapping[str, str]) -> Table | None:
    """The gain in every column, of the rows that have a reference; None without any."""
    columns = zip(estimates["column"], estimates["judge"], strict=True)
    heads = dict.fromkeys((head, judges.get(sub, sub)) for head, sub in columns)
    compared = estimates[estimates["reference"] != ""].groupby(["group", "row"], sort=False)
    rows = {key: [_gain(cell, "") for _, cell in own.iterrows()] for key, own in compared}
    caption = (
        "Mean paired difference on the items that both have a score for [95 % bootstrap interval by cluster: post, "
        "photo or crop], two-sided p of a sign-flip permutation test by cluster, not corrected for the number of "
        "tests; n: pairs of scores."
    )
    title = warned("Gain over the original, by benchmark and judge", estimates)
    return Table(title, grid([*heads], rows), caption) if rows else None


def coverage_table(scores: Scores, columns: Sequence[Column], rows: Sequence[Row], judges: Mapping[str, str]) -> Table:
    """How many items have a score, and why the others have none."""
    asked = dict(iter(scores.by_item.groupby(["benchmark", "judge", "system"])))
    cells = {}
    for row in rows:
        own = cells[row.group, row.label] = []
        for column in columns:
            runs = [asked[key] for name in row.systems if (key := (column.benchmark, column.judge, name)) in asked]
            if not runs:
                own.append(Cell((UNDEFINED,)))
                continue
            items = pd.concat(runs)
            share = items["total"].notna().mean()
            reasons = Counter(reason.partition(":")[0] for reason in items["reason"].dropna())
            notes = [f"{count:,} {reason}" for reason, count in reasons.most_common()] or [f"all {len(items):,}"]
            if items["spread"].notna().any():
                notes.append(f"± {np.mean([run['spread'].mean() for run in runs]):.2f} between samples")
            own.append(Cell((percent(share), "", ", ".join(notes)), "warn" if share < FULL_COVERAGE else ""))
    heads = [(column.head, judges[column.judge]) for column in columns]
    caption = "Items with a score, of those that were to get one, and why the others have none."
    return Table("Coverage, and why items have no score", grid(heads, cells), caption)


def wide_csv(estimates: Frame, judges: Mapping[str, str]) -> str:
    """The table in its printed layout: for each column mean, coverage, and the mean with failures as 0, with
    intervals."""
    names = {"mean": "", "low": " low", "high": " high", "coverage": " coverage"}
    names |= {f"{name}{FAILURES_AS_0}": f" failures as 0{names[name]}" for name in ("mean", "low", "high")}
    gains = {"gain": GAIN, "gain_low": f"{GAIN} low", "gain_high": f"{GAIN} high", "p": f"{GAIN} p"}
    lines = []
    for (group, label), own in estimates.groupby(["group", "row"], sort=False):
        line = dict(zip(STUB, (group, label), strict=True))
        for cell in own.to_dict("records"):
            head = f"{cell['column']}, {judges[cell['judge']]}" if cell["judge"] else cell["column"]
            line |= {f"{head}{words}": cell[name] for name, words in names.items()}
        lines.append(line | {words: own.iloc[-1][name] for name, words in gains.items()})
    return pd.DataFrame(lines).to_csv(index=False, float_format="%.6g")


def long_csv(tables: Sequence[Frame]) -> str:
    """A row for each cell of each table; what is undefined is an empty field."""
    frame = pd.concat([one.assign(table=warned(one["table"].iloc[0], one)) for one in tables])
    for name in ("runs", "gain_of_runs"):
        frame[name] = frame[name].map(lambda runs: "; ".join(f"{one:.6g}" if one == one else "" for one in runs))
    return frame.to_csv(index=False, float_format="%.6g")


def _mean(cell: Frame, kind: str, best: bool) -> Cell:
    coverage = percent(cell["coverage"]) if cell["items"] else ""
    marks = "warn" if cell["coverage"] < FULL_COVERAGE else ""
    if not math.isfinite(cell[f"mean{kind}"]):
        return Cell((UNDEFINED, "", coverage), marks)
    interval = bounds(cell[f"low{kind}"], cell[f"high{kind}"])
    runs = "" if kind else _runs(cell["runs"], number)
    return Cell((number(cell[f"mean{kind}"]), interval, coverage, runs), f"best {marks}".strip() if best else marks)


def _gain(cell: Frame, kind: str) -> Cell:
    gain, low, high, p, common = (
        cell[f"{name}{kind}"] for name in ("gain", "gain_low", "gain_high", "p", "common_items")
    )
    if not math.isfinite(gain):
        return Cell((UNDEFINED,))
    tested = ", ".join(part for part in (p_text(p), f"n = {common:,.0f}") if part)
    runs = "" if kind else _runs(cell["gain_of_runs"], signed)
    return Cell(
        (signed(gain), bounds(low, high, signed), tested, runs), "up" if low > 0 else "down" if high < 0 else ""
    )


def _runs(values: Sequence[float], form: Callable[[float], str]) -> str:
    printed = ", ".join(form(value) if math.isfinite(value) else UNDEFINED for value in values)
    return f"runs {printed}" if printed else ""


def percent(share: float) -> str:
    """Never rounded up: "100 %" only where nothing is missing."""
    if not math.isfinite(share):
        return UNDEFINED
    # 1000 * 0.285 is a hair less than 285
    return "100 %" if share == 1 else f"{math.floor(1000 * share + 1e-9) / 10:.1f} %"


def p_text(p: float) -> str:
    if not math.isfinite(p):
        return ""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def number(value: float, sign: str = "") -> str:
    """ "1.02", "−0.18", and "0.00" for what rounds to nothing."""
    text = f"{value:{sign}.2f}"
    return "0.00" if text.strip("+-") == "0.00" else text.replace("-", "−")


def bounds(low: float, high: float, form: Callable[[float], str] = number) -> str:
    return f"[{form(low)}, {form(high)}]" if math.isfinite(low) else f"[{UNDEFINED}]"


def signed(value: float) -> str:
    """ "+1.02" """
    return number(value, "+")


def markdown(table: Table) -> str:
    """A heading, the table and its caption."""
    cells = table.cells if table.is_grouped else table.cells.droplevel(0)
    lines = [[*cells.index.names, *(f"{head}, {sub}" if sub else head for head, sub in cells.columns)]]
    lines.append(["---"] * cells.index.nlevels + ["---:"] * cells.shape[1])
    for key, row in cells.iterrows():
        printed = [f"**{one.lines[0]}** {Cell(one.lines[1:])}" if "best" in one.marks else str(one) for one in row]
        lines.append([*(key if table.is_grouped else [key]), *printed])
    text = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
    return "\n".join([f"### {table.title}", "", *text, "", *([table.caption, ""] if table.caption else [])])


def latex(table: Table, label: str) -> str:
    r"""A table* with \toprule and the rest of booktabs; heads that neighbours share are set over them."""
    cells = table.cells.map(_latex_cell)
    if not table.is_grouped:
        cells = cells.droplevel(0)
    method = escaped(cells.index.names[-1])
    cells.index = cells.index.set_names([None] * cells.index.nlevels)
    labels = cells.index.nlevels - 1
    cells = cells.rename(index=escaped, level=0) if labels else cells
    cells = cells.rename(index=_latex_label, level=labels).rename(columns=escaped)
    if table.has_subs:
        cells.columns = cells.columns.set_names(["", method])
    else:
        cells.columns = pd.Index([head for head, _ in cells.columns], name=method)
    body = cells.style.to_latex(
        hrules=True,
        multicol_align="c",
        multirow_align="naive",
        column_format="l" * cells.index.nlevels + "c" * cells.shape[1],
        clines="skip-last;data" if labels else None,
    )
    body = re.sub(r"\\cline\{\S+\}", r"\\midrule", body).replace("\\midrule\n\\bottomrule", "\\bottomrule").rstrip()
    # LaTeX counts tables itself
    title = re.sub(r"^Table \d+\. ", "", table.title)
    return (
        "\\begin{table*}\n\\centering\\small\n"
        f"\\caption{{{escaped(f'{title}. {table.caption}'.strip())}}}\\label{{tab:{label}}}\n\\par\\medskip\n"
        # a wide table shrinks, a small one does not grow
        "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%\n"
        f"{body}}}\n\\end{{table*}}\n"
    )


def escaped(text: str) -> str:
    """Text as LaTeX prints it."""
    return "".join(LATEX.get(character, character) for character in text)


def _latex_label(label: str) -> str:
    return f"\\parbox[t]{{45mm}}{{\\raggedright {escaped(label)}\\strut}}" if len(label) > LONGEST else escaped(label)


def _latex_cell(cell: Cell) -> str:
    main, *below = [escaped(line) for line in cell.lines if line] or [""]
    main = f"\\textbf{{{main}}}" if "best" in cell.marks else main
    lines = r"\\".join([main, *(f"{{\\tiny {line}}}" for line in below)])
    # by its first line in line with the label
    return f"\\begin{{tabular}}[t]{{@{{}}c@{{}}}}{lines}\\end{{tabular}}" if below else main
