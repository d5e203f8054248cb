"""What the commands share: an option for each setting of System, and one-line errors.

@app.command()
@with_settings
def edit(image: Path, *, system: System) -> None: ...
# ier1 edit IMAGE --system flux-kontext --steps 20 --seed 7   ->   edit(image, system=System(...))
"""

from __future__ import annotations

import inspect
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from importlib.util import find_spec
from typing import Annotated, Any, get_type_hints

import typer

from ier1_plugin.pipeline.system import PRESET, SYSTEM, System, find_settings
from ier1_plugin.runs.errors import UserError, one_line
from ier1_plugin.runs.secrets import without_password
from ier1_plugin.runs.settings import HELP, PARSE, SHORT, SettingsError, parse_settings, read_yaml

CONFIG, GIVEN = "config", "given"
PRESET_HELP = "settings of an editor, such as step-cache: a name of `ier1 models`, or a YAML file"


def option(help: str, *names: str, **more: Any) -> Any:
    """A typer option whose default is said in `help`, if at all."""
    return typer.Option(*names, help=help, show_default=False, **more)


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Puts `--config` and an option for each field of a dataclass in place of the command's parameter of that type.

    The dataclass is System or one like it, whose fields have their help in their metadata. A System may also start from
    a `--system` and a `--preset`. An option on the command line wins over all files, of these `--preset` over
    `--config` and that over `--system`. A command with a parameter `given` gets the names of the settings that were
    given in any of them.
    """
    own = inspect.signature(command, eval_str=True)
    parameter = next(one for one in own.parameters.values() if is_dataclass(one.annotation))
    kind: Any = parameter.annotation
    hints = get_type_hints(kind)
    files = {CONFIG: "YAML file with any of the settings below"}
    if kind is System:
        files = {SYSTEM: "a whole system: a name of `ier1 models`, or a YAML file", **files, PRESET: PRESET_HELP}

    def called(**options: Any) -> None:
        with one_line_errors():
            named = {source: name for source in files if (name := options.pop(source)) is not None}
            values: dict[str, Any] = {}
            for source, name in named.items():
                values |= read_yaml(find_settings(source, name))
            for known in fields(kind):
                value = options.pop(known.name)
                if value is None or value == []:
                    continue
                try:
                    values[known.name] = known.metadata[PARSE](value) if PARSE in known.metadata else value
                except ValueError as error:
                    raise SettingsError(f"--{known.name.replace('_', '-')} {error}") from None
            options[parameter.name] = parse_settings(kind, values, " and ".join(named.values()) or "the command line")
            if GIVEN in own.parameters:
                options[GIVEN] = frozenset(values)
            command(**options)

    def keyword(name: str, annotation: Any) -> inspect.Parameter:
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)

    parameters = [one for one in own.parameters.values() if one.name not in (parameter.name, GIVEN)]
    parameters += [keyword(name, Annotated[str | None, option(help, f"--{name}")]) for name, help in files.items()]
    for known in fields(kind):
        flag, hint = f"--{known.name.replace('_', '-')}", hints[known.name]
        names = (flag, f"--no-{flag[2:]}") if hint is bool else (flag,)
        # what is neither number nor yes or no comes as text, a list of texts as a repeatable option
        takes = next((one for one in (bool, int, float) if hint in (one, one | None)), str)
        if hint == tuple[str, ...] and PARSE not in known.metadata:
            takes = list[str]
        more = {"metavar": "<str>"} if takes == list[str] else {}
        short = [known.metadata[SHORT]] if SHORT in known.metadata else []
        annotation = Annotated[takes | None, option(known.metadata[HELP], *short, "/".join(names), **more)]
        parameters.append(keyword(known.name, annotation))
    called.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    called.__doc__, called.__name__ = command.__doc__, command.__name__
    return called


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Any error of the user, a file or a server becomes one line and exit status 1."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        raise typer.Exit(130) from None
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        reason = f"{place}{error.strerror or error}"
    except UserError as error:
        reason = str(error)
    else:
        return
    typer.echo(f"error: {without_password(' '.join(reason.split()))}", err=True)
    raise typer.Exit(1)


@contextmanager
def needs_extra(name: str) -> Iterator[None]:
    """A package that is missing, or lacks what is imported from it, becomes a UserError that says what to install."""
    try:
        yield
    except ImportError as error:
        if "pip install" in str(error):
            raise UserError(str(error)) from None
        package = (error.name or "").partition(".")[0]
        missing = package and find_spec(package) is None
        problem = f"{package} is not installed" if missing else f"a package can't be imported ({one_line(error)})"
        raise UserError(f"{problem}; pip install -e '.[{name}]'") from None


def end_server_by_signal() -> None:
    """From here on SIGINT and SIGTERM raise KeyboardInterrupt, also where a shell started the server in the background
    and has it ignore SIGINT. Another SIGTERM does not disturb the cleaning up.
    """

    def interrupt(*_: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
