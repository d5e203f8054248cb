"""All that a report says, from folders of evaluations to files.

    report = make_report([Path("evaluations/psr")], Path("comparisons.yaml"), seed=0)
    write_report(report, Path("report"), paper=True, examples=3)
    -> report/index.html, report.md, tables.tex, table1.csv, scores.csv, figures/*.png

index.html stands alone: it may be mailed or moved. scores.csv has every number of every table, one row each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from ier1_plugin.evaluation.comparisons import Comparison, Row, main_rows, read_comparisons, turn_comparison
from ier1_plugin.evaluation.grids import coverage_grid, gains_grid, long_rows, scores_grid, short_names, wide_rows
from ier1_plugin.evaluation.paper_figures import quoted_grids
from ier1_plugin.evaluation.report_data import read_study
from ier1_plugin.evaluation.results import Table, main_table, slice_table
from ier1_plugin.evaluation.slices import by_action, by_difficulty, by_dimension
from ier1_plugin.evaluation.study import Study
from ier1_plugin.evaluation.tables import Grid, csv_text, latex, markdown
from ier1_plugin.files import write

PAGE, MARKDOWN, LATEX, WIDE, LONG = "index.html", "report.md", "tables.tex", "table1.csv", "scores.csv"
FIGURES, OVERVIEW = "figures", "overview"
LATEX_NEEDS = "% \\usepackage{booktabs,graphicx}\n"
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

    @property
    def rows(self) -> tuple[Row, ...]:
        return self.main.rows

    @property
    def judges(self) -> dict[str, str]:
        """What tables call the judges."""
        return short_names(self.study.judges)


def make_report(folders: Sequence[Path], comparisons_file: Path | None, seed: int) -> Report:
    """EvaluationError: a folder or file can't be used. `seed`: of the resamples and permutations."""
    study = read_study(folders)
    rows, notes = main_rows(study)
    turns = turn_comparison(study)
    comparisons = [turns] if turns else []
    comparisons += read_comparisons(comparisons_file, study) if comparisons_file else []
    return Report(
        study,
        main_table(study, rows, seed, "Table 1. Scores, 0 to 10, by benchmark and judge"),
        tuple((one, main_table(study, one.rows, seed, one.title)) for one in comparisons),
        tuple(_breakdowns(study, rows, seed)),
        (*study.notes, *notes),
        seed,
    )


def write_report(report: Report, out: Path, paper: bool, examples: int) -> list[Path]:
    """Writes all files and returns them, the page first. `paper`: with the paper's own figures, marked as quoted."""
    from ier1_plugin.evaluation.report_page import page

    figures, missing = _figures(report)
    notes = (*report.notes, *missing)
    grids = all_grids(report, paper)
    tables = [report.main, *(table for _, table in report.comparisons), *_breakdown_tables(report)]
    texts = {
        PAGE: page(report, figures, notes, quoted_grids() if paper else {}, examples),
        MARKDOWN: "\n".join(["# Evaluation", "", *(f"- {note}" for note in notes), "", *map(markdown, grids)]),
        LATEX: LATEX_NEEDS + "\n".join(latex(grid, f"ier1-{number}") for number, grid in enumerate(grids, start=1)),
        WIDE: csv_text(wide_rows(report.main, report.judges)),
        LONG: csv_text(long_rows(tables)),
    }
    files: dict[str, bytes | str] = texts | {f"{FIGURES}/{name}.png": data for name, data in figures.items()}
    for name, data in files.items():
        write(out / name, data)
    for file in (out / FIGURES).glob("*.png"):
        if f"{FIGURES}/{file.name}" not in files:
            # of an earlier report with more comparisons
            file.unlink()
    return [out / name for name in files]


def all_grids(report: Report, paper: bool) -> list[Grid]:
    """Every table as it is printed, in order."""
    return [
        *main_grids(report),
        *(scores_grid(table, report.judges) for _, table in report.comparisons),
        *(scores_grid(table, report.judges) for table in _breakdown_tables(report)),
        *(quoted_grids().values() if paper else ()),
    ]


def main_grids(report: Report) -> list[Grid]:
    """Table 1 both ways, its gains, its coverage."""
    main, judges = report.main, report.judges
    as_zero = f"{main.title}, items without a score as 0"
    gains = gains_grid(main, judges, "Gain over the original, by benchmark and judge")
    return [
        scores_grid(main, judges),
        scores_grid(Table(as_zero, main.columns, main.rows, main.cells), judges, as_zero=True),
        *([gains] if gains.lines else []),
        coverage_grid(report.study, report.rows, judges, "Coverage, and why items have no score"),
    ]


def _breakdowns(study: Study, rows: Sequence[Row], seed: int) -> Iterator[Breakdown]:
    names = short_names(study.judges)
    for benchmark in study.benchmarks:
        for judge in study.judges:
            title = f"{benchmark}, judged by {names[judge]}, by "
            kinds = {kind: slices(study, benchmark) for kind, slices in KINDS.items()}
            tables = [
                slice_table(study, rows, benchmark, judge, slices, seed, title + kind)
                for kind, slices in kinds.items()
                if slices
            ]
            yield Breakdown(benchmark, judge, tuple(tables))


def _breakdown_tables(report: Report) -> list[Table]:
    return [table for breakdown in report.breakdowns for table in breakdown.tables]


def _figures(report: Report) -> tuple[dict[str, bytes], list[str]]:
    """{name: PNG}, and why there are none."""
    try:
        from ier1_plugin.evaluation.report_figures import compared, overview

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
