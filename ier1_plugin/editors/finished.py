"""Finished images of a system that does not run here, as an editor, so that they are judged like any other.

editor = finished_editor("outputs/step1x-edit")
editor.for_item("object_removal_5")(photo, request, 0)     # outputs/step1x-edit/object_removal_5.png
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from ier1_plugin.editors.base import Edit, EditError, Editor, join
from ier1_plugin.task.images import USUAL_SUFFIXES, ImageError, image_suffixes, open_image


def finished_editor(directory: str) -> Editor:
    """The editor of a folder with an image for each item id. EditError: no such folder."""
    folder = Path(directory).expanduser()
    if not directory or not folder.is_dir():
        raise EditError(f"folder:{directory} is not a folder; wanted folder:DIR with an image for each id")

    def edit(image: Image.Image, instruction: str, seed: int) -> Image.Image:
        raise EditError(
            f"folder:{directory} finds images by the id of an item, and this edit has none; run it as a batch"
        )

    def for_item(id: str) -> Edit:
        def finished(image: Image.Image, instruction: str, seed: int) -> Image.Image:
            # an id may hold folders and an ending, but may lead to no file outside the folder
            root, suffixes = folder.resolve(), image_suffixes()
            endings = [ending for suffix in suffixes for ending in (suffix, suffix.upper())]
            if id.lower().endswith(suffixes):
                endings.insert(0, "")
            files = [root / f"{id}{ending}" for ending in endings] if id and "\0" not in id else []
            inside = (file for file in files if file.resolve().is_relative_to(root) and file.is_file())
            path = next(inside, None)
            if path is None:
                raise EditError(
                    f"{folder} has no image for {id!r}; wanted {id}.png, or another of {', '.join(USUAL_SUFFIXES)}"
                )
            try:
                return open_image(path)
            except ImageError as error:
                raise EditError(f"{path}: {error}") from None

        return finished

    return Editor(
        "folder",
        edit,
        preserves_size=False,
        # an image that is finished takes one turn, whatever was asked
        turns=lambda sub_requests: [join(sub_requests)],
        for_item=for_item,
        settings={"folder": str(folder)},
    )
