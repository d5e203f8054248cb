"""Sub-requests that are exact operations go to an exact editor, the others to a generative one.

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

from ier1_plugin.editors.base import EditError, Editor, OnWarning, canvas_notes, ignore_warning, join, split
from ier1_plugin.task.images import fitted


def route_editor(
    argument: str, make: Callable[..., Editor], on_warning: OnWarning = ignore_warning, **settings: Any
) -> Editor:
    """The editor of "EXACT,GENERATIVE"; `settings` belong to GENERATIVE. EditError: EXACT does not compute."""
    exact_spec, _, generative_spec = (part.strip() for part in argument.partition(","))
    if not exact_spec or not generative_spec:
        raise EditError(f"route:{argument} names no two editors; wanted route:pillow,flux-kontext")
    exact = make(exact_spec)
    is_exact = exact.supports
    if is_exact is None:
        raise EditError(f"route: {exact_spec} does not compute edits exactly; wanted route:pillow,GENERATIVE")
    generative = make(generative_spec, on_warning, **settings)

    def edit(image: Image.Image, instruction: str, seed: int) -> Image.Image:
        for computed, sub_requests in groupby(split(instruction), key=is_exact):
            if computed:
                image = exact(image, join(sub_requests), seed)
                continue
            for line in canvas_notes(image.size, generative.canvas(image.size)):
                on_warning(f"{generative.name}: {line}")
            painted = generative(image, join(sub_requests), seed)
            # resized at once: later, a crop could not be told from a server's whim
            if generative.preserves_size and painted.size != image.size:
                came, wanted = (
                    f"{width} x {height}" for width, height in (painted.size, generative.canvas(image.size))
                )
                on_warning(f"{generative.name}: an edit came back as {came}, not {wanted}: resized")
                painted = fitted(painted, image.size)
            # noise that a picture was painted from must not paint it again
            image, seed = painted, seed + 1
        return image

    def turns(sub_requests: Sequence[str]) -> list[str]:
        return [join(group) for _, group in groupby(sub_requests, key=is_exact)]

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
