"""What the commands share: an option for each setting of System, and errors that fit one line.

@app.command()
@with_settings
def edit(image: Path, *, system: System) -> None: ...
# ier1 edit IMAGE --system flux-kontext --steps 20 --seed 7   ->   edit(image, system=System(...))
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import Field, fields, is_dataclass
from typing import Annotated, Any, get_type_hints

import typer

from ier1_plugin.pipeline.system import PRESET, SYSTEM, System, find_settings
from ier1_plugin.runs.settings import HELP, PARSE, SettingsError, read_yaml

CONFIG = "config"
PRESET_HELP = "settings of an editor, such as step-cache: a name of `ier1 models`, or a YAML file"


def option(help: str, *names: str, **more: Any) -> Any:
    """A typer option whose default is said in `help`, if at all."""
    return typer.Option(*names, help=help, show_default=False, **more)


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Puts `--config` and an option for each field of a dataclass in place of the command's parameter of that type.

    The dataclass is System or one like it: `of(values, origin)` makes it, and each field has its help in its metadata.
    A System may also start from a `--system` and a `--preset`. An option on the command line wins over all files, of
    these `--preset` over `--config` and that over `--system`. A command with a parameter `said` gets the names of the
    settings that were given in any of them.
    """
    own = inspect.signature(command, eval_str=True)
    parameter = next(one for one in own.parameters.values() if is_dataclass(one.annotation))
    kind: Any = parameter.annotation
    hints = get_type_hints(kind)
    options = {known.name: known for known in fields(kind)}

    files = {CONFIG: "YAML file with any of the settings below"}
    if kind is System:
        files = {SYSTEM: "a whole system: a name of `ier1 models`, or a YAML file", **files, PRESET: PRESET_HELP}

    def called(**given: Any) -> None:
        with one_line_errors():
            named = {source: given.pop(source) for source in files}
            chosen = {name: _value(known, given.pop(name)) for name, known in options.items()}
            said: dict[str, Any] = {}
            for source, name in named.items():
                if name is not None:
                    said |= read_yaml(find_settings(source, name))
            said |= {name: value for name, value in chosen.items() if value is not None}
            origin = " and ".join(filter(None, named.values())) or "the command line"
            settings: dict[str, Any] = {parameter.name: kind.of(said, origin)}
            if "said" in own.parameters:
                settings["said"] = frozenset(said)
            command(**given, **settings)

    parameters = [one for one in own.parameters.values() if one.name not in (parameter.name, "said")]
    parameters += [_keyword(name, Annotated[str | None, option(help, f"--{name}")]) for name, help in files.items()]
    parameters += [_keyword(name, _flag(known, hints[name])) for name, known in options.items()]
    called.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    called.__doc__, called.__name__ = command.__doc__, command.__name__
    return called


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Whatever the user, a file or a server did wrong becomes one line and exit status 1."""
    from ier1_plugin.chat.server import ChatError
    from ier1_plugin.data.items import BatchError
    from ier1_plugin.editors.base import EditError
    from ier1_plugin.runs.errors import UserError
    from ier1_plugin.task.images import ImageError
    from ier1_plugin.task.schema import PlanError

    try:
        yield
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        raise typer.Exit(130) from None
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        _fail(f"{place}{error.strerror or error}")
    except (ImageError, PlanError, SettingsError, EditError, ChatError, BatchError, UserError) as error:
        _fail(str(error))


def _fail(reason: str) -> None:
    typer.echo(f"error: {' '.join(reason.split())}", err=True)
    raise typer.Exit(1)


def _keyword(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _flag(known: Field[Any], kind: Any) -> Any:
    """The option of a setting; what is neither number nor yes or no comes as text, a list as a repeatable option."""
    flag, help = f"--{known.name.replace('_', '-')}", known.metadata[HELP]
    if kind is bool:
        return Annotated[bool | None, option(help, f"{flag}/--no-{flag[2:]}")]
    if kind == tuple[str, ...] and PARSE not in known.metadata:
        return Annotated[list[str] | None, option(help, flag)]
    numbers = {int: int | None, int | None: int | None, float: float | None, float | None: float | None}
    return Annotated[numbers.get(kind, str | None), option(help, flag)]


def _value(known: Field[Any], given: Any) -> Any:
    if not given and isinstance(given, list):
        return None
    if given is None or PARSE not in known.metadata:
        return given
    try:
        return known.metadata[PARSE](given)
    except ValueError as error:
        raise SettingsError(f"--{known.name.replace('_', '-')} {error}") from None
