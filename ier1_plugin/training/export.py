"""Merges an EasyR1 checkpoint into a Hugging Face folder that is ready to serve, to load and to upload.

    python -m ier1_plugin.training.export checkpoints/easy_r1/qwen25vl_7b/global_step_80
    -> checkpoints/easy_r1/qwen25vl_7b/decomposer-step-80/
           model-00001-of-00005.safetensors ..., config.json, tokenizer, processor, generation_config.json,
           decompose.jinja, decomposer.json (pixel budget, prompt hash, rollout, step ...), README.md (model card)

Needs neither EasyR1 nor a GPU nor peft. Weights are written file by file, so that memory holds one file of them.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ier1_plugin import __version__
from ier1_plugin.task.decomposer import Decomposer, processor_limits
from ier1_plugin.training.checkpoint import (
    Checkpoint,
    CheckpointError,
    find_checkpoint,
    read_json,
    read_weights,
    tracker,
)
from ier1_plugin.training.hub_folder import copy_files, hub_names, write_weights
from ier1_plugin.training.lora import merge_lora
from ier1_plugin.training.model_card import render_card
from ier1_plugin.training.run_config import (
    DTYPES,
    find_budget,
    find_dtype,
    find_prompt,
    look_up,
    read_rollout,
    read_run_config,
)


def merge(checkpoint: Checkpoint, out: Path, options: argparse.Namespace) -> Path:
    """Writes the folder `out`, which must not exist yet; it appears whole or not at all.

    `options`: what `main` takes on the command line, None where not given. CheckpointError says in one line what is
    missing or damaged.
    """
    if out.exists():
        raise CheckpointError(f"{out} exists; remove it, or name another folder with --out")
    config = read_run_config(checkpoint.run, options.config)
    prompt = find_prompt(config, options.prompt)
    decomposer = _describe(checkpoint, config, prompt, out, options)
    weights = merge_lora(read_weights(checkpoint), checkpoint.actor / "lora_adapter" / "adapter_config.json")
    with _appearing(out) as folder:
        copy_files(checkpoint.huggingface, folder, decomposer, look_up(config, "data.override_chat_template"))
        shutil.copyfile(prompt, folder / prompt.name)
        decomposer.write(folder)
        (folder / "README.md").write_text(render_card(decomposer, config), encoding="utf-8")
        write_weights(hub_names(weights, checkpoint.huggingface), folder, decomposer.dtype)
    return out


def upload(folder: Path, repo_id: str) -> str:
    """Creates the hub repository (private) if need be, uploads the folder and returns its address."""
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        address = api.create_repo(repo_id, private=True, exist_ok=True)
        api.upload_folder(repo_id=repo_id, folder_path=folder)
    except Exception as error:  # the hub client and its transport each raise their own
        reason = str(error).strip().split("\n")[0]
        hint = f"the merged model is in {folder}; try again with: hf upload {repo_id} {folder}"
        raise CheckpointError(f"upload to {repo_id} failed ({reason}); {hint}") from error
    return str(address)


def main(arguments: list[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    try:
        checkpoint = find_checkpoint(options.checkpoint)
        name = "decomposer" if checkpoint.step is None else f"decomposer-step-{checkpoint.step}"
        out = merge(checkpoint, options.out or checkpoint.run / name, options)
        print(f"{_step_line(checkpoint)} merged into {out}")
        if options.upload:
            print(f"uploaded to {upload(out, options.upload)}")
    except (CheckpointError, OSError) as error:
        raise SystemExit(f"error: {error}") from None
    except ImportError as error:
        raise SystemExit(f"error: {error.name} is not installed; merge in the environment of the training") from None
    except KeyboardInterrupt:
        raise SystemExit("interrupted") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ier1_plugin.training.export", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("checkpoint", type=Path, help="a run's folder (its last step), a global_step_N or its actor")
    parser.add_argument("--out", type=Path, help="folder to write; default: decomposer-step-N in the run's folder")
    parser.add_argument("--config", type=Path, help="the run's EasyR1 config, where its folder holds none")
    parser.add_argument("--min-pixels", type=int, help="data.min_pixels of the training; default: from the config")
    parser.add_argument("--max-pixels", type=int, help="data.max_pixels of the training; default: from the config")
    parser.add_argument("--prompt", type=Path, help="data.format_prompt of the training; default: from the config")
    parser.add_argument("--base-model", help="hub id of the model that was trained; default: from the config")
    dtypes = sorted(DTYPES.values())
    parser.add_argument("--dtype", choices=dtypes, help="of the weights; default: worker.rollout.dtype, else bfloat16")
    parser.add_argument(
        "--upload", metavar="REPO_ID", help="upload to this repository of the hub; a new one is private"
    )
    return parser


def _describe(
    checkpoint: Checkpoint, config: dict[str, Any], prompt: Path, out: Path, options: argparse.Namespace
) -> Decomposer:
    low, high = find_budget(config, options.min_pixels, options.max_pixels)
    side, own_limits = _processor_facts(checkpoint.huggingface / "preprocessor_config.json")
    server_low, server_high = processor_limits(low, high, side, own_limits)
    return Decomposer(
        min_pixels=low,
        max_pixels=high,
        server_min_pixels=server_low,
        server_max_pixels=server_high,
        pixels_per_token=side**2,
        prompt=prompt.name,
        prompt_sha256=hashlib.sha256(prompt.read_bytes()).hexdigest(),
        rollout=read_rollout(checkpoint.huggingface),
        dtype=find_dtype(config, options.dtype),
        imageedit_r1_version=__version__,
        max_prompt_length=look_up(config, "data.max_prompt_length"),
        max_response_length=look_up(config, "data.max_response_length"),
        global_step=checkpoint.step,
        experiment=look_up(config, "trainer.experiment_name"),
        base_model=_from(out, options.base_model or look_up(config, "worker.actor.model.model_path")),
        easyr1_version=look_up(config, "easyr1_version"),
    )


def _from(out: Path, base_model: str | None) -> str | None:
    """A folder as seen from `out`, such as "../warm", so that both can be moved together; a hub id as it is."""
    return os.path.relpath(base_model, out) if base_model and Path(base_model).is_dir() else base_model


def _processor_facts(file: Path) -> tuple[int, tuple[int, int]]:
    """Pixels along an image token, and the limits that the processor had in training."""
    processor: Mapping[str, Any] = read_json(file)
    size = processor.get("size") or {}
    low = processor.get("min_pixels") or size.get("shortest_edge")
    high = processor.get("max_pixels") or size.get("longest_edge")
    side = processor.get("patch_size", 0) * processor.get("merge_size", 0)
    if not (side and low and high):
        raise CheckpointError(f"{file} is not that of a Qwen-VL model: no patch size, merge size or pixel limits")
    return side, (low, high)


def _step_line(checkpoint: Checkpoint) -> str:
    best = tracker(checkpoint.run).get("best_global_step")
    step = f"step {checkpoint.step}" if checkpoint.step is not None else str(checkpoint.actor)
    return f"{step} (best on validation: step {best})" if best and best != checkpoint.step else step


@contextmanager
def _appearing(out: Path) -> Iterator[Path]:
    """A folder to fill, which gets its name when it is complete and goes when it is not.

    What a killed run left is cleared. A lock, which dies with its process, keeps a second merge out.
    """
    partial = out.with_name(f".{out.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    lock = os.open(partial, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise CheckpointError(f"another merge is writing {out}") from None
    try:
        for left in partial.iterdir():
            left.unlink()
        yield partial
        partial.rename(out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    finally:
        os.close(lock)


if __name__ == "__main__":
    main()
