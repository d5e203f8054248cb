"""What the commands share: an option for each setting of System, and errors that fit one line.

@app.command()
@with_settings
def edit(image: Path, *, system: System) -> None: ...
# ier1 edit IMAGE --config FILE --editor flux-kontext --seed 7   ->   edit(image, system=System(...))
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import Field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from ier1_plugin.pipeline.system import HELP, PARSE, SettingsError, read_yaml


def option(help: str, *names: str, **more: Any) -> Any:
    """A typer option whose default is said in `help`, if at all."""
    return typer.Option(*names, help=help, show_default=False, **more)


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Puts `--config` and an option for each field of a dataclass in place of the command's parameter of that type.

    The dataclass is System or one like it: `of(values, origin)` makes it, and each field has its help in its metadata.
    An option on the command line wins over the file, the file over the default. A command with a parameter `said` gets
    the names of the settings that were given in either.
    """
    own = inspect.signature(command, eval_str=True)
    parameter = next(one for one in own.parameters.values() if is_dataclass(one.annotation))
    kind: Any = parameter.annotation
    hints = get_type_hints(kind)
    options = {known.name: known for known in fields(kind)}

    def called(config: Path | None = None, **given: Any) -> None:
        with one_line_errors():
            chosen = {name: _value(known, given.pop(name)) for name, known in options.items()}
            said = (read_yaml(config) if config else {}) | {
                name: value for name, value in chosen.items() if value is not None
            }
            settings: dict[str, Any] = {parameter.name: kind.of(said, str(config or "the command line"))}
            if "said" in own.parameters:
                settings["said"] = frozenset(said)
            command(**given, **settings)

    parameters = [one for one in own.parameters.values() if one.name not in (parameter.name, "said")]
    config_option = option("YAML file with any of the settings below", "--config")
    parameters.append(_keyword("config", Annotated[Path | None, config_option]))
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
