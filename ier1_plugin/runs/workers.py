"""Parallel work on a stream that is never held in memory, and a progress bar.

as_completed(range(3), lambda number: number * 2, workers=2, stop=event.set, on_warning=print)
-> 2, 0, 4   (in completion order)

for entry in progress(entries, "reading", total=1000): ...
reading:  42%|####      | 420/1000 [00:01<00:01, 402.31 rows/s]
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from tqdm import tqdm

# waiting items a worker: enough that no worker waits for the reader, few enough that nothing piles up
WINDOW = 2

Item = TypeVar("Item")
Result = TypeVar("Result")


def as_completed(
    items: Iterable[Item],
    work: Callable[[Item], Result],
    workers: int,
    stop: Callable[[], None],
    on_warning: Callable[[str], None],
) -> Generator[Result, None, None]:
    """Yields work(item) for every item; at most WINDOW x `workers` of them are held in memory. The caller's thread
    reads `items`. An exception from `work` ends the stream, as does closing it: `stop` is called, so that `work` can
    stop waiting, and work in progress is awaited.
    """
    pool = ThreadPoolExecutor(workers)
    # concurrent.futures.wait would take the lock of every waiting item for each one that is done
    done: SimpleQueue[Future[Result]] = SimpleQueue()
    waiting = 0
    try:
        for item in items:
            pool.submit(work, item).add_done_callback(done.put)
            waiting += 1
            while waiting >= WINDOW * workers or not done.empty():
                waiting -= 1
                yield done.get().result()
        for _ in range(waiting):
            yield done.get().result()
    except KeyboardInterrupt:
        on_warning(f"interrupted: waiting for what is under way (at most {workers}), so that nothing paid for is lost")
        raise
    finally:
        stop()
        pool.shutdown(cancel_futures=True)


def progress(
    items: Iterable[Item] | None, name: str, total: int | None = None, initial: int = 0, unit: str = "rows"
) -> tqdm[Any]:
    """A progress bar on standard error that passes the items on and shows their number and speed. `items`: None for a
    bar that `.update(count)` moves. `initial` of them were done before.
    """
    from tqdm import tqdm

    # a log file wants a line now and then, a terminal a live bar
    every = 0.5 if sys.stderr.isatty() else 30.0
    return tqdm(items, desc=name, unit=f" {unit}", total=total, initial=initial, mininterval=every)
