"""Many images: planned and edited with bounded memory, resumable after whatever ended the run.

    counts = run(Batch(
        items=partial(read_items, Path("requests.jsonl")),
        store=Store(Path("edited")),
        make_agents=system.agents,
        make_editor=system.make_editor,
    ))
    counts["edited"]      # 42; edited/results.jsonl has a line for each item

Everything is planned first and edited after, so that the two models need not share a card: the planner is freed in
between. With `overlap` each item is planned and edited in one go, for models that run elsewhere.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tqdm import tqdm

from ier1_plugin.chat import ChatError, RequestRejected, TransientError
from ier1_plugin.data.items import BatchError, Item
from ier1_plugin.editors.base import Edit, EditError
from ier1_plugin.pipeline.batch_folder import Status, Store
from ier1_plugin.pipeline.chain import Decomposer, ImageEditR1, Sequencer
from ier1_plugin.pipeline.system import NO_DECOMPOSER, System, run_settings
from ier1_plugin.runs.errors import log, one_line
from ier1_plugin.runs.workers import as_completed
from ier1_plugin.task.images import ImageError, open_image
from ier1_plugin.task.schema import CHAIN, ORIGINAL, SINGLE_TURN, Plan, PlanError

if TYPE_CHECKING:
    from PIL import Image

PLAN, EDIT = "plan", "edit"
STAGES = {PLAN: "planning", EDIT: "editing", PLAN + EDIT: "planning and editing"}
# an editor or a server that fails so often in a row is broken, whatever the items are
MAX_FAILURES_IN_A_ROW = 10
# what one item can do wrong; anything else would befall the others too
ITEM_ERRORS = (ImageError, PlanError, RequestRejected, TransientError, EditError)


@dataclass(frozen=True)
class Batch:
    """What shall be done."""

    items: Callable[[], Iterator[Item]]
    """Called once a pass over the input; the same items each time."""
    store: Store
    make_agents: Callable[[], tuple[Decomposer | None, Sequencer | None]]
    """Called when the first plan is needed."""
    make_editor: Callable[[], Edit]
    mode: str = SINGLE_TURN
    method: str = CHAIN
    seed: int = 0
    jobs: int = 8
    """Items at a time. An editor that is `local` gets one at a time all the same."""
    overlap: bool = False
    """True: no phases; each item is planned and edited in one go."""
    retry_failed: bool = False
    """True: what failed in earlier runs is tried again."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What run.json keeps; a run with others into the same folder is refused."""
    total: int | None = None
    """How many items there are, for the bar."""
    max_consecutive_failures: int | None = MAX_FAILURES_IN_A_ROW
    """So many failures in a row end the run; None where each item fails for its own reason, as finished images do."""

    @property
    def phases(self) -> tuple[str, ...]:
        return (PLAN + EDIT,) if self.overlap or self.method == ORIGINAL else (PLAN, EDIT)


@dataclass(frozen=True)
class Outcome:
    """What became of an item in one phase."""

    name: str
    failed: bool = False
    reason: str = ""
    hopeless: bool = False
    """True: no other item will fare better; the run ends."""
    own_fault: bool = False
    """True: the image or the request is bad, so it says nothing about model and editor."""


class Runner(Protocol):
    """Carries out a phase somewhere: here in threads, or on a Ray cluster."""

    def __call__(self, phase: str, items: Iterator[Item]) -> Generator[Outcome, None, None]:
        """The outcomes in any order; closing the generator ends the work."""
        ...

    def close(self) -> None: ...


def run(batch: Batch, start: Callable[[Batch], Runner] | None = None) -> dict[Status, int]:
    """Does what is open and returns how many items are edited, failed, and still open.

    `start`: None for threads of this process. BatchError, ChatError, EditError or OSError: it can't go on; what is done
    is kept, here as after Ctrl-C.
    """
    with batch.store.opened(batch.settings) as store:
        if batch.retry_failed:
            store.forget_errors()
        try:
            with closing((start or Threads)(batch)) as runner:
                for phase in batch.phases:
                    _watch(batch, phase, runner)
        finally:
            counts = store.write_results(batch.items())
    return counts


def batch_of(
    system: System,
    items: Callable[[], Iterator[Item]],
    out: Path,
    *,
    jobs: int,
    total: int,
    overlap: bool | None = None,
    retry_failed: bool = False,
    settings: Mapping[str, Any] | None = None,
) -> Batch:
    """The batch that has `system` edit `items` into the folder `out`. PlanError, EditError: the system can't.

    `overlap`: None for True where neither the agents nor the editor need this machine.
    """
    if system.method == CHAIN and not system.decomposer:
        raise PlanError(NO_DECOMPOSER)
    if overlap is None:
        with closing(system.make_editor()) as editor:
            overlap = not system.plans_here and not editor.local
    return Batch(
        items=items,
        store=Store(out),
        make_agents=partial(system.agents, log),
        make_editor=partial(system.make_editor, log),
        mode=system.mode,
        method=system.method,
        seed=system.seed,
        jobs=jobs,
        overlap=overlap,
        retry_failed=retry_failed,
        settings=run_settings(system) if settings is None else settings,
        total=total,
    )


