"""What an image editor is to the rest of the package: a callable (image, instruction, seed) -> image.

    editor = make_editor("pillow")
    editor(photo, "Crop photo to left half only", 0)      # a 512 x 341 photo -> its left 256 x 341 pixels
    editor.canvas((3000, 1000))                           # (3000, 1000); FLUX.1-Kontext says (1568, 672)

A chain of turns resizes the photo to `canvas(photo.size)` once, runs every turn there and goes back to the photo's own
size once, at the very end. An editor that `preserves_size` is meant to return every image in the size that it came in;
if one comes back in another size, the chain reports that and resizes it. The others change the size on purpose, and
their result is left as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from importlib.util import find_spec
from typing import Any, TypeVar

from PIL import Image

from ier1_plugin.runs.errors import UserError, one_line
from ier1_plugin.task.images import Size, fitted, open_image

Edit = Callable[[Image.Image, str, int], Image.Image]
"""(RGB image, instruction, seed) -> a new RGB image; raises nothing but EditError."""

OnWarning = Callable[[str], None]
"""Gets a line about something that went wrong without stopping the work."""

Chosen = TypeVar("Chosen")

# what is worth a note
MAX_DISTORTION, MAX_ENLARGEMENT = 1.1, 2.0

# what pip calls modules that have another name than their package
_PACKAGES = {"google.genai": "google-genai"}
_SENTENCE_END = tuple(".!?。！？…\"'”")
_QUOTED = r"\"[^\"]*\"|“[^”]*”"
# a full stop after two characters of a word, so that neither "1." nor "e.g." ends a sentence
_BOUNDARY = re.compile(rf"({_QUOTED})|\n+|;\s+|(?<=[\w%)\"”][\w%)\"”])[.!?]\s+|[。！？]")


class EditError(UserError):
    """An edit that failed, or an editor that is not available; the message says why in one line."""


def ignore_warning(line: str) -> None:
    """For callers that have nobody to warn."""


@dataclass(frozen=True)
class Editor:
    """An editor that is ready to work. Calling it makes one edit."""

    name: str
    """Its name in traces, such as "flux-kontext"."""
    edit: Edit
    canvas: Callable[[Size], Size] = lambda size: size
    """Size of the original image -> the one size for all turns of its chain. EditError: it has none for this size."""
    preserves_size: bool = True
    """False: the size of the result is part of the edit (a crop, a finished image) and must be left alone."""
    keeps_alpha: bool = False
    """True: it is given transparency where the photo has any (RGBA), and may return it; False: all images are RGB."""
    local: bool = True
    """True: it computes in this process, one edit at a time, and repeats exactly for a seed. False: a server does."""
    turns: Callable[[Sequence[str]], list[str]] = list
    """Sub-requests -> the instructions of a multi-turn chain."""
    for_item: Callable[[str], Edit] | None = None
    """Set if the result depends on which item of a batch it is: its id -> the edit for it."""
    supports: Callable[[str], bool] | None = None
    """Set by editors that compute instead of painting: True for a sub-request better left to them (`route`)."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What a trace records, without secrets: model, steps, library versions."""
    close: Callable[[], None] = lambda: None
    """Frees memory and connections; an edit after it is an EditError or starts anew."""

    def __call__(self, image: Image.Image, instruction: str, seed: int) -> Image.Image:
        return self.edit(image, instruction, seed)


def on_canvas(edit: Edit, canvas: Callable[[Size], Size]) -> Edit:
    """`edit` for images of any size: it works on their canvas, and the result is brought back to the size that came.

    An image that has the size of its canvas is not resampled, so a chain that runs on one canvas costs nothing here. A
    result of another size than the canvas is returned as it is, so that the caller notices.
    """

    def edited(image: Image.Image, instruction: str, seed: int) -> Image.Image:
        if not instruction.strip():
            raise EditError("the instruction is empty; say what to change")
        size = canvas(image.size)
        result = edit(fitted(open_image(image), size), instruction.strip(), seed)
        return fitted(result, image.size if result.size == size else result.size)

    return edited


