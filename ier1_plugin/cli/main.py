"""The `ier1` command: edit photos, evaluate systems, train a decomposer, open the web page.

    ier1 edit portrait.jpg "make the coat scarlet and warm the light up" -o red.png --editor flux-kontext \\
        --decomposer openai:http://127.0.0.1:8000/v1#decomposer
    ier1 batch requests.jsonl --out edited --system flux-kontext -j 8

Errors are one line on standard error. Exit status: 0; 1 if something could not be done; 2 for a wrong command line; 130
after Ctrl-C. Heavy modules are imported by the command that needs them, so that `ier1 --help` is quick.
"""

from __future__ import annotations

import typer

from ier1_plugin.cli.agreement import agreement, annotate
from ier1_plugin.cli.edit import batch, demo, edit, models
from ier1_plugin.cli.evaluate import evaluate
from ier1_plugin.cli.report import report
from ier1_plugin.cli.training import SERVE_SETTINGS, curves, merge, serve, train

app = typer.Typer(
    name="ier1",
    help="ImageEdit-R1: edits images as compound requests in plain words ask for.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for command in (edit, batch, models, demo, evaluate, report, annotate, agreement, train, curves, merge):
    app.command()(command)
app.command(context_settings=SERVE_SETTINGS)(serve)


def main() -> None:
    app(prog_name="ier1")


if __name__ == "__main__":
    main()
