"""The `ier1` command: edit a photo, edit many, evaluate systems, see which editors are here, open the web page.

    ier1 edit portrait.jpg "make the coat scarlet and warm the light up" -o red.png --editor flux-kontext \\
        --decomposer openai:http://127.0.0.1:8000/v1#decomposer
    ier1 batch requests.jsonl --out edited --system flux-kontext -j 8

What goes wrong is one line on standard error. Exit status: 0; 1 if something could not be done; 2 for a wrong command
line; 130 after Ctrl-C. Whatever is heavy is imported by the command that needs it, so that `ier1 --help` is quick.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ier1_plugin.cli.agreement import agreement, annotate
from ier1_plugin.cli.evaluate import evaluate
from ier1_plugin.cli.options import one_line_errors, option, with_settings
from ier1_plugin.cli.report import report
from ier1_plugin.cli.training import SERVE_SETTINGS, curves, merge, serve, train
from ier1_plugin.pipeline.system import SettingsError, System

app = typer.Typer(
    name="ier1",
    help="ImageEdit-R1: edits images as compound requests in plain words ask for.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.command()
@with_settings
def edit(
    image: Annotated[Path, typer.Argument(help="the photo", show_default=False)],
    request: Annotated[str, typer.Argument(help="what shall change, in plain words; not needed with --plan")] = "",
    *,
    output: Annotated[Path | None, option("PNG or JPEG to write (default: IMAGE-edited.png)", "-o", "--output")] = None,
    plan: Annotated[Path | None, option("a trace, plan or edited PNG to do again; no agent is asked", "--plan")] = None,
    trace: Annotated[Path | None, option("file for how the image was made, as JSON", "--trace")] = None,
    save_steps: Annotated[Path | None, option("folder for the image after each step", "--save-steps")] = None,
    dry_run: Annotated[bool, option("print the plan as JSON and edit nothing", "--dry-run")] = False,
    system: System,
    said: frozenset[str],
) -> None:
    """Edit one image."""
    from ier1_plugin.cli.edit import edit_image

    edit_image(image, request, output, system, said, plan, trace, save_steps, dry_run)


@app.command()
@with_settings
def batch(
    source: Annotated[Path, typer.Argument(help=".jsonl file or folder of images", show_default=False)],
    *,
    out: Annotated[Path, option("folder for images, traces and results.jsonl", "--out")],
    request: Annotated[str, option("for images that bring none", "--request")] = "",
    jobs: Annotated[int, typer.Option("-j", "--jobs", help="images at a time", min=1, max=1024)] = 8,
    overlap: Annotated[
        bool | None, option("plan and edit at once, not in phases (default: where both run elsewhere)")
    ] = None,
    retry_failed: Annotated[bool, option("try what failed before once more", "--retry-failed")] = False,
    ray: Annotated[bool, option("spread the work over a Ray cluster", "--ray")] = False,
    ray_address: Annotated[str | None, option("of the cluster (default: RAY_ADDRESS, else this machine)")] = None,
    ray_gpus: Annotated[float | None, option("GPUs for each editor (default: 1 where the cluster has any)")] = None,
    system: System,
) -> None:
    """Edit many images. The same command goes on where it was interrupted."""
    from ier1_plugin.cli.edit import edit_many

    on_ray = (ray_address, ray_gpus) if ray else None
    edit_many(source, out, request, system, jobs, overlap, retry_failed, on_ray)


for command in (evaluate, report, annotate, agreement, train, curves, merge):
    app.command()(command)
app.command(context_settings=SERVE_SETTINGS)(serve)


@app.command()
def models() -> None:
    """List the editors: what each is, what it needs, whether it is here; and the systems and presets by name."""
    with one_line_errors():
        from ier1_plugin.cli.edit import list_editors

        list_editors()


@app.command()
@with_settings
def demo(
    *,
    host: Annotated[
        str, option("address to listen on (default: 127.0.0.1, this machine only)", "--host")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="to listen on", min=1, max=65535)] = 7860,
    auth: Annotated[str | None, option("USER:PASSWORD that visitors must know", "--auth", envvar="IER1_AUTH")] = None,
    small_world: Annotated[bool, option("serve the model that the quickstart trained", "--small-world")] = False,
    system: System,
) -> None:
    """Open the web page."""
    from importlib.util import find_spec

    if find_spec("gradio") is None:
        raise SettingsError("the web page needs gradio: pip install -e '.[demo]'")
    from ier1_plugin.app.server import launch

    launch(system, host=host, port=port, auth=auth, small_world=small_world)


def main() -> None:
    app(prog_name="ier1")


if __name__ == "__main__":
    main()
