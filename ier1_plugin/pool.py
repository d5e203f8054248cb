"""Work on a stream in several threads without ever holding the stream.

in_completion_order(range(3), lambda number: number * 2, workers=2, stop=event.set, tell=print)
-> 2, 0, 4   (whatever is done first)
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

# waiting items a worker: enough that no worker waits for the reader, few enough that nothing piles up
WINDOW = 2

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_completion_order(
    items: Iterable[Item],
    work: Callable[[Item], Result],
    workers: int,
    stop: Callable[[], None],
    tell: Callable[[str], None],
) -> Generator[Result, None, None]:
    """Yields work(item) for every item; at most WINDOW x `workers` of them are held. The caller's thread reads `items`.

    What `work` raises ends the stream, as does closing it: `stop` is called, so that `work` can cut waiting short, and
    what is under way is awaited.
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
        tell(f"interrupted: waiting for what is under way (at most {workers}), so that nothing paid for is lost")
        raise
    finally:
        stop()
        pool.shutdown(cancel_futures=True)
