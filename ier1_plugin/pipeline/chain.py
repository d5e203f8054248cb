"""The chain: a photo and a request in plain words in, the edited photo and its trace out.

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
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from PIL import Image

from ier1_plugin.editors.base import Edit, EditError, Editor, canvas_notes, is_flat, join
from ier1_plugin.pipeline.agents import Answer
from ier1_plugin.runs.errors import one_line
from ier1_plugin.task.images import Photo, fitted, open_image
from ier1_plugin.task.pixels import NOTES
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
"""As in the training data: people write a few hundred characters, and the prompt has to fit the context."""

_LOG = logging.getLogger(__name__)
Decomposer = Callable[[Image.Image, str], Decomposition | Answer[Decomposition | None] | None]
"""(photo, request) -> its decomposition; None for none."""
Sequencer = Callable[[Decomposition, Image.Image, str], Sequence[str] | Answer[tuple[str, ...]]]
"""(decomposition, photo, request) -> the sub-requests in order."""


@dataclass(frozen=True)
class Agent:
    """A Decomposer or a Sequencer, ready to be asked."""

    name: str
    """Its name in traces, unless its Answer has another."""
    ask: Callable[..., Any]
    close: Callable[[], None] = lambda: None
    """Frees its model, and ends all waiting for it."""

    def __call__(self, *question: Any) -> Answer[Any]:
        start = time.perf_counter()
        answer = self.ask(*question)
        if isinstance(answer, Answer):
            return answer
        return Answer(answer, AgentTrace(self.name, seconds=_since(start)))


def as_agent(agent: Agent | Decomposer | Sequencer) -> Agent:
    """The agent itself, or a plain function wrapped as one."""
    return agent if isinstance(agent, Agent) else Agent(_name_of(agent), agent)


def as_editor(editor: Editor | Edit) -> Editor:
    """The editor itself, or a plain function wrapped as a local editor for any size."""
    return editor if isinstance(editor, Editor) else Editor(_name_of(editor), editor)


class ImageEditR1:
    """The decomposition agent, the sequencing agent and the editing agent (paper, Algorithm 1)."""

    def __init__(
        self,
        decomposer: Agent | Decomposer | None,
        sequencer: Agent | Sequencer | None,
        editor: Editor | Edit | None,
        on_warning: Callable[[str], None] = _LOG.warning,
    ) -> None:
        """A part that will not be needed may be None: the agents for a plan at hand, the editor for planning alone.

        `on_warning` gets a line for every problem that was worked around, such as a fallback.
        """
        self.decomposer = decomposer and as_agent(decomposer)
        self.sequencer = sequencer and as_agent(sequencer)
        self.editor = editor and as_editor(editor)
        self.on_warning = on_warning

    def edit(self, image: Photo, request: str | Plan, **options: Any) -> EditResult:
        """Plans, unless `request` is already a plan, and edits. Options as in `stream`."""
        *_, result = self.stream(image, request, **options)
        assert isinstance(result, EditResult)
        return result

    def plan(self, image: Photo, request: str, method: str = CHAIN) -> Plan:
        """The plan for `request`. With ORIGINAL the request is passed on verbatim."""
        *_, plan = self._plan(open_image(image), request, method)
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
        """Does what `edit` does, in steps: yields the decomposition, the plan, each step when it is done, the result.

        `item`: the id of the image in a batch, for editors whose result depends on it. Raises ImageError, PlanError,
        ChatError and EditError, each with one line for the user.
        """
        if mode not in MODES:
            raise PlanError(f"no mode {mode!r}; known: {', '.join(MODES)}")
        photo = open_image(image, keep_alpha=True)
        if isinstance(request, Plan):
            plan = request
            yield plan
        else:
            plan = yield from self._plan(open_image(photo), request, method)
        editor = self.editor
        if editor is None:
            raise EditError("no editor; name one")
        start, steps, notes = time.perf_counter(), [], list(plan.fallbacks)

        def note(line: str) -> None:
            notes.append(line)
            self.on_warning(line)

        photo = open_image(photo, editor.keeps_alpha)
        for line in photo.info.get(NOTES, ()):
            note(f"the photo: {line}")
        # every turn works on one canvas; what comes back in another size is brought back to it
        canvas = editor.canvas(photo.size)
        current = fitted(photo, canvas)
        for line in canvas_notes(photo.size, canvas) if editor.preserves_size else ():
            note(line)
        edit = editor.for_item(item) if editor.for_item and item else editor.edit
        for turn, instruction in enumerate(instructions(plan, mode, editor)):
            begun = time.perf_counter()
            # a copy: a function that paints on its input must not change what came before
            given = current.copy()
            given.info.clear()
            edited = edit(given, instruction, seed + turn)
            if not isinstance(edited, Image.Image):
                raise EditError(f"the editor {editor.name} returned {one_line(repr(edited))}; wanted an image")
            current = edited = open_image(edited, editor.keeps_alpha)
            seconds = _since(begun)
            for line in edited.info.get(NOTES, ()):
                note(f"step {turn + 1}: {line}")
            if is_flat(edited) and not is_flat(given):
                note(f"step {turn + 1} came back in one single colour")
            if editor.preserves_size and edited.size != canvas:
                came, wanted = (f"{width} x {height}" for width, height in (edited.size, canvas))
                note(f"step {turn + 1} came back as {came}, not {wanted}: resized")
                current = fitted(edited, canvas)
            steps.append(Step(instruction, seed + turn, seconds, sha256(current), edited.size, current))
            yield steps[-1]
        trace = Trace(
            plan=plan,
            mode=mode,
            seed=seed,
            editor=editor.name,
            editor_settings=editor.settings,
            image_size=photo.size,
            image_sha256=sha256(photo),
            canvas=canvas,
            steps=tuple(steps),
            seconds=_since(start),
            notes=tuple(notes),
        )
        yield EditResult(fitted(current, photo.size) if editor.preserves_size else current, trace)

    def _plan(self, photo: Image.Image, request: str, method: str) -> Generator[Decomposition | Plan, None, Plan]:
        """Yields the decomposition, if there is one, and the plan, which it returns as well."""
        words = checked_request(request)
        if method not in METHODS:
            raise PlanError(f"no method {method!r}; known: {', '.join(METHODS)}")
        plan = Plan(words, (words,), method)
        if method == CHAIN:
            if self.decomposer is None or self.sequencer is None:
                raise PlanError("no agents to plan with; name a decomposer, or use a plan or the method original")
            parts = self.decomposer(photo, words)
            if not isinstance(parts.value, Decomposition | None):
                raise PlanError(_wrong(parts, "decomposer", "a Decomposition, or None"))
            plan = replace(plan, decomposition=parts.value, decomposer=_trace(parts, "decomposition"))
            if parts.value is not None:
                yield parts.value
                order = self.sequencer(parts.value, photo, words)
                # a string is a sequence of strings, each of one letter
                if isinstance(order.value, str) or not (
                    isinstance(order.value, Sequence)
                    and all(isinstance(line, str) and line.strip() for line in order.value)
                ):
                    raise PlanError(_wrong(order, "sequencer", "a list of strings with words in them"))
                sub_requests = tuple(order.value) or (words,)
                plan = replace(plan, sub_requests=sub_requests, sequencer=_trace(order, "sub-requests"))
        for line in plan.fallbacks:
            self.on_warning(line)
        yield plan
        return plan


def instructions(plan: Plan, mode: str, editor: Editor) -> list[str]:
    """The editor's instructions, call by call: everything at once, or one edit after another."""
    if plan.method == ORIGINAL:
        return list(plan.sub_requests)
    return editor.turns(plan.sub_requests) if mode == MULTI_TURN else [join(plan.sub_requests)]


