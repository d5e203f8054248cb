"""What all tests of training share."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def arrow_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The copies that `datasets` makes of rows stay with the tests."""
    folder = tmp_path_factory.mktemp("arrow")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_DATASETS_CACHE", str(folder))
        if "datasets" in sys.modules:
            # it reads the variable when it is imported
            patch.setattr("datasets.config.HF_DATASETS_CACHE", folder)
        yield