def join(sub_requests: Iterable[str]) -> str:
    """All sub-requests as one instruction: a line each, ended as a sentence.

    The full stop is for T5, whose tokenizer takes a line break for a space; the line break is for `split`.
    """
    lines = [" ".join(sub_request.split()) for sub_request in sub_requests]
    return "\n".join(line if line.endswith(_SENTENCE_END) else f"{line}." for line in lines if line)


def split(instruction: str) -> list[str]:
    """The inverse of `join`; splits other text at lines, sentences and semicolons. Quotes stay whole."""
    parts, start = [], 0
    for boundary in _BOUNDARY.finditer(instruction):
        if boundary[1] is None:
            parts.append(instruction[start : boundary.start()])
            start = boundary.end()
    parts.append(instruction[start:])
    return [part.strip().removesuffix(".") for part in parts if part.strip(" .\n\t")]


def is_flat(image: Image.Image) -> bool:
    """True if all pixels are the same."""
    return image.getcolors(1) is not None


def canvas_notes(size: Size, canvas: Size) -> list[str]:
    """Lines about what an image loses on its canvas and back: its shape, its detail."""
    notes, (across, down) = [], (side / other for side, other in zip(size, canvas, strict=True))
    shown, worked = (f"{width} x {height}" for width, height in (size, canvas))
    if max(across / down, down / across) > MAX_DISTORTION:
        notes.append(f"the image ({shown}) is squeezed to {worked} for the editor, and stretched back")
    if max(across, down) > MAX_ENLARGEMENT:
        notes.append(
            f"the image ({shown}) is edited at {worked} and enlarged {max(across, down):.1f} times: fine detail is lost"
        )
    return notes


@contextmanager
def failing_as(name: str, hints: Mapping[str, str] | None = None, secrets: Iterable[str] = ()) -> Iterator[None]:
    """Turns whatever fails inside into an EditError that begins with `name`; the message of a UserError stays as it is.

    `hints`: name of an exception class (or of one of its bases) -> what to say instead of its message.
    """
    try:
        yield
    except EditError:
        raise
    except UserError as error:
        raise EditError(str(error)) from error
    except Exception as error:
        classes = [base.__name__ for base in type(error).__mro__]
        hint = next((hints[base] for base in classes if base in hints), None) if hints else None
        raise EditError(f"{name}: {hint or one_line(error, secrets)}") from error


def is_installed(module: str) -> bool:
    """True if `module` can be imported; does not import it."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def packages_of(modules: Iterable[str]) -> str:
    """The pip names of the packages of these modules, separated by spaces."""
    return " ".join(_PACKAGES.get(module, module) for module in modules)


def need(name: str, *modules: str) -> None:
    """EditError if one of the modules is not installed; `name` is the editor that needs it."""
    missing = packages_of(module for module in modules if not is_installed(module))
    if missing:
        raise EditError(f"{name} needs {missing.replace(' ', ', ')}: pip install {missing}")


def number(value: Any, name: str, low: float, high: float, whole: bool = False) -> Any:
    """`value` if it is a number from `low` to `high`; otherwise an EditError that names the setting."""
    kinds = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        raise EditError(f"{name} is {value!r}; wanted a {'whole ' if whole else ''}number from {low} to {high}")
    return value


def options_of(kind: type[Chosen], name: str, settings: Mapping[str, Any], *others: str) -> Chosen:
    """A dataclass of options from the settings of the editor `name`, which has `others` too. EditError: an unknown
    one, a wrong value."""
    known_keys(settings, (*(known.name for known in fields(kind)), *others), f"the editor {name}")  # pyright: ignore
    return kind(**settings)


def known_keys(given: Mapping[str, Any], known: Iterable[str], what: str) -> None:
    """EditError if `given` has a key that is not `known`."""
    names = sorted(set(known))
    unknown = sorted(set(given) - set(names))
    if unknown:
        raise EditError(f"{what} has no {', '.join(unknown)}; it has {', '.join(names) or 'none'}")
