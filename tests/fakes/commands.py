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


def ier1(*arguments: object, exit_code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == exit_code, result.output + repr(result.exception)
    return result


def refused(*arguments: object) -> str:
    """The error line of a command that fails with exit code 1, without a traceback and with nothing on stdout."""
    result = ier1(*arguments, exit_code=1)
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