class Worker:
    """Plans or edits one item at a time; called from every thread."""

    def __init__(self, batch: Batch, phase: str, editor: Edit | None, on_warning: Callable[[str], None]) -> None:
        self._batch = batch
        self._phase = phase
        self._editor = editor
        self._tell = on_warning
        self._agents: tuple[Decomposer | None, Sequencer | None] | None = None
        self._making_agents = threading.Lock()
        self._editing = threading.Lock() if getattr(editor, "local", True) else nullcontext()
        self._closed = False

    def __call__(self, item: Item) -> Outcome:
        try:
            self._do(item)
        except ITEM_ERRORS as error:
            if self._closed:
                # cut short, not failed: it stays open for the next run
                return Outcome(item.name, failed=True, reason=one_line(error), hopeless=True)
            stage = EDIT if isinstance(error, EditError) else PLAN
            self._batch.store.keep_error(item, stage, one_line(error))
            own_fault = isinstance(error, (ImageError, PlanError, RequestRejected))
            return Outcome(item.name, failed=True, reason=one_line(error), own_fault=own_fault)
        except ChatError as error:
            return Outcome(item.name, failed=True, reason=one_line(error), hopeless=True)
        return Outcome(item.name)

    def close(self) -> None:
        """Frees the agents; who waits for one of them waits no longer."""
        self._closed = True
        for agent in self._agents or ():
            chat = getattr(agent, "keywords", {}).get("chat")
            getattr(chat, "close", lambda: None)()

    def _do(self, item: Item) -> None:
        batch = self._batch
        plan = batch.store.plan(item)
        if plan and self._phase == PLAN:
            return
        photo = open_image(item.image)
        if plan is None:
            plan = self._plan(item, photo)
        if self._phase != PLAN:
            chain = ImageEditR1(None, None, self._editor, partial(self._note, item))
            with self._editing:
                self._check_open()
                result = chain.edit(photo, plan, mode=batch.mode, seed=batch.seed, item=item.id)
            batch.store.keep_result(item, result)

    def _plan(self, item: Item, photo: Image.Image) -> Plan:
        agents = self._agents_of_batch() if self._batch.method != ORIGINAL else (None, None)
        plan = ImageEditR1(*agents, None, partial(self._note, item)).plan(photo, item.request, self._batch.method)
        if self._batch.method != ORIGINAL:
            self._batch.store.keep_plan(item, plan)
        return plan

    def _agents_of_batch(self) -> tuple[Decomposer | None, Sequencer | None]:
        with self._making_agents:
            self._check_open()
            self._agents = self._agents or self._batch.make_agents()
            return self._agents

    def _check_open(self) -> None:
        if self._closed:
            raise ChatError("the batch is ending")

    def _note(self, item: Item, line: str) -> None:
        self._tell(f"{item.id}: {line}")


class Threads:
    """The Runner for one machine."""

    def __init__(self, batch: Batch) -> None:
        """EditError: the editor can't be had here, which is known before anything is planned."""
        self._batch = batch
        self._editor = batch.make_editor()

    def __call__(self, phase: str, items: Iterator[Item]) -> Generator[Outcome, None, None]:
        worker = Worker(self._batch, phase, self._editor if phase != PLAN else None, log)
        return as_completed(items, worker, self._batch.jobs, worker.close, log)

    def close(self) -> None:
        getattr(self._editor, "close", lambda: None)()


def _watch(batch: Batch, phase: str, runner: Runner) -> None:
    """Runs a phase to its end. BatchError: it makes no sense to go on."""
    failed = in_a_row = 0
    under_way: set[str] = set()
    # a log file wants a line now and then, a terminal a live bar
    every = 0.5 if sys.stderr.isatty() else 30.0
    bar = tqdm(desc=STAGES[phase], unit=" images", total=batch.total, mininterval=every)
    with bar, closing(runner(phase, _open(batch, under_way, bar))) as outcomes:
        for outcome in outcomes:
            under_way.discard(outcome.name)
            failed += outcome.failed
            in_a_row = in_a_row + (not outcome.own_fault) if outcome.failed else 0
            bar.set_postfix(failed=failed, refresh=False)
            bar.update()
            _stop_if_useless(outcome, in_a_row, batch.max_consecutive_failures)


def _stop_if_useless(outcome: Outcome, in_a_row: int, max_consecutive_failures: int | None) -> None:
    if outcome.hopeless:
        raise BatchError(outcome.reason)
    if max_consecutive_failures is not None and in_a_row >= max_consecutive_failures:
        raise BatchError(
            f"{in_a_row} images in a row failed, the last one so: {outcome.reason}; "
            "see to that and go on with --retry-failed"
        )


def _open(batch: Batch, under_way: set[str], bar: Any) -> Iterator[Item]:
    """What is left to do. Two items of one name are never under way together: they would share their files."""
    for item in batch.items():
        if item.name in under_way or batch.store.status(item)[0] != "open":
            bar.update()
        else:
            under_way.add(item.name)
            yield item
