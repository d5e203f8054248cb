"""Editors by name: what a spec makes, what it refuses, and what is known of an editor before it is made."""

import re
import subprocess
import sys

import pytest
from fakes.real_photos import real_photo
from PIL import Image, ImageOps

from ier1_plugin.editors import EDITORS, EditError, Editor, available, describe_editors, join, make_editor, split
from ier1_plugin.editors.available import NEEDS
from ier1_plugin.editors.base import failing_as, on_canvas


def test_every_editor_that_can_be_made_is_described_and_one_without_its_key_is_not_available(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert set(NEEDS) == set(EDITORS)
    described = {editor.name: editor for editor in describe_editors()}
    assert list(described) == list(EDITORS)
    assert described["pillow"].available
    assert all(editor.summary and "\n" not in editor.why for editor in described.values())
    assert not described["gpt-image"].available
    assert "OPENAI_API_KEY" in described["gpt-image"].why


@pytest.fixture
def large_machine(monkeypatch, tmp_path):
    """A machine with a GPU, every package and an empty cache of the hub, which is its result."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(available, "has_gpu", lambda: True)
    monkeypatch.setattr(available, "is_installed", lambda module: True)
    return tmp_path


def described(name):
    """(available, why)"""
    editor = next(editor for editor in describe_editors() if editor.name == name)
    return editor.available, editor.why


def test_weights_that_were_never_downloaded_are_said_to_be_missing(large_machine, monkeypatch):
    assert described("flux-kontext") == (True, "black-forest-labs/FLUX.1-Kontext-dev will be downloaded (34 GB)")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    ready, why = described("flux-kontext")
    assert not ready
    assert "HF_HUB_OFFLINE is set" in why
    (large_machine / "models--black-forest-labs--FLUX.1-Kontext-dev" / "snapshots" / "1a2b").mkdir(parents=True)
    assert described("flux-kontext") == (True, "")


@pytest.mark.parametrize(("memory", "fits", "note"), [(128, True, "very slow"), (24, False, "34 GB .* 24 GB")])
def test_a_large_model_without_a_gpu_is_slow_or_does_not_fit(large_machine, monkeypatch, memory, fits, note):
    monkeypatch.setattr(available, "has_gpu", lambda: False)
    monkeypatch.setattr(available, "memory_gb", lambda: memory)
    ready, why = described("flux-kontext")
    assert ready == fits
    assert re.search(note, why)


def test_a_package_that_is_missing_is_named_as_pip_knows_it(large_machine, monkeypatch):
    monkeypatch.setattr(available, "is_installed", lambda module: False)
    assert "pip install google-genai" in described("nano-banana")[1]
    assert described("pillow")[0]


def test_describing_and_importing_editors_loads_nothing_heavy():
    heavy = ("torch", "diffusers", "transformers", "openai", "google.genai", "numpy")
    code = f"""
import sys, ier1_plugin.editors as editors
editors.describe_editors()
print([name for name in {heavy} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("spec", "settings", "message"),
    [
        ("photoshop", {}, "no editor 'photoshop'; known: flux-kontext, .*pillow"),
        ("pillow", {"steps": 4}, "the editor pillow has no steps; it has places"),
        ("flux-kontext", {"stepz": 4}, "the editor flux-kontext has no stepz; it has .*steps"),
        ("pillow", {"places": 5}, r"^places is 5; wanted \{NAME: \[left, top, right, bottom\]\}"),
        ("pillow", {"places": {"cat": [0, 1]}}, r"'cat' is \[0, 1\]; wanted left, top, right, bottom"),
        ("pillow", {"places": {"cat": "abcd"}}, "'cat' is 'abcd'"),
        ("pillow", {"places": {"cat": [0, 0, 1, "x"]}}, "'cat' is 'x'; wanted a number"),
        ("pillow", {"places": {"cat": [0, 0, 200, 100]}}, "'cat' is 200; wanted a number from 0 to 1"),
        ("pillow", {"places": {"cat": [0.5, 0, 0.5, 1]}}, "has nothing in it"),
        ("pillow", {"spec": 5}, "the editor pillow has no spec"),
        ("pillow:fast", {}, "^pillow takes no argument"),
        ("pillow", {"on_warning": 5}, "the editor pillow has no on_warning; it has places"),
        ("flux-kontext", {"name": "x"}, "^the editor flux-kontext: "),
        ("route:pillow,pillow", {"make": 5}, "^the editor route: "),
        ("route:pillow", {}, "names no two editors"),
        ("route:", {}, "names no two editors"),
        ("route:pillow,", {}, "names no two editors"),
        ("route:folder:.,pillow", {}, "folder:. does not compute edits exactly"),
        ("route:pillow,nothing", {}, "no editor 'nothing'"),
        ("route:pillow,folder:/nowhere", {}, "folder:DIR"),
        *((spec, {}, "wanted folder:DIR") for spec in ("folder", "folder:", "folder:/nowhere/at/all")),
    ],
)
def test_a_spec_or_setting_that_makes_no_editor_is_one_line(spec, settings, message):
    with pytest.raises(EditError, match=message) as caught:
        make_editor(spec, **settings)
    assert "\n" not in str(caught.value)


def test_an_editor_of_ones_own_is_one_more_entry_and_gets_on_warning_if_it_asks_for_it(monkeypatch):
    warnings = []

    def negative(argument: str, *, strength: float = 1.0, on_warning=print) -> Editor:
        on_warning(f"made {argument}")
        return Editor("mine", lambda image, instruction, seed: ImageOps.invert(image))

    monkeypatch.setitem(EDITORS, "mine", negative)
    editor, photo = make_editor("mine:1", warnings.append, strength=0.5), real_photo()
    assert editor(photo, "", 0).tobytes() == ImageOps.invert(photo).tobytes()
    assert "mine" in [described.name for described in describe_editors()]
    with pytest.raises(EditError, match="the editor mine has no steps; it has strength"):
        make_editor("mine", steps=1)
    make_editor("route:pillow,mine:2", warnings.append)
    make_editor("mine:3")
    # None counts as not given
    make_editor("pillow", warnings.append, steps=None)
    assert warnings == ["made 1", "made 2"]


@pytest.mark.parametrize(
    ("sub_requests", "lines"),
    [
        (["Recoloring coat to scarlet", "把外套变成红色"], "Recoloring coat to scarlet.\n把外套变成红色."),
        (["Crop photo to 16:9", "أضف قطة"], "Crop photo to 16:9.\nأضف قطة."),
        (['Add the caption "No. Really; no."', "contrast 1.5"], 'Add the caption "No. Really; no."\ncontrast 1.5.'),
    ],
)
def test_sub_requests_come_back_from_the_instruction_that_joins_them(sub_requests, lines):
    assert join(sub_requests) == lines
    assert split(lines) == sub_requests


def test_empty_sub_requests_vanish_and_only_ends_of_sentences_and_semicolons_part():
    assert join(["crop it", "", "  flip\nit! "]) == "crop it.\nflip it!"
    assert split('Crop by 10%. Write "Hi. You" on it; Scale x1.5, e.g. by half. 2. flip') == [
        "Crop by 10%",
        'Write "Hi. You" on it',
        "Scale x1.5, e.g. by half",
        "2. flip",
    ]


@pytest.mark.parametrize("size", [(90, 60), (48, 32)])
def test_a_picture_goes_to_the_canvas_and_comes_back_once(size):
    seen = []

    def edit(image: Image.Image, instruction: str, seed: int) -> Image.Image:
        seen.append((image.size, image.mode))
        return image

    on_small, photo = on_canvas(edit, lambda size: (48, 32)), real_photo(size=size)
    assert on_small(photo.convert("RGBA"), "x", 0).size == size
    assert seen == [((48, 32), "RGB")]
    # what has the size of the canvas is not resampled
    assert size != (48, 32) or on_small(photo, "x", 0).tobytes() == photo.tobytes()
    # a result of another size is returned as it came, for the caller to notice
    stretched = on_canvas(lambda image, instruction, seed: image.resize((50, 50)), lambda size: (48, 32))
    assert stretched(photo, "x", 0).size == (50, 50)
    with pytest.raises(EditError, match="instruction is empty"):
        on_small(photo, " \n", 0)


def test_errors_are_one_line_without_secrets_a_hint_replaces_the_message_and_ctrl_c_passes():
    class OutOfMemoryError(RuntimeError):
        pass

    with (
        pytest.raises(EditError, match=r"^nano: first second \*\*\*$"),
        failing_as("nano", secrets=("s3cret-0123", "s")),
    ):
        raise ValueError("first\n  second s3cret-0123")
    hints = {"OutOfMemoryError": "the GPU is full"}
    with pytest.raises(EditError, match=r"^flux: the GPU is full$") as caught, failing_as("flux", hints):
        raise OutOfMemoryError("Tried to allocate 20 GiB")
    assert isinstance(caught.value.__cause__, OutOfMemoryError)
    with pytest.raises(KeyboardInterrupt), failing_as("flux"):
        raise KeyboardInterrupt
