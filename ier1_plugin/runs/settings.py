"""Settings as a dataclass, from a YAML file or from options of the command line.

parse_settings(System, read_yaml("flux_kontext.yaml"), "flux_kontext.yaml")
# System(name="ImageEdit-R1 with FLUX.1-Kontext-dev", decomposer="openai:http://127.0.0.1:8000/v1#decomposer", ...)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from ier1_plugin.runs.errors import UserError

HELP, PARSE, SHORT = "help", "parse", "short"
"""Keys of a field's metadata: its option's help, its option's short name, and what reads the option's text (ValueError:
it can't)."""
Settings = TypeVar("Settings")


class SettingsError(UserError):
    """Settings that can't be used."""


def parse_settings(kind: type[Settings], values: Mapping[str, Any], origin: str) -> Settings:
    """The dataclass `kind` with these values for its fields. SettingsError: an unknown field, a wrong value."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    known = [known.name for known in fields(kind)]  # pyright: ignore[reportArgumentType]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise SettingsError(f"{origin}: there is no {', '.join(unknown)}; the settings are {', '.join(known)}")
    blank = OmegaConf.structured(kind)
    OmegaConf.set_readonly(blank, False)
    try:
        checked: Any = OmegaConf.to_container(OmegaConf.merge(blank, values))
        return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in checked.items()})
    except OmegaConfBaseException as error:
        reason = (error.msg or str(error)).split("\n")[0]
        raise SettingsError(f"{origin}: {error.full_key}: {reason}") from None
    except ValueError as error:
        raise SettingsError(f"{origin}: {error}") from None


def read_yaml(file: str | Path) -> dict[str, Any]:
    """The settings in a YAML file; "-" and "_" in names are the same. SettingsError: see `load_yaml`."""
    values = load_yaml(file)
    if not isinstance(values, dict):
        raise SettingsError(f"{file} holds no settings; wanted lines such as editor: flux-kontext")
    return {str(name).replace("-", "_"): value for name, value in values.items()}


def load_yaml(file: str | Path) -> Any:
    """The contents of a YAML file; OmegaConf's ${oc.env:NAME} stands for a variable of the environment.

    SettingsError: it can't be read, is not YAML, or has a key twice.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import MarkedYAMLError, YAMLError

    try:
        return OmegaConf.to_container(OmegaConf.load(file), resolve=True)
    except OSError as error:
        raise SettingsError(f"{file} can't be read: {error.strerror or error}") from None
    except MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise SettingsError(f"{file} is not YAML that can be used{line}: {error.problem or error.context}") from None
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError, RecursionError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise SettingsError(f"{file} is not YAML that can be used: {reason}") from None
