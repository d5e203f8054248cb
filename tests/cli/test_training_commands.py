"""`ier1 train`, `curves`, `merge`, `serve`: their command lines, and what they load before they work."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from fakes.commands import ier1, refused

ROOT = Path(__file__).parents[2]
COMMANDS = ("train", "curves", "merge", "serve")
# half a second each, or more
HEAVY = {"torch", "transformers", "verl", "ray", "datasets", "pandas", "scipy", "openai", "matplotlib", "tensorboard"}
HELP = """
import runpy, sys
sys.argv = ["ier1", sys.argv[1], "--help"]
try:
    runpy.run_module("ier1_plugin.cli.main", run_name="__main__")
finally:
    print("LOADED", *sorted(HEAVY & set(sys.modules)))
"""


@pytest.mark.parametrize("command", COMMANDS)
def test_help_loads_nothing_heavy_and_names_the_arguments(command: str):
    code = f"HEAVY = {HEAVY!r}\n{HELP}"
    done = subprocess.run([sys.executable, "-c", code, command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "LOADED"
    assert f"Usage: ier1 {command} " in done.stdout


def test_settings_and_options_of_a_training_come_in_any_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    calls = []
    monkeypatch.setattr("ier1_plugin.training.easyr1.train", lambda *arguments: calls.append(arguments) or 0)
    ier1("train", "--check", "config=run.yaml", "trainer.max_steps=2", "--cpu")
    ier1("train", "config=run.yaml", "--cpu", "trainer.max_steps=2", "--check")
    assert calls == [(["config=run.yaml", "trainer.max_steps=2"], True, True)] * 2


def test_the_exit_code_of_a_training_is_the_commands_own(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ier1_plugin.training.easyr1.train", lambda *_: 130)
    ier1("train", exit_code=130)
    ier1("train", "--nonsense", exit_code=2)


def test_help_after_the_folder_is_the_commands_and_after_two_dashes_vllms(tmp_path: Path):
    assert "Usage: " in ier1("serve", tmp_path, "--help").stdout
    assert "decomposer.json can't be read" in refused("serve", tmp_path, "--", "--help")


def test_a_missing_package_is_named_with_the_extra_that_brings_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.setitem(sys.modules, "tensorboard.backend.event_processing.event_accumulator", None)
    (tmp_path / "events.out.tfevents.1.host").touch()
    assert "pip install -e '.[curves]'" in refused("curves", tmp_path)
