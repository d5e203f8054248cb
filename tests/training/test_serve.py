"""`ier1 serve`: what arrives at the `vllm` that is first on the PATH, and what is refused before."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from fakes.commands import ier1, refused

from ier1_plugin.task.decomposer import Decomposer
from ier1_plugin.training.serve import vllm_command

SCRIPT = Path(__file__).parents[2] / "examples" / "serve_decomposer.sh"
RECORD = Decomposer(3136, 1003520, 3136, 1203076, 784, "decompose.jinja", "0" * 64, "vllm", "bfloat16", "0.1.0")
# one argument a line, as vllm receives them
FAKE_VLLM = """#!/bin/sh
printf '%s\\n' "$@"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What `serve` reads of a merged decomposer."""
    merged = tmp_path / "decomposer with space"
    merged.mkdir()
    RECORD.write(merged)
    (merged / "config.json").write_text(json.dumps({"text_config": {"max_position_embeddings": 128000}}))
    return merged


def received(folder: Path, *arguments: str) -> list[str]:
    """Runs the script; returns the line that it prints and what vllm received."""
    vllm = folder.parent / "tools" / "vllm"
    vllm.parent.mkdir()
    vllm.write_text(FAKE_VLLM)
    vllm.chmod(0o755)
    environment = {"PATH": f"{vllm.parent}:/usr/bin:/bin", "PYTHON": sys.executable}
    command = ["bash", str(SCRIPT), str(folder), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def option(command: list[str], name: str) -> str:
    assert command.count(f"--{name}") == 1
    return command[command.index(f"--{name}") + 1]


def test_vllm_gets_the_pixel_limits_of_the_training(folder: Path):
    printed, *command = received(folder)
    assert printed.startswith("vllm serve ")
    assert command[:2] == ["serve", str(folder)]
    assert json.loads(option(command, "mm-processor-kwargs")) == {"min_pixels": 3136, "max_pixels": 1203076}
    assert json.loads(option(command, "limit-mm-per-prompt")) == {"image": 1, "video": 0}
    assert json.loads(option(command, "override-generation-config")) == {"temperature": 0}
    assert (option(command, "served-model-name"), option(command, "host")) == ("decomposer", "127.0.0.1")
    # 1,203,076 / 784 pixels make 1,535 image tokens; 4,096 more for the text
    assert option(command, "max-model-len") == str(1535 + 4096)


def test_key_value_replaces_a_default_and_what_follows_two_dashes_is_passed_on(folder: Path):
    overrides = ("port=8001", "tensor_parallel_size=2", "max-model-len=2048", "enforce_eager=true", "host=false")
    command = received(folder, *overrides, "--", "--api-key", "a=b c")
    assert [option(command, name) for name in ("port", "tensor-parallel-size", "max-model-len")] == [
        "8001",
        "2",
        "2048",
    ]
    assert "--host" not in command
    assert option(command, "enforce-eager").startswith("--")
    assert command[-2:] == ["--api-key", "a=b c"]


def test_neither_reply_nor_context_is_longer_than_training_and_model_allow(folder: Path):
    replace(RECORD, max_response_length=72).write(folder)
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 512}))
    command = vllm_command(folder, {}, [])
    assert json.loads(option(command, "override-generation-config")) == {"temperature": 0, "max_new_tokens": 72}
    assert option(command, "max-model-len") == "512"


def test_a_record_of_a_later_version_is_read(folder: Path):
    (folder / "decomposer.json").write_text(json.dumps(asdict(RECORD) | {"something_new": 1}))
    assert Decomposer.read(folder) == RECORD


@pytest.mark.parametrize(
    ("record", "message"),
    [
        *((text, "ier1 merge") for text in ("", "[1]", "{}", "nonsense", '{"min_pixels": 1}')),
        (json.dumps(asdict(RECORD) | {"server_max_pixels": "many"}), "server_max_pixels is 'many'"),
    ],
)
def test_a_damaged_record_is_one_clear_line(folder: Path, record: str, message: str):
    (folder / "decomposer.json").write_text(record)
    assert message in refused("serve", folder)


def test_wrong_arguments_and_a_missing_vllm_are_one_clear_line(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert "hf download" in refused("serve", "nowhere")
    assert "decomposer.json can't be read" in refused("serve", folder.parent)
    assert "--port is not key=value" in refused("serve", folder, "--port")
    assert "pip install" in refused("serve", folder)
    ier1("serve", exit_code=2)
