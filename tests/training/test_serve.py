"""serve_decomposer.sh at its outermost edge: what arrives at the `vllm` that is first on the PATH."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ier1_plugin.task.decomposer import Decomposer

SCRIPT = Path(__file__).parents[2] / "examples" / "serve_decomposer.sh"
RECORD = Decomposer(
    min_pixels=3136,
    max_pixels=1003520,
    server_min_pixels=3136,
    server_max_pixels=1203076,
    pixels_per_token=784,
    prompt="decompose.jinja",
    prompt_sha256="0" * 64,
    rollout="vllm",
    dtype="bfloat16",
    imageedit_r1_version="0.1.0",
)
FAKE_VLLM = """#!/bin/sh
# one argument a line, as vllm receives them
printf '%s\\n' "$@" >"$RECEIVED"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What `serve` reads of a merged decomposer."""
    merged = tmp_path / "decomposer with space"
    merged.mkdir()
    RECORD.write(merged)
    (merged / "config.json").write_text(json.dumps({"text_config": {"max_position_embeddings": 128000}}))
    return merged


def serve(tmp_path: Path, *arguments: Any, vllm: bool = True) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Runs the script; returns what it printed, and what vllm received."""
    tools, received = tmp_path / "tools", tmp_path / "received"
    tools.mkdir(exist_ok=True)
    if vllm:
        (tools / "vllm").write_text(FAKE_VLLM)
        (tools / "vllm").chmod(0o755)
    done = subprocess.run(
        ["bash", str(SCRIPT), *map(str, arguments)],
        env={"PATH": f"{tools}:/usr/bin:/bin", "PYTHON": sys.executable, "RECEIVED": str(received)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done, received.read_text().splitlines() if received.exists() else []


def refused(tmp_path: Path, *arguments: Any, vllm: bool = True) -> str:
    """The one line on stderr; nothing was started."""
    done, received = serve(tmp_path, *arguments, vllm=vllm)
    assert (done.returncode, received) == (1, [])
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


def option(received: list[str], name: str) -> str:
    assert received.count(f"--{name}") == 1
    return received[received.index(f"--{name}") + 1]


def test_vllm_gets_the_pixel_limits_of_the_training(tmp_path: Path, folder: Path):
    done, received = serve(tmp_path, folder)
    assert done.returncode == 0, done.stderr
    assert received[:2] == ["serve", str(folder)]
    assert json.loads(option(received, "mm-processor-kwargs")) == {"min_pixels": 3136, "max_pixels": 1203076}
    assert json.loads(option(received, "limit-mm-per-prompt")) == {"image": 1, "video": 0}
    assert json.loads(option(received, "override-generation-config")) == {"temperature": 0}
    assert option(received, "served-model-name") == "decomposer"
    assert option(received, "host") == "127.0.0.1"
    # 1,203,076 / 784 pixels make 1,535 image tokens; 4,096 more for the text
    assert option(received, "max-model-len") == str(1535 + 4096)
    assert "vllm serve" in done.stdout


def test_neither_reply_nor_context_is_longer_than_training_and_model_allow(tmp_path: Path, folder: Path):
    replace(RECORD, max_response_length=72).write(folder)
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 512}))
    _, received = serve(tmp_path, folder)
    assert json.loads(option(received, "override-generation-config")) == {"temperature": 0, "max_new_tokens": 72}
    assert option(received, "max-model-len") == "512"


def test_key_value_replaces_a_default_and_what_follows_two_dashes_is_passed_on(tmp_path: Path, folder: Path):
    overrides = ("port=8001", "tensor_parallel_size=2", "max-model-len=2048", "enforce_eager=true", "host=false")
    _, received = serve(tmp_path, folder, *overrides, "--", "--api-key", "a=b c")
    assert option(received, "port") == "8001"
    assert option(received, "tensor-parallel-size") == "2"
    assert option(received, "max-model-len") == "2048"
    assert "--host" not in received
    assert received[received.index("--enforce-eager") + 1].startswith("--")
    assert received[-2:] == ["--api-key", "a=b c"]


def test_a_missing_vllm_is_one_clear_line(tmp_path: Path, folder: Path):
    assert "pip install vllm" in refused(tmp_path, folder, vllm=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "hf download"),
        (["."], "decomposer.json can't be read"),
        (["decomposer with space", "--port"], "--port is not key=value"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_wrong_arguments_are_one_clear_line(tmp_path: Path, arguments: list[str], message: str):
    assert message in refused(tmp_path, *arguments)


def test_no_folder_is_a_wrong_command_line(tmp_path: Path):
    assert serve(tmp_path)[0].returncode == 2


@pytest.mark.parametrize("text", ["", "[1]", "{}", "nonsense", '{"min_pixels": 1}'])
def test_a_damaged_record_is_one_clear_line(tmp_path: Path, folder: Path, text: str):
    (folder / "decomposer.json").write_text(text)
    assert "ier1 merge" in refused(tmp_path, folder)


def test_a_record_of_a_later_version_is_read_and_one_with_an_impossible_budget_refused(tmp_path: Path, folder: Path):
    record = json.loads((folder / "decomposer.json").read_text())
    (folder / "decomposer.json").write_text(json.dumps(record | {"server_max_pixels": "many"}))
    assert "server_max_pixels is 'many'" in refused(tmp_path, folder)
    (folder / "decomposer.json").write_text(json.dumps(record | {"something_new": 1}))
    assert serve(tmp_path, folder)[0].returncode == 0
