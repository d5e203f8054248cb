"""Image preparation: what opens and how it is seen, what is refused, what size comes out."""

from __future__ import annotations

import random
import struct
import sys
import time
import zlib
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from fakes.builder_inputs import png_header
from fakes.chain_helpers import encoded
from fakes.colour_profiles import CMYK, DISPLAY_P3, GREY
from PIL import Image, ImageCms, PngImagePlugin

from ier1_plugin.task.images import ImageError, Photo, encode, image_suffixes, open_image, prepare
from ier1_plugin.task.pixels import NOTES, SRGB

PHOTO = Image.effect_noise((64, 48), 80).convert("RGB")
RED = Image.new("RGB", (8, 8), (200, 60, 40))
HEIC = struct.pack(">I", 24) + b"ftypheic" + bytes(4) + b"mif1heic" + bytes(999)
REFUSED = {
    "empty": (b"", "empty"),
    "text": (b"hello, I am a .jpg", "not an image"),
    "truncated jpeg": (encoded(PHOTO, "JPEG")[:-400], "damaged"),
    "truncated png": (encoded(PHOTO, "PNG")[:-400], "damaged"),
    "corrupt png": (encoded(PHOTO, "PNG").replace(b"IDAT", b"IDAX"), "damaged|not an image"),
    "bomb": (png_header(20_000, 20_000), "too large"),
    "larger bomb": (png_header(60_000, 60_000), "too large"),
    "heic": (HEIC, "HEIC photo .*: pip install pillow-heif, or save it as JPEG"),
    "pdf": (b"%PDF-1.7\n", "a PDF can't be read here: save it as PNG"),
    "svg": (b"<?xml version='1.0'?>\n<svg xmlns='x'></svg>", "an SVG drawing"),
    "eps": (encoded(PHOTO, "EPS"), "EPS files are not read"),
    "float tiff in colour": (b"II*\0" + bytes(40), "this kind of TIFF"),
    "of pillow, truncated": (Image.open(BytesIO(encoded(PHOTO, "PNG")[:-400])), "damaged"),
    "missing": (Path("/nowhere/gone.png"), r"gone\.png"),
}


