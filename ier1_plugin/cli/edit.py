"""The commands that run a System: `ier1 edit`, `ier1 batch`, `ier1 demo`; and `ier1 models`.

ier1 edit portrait.jpg "make the coat scarlet" -o red.png --system flux-kontext --seed 7
ier1 batch requests.jsonl --out edited --system flux-kontext -j 8

Results go to standard output, everything else to standard error.
"""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from ier1_plugin.cli.options import end_server_by_signal, one_line_errors, option, with_settings
from ier1_plugin.pipeline.system import PRESET, SYSTEM, System, shipped
from ier1_plugin.runs.errors import log
from ier1_plugin.runs.settings import SettingsError, read_yaml


@with_settings
def edit(
    image: Annotated[Path, typer.Argument(help="the photo", show_default=False)],
    request: Annotated[str, typer.Argument(help="what to change, in plain words; not needed with --plan")] = "",
    *,
    output: Annotated[
        Path | None, option("PNG or JPEG to write (default: IMAGE-edited.png, then -edited-2 ...)", "-o", "--output")
    ] = None,
    overwrite: Annotated[bool, option("replace an image or a trace that is there", "--overwrite")] = False,
    plan: Annotated[Path | None, option("a trace, plan or edited PNG to repeat; no agent is asked", "--plan")] = None,
    trace: Annotated[Path | None, option("file for how the image was made, as JSON", "--trace")] = None,
    save_steps: Annotated[Path | None, option("folder for the image after each step", "--save-steps")] = None,
    dry_run: Annotated[bool, option("print the plan as JSON and edit nothing", "--dry-run")] = False,
    system: System,
    given: frozenset[str],
) -> None:
    """Edit one image."""
    from ier1_plugin.pipeline.chain import ImageEditR1
    from ier1_plugin.pipeline.trace import check_format, read_plan, read_trace, save_image
    from ier1_plugin.runs.folder import write
    from ier1_plugin.task.images import SHOWN, ImageError, open_image
    from ier1_plugin.task.schema import COMPONENTS, Decomposition, Plan, PlanError, Step, plan_json

    try:
        photo = open_image(image, keep_alpha=True)
    except ImageError as error:
        raise ImageError(str(error) if str(image)[:SHOWN] in str(error) else f"{image}: {error}") from None
    if output is None:
        output, number = image.with_name(f"{image.stem}-edited.png"), 2
        while output.exists() and not overwrite:
            output, number = image.with_name(f"{image.stem}-edited-{number}.png"), number + 1
    check_format(output)
    replaces = overwrite or dry_run
    _check_writable(output, {"the photo itself": image}, replaces)
    if trace:
        trace.parent.mkdir(parents=True, exist_ok=True)
        _check_writable(trace, {"the photo itself": image, "the edited image's own file": output}, replaces)
    if save_steps and not dry_run:
        save_steps.mkdir(parents=True, exist_ok=True)
        _check_writable(save_steps / "step-01.png", {}, overwrite=True)
    if plan and request:
        raise PlanError("a request and --plan were given; wanted one of the two")
    known_plan = read_plan(plan) if plan else None
    if plan:
        traced = read_trace(plan)
        # the same edit once more, unless another mode or seed was asked for
        kept = {name: traced[name] for name in ("mode", "seed") if name in traced and name not in given}
        try:
            system = replace(system, **kept)
        except SettingsError as error:
            raise PlanError(f"{plan}: {error}") from None
    # before anything is paid for
    editor = None if dry_run else system.make_editor(log)
    agents = (None, None) if known_plan else system.agents(log)
    chain = ImageEditR1(*agents, editor, on_warning=lambda line: log(f"note: {line}"))
    if dry_run:
        print(plan_json(known_plan or chain.plan(photo, request, system.method)))
        return
    if save_steps:
        # what an earlier edit left would look like further steps of this one
        for left in save_steps.glob("step-[0-9][0-9].png"):
            left.unlink()
    turn, options = 0, {"mode": system.mode, "method": system.method, "seed": system.seed}
    for event in chain.stream(photo, known_plan or request, item=image.stem, **options):
        if isinstance(event, Decomposition):
            for name in COMPONENTS:
                log(f"{name}: {', '.join(getattr(event, name)) or '-'}")
        elif isinstance(event, Plan):
            for number, sub_request in enumerate(event.sub_requests, start=1):
                log(f"{number}. {sub_request}")
        elif isinstance(event, Step):
            turn += 1
            log(f"step {turn}: {event.seconds:.1f} s")
            if save_steps and event.image:
                save_image(save_steps / f"step-{turn:02d}.png", event.image)
        else:
            if event.image.mode == "RGBA" and output.suffix.lower() != ".png":
                log(f"note: {output} can't keep what is transparent; a PNG can")
            save_image(output, event.image, event.trace.to_json())
            if trace:
                write(trace, event.trace.to_json() + "\n")
    print(output)


