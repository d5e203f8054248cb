"""Image editors by name: EDITORS holds their makers, `make_editor` reads a spec, `describe_editors` says what is here.

    editor = make_editor("flux-kontext", steps=28, offload="model")
    editor = make_editor("images-api:http://127.0.0.1:8000/v1#Qwen/Qwen-Image-Edit-2511")
    edited = editor(photo, "Recoloring coat to scarlet.", 0)

A further editor is one more entry: `EDITORS["mine"] = maker`, where `maker("what follows mine:", **settings)` returns
an `Editor`. Importing this package loads neither torch nor any client.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from ier1_plugin.editors.available import Description, described
from ier1_plugin.editors.base import (
    Edit,
    EditError,
    Editor,
    OnWarning,
    failing_as,
    ignore_warning,
    join,
    known_keys,
    split,
)
from ier1_plugin.editors.finished import finished_editor
from ier1_plugin.editors.local.diffusers import diffusers_editor
from ier1_plugin.editors.local.icedit import icedit_editor
from ier1_plugin.editors.pillow.editor import pillow_editor
from ier1_plugin.editors.remote.gemini import nano_banana_editor
from ier1_plugin.editors.remote.images_api import gpt_image_editor, images_api_editor, seededit_editor
from ier1_plugin.editors.route import route_editor

__all__ = ["EDITORS", "Edit", "EditError", "Editor", "Maker", "describe_editors", "join", "make_editor", "split"]

TELL = "on_warning"
Maker = Callable[..., Editor]
"""(what follows the name and a colon, or "", **settings) -> an editor. One that has a `on_warning` is given it."""


def make_editor(spec: str, on_warning: OnWarning = ignore_warning, /, **settings: Any) -> Editor:
    """The editor of "NAME" or "NAME:ARGUMENT". A setting that is None counts as not given.

    `on_warning` gets a line for whatever went wrong and is tried again, such as a request that a server refused for now.
    EditError, in one line: no such editor, a setting that it does not have, a package, key or folder that is missing.
    """
    name, _, argument = spec.strip().partition(":")
    if name not in EDITORS:
        raise EditError(f"there is no editor {name!r}; known: {', '.join(EDITORS)} (`ier1 models` says more)")
    maker = EDITORS[name]
    given = {key: value for key, value in settings.items() if value is not None}
    # the first parameter is the argument
    accepted = list(inspect.signature(maker).parameters.values())[1:]
    if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in accepted):
        known_keys(given, {parameter.name for parameter in accepted} - {TELL}, f"the editor {name}")
    told = {TELL: on_warning} if TELL in (parameter.name for parameter in accepted) else {}
    with failing_as(f"the editor {name}"):
        return maker(argument, **given | told)


def describe_editors() -> list[Description]:
    """Every editor: what it is, what it needs, and whether that is here. Loads nothing heavy."""
    return described(EDITORS)


def _diffusers(name: str, model: str) -> Maker:
    """A maker for one model of the hub; what follows its name is another folder or hub id of the same."""

    def make(argument: str, **settings: Any) -> Editor:
        return diffusers_editor(argument or model, name=name, **settings)

    make.__signature__ = inspect.signature(diffusers_editor)  # type: ignore[attr-defined]
    return make


EDITORS: dict[str, Maker] = {
    "flux-kontext": _diffusers("flux-kontext", "black-forest-labs/FLUX.1-Kontext-dev"),
    "qwen-image-edit": _diffusers("qwen-image-edit", "Qwen/Qwen-Image-Edit"),
    "qwen-image-edit-plus": _diffusers("qwen-image-edit-plus", "Qwen/Qwen-Image-Edit-2511"),
    "diffusers": diffusers_editor,
    "icedit": icedit_editor,
    "nano-banana": nano_banana_editor,
    "gpt-image": gpt_image_editor,
    "images-api": images_api_editor,
    "seededit": seededit_editor,
    "folder": finished_editor,
    "pillow": pillow_editor,
    "route": partial(route_editor, make=make_editor),
}
