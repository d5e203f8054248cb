"""Image preparation: what opens, what is refused, what size comes out."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pytest
from fakes.builder_inputs import png_header
from PIL import Image

from ier1_plugin.task.images import ImageError, encode, open_image, prepare


def encoded(image: Image.Image, format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


PHOTO = Image.effect_noise((64, 48), 80).convert("RGB")
REFUSED = {
    "empty": (b"", "empty"),
    "text": (b"hello, I am a .jpg", "not an image"),
    "truncated jpeg": (encoded(PHOTO, "JPEG")[:-400], "damaged"),
    "truncated png": (encoded(PHOTO)[:-400], "damaged"),
    "bomb": (png_header(20_000, 20_000), "too large"),
    "larger bomb": (png_header(60_000, 60_000), "too large"),
}


@pytest.mark.parametrize(("data", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_usable_image_is_refused_in_one_line(data: bytes, reason: str):
    with pytest.raises(ImageError, match=reason) as error:
        open_image(data)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(ImageError, match=r"gone\.png"):
        open_image(tmp_path / "gone.png")


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1", "I;16", "F", "YCbCr"])
def test_every_mode_becomes_rgb(mode: str, tmp_path: Path):
    grey = Image.new("L", (8, 8), 128)
    if mode == "I;16":
        image = Image.frombytes("I;16", (8, 8), struct.pack("<64H", *[32896] * 64))
    else:
        image = (grey if mode in ("L", "F", "LA") else grey.convert("RGB")).convert(
            mode, palette=Image.Palette.ADAPTIVE
        )
    format = {"CMYK": "TIFF", "F": "TIFF", "YCbCr": "JPEG"}.get(mode, "PNG")
    opened = open_image(encoded(image, format))
    assert opened.mode == "RGB"
    if mode != "1":
        assert all(abs(value - 128) <= 2 for value in opened.tobytes())


def test_transparency_turns_white_exif_rotation_upright_and_an_animation_into_its_first_frame():
    assert open_image(encoded(Image.new("RGBA", (4, 4), (255, 0, 0, 0)))).getpixel((1, 1)) == (255, 255, 255)
    exif = Image.Exif()
    exif[0x0112] = 6
    assert open_image(encoded(PHOTO, "JPEG", exif=exif)).size == (48, 64)
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    animation = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert open_image(animation).getpixel((1, 1)) == (255, 0, 0)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (3, 500), (56, 56), (300, 200), (41, 77), (4000, 3000)])
@pytest.mark.parametrize("budget", [(3136, 3136), (3136, 1_003_520), (262_144, 4_194_304)])
def test_preparing_twice_changes_nothing_and_keeps_to_the_budget(size: tuple[int, int], budget: tuple[int, int]):
    once = prepare(Image.new("RGB", size), *budget)
    assert prepare(once, *budget).size == once.size
    assert once.width * once.height <= budget[1]
    # int() in the formula rounds down, by less than one pixel a side
    assert (once.width + 1) * (once.height + 1) > min(budget[0], size[0] * size[1])


def test_an_image_within_the_budget_is_left_alone_and_one_too_narrow_for_the_model_refused():
    assert prepare(PHOTO, 1, 10_000) is PHOTO
    for size in ((1, 5000), (4000, 10)):
        with pytest.raises(ImageError, match="too narrow"):
            prepare(Image.new("RGB", size), 3136, 1_003_520)
    with pytest.raises(ValueError, match="min_pixels"):
        prepare(PHOTO, 100, 10)


def test_png_keeps_every_pixel_and_jpeg_stays_close():
    assert open_image(encode(PHOTO, lossless=True)).tobytes() == PHOTO.tobytes()
    assert open_image(encode(PHOTO, lossless=False)).size == PHOTO.size