@with_settings
def batch(
    source: Annotated[Path, typer.Argument(help=".jsonl file or folder of images", show_default=False)],
    *,
    out: Annotated[Path, option("folder for images, traces and results.jsonl", "--out")],
    request: Annotated[str, option("for images without one", "--request")] = "",
    jobs: Annotated[
        int, typer.Option("-j", "--jobs", help="images at a time; local models plan more", min=1, max=1024)
    ] = 8,
    overlap: Annotated[
        bool | None, option("plan and edit at once, not in phases (default: where both run elsewhere)")
    ] = None,
    retry_failed: Annotated[bool, option("retry what failed before", "--retry-failed")] = False,
    ray: Annotated[bool, option("spread the work over a Ray cluster", "--ray")] = False,
    ray_address: Annotated[
        str | None, option("address of the cluster (default: RAY_ADDRESS, else this machine)")
    ] = None,
    ray_gpus: Annotated[float | None, option("GPUs for each editor (default: 1 where the cluster has any)")] = None,
    system: System,
) -> None:
    """Edit many images. The same command continues where it was interrupted."""
    from ier1_plugin.data.items import count_items, left_out, note_left_out, read_items
    from ier1_plugin.pipeline.batch import batch_of, in_threads, run
    from ier1_plugin.pipeline.batch_folder import RESULTS
    from ier1_plugin.pipeline.batch_ray import OnRay

    out, total = out.resolve(), count_items(source)
    note_left_out(left_out(source))
    items = partial(read_items, source.resolve(), request)
    work = batch_of(system, items, out, jobs=jobs, overlap=overlap, retry_failed=retry_failed, total=total)

    # The first Ctrl-C waits for what is under way; the second one does not. No file is ever half written.
    def interrupt(*_: Any) -> None:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    # a shell that runs the command in the background has it ignore Ctrl-C
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)
    try:
        counts = run(work, OnRay(ray_address, ray_gpus).start if ray else in_threads)
    except KeyboardInterrupt:
        log("what is done is kept; run the same command again to continue")
        raise
    finally:
        signal.signal(signal.SIGINT, before)
    log(f"{counts['edited']} edited, {counts['failed']} failed, {counts['open']} open")
    print(out / RESULTS)
    if counts["failed"]:
        log(f"{RESULTS} says why the {counts['failed']} failed; --retry-failed tries them once more")
    if counts["failed"] or counts["open"]:
        raise typer.Exit(1)


def models() -> None:
    """List the editors: what each is, what it needs, whether it is available; and the systems and presets by name."""
    from ier1_plugin.editors import describe_editors

    with one_line_errors():
        for editor in describe_editors():
            state = "ready" if editor.available else "not here"
            print(f"{editor.usage}\n    {editor.summary}\n    {state}{f': {editor.why}' if editor.why else ''}")
        for name, file in shipped(SYSTEM).items():
            print(f"--system {name}\n    {read_yaml(file)['name']}")
        for name, file in shipped(PRESET).items():
            first_line = file.read_text(encoding="utf-8").partition("\n")[0]
            print(f"--preset {name}\n    {first_line.removeprefix('# ').partition('. ')[0]}")


@with_settings
def demo(
    *,
    host: Annotated[
        str, option("address to listen on (default: 127.0.0.1, this machine only)", "--host")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="port to listen on", min=1, max=65535)] = 7860,
    auth: Annotated[str | None, option("USER:PASSWORD that visitors must know", "--auth", envvar="IER1_AUTH")] = None,
    small_world: Annotated[bool, option("serve the model that the quickstart trained", "--small-world")] = False,
    system: System,
) -> None:
    """Open the web page."""
    from importlib.util import find_spec

    if find_spec("gradio") is None:
        raise SettingsError("the web page needs gradio: pip install -e '.[demo]'")
    from ier1_plugin.app.server import launch

    # before there is a folder to leave behind
    end_server_by_signal()
    launch(system, host=host, port=port, auth=auth, small_world=small_world)


def _check_writable(file: Path, taken: dict[str, Path], overwrite: bool) -> None:
    """PlanError if a result can't be written or would replace another; checked before anything is paid for."""
    from tempfile import TemporaryFile

    from ier1_plugin.task.schema import PlanError

    for what, other in taken.items():
        if file.resolve() == other.resolve() or (file.exists() and other.exists() and file.samefile(other)):
            raise PlanError(f"{file} is {what}; choose another name")
    if file.is_dir():
        raise PlanError(f"{file} is a folder; wanted the name of a file")
    if not file.parent.is_dir():
        raise PlanError(f"there is no folder {file.parent} to write {file.name} into")
    if (file.exists() or file.is_symlink()) and not overwrite:
        raise PlanError(f"{file} is there already; choose another name, or replace it with --overwrite")
    try:
        # only writing tells: a file system may be full or read-only, and not every one has permissions
        with TemporaryFile(dir=file.parent) as probe:
            probe.write(b"x")
    except OSError as error:
        raise PlanError(f"{file.parent} can't be written: {error.strerror or error}") from None
