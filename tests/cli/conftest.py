"""A photo to edit, in an empty folder that the command runs in, without keys or addresses of the environment."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes.chain_helpers import no_settings_from_outside
from fakes.chat_fakes import photo

__all__ = ["no_settings_from_outside"]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    photo(64, 48).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"
