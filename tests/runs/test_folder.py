"""Run folders: one run at a time, the settings it began with, files that are whole."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ier1_plugin.runs.errors import MAX_LINE, UserError, one_line
from ier1_plugin.runs.folder import (
    RunError,
    changes,
    clear_parts,
    freeze_settings,
    locked,
    read_settings,
    write,
    writing,
)

SETTINGS = {"editor": "pillow", "seed": 0, "judge": {"model": "a", "temperature": 0.0}, "rows": (1, 2)}


def child(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A process that runs `code` after the imports that all need."""
    imports = "import os, sys; from pathlib import Path; from ier1_plugin.runs.folder import locked, writing\n"
    command = [sys.executable, "-c", imports + code, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_second_run_is_refused_until_the_first_ends_or_is_killed(tmp_path: Path):
    out = tmp_path / "new" / "run"
    with locked(out):
        for _ in range(2):
            with pytest.raises(RunError, match="another run is writing to"), locked(out):
                pass
    with child("with locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()", out) as other:
        assert other.stdout
        assert other.stdout.readline() == "held\n"
        with pytest.raises(RunError, match="another run"), locked(out):
            pass
        other.kill()
        other.wait()
    with locked(out):
        assert out.is_dir()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"file/run .*choose another folder"), locked(tmp_path / "file" / "run"):
        pass
    with pytest.raises(OSError, match=r"file/plan\.json"):
        write(tmp_path / "file" / "plan.json", "{}")


def test_a_run_goes_on_with_the_settings_that_it_began_with(tmp_path: Path):
    file = tmp_path / "run.json"
    for _ in range(2):
        freeze_settings(file, SETTINGS)
    assert read_settings(file) == SETTINGS | {"rows": [1, 2]}
    with pytest.raises(RunError, match=r"model 'a', now 'b', seed 0, now 1\)"):
        freeze_settings(file, SETTINGS | {"seed": 1, "judge": {"model": "b", "temperature": 0.0}})
    assert changes({"a": 1, "b": 1}, {"a": 2, "b": 1, "c": 3}, free=("a",)) == ["c None, now 3"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_damaged_settings_are_one_line(tmp_path: Path, content: bytes):
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(RunError, match=r"run\.json is damaged"):
        freeze_settings(tmp_path / "run.json", SETTINGS)
    with pytest.raises(RunError, match="can't be read"):
        read_settings(tmp_path / "none.json")


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path):
    file = tmp_path / "plans" / ("n" * 250 + ".json")
    write(file, "{把}")
    assert file.read_text(encoding="utf-8") == "{把}"
    half_written: Any = [b"half", "not bytes"]
    with pytest.raises(TypeError), writing(file) as half:
        half.writelines(half_written)
    write(file, b"whole")
    assert [entry.read_bytes() for entry in file.parent.iterdir()] == [b"whole"]


def test_what_a_killed_run_left_half_written_is_removed(tmp_path: Path):
    code = "with writing(Path(sys.argv[1])) as file: file.write(b'half'); file.flush(); os.kill(os.getpid(), 9)"
    child(code, tmp_path / "plan.json").communicate()
    write(tmp_path / "other.json", "{}")
    assert len(os.listdir(tmp_path)) == 2
    clear_parts(tmp_path)
    assert os.listdir(tmp_path) == ["other.json"]


def test_threads_write_one_file_without_harm(tmp_path: Path):
    texts = [str(number) * 9999 for number in range(8)]
    together = threading.Barrier(8)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda text: (together.wait(20), write(tmp_path / "a", text)), texts))
    assert (tmp_path / "a").read_text() in texts
    assert os.listdir(tmp_path) == ["a"]


def test_an_error_is_one_short_line_without_secrets():
    assert one_line(ValueError("a\n  b key-12345"), ("key-12345", "", "b")) == "a b ***"
    assert one_line(KeyboardInterrupt()) == "KeyboardInterrupt"
    assert len(one_line("x" * 999)) == MAX_LINE
    assert issubclass(RunError, UserError)
