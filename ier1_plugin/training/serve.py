"""Serves a merged decomposer with vLLM, so that it sees images and samples as it did in training.

    python -m ier1_plugin.training.serve decomposer-step-80 port=8001 -- --enforce-eager
    -> vllm serve decomposer-step-80 --served-model-name decomposer --host 127.0.0.1 --port 8001
           --limit-mm-per-prompt '{"image": 1, "video": 0}' --mm-processor-kwargs '{"min_pixels": ..., ...}'
           --max-model-len 5632 --override-generation-config '{"temperature": 0, "max_new_tokens": ...}' --enforce-eager

`key=value` sets vLLM's option --key; what stands after `--` is passed on as it is. The options exist in vLLM 0.11.2
(EasyR1's image has 0.11) and in 0.32.0 (vllm/engine/arg_utils.py).
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

from ier1_plugin.task.decomposer import Decomposer, DecomposerError

USAGE = "usage: python -m ier1_plugin.training.serve FOLDER [key=value ...] [-- vllm options]"
MODEL_NAME = "decomposer"
# for the prompt's text and the reply; `decompose.jinja` takes about 500 tokens, long requests a few hundred more
TEXT_TOKENS = 4096
_OVERRIDE = re.compile(r"-{0,2}([A-Za-z][\w.-]*)=(.*)", re.DOTALL)


def command(folder: Path, overrides: dict[str, str], extra: list[str]) -> list[str]:
    """The vLLM command that serves `folder`. DecomposerError: it is no merged decomposer.

    `overrides`: options without dashes; "true" stands for a flag, "false" leaves an option out.
    """
    decomposer = Decomposer.read(folder)
    limits = {"min_pixels": decomposer.server_min_pixels, "max_pixels": decomposer.server_max_pixels}
    options = {
        "served-model-name": MODEL_NAME,
        # vLLM's default is every interface, without a key
        "host": "127.0.0.1",
        "port": "8000",
        # nothing is reserved for the videos that the agent never gets
        "limit-mm-per-prompt": json.dumps({"image": 1, "video": 0}),
        "mm-processor-kwargs": json.dumps(limits),
        "max-model-len": str(_context_length(folder, decomposer)),
        "override-generation-config": json.dumps(_generation(decomposer)),
        **overrides,
    }
    flags = [part for name, value in options.items() for part in _flag(name, value)]
    return ["vllm", "serve", str(folder), *flags, *extra]


def main(arguments: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    split = arguments.index("--") if "--" in arguments else len(arguments)
    own, extra = arguments[:split], arguments[split + 1 :]
    if own and own[0] in ("-h", "--help"):
        print(USAGE)
        return
    try:
        served = command(_folder(own), _overrides(own[1:]), extra)
    except DecomposerError as error:
        raise SystemExit(f"error: {error}") from None
    if shutil.which("vllm") is None:
        raise SystemExit("error: no vllm on the PATH; pip install vllm (it needs a GPU), or run in EasyR1's image")
    print(shlex.join(served), flush=True)
    os.execvp(served[0], served)


def _generation(decomposer: Decomposer) -> dict[str, int]:
    """For clients that name no temperature; and a limit for all: a reply is no longer than the training allowed."""
    longest = decomposer.max_response_length
    return {"temperature": 0} | ({"max_new_tokens": longest} if longest else {})


def _folder(arguments: list[str]) -> Path:
    if not arguments:
        raise DecomposerError(f"no folder given; {USAGE}")
    folder = Path(arguments[0])
    if not folder.is_dir():
        raise DecomposerError(f"no folder {folder}; fetch one from the hub with: hf download REPO --local-dir {folder}")
    return folder


def _overrides(arguments: list[str]) -> dict[str, str]:
    overrides = {}
    for argument in arguments:
        match = _OVERRIDE.fullmatch(argument)
        if match is None:
            raise DecomposerError(f"{argument} is not key=value; put vLLM's own options after --")
        overrides[match[1].replace("_", "-")] = match[2]
    return overrides


def _flag(name: str, value: str) -> list[str]:
    if value == "false":
        return []
    return [f"--{name}"] if value == "true" else [f"--{name}", value]


def _context_length(folder: Path, decomposer: Decomposer) -> int:
    """Room for an image at its largest, the prompt and the reply, within what the model knows."""
    wanted = decomposer.max_image_tokens + max(TEXT_TOKENS, 2048 + (decomposer.max_response_length or 0))
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        known = (config.get("text_config") or config).get("max_position_embeddings") or wanted
    except (OSError, ValueError, AttributeError):
        raise DecomposerError(f"{folder}/config.json can't be read; merge the checkpoint again") from None
    return min(wanted, known)


if __name__ == "__main__":
    main()
