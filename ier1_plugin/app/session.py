"""What the web page does when a button is pressed, without the page: generators of the next updates to show.

    session = Session(decomposer, sequencer, {"pillow": make_editor("pillow")})
    for update in session.edit("portrait.jpg", "make it black and white", "", None, "single-turn", "pillow", 0): ...
    # {"status": "Reading ..."}, {"parts": Decomposition(...)}, {"plan": Plan(...)}, {"steps": [...]}, {"result": ...}

Nothing here depends on the page's toolkit.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from PIL import Image

from ier1_plugin.editors.base import Edit, EditError, Editor
from ier1_plugin.pipeline.agents import MAX_SUB_REQUESTS
from ier1_plugin.pipeline.chain import (
    MAX_REQUEST_CHARACTERS,
    Agent,
    Decomposer,
    ImageEditR1,
    Sequencer,
    as_editor,
    checked_request,
)
from ier1_plugin.runs.errors import one_line
from ier1_plugin.task.images import open_image
from ier1_plugin.task.schema import CHAIN, SINGLE_TURN, Decomposition, EditResult, Plan, PlanError, Step

PREVIEW_SIDE = 1600
"""Longest side in pixels of the images on the page; the file to download has full size."""
MAX_UPLOAD_MB = 32
MAX_SEED = 2**31 - 1
BY_HAND = "the sub-requests were written or changed by hand"
READING, ORDERING = "Reading the request …", "Putting the edits in order …"
Update = dict[str, Any]
"""Some of: status (str), parts (Decomposition | None), sub_requests (tuple), plan (Plan, from the agents),
steps ([(image, caption)]), pair ((before, after)), result (EditResult)."""


@dataclass
class Session:
    """The parts of the chain, for many visitors at once."""

    decomposer: Agent | Decomposer | None
    sequencer: Agent | Sequencer | None
    editors: Mapping[str, Editor | Edit]
    """By the names that visitors choose from; the first is the default."""
    mode: str = SINGLE_TURN
    method: str = CHAIN
    seed: int = 0
    examples: tuple[tuple[Image.Image, str], ...] = field(default=(), repr=False)
    about: str = ""
    """What visitors should know about this system."""

    def __post_init__(self) -> None:
        # one edit at a time: an editor has one pipeline, on one card
        self.editors = {name: one_at_a_time(editor) for name, editor in self.editors.items()}

    def plan(self, photo: str | None, request: str) -> Iterator[Update]:
        """Yields the steps of planning. ImageError, PlanError, ChatError: one line for the visitor."""
        notes: list[str] = []
        image = _opened(photo)
        yield {"status": READING, "parts": None}
        chain = ImageEditR1(self.decomposer, self.sequencer, None, notes.append)
        for event in chain.stream(image, request, method=self.method):
            if isinstance(event, Decomposition):
                yield {"status": ORDERING, "parts": event}
            elif isinstance(event, Plan):
                status = _with_notes("The plan is ready: change it, or press Edit.", notes)
                yield {
                    "status": status,
                    "parts": event.decomposition,
                    "sub_requests": event.sub_requests,
                    "plan": event,
                }
                # what would follow is the edit
                return

    def edit(
        self, photo: str | None, request: str, written: str, plan: Plan | None, mode: str, editor: str, seed: Any
    ) -> Iterator[Update]:
        """Edits by the sub-requests that are `written`, one per line, or else by a plan made now. `plan`: the agents'
        plan that `written` came from, so that the trace can record it. Raises what `plan` raises, and EditError.
        """
        notes: list[str] = []
        if not isinstance(editor, str) or editor not in self.editors:
            raise EditError(
                f"there is no editor {one_line(repr(editor))} on this page; known: {', '.join(self.editors)}"
            )
        image, on_page = _opened(photo), _plan_on_page(request, written, plan)
        # the range first: infinity has no whole part to compare with
        if not isinstance(seed, int | float) or not 0 <= seed <= MAX_SEED or seed != int(seed):
            raise PlanError(f"the seed is {one_line(repr(seed))}; wanted a whole number from 0 to {MAX_SEED}")
        before, editing = preview(image), f"Editing with {editor} …"
        yield {"status": editing if on_page else READING, "pair": None, "steps": []}
        steps = [(before, "photo")]
        chain = ImageEditR1(self.decomposer, self.sequencer, self.editors[editor], notes.append)
        for event in chain.stream(image, on_page or request, mode=mode, method=self.method, seed=int(seed)):
            if isinstance(event, Decomposition):
                yield {"status": ORDERING, "parts": event}
            elif isinstance(event, Plan):
                # `plan` stays what the agents said, so that a second press can tell it from what is written
                shown = {"status": editing, "parts": event.decomposition, "sub_requests": event.sub_requests}
                yield shown if on_page else shown | {"plan": event}
            elif isinstance(event, Step):
                assert event.image
                steps = [*steps, (preview(event.image), f"{len(steps)}. {event.instruction}")]
                done = f"Step {len(steps) - 1} is done …"
                yield {"status": done, "steps": steps, "pair": aligned(before, steps[-1][0])}
            else:
                trace = event.trace
                if on_page and on_page != plan:
                    trace = replace(trace, notes=(*trace.notes, BY_HAND))
                status = _with_notes(f"Done in {trace.seconds:.1f} s.", notes)
                pair, result = aligned(before, preview(event.image)), EditResult(event.image, trace)
                yield {"status": status, "pair": pair, "result": result}


def one_at_a_time(editor: Editor | Edit) -> Editor:
    """The same editor; concurrent calls wait for their turn."""
    lock, own = threading.Lock(), as_editor(editor)

    def edit(image: Image.Image, instruction: str, seed: int) -> Image.Image:
        with lock:
            return own.edit(image, instruction, seed)

    return replace(own, edit=edit)


def preview(image: Image.Image) -> Image.Image:
    """A copy that is at most PREVIEW_SIDE wide and high."""
    small = image.copy()
    small.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE), Image.Resampling.LANCZOS)
    return small


def aligned(before: Image.Image, after: Image.Image) -> tuple[Image.Image, Image.Image]:
    """Both at one size, so that a slider lays each place over itself. An image of another shape is centred, which is
    where a border leaves the photo.
    """
    if before.size == after.size:
        return before, after
    size = (max(before.width, after.width), max(before.height, after.height))
    if abs(before.width * after.height - before.height * after.width) <= max(size):
        return before.resize(size), after.resize(size)
    framed = Image.new("RGBA", size), Image.new("RGBA", size)
    for canvas, image in zip(framed, (before, after), strict=True):
        canvas.paste(image, ((size[0] - image.width) // 2, (size[1] - image.height) // 2))
    return framed


def _opened(photo: str | None) -> Image.Image:
    if not photo:
        raise PlanError(f"no photo yet; choose one first (at most {MAX_UPLOAD_MB} MB)")
    return open_image(photo, keep_alpha=True)


def _plan_on_page(request: str, written: str, plan: Plan | None) -> Plan | None:
    """The plan on the page; None if there is none yet."""
    lines = tuple(filter(None, (" ".join(line.split()) for line in written.splitlines())))
    if not lines:
        return None
    if len(lines) > MAX_SUB_REQUESTS or len(written) > MAX_REQUEST_CHARACTERS:
        raise PlanError(
            f"{len(lines)} sub-requests of {len(written):,} characters; "
            f"at most {MAX_SUB_REQUESTS} of together {MAX_REQUEST_CHARACTERS:,} are taken"
        )
    words = checked_request(request) if request.strip() else "; ".join(lines)
    return replace(plan, sub_requests=lines) if plan and plan.request == words else Plan(words, lines)


def _with_notes(status: str, notes: list[str]) -> str:
    return "\n".join([status, *(f"Note: {note}" for note in notes)])
