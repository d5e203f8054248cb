"""The commands `ier1 agreement` and `ier1 annotate`.

ier1 annotate study/flux-psr --sample 100 --raters 3
ier1 annotate study/flux-psr --export ratings.csv
ier1 agreement ratings.csv --json agreement.json --seed 0
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from ier1_plugin.cli.options import end_server_by_signal, needs_extra, one_line_errors, option
from ier1_plugin.evaluation.records import EvaluationError


def agreement(
    ratings: Annotated[
        Path, typer.Argument(help="CSV: item,rater,dimension,score[,group]; judges are raters named judge:NAME")
    ],
    *,
    json: Annotated[Path | None, option("file for the results", "--json")] = None,
    seed: Annotated[int, typer.Option("--seed", help="seed of the bootstrap", min=0)] = 0,
    resamples: Annotated[int, typer.Option("--resamples", help="number of resamples", min=100, max=1_000_000)] = 1000,
    whole_groups: Annotated[
        bool, option("resample whole groups (such as posts) instead of items", "--whole-groups")
    ] = False,
) -> None:
    """Measure how well judges agree with human raters, and the raters with one another."""
    with one_line_errors(), needs_extra("evaluation"):
        from json import dumps

        from tqdm import tqdm

        from ier1_plugin.evaluation.agreement import agreement as measures
        from ier1_plugin.evaluation.agreement.ratings import read_ratings
        from ier1_plugin.runs.folder import write

        _check_file(json, "--json")
        rows = read_ratings(ratings)
        if whole_groups and not all(rating.group for rating in rows):
            raise EvaluationError(f"{ratings} has items without a group; --whole-groups needs one for each")
        resampling = measures.Resampling(resamples, seed, whole_groups)
        tables = measures.tables(rows)
        with tqdm(total=sum(len(table.judges) + 1 for table in tables), leave=False, disable=None) as bar:
            result = measures.agreement(rows, resampling, on_progress=bar.update)
        if json:
            write(json, dumps(result, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
        typer.echo(measures.agreement_text(tables, result, resampling))


def annotate(
    folder: Annotated[Path, typer.Argument(help="folder that `ier1 evaluate` made", show_default=False)],
    *,
    sample: Annotated[int | None, typer.Option("--sample", help="edits to rate (default: 100)", min=1)] = None,
    raters: Annotated[
        int | None, typer.Option("--raters", help="number of raters (default: 3); more may join later", min=1)
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="seed of the sample and the orders (default: 0)", min=0)
    ] = None,
    system: Annotated[list[str] | None, option("rate edits of this system only; may be repeated", "--system")] = None,
    rubric: Annotated[Path | None, option("the judge's prompt, if it was not the default one", "--rubric")] = None,
    host: Annotated[
        str, option("address to listen on (default: 127.0.0.1, this machine only)", "--host")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="port to listen on; 0 takes a free one", min=0, max=65535)] = 7870,
    export: Annotated[Path | None, option("write the ratings to this CSV and serve no page", "--export")] = None,
    group_by: Annotated[
        str, option("group of an exported rating: system (default), action or cluster", "--group-by")
    ] = "system",
) -> None:
    """Collect ratings of edits from people, blind, on a web page; judges' scores join them in the export."""
    with one_line_errors(), needs_extra("evaluation"):
        if export:
            from ier1_plugin.evaluation.agreement.rating_study import Study, export_ratings
            from ier1_plugin.evaluation.agreement.ratings import write_ratings

            _check_file(export, "--export")
            ratings, notes = export_ratings(Study.read(folder), group_by)
            write_ratings(export, ratings)
            for note in notes:
                typer.echo(note, err=True)
            raters_in_it = ", ".join(dict.fromkeys(rating.rater for rating in ratings))
            typer.echo(f"{export}: {len(ratings):,} ratings by {raters_in_it}. Next: ier1 agreement {export}")
            return
        from ier1_plugin.evaluation.agreement.rating_page import serve
        from ier1_plugin.evaluation.agreement.rating_study import Study, other_rubrics, read_rubric

        # before there are links to open
        end_server_by_signal()
        scales = read_rubric(rubric)
        for note in other_rubrics(scales.sha256, folder, required=True):
            typer.echo(note, err=True)
        with Study.opened(
            folder, sample=sample, raters=raters, seed=seed, systems=system or [], rubric_sha256=scales.sha256
        ) as study:
            count = len(study.pairs)
            if sample and count < sample:
                typer.echo(f"{count} edits to rate; there are no more", err=True)

            def on_start(links: dict[str, str]) -> None:
                typer.echo(f"{count} edits to rate. A link for each rater; whoever has it rates under that name:")
                for rater in study.raters:
                    typer.echo(f"  {rater.name}  {links[rater.name]}  {len(study.ratings[rater.name])} rated")
                typer.echo("Ctrl-C ends the server. Ratings are kept as they come, and the links stay the same.")

            # Ctrl-C is how a server ends
            with suppress(KeyboardInterrupt):
                serve(study, scales, host, port, on_start)
            done = ", ".join(f"{rater.name} {len(study.ratings[rater.name])}" for rater in study.raters)
            typer.echo(f"\nRated of {count}: {done}. `ier1 annotate {folder} --export ratings.csv` writes them.")


def _check_file(out: Path | None, flag: str) -> None:
    if out and out.is_dir():
        raise EvaluationError(f"{out} is a folder; {flag} needs a file")
