"""The `ier1` command in this process.

ier1("merge", run, "--out", out).stdout     what it printed; it must succeed
refused("merge", tmp_path / "nowhere")      the one line with which it refuses
"""

from __future__ import annotations

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
