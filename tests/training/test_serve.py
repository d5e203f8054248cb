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
    tools = tmp_path / "tools"
    tools.mkdir(exist_ok=True)
    if vllm:
        (tools / "vllm").write_text(FAKE_VLLM)
        (tools / "vllm").chmod(0o755)
    received = tmp_path / "received"
    received.unlink(missing_ok=True)
    done = subprocess.run(
        ["bash", str(SCRIPT), *map(str, arguments)],
        env={"PATH": f"{tools}:/usr/bin:/bin", "PYTHON": sys.executable, "RECEIVED": str(received)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done, received.read_text().splitlines() if received.exists() else []


def option(received: list[str], name: str) -> str:
    assert received.count(f"--{name}") == 1
    return received[received.index(f"--{name}") + 1]


def test_a_reply_may_be_as_long_as_the_training_allowed(tmp_path: Path, folder: Path):
    replace(RECORD, max_response_length=72).write(folder)
    _, received = serve(tmp_path, folder)
    assert json.loads(option(received, "override-generation-config")) == {"temperature": 0, "max_new_tokens": 72}


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


def test_key_value_replaces_a_default_and_what_follows_two_dashes_is_passed_on(tmp_path: Path, folder: Path):
    overrides = ("port=8001", "tensor_parallel_size=2", "max-model-len=2048", "enforce_eager=true", "host=false")
    _, received = serve(tmp_path, folder, *overrides, "--", "--api-key", "a=b c")
    assert option(received, "port") == "8001"
    assert option(received, "tensor-parallel-size") == "2"
    assert option(received, "max-model-len") == "2048"
    assert "--host" not in received
    assert received[received.index("--enforce-eager") + 1].startswith("--")
    assert received[-2:] == ["--api-key", "a=b c"]


def test_a_small_model_is_not_asked_for_more_context_than_it_has(tmp_path: Path, folder: Path):
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 512}))
    assert option(serve(tmp_path, folder)[1], "max-model-len") == "512"


def test_a_missing_vllm_is_one_clear_line(tmp_path: Path, folder: Path):
    done, received = serve(tmp_path, folder, vllm=False)
    assert done.returncode == 1
    assert done.stderr == "error: no vllm on the PATH; pip install vllm (it needs a GPU), or run in EasyR1's image\n"
    assert received == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "no folder nowhere; fetch one from the hub with: hf download"),
        (
            ["."],
            "decomposer.json can't be read (No such file or directory); make one with ier1 merge",
        ),
        (["decomposer with space", "--port"], "--port is not key=value; put vLLM's own options after --"),
    ],
)
def test_wrong_arguments_are_one_clear_line(tmp_path: Path, folder: Path, arguments: list[str], message: str):
    done, received = serve(tmp_path, *arguments)
    assert (done.returncode, received) == (1, [])
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_no_folder_is_a_wrong_command_line(tmp_path: Path):
    assert serve(tmp_path)[0].returncode == 2


@pytest.mark.parametrize("text", ["", "[1]", "{}", "nonsense", '{"min_pixels": 1}'])
def test_a_damaged_record_is_one_clear_line(tmp_path: Path, folder: Path, text: str):
    (folder / "decomposer.json").write_text(text)
    done, received = serve(tmp_path, folder)
    assert (done.returncode, received) == (1, [])
    assert "is not what ier1 merge writes" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_record_with_an_impossible_budget_is_refused(tmp_path: Path, folder: Path):
    record = json.loads((folder / "decomposer.json").read_text())
    (folder / "decomposer.json").write_text(json.dumps(record | {"server_max_pixels": "many"}))
    assert "server_max_pixels is 'many'; wanted a number of pixels" in serve(tmp_path, folder)[0].stderr


def test_a_record_of_a_later_version_is_read(tmp_path: Path, folder: Path):
    record = json.loads((folder / "decomposer.json").read_text())
    (folder / "decomposer.json").write_text(json.dumps(record | {"something_new": 1}))
    assert serve(tmp_path, folder)[0].returncode == 0
