"""The chain: a photo and a request in plain words in, the edited photo and how it came about out.

    chat = make_chat("openai:http://127.0.0.1:8000/v1#decomposer")
    agents = ImageEditR1(partial(decompose, chat=chat), rule, make_editor("flux-kontext"))
    result = agents.edit("portrait.jpg", "Change the color of her coat and possibly hair to scarlet or copper red")
    result.trace.plan.sub_requests     # ("Recoloring coat to scarlet or copper red", "Recoloring hair to ...")
    result.image.save("red.png")

Each of the three parts may be any function of the same shape, such as `lambda image, instruction, seed: image`.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from ier1_plugin.editors.base import Edit, EditError, as_it_is, join, one_each
from ier1_plugin.pipeline.agents import Answer, name_of
from ier1_plugin.runs.errors import one_line
from ier1_plugin.task.images import Size, fitted, open_image
from ier1_plugin.task.rows import neutralise
from ier1_plugin.task.schema import (
    CHAIN,
    METHODS,
    MODES,
    MULTI_TURN,
    ORIGINAL,
    SINGLE_TURN,
    AgentTrace,
    Decomposition,
    EditResult,
    Plan,
    PlanError,
    Step,
    Trace,
)

MAX_REQUEST_CHARACTERS = 8_000
"""As when training data is built: people write a few hundred, and the prompt has to fit the context."""

_LOG = logging.getLogger(__name__)
Photo = Image.Image | str | Path | bytes
Decomposer = Callable[[Image.Image, str], Decomposition | Answer[Decomposition | None]]
Sequencer = Callable[[Decomposition, Image.Image, str], Sequence[str] | Answer[tuple[str, ...]]]


class ImageEditR1:
    """The decomposition agent, the sequencing agent and the editing agent (paper, Algorithm 1)."""

    def __init__(
        self,
        decomposer: Decomposer | None,
        sequencer: Sequencer | None,
        editor: Edit | None,
        on_warning: Callable[[str], None] = _LOG.warning,
    ) -> None:
        """A part that will not be needed may be None: the agents for a plan at hand, the editor for planning alone.

        `on_warning` gets a line for whatever did not go as it should and went on all the same, such as a fallback.
        """
        self.decomposer = decomposer
        self.sequencer = sequencer
        self.editor = editor
        self.on_warning = on_warning

    def edit(self, image: Photo, request: str | Plan, **options: Any) -> EditResult:
        """Plans, unless `request` is a plan already, and edits. Options as of `stream`."""
        *_, result = self.stream(image, request, **options)
        assert isinstance(result, EditResult)
        return result

    def plan(self, image: Photo, request: str, method: str = CHAIN) -> Plan:
        """The sub-requests that `request` comes to. With ORIGINAL it is passed on word for word."""
        *_, plan = self._plan(upright(image), request, method)
        assert isinstance(plan, Plan)
        return plan

    def stream(
        self,
        image: Photo,
        request: str | Plan,
        *,
        mode: str = SINGLE_TURN,
        method: str = CHAIN,
        seed: int = 0,
        item: str = "",
    ) -> Iterator[Decomposition | Plan | Step | EditResult]:
        """What `edit` does, bit by bit: yields the decomposition, the plan, each step when it is done, the result.

        `item`: the id of the image in a batch, for editors whose answer depends on it. Raises ImageError, PlanError,
        ChatError and EditError, each with one line for the user.
        """
        if mode not in MODES:
            raise PlanError(f"no mode {mode!r}; known: {', '.join(MODES)}")
        photo = upright(image)
        if isinstance(request, Plan):
            plan = request
            yield plan
        else:
            plan = yield from self._plan(photo, request, method)
        start, steps = time.perf_counter(), []
        for step in self._turns(photo, plan, mode, seed, item):
            yield step
            steps.append(step)
        yield self._result(photo, plan, mode, seed, steps, _since(start))

    def _plan(self, photo: Image.Image, request: str, method: str) -> Generator[Decomposition | Plan, None, Plan]:
        """Yields the decomposition, if there is one, and the plan, which it returns as well."""
        words = checked_request(request)
        if method not in METHODS:
            raise PlanError(f"no method {method!r}; known: {', '.join(METHODS)}")
        if method == ORIGINAL:
            plan = Plan(words, (words,), ORIGINAL)
        else:
            plan = yield from self._ask(photo, words)
        for line in plan.fallbacks:
            self.on_warning(line)
        yield plan
        return plan

    def _ask(self, photo: Image.Image, words: str) -> Generator[Decomposition, None, Plan]:
        """Asks both agents, the second one only if the first one found something."""
        if self.decomposer is None or self.sequencer is None:
            raise PlanError("no agents to plan with; name a decomposer, or use a plan or the method original")
        parts = _decomposed(_answer(self.decomposer, photo, words))
        if parts.value is None:
            return Plan(words, (words,), CHAIN, None, parts.trace)
        yield parts.value
        order = _ordered(_answer(self.sequencer, parts.value, photo, words))
        return Plan(words, order.value or (words,), CHAIN, parts.value, parts.trace, order.trace)

    def _turns(self, photo: Image.Image, plan: Plan, mode: str, seed: int, item: str) -> Iterator[Step]:
        """Edit after edit on one canvas; what comes back in another size is brought back to it."""
        if self.editor is None:
            raise EditError("no editor; name one")
        canvas, edit = self._canvas(photo), _for_item(self.editor, item)
        image = fitted(photo, canvas)
        for turn, instruction in enumerate(instructions(plan, mode, self.editor)):
            step, image = _turn(edit, image, instruction, seed + turn)
            if self._keeps_size and step.size != canvas:
                self.on_warning(_resized(turn, step, canvas))
                image = fitted(image, canvas)
            yield replace(step, image=image, sha256=sha256(image))

    def _result(
        self, photo: Image.Image, plan: Plan, mode: str, seed: int, steps: list[Step], seconds: float
    ) -> EditResult:
        """The last image in the size of the photo, unless the editor meant another, and how it came about."""
        canvas = self._canvas(photo)
        off_canvas = [(turn, step) for turn, step in enumerate(steps) if self._keeps_size and step.size != canvas]
        trace = Trace(
            plan=plan,
            mode=mode,
            seed=seed,
            editor=name_of(self.editor),
            editor_settings=getattr(self.editor, "settings", {}),
            image_size=photo.size,
            image_sha256=sha256(photo),
            canvas=canvas,
            steps=tuple(steps),
            seconds=seconds,
            notes=(*plan.fallbacks, *(_resized(turn, step, canvas) for turn, step in off_canvas)),
        )
        last = steps[-1].image or photo
        return EditResult(fitted(last, photo.size) if self._keeps_size else last, trace)

    @property
    def _keeps_size(self) -> bool:
        return getattr(self.editor, "preserves_size", True)

    def _canvas(self, photo: Image.Image) -> Size:
        return getattr(self.editor, "canvas", as_it_is)(photo.size)


def instructions(plan: Plan, mode: str, editor: Any = None) -> list[str]:
    """What the editor is told, call by call: everything at once, or one thing after another."""
    if plan.method == ORIGINAL:
        return list(plan.sub_requests)
    if mode == MULTI_TURN:
        return getattr(editor, "turns", one_each)(plan.sub_requests)
    return [join(plan.sub_requests)]


def checked_request(request: str) -> str:
    """The request, harmless for chat templates. PlanError: empty or too long."""
    if not isinstance(request, str):
        raise PlanError(f"the request is {one_line(repr(request))}; wanted plain words")
    words = neutralise(request)
    if not words:
        raise PlanError("the request is empty; say in plain words what shall change")
    if len(words) > MAX_REQUEST_CHARACTERS:
        raise PlanError(f"the request has {len(words):,} characters; at most {MAX_REQUEST_CHARACTERS:,} are taken")
    return words


def upright(image: Photo) -> Image.Image:
    """An upright RGB image from a file, encoded bytes or Pillow's own, which is left as it is. ImageError: damaged."""
    if not isinstance(image, Image.Image):
        return open_image(image)
    turned = ImageOps.exif_transpose(image)
    if turned.mode == "RGB":
        return turned
    # the one way from other modes to RGB takes encoded images; TIFF holds them all
    buffer = BytesIO()
    turned.save(buffer, "TIFF")
    return open_image(buffer.getvalue())


