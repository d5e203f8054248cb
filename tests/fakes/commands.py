"""The `ier1` command in this process, and other commands in their own.

ier1("merge", run, "--out", out).stdout     what it printed; it must succeed
refused("merge", tmp_path / "nowhere")      the one line with which it refuses
output_of("bash", script, cwd=folder)       what it printed; it must succeed
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from typer.testing import CliRunner, Result

from ier1_plugin.cli.main import app


def ier1(*arguments: object, exit_code: int | None = 0) -> Result:
    """`exit_code`: None for any."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert exit_code in (None, result.exit_code), result.output + repr(result.exception)
    return result


def refused(*arguments: object) -> str:
    return one_line(ier1(*arguments, exit_code=1))


def one_line(result: Result) -> str:
    """The error that a command ended with: one line, no traceback, nothing on standard output."""
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: "), result.stderr
    return last


def output_of(*command: object, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout
