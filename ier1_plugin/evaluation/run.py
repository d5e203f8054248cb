"""One evaluation: a sample of a benchmark, edited by every system, scored by every judge; resumable.

    run = evaluate(EvaluationConfig(out="evaluations/psr", benchmark="psr", system=("flux-kontext",), ...), print)
    run["judges"][0]["name"]      # "openai:gpt-4o-2024-11-20"

The folder that it leaves is described in folder.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timezone
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from ier1_plugin.data.items import Item
from ier1_plugin.editors import EDITORS, Edit, EditError, Editor
from ier1_plugin.evaluation.benchmarks import open_benchmark
from ier1_plugin.evaluation.benchmarks.sample import known_items, make_items, read_ids
from ier1_plugin.evaluation.benchmarks.small_world import NAME as SMALL_WORLD
from ier1_plugin.evaluation.benchmarks.small_world import small_world_editor
from ier1_plugin.evaluation.config import EvaluationConfig
from ier1_plugin.evaluation.costs import check_prices, read_prices, usage, usage_lines
from ier1_plugin.evaluation.folder import EXPORT, JUDGEMENTS, NOT_TRIED, SANITY, joined, read_items, read_run, write_run
from ier1_plugin.evaluation.judges import make_judge
from ier1_plugin.evaluation.judges.base import Judge, Pair
from ier1_plugin.evaluation.judges.judging import JudgementStore, judge_all
from ier1_plugin.evaluation.judges.sanity import ITEMS, check_judge
from ier1_plugin.evaluation.records import BenchmarkItem, EvaluationError
from ier1_plugin.pipeline.batch import Batch, batch_of
from ier1_plugin.pipeline.batch import run as run_batch
from ier1_plugin.pipeline.batch_folder import BatchFolder
from ier1_plugin.pipeline.system import System, run_settings
from ier1_plugin.runs.fingerprint import fingerprint
from ier1_plugin.runs.folder import locked
from ier1_plugin.runs.workers import progress
from ier1_plugin.task.images import open_image
from ier1_plugin.task.schema import ORIGINAL

SYSTEMS, HUMAN = "systems", "human"
# editors whose every failure is the item's own
FAIL_ONE_BY_ONE = ("folder", "pillow", SMALL_WORLD)


def evaluate(config: EvaluationConfig, on_warning: Callable[[str], None]) -> dict[str, Any]:
    """Does what is missing and returns the contents of evaluation.json.

    UserError or OSError: it can't begin or continue, or a system edited nothing, or a judge scored nothing; what is
    done is kept, here as after Ctrl-C.
    """
    config.check()
    EDITORS.setdefault(SMALL_WORLD, small_world_editor)
    folder = Path(config.out).resolve()
    with locked(folder), ExitStack() as opened:
        # all that can be checked is checked before anything is downloaded or paid for
        before = read_run(folder)
        benchmark = open_benchmark(config)
        ids = read_ids(config.ids) if config.ids else []
        items: list[BenchmarkItem] = []
        batches = _batches(config, folder, items)
        judges: list[Judge] = []
        asking = {"samples": config.samples, "rubric": config.rubric, "max_side": config.max_side}
        for spec in dict.fromkeys(config.judge):
            judges.append(make_judge(spec, max_tokens=config.judge_max_tokens, on_warning=on_warning, **asking))
            opened.callback(judges[-1].close)
        run = joined(
            before,
            {
                "name": benchmark.name,
                "origin": benchmark.origin,
                "seed": config.seed,
                "split": config.split,
                "columns": config.columns,
                "where": config.where,
                "sample": config.sample,
                "ids_sha256": sha256("\n".join(sorted(ids)).encode()).hexdigest() if ids else None,
            },
            [
                {"name": name, "folder": _folder(name), "settings": batch.settings if name != HUMAN else {}}
                for name, batch in batches.items()
            ],
            [
                {
                    "name": judge.name,
                    **judge.settings,
                    "rubric_sha256": judge.rubric_sha256,
                    "max_side": judge.max_side,
                    "samples": config.samples,
                    "date": _today(),
                    "sanity": NOT_TRIED,
                }
                for judge in judges
            ],
            read_prices(config.prices),
            folder,
        )
        check_prices(run)
        for judge in judges:
            if judge.name in run["failed_sanity"] and not config.sanity:
                raise EvaluationError(
                    f"{judge.name} failed its sanity check here on {run['failed_sanity'][judge.name]['date']}; "
                    "try it again with --sanity, or name another judge"
                )
        place = folder
        items += read_items(folder) if before else []
        if not items and batches:
            items += make_items(folder, benchmark, config.seed, config.sample, ids, on_warning)
            run["benchmark"] |= {
                "revision": _revision(benchmark.hub),
                "splits": list(benchmark.splits()),
                "sampled": len(items),
            }
        elif not items:
            # to try judges, a few items are enough, and no others are written
            place = folder / SANITY
            items += known_items(place, benchmark, config.seed, config.sample, ids, ITEMS)
        items[:] = [item.in_folder(place) for item in items]
        if config.human and not any(item.human_images for item in items):
            raise EvaluationError(
                f"--human: none of the {len(items)} items of {benchmark.name} has an edit by a person; name their "
                "column with --columns human=NAME, or local files that have them with --data (why some have none: "
                "left_out.jsonl)"
            )
        if config.sanity:
            write_run(folder, run | {"judges": before.get("judges", [])})
            _try_judges(folder, items, judges, run, config, on_warning)
        write_run(folder, run)

        for name, batch in batches.items():
            on_warning(f"{name}: {len(items)} items of {benchmark.name}")
            run_batch(replace(batch, total=len(items), retry_failed=config.retry_failed))
        if judges and batches:
            with JudgementStore(folder / JUDGEMENTS, config.retry_failed) as store:
                for judge in judges:
                    _judge(judge, items, batches, store, config, on_warning)
                store.export(folder / EXPORT)
        uses = usage(folder, run)
        for line in usage_lines(uses):
            on_warning(line)
        asked = {*batches, *(judge.name for judge in judges if batches)}
        if empty := [one.name for one in uses if not one.done and one.name in asked]:
            raise EvaluationError(
                f"nothing was edited or scored by {', '.join(empty)}; the reason stands above; once that is put right, "
                "add --retry-failed"
            )
        return run


def _batches(config: EvaluationConfig, folder: Path, items: Sequence[BenchmarkItem]) -> dict[str, Batch]:
    """The batch of each system, by its name; `items` may be filled later, until the first one runs.

    EvaluationError, EditError, PlanError: a system is not available here.
    """

    def source() -> Iterator[Item]:
        return iter([Item(item.id, item.image, item.request) for item in items])

    batches: dict[str, Batch] = {}
    # the systems of a study share their agents
    weigh = cache(fingerprint)
    for file in dict.fromkeys(config.system):
        system = System.read(file)
        name = system.name or Path(file).stem
        if name in batches or name == HUMAN:
            raise EvaluationError(f"{file}: a system is called {name!r} already; give it another name")
        settings = run_settings(system, weigh)
        batch = batch_of(system, source, folder / _folder(name), jobs=config.jobs, total=0, settings=settings)
        own = system.editor.partition(":")[0] in FAIL_ONE_BY_ONE
        batches[name] = replace(batch, max_consecutive_failures=None) if own else batch
    if not config.human:
        return batches

    # the first of the edits that people made of each item, as if an editor had made it
    @cache
    def human_images() -> dict[str, str]:
        return {item.id: item.human_images[0] for item in items if item.human_images}

    def for_item(id: str) -> Edit:
        if id not in human_images():
            raise EditError(f"nobody has edited {id}")
        return lambda image, instruction, seed: open_image(human_images()[id])

    def unknown(image: Any, instruction: str, seed: int) -> Any:
        raise EditError("edits by people are found by the id of an item")

    batches[HUMAN] = Batch(
        source,
        BatchFolder(folder / _folder(HUMAN)),
        make_agents=lambda: (None, None),
        make_editor=lambda: Editor(HUMAN, unknown, preserves_size=False, for_item=for_item),
        method=ORIGINAL,
        jobs=config.jobs,
        settings={"editor": HUMAN},
        max_consecutive_failures=None,
    )
    return batches


def _try_judges(
    folder: Path,
    items: Sequence[BenchmarkItem],
    judges: Sequence[Judge],
    run: dict[str, Any],
    config: EvaluationConfig,
    on_warning: Callable[[str], None],
) -> None:
    """Records in `run` how each judge did in its sanity check. EvaluationError: one failed, which is recorded on
    disk."""
    joined_before = {one["name"] for one in read_run(folder)["judges"]}
    failed = []
    for judge in judges:
        report = check_judge(judge, items, folder / SANITY, config.jobs, on_warning, config.retry_failed)
        on_warning(report.table())
        facts = next(one for one in run["judges"] if one["name"] == judge.name)
        facts["sanity"] = f"{'FAILED' if report.failed else 'passed'} on {report.items} items, {_today()}"
        run["failed_sanity"].pop(judge.name, None)
        if report.failed:
            failed.append(judge.name)
            run["failed_sanity"][judge.name] = {
                "date": _today(),
                "items": report.items,
                "why": list(report.failed),
            }
    if failed:
        # a judge that had joined before it failed keeps its judgements, and says with them that it failed
        write_run(folder, run | {"judges": [one for one in run["judges"] if one["name"] in joined_before]})
        raise EvaluationError(f"not to be trusted: {', '.join(failed)}; the table above says why")


def _judge(
    judge: Judge,
    items: Sequence[BenchmarkItem],
    batches: Mapping[str, Batch],
    store: JudgementStore,
    config: EvaluationConfig,
    on_warning: Callable[[str], None],
) -> None:
    """Has one judge score every edit that it has not scored yet."""

    def pairs() -> Iterator[Pair]:
        for name, batch in batches.items():
            for item in items:
                job = Item(item.id, item.image, item.request)
                status, why = batch.folder.status(job)
                yield Pair(item, name, batch.folder.image(job) if status == "edited" else why or "not edited")

    total = len(batches) * len(items) * config.samples
    judgements = judge_all(pairs(), judge, store, config.samples, config.jobs, on_warning)
    bar = progress(judgements, judge.name, total, unit="judgements")
    unscored = 0
    for judgement in bar:
        unscored += judgement.score is None
        bar.set_postfix(unscored=unscored, refresh=False)


def _revision(hub: str) -> str | None:
    """The commit of a set on the hub; None for local files, or if the hub does not say."""
    if not hub:
        return None
    try:
        from huggingface_hub import HfApi

        return HfApi().dataset_info(hub).sha
    except Exception:  # the hub client raises its own errors and those of the HTTP client below it
        return None


def _folder(name: str) -> str:
    return f"{SYSTEMS}/{Item(name).name}"


def _today() -> str:
    return datetime.now(timezone.utc).date().isoformat()
