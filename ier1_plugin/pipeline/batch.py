"""Many images: planned and edited with bounded memory, resumable however the run ended.

    counts = run(Batch(
        items=partial(read_items, Path("requests.jsonl")),
        folder=BatchFolder(Path("edited")),
        make_agents=system.agents,
        make_editor=system.make_editor,
    ))
    counts["edited"]      # 42; edited/results.jsonl has a line for each item

Everything is planned first and then edited, so that the two models need not share a GPU: the planner is freed in
between. With `overlap` each item is planned and edited in one go, for models that run elsewhere.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ier1_plugin.chat import ChatError, RequestRejected, TransientError
from ier1_plugin.chat.local import MAX_BATCH
from ier1_plugin.data.items import Item
from ier1_plugin.editors.base import Edit, Editor
from ier1_plugin.pipeline.batch_folder import BatchFolder, Status
from ier1_plugin.pipeline.chain import Agent, Decomposer, ImageEditR1, Sequencer, as_agent, as_editor
from ier1_plugin.pipeline.system import BASE, LOCAL, NO_DECOMPOSER, RULE, System, run_settings
from ier1_plugin.runs.errors import UserError, log, one_line, with_class
from ier1_plugin.runs.folder import RunError
from ier1_plugin.runs.workers import as_completed, progress
from ier1_plugin.task.images import ImageError, open_image
from ier1_plugin.task.schema import CHAIN, ORIGINAL, SINGLE_TURN, PlanError

PLAN, EDIT = "plan", "edit"
STAGES = {PLAN: "planning", EDIT: "editing", PLAN + EDIT: "planning and editing"}
# an editor or a server that fails so often in a row is broken, whatever the items are
MAX_FAILURES_IN_A_ROW = 10
# what a server may answer to one item; any other ChatError would meet the others too
ITEM_ERRORS = (RequestRejected, TransientError)
Agents = tuple[Agent | Decomposer | None, Agent | Sequencer | None]


@dataclass(frozen=True)
class Batch:
    """The work of a run."""

    items: Callable[[], Iterator[Item]]
    """Called once for each pass over the input; yields the same items each time."""
    folder: BatchFolder
    make_agents: Callable[[], Agents]
    """Called when the first plan is needed."""
    make_editor: Callable[[], Editor | Edit]
    mode: str = SINGLE_TURN
    method: str = CHAIN
    seed: int = 0
    jobs: int = 8
    """Items at a time. An editor that is `local` still gets one at a time."""
    plan_jobs: int | None = None
    """Items at a time in a phase that only plans; None: as many as `jobs`."""
    overlap: bool = False
    """True: no phases; each item is planned and edited in one go."""
    retry_failed: bool = False
    """True: what failed in earlier runs is tried again."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The contents of run.json; a run with other settings into the same folder is refused."""
    total: int | None = None
    """How many items there are, for the bar."""
    max_consecutive_failures: int | None = MAX_FAILURES_IN_A_ROW
    """The run ends after this many failures in a row; None if each item fails for its own reason, as finished images
    do."""


@dataclass(frozen=True)
class Outcome:
    """The result of one phase for an item."""

    name: str
    error: str = ""
    """Why it failed."""
    hopeless: bool = False
    """True: every other item would fail too; the run ends."""
    own_fault: bool = False
    """True: the image or the request is bad, which says nothing about model and editor."""


RunPhase = Callable[[str, Iterator[Item]], Generator[Outcome, None, None]]
"""(PLAN, EDIT or both, items) -> their outcomes in any order; closing the generator ends the work."""


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
    # -j is for servers; models in this process answer in batches, which take more items to fill
    local = all(agent.startswith(LOCAL) or agent in (BASE, RULE) for agent in (system.decomposer, system.sequencer))
    if overlap is None:
        with closing(system.make_editor()) as editor:
            overlap = not system.plans_here and not editor.local
    return Batch(
        items=items,
        folder=BatchFolder(out),
        make_agents=partial(system.agents, log),
        make_editor=partial(system.make_editor, log),
        mode=system.mode,
        method=system.method,
        seed=system.seed,
        jobs=jobs,
        plan_jobs=max(jobs, MAX_BATCH) if local else jobs,
        overlap=overlap,
        retry_failed=retry_failed,
        settings=run_settings(system) if settings is None else settings,
        total=total,
    )


@contextmanager
def in_threads(batch: Batch) -> Iterator[RunPhase]:
    """Work in this process. EditError: the editor is not available, which is checked before anything is planned."""
    with closing(as_editor(batch.make_editor())) as editor:

        def run_phase(phase: str, items: Iterator[Item]) -> Generator[Outcome, None, None]:
            worker = Worker(batch, phase, editor if phase != PLAN else None)
            jobs = batch.plan_jobs or batch.jobs if phase == PLAN else batch.jobs
            return as_completed(items, worker, jobs, worker.close, log)

        yield run_phase


