"""The command `ier1 evaluate`: systems edit a benchmark and judges score the edits, or decompositions against gold.

    ier1 evaluate --benchmark psr --sample 100 --system flux-kontext flux-kontext-original \\
        --judge openai:gpt-4o-2024-11-20 --judge gemini:gemini-2.5-flash --out evaluations/psr
    ier1 evaluate --decomposition local:decomposer --rows data/rl/val.parquet --out evaluations/decomposer
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ier1_plugin.cli.options import one_line_errors, option

if TYPE_CHECKING:
    from ier1_plugin.pipeline.system import System

MAX_SIDE = 1024


def evaluate(
    more: Annotated[
        list[Path] | None, typer.Argument(metavar="[SYSTEM]...", help="further systems", show_default=False)
    ] = None,
    *,
    out: Annotated[Path, option("folder for everything; the same command goes on in it", "--out")],
    benchmark: Annotated[
        str,
        option(
            "psr, realedit, ultraedit[:SPLITS], gedit, imgedit, magicbrush, complex-edit[:LEVEL], jsonl:FILE, "
            "small-world[:FROM-TO]",
            "--benchmark",
        ),
    ] = "",
    system: Annotated[
        list[Path] | None, option("a system: a name of `ier1 models`, or a YAML file", "--system")
    ] = None,
    judge: Annotated[
        list[str] | None, option("openai:[BASE_URL#]MODEL, gemini:MODEL or pixel; repeatable", "--judge")
    ] = None,
    sample: Annotated[int | None, typer.Option(help="items to take (default: all)", min=1, show_default=False)] = None,
    seed: Annotated[int, option("of the sample (default: 0)", "--seed")] = 0,
    ids: Annotated[Path | None, option("take these items, one id a line, instead of a sample", "--ids")] = None,
    data: Annotated[str, option("local file or folder of the benchmark, or another hub id", "--data")] = "",
    split: Annotated[str, option("split or splits, with commas between them", "--split")] = "",
    columns: Annotated[str, option("other columns: request=NAME,image=NAME,...", "--columns")] = "",
    where: Annotated[str, option("only rows with COLUMN=VALUE,...", "--where")] = "",
    samples: Annotated[int, typer.Option(help="judgements of each edit", min=1)] = 1,
    rubric: Annotated[Path | None, option("another question to the judges, as a .jinja file", "--rubric")] = None,
    max_side: Annotated[int, typer.Option(help="longest side of what judges see", min=32)] = MAX_SIDE,
    human: Annotated[
        bool, option("the edits that people made are a system too (of several the first)", "--human")
    ] = False,
    sanity: Annotated[
        bool, option("first try the judges on edits that are known to be good or bad", "--sanity")
    ] = False,
    prices: Annotated[Path | None, option("YAML or JSON: what images and tokens cost", "--prices")] = None,
    retry_failed: Annotated[
        bool, option("edit and judge once more what failed or got no score", "--retry-failed")
    ] = False,
    jobs: Annotated[int, typer.Option("-j", "--jobs", help="edits and judgements at a time", min=1, max=1024)] = 8,
    decomposition: Annotated[
        list[str] | None,
        option(
            "instead of editing: a model (openai:BASE_URL#MODEL, local:FOLDER) or a .jsonl file of responses, "
            "scored against --rows; repeatable",
            "--decomposition",
        ),
    ] = None,
    rows: Annotated[Path | None, option("parquet file with gold decompositions", "--rows")] = None,
) -> None:
    """Edit a benchmark with systems and have judges score the edits; or score decompositions against gold rows."""
    with one_line_errors(), missing_packages_named():
        from ier1_plugin.evaluation.records import EvaluationError

        given = {"--benchmark": benchmark, "--decomposition": decomposition}
        if sum(map(bool, given.values())) != 1:
            raise EvaluationError(f"wanted one of {' and '.join(given)}; see ier1 evaluate --help")
        editing = {"--system": system or more, "--judge": judge, "--ids": ids, "--data": data, "--split": split}
        editing |= {"--columns": columns, "--where": where, "--samples": samples != 1, "--rubric": rubric}
        editing |= {"--human": human, "--sanity": sanity, "--prices": prices, "--retry-failed": retry_failed}
        idle = [flag for flag, value in (editing if decomposition else {"--rows": rows}).items() if value]
        if idle:
            other = "--decomposition" if decomposition else "--benchmark"
            raise EvaluationError(f"{', '.join(idle)} can't be used with {other}")
        if decomposition:
            _decomposition(out, decomposition, rows, sample, seed, jobs)
            return
        settings = {"rubric": rubric, "max_side": max_side}
        chosen = (benchmark, data, split, columns, where, seed, sample, ids)
        asked = _asked(out, chosen, [*(system or []), *(more or [])], judge or [], settings, prices)
        _run(asked, samples=samples, jobs=jobs, human=human, sanity=sanity, retry_failed=retry_failed)


@contextmanager
def missing_packages_named() -> Iterator[None]:
    """A package that is not installed becomes an EvaluationError with the cure."""
    from ier1_plugin.evaluation.records import EvaluationError

    try:
        yield
    except ModuleNotFoundError as error:
        cure = "" if "pip install" in str(error) else "; pip install -e '.[evaluation]'"
        raise EvaluationError(f"{error}{cure}") from None


def _run(asked: Any, **options: Any) -> None:
    from dataclasses import replace

    from ier1_plugin.evaluation.costs import usage, usage_lines
    from ier1_plugin.evaluation.records import EvaluationError
    from ier1_plugin.evaluation.run import evaluate as run

    asked = replace(asked, **options)
    if not (asked.systems or asked.human or asked.sanity):
        raise EvaluationError("nothing to evaluate; name a --system, --human or --sanity")
    if asked.sanity and not asked.judges:
        raise EvaluationError("--sanity tries judges; name one with --judge")
    try:
        found = run(asked, say)
    except KeyboardInterrupt:
        say("what is done is kept; the same command goes on from there")
        raise
    for line in usage_lines(usage(asked.folder, found)):
        say(line)
    if found["judges"] and found["systems"]:
        say(f"tables and page: ier1 report {asked.folder}")
    print(asked.folder)


def _asked(
    out: Path,
    chosen: tuple[str, str, str, str, str, int, int | None, Path | None],
    files: Sequence[Path],
    judges: Sequence[str],
    judge_settings: dict[str, Any],
    prices: Path | None,
) -> Any:
    from ier1_plugin.evaluation.benchmarks import Options
    from ier1_plugin.evaluation.benchmarks.sampling import read_ids
    from ier1_plugin.evaluation.costs import read_prices
    from ier1_plugin.evaluation.records import EvaluationError
    from ier1_plugin.evaluation.run import Asked

    benchmark, data, split, columns, where, seed, sample, ids = chosen
    if ids and sample:
        raise EvaluationError("--ids and --sample were given; wanted one of the two")
    return Asked(
        folder=out.resolve(),
        benchmark=benchmark,
        options=Options(data, split, _pairs("--columns", columns), _pairs("--where", where), seed),
        sample=sample,
        ids=tuple(read_ids(ids)) if ids else (),
        systems=_named(files),
        judges=tuple(dict.fromkeys(judges)),
        judge_settings=judge_settings,
        prices=read_prices(prices),
    )


def _named(files: Sequence[Path]) -> dict[str, System]:
    """The systems by their names; one without is called like its file."""
    from ier1_plugin.evaluation.records import EvaluationError
    from ier1_plugin.pipeline.system import System

    systems: dict[str, System] = {}
    for file in dict.fromkeys(files):
        system = System.read(file)
        name = system.name or file.stem
        if name in systems or name == "human":
            raise EvaluationError(f"{file}: a system is called {name!r} already; give it another name")
        systems[name] = system
    return systems


def _pairs(flag: str, text: str) -> dict[str, str]:
    """{"request": "wish"} of "request=wish"."""
    from ier1_plugin.evaluation.records import EvaluationError

    parts = [part.partition("=") for part in filter(None, map(str.strip, text.split(",")))]
    if not all(name.strip() and value.strip() for name, _, value in parts):
        raise EvaluationError(f"{flag} is {text!r}; wanted NAME=VALUE, with commas between several")
    return {name.strip(): value.strip() for name, _, value in parts}


def _decomposition(
    out: Path, models: Sequence[str], rows: Path | None, sample: int | None, seed: int, jobs: int
) -> None:
    from ier1_plugin.evaluation.decomposition import score_all, table
    from ier1_plugin.evaluation.records import EvaluationError

    if rows is None:
        raise EvaluationError("--decomposition needs --rows FILE.parquet, rows with gold as data_prep builds them")
    print(table(score_all(out.resolve(), models, rows, sample, seed, jobs, say)))


def say(line: str) -> None:
    """A line for the user that does not tear a bar."""
    from tqdm import tqdm

    tqdm.write(line, file=sys.stderr)
