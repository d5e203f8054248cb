"""A real vLLM server with a trained model, against the same weights in this process.

Needs vLLM in an environment of its own: `bash examples/make_venv_vllm.sh`, then IER1_VLLM_PYTHON=.venv-vllm/bin/python.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import httpx
import pytest
from fakes.chat_fakes import free_port

from ier1_plugin.chat import make_chat
from ier1_plugin.pipeline.agents import decompose
from ier1_plugin.prompts import path
from ier1_plugin.small_world.world import samples
from ier1_plugin.task.decomposer import Decomposer

PYTHON = os.environ.get("IER1_VLLM_PYTHON", "")
ROOT = Path(__file__).parents[2]
PATIENCE = 300.0
PIXELS = (3136, 3136)

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(not PYTHON, reason="IER1_VLLM_PYTHON is not set: see examples/make_venv_vllm.sh"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Qwen2.5-VL that has learnt the form of the answer, as merging leaves it."""
    folder = tmp_path_factory.mktemp("model") / "warm"
    command = [sys.executable, "-m", "ier1_plugin.small_world.warm_up", "--out", str(folder), "--steps", "200"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (folder / "decompose.jinja").write_bytes(path("decompose").read_bytes())
    # merging does this as well: without it vLLM takes the model for one that makes embeddings, and unties its head
    config = json.loads((folder / "config.json").read_text())
    config |= {name: config["text_config"][name] for name in ("architectures", "tie_word_embeddings")}
    (folder / "config.json").write_text(json.dumps(config))
    facts = Decomposer(*PIXELS, *PIXELS, 28**2, "decompose.jinja", "", "cpu-standin", "float32", "0.1.0", 64, 72)
    facts.write(folder)
    return folder


@pytest.fixture(scope="module")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of `ier1 serve`, run in vLLM's environment."""
    port, log = free_port(), tmp_path_factory.mktemp("log") / "vllm.txt"
    url, end = f"http://127.0.0.1:{port}/v1", time.monotonic() + PATIENCE
    path = f"{Path(PYTHON).absolute().parent}:{os.environ['PATH']}"
    settings = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "VLLM_CPU_KVCACHE_SPACE": "1"}
    command = [PYTHON, "-m", "ier1_plugin.cli", "serve", str(model), f"port={port}", "dtype=float32"]
    command += ["--", "--enforce-eager"]
    with log.open("w") as out, subprocess.Popen(command, cwd=ROOT, env=settings, stdout=out, stderr=out) as process:
        try:
            while not answers(f"{url}/models"):
                assert process.poll() is None, log.read_text()[-2000:]
                assert time.monotonic() < end, log.read_text()[-2000:]
                time.sleep(0.5)
            yield url
        finally:
            process.terminate()


def answers(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


def test_vllm_writes_what_the_same_weights_write_here_and_it_can_be_read(model: Path, server: str):
    here = make_chat(f"local:{model}")
    # the server takes 1,024 tokens in all
    there = make_chat(f"openai:{server}#decomposer", budget=PIXELS, max_tokens=256)
    readable = []
    for sample in islice(samples("val", 0), 12):
        photo = sample.photo.open(56)
        ours, theirs = (decompose(photo, sample.request, chat=chat) for chat in (here, there))
        assert theirs.trace.replies[0] == ours.trace.replies[0]
        readable.append(theirs.value)
    assert any(readable)