@pytest.mark.parametrize(("source", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_usable_image_is_refused_in_one_line(source: Photo, reason: str):
    with pytest.raises(ImageError, match=reason) as error:
        open_image(source)
    assert "\n" not in str(error.value)


def test_heic_is_opened_by_pillow_heif_where_it_is_installed(monkeypatch: pytest.MonkeyPatch):
    class Opener(ModuleType):
        def register_heif_opener(self) -> None:
            raise EOFError("pillow-heif was asked")

    monkeypatch.setitem(sys.modules, "pillow_heif", Opener("pillow_heif"))
    with pytest.raises(ImageError, match="pillow-heif was asked"):
        open_image(HEIC)


MODES = ["L", "LA", "La", "P", "PA", "RGBA", "RGBa", "CMYK", "1", "I;16", "I", "F", "YCbCr", "HSV", "LAB"]


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_becomes_rgb_from_a_file_and_from_pillow(mode: str):
    grey = Image.new("L", (8, 8), 128)
    if mode in ("I;16", "I", "F"):
        image = Image.fromarray(np.full((8, 8), 128 * 257, {"I;16": "<u2", "I": "<i4", "F": "<f4"}[mode]))
    elif mode == "LAB":
        lab = ImageCms.createProfile("LAB")
        image: Any = ImageCms.profileToProfile(grey.convert("RGB"), SRGB, lab, outputMode=mode)
    else:
        image = grey.convert({"La": "LA", "RGBa": "RGBA", "PA": "P", "HSV": "RGB"}.get(mode, mode)).convert(mode)
    formats = {"YCbCr": "JPEG"} | dict.fromkeys(("CMYK", "F", "I", "LAB"), "TIFF")
    formats |= dict.fromkeys(("1", "L", "LA", "P", "RGBA", "I;16"), "PNG")
    for opened in (open_image(image), open_image(encoded(image, formats[mode]) if mode in formats else image)):
        assert (opened.mode, opened.info) == ("RGB", {})
        if mode != "1":
            assert all(abs(value - 128) <= 2 for value in opened.tobytes())


SRGB_PROFILE = ImageCms.ImageCmsProfile(SRGB).tobytes()
INKS = Image.new("CMYK", (8, 8), (0, 0, 0, 128))
P3_RED, BAD = (219, 37, 13), "colour profile can't be applied"
COLOURS = {
    "p3 jpeg": (RED, "JPEG", DISPLAY_P3, P3_RED, ""),
    "p3 png": (RED, "PNG", DISPLAY_P3, P3_RED, ""),
    "p3 webp": (RED, "WEBP", DISPLAY_P3, P3_RED, ""),
    "p3 tiff": (RED, "TIFF", DISPLAY_P3, P3_RED, ""),
    "p3 palette": (RED.quantize(4), "PNG", DISPLAY_P3, P3_RED, ""),
    "grey": (Image.new("L", (8, 8), 128), "JPEG", GREY, (188, 188, 188), ""),
    "grey with alpha": (Image.new("LA", (8, 8), (128, 255)), "PNG", GREY, (188, 188, 188), ""),
    "grey in deep": (Image.new("I;16", (8, 8), 128 * 257), "PNG", GREY, (188, 188, 188), ""),
    "grey in p3": (Image.new("L", (8, 8), 128), "PNG", DISPLAY_P3, (129, 129, 129), ""),
    "cmyk": (INKS, "TIFF", CMYK, (118, 118, 118), ""),
    "cmyk jpeg": (INKS, "JPEG", CMYK, (118, 118, 118), ""),
    "srgb": (PHOTO, "PNG", SRGB_PROFILE, None, ""),
    "of another kind": (RED, "PNG", GREY, (200, 60, 40), BAD),
    "damaged": (RED, "PNG", DISPLAY_P3[:200], (200, 60, 40), BAD),
}


@pytest.mark.parametrize("case", COLOURS)
def test_colours_are_seen_as_their_profile_says_and_the_profile_goes(case: str):
    image, format, profile, colour, note = COLOURS[case]
    from_pillow = image.copy()
    from_pillow.info["icc_profile"] = profile
    for opened in (open_image(encoded(image, format, icc_profile=profile)), open_image(from_pillow)):
        assert "icc_profile" not in opened.info
        assert note in " ".join(opened.info.get(NOTES, ()))
        assert bool(opened.info) == bool(note)
        if colour is None:
            assert opened.tobytes() == image.tobytes()
        else:
            seen: Any = opened.getpixel((4, 4))
            assert all(abs(one - wanted) <= 3 for one, wanted in zip(seen, colour, strict=True))


@pytest.mark.parametrize(
    ("values", "top"),
    [
        (np.array([[0, 0.5, 1]], "<f4"), [0, 128, 255]),
        (np.array([[0, 0.5] * 99 + [2, np.nan]], "<f4"), [0, 128, 0]),
        (np.array([[0, 128, 255]], "<f4"), [0, 128, 255]),
        (np.array([[0, 32896, 65535]], "<f4"), [0, 128, 255]),
        (np.array([[0, 128, 255]], "<i4"), [0, 128, 255]),
        (np.array([[0, 32896, 65535]], "<u2"), [0, 128, 255]),
        # of sixteen bits, however dark: one step in 256 is seen
        (np.array([[0, 100, 256]], "<u2"), [0, 0, 1]),
    ],
)
def test_float_and_deep_images_keep_their_light(values: np.ndarray, top: list[int]):
    for format in ("TIFF", "PNG") if values.dtype == "<u2" else ("TIFF",):
        opened = open_image(encoded(Image.fromarray(values), format))
        places = (0, 1, opened.width - 1)
        assert [np.asarray(opened)[0, place, 0] for place in places] == top


@pytest.mark.parametrize(("gamma", "wanted"), [(1.0, 186), (0.45455, 128), (1 / 1.8, 145)])
def test_the_gamma_of_a_png_is_heard_where_it_has_no_profile(gamma: float, wanted: int):
    body = b"gAMA" + struct.pack(">I", round(gamma * 100_000))
    chunk = struct.pack(">I", 4) + body + struct.pack(">I", zlib.crc32(body))
    for image in (Image.new("RGB", (8, 8), (128, 128, 128)), Image.new("L", (8, 8), 128)):
        for profile, value in ((None, wanted), (SRGB_PROFILE, 128)):
            data = encoded(image, "PNG", icc_profile=profile)
            opened = open_image(data[:33] + chunk + data[33:])
            assert (opened.getpixel((4, 4)), opened.info) == ((value,) * 3, {})


def test_transparent_parts_are_noted_and_shown_on_what_the_picture_stands_out_from():
    for colour, ground in (((255, 0, 0), (255, 255, 255)), ((255, 255, 255), (0, 0, 0))):
        logo = Image.new("RGBA", (8, 8), (*colour, 0))
        logo.paste((*colour, 255), (0, 0, 4, 8))
        palette = logo.quantize(4)
        for data in (encoded(logo, "PNG"), encoded(logo, "WEBP", lossless=True), encoded(palette, "PNG")):
            opened = open_image(data)
            assert (opened.mode, opened.getpixel((1, 1)), opened.getpixel((6, 6))) == ("RGB", colour, ground)
            assert "transparent parts" in opened.info[NOTES][0]
            kept = open_image(data, keep_alpha=True)
            assert (kept.mode, kept.getchannel("A").getextrema(), kept.info) == ("RGBA", (0, 255), {})
            assert open_image(kept).tobytes() == opened.tobytes()
    opaque = open_image(encoded(PHOTO.convert("RGBA"), "PNG"), keep_alpha=True)
    assert (opaque.mode, opaque.info) == ("RGB", {})


def test_only_the_first_frame_is_used_and_the_others_are_counted():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "lime")]
    for format in ("GIF", "PNG", "WEBP", "TIFF"):
        opened = open_image(encoded(frames[0], format, save_all=True, append_images=frames[1:]))
        assert opened.getpixel((1, 1))[0] > 250  # pyright: ignore[reportIndexIssue, reportOptionalSubscript]
        assert "3 frames" in opened.info[NOTES][0]


