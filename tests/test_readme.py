"""What the README names is there: paths, modules, scripts, options of the builder."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
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