def sha256(image: Image.Image) -> str:
    """Of the RGB bytes."""
    return hashlib.sha256(image.tobytes()).hexdigest()


def _turn(edit: Edit, image: Image.Image, instruction: str, seed: int) -> tuple[Step, Image.Image]:
    start = time.perf_counter()
    # a copy: a function that paints on what it was given must not change what came before
    edited = edit(image.copy(), instruction, seed)
    if not isinstance(edited, Image.Image):
        raise EditError(f"the editor {name_of(edit)} returned {one_line(repr(edited))}; wanted an image")
    edited = upright(edited)
    return Step(instruction, seed, _since(start), "", edited.size), edited


def _for_item(editor: Any, item: str) -> Edit:
    by_id = getattr(editor, "for_item", None)
    return by_id(item) if by_id and item else editor


def _answer(agent: Any, *asked: Any) -> Answer[Any]:
    """What an agent answers; a plain function has no more to say than its value."""
    start = time.perf_counter()
    answer = agent(*asked)
    return answer if isinstance(answer, Answer) else Answer(answer, AgentTrace(name_of(agent), seconds=_since(start)))


def _decomposed(answer: Answer[Any]) -> Answer[Decomposition | None]:
    """PlanError for what is no decomposition; none at all is a fallback, and is said."""
    if not isinstance(answer.value, Decomposition | None):
        raise PlanError(_returned(answer, "decomposer", "a Decomposition, or None"))
    return answer if answer.value is not None else _word_for_word(answer, "decomposition")


def _ordered(answer: Answer[Any]) -> Answer[tuple[str, ...]]:
    """PlanError for what are no sub-requests; none at all is a fallback, and is said."""
    value = answer.value
    lists_strings = isinstance(value, Sequence) and all(isinstance(part, str) and part.strip() for part in value)
    # a string is a sequence of strings, each of one letter
    if isinstance(value, str) or not lists_strings:
        raise PlanError(_returned(answer, "sequencer", "a list of strings with words in them"))
    return replace(answer, value=tuple(value)) if value else _word_for_word(answer, "sub-requests")


def _returned(answer: Answer[Any], who: str, wanted: str) -> str:
    return f"the {who} {answer.trace.model} returned {one_line(repr(answer.value))}; wanted {wanted}"


def _word_for_word(answer: Answer[Any], what: str) -> Answer[Any]:
    """With a line on what takes the place of `what`, unless the agent has said so itself."""
    stated = answer.trace.fallback or f"no {what} from {answer.trace.model}: used the request, word for word"
    return replace(answer, trace=replace(answer.trace, fallback=stated))


def _resized(turn: int, step: Step, canvas: Size) -> str:
    came, wanted = (" x ".join(map(str, size)) for size in (step.size, canvas))
    return f"step {turn + 1} came back as {came}, not {wanted}: resized"


def _since(start: float) -> float:
    return round(time.perf_counter() - start, 3)
