"""Image editors by name: EDITORS holds their makers, `make_editor` reads a spec, `describe_editors` lists them.

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

from ier1_plugin.editors.available import KONTEXT, QWEN, QWEN_PLUS, Description, describe
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

Maker = Callable[..., Editor]
"""(what follows the name and a colon, or "", **settings) -> an editor. One that has an `on_warning` is given it."""


def make_editor(spec: str, on_warning: OnWarning = ignore_warning, /, **settings: Any) -> Editor:
    """The editor of "NAME" or "NAME:ARGUMENT". A setting that is None counts as not given. `on_warning` gets a line for
    whatever failed and is retried, such as a request that a server rejected. EditError: no such editor, a setting that
    it does not have, a missing package, key or folder.
    """
    name, _, argument = spec.strip().partition(":")
    if name not in EDITORS:
        raise EditError(f"there is no editor {name!r}; known: {', '.join(EDITORS)} (`ier1 models` says more)")
    maker = EDITORS[name]
    options = {key: value for key, value in settings.items() if value is not None}
    # the first parameter is the argument
    accepted = list(inspect.signature(maker).parameters.values())[1:]
    names = {parameter.name for parameter in accepted}
    # a maker with **settings checks them itself
    if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in accepted):
        known_keys(options, names - {"on_warning"}, f"the editor {name}")
    if "on_warning" in names:
        options["on_warning"] = on_warning
    with failing_as(f"the editor {name}"):
        return maker(argument, **options)


def describe_editors() -> list[Description]:
    """Every editor: what it is, what it needs, and whether it is available here. Loads nothing heavy."""
    return describe(EDITORS)


def _diffusers(name: str, model: str) -> Maker:
    """A maker for one model of the hub; what follows its name is another folder or hub id of the same model."""
    return lambda argument, **settings: diffusers_editor(argument or model, name=name, **settings)


EDITORS: dict[str, Maker] = {
    "flux-kontext": _diffusers("flux-kontext", KONTEXT),
    "qwen-image-edit": _diffusers("qwen-image-edit", QWEN),
    "qwen-image-edit-plus": _diffusers("qwen-image-edit-plus", QWEN_PLUS),
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
