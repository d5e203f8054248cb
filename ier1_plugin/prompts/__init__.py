"""Every prompt is a .jinja file beside this module; `render` fills one in and fails on a name that is missing.

render("decompose", content="<image>make it brighter")
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Template

FOLDER = Path(__file__).parent


def path(name: str) -> Path:
    """The file of prompt `name`, for hosts that want a file (`data.format_prompt` of EasyR1)."""
    file = FOLDER / f"{name}.jinja"
    if not file.is_file():
        known = ", ".join(sorted(p.stem for p in FOLDER.glob("*.jinja")))
        raise FileNotFoundError(f"no prompt {name!r}; known: {known}")
    return file


def render(name: str, **variables: object) -> str:
    """The text of prompt `name`; jinja2.UndefinedError names a variable that was not given."""
    # strip() first, as EasyR1's dataset does (verl/utils/dataset.py, _build_messages)
    return _compiled(path(name).read_text(encoding="utf-8").strip()).render(**variables)


@cache
def _compiled(template: str) -> Template:
    from jinja2 import Environment, StrictUndefined

    return Environment(undefined=StrictUndefined).from_string(template)
