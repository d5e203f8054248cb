"""The store: what survives a kill, what two writers do to each other, and what is refused."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ier1_plugin.runs.folder import RunError
from ier1_plugin.runs.store import Store

PRELUDE = """
import resource, sys
from pathlib import Path
from ier1_plugin.runs.store import Store
store = Store(Path(sys.argv[1]))
"""


def child(code: str, file: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PRELUDE + code, str(file)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "study" / "records.sqlite"


def test_records_come_back_in_their_order_and_as_they_were(file: Path, tmp_path: Path):
    strange = {"reply": "\ud800 \u2028 \0 把", "nested": [None, 1.5, {"a": "b"}]}
    wanted = [("a", {"number": 0}), ("把", strange), ("a", {"number": 1})]
    with Store(file) as store:
        for key, record in wanted:
            store.append(key, record)
        assert store.get("a") == [{"number": 0}, {"number": 1}]
        assert store.get("none") == []
        assert len(list(store)) == 3
    with Store(file) as store:
        assert list(store) == wanted
        assert list(reversed(store)) == wanted[::-1]
        store.export(tmp_path / "records.jsonl")
    *lines, last = (tmp_path / "records.jsonl").read_text(encoding="utf-8").split("\n")
    assert [json.loads(line) for line in lines] == [{"key": key, **record} for key, record in wanted]
    assert last == ""


def test_a_long_store_is_read_while_it_grows(file: Path):
    with Store(file) as store:
        for number in range(1500):
            store.append(str(number), {})
        keys = []
        for key, _ in store:
            keys.append(int(key))
            if key == "3":
                store.append("1500", {})
    assert keys == list(range(1501))


def test_what_append_returned_from_survives_kill_9(file: Path):
    writer = child("for number in range(10**9): store.append('a', {'number': number}); print(number, flush=True)", file)
    assert writer.stdout
    written = [int(writer.stdout.readline()) for _ in range(200)]
    writer.send_signal(signal.SIGKILL)
    written += map(int, writer.stdout.read().split())
    writer.wait()
    with Store(file) as store:
        numbers = [record["number"] for record in store.get("a")]
        store.append("a", {"number": -1})
    assert numbers[: len(written)] == written
    # one more may have been on disk before it was printed
    assert len(numbers) - len(written) in (0, 1)


def test_two_processes_and_many_threads_lose_nothing(file: Path):
    loop = "for number in range(150): store.append(sys.argv[1], {'number': number})"
    writers = [child(loop, file) for _ in range(2)]
    with Store(file) as store:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda name: [store.append(name, {"number": n}) for n in range(50)], "abcd"))
        for writer in writers:
            assert writer.wait() == 0, writer.stderr and writer.stderr.read()
        assert len(list(store)) == 500
        for name in "abcd":
            assert [record["number"] for record in store.get(name)] == list(range(50))


def test_a_full_disk_is_one_line_and_loses_no_whole_record(file: Path):
    code = """
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
for number in range(9999):
    store.append("a", {"number": number, "text": 100 * "x"}); print(number, flush=True)
"""
    out, error = child(code, file).communicate()
    written = list(map(int, out.split()))
    assert 0 < len(written) < 9999
    last = error.splitlines()[-1]
    assert "RunError" in last
    assert str(file) in last
    with Store(file) as store:
        assert [record["number"] for record in store.get("a")] == written
        # and there is room again
        store.append("a", {"number": -1})
        assert len(store.get("a")) == len(written) + 1


@pytest.mark.parametrize("content", [b'{"item": "lamp"}\n' * 99, b"SQLite format 3\0" + bytes(200)])
@pytest.mark.parametrize("read_only", [False, True])
def test_a_file_that_is_no_store_is_refused_and_left_alone(file: Path, content: bytes, read_only: bool):
    file.parent.mkdir()
    file.write_bytes(content)
    with pytest.raises(RunError, match=r"records\.sqlite") as refused:
        Store(file, read_only)
    assert "\n" not in str(refused.value)
    assert file.read_bytes() == content
    for place in (file.parent, file / "records.sqlite"):
        with pytest.raises(RunError, match="can't be used"):
            Store(place)


def test_a_reader_makes_nothing_and_writes_nothing(file: Path):
    with pytest.raises(RunError, match="is not there"):
        Store(file, read_only=True)
    assert not file.parent.exists()
    with Store(file) as store:
        store.append("a", {"number": 0})
        with Store(file, read_only=True) as reader:
            assert list(reader) == [("a", {"number": 0})]
            with pytest.raises(RunError, match="can't be used"):
                reader.append("a", {"number": 1})
            # it follows the writer
            store.append("a", {"number": 1})
            assert len(list(reader)) == 2
