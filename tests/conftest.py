"""What holds for every test: a time limit, and Ctrl-C that is heard."""

from __future__ import annotations

import signal

import pytest

FULL_TIMEOUT = 7200
"""Seconds for a test that is marked `full`; the others have `timeout` of pyproject.toml."""

# A shell that runs the tests in the background has them ignore SIGINT, and their child processes with them.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("full") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(FULL_TIMEOUT))
