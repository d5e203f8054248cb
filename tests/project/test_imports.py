"""Folders import downwards only. Imports inside functions and for type checkers count."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAYERS = (
    {"prompts", "runs"},
    {"task"},
    {"chat", "data"},
    {"editors", "training"},
    {"pipeline"},
    {"small_world"},
    {"app", "evaluation"},
    {"cli"},
)
LEVELS = {folder: level for level, folders in enumerate(LAYERS) for folder in folders}
ALLOWED = {
    folder: {below for below in LEVELS if LEVELS[below] < level} | {folder, ""} for folder, level in LEVELS.items()
} | {
    "": {""},
    "data_prep": {"data_prep", "small_world", "chat", "data", "task", "prompts", "runs", ""},
    "reward_fns": set(LEVELS) - {"cli", "app", "training"},
}
TRAINERS = {"verl", "vllm"}
FILES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
    for top in ("ier1_plugin", "data_prep", "reward_fns")
    for file in sorted((ROOT / top).rglob("*.py"))
    # stands in for other people's packages
    if not file.is_relative_to(ROOT / "ier1_plugin" / "training" / "cpu" / "site")
}


def folder_of(module: str) -> str:
    """ier1_plugin.chat.server -> chat; ier1_plugin -> ""; data_prep.build -> data_prep."""
    top, _, rest = module.partition(".")
    return rest.partition(".")[0] if top == "ier1_plugin" else top


def imports(module: str) -> Iterator[str]:
    """Every module that a file names in an import; the package where a name of a package is imported."""
    for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import in line {node.lineno}"
            names = (f"{node.module}.{name.name}" for name in node.names)
            yield from (name if name in FILES else str(node.module) for name in names)


@pytest.mark.parametrize("folder", ALLOWED)
def test_imports_point_down(folder: str):
    upward = {
        f"{module} -> {other}"
        for module in FILES
        if folder_of(module) == folder
        for other in imports(module)
        if other in FILES and folder_of(other) not in ALLOWED[folder]
    }
    assert not upward


def test_no_imports_run_in_a_circle():
    graph = {module: {other for other in imports(module) if other in FILES and other != module} for module in FILES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"{error}")


def test_only_training_knows_a_trainer():
    knows = {module for module in FILES if TRAINERS & {other.partition(".")[0] for other in imports(module)}}
    assert {folder_of(module) for module in knows} <= {"training"}


def test_the_package_is_its_folders():
    entries = {entry.name for entry in (ROOT / "ier1_plugin").iterdir()} - {"__init__.py", "__pycache__"}
    assert entries == set(LEVELS)
    assert len(entries) <= 12
