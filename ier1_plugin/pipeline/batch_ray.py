"""A batch on a Ray cluster: Ray Data actors do what threads do on one machine, with an editor for each actor.

    run(batch, OnRay(gpus=1).start)      # as many actors as the cluster has GPUs, or `jobs` of them without any

Input, images and the output folder must be where every node finds them under the same path. Whatever Ray starts, stops
or starts anew, an item is done when its image is there, so nothing is done twice.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ier1_plugin.data.items import BatchError, Item, item_of
from ier1_plugin.pipeline.batch import PLAN, Batch, Outcome, Worker
from ier1_plugin.runs.errors import log, one_line
from ier1_plugin.runs.folder import PART

# enough blocks that a slow actor does not hold the others up, few enough that Ray keeps count with ease
BLOCKS_PER_ACTOR, MAX_BLOCKS = 16, 1000


@dataclass(frozen=True)
class OnRay:
    """Where and how to run; `start` is what `batch.run` takes."""

    address: str | None = None
    """Of the cluster, such as "auto"; None: the one that RAY_ADDRESS names, or one that is started here."""
    gpus: float | None = None
    """GPUs for each actor; None: 1 where the cluster has any, else none."""

    def start(self, batch: Batch) -> _RayRunner:
        try:
            import ray
        except ImportError:
            raise BatchError("--ray needs Ray: pip install 'ray[data]'") from None
        own = not ray.is_initialized()
        if own:
            _connect(ray, self.address)
        return _RayRunner(batch, self.gpus, own)


class _RayRunner:
    def __init__(self, batch: Batch, gpus: float | None, own: bool) -> None:
        self._batch = batch
        self._gpus = gpus
        self._own = own

    def __call__(self, phase: str, items: Iterator[Item]) -> Generator[Outcome, None, None]:
        todo = self._batch.store.out / f".todo.jsonl{PART}"
        count = _write(todo, items)
        if not count:
            return
        gpus, actors = self._share()
        rows = _rows(todo, min(count, BLOCKS_PER_ACTOR * actors, MAX_BLOCKS))
        outcomes = rows.map_batches(
            _Actor,
            fn_constructor_args=(self._batch, phase),
            compute=_pool(min(actors, count)),
            num_gpus=gpus,
            # actors that held the last CPU would wait for ever for the task that reads their input
            num_cpus=0,
            # an item at a time, so that each outcome is known when it is there
            batch_size=1,
        )
        with _one_line():
            for row in outcomes.iter_rows():
                yield Outcome(**row)

    def close(self) -> None:
        import ray

        (self._batch.store.out / f".todo.jsonl{PART}").unlink(missing_ok=True)
        if self._own:
            ray.shutdown()

    def _share(self) -> tuple[float, int]:
        """GPUs for each actor, and how many actors."""
        import ray

        there = ray.cluster_resources().get("GPU", 0.0)
        gpus = self._gpus if self._gpus is not None else float(there >= 1)
        if gpus > there:
            raise BatchError(f"an editor wants {gpus:g} GPU and the cluster has {there:g}; see --ray-gpus")
        return gpus, int(there // gpus) if gpus else self._batch.jobs


class _Actor:
    """Lives in a process of its own; makes its editor once."""

    def __init__(self, batch: Batch, phase: str) -> None:
        self._worker = Worker(batch, phase, batch.make_editor() if phase != PLAN else None, log)

    def __call__(self, rows: dict[str, Any]) -> dict[str, Any]:
        outcomes = [asdict(self._worker(item_of(json.loads(str(line))))) for line in rows["text"]]
        return {name: [outcome[name] for outcome in outcomes] for name in outcomes[0]}


def _connect(ray: Any, address: str | None) -> None:
    try:
        ray.init(address=address, log_to_driver=True, configure_logging=True, logging_level="warning")
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise BatchError(f"no Ray cluster at {address or 'this machine'}: {str(error).splitlines()[0]}") from None


@contextmanager
def _one_line() -> Iterator[None]:
    """What an actor raised, without the way that it took."""
    from ray.exceptions import RayError, RayTaskError

    try:
        yield
    except RayTaskError as error:
        cause: Any = error.cause
        cause = cause.__cause__ or cause
        raise BatchError(f"{type(cause).__name__}: {one_line(cause)}") from error
    except RayError as error:
        raise BatchError(f"Ray gave up: {one_line(error)}") from error


def _rows(todo: Path, blocks: int) -> Any:
    import ray

    # there is a bar already
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    ray.data.DataContext.get_current().enable_progress_bars = False
    # as text: a JSON reader would take a request that looks like a date for one
    return ray.data.read_text(str(todo)).repartition(blocks)


def _pool(actors: int) -> Any:
    import ray

    return ray.data.ActorPoolStrategy(size=actors)


def _write(todo: Path, items: Iterator[Item]) -> int:
    count = 0
    with todo.open("w", encoding="utf-8") as lines:
        for item in items:
            lines.write(json.dumps(item.as_dict()) + "\n")
            count += 1
    return count
