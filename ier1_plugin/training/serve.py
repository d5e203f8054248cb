"""The vLLM command that serves a merged decomposer, so that it sees images and samples as it did in training.

    vllm_command(Path("decomposer-step-80"), {"port": "8001"}, ["--enforce-eager"])
    -> vllm serve decomposer-step-80 --served-model-name decomposer --host 127.0.0.1 --port 8001
           --limit-mm-per-prompt '{"image": 1, "video": 0}' --mm-processor-kwargs '{"min_pixels": ..., ...}'
           --max-model-len 5632 --override-generation-config '{"temperature": 0, "max_new_tokens": ...}' --enforce-eager

The options exist in vLLM 0.11.2 (EasyR1's image has 0.11) and in 0.32.0 (vllm/engine/arg_utils.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from ier1_plugin.task.decomposer import Decomposer, DecomposerError

MODEL_NAME = "decomposer"
# for the prompt's text and the reply; `decompose.jinja` takes about 500 tokens, long requests a few hundred more
TEXT_TOKENS = 4096


def vllm_command(folder: Path, overrides: Mapping[str, str], extra: Sequence[str]) -> list[str]:
    """The command line, program first. DecomposerError: `folder` is not a merged decomposer.

    `overrides`: options without dashes; "true" stands for a flag, "false" leaves an option out. `extra` is appended.
    """
    if not folder.is_dir():
        raise DecomposerError(f"no folder {folder}; fetch one from the hub with: hf download REPO --local-dir {folder}")
    decomposer = Decomposer.read(folder)
    longest = decomposer.max_response_length
    # room for an image at its largest, the prompt and the reply, within what the model knows
    context = decomposer.max_image_tokens + max(TEXT_TOKENS, 2048 + (longest or 0))
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        context = min(context, (config.get("text_config") or config).get("max_position_embeddings") or context)
    except (OSError, ValueError, AttributeError):
        raise DecomposerError(f"{folder}/config.json can't be read; merge the checkpoint again") from None
    limits = {"min_pixels": decomposer.server_min_pixels, "max_pixels": decomposer.server_max_pixels}
    options = {
        "served-model-name": MODEL_NAME,
        # vLLM's default is every interface, without a key
        "host": "127.0.0.1",
        "port": "8000",
        # nothing is reserved for the videos that the agent never gets
        "limit-mm-per-prompt": json.dumps({"image": 1, "video": 0}),
        "mm-processor-kwargs": json.dumps(limits),
        "max-model-len": str(context),
        # for clients that name no temperature, and a limit for all: a reply is no longer than the training allowed
        "override-generation-config": json.dumps({"temperature": 0} | ({"max_new_tokens": longest} if longest else {})),
        **overrides,
    }
    command = ["vllm", "serve", str(folder)]
    for name, value in options.items():
        if value != "false":
            command += [f"--{name}"] if value == "true" else [f"--{name}", value]
    return [*command, *extra]
