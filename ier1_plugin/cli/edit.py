"""What the commands `ier1 edit`, `ier1 batch` and `ier1 models` do.

    edit_image(Path("portrait.jpg"), "make the coat scarlet", Path("red.png"), System(editor="pillow", ...))

Results go to standard output, everything else to standard error. Errors are raised; `cli.py` prints them.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import typer
from PIL import Image

from ier1_plugin.pipeline.chain import ImageEditR1
from ier1_plugin.pipeline.system import SettingsError, System
from ier1_plugin.pipeline.trace import check_format, read_plan, read_trace, save_image
from ier1_plugin.runs.errors import log
from ier1_plugin.runs.folder import write
from ier1_plugin.task.images import ImageError, open_image
from ier1_plugin.task.schema import Decomposition, EditResult, Plan, PlanError, Step, plan_json


def edit_image(
    image: Path,
    request: str,
    output: Path | None,
    system: System,
    said: frozenset[str],
    plan_file: Path | None,
    trace_file: Path | None,
    steps_folder: Path | None,
    dry_run: bool,
) -> None:
    """Edits one image and says what it does. ImageError, PlanError, ChatError, EditError, OSError: it can't.

    `said`: the settings that were given; of a plan's trace come mode and seed where they are not among them.
    """
    output = output or image.with_name(f"{image.stem}-edited.png")
    check_format(output)
    _check_place(output, {"the photo itself": image})
    if trace_file:
        trace_file.parent.mkdir(parents=True, exist_ok=True)
        _check_place(trace_file, {"the photo itself": image, "the edited image's own file": output})
    photo = _opened(image)
    plan = _given_plan(plan_file, request)
    if plan_file:
        system = _as_traced(system, said, plan_file)
    # before anything is paid for
    editor = None if dry_run else system.make_editor(log)
    agents = (None, None) if plan else system.agents(log)
    chain = ImageEditR1(*agents, editor, on_warning=lambda line: log(f"note: {line}"))
    if dry_run:
        print(plan_json(plan or chain.plan(photo, request, system.method)))
        return
    if steps_folder:
        _clear_steps(steps_folder)
    events = chain.stream(
        photo, plan or request, mode=system.mode, method=system.method, seed=system.seed, item=image.stem
    )
    result = _told(events, steps_folder)
    save_image(output, result.image, result.trace.to_json())
    if trace_file:
        write(trace_file, result.trace.to_json() + "\n")
    print(output)


def edit_many(
    source: Path,
    out: Path,
    request: str,
    system: System,
    jobs: int,
    overlap: bool | None,
    retry_failed: bool,
    on_ray: tuple[str | None, float | None] | None,
) -> None:
    """Runs a batch and says how it went; `typer.Exit(1)` if an image failed."""
    from ier1_plugin.data.items import count_items, read_items
    from ier1_plugin.pipeline.batch import batch_of, run
    from ier1_plugin.pipeline.batch_folder import RESULTS
    from ier1_plugin.pipeline.batch_ray import OnRay

    out, total = out.resolve(), count_items(source)
    items = partial(read_items, source.resolve(), request)
    batch = batch_of(system, items, out, jobs=jobs, overlap=overlap, retry_failed=retry_failed, total=total)
    try:
        with _second_ctrl_c_ends():
            counts = run(batch, OnRay(*on_ray).start if on_ray else None)
    except KeyboardInterrupt:
        log("what is done is kept; the same command goes on from there")
        raise
    log(f"{counts['edited']} edited, {counts['failed']} failed, {counts['open']} open")
    print(out / RESULTS)
    if counts["failed"]:
        log(f"{RESULTS} says why the {counts['failed']} failed; --retry-failed tries them once more")
    if counts["failed"] or counts["open"]:
        raise typer.Exit(1)


def list_editors() -> None:
    """One editor a paragraph: its spec, what it is, and whether it is here. Then the systems and presets."""
    from ier1_plugin.editors import describe_editors
    from ier1_plugin.pipeline.system import PRESET, SYSTEM, read_yaml, shipped

    for editor in describe_editors():
        state = "ready" if editor.available else "not here"
        print(f"{editor.usage}\n    {editor.summary}\n    {state}{f': {editor.why}' if editor.why else ''}")
    for name, file in shipped(SYSTEM).items():
        print(f"--system {name}\n    {read_yaml(file)['name']}")
    for name, file in shipped(PRESET).items():
        first_line = file.read_text(encoding="utf-8").partition("\n")[0]
        print(f"--preset {name}\n    {first_line.removeprefix('# ').partition('. ')[0]}")


@contextmanager
def _second_ctrl_c_ends() -> Iterator[None]:
    """The first Ctrl-C waits for what is under way; the second one does not. No file is ever half written."""

    def first(*_: Any) -> None:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    # a shell that runs the command in the background has it ignore Ctrl-C
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _check_place(file: Path, taken: dict[str, Path]) -> None:
    """PlanError where a result can't be written; known before anything is paid for."""
    for what, other in taken.items():
        if file.resolve() == other.resolve() or (file.exists() and other.exists() and file.samefile(other)):
            raise PlanError(f"{file} is {what}; choose another name")
    if file.is_dir():
        raise PlanError(f"{file} is a folder; wanted the name of a file")
    if not file.parent.is_dir():
        raise PlanError(f"there is no folder {file.parent} to write {file.name} into")
    if not os.access(file.parent, os.W_OK | os.X_OK):
        raise PlanError(f"{file.parent} takes no files: you may not write there")


def _opened(image: Path) -> Image.Image:
    try:
        return open_image(image)
    except ImageError as error:
        reason = str(error)
        raise ImageError(reason if str(image) in reason else f"{image}: {reason}") from None


def _given_plan(plan_file: Path | None, request: str) -> Plan | None:
    if plan_file and request:
        raise PlanError("a request and --plan were given; wanted one of the two")
    return read_plan(plan_file) if plan_file else None


def _as_traced(system: System, said: frozenset[str], plan_file: Path) -> System:
    """Mode and seed of the trace, where nothing else was said: the same edit once more."""
    traced = read_trace(plan_file)
    kept = {name: traced[name] for name in ("mode", "seed") if name in traced and name not in said}
    try:
        return replace(system, **kept)
    except SettingsError as error:
        raise PlanError(f"{plan_file}: {error}") from None


def _told(events: Iterable[Any], steps_folder: Path | None) -> EditResult:
    """Says what happens as it happens, and returns the result."""
    turn = 0
    for event in events:
        if isinstance(event, EditResult):
            return event
        if isinstance(event, Step):
            turn += 1
            _keep_step(steps_folder, turn, event)
        for line in _lines(event, turn):
            log(line)
    raise AssertionError("the chain ended without a result")


def _lines(event: Decomposition | Plan | Step, turn: int) -> list[str]:
    if isinstance(event, Decomposition):
        return [f"{known.name}: {', '.join(getattr(event, known.name)) or '-'}" for known in fields(event)]
    if isinstance(event, Plan):
        return [f"{number}. {sub_request}" for number, sub_request in enumerate(event.sub_requests, start=1)]
    return [f"step {turn}: {event.seconds:.1f} s"]


def _clear_steps(folder: Path) -> None:
    """What an earlier edit left would look like further steps of this one."""
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob("step-[0-9][0-9].png"):
        left.unlink()


def _keep_step(folder: Path | None, turn: int, step: Step) -> None:
    if folder and step.image:
        save_image(folder / f"step-{turn:02d}.png", step.image)
