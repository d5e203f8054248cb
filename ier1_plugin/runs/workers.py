"""Work on a stream in several threads without ever holding the stream.

as_completed(range(3), lambda number: number * 2, workers=2, stop=event.set, tell=print)
-> 2, 0, 4   (whatever is done first)
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

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
    """Yields work(item) for every item; at most WINDOW x `workers` of them are held. The caller's thread reads `items`.

    What `work` raises ends the stream, as does closing it: `stop` is called, so that `work` can cut waiting short, and
    what is under way is awaited.
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
