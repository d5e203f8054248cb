"""What the READMEs name exists: paths, modules, scripts, commands and their options, systems."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from ier1_plugin.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
READMES = [
    ROOT / folder / "README.md"
    for folder in (
        *(".", "examples", "data_prep", "reward_fns", "tests"),
        *("ier1_plugin/evaluation", "ier1_plugin/small_world"),
    )
]
TEXT = "\n".join(file.read_text(encoding="utf-8") for file in READMES)
PATHS = sorted(set(re.findall(r"\b(?:ier1_plugin|reward_fns|data_prep|examples|tests)/[\w./-]*\w", TEXT)))
MODULES = sorted(set(re.findall(r"python3? -m (ier1_plugin[\w.]*)", TEXT)))
SCRIPTS = sorted(set(re.findall(r"\b[a-z]\w+\.sh\b", TEXT)))
# a command with its options, over lines that end in a backslash, up to a remark
COMMANDS = sorted(set(re.findall(r"\bier1 ([a-z]+)\b((?:[^\n`#\\]|#\S|\\\n)*)", TEXT)))
OPTION = re.compile(r"(?<![\w-])--?[a-z][a-z-]*")


def test_the_readme_is_short_enough_to_be_read():
    assert len(READMES[0].read_text(encoding="utf-8").splitlines()) <= 170


def test_every_path_module_and_script_exists():
    assert [path for path in PATHS if not (ROOT / path).exists()] == []
    assert [module for module in MODULES if importlib.util.find_spec(module) is None] == []
    assert [script for script in SCRIPTS if not list(ROOT.glob(f"*/{script}"))] == []


@pytest.mark.parametrize("file", READMES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_file_that_a_readme_names_by_its_name_alone_is_in_its_folder(file: Path):
    names = set(re.findall(r"`(\w+\.(?:py|yaml))`", file.read_text(encoding="utf-8")))
    missing = {name for name in names if not (file.parent / name).exists()}
    assert not missing - {"build_rl_dataset.py"}


def test_every_option_of_an_ier1_command_is_one():
    ier1: Any = get_command(app)
    for command, rest in COMMANDS:
        known = {option for parameter in ier1.commands[command].params for option in parameter.opts}
        # `ier1 serve` passes on what stands behind --
        assert set(OPTION.findall(rest.partition(" -- ")[0])) <= known | {"--help"}, command


def test_every_option_of_the_builder_is_one():
    from data_prep.build_rl_dataset import _parser

    known = {option for action in _parser()._actions for option in action.option_strings}
    commands = re.findall(r"python data_prep/build_rl_dataset\.py((?:[^\n`#\\]|\\\n)*)", TEXT)
    in_its_readme = re.findall(r"`(--[^`]*)`", (ROOT / "data_prep" / "README.md").read_text(encoding="utf-8"))
    assert {option for text in (*commands, *in_its_readme) for option in OPTION.findall(text)} <= known


def test_every_system_and_preset_by_name_is_shipped():
    from ier1_plugin.pipeline.system import PRESET, SYSTEM, shipped

    names = {name for names in re.findall(r"--system ((?:[a-z][a-z-]+(?![/\w-]) ?)+)", TEXT) for name in names.split()}
    assert "flux-kontext" in names
    assert names <= set(shipped(SYSTEM))
    assert all(f"`{name}`" in TEXT for name in shipped(PRESET))
