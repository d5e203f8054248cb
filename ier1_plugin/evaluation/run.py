"""One evaluation: a sample of a benchmark, edited by every system, looked at by every judge; resumable.

    asked = Asked(Path("evaluations/psr"), "psr", systems={"FLUX": System.read("flux_kontext_original.yaml")}, ...)
    run = evaluate(asked, tell=print)
    run["judges"][0]["name"]      # "openai:gpt-4o-2024-11-20"; DIR/judgements/ has its word on each edit

The folder, all of it plain files, is what `ier1 report` reads:

    evaluation.json               benchmark, systems, judges, prices
    sample.txt, items.jsonl, inputs/, left_out.jsonl     see inputs.py
    systems/NAME/                 output of a batch: images/, traces/, errors/, results.jsonl
    judgements/JUDGE.jsonl        a judgement a line
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from hashlib import sha256
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ier1_plugin.batch import Batch
from ier1_plugin.batch import run as run_batch
from ier1_plugin.batch_items import Item
from ier1_plugin.batch_store import Store
from ier1_plugin.commands import batch_of, run_settings
from ier1_plugin.editors import EDITORS, Edit, EditError, Editor
from ier1_plugin.evaluation import benchmark_world
from ier1_plugin.evaluation.benchmarks import Benchmark, Options, open_benchmark
from ier1_plugin.evaluation.inputs import absolute, make_items, read_items
from ier1_plugin.evaluation.judge import Judge, Pair, judge_all
from ier1_plugin.evaluation.judge_models import make_judge
from ier1_plugin.evaluation.judge_store import JudgementStore, judgements_file
from ier1_plugin.evaluation.records import BenchmarkItem, EvaluationError
from ier1_plugin.evaluation.run_file import joined, read_run, taken, write_run
from ier1_plugin.evaluation.sanity import check_judge
from ier1_plugin.images import open_image
from ier1_plugin.schema import ORIGINAL
from ier1_plugin.system import System

SYSTEMS, SANITY = "systems", "sanity"
HUMAN = "human"
# editors whose every failure is the item's own
FAIL_ONE_BY_ONE = ("folder", "pillow", benchmark_world.NAME)
SANITY_ITEMS = 12

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Asked:
    """What shall be evaluated."""

    folder: Path
    benchmark: str
    options: Options = field(default_factory=Options)
    sample: int | None = None
    ids: tuple[str, ...] = ()
    """Instead of a sample."""
    systems: Mapping[str, System] = field(default_factory=dict)
    """By the name that tables give them."""
    human: bool = False
    """True: the edits that people made are a system too."""
    judges: tuple[str, ...] = ()
    """Specs as of `make_judge`."""
    judge_settings: Mapping[str, Any] = field(default_factory=dict)
    samples: int = 1
    """Judgements of each edit."""
    jobs: int = 8
    sanity: bool = False
    retry_failed: bool = False
    prices: Mapping[str, Any] | None = None


def evaluate(asked: Asked, tell: Tell) -> dict[str, Any]:
    """Does what is missing and returns what evaluation.json says.

    EvaluationError, BatchError, ChatError, EditError, PlanError or OSError: it can't go on; what is done is kept, here
    as after Ctrl-C.
    """
    EDITORS.setdefault(benchmark_world.NAME, benchmark_world.small_world_editor)
    with taken(asked.folder), ExitStack() as open_judges:
        benchmark = open_benchmark(asked.benchmark, asked.options)
        judges = [_judge(spec, asked, open_judges, tell) for spec in asked.judges]
        items = _begin(asked, benchmark, judges, tell)
        # all of them before the first one is paid for: the last may lack its key or its folder
        batches = list(_batches(asked, items))
        if asked.sanity:
            _check_judges(asked, items, judges, tell)
        for name, batch in batches:
            tell(f"{name}: {len(items)} items of {benchmark.name}")
            run_batch(replace(batch, retry_failed=asked.retry_failed))
        for judge in judges:
            _judge_all(asked, items, judge, tell)
        return read_run(asked.folder)


def _judge(spec: str, asked: Asked, open_judges: ExitStack, tell: Tell) -> Judge:
    judge = make_judge(spec, samples=asked.samples, tell=tell, **asked.judge_settings)
    open_judges.callback(judge.close)
    return judge


def _begin(asked: Asked, benchmark: Benchmark, judges: Sequence[Judge], tell: Tell) -> list[BenchmarkItem]:
    """The items, with full paths, after evaluation.json has been written."""
    before, facts = read_run(asked.folder), _facts(asked, benchmark)
    systems, looked = _systems(asked), [_judge_facts(judge, asked) for judge in judges]
    run = joined(before, facts, systems, looked, asked.prices, asked.folder)
    items = read_items(asked.folder) if before else []
    if not items:
        items = make_items(asked.folder, benchmark, asked.options.seed, asked.sample, asked.ids, tell)
        run["benchmark"] |= {"revision": _revision(benchmark), "sampled": len(items)}
    write_run(asked.folder, run)
    return [absolute(item, asked.folder) for item in items]


def _facts(asked: Asked, benchmark: Benchmark) -> dict[str, Any]:
    options = asked.options
    wanted = {"split": options.split, "columns": dict(options.columns), "where": dict(options.where)}
    listed = sha256("\n".join(sorted(asked.ids)).encode()).hexdigest() if asked.ids else None
    chosen = {"sample": asked.sample, "ids_sha256": listed}
    return {"name": benchmark.name, "origin": benchmark.origin, "seed": options.seed} | wanted | chosen


def _revision(benchmark: Benchmark) -> str | None:
    """The commit of a set on the hub; None of local files, or where the hub does not say."""
    if not benchmark.hub:
        return None
    try:
        from huggingface_hub import HfApi

        return HfApi().dataset_info(benchmark.hub).sha
    except Exception:  # the hub client raises its own and those of the HTTP client below it
        return None


def _systems(asked: Asked) -> list[dict[str, Any]]:
    known = [_system(name, run_settings(system)) for name, system in asked.systems.items()]
    return [*known, *([_system(HUMAN, {})] if asked.human else [])]


def _system(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": name, "folder": f"{SYSTEMS}/{Item(name).name}", "settings": settings}


def _judge_facts(judge: Judge, asked: Asked) -> dict[str, Any]:
    own = {"rubric_sha256": judge.rubric_sha256, "max_side": judge.max_side, "samples": asked.samples}
    today = datetime.now(timezone.utc).date().isoformat()
    return {"name": judge.name, **dict(judge.settings), **own, "date": today}


def _check_judges(asked: Asked, items: Sequence[BenchmarkItem], judges: Sequence[Judge], tell: Tell) -> None:
    """EvaluationError: a judge can't tell edits apart, or there is nothing to try it on."""
    known = [item for item in items if item.gold_image or item.human_images][:SANITY_ITEMS]
    if len(known) < 2:
        raise EvaluationError(
            f"--sanity needs two items with an edit that is known to be good; {asked.benchmark} has {len(known)}: "
            "try the judge on --benchmark small-world"
        )
    failed = []
    for judge in judges:
        report = check_judge(judge, known, folder=asked.folder / SANITY, jobs=asked.jobs, tell=tell)
        tell(report.table())
        failed += [] if report.passed else [judge.name]
    if failed:
        raise EvaluationError(f"not to be trusted: {', '.join(failed)}; the table above says why")


