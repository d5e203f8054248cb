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
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ier1_plugin.data.items import Item
from ier1_plugin.editors import EDITORS, Edit, EditError, Editor
from ier1_plugin.evaluation.benchmarks import Benchmark, Options, open_benchmark
from ier1_plugin.evaluation.benchmarks.sample import absolute, check_human, known_items, make_items
from ier1_plugin.evaluation.benchmarks.small_world import NAME as SMALL_WORLD
from ier1_plugin.evaluation.benchmarks.small_world import small_world_editor
from ier1_plugin.evaluation.costs import SANITY, check_prices
from ier1_plugin.evaluation.folder import NOT_TRIED, joined, read_items, read_run, taken, write_run
from ier1_plugin.evaluation.judges import make_judge
from ier1_plugin.evaluation.judges.judging import Judge, Pair, judge_all
from ier1_plugin.evaluation.judges.run_sanity import ITEMS as TRIED
from ier1_plugin.evaluation.judges.run_sanity import refuse_failed, today, try_judges
from ier1_plugin.evaluation.judges.store import JudgementStore, judgements_file
from ier1_plugin.evaluation.records import BenchmarkItem
from ier1_plugin.pipeline.batch import Batch, batch_of
from ier1_plugin.pipeline.batch import run as run_batch
from ier1_plugin.pipeline.batch_folder import BatchFolder
from ier1_plugin.pipeline.system import System, run_settings
from ier1_plugin.runs.fingerprint import fingerprint
from ier1_plugin.task.images import open_image
from ier1_plugin.task.schema import ORIGINAL

SYSTEMS = "systems"
HUMAN = "human"
# editors whose every failure is the item's own
FAIL_ONE_BY_ONE = ("folder", "pillow", SMALL_WORLD)

OnWarning = Callable[[str], None]
Settings = Callable[[System], dict[str, Any]]


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


def evaluate(asked: Asked, on_warning: OnWarning) -> dict[str, Any]:
    """Does what is missing and returns what evaluation.json says.

    EvaluationError, BatchError, ChatError, EditError, PlanError or OSError: it can't go on; what is done is kept, here
    as after Ctrl-C.
    """
    EDITORS.setdefault(SMALL_WORLD, small_world_editor)
    with taken(asked.folder), ExitStack() as open_judges:
        benchmark = open_benchmark(asked.benchmark, asked.options)
        judges = [_judge(spec, asked, open_judges, on_warning) for spec in asked.judges]
        # the systems of a study share their agents
        settings = partial(run_settings, fingerprint=cache(fingerprint))
        items, run = _begin(asked, benchmark, judges, settings, on_warning)
        # all of them before the first one is paid for: the last may lack its key or its folder
        batches = list(_batches(asked, items, settings))
        write_run(asked.folder, run | {"judges": read_run(asked.folder)["judges"]})
        if asked.sanity:
            try_judges(asked.folder, items, judges, run, asked.jobs, on_warning)
        write_run(asked.folder, run)
        for name, batch in batches:
            on_warning(f"{name}: {len(items)} items of {benchmark.name}")
            run_batch(replace(batch, retry_failed=asked.retry_failed))
        for judge in judges:
            _judge_all(asked, items, judge, on_warning)
        return run


def _judge(spec: str, asked: Asked, open_judges: ExitStack, on_warning: OnWarning) -> Judge:
    judge = make_judge(spec, samples=asked.samples, on_warning=on_warning, **asked.judge_settings)
    open_judges.callback(judge.close)
    return judge


def _begin(
    asked: Asked, benchmark: Benchmark, judges: Sequence[Judge], settings: Settings, on_warning: OnWarning
) -> tuple[list[BenchmarkItem], dict[str, Any]]:
    """The items, with full paths, and what evaluation.json shall say; of systems and judges it does not say it yet."""
    before = read_run(asked.folder)
    looked = [_judge_facts(judge, asked) for judge in judges]
    run = joined(before, _facts(asked, benchmark), _systems(asked, settings), looked, asked.prices, asked.folder)
    check_prices(run)
    if not asked.sanity:
        refuse_failed(run, judges)
    items = _items(asked, benchmark, run, bool(before), on_warning)
    if asked.human:
        check_human(items, benchmark)
    write_run(asked.folder, run | {kind: before.get(kind, []) for kind in ("systems", "judges")})
    return items, run


