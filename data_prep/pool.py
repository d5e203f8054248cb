"""Work on a stream in several threads without ever holding the stream.

in_completion_order(numbers, lambda number: number * 2, workers=8, stop=threading.Event(), tell=print)
-> 4, 2, 6, ...   (whatever is done first)
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

# waiting items a worker: enough that no worker waits for the reader, few enough that images don't pile up
WINDOW = 2

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_completion_order(
    items: Iterable[Item],
    work: Callable[[Item], Result],
    workers: int,
    stop: threading.Event,
    tell: Callable[[str], None],
) -> Iterator[Result]:
    """Yields work(item) for every item; at most WINDOW x `workers` of them are held. The caller's thread reads `items`.

    What `work` raises ends the stream, as does closing it: `stop` is set, for `work` to see, and what runs is awaited.
    """
    pool = ThreadPoolExecutor(workers)
    waiting: set[Future[Result]] = set()
    try:
        for item in items:
            waiting.add(pool.submit(work, item))
            room = len(waiting) < WINDOW * workers
            done, waiting = wait(waiting, timeout=0 if room else None, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    except KeyboardInterrupt:
        tell(f"interrupted: waiting for what is under way (at most {workers} requests), so that nothing paid is lost")
        raise
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