def checked_request(request: str) -> str:
    """The request, made safe for chat templates. PlanError: empty or too long."""
    if not isinstance(request, str):
        raise PlanError(f"the request is {one_line(repr(request))}; wanted plain words")
    words = neutralise(request)
    if not words:
        raise PlanError("the request is empty; say in plain words what to change")
    if len(words) > MAX_REQUEST_CHARACTERS:
        raise PlanError(f"the request has {len(words):,} characters; at most {MAX_REQUEST_CHARACTERS:,} are taken")
    return words


def sha256(image: Image.Image) -> str:
    """Of the bytes of its pixels."""
    return hashlib.sha256(image.tobytes()).hexdigest()


def _trace(answer: Answer[Any], what: str) -> AgentTrace:
    """The answer's trace; if the answer has no `what`, the trace names the fallback."""
    if answer.value or answer.trace.fallback:
        return answer.trace
    return replace(answer.trace, fallback=f"no {what} from {answer.trace.model}: used the request, word for word")


def _wrong(answer: Answer[Any], who: str, wanted: str) -> str:
    return f"the {who} {answer.trace.model} returned {one_line(repr(answer.value))}; wanted {wanted}"


def _name_of(function: Callable[..., Any]) -> str:
    while isinstance(function, partial):
        function = function.func
    return getattr(function, "__name__", type(function).__name__)


def _since(start: float) -> float:
    return round(time.perf_counter() - start, 3)
