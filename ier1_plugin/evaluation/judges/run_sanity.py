"""What an evaluation knows of its judges: tried on edits that are known to be good or bad, who fails is out.

try_judges(folder, items, judges, run, jobs=8, tell=print)
run["judges"][0]["sanity"]                    # "passed on 12 items, 2026-11-25"
run["failed_sanity"]["openai:...#blind"]      # {"date": "2026-11-25", "items": 12, "why": ["it does not see ..."]}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ier1_plugin.evaluation.benchmarks.sample import has_known_edit
from ier1_plugin.evaluation.costs import SANITY
from ier1_plugin.evaluation.folder import read_run, write_run
from ier1_plugin.evaluation.judges.judging import Judge
from ier1_plugin.evaluation.judges.sanity import check_judge
from ier1_plugin.evaluation.records import BenchmarkItem, EvaluationError

ITEMS = 12


def refuse_failed(run: Mapping[str, Any], judges: Sequence[Judge]) -> None:
    """EvaluationError: a judge has failed here and would be believed now."""
    for judge in judges:
        if judge.name in run["failed_sanity"]:
            raise EvaluationError(
                f"{judge.name} failed its sanity check here on {run['failed_sanity'][judge.name]['date']}; "
                "try it again with --sanity, or name another judge"
            )


def try_judges(
    folder: Path,
    items: Sequence[BenchmarkItem],
    judges: Sequence[Judge],
    run: dict[str, Any],
    jobs: int,
    on_warning: Callable[[str], None],
) -> None:
    """Notes in `run` how each judge did, and on disk who failed. EvaluationError: one did, or nothing can be tried."""
    known = [item for item in items if has_known_edit(item)][:ITEMS]
    if len(known) < 2:
        raise EvaluationError(
            f"--sanity needs two items with an edit that is known to be good; {run['benchmark']['name']} has "
            f"{len(known)}: try the judge on --benchmark small-world"
        )
    for judge in judges:
        _try(judge, known, folder, run, jobs, on_warning)
    failed = [judge.name for judge in judges if judge.name in run["failed_sanity"]]
    if failed:
        _keep_failures(folder, run)
        raise EvaluationError(f"not to be trusted: {', '.join(failed)}; the table above says why")


def today() -> str:
    return datetime.now(timezone.utc).date().isoformat()


def _try(
    judge: Judge,
    known: Sequence[BenchmarkItem],
    folder: Path,
    run: dict[str, Any],
    jobs: int,
    on_warning: Callable[[str], None],
) -> None:
    report = check_judge(judge, known, folder=folder / SANITY, jobs=jobs, on_warning=on_warning)
    on_warning(report.table())
    facts = next(one for one in run["judges"] if one["name"] == judge.name)
    facts["sanity"] = f"{'passed' if report.passed else 'FAILED'} on {report.items} items, {today()}"
    run["failed_sanity"].pop(judge.name, None)
    if not report.passed:
        run["failed_sanity"][judge.name] = {"date": today(), "items": report.items, "why": list(report.failed)}


def _keep_failures(folder: Path, run: Mapping[str, Any]) -> None:
    """A judge that had joined before it failed keeps its judgements, and says with them that it failed."""
    before = read_run(folder)
    joined = {one["name"] for one in before["judges"]}
    judges = [one for one in run["judges"] if one["name"] in joined]
    write_run(folder, before | {"judges": judges, "failed_sanity": run["failed_sanity"]})