def _items(
    asked: Asked, benchmark: Benchmark, run: dict[str, Any], begun: bool, on_warning: OnWarning
) -> list[BenchmarkItem]:
    """Those that are there or else the sample; only what judges are tried on where nothing is to be edited."""
    folder, seed = asked.folder, asked.options.seed
    items = read_items(folder) if begun else []
    if not items and not (asked.systems or asked.human):
        folder /= SANITY
        items = known_items(folder, benchmark, seed, asked.sample, asked.ids, TRIED)
    elif not items:
        items = make_items(folder, benchmark, seed, asked.sample, asked.ids, on_warning)
        run["benchmark"] |= {
            "revision": _revision(benchmark),
            "splits": list(benchmark.splits()),
            "sampled": len(items),
        }
    return [absolute(item, folder) for item in items]


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


def _systems(asked: Asked, settings: Settings) -> list[dict[str, Any]]:
    known = [_system(name, settings(system)) for name, system in asked.systems.items()]
    return [*known, *([_system(HUMAN, {})] if asked.human else [])]


def _system(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": name, "folder": f"{SYSTEMS}/{Item(name).name}", "settings": settings}


def _judge_facts(judge: Judge, asked: Asked) -> dict[str, Any]:
    own = {"rubric_sha256": judge.rubric_sha256, "max_side": judge.max_side, "samples": asked.samples}
    return {"name": judge.name, **dict(judge.settings), **own, "date": today(), "sanity": NOT_TRIED}


def _batches(asked: Asked, items: Sequence[BenchmarkItem], settings: Settings) -> Iterator[tuple[str, Batch]]:
    def source() -> Iterator[Item]:
        return iter([_batch_item(item) for item in items])

    for name, system in asked.systems.items():
        out = _folder(asked, name)
        batch = batch_of(system, source, out, jobs=asked.jobs, total=len(items), settings=settings(system))
        own = system.editor.partition(":")[0] in FAIL_ONE_BY_ONE
        yield name, replace(batch, max_consecutive_failures=None) if own else batch
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

    editor = Editor(HUMAN, unknown, preserves_size=False, for_item=for_item)
    return Batch(
        source,
        BatchFolder(out),
        make_agents=lambda: (None, None),
        make_editor=lambda: editor,
        method=ORIGINAL,
        jobs=jobs,
        settings={"editor": HUMAN},
        total=len(items),
        max_consecutive_failures=None,
    )


def _judge_all(asked: Asked, items: Sequence[BenchmarkItem], judge: Judge, on_warning: OnWarning) -> None:
    names = [*asked.systems, *([HUMAN] if asked.human else [])]
    total = len(names) * len(items) * asked.samples
    every = 0.5 if sys.stderr.isatty() else 30.0
    with JudgementStore(judgements_file(asked.folder, judge.name), asked.retry_failed) as store:
        found = judge_all(
            _pairs(asked, items, names), judge, store, samples=asked.samples, jobs=asked.jobs, on_warning=on_warning
        )
        bar = tqdm(found, desc=judge.name, unit=" judgements", total=total, mininterval=every)
        unscored = 0
        for judgement in bar:
            unscored += judgement.score is None
            bar.set_postfix(unscored=unscored, refresh=False)


def _pairs(asked: Asked, items: Sequence[BenchmarkItem], names: Sequence[str]) -> Iterator[Pair]:
    for name in names:
        store = BatchFolder(_folder(asked, name))
        for item in items:
            batch_item = _batch_item(item)
            status, why = store.status(batch_item)
            yield Pair(item, name, store.image(batch_item) if status == "edited" else why or "not edited")


def _folder(asked: Asked, name: str) -> Path:
    return asked.folder / SYSTEMS / Item(name).name
