"""A batch on a Ray cluster: Ray Data actors do what threads do on one machine, each with its own editor.

    run(batch, OnRay(gpus=1).start)      # as many actors as the cluster has GPUs, or `jobs` of them without any

Input, images and the output folder must be where every node finds them under the same path. Whatever Ray starts, stops
or restarts, an item is done when its image exists, so nothing is done twice.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ier1_plugin.data.items import Item
from ier1_plugin.editors.base import Editor
from ier1_plugin.pipeline.batch import PLAN, Batch, Outcome, RunPhase, Worker
from ier1_plugin.pipeline.chain import as_editor
from ier1_plugin.runs.cluster import connected
from ier1_plugin.runs.errors import one_line, with_class
from ier1_plugin.runs.folder import PART, RunError

# enough blocks that a slow actor does not hold the others up, few enough that Ray keeps count with ease
BLOCKS_PER_ACTOR, MAX_BLOCKS = 16, 1000


@dataclass(frozen=True)
class OnRay:
    """Where and how to run; `start` is what `batch.run` takes."""

    address: str | None = None
    """Address of the cluster, such as "auto"; None: the one that RAY_ADDRESS names, or one that is started here."""
    gpus: float | None = None
    """GPUs for each actor; None: 1 where the cluster has any, else none."""

    @contextmanager
    def start(self, batch: Batch) -> Iterator[RunPhase]:
        """Connects to the cluster, or starts one that ends with the batch. RunError: there is none."""
        todo = batch.folder.out / f".todo.jsonl{PART}"
        with connected(self.address):
            try:
                yield partial(self._run_phase, batch, todo)
            finally:
                todo.unlink(missing_ok=True)

    def _run_phase(self, batch: Batch, todo: Path, phase: str, items: Iterator[Item]) -> Generator[Outcome, None, None]:
        import ray
        from ray.exceptions import RayError, RayTaskError

        count = 0
        with todo.open("w", encoding="utf-8") as lines:
            for item in items:
                lines.write(json.dumps(item.as_dict()) + "\n")
                count += 1
        if not count:
            return
        available = ray.cluster_resources().get("GPU", 0.0)
        gpus = self.gpus if self.gpus is not None else float(available >= 1)
        if gpus > available:
            raise RunError(f"an editor wants {gpus:g} GPU and the cluster has {available:g}; see --ray-gpus")
        actors = int(available // gpus) if gpus else batch.jobs
        # as text: a JSON reader would take a request that looks like a date for one
        rows = ray.data.read_text(str(todo)).repartition(min(count, BLOCKS_PER_ACTOR * actors, MAX_BLOCKS))
        outcomes = rows.map_batches(
            _Actor,
            fn_constructor_args=(batch, phase),
            compute=ray.data.ActorPoolStrategy(size=min(actors, count)),
            num_gpus=gpus,
            # actors that held the last CPU would wait for ever for the task that reads their input
            num_cpus=0,
            # an item at a time, so that each outcome is known when it is there
            batch_size=1,
        )
        try:
            for row in outcomes.iter_rows():
                yield Outcome(**row)
        except RayTaskError as error:
            # what an actor raised, without the way that it took
            cause: Any = error.cause
            cause = cause.__cause__ or cause
            raise RunError(with_class(cause)) from error
        except RayError as error:
            raise RunError(f"Ray gave up: {one_line(error)}") from error


class _Actor:
    """Lives in a process of its own; makes its editor once."""

    def __init__(self, batch: Batch, phase: str) -> None:
        editor: Editor | None = as_editor(batch.make_editor()) if phase != PLAN else None
        self._worker = Worker(batch, phase, editor)

    def __call__(self, rows: dict[str, Any]) -> dict[str, Any]:
        outcomes = [asdict(self._worker(Item(**json.loads(str(line))))) for line in rows["text"]]
        return {name: [outcome[name] for outcome in outcomes] for name in outcomes[0]}