# Orientation 6, and an XResolution of -1, which has no sign there: Pillow reads it and can't write it
ODD_EXIF = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 2) + struct.pack("<HHIHxx", 0x0112, 3, 1, 6)
ODD_EXIF += struct.pack("<HHII", 0x011A, 10, 1, 38) + bytes(4) + struct.pack("<ii", -1, 1)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_photo_is_turned_upright_once_whatever_else_its_exif_says(format: str):
    exif = Image.Exif()
    exif[0x0112] = 6
    for tags in (exif, ODD_EXIF) if format != "TIFF" else (exif,):
        opened = open_image(encoded(PHOTO, format, exif=tags))
        assert opened.size == open_image(opened).size == (48, 64)
        if format == "PNG":
            assert opened.tobytes() == PHOTO.transpose(Image.Transpose.ROTATE_270).tobytes()


def test_texts_of_any_size_and_damaged_ones_do_not_make_a_png_damaged():
    text = PngImagePlugin.PngInfo()
    text.add_itxt("story", "a" * 3_000_000, zip=True)
    text.add_text("more", "b" * 3_000_000, zip=True)
    torn = PngImagePlugin.PngInfo()
    torn.add_text("title", "once")
    torn_data = encoded(PHOTO, "PNG", pnginfo=torn, icc_profile=DISPLAY_P3).replace(b"once", b"twic")
    assert open_image(encoded(PHOTO, "PNG", pnginfo=text)).tobytes() == PHOTO.tobytes()
    assert open_image(torn_data).tobytes() == open_image(encoded(PHOTO, "PNG", icc_profile=DISPLAY_P3)).tobytes()


def test_every_raster_format_of_pillow_has_its_endings_and_no_other():
    known = image_suffixes()
    assert {".jpg", ".jfif", ".mpo", ".jp2", ".avif", ".heic", ".heif", ".tga", ".qoi", ".ppm"} <= set(known)
    assert not {".eps", ".ps", ".pdf", ".mpg", ".wmf", ".h5"} & set(known)
    for suffix in known:
        format = Image.registered_extensions().get(suffix)
        if format in Image.SAVE and format not in ("PALM", "XBM", "MSP", "BLP", "ICO", "ICNS", "DCX"):
            assert open_image(encoded(PHOTO, format)).size == PHOTO.size


FUZZED = [
    encoded(PHOTO, "JPEG", exif=ODD_EXIF, icc_profile=DISPLAY_P3),
    encoded(PHOTO.convert("CMYK"), "JPEG", icc_profile=CMYK),
    encoded(PHOTO, "PNG", icc_profile=DISPLAY_P3, exif=ODD_EXIF),
    encoded(PHOTO.quantize(8), "PNG", transparency=3),
    encoded(PHOTO.convert("LA"), "PNG", icc_profile=GREY),
    encoded(PHOTO, "GIF", save_all=True, append_images=[RED]),
    *(
        encoded(PHOTO, format)
        for format in ("BMP", "WEBP", "TGA", "PPM", "JPEG2000", "AVIF", "ICO", "QOI", "PCX", "DDS")
    ),
    *(encoded(PHOTO, "TIFF", compression=how) for how in (None, "tiff_lzw", "tiff_deflate", "packbits")),
    HEIC,
]


@pytest.mark.full
def test_ten_thousand_mutated_files_open_or_are_image_errors():
    dice = random.Random(11)
    opened, slowest, lines = 0, 0.0, set()
    for _ in range(10_000):
        data = bytearray(dice.choice(FUZZED))
        for _ in range(dice.randrange(1, 9)):
            place, kind = dice.randrange(len(data)), dice.randrange(5)
            if kind == 0:
                data[place] = dice.randrange(256)
            elif kind == 1:
                data[place] ^= 1 << dice.randrange(8)
            elif kind == 2:
                data[place : place + 4] = dice.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff"))
            elif kind == 3:
                del data[place : place + dice.randrange(1, 40)]
            else:
                data[place:place] = data[place : place + dice.randrange(1, 40)]
            data = data or bytearray(b"x")
        begun = time.perf_counter()
        try:
            image = open_image(bytes(data), keep_alpha=dice.random() < 0.5)
            opened += 1
            assert image.mode in ("RGB", "RGBA")
            assert set(image.info) <= {NOTES}
        except ImageError as error:
            lines.add(str(error).count("\n"))
        slowest = max(slowest, time.perf_counter() - begun)
    assert opened > 1000
    assert lines == {0}
    assert slowest < 30


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