def run(batch: Batch, where: Callable[[Batch], AbstractContextManager[RunPhase]] = in_threads) -> dict[Status, int]:
    """Processes the remaining items and returns how many are edited, failed, and still open. RunError, ChatError,
    EditError or OSError: it can't continue; finished items are kept, as after Ctrl-C.
    """
    with batch.folder.opened(batch.settings):
        if batch.retry_failed:
            batch.folder.forget_errors()
        try:
            with where(batch) as run_phase:
                for phase in (PLAN + EDIT,) if batch.overlap or batch.method == ORIGINAL else (PLAN, EDIT):
                    _follow(batch, phase, run_phase)
        finally:
            counts = batch.folder.write_results(batch.items())
    return counts


def _follow(batch: Batch, phase: str, run_phase: RunPhase) -> None:
    """Runs a phase to its end. RunError: too many failures in a row."""
    failed = in_a_row = 0
    under_way: set[str] = set()
    bar = progress(None, STAGES[phase], total=batch.total, unit="images")

    def open_items() -> Iterator[Item]:
        for item in batch.items():
            # two items of one name are never under way together: they would share their files
            if item.name in under_way or batch.folder.status(item)[0] != "open":
                bar.update()
            else:
                under_way.add(item.name)
                yield item

    with bar, closing(run_phase(phase, open_items())) as outcomes:
        for outcome in outcomes:
            under_way.discard(outcome.name)
            if outcome.hopeless:
                raise RunError(outcome.error)
            failed += bool(outcome.error)
            in_a_row = in_a_row + (not outcome.own_fault) if outcome.error else 0
            bar.set_postfix(failed=failed, refresh=False)
            bar.update()
            if batch.max_consecutive_failures is not None and in_a_row >= batch.max_consecutive_failures:
                raise RunError(
                    f"{in_a_row} images in a row failed, the last one so: {outcome.error}; "
                    "fix that and continue with --retry-failed"
                )


class Worker:
    """Plans or edits one item at a time; called from every thread."""

    def __init__(self, batch: Batch, phase: str, editor: Editor | None) -> None:
        self._batch = batch
        self._phase = phase
        self._editor = editor
        self._agents: tuple[Agent | None, Agent | None] | None = None
        self._making_agents = threading.Lock()
        self._editing = threading.Lock() if editor and editor.local else nullcontext()
        self._closed = False

    def __call__(self, item: Item) -> Outcome:
        batch = self._batch

        def on_warning(line: str) -> None:
            log(f"{item.id}: {line}")

        plan, agents = batch.folder.plan(item), (None, None)
        stage = EDIT if plan else PLAN
        if plan and self._phase == PLAN:
            return Outcome(item.name)
        if plan is None and batch.method != ORIGINAL:
            try:
                agents = self._make_agents()
            except UserError as error:
                return Outcome(item.name, one_line(error), hopeless=True)
        try:
            photo = open_image(item.image, keep_alpha=True)
            if plan is None:
                plan = ImageEditR1(*agents, None, on_warning).plan(photo, item.request, batch.method)
                if batch.method != ORIGINAL:
                    batch.folder.keep_plan(item, plan)
            if self._phase != PLAN:
                stage = EDIT
                chain = ImageEditR1(None, None, self._editor, on_warning)
                with self._editing:
                    self._check_open()
                    result = chain.edit(photo, plan, mode=batch.mode, seed=batch.seed, item=item.id)
                batch.folder.keep_result(item, result)
        except RunError:
            # the folder can't be written
            raise
        except Exception as error:
            # what nobody foresaw is the error of this item too: the next one may go well
            reason = with_class(error)
            # an editor behind a server says with an EditError what the server said
            cause = error.__cause__ if isinstance(error.__cause__, ChatError) else error
            hopeless = self._closed or (isinstance(cause, ChatError) and not isinstance(cause, ITEM_ERRORS))
            # an item that was cut short stays open for the next run
            if not hopeless:
                batch.folder.keep_error(item, stage, reason)
            own_fault = isinstance(cause, (ImageError, PlanError, RequestRejected))
            return Outcome(item.name, reason, hopeless, own_fault)
        return Outcome(item.name)

    def _make_agents(self) -> tuple[Agent | None, Agent | None]:
        """Those of all threads, made when the first item needs them."""
        with self._making_agents:
            self._check_open()
            if self._agents is None:
                decomposer, sequencer = self._batch.make_agents()
                self._agents = decomposer and as_agent(decomposer), sequencer and as_agent(sequencer)
            return self._agents

    def close(self) -> None:
        """Frees the agents; callers that wait for one of them stop waiting."""
        self._closed = True
        for agent in self._agents or ():
            if agent:
                agent.close()

    def _check_open(self) -> None:
        if self._closed:
            raise ChatError("the batch is ending")
