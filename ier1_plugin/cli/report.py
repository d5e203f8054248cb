"""The command `ier1 report`.

ier1 report evaluations/psr evaluations/realedit --out report --comparisons ablations.yaml --paper
-> report/index.html
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ier1_plugin.cli.options import one_line_errors, option


def report(
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="folders that `ier1 evaluate` made", show_default=False)
    ],
    out: Annotated[
        Path | None, option("folder for page and tables (default: report, in the first DIR)", "--out")
    ] = None,
    comparisons: Annotated[
        Path | None, option("YAML file of comparisons: TITLE: {LABEL: SYSTEM, ...}", "--comparisons")
    ] = None,
    agreement: Annotated[
        Path | None, option("output of `ier1 agreement --json`: judges against people", "--agreement")
    ] = None,
    paper: Annotated[bool, option("show the paper's published figures too, marked as quoted", "--paper")] = False,
    examples: Annotated[
        int, typer.Option("--examples", help="examples shown of each benchmark; 0: no pictures", min=0, max=50)
    ] = 3,
    seed: Annotated[int, typer.Option("--seed", help="seed of resamples, permutations and examples", min=0)] = 0,
) -> None:
    """Make the tables and figures of evaluations: a page, Markdown, LaTeX and CSV."""
    with one_line_errors():
        from ier1_plugin.evaluation.report.report import write_report

        files, notes = write_report(
            folders, out or folders[0] / "report", comparisons, agreement, paper, examples, seed
        )
        for note in notes:
            typer.echo(f"note: {note}", err=True)
        typer.echo(files[0])
