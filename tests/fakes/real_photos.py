"""Real photographs for tests: those that scikit-image carries, upright and RGB.

astronaut = real_photo("astronaut.png")    # 512 x 512
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

from ier1_plugin.task.images import open_image


def real_photo(name: str = "astronaut.png", size: tuple[int, int] | None = None) -> Image.Image:
    """The photograph `name`, at `size` if given; skips the test where scikit-image is not installed."""
    package = find_spec("skimage")
    if package is None or not package.submodule_search_locations:
        pytest.skip("the photographs are scikit-image's, which is not installed")
    photo = open_image(Path(package.submodule_search_locations[0]) / "data" / name)
    return photo.resize(size) if size else photo
