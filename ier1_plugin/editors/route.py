"""Sub-requests that are exact operations go to an editor that computes, the others to one that paints.

    editor = route_editor("pillow,flux-kontext", make_editor)
    editor.turns(["Crop photo to left half only", "Replace sky with sunset", "Add a bird"])
    # ["Crop photo to left half only.", "Replace sky with sunset.\nAdd a bird."]: consecutive ones are merged

People beat generative editors in 80 % and more of the requests to crop or zoom (PSR, arXiv 2505.16181, Table A8). The
paper has no such router, so it is used only where it is named.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from PIL import Image

from ier1_plugin.editors.base import EditError, Editor, OnWarning, ignore_warning, join, split
from ier1_plugin.task.images import Size, fitted


def route_editor(
    argument: str, make: Callable[..., Editor], on_warning: OnWarning = ignore_warning, **settings: Any
) -> Editor:
    """The editor of "EXACT,GENERATIVE"; `settings` belong to GENERATIVE. EditError: EXACT does not compute."""
    exact_spec, _, generative_spec = (part.strip() for part in argument.partition(","))
    if not exact_spec or not generative_spec:
        raise EditError(f"route:{argument} names no two editors; wanted route:pillow,flux-kontext")
    exact = make(exact_spec)
    if exact.supports is None:
        raise EditError(f"route: {exact_spec} does not compute edits exactly; wanted route:pillow,GENERATIVE")
    return _routed(exact, exact.supports, make(generative_spec, on_warning, **settings), on_warning)


def _routed(exact: Editor, is_exact: Callable[[str], bool], generative: Editor, on_warning: OnWarning) -> Editor:
    def edit(image: Image.Image, instruction: str, seed: int) -> Image.Image:
        for computed, sub_requests in _groups(split(instruction), is_exact):
            if computed:
                image = exact(image, join(sub_requests), seed)
            else:
                image = _same_size(generative(image, join(sub_requests), seed), image.size, generative, on_warning)
                # noise that a picture was painted from must not paint it again
                seed += 1
        return image

    def turns(sub_requests: Sequence[str]) -> list[str]:
        return [join(group) for _, group in _groups(sub_requests, is_exact)]

    def close() -> None:
        exact.close()
        generative.close()

    return Editor(
        f"route:{exact.name},{generative.name}",
        edit,
        # each painted turn goes to the canvas of its own picture, since a crop before it may have changed the shape
        preserves_size=False,
        local=generative.local,
        turns=turns,
        settings={exact.name: exact.settings, generative.name: generative.settings},
        close=close,
    )


def _same_size(edited: Image.Image, size: Size, editor: Editor, on_warning: OnWarning) -> Image.Image:
    """What was painted, in the size of what it was painted on: later, a crop could not be told from a server's whim."""
    if editor.preserves_size and edited.size != size:
        came, wanted = (f"{width} x {height}" for width, height in (edited.size, editor.canvas(size)))
        on_warning(f"{editor.name}: an edit came back as {came}, not {wanted}: resized")
        return fitted(edited, size)
    return edited


def _groups(sub_requests: Sequence[str], is_exact: Callable[[str], bool]) -> list[tuple[bool, list[str]]]:
    """Runs of neighbours that go to the same editor; True: to the exact one."""
    return [(computed, list(group)) for computed, group in groupby(sub_requests, key=is_exact)]
