"""`ier1 train`, `curves`, `serve`: their command lines."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
from fakes.commands import ier1, refused


def test_a_training_takes_settings_and_options_in_any_order_and_gives_its_exit_code(monkeypatch: pytest.MonkeyPatch):
    calls = []
    monkeypatch.setattr("ier1_plugin.training.easyr1.train", lambda *arguments: calls.append(arguments) or 130)
    ier1("train", "--check", "config=run.yaml", "trainer.max_steps=2", "--cpu", exit_code=130)
    ier1("train", "config=run.yaml", "--cpu", "trainer.max_steps=2", "--check", exit_code=130)
    assert calls == [(["config=run.yaml", "trainer.max_steps=2"], True, True)] * 2
    assert "Usage: " in ier1("train", "--nonsense", exit_code=2).stderr


def test_help_after_the_folder_is_the_commands_and_after_two_dashes_vllms(tmp_path: Path):
    assert "Usage: " in ier1("serve", tmp_path, "--help").stdout
    assert "decomposer.json can't be read" in refused("serve", tmp_path, "--", "--help")


def test_a_package_that_is_missing_or_too_old_is_named_with_the_extra_that_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    accumulator = "tensorboard.backend.event_processing.event_accumulator"
    (tmp_path / "events.out.tfevents.1.host").touch()
    monkeypatch.setitem(sys.modules, accumulator, ModuleType(accumulator))
    assert "cannot import name" in (line := refused("curves", tmp_path))
    assert "not installed" not in line
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.setitem(sys.modules, accumulator, None)
    assert "tensorboard is not installed; pip install -e '.[curves]'" in refused("curves", tmp_path)
