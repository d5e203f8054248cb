"""The page of a report: everything in one HTML file that needs no network.

    page(report, {"overview": png}, quoted=quoted_beside(report, paper=True), examples=3)

What is long is folded away: failures as 0, coverage, breakdowns, the best and the worst of each system.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ier1_plugin import __version__
from ier1_plugin.evaluation.report.agreement import agreement_grid
from ier1_plugin.evaluation.report.examples import Case, drawn, extremes, filled
from ier1_plugin.evaluation.report.facts import of_judge, told
from ier1_plugin.evaluation.report.grids import scores_grid
from ier1_plugin.evaluation.report.paper import STATEMENTS
from ier1_plugin.evaluation.report.tables import Grid
from ier1_plugin.evaluation.statistics import EXACT, PERMUTATIONS, RESAMPLES
from ier1_plugin.task.images import data_url

if TYPE_CHECKING:
    from ier1_plugin.evaluation.report.report import Report

TEMPLATE = Path(__file__).with_name("page.html.jinja")
EXTREMES, FEW = 2, 10
"""Best and worst edits shown of each system: so many up to FEW systems, one of each beyond."""


def page(report: Report, figures: Mapping[str, bytes], quoted: Mapping[str, Sequence[Grid]], examples: int) -> str:
    """The HTML. `figures`: PNGs; `quoted`: the paper's tables by place; `examples`: cases drawn of each benchmark."""
    from ier1_plugin.evaluation.report.report import OVERVIEW, main_grids

    by_lot, ends = _cases(report, examples)
    return _rendered(
        title=", ".join(report.study.benchmarks),
        report=report,
        judges=report.judges,
        main=main_grids(report),
        overview=_figure(figures, OVERVIEW),
        comparisons=_comparisons(report, figures),
        agreement=agreement_grid(report.agreement) if report.agreement else None,
        breakdowns=_breakdowns(report),
        benchmarks={name: told(one.facts) for name, one in report.study.benchmarks.items()},
        referees={name: of_judge(one) for name, one in report.study.judges.items()},
        quoted=quoted,
        paper=any(quoted.values()),
        statements=STATEMENTS,
        by_lot=by_lot,
        ends=ends,
        resamples=RESAMPLES,
        permutations=PERMUTATIONS,
        exact=EXACT,
        version=__version__,
    )


def _cases(report: Report, examples: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Cases by lot; and of each system its best and worst."""
    study, rows = report.study, report.rows
    by_lot = drawn(study, examples, report.seed)
    groups: list[list[Case]] = [by_lot]
    count = 0 if not examples else EXTREMES if len(rows) <= FEW else 1
    for row in rows:
        beside = rows[row.reference].label if row.reference is not None else None
        groups += extremes(study, row.label, beside, count)
    # one call for all, so that the thumbnails are as small as they have to be together
    found = iter(filled(study, [case for group in groups for case in group]))
    shown = [[next(found) for _ in group] for group in groups]
    ends = [
        {"system": row.label, "best": best, "worst": worst}
        for row, best, worst in zip(rows, shown[1::2], shown[2::2], strict=True)
        if best or worst
    ]
    return shown[0], ends


def _comparisons(report: Report, figures: Mapping[str, bytes]) -> list[dict[str, Any]]:
    return [
        {
            "title": comparison.title,
            "grid": scores_grid(table, report.judges),
            "figure": _figure(figures, f"comparison-{number}"),
        }
        for number, (comparison, table) in enumerate(report.comparisons, start=1)
    ]


def _breakdowns(report: Report) -> list[dict[str, Any]]:
    return [
        {
            "title": f"{breakdown.benchmark}, judged by {report.judges[breakdown.judge]}",
            "grids": [scores_grid(table, report.judges) for table in breakdown.tables],
        }
        for breakdown in report.breakdowns
    ]


def _figure(figures: Mapping[str, bytes], name: str) -> str:
    return data_url(figures[name]) if name in figures else ""


def _rendered(**values: Any) -> str:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(undefined=StrictUndefined, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(**values)
