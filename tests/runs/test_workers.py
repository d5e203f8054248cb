"""Work on a stream: never more than a window of it, results as they come, and an end that loses nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from ier1_plugin.runs.workers import WINDOW, as_completed


def run(items: Any, work: Any, workers: int = 2, **more: Any) -> Any:
    return as_completed(items, work, workers, more.get("stop", lambda: None), more.get("on_warning", lambda line: None))


def test_results_come_as_they_are_done():
    first_may_end = threading.Event()

    def work(number: int) -> int:
        if number == 0:
            first_may_end.wait(20)
        return number

    results = run(range(3), work)
    assert {next(results), next(results)} == {1, 2}
    first_may_end.set()
    assert list(results) == [0]


def test_no_more_than_a_window_is_read_ahead():
    read: list[int] = []

    def items() -> Iterator[int]:
        for number in range(1000):
            read.append(number)
            yield number

    with closing(run(items(), lambda number: number, workers=3)) as results:
        for done, _ in enumerate(results, 1):
            assert len(read) <= done + 3 * WINDOW
            if done == 100:
                break


def test_an_error_ends_the_stream_and_stops_what_waits():
    stopped = threading.Event()

    def work(number: int) -> None:
        if number == 3:
            raise KeyError(number)
        if number > 3:
            assert stopped.wait(20)

    with pytest.raises(KeyError):
        list(run(range(100), work, stop=stopped.set))
    assert stopped.is_set()


def test_ctrl_c_waits_for_what_is_under_way_and_says_so():
    done: list[int] = []
    warnings: list[str] = []

    def items() -> Iterator[int]:
        yield 0
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(run(items(), done.append, on_warning=warnings.append))
    assert done == [0]
    assert len(warnings) == 1
