"""All that a report says, from folders of evaluations to files.

    report = make_report([Path("evaluations/psr")], Path("comparisons.yaml"), seed=0)
    write_report(report, Path("report"), paper=True, examples=3)
    -> report/index.html, report.md, tables.tex, table1.csv, scores.csv, figures/*.png; agreement.csv where there is one

index.html stands alone: it may be mailed or moved. scores.csv has every number of every table, one row each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

from ier1_plugin.evaluation.report.agreement import Agreement, agreement_grid, agreement_rows, read_agreement
from ier1_plugin.evaluation.report.cells import Table
from ier1_plugin.evaluation.report.comparisons import Comparison, Row, main_rows, read_comparisons, turn_comparison
from ier1_plugin.evaluation.report.grids import (
    coverage_grid,
    gains_grid,
    long_rows,
    scores_grid,
    short_names,
    wide_rows,
)
from ier1_plugin.evaluation.report.paper import BESIDE, quoted_grids
from ier1_plugin.evaluation.report.results import main_table, slice_table
from ier1_plugin.evaluation.report.slices import by_action, by_difficulty, by_dimension
from ier1_plugin.evaluation.report.tables import Grid, csv_text, latex, markdown
from ier1_plugin.evaluation.scores import read_study
from ier1_plugin.evaluation.study import Study
from ier1_plugin.runs.folder import write

PAGE, MARKDOWN, LATEX, WIDE, LONG = "index.html", "report.md", "tables.tex", "table1.csv", "scores.csv"
AGREEMENT = "agreement.csv"
FIGURES, OVERVIEW = "figures", "overview"
LATEX_NEEDS = (
    "% \\usepackage{booktabs,graphicx}; names in other scripts than Latin want lualatex and a font that has them\n"
)
SCORES, COMPARISONS, TRUST, END = "scores", "comparisons", "agreement", "end"
"""Where grids stand, in this order."""
NO_FIGURES = "there are no figures, as matplotlib is not installed: pip install -e '.[curves]'"
KINDS = {"part of the score": by_dimension, "difficulty": by_difficulty, "action": by_action}


@dataclass(frozen=True)
class Breakdown:
    """One benchmark by one judge, by the slices of each kind that the benchmark has."""

    benchmark: str
    judge: str
    tables: tuple[Table, ...]


@dataclass(frozen=True)
class Report:
    """The numbers."""

    study: Study
    main: Table
    comparisons: tuple[tuple[Comparison, Table], ...]
    breakdowns: tuple[Breakdown, ...]
    notes: tuple[str, ...]
    seed: int
    agreement: Agreement | None = None

    @property
    def rows(self) -> tuple[Row, ...]:
        return self.main.rows

    @property
    def judges(self) -> dict[str, str]:
        """What tables call the judges."""
        return short_names(self.study.judges)


def make_report(
    folders: Sequence[Path], comparisons_file: Path | None, seed: int, agreement_file: Path | None = None
) -> Report:
    """EvaluationError: a folder or file can't be used. `seed`: of the resamples and permutations."""
    agreement = read_agreement(agreement_file) if agreement_file else None
    study = read_study(folders)
    rows, notes = main_rows(study)
    main = main_table(study, rows, seed, "Table 1. Scores, 0 to 10, by benchmark and judge")
    compared = [(one, main_table(study, one.rows, seed, one.title)) for one in _comparisons(study, comparisons_file)]
    return Report(
        study,
        main,
        tuple((one, table) for one, table in compared if table.columns),
        tuple(_breakdowns(study, main, seed)),
        (*study.notes, *notes, *_lacking(study, main, [table for _, table in compared])),
        seed,
        agreement,
    )


def write_report(report: Report, out: Path, paper: bool, examples: int) -> list[Path]:
    """Writes all files and returns them, the page first. `paper`: with the paper's own figures, marked as quoted."""
    from ier1_plugin.evaluation.report.page import page

    figures, missing = _figures(report)
    report = replace(report, notes=(*report.notes, *missing))
    quoted = quoted_beside(report, paper)
    grids = all_grids(report, quoted)
    tables = [report.main, *(table for _, table in report.comparisons), *_breakdown_tables(report)]
    texts = {
        PAGE: page(report, figures, quoted, examples),
        MARKDOWN: "\n".join(["# Evaluation", "", *(f"- {note}" for note in report.notes), "", *map(markdown, grids)]),
        LATEX: LATEX_NEEDS + "\n".join(latex(grid, f"ier1-{number}") for number, grid in enumerate(grids, start=1)),
        WIDE: csv_text(wide_rows(report.main, report.judges)),
        LONG: csv_text(long_rows(tables)),
        **({AGREEMENT: csv_text(agreement_rows(report.agreement))} if report.agreement else {}),
    }
    files: dict[str, bytes | str] = texts | {f"{FIGURES}/{name}.png": data for name, data in figures.items()}
    for name, data in files.items():
        write(out / name, data)
    for file in (out / AGREEMENT, *(out / FIGURES).glob("*.png")):
        if str(file.relative_to(out)) not in files:
            # of an earlier report that had more
            file.unlink(missing_ok=True)
    return [out / name for name in files]


