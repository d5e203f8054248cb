"""The commands `ier1 train`, `curves`, `merge` and `serve`: from rows to a decomposer behind a server.

ier1 train config=examples/grpo_qwen25vl.yaml data.train_files=rl/train.parquet data.val_files=rl/val.parquet
ier1 curves tensorboard_log/imageedit_r1/qwen25vl_7b_grpo
ier1 merge checkpoints/imageedit_r1/qwen25vl_7b_grpo --out decomposer
ier1 serve decomposer port=8001 -- --enforce-eager
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from ier1_plugin.cli.options import needs_extra, one_line_errors, option
from ier1_plugin.runs.errors import UserError

# everything after FOLDER reaches `serve` as it is, with the "--" that separates its options from vLLM's
SERVE_SETTINGS = {"allow_interspersed_args": False}


class Host(str, Enum):
    easyr1 = "easyr1"
    verl = "verl"


class Dtype(str, Enum):
    bfloat16 = "bfloat16"
    float16 = "float16"
    float32 = "float32"


def train(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE...",
            help="config=FILE.yaml and the trainer's own keys; later ones win",
            show_default=False,
        ),
    ] = None,
    check: Annotated[bool, option("only check the run; list every problem, one a line", "--check")] = False,
    cpu: Annotated[bool, option("train a tiny model without a GPU, with stand-ins for CUDA", "--cpu")] = False,
    host: Annotated[
        Host, option("the trainer: EasyR1, or upstream verl in an environment of its own", "--host")
    ] = Host.easyr1,
) -> None:
    """Train the decomposition agent (GRPO) in EasyR1 or verl. The same command continues from the last checkpoint."""
    if host is Host.verl:
        from ier1_plugin.training.verl_train import train as run
    else:
        from ier1_plugin.training.easyr1 import train as run

    # no one_line_errors: what EasyR1 raises keeps its traceback
    raise typer.Exit(run(overrides or [], check, cpu))


def curves(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="folder or file of TensorBoard's or EasyR1's logs; NAME=RUN names it in the figure",
            show_default=False,
        ),
    ],
    out: Annotated[Path, option("folder for the figure and the table (default: here)", "--out")] = Path(),
    smooth: Annotated[
        int | None,
        typer.Option(help="steps of the moving mean (default: a twentieth of the run)", min=1, show_default=False),
    ] = None,
    pictures: Annotated[
        Path | None, option("store of a picture reward: also write pictures.html on its last batch", "--pictures")
    ] = None,
) -> None:
    """Plot how the rewards of one or several runs rise: reward_curves.png and reward_curves.csv."""
    with one_line_errors(), needs_extra("curves"):
        if pictures:
            from ier1_plugin.evaluation.picture_page import write_picture_page

            write_picture_page(pictures, out / "pictures.html")
            typer.echo(f"wrote {out / 'pictures.html'}")
        from ier1_plugin.training.curves import write_curves

        for line in write_curves(runs, out, smooth):
            typer.echo(line)


def merge(
    checkpoint: Annotated[
        Path,
        typer.Argument(help="a run's folder (its last step), a global_step_N or its actor folder", show_default=False),
    ],
    *,
    out: Annotated[
        Path | None, option("folder to write (default: decomposer-step-N in the run's folder)", "--out")
    ] = None,
    config: Annotated[Path | None, option("the run's EasyR1 config, if its folder has none", "--config")] = None,
    min_pixels: Annotated[int | None, option("data.min_pixels of the training (default: from the config)")] = None,
    max_pixels: Annotated[int | None, option("data.max_pixels of the training (default: from the config)")] = None,
    prompt: Annotated[Path | None, option("data.format_prompt of the training (default: from the config)")] = None,
    base_model: Annotated[str | None, option("hub id of the model that was trained (default: from the config)")] = None,
    dtype: Annotated[
        Dtype | None, option("dtype of the weights (default: worker.rollout.dtype, else bfloat16)", "--dtype")
    ] = None,
    upload: Annotated[
        str | None, option("upload to this repository of the hub (REPO_ID); a new one is private", "--upload")
    ] = None,
) -> None:
    """Merge an EasyR1 checkpoint into a Hugging Face folder that is ready to serve, to load and to upload."""
    with one_line_errors(), needs_extra("local"):
        from ier1_plugin.training import export
        from ier1_plugin.training.checkpoint import find_checkpoint

        source = find_checkpoint(checkpoint)
        folder = export.merge(
            source,
            out,
            config_file=config,
            min_pixels=min_pixels,
            max_pixels=max_pixels,
            prompt=prompt,
            base_model=base_model,
            dtype=dtype.value if dtype else None,
        )
        typer.echo(f"{export.describe_step(source)} merged into {folder}")
        if upload:
            typer.echo(f"uploaded to {export.upload(folder, upload)}")


def serve(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="a merged decomposer", show_default=False)],
    more: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE...] [-- VLLM OPTIONS]",
            help="vLLM's option --KEY, and after -- options that are passed on as they are",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Serve a merged decomposer with vLLM, with the pixel limits and the prompt lengths of its training."""
    arguments = more or []
    split = arguments.index("--") if "--" in arguments else len(arguments)
    if "--help" in arguments[:split]:
        typer.echo(context.get_help())
        return
    with one_line_errors():
        from ier1_plugin.training.serve import vllm_command

        overrides = {}
        for argument in arguments[:split]:
            match = re.fullmatch(r"-{0,2}([A-Za-z][\w.-]*)=(.*)", argument, re.DOTALL)
            if match is None:
                raise UserError(f"{argument} is not key=value; put vLLM's own options after --")
            overrides[match[1].replace("_", "-")] = match[2]
        command = vllm_command(folder, overrides, arguments[split + 1 :])
        if shutil.which("vllm") is None:
            # what suits EasyR1, in case it is trained with in the same environment
            cure = "pip install 'vllm>=0.11,<0.13' (it needs a GPU), or run in EasyR1's image"
            raise UserError(f"no vllm on the PATH; {cure}")
        print(shlex.join(command), flush=True)
        os.execvp(command[0], command)
