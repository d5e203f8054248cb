"""The work of `ier1 report`: folders of evaluations -> one long table of scores -> estimates -> tables -> files.

    write_report([Path("evaluations/psr")], Path("report"), comparisons=Path("comparisons.yaml"), paper=True)
    -> report/index.html, report.md, tables.tex, table1.csv, scores.csv, figures/*.png; agreement.csv where there is one

index.html is self-contained: it can be mailed or moved. scores.csv has every number of every table, one row each.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from ier1_plugin.evaluation.costs import most_often
from ier1_plugin.evaluation.records import EvaluationError
from ier1_plugin.evaluation.report.agreement import agreement_table, read_agreement
from ier1_plugin.evaluation.report.comparisons import Comparison, Row, main_rows, read_comparisons, turn_comparison
from ier1_plugin.evaluation.report.estimates import estimates, main_columns, slices
from ier1_plugin.evaluation.report.page import page
from ier1_plugin.evaluation.report.paper import BESIDE, quoted_tables
from ier1_plugin.evaluation.report.tables import (
    Table,
    coverage_table,
    gains_table,
    latex,
    long_csv,
    markdown,
    scores_table,
    short_names,
    wide_csv,
)
from ier1_plugin.evaluation.scores import Frame, Scores, read_scores
from ier1_plugin.runs.folder import write
from ier1_plugin.task.images import data_url

PAGE, MARKDOWN, LATEX, WIDE, LONG = "index.html", "report.md", "tables.tex", "table1.csv", "scores.csv"
AGREEMENT, FIGURES = "agreement.csv", "figures"
TABLE_1 = "Table 1. Scores, 0 to 10, by benchmark and judge"
LATEX_NEEDS = (
    "% \\usepackage{booktabs,graphicx}; names in other scripts than Latin want lualatex and a font that has them\n"
)


def write_report(
    folders: Sequence[Path],
    out: Path,
    comparisons: Path | None = None,
    agreement: Path | None = None,
    paper: bool = False,
    examples: int = 3,
    seed: int = 0,
) -> tuple[list[Path], list[str]]:
    """Returns the files, the page first, and notes for the reader. UserError: a folder or file can't be used, or,
    once all is written, nothing in the folders has a score.

    `comparisons`: see comparisons.py; `agreement`: what `ier1 agreement --json` wrote; `paper`: with the paper's own
    figures, marked as quoted; `examples`: cases shown of each benchmark; `seed`: for resamples, permutations and
    examples.
    """
    trust = read_agreement(agreement) if agreement else None
    scores = read_scores(folders)
    rows, notes = main_rows(scores.systems)
    requested = read_comparisons(comparisons, scores.systems) if comparisons else []
    turns = turn_comparison(scores.systems, requested)

    # numbers
    columns = main_columns(scores, rows)
    main = estimates(scores, columns, rows, seed, TABLE_1, average=True)
    by_judge = {
        judge: estimates(scores, [one for one in columns if one.judge == judge], rows, seed, TABLE_1, average=True)
        for judge in dict.fromkeys(column.judge for column in columns)
    }
    compared: list[tuple[Comparison, Frame]] = []
    for comparison in [*([turns] if turns else []), *requested]:
        own = main_columns(scores, comparison.rows)
        compared.append((comparison, estimates(scores, own, comparison.rows, seed, comparison.title, average=True)))
    notes = [*scores.notes, *notes, *_gaps(scores, rows, main, compared)]
    compared = [(comparison, frame) for comparison, frame in compared if len(frame)]
    judges = short_names(scores.judges)
    breakdowns = [
        estimates(scores, parts, rows, seed, f"{column.benchmark}, judged by {judges[column.judge]}, by {kind}", False)
        for column in columns
        for kind, parts in slices(scores, column.benchmark, column.judge).items()
    ]

    # tables and figures, by section of the page
    figures = {}
    try:
        from ier1_plugin.evaluation.report import figures as draw

        figures["overview"] = _png(draw.overview(main, by_judge, judges))
        for number, (comparison, frame) in enumerate(compared, start=1):
            figures[f"comparison-{number}"] = _png(draw.compared(frame, judges, comparison.numbers))
    except ImportError as error:
        notes.append(f"there are no figures ({error}): pip install -e '.[evaluation]'")
    gains = gains_table(main, judges)
    sections: dict[str, list[Table]] = {
        "scores": [scores_table(main, judges)],
        "more": [
            scores_table(main, judges, as_zero=True),
            *([gains] if gains else []),
            coverage_table(scores, columns, rows, judges),
        ],
        "comparisons": [scores_table(frame, judges) for _, frame in compared],
        "agreement": [] if trust is None else [agreement_table(trust)],
        "breakdowns": [scores_table(frame, judges) for frame in breakdowns],
        "paper": [],
    }
    for name, table in quoted_tables().items() if paper else ():
        sections[BESIDE[name] if sections[BESIDE[name]] else "paper"].append(table)

    # files
    tables = [table for section in sections.values() for table in section]
    urls = {name: data_url(png) for name, png in figures.items()}
    html = page(scores, judges, rows, seed, examples, notes=notes, sections=sections, figures=urls, paper=paper)
    files: dict[str, bytes | str] = {
        PAGE: html,
        MARKDOWN: "\n".join(["# Evaluation", "", *(f"- {note}" for note in notes), "", *map(markdown, tables)]),
        LATEX: LATEX_NEEDS + "\n".join(latex(table, f"ier1-{number}") for number, table in enumerate(tables, start=1)),
        WIDE: wide_csv(main, judges),
        LONG: long_csv([main, *(frame for _, frame in compared), *breakdowns]),
    }
    if trust is not None:
        files[AGREEMENT] = trust.to_csv(index=False, float_format="%.6g")
    files |= {f"{FIGURES}/{name}.png": png for name, png in figures.items()}
    for name, content in files.items():
        write(out / name, content)
    for file in (out / AGREEMENT, *(out / FIGURES).glob("*.png")):
        if str(file.relative_to(out)) not in files:
            # of an earlier report that had more
            file.unlink(missing_ok=True)
    if scores.table["total"].isna().all():
        why = most_often(scores.table["unscored"].tolist())
        raise EvaluationError(f"nothing was scored: {len(scores.table):,} unscored{why}; the page is {out / PAGE}")
    return [out / name for name in files], notes


def _gaps(scores: Scores, rows: Sequence[Row], main: Frame, compared: Sequence[tuple[Comparison, Frame]]) -> list[str]:
    """Notes on columns missing from tables, and averages missing from rows."""
    whole = main[main["column"].isin(list(scores.items))]
    judged = [*dict.fromkeys(zip(whole["column"], whole["judge"], strict=True))]
    notes = [
        f"{judge} was never asked on {benchmark}: averages are over the columns that are there"
        for benchmark in scores.items
        for judge in scores.judges
        if (benchmark, judge) not in judged
    ]
    for row in rows:
        empty = whole[(whole["row"] == row.label) & (whole["items"] == 0)]
        if len(empty):
            lacks = ", ".join(f"{cell.column} by {cell.judge}" for cell in empty.itertuples())
            notes.append(f"{row.label} has no average: it was not to be judged on {lacks}")
    for comparison, frame in compared:
        if frame.empty:
            notes.append(f"{comparison.title}: left out, as no judge was asked")
            continue
        own = {*zip(frame["column"], frame["judge"], strict=True)}
        lacks = ", ".join(f"{benchmark} by {judge}" for benchmark, judge in judged if (benchmark, judge) not in own)
        if lacks:
            notes.append(f"{comparison.title}: none of its systems was to be judged on {lacks}")
    return notes


def _png(figure: Any) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
