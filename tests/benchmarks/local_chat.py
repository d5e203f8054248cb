"""How much faster weights in this process answer in batches than one request at a time, through `ier1 evaluate`.

    python tests/benchmarks/local_chat.py quickstart/warm       # a model of the small world: planning, --decomposition
    python tests/benchmarks/local_chat.py                       # random weights: --decomposition

Both ways run the same code with the same threads; only the most requests of a batch differ. Random weights write as
many tokens as they may, and no plan. Planning is its phase of an evaluation of the small world: weights are loaded,
photos read, replies parsed, unreadable ones asked for again, plans written. CPU time is this process's own, which other
work on the machine hardly changes.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from machine import Seconds, machine, timed

from data_prep.build_rl_dataset import main as build_rows
from ier1_plugin.chat import local
from ier1_plugin.data.items import Item
from ier1_plugin.evaluation import run as evaluation
from ier1_plugin.evaluation.config import EvaluationConfig
from ier1_plugin.evaluation.decomposition import score_all
from ier1_plugin.pipeline import batch
from ier1_plugin.prompts import path as prompt_path
from ier1_plugin.small_world.tiny_model import MAX_NEW_TOKENS, PIXELS, build
from ier1_plugin.task.decomposer import Decomposer

MANY, ITEMS = local.MAX_BATCH, 400


def make_model(folder: Path) -> Path:
    """Random weights that write MAX_NEW_TOKENS."""
    build(folder)
    prompt = prompt_path("decompose")
    (folder / prompt.name).write_bytes(prompt.read_bytes())
    sizes = (PIXELS, PIXELS, PIXELS, PIXELS, MAX_NEW_TOKENS)
    Decomposer(*sizes, prompt.name, "", "random", "float32", "").write(folder)
    return folder


def decomposition(model: Path, rows: Path, folder: Path, items: int) -> Seconds:
    """`ier1 evaluate --decomposition`, from start to end."""
    return timed(lambda: score_all(folder / "out", [f"local:{model}"], rows, items, seed=0, jobs=8))


def planning(model: Path, folder: Path, items: int) -> Seconds:
    """The planning of `ier1 evaluate --benchmark small-world`."""
    seconds: list[Seconds] = []

    @contextmanager
    def timed_phases(work: batch.Batch) -> Iterator[batch.RunPhase]:
        with batch.in_threads(work) as run_phase:

            def run_timed(phase: str, todo: Iterator[Item]) -> Generator[batch.Outcome, None, None]:
                outcomes: list[batch.Outcome] = []
                seconds.append(timed(lambda: outcomes.extend(run_phase(phase, todo))))
                yield from outcomes

            yield run_timed

    system = folder / "system.yaml"
    system.parent.mkdir(parents=True)
    pixels = f"min_pixels: {PIXELS}\nmax_pixels: {PIXELS}\n"
    system.write_text(f"decomposer: local:{model}\nsequencer: rule\neditor: small-world\n{pixels}")
    evaluation.run_batch = partial(batch.run, where=timed_phases)
    config = EvaluationConfig(out=str(folder / "out"), benchmark="small-world", system=(str(system),), sample=items)
    evaluation.evaluate(config, lambda line: None)
    return seconds[0]


def compare(name: str, measure: Callable[[Path, int], Seconds], folder: Path, items: int) -> None:
    # the first call pays for imports
    measure(folder / name / "first", 2)
    taken = {}
    for most in (1, MANY):
        local.MAX_BATCH = most
        taken[most] = measure(folder / name / str(most), items)
        wall, cpu = (1000 * seconds / items for seconds in taken[most])
        print(f"{name}, {items} requests, at most {most} in a batch: {wall:.1f} ms each, CPU {cpu:.1f} ms", flush=True)
    wall, cpu = (one / batched for one, batched in zip(taken[1], taken[MANY], strict=True))
    print(f"{name}: one at a time takes {wall:.1f} x as long, {cpu:.1f} x the CPU")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?", help="weights of the small world (default: random ones)")
    parser.add_argument("--items", type=int, default=ITEMS, help=f"requests, at most {ITEMS} (default: {ITEMS})")
    options = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pixels = ["--min-pixels", str(PIXELS), "--max-pixels", str(PIXELS)]
        # a tenth of them is for validation
        limit = ["--limit", str(10 * options.items)]
        if build_rows(["--source", "photos", "--output", str(folder / "rows"), *limit, *pixels]):
            raise SystemExit(1)
        model = options.model.resolve() if options.model else make_model(folder / "model")
        compare(
            "--decomposition", partial(decomposition, model, folder / "rows" / "val.parquet"), folder, options.items
        )
        if options.model:
            compare("planning", partial(planning, model), folder, options.items)


if __name__ == "__main__":
    main()
