"""Editors by name: what a spec makes, what it refuses, and what is known of an editor before it is made."""

import subprocess
import sys

import pytest
from fakes.real_photos import real_photo
from PIL import Image, ImageOps

from ier1_plugin.editors import EDITORS, EditError, Editor, available, describe_editors, join, make_editor, split
from ier1_plugin.editors.available import NEEDS
from ier1_plugin.editors.base import failing_as, on_canvas
from ier1_plugin.editors.local.loading import is_cached
from ier1_plugin.runs.errors import MAX_LINE, one_line


def test_every_editor_that_can_be_made_is_described_and_one_without_its_key_is_not_available(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert set(NEEDS) == set(EDITORS)
    described = {editor.name: editor for editor in describe_editors()}
    assert list(described) == list(EDITORS)
    assert described["pillow"].available
    assert all(editor.summary and "\n" not in editor.why for editor in described.values())
    assert not described["gpt-image"].available
    assert "OPENAI_API_KEY" in described["gpt-image"].why


def kontext_described():
    return next(editor for editor in describe_editors() if editor.name == "flux-kontext")


@pytest.fixture
def large_machine(monkeypatch, tmp_path):
    """A machine with a GPU, every package and an empty cache of the hub, which is its result."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(available, "has_gpu", lambda: True)
    monkeypatch.setattr(available, "is_installed", lambda module: True)
    return tmp_path


def test_weights_that_were_never_downloaded_are_said_to_be_missing(large_machine, monkeypatch):
    assert kontext_described().available
    assert kontext_described().why == "black-forest-labs/FLUX.1-Kontext-dev will be downloaded (34 GB)"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert not kontext_described().available
    assert "HF_HUB_OFFLINE is set" in kontext_described().why
    (large_machine / "models--black-forest-labs--FLUX.1-Kontext-dev" / "snapshots" / "1a2b").mkdir(parents=True)
    assert is_cached("black-forest-labs/FLUX.1-Kontext-dev")
    assert kontext_described().available
    assert kontext_described().why == ""


def test_a_large_model_without_a_gpu_is_slow_or_does_not_fit(large_machine, monkeypatch):
    monkeypatch.setattr(available, "has_gpu", lambda: False)
    monkeypatch.setattr(available, "memory_gb", lambda: 128)
    assert kontext_described().available
    assert "no GPU was found: very slow" in kontext_described().why
    monkeypatch.setattr(available, "memory_gb", lambda: 24)
    assert not kontext_described().available
    assert "34 GB of weights do not fit into 24 GB" in kontext_described().why


def test_a_package_that_is_missing_is_named_as_pip_knows_it(large_machine, monkeypatch):
    monkeypatch.setattr(available, "is_installed", lambda module: False)
    described = {editor.name: editor for editor in describe_editors()}
    assert "pip install google-genai" in described["nano-banana"].why
    assert described["pillow"].available


def test_describing_and_importing_editors_loads_nothing_heavy():
    heavy = ("torch", "diffusers", "transformers", "openai", "google.genai", "numpy")
    code = f"""
import sys, ier1_plugin.editors as editors
editors.describe_editors()
print([name for name in {heavy} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_editor_is_refused_with_the_known_ones():
    with pytest.raises(EditError, match=r"no editor 'photoshop'; known: flux-kontext, .*pillow"):
        make_editor("photoshop")


def test_a_setting_that_an_editor_lacks_is_refused_and_not_ignored():
    with pytest.raises(EditError, match="the editor pillow has no steps; it has places"):
        make_editor("pillow", steps=4)
    with pytest.raises(EditError, match=r"the editor flux-kontext has no stepz; it has .*steps"):
        make_editor("flux-kontext", stepz=4)


def test_a_setting_of_none_counts_as_not_given():
    assert make_editor("pillow", steps=None, guidance=None).name == "pillow"


@pytest.mark.parametrize(
    ("spec", "settings", "message"),
    [
        ("pillow", {"places": 5}, r"^places is 5; wanted \{NAME: \[left, top, right, bottom\]\}"),
        ("pillow", {"places": {"cat": [0, 1]}}, r"the place 'cat' is \[0, 1\]; wanted left, top, right, bottom"),
        ("pillow", {"places": {"cat": "abcd"}}, "the place 'cat' is 'abcd'"),
        ("pillow", {"places": {"cat": [0, 0, 1, "x"]}}, "a side of the place 'cat' is 'x'; wanted a number"),
        (
            "pillow",
            {"places": {"cat": [0, 0, 200, 100]}},
            "a side of the place 'cat' is 200; wanted a number from 0 to 1",
        ),
        ("pillow", {"places": {"cat": [0.5, 0, 0.5, 1]}}, "has nothing in it"),
        ("pillow", {"spec": 5}, "the editor pillow has no spec"),
        ("pillow:fast", {}, "^pillow takes no argument"),
        ("pillow", {"on_warning": 5}, "the editor pillow has no on_warning; it has places"),
        ("images-api:http://127.0.0.1:9/v1#m", {"on_warning": 5}, "has no on_warning"),
        ("images-api:http://127.0.0.1:9/v1#m", {"key_name": 5}, "^the editor images-api: "),
        ("gpt-image", {"base_url": 5}, "^5 is no address"),
        ("gpt-image", {"call_kwargs": 5}, "^the editor gpt-image: "),
        ("nano-banana", {"base_url": 5}, "^5 is no address"),
        ("flux-kontext", {"name": "x"}, "^the editor flux-kontext: "),
        ("route:pillow,pillow", {"make": 5}, "^the editor route: "),
    ],
)
def test_settings_of_the_wrong_kind_are_one_line(monkeypatch, spec, settings, message):
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("GEMINI_API_KEY", "k")
    with pytest.raises(EditError, match=message) as caught:
        make_editor(spec, **settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "variable"),
    [
        ("gpt-image", "OPENAI_API_KEY"),
        ("images-api:http://127.0.0.1:9/v1#m", "OPENAI_API_KEY"),
        ("seededit", "ARK_API_KEY"),
        ("nano-banana", "GEMINI_API_KEY"),
    ],
)
def test_a_key_that_was_copied_with_its_quotes_is_refused_before_it_is_sent(monkeypatch, spec, variable):
    monkeypatch.setenv(variable, "sk-“aa")
    with pytest.raises(EditError, match=f"^{variable} holds a character that no key has") as caught:
        make_editor(spec)
    assert "aa" not in str(caught.value)


def test_an_editor_gets_whom_to_tell_if_it_asks_for_it(monkeypatch):
    told = []

    def chatty(argument: str, *, on_warning=print) -> Editor:
        on_warning(f"made {argument}")
        return Editor("chatty", lambda image, instruction, seed: image)

    monkeypatch.setitem(EDITORS, "chatty", chatty)
    make_editor("chatty:1", told.append)
    make_editor("route:pillow,chatty:2", told.append)
    make_editor("chatty:3")
    make_editor("pillow", told.append)
    assert told == ["made 1", "made 2"]


def test_an_editor_of_ones_own_is_one_more_entry(monkeypatch):
    def negative(argument: str, *, strength: float = 1.0) -> Editor:
        return Editor(f"mine{argument}", lambda image, instruction, seed: image.point(lambda level: 255 - level))

    monkeypatch.setitem(EDITORS, "mine", negative)
    editor = make_editor("mine:x", strength=0.5)
    photo = real_photo()
    assert editor(photo, "", 0).tobytes() == ImageOps.invert(photo).tobytes()
    assert "mine" in [described.name for described in describe_editors()]
    with pytest.raises(EditError, match="the editor mine has no steps; it has strength"):
        make_editor("mine", steps=1)


def test_an_editor_does_not_change_the_picture_that_it_gets():
    photo = real_photo()
    before = photo.tobytes()
    make_editor("pillow")(photo, "make it black and white, add a red border and the caption HELLO", 0)
    assert photo.tobytes() == before


@pytest.mark.parametrize(
    "sub_requests",
    [
        ["Recoloring coat to scarlet", "Recoloring hair to copper red"],
        ["Crop photo to 16:9", "Delete the lamp, and the chair; please"],
        ['Add the caption "No. Really; no."', "Adjust photo to 1.5 times the contrast"],
        ["把外套变成红色", "أضف قطة"],
    ],
)
def test_sub_requests_come_back_from_the_instruction_that_joins_them(sub_requests):
    assert [part for line in join(sub_requests).splitlines() for part in [line.removesuffix(".")]] == sub_requests
    # a semicolon parts too, since other programs join with it
    assert split(join([part for part in sub_requests if ";" not in part])) == [
        part for part in sub_requests if ";" not in part
    ]


def test_joined_sub_requests_end_as_sentences_and_empty_ones_vanish():
    assert join(["crop it", "", "  flip\nit! "]) == "crop it.\nflip it!"


def test_sentences_are_split_but_not_numbers_abbreviations_or_quotes():
    assert split('Crop by 10%. Write "Hi. You" on it. Scale x1.5, e.g. by half. 2. flip') == [
        "Crop by 10%",
        'Write "Hi. You" on it',
        "Scale x1.5, e.g. by half",
        "2. flip",
    ]


def test_a_picture_of_another_size_goes_to_the_canvas_and_comes_back():
    seen = []

    def edit(image: Image.Image, instruction: str, seed: int) -> Image.Image:
        seen.append((image.size, image.mode))
        return image.copy()

    photo = real_photo(size=(90, 60)).convert("RGBA")
    assert on_canvas(edit, lambda size: (48, 32))(photo, "x", 0).size == (90, 60)
    assert seen == [((48, 32), "RGB")]


def test_a_result_of_another_size_is_returned_as_it_came_and_one_of_the_canvas_is_not_resampled():
    stretched = on_canvas(lambda image, instruction, seed: image.resize((50, 50)), lambda size: (48, 32))
    for size in ((90, 60), (48, 32)):
        assert stretched(real_photo(size=size), "x", 0).size == (50, 50)
    photo = real_photo(size=(48, 32))
    kept = on_canvas(lambda image, instruction, seed: image, lambda size: (48, 32))
    assert kept(kept(photo, "x", 0), "y", 1).tobytes() == photo.tobytes()


def test_an_empty_instruction_is_refused():
    with pytest.raises(EditError, match="instruction is empty"):
        on_canvas(lambda image, instruction, seed: image, lambda size: size)(real_photo(), " \n", 0)


def test_errors_are_one_short_line_without_secrets():
    with pytest.raises(EditError) as caught, failing_as("nano", secrets=("s3cret",)):
        raise ValueError("first\n  second s3cret " + "x" * 1000)
    assert str(caught.value).startswith("nano: first second *** xxx")
    assert len(str(caught.value)) <= MAX_LINE + len("nano: ")
    assert one_line(ValueError()) == "ValueError"


def test_a_hint_takes_the_place_of_a_message_the_cause_is_kept_and_ctrl_c_passes():
    class OutOfMemoryError(RuntimeError):
        pass

    hints = {"OutOfMemoryError": "the GPU is full"}
    with pytest.raises(EditError, match=r"^flux: the GPU is full$") as caught, failing_as("flux", hints):
        raise OutOfMemoryError("Tried to allocate 20 GiB")
    assert isinstance(caught.value.__cause__, OutOfMemoryError)
    with pytest.raises(KeyboardInterrupt), failing_as("flux"):
        raise KeyboardInterrupt