def _batches(asked: Asked, items: Sequence[BenchmarkItem]) -> Iterator[tuple[str, Batch]]:
    def source() -> Iterator[Item]:
        return iter([_batch_item(item) for item in items])

    for name, system in asked.systems.items():
        out = _folder(asked, name)
        batch = batch_of(system, source, out, jobs=asked.jobs, total=len(items))
        own = system.editor.partition(":")[0] in FAIL_ONE_BY_ONE
        yield name, replace(batch, patience=None) if own else batch
    if asked.human:
        yield HUMAN, _human_batch(items, source, _folder(asked, HUMAN), asked.jobs)


def _batch_item(item: BenchmarkItem) -> Item:
    return Item(item.id, item.image, item.request)


def _human_batch(items: Sequence[BenchmarkItem], source: Callable[[], Iterator[Item]], out: Path, jobs: int) -> Batch:
    """The first of the edits that people made of each item, as the output of a batch."""
    images = {item.id: item.human_images[:1] for item in items}

    def for_item(id: str) -> Edit:
        if not images.get(id):
            raise EditError(f"nobody has edited {id}")
        return lambda image, instruction, seed: open_image(images[id][0])

    def unknown(image: Any, instruction: str, seed: int) -> Any:
        raise EditError("edits by people are found by the id of an item")

    editor = Editor(HUMAN, unknown, keeps_size=False, for_item=for_item)
    return Batch(
        source,
        Store(out),
        make_agents=lambda: (None, None),
        make_editor=lambda: editor,
        method=ORIGINAL,
        jobs=jobs,
        settings={"editor": HUMAN},
        total=len(items),
        patience=None,
    )


def _judge_all(asked: Asked, items: Sequence[BenchmarkItem], judge: Judge, tell: Tell) -> None:
    names = [*asked.systems, *([HUMAN] if asked.human else [])]
    total = len(names) * len(items) * asked.samples
    every = 0.5 if sys.stderr.isatty() else 30.0
    with JudgementStore(judgements_file(asked.folder, judge.name)) as store:
        found = judge_all(_pairs(asked, items, names), judge, store, samples=asked.samples, jobs=asked.jobs, tell=tell)
        bar = tqdm(found, desc=judge.name, unit=" judgements", total=total, mininterval=every)
        unscored = 0
        for judgement in bar:
            unscored += judgement.score is None
            bar.set_postfix(unscored=unscored, refresh=False)


def _pairs(asked: Asked, items: Sequence[BenchmarkItem], names: Sequence[str]) -> Iterator[Pair]:
    for name in names:
        store = Store(_folder(asked, name))
        for item in items:
            batch_item = _batch_item(item)
            status, why = store.status(batch_item)
            yield Pair(item, name, store.image(batch_item) if status == "edited" else why or "not edited")


def _folder(asked: Asked, name: str) -> Path:
    return asked.folder / SYSTEMS / Item(name).name
