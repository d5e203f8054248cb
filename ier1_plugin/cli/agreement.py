"""The commands `ier1 agreement` and `ier1 annotate`.

ier1 annotate study/flux-psr --sample 100 --raters 3
ier1 annotate study/flux-psr --export ratings.csv
ier1 agreement ratings.csv --json agreement.json --seed 0
"""

from __future__ import annotations

from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ier1_plugin.cli.options import one_line_errors, option
from ier1_plugin.evaluation.records import EvaluationError

if TYPE_CHECKING:
    from ier1_plugin.evaluation.agreement.rating_study import Study

HOST, PORT = "127.0.0.1", 7870


def agreement(
    ratings: Annotated[
        Path, typer.Argument(help="CSV: item,rater,dimension,score[,group]; judges are raters named judge:NAME")
    ],
    *,
    json: Annotated[Path | None, option("file for the figures", "--json")] = None,
    seed: Annotated[int, typer.Option("--seed", help="of the bootstrap", min=0)] = 0,
    resamples: Annotated[int, typer.Option("--resamples", help="of the bootstrap", min=100, max=1_000_000)] = 1000,
    whole_groups: Annotated[
        bool, option("resample whole groups (such as posts) in place of items", "--whole-groups")
    ] = False,
) -> None:
    """Tell how far judges agree with human raters, and these with one another."""
    with one_line_errors():
        text = _agreement(ratings, json, seed, resamples, whole_groups)
        typer.echo(text)


def _agreement(file: Path, out: Path | None, seed: int, number: int, whole_groups: bool) -> str:
    _check_installed("agreement", "krippendorff", "scipy", "statsmodels")
    import json

    from tqdm import tqdm

    from ier1_plugin.evaluation.agreement.agreement import agreement, tables
    from ier1_plugin.evaluation.agreement.bootstrap import Bootstrap
    from ier1_plugin.evaluation.agreement.ratings import read_ratings
    from ier1_plugin.evaluation.agreement.table import agreement_text
    from ier1_plugin.runs.folder import write

    _check_file(out, "--json")
    ratings = read_ratings(file)
    if whole_groups and not all(rating.group for rating in ratings):
        raise EvaluationError(f"{file} has items without a group; --whole-groups wants one for each")
    found_tables = tables(ratings)
    with tqdm(total=sum(len(table.judges) + 1 for table in found_tables), leave=False, disable=None) as bar:
        found = agreement(ratings, number=number, seed=seed, whole_groups=whole_groups, told=lambda _: bar.update())
    if out:
        write(out, json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return agreement_text(found_tables, found, Bootstrap(number, seed, whole_groups))


def annotate(
    folder: Annotated[Path, typer.Argument(help="folder that `ier1 evaluate` made", show_default=False)],
    *,
    sample: Annotated[int | None, typer.Option("--sample", help="edits to rate (default: 100)", min=1)] = None,
    raters: Annotated[
        int | None, typer.Option("--raters", help="how many people rate (default: 3); more may join later", min=1)
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="of sample and orders (default: 0)", min=0)] = None,
    system: Annotated[list[str] | None, option("rate edits of this system only; may be repeated", "--system")] = None,
    rubric: Annotated[Path | None, option("prompt of the judge, if it was not the usual one", "--rubric")] = None,
    host: Annotated[str, option("address to listen on (default: 127.0.0.1, this machine only)", "--host")] = HOST,
    port: Annotated[int, typer.Option("--port", help="to listen on; 0 takes a free one", min=0, max=65535)] = PORT,
    export: Annotated[Path | None, option("write the ratings to this CSV and serve no page", "--export")] = None,
    group_by: Annotated[
        str, option("group of an exported rating: system (default), action or cluster", "--group-by")
    ] = "system",
) -> None:
    """Collect ratings of edits from people, blind, on a web page; judges' scores join them in the export."""
    with one_line_errors():
        if export:
            _export(folder, export, group_by)
        else:
            _collect(folder, sample, raters, seed, system or [], rubric, host, port)


def _collect(
    folder: Path,
    sample: int | None,
    raters: int | None,
    seed: int | None,
    systems: list[str],
    rubric_file: Path | None,
    host: str,
    port: int,
) -> None:
    _check_installed("the rating page", "starlette", "uvicorn")
    from ier1_plugin.evaluation.agreement.rating_page import serve
    from ier1_plugin.evaluation.agreement.rating_study import Study
    from ier1_plugin.evaluation.agreement.rubric import check_judges, rubric

    scales = rubric(rubric_file)
    for note in check_judges(scales.sha256, folder):
        typer.echo(note, err=True)
    settings = {"sample": sample, "raters": raters, "seed": seed}
    with Study.opened(folder, **settings, systems=systems, rubric_sha256=scales.sha256) as study:
        if sample and len(study.pairs) < sample:
            typer.echo(f"{len(study.pairs)} edits to rate; there are no more", err=True)
        # Ctrl-C is how a server ends
        with suppress(KeyboardInterrupt):
            serve(study, scales, host, port, lambda links: _tell(study, links))
        _sum_up(study)


def _tell(study: Study, links: dict[str, str]) -> None:
    typer.echo(f"{len(study.pairs)} edits to rate. A link for each rater; whoever has it rates under that name:")
    for rater in study.raters:
        done = len(study.said[rater.name])
        typer.echo(f"  {rater.name}  {links[rater.name]}  {done} rated")
    typer.echo("Ctrl-C ends the server. Ratings are kept as they come, and the links stay the same.")


def _sum_up(study: Study) -> None:
    done = ", ".join(f"{rater.name} {len(study.said[rater.name])}" for rater in study.raters)
    typer.echo(
        f"\nRated of {len(study.pairs)}: {done}. `ier1 annotate {study.folder} --export ratings.csv` writes them."
    )


def _export(folder: Path, out: Path, group_by: str) -> None:
    from ier1_plugin.evaluation.agreement.annotate_export import GROUPINGS, exported
    from ier1_plugin.evaluation.agreement.rating_study import Study
    from ier1_plugin.evaluation.agreement.ratings import write_ratings

    if group_by not in GROUPINGS:
        raise EvaluationError(f"--group-by is {group_by!r}; wanted one of {', '.join(GROUPINGS)}")
    _check_file(out, "--export")
    ratings, notes = exported(Study.read(folder), group_by)
    write_ratings(out, ratings)
    for note in notes:
        typer.echo(note, err=True)
    raters = list(dict.fromkeys(rating.rater for rating in ratings))
    typer.echo(f"{out}: {len(ratings):,} ratings by {', '.join(raters)}. Next: ier1 agreement {out}")


def _check_file(out: Path | None, flag: str) -> None:
    if out and out.is_dir():
        raise EvaluationError(f"{out} is a folder; {flag} wants a file")


def _check_installed(what: str, *modules: str) -> None:
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise EvaluationError(f"{what} needs {', '.join(missing)}: pip install -e '.[evaluation]'")
