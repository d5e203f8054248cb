"""What the README names is there: paths, modules, scripts, options of the builder."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PATHS = sorted(set(re.findall(r"\b(?:ier1_plugin|reward_fns|data_prep|examples|tests)/[\w./-]*\w", README)))
MODULES = sorted(set(re.findall(r"python -m ([\w.]+)", README)))
SCRIPTS = sorted(set(re.findall(r"\b[a-z]\w+\.sh\b", README)))


@pytest.mark.parametrize("path", PATHS)
def test_every_path_that_the_readme_names_exists(path: str):
    assert (ROOT / path).exists()


@pytest.mark.parametrize("module", MODULES)
def test_every_module_that_the_readme_runs_exists(module: str):
    assert importlib.util.find_spec(module) is not None


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_that_the_readme_names_exists(script: str):
    assert list(ROOT.glob(f"*/{script}"))


def test_the_readme_holds_no_gap_that_was_to_be_filled():
    assert "@@" not in README


def test_every_builder_option_in_the_readme_is_one():
    from data_prep.build_rl_dataset import _parser

    known = {option for action in _parser()._actions for option in action.option_strings}
    command = README[README.index("python data_prep/build_rl_dataset.py") :].split("\n\n")[0]
    assert set(re.findall(r"--[a-z-]+", command)) <= known


# a command with its options, over lines that end in a backslash, up to a remark
COMMANDS = sorted(set(re.findall(r"ier1 ([a-z]+)((?:[^\n`#\\]|#\S|\\\n)*)", README)))


@pytest.mark.parametrize(("command", "rest"), COMMANDS)
def test_every_option_of_the_ier1_command_in_the_readme_is_one(command: str, rest: str):
    from typer.main import get_command

    from ier1_plugin.cli.main import app

    ier1: Any = get_command(app)
    known = {option for parameter in ier1.commands[command].params for option in parameter.opts}
    assert set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", rest)) <= known


def test_every_system_and_preset_that_the_readme_names_is_shipped():
    from ier1_plugin.pipeline.system import PRESET, SYSTEM, shipped

    named = [name for line in re.findall(r"--system ((?:[a-z][a-z-]+(?![/\w-]) ?)+)", README) for name in line.split()]
    assert named
    assert set(named) <= set(shipped(SYSTEM))
    assert all(f"`{name}`" in README for name in shipped(PRESET))