def all_grids(report: Report, quoted: Mapping[str, Sequence[Grid]]) -> list[Grid]:
    """Every table as it is printed, in order; `quoted`: as of `quoted_beside`."""
    first, *others = main_grids(report)
    return [
        first,
        *quoted[SCORES],
        *others,
        *(scores_grid(table, report.judges) for _, table in report.comparisons),
        *quoted[COMPARISONS],
        *([agreement_grid(report.agreement)] if report.agreement else []),
        *quoted[TRUST],
        *(scores_grid(table, report.judges) for table in _breakdown_tables(report)),
        *quoted[END],
    ]


def quoted_beside(report: Report, paper: bool) -> dict[str, list[Grid]]:
    """The paper's tables by what they are read beside; at the end where there is no such thing. `paper`: any at all."""
    there = {SCORES, *([COMPARISONS] if report.comparisons else []), *([TRUST] if report.agreement else [])}
    places: dict[str, list[Grid]] = {place: [] for place in (SCORES, COMPARISONS, TRUST, END)}
    for name, grid in quoted_grids().items() if paper else ():
        places[BESIDE[name] if BESIDE[name] in there else END].append(grid)
    return places


def main_grids(report: Report) -> list[Grid]:
    """Table 1 both ways, its gains, its coverage."""
    main, judges = report.main, report.judges
    as_zero = f"{main.title}, items without a score as 0"
    gains = gains_grid(main, judges, "Gain over the original, by benchmark and judge")
    return [
        scores_grid(main, judges),
        scores_grid(replace(main, title=as_zero), judges, as_zero=True),
        *([gains] if gains.lines else []),
        coverage_grid(report.study, report.rows, judges, "Coverage, and why items have no score"),
    ]


def _comparisons(study: Study, file: Path | None) -> list[Comparison]:
    given = read_comparisons(file, study) if file else ()
    turns = turn_comparison(study, given)
    return [*([turns] if turns else []), *given]


def _lacking(study: Study, main: Table, compared: Sequence[Table]) -> Iterator[str]:
    """What tables have no column for, and rows no average."""
    there = {(column.head, column.sub) for column in main.columns}
    for benchmark in study.benchmarks:
        for judge in study.judges:
            if (benchmark, judge) not in there:
                yield f"{judge} was never asked on {benchmark}: averages are over the columns that are there"
    for row, cells in zip(main.rows, main.cells, strict=True):
        columns = zip(main.columns, cells, strict=True)
        lacks = [f"{column.head} by {column.sub}" for column, cell in columns if column.sub and not cell.items]
        if lacks:
            yield f"{row.label} has no average: it was not to be judged on {', '.join(lacks)}"
    for table in compared:
        lacks = [f"{one.head} by {one.sub}" for one in main.columns if one.sub and one not in table.columns]
        if not table.columns:
            yield f"{table.title}: left out, as no judge was asked"
        elif lacks:
            yield f"{table.title}: none of its systems was to be judged on {', '.join(lacks)}"


def _breakdowns(study: Study, main: Table, seed: int) -> Iterator[Breakdown]:
    names = short_names(study.judges)
    for column in main.columns[:-1]:
        benchmark, judge = column.head, column.sub
        title = f"{benchmark}, judged by {names[judge]}, by "
        kinds = {kind: slices(study, benchmark) for kind, slices in KINDS.items()}
        tables = [
            slice_table(study, main.rows, benchmark, judge, slices, seed, title + kind)
            for kind, slices in kinds.items()
            if slices
        ]
        yield Breakdown(benchmark, judge, tuple(tables))


def _breakdown_tables(report: Report) -> list[Table]:
    return [table for breakdown in report.breakdowns for table in breakdown.tables]


def _figures(report: Report) -> tuple[dict[str, bytes], list[str]]:
    """{name: PNG}, and why there are none."""
    try:
        from ier1_plugin.evaluation.report.figures import compared, overview

        drawn = {OVERVIEW: _png(lambda: overview(report.main, report.judges))}
        for number, (comparison, table) in enumerate(report.comparisons, start=1):
            drawn[f"comparison-{number}"] = _png(lambda c=comparison, t=table: compared(t, report.judges, c.numbers))
        return drawn, []
    except ImportError:
        return {}, [NO_FIGURES]


def _png(draw: Callable) -> bytes:
    buffer = BytesIO()
    draw().savefig(buffer, format="png")
    return buffer.getvalue()
