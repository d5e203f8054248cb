"""Claims in the shared store: one claimant at a time, whoever dies or hangs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from ier1_plugin.runs import shared_store
from ier1_plugin.runs.shared_store import SharedStore

CLAIMANT = """
import sys, time
from pathlib import Path
from ier1_plugin.runs.shared_store import SharedStore
with SharedStore(Path(sys.argv[1])) as store, store.claim("a"):
    print("claimed", flush=True)
    sys.stdin.readline()
    store.keep("a", {"picture": 0.5})
"""


@pytest.fixture(autouse=True)
def claims_of_this_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks in a temporary folder of the test's, for its child processes as well."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)


@contextmanager
def claimant(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds a claim until it gets a line."""
    command = [sys.executable, "-c", CLAIMANT, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "claimed\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_waiting_process_finds_what_the_claimant_has_kept(tmp_path: Path):
    with claimant(tmp_path) as process, SharedStore(tmp_path) as store, ThreadPoolExecutor() as pool:

        def wait() -> object:
            with store.claim("a"):
                return store.get("a")

        waiting = pool.submit(wait)
        # no other key waits for it
        with store.claim("b"):
            assert not waiting.done()
        process.communicate("go on\n")
        assert waiting.result() == {"picture": 0.5}


def test_a_claim_ends_with_kill_9_of_its_process(tmp_path: Path):
    with claimant(tmp_path) as process, SharedStore(tmp_path) as store:
        process.send_signal(signal.SIGKILL)
        with store.claim("a"):
            assert store.get("a") is None


def test_a_claimant_that_hangs_is_not_waited_for_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shared_store, "CLAIM_TIMEOUT", 0.3)
    with claimant(tmp_path) as process, SharedStore(tmp_path) as store:
        process.send_signal(signal.SIGSTOP)
        start = time.monotonic()
        with store.claim("a"):
            assert store.get("a") is None
        assert time.monotonic() - start >= 0.3


def test_threads_wait_for_each_other(tmp_path: Path):
    made = []
    with SharedStore(tmp_path) as store, ThreadPoolExecutor(8) as pool:

        def make(number: int) -> None:
            key = f"{number % 4:03}"
            with store.claim(key):
                if store.get(key) is None:
                    made.append(key)
                    time.sleep(0.01)
                    store.keep(key, {})

        list(pool.map(make, range(32)))
        assert sorted(made) == ["000", "001", "002", "003"]


def test_where_nothing_can_be_locked_work_goes_on(tmp_path: Path):
    (tmp_path / f"ier1-claims-{os.getuid()}").write_text("a file in the way of the folder")
    with SharedStore(tmp_path / "store") as store, store.claim("a"):
        store.keep("a", {})


def test_a_damaged_file_of_another_process_is_left_out(tmp_path: Path):
    with SharedStore(tmp_path) as one:
        for number in range(200):
            one.keep(str(number), {"padding": "x" * 100})
    (file,) = tmp_path.glob("*.sqlite")
    data = file.read_bytes()
    file.write_bytes(data[:8192] + b"\0" * (len(data) - 8192))
    with SharedStore(tmp_path) as other:
        other.keep("new", {})
        assert other.get("new") == {}
