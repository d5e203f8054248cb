"""The image of a row is stored as people see it, and with its own bytes where that changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
from fakes.chain_helpers import encoded
from fakes.colour_profiles import DISPLAY_P3
from PIL import Image, ImageCms, PngImagePlugin

from data_prep.checks import picture
from ier1_plugin.task.images import open_image
from ier1_plugin.task.pixels import SRGB

RED = Image.new("RGB", (64, 64), (200, 60, 40))
SRGB_PROFILE = ImageCms.ImageCmsProfile(SRGB).tobytes()


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
@pytest.mark.parametrize(
    ("options", "colour", "kept"),
    [
        ({}, (200, 60, 40), True),
        ({"icc_profile": SRGB_PROFILE}, (200, 60, 40), True),
        ({"icc_profile": DISPLAY_P3}, (219, 37, 13), False),
    ],
)
def test_colours_of_a_row_need_no_profile(format: str, options: dict[str, Any], colour: Any, kept: bool):
    data = encoded(RED, format, **options)
    stored = picture(data, 16, 10**6).data
    assert (stored == data) == kept
    pixel: Any = open_image(stored).getpixel((9, 9))
    assert all(abs(one - wanted) <= 4 for one, wanted in zip(pixel, colour, strict=True))


def test_a_long_text_in_a_png_costs_no_row():
    text = PngImagePlugin.PngInfo()
    text.add_itxt("story", "a" * 3_000_000, zip=True)
    assert open_image(picture(encoded(RED, "PNG", pnginfo=text), 16, 10**6).data).tobytes() == RED.tobytes()
