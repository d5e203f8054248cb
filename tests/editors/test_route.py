"""Exact sub-requests to the editor that computes, the others to the one that paints."""

import re

import pytest
from fakes.real_photos import real_photo
from PIL import ImageOps

from ier1_plugin.editors import EDITORS, Editor, join, make_editor
from ier1_plugin.editors.base import on_canvas


@pytest.fixture
def painted(monkeypatch):
    """An editor that inverts, and the calls that it gets."""
    calls = []

    def maker(argument, *, steps=None):
        def edit(image, instruction, seed):
            calls.append((image.size, instruction, seed, steps))
            return ImageOps.invert(image)

        def canvas(size):
            return (64, 48) if size[0] > size[1] else (48, 64)

        return Editor("painter", on_canvas(edit, canvas), canvas, local=False, close=lambda: calls.append("closed"))

    monkeypatch.setitem(EDITORS, "painter", maker)
    return calls


EXACT = [
    "Crop photo to left half only",
    "Transform photo to flipped horizontally",
    "Adjust photo to higher contrast",
    "Adjust photo: black and white",
    "Superresolution photo to double resolution",
    "Zoom photo to closer view",
    "rotate it by 15 degrees",
]
PAINTED = [
    "Delete lamp",
    "Recoloring coat to scarlet",
    "Recoloring top half to red",
    "Relighting top half to brighter",
    "Apply photo to blurred",
    "Add photo to red border",
    "Crop out the man on the left",
    "Transform the cat into a dog",
]


@pytest.mark.parametrize("sub_request", EXACT)
def test_geometry_and_the_tone_of_the_whole_photo_are_computed_as_pillow_does(painted, sub_request):
    photo = real_photo(size=(64, 64))
    result = make_editor("route:pillow,painter")(photo, join([sub_request]), 0)
    assert result == make_editor("pillow")(photo, sub_request, 0)
    assert painted == []


@pytest.mark.parametrize("sub_request", PAINTED)
def test_everything_else_is_painted(painted, sub_request):
    make_editor("route:pillow,painter")(real_photo(), join([sub_request]), 7)
    assert painted == [((48, 64), f"{sub_request}.", 7, None)]


def test_neighbours_that_go_to_one_editor_are_merged():
    painter = make_editor("route:pillow,folder:.")
    assert painter.turns([*EXACT[:2], *PAINTED[:2], EXACT[2], PAINTED[2]]) == [
        join(EXACT[:2]),
        join(PAINTED[:2]),
        join([EXACT[2]]),
        join([PAINTED[2]]),
    ]
    assert painter.turns([]) == []


def test_one_instruction_and_its_turns_give_the_same_picture(painted):
    editor, photo = make_editor("route:pillow,painter"), real_photo(size=(200, 100))
    sub_requests = ["Crop photo to left half only", "Delete lamp", "Add a cat", "flip it vertically", "Delete cat"]
    at_once = editor(photo, join(sub_requests), 5)
    # the canvas is that of the picture as it is then
    assert painted == [((48, 64), "Delete lamp.\nAdd a cat.", 5, None), ((48, 64), "Delete cat.", 6, None)]
    turned = photo
    for instruction in editor.turns(sub_requests):
        turned = editor(turned, instruction, 0)
    assert turned.tobytes() == at_once.tobytes()
    assert at_once.size == (100, 100)


def test_settings_belong_to_the_painter_and_closing_closes_both(painted):
    editor = make_editor("route:pillow,painter", steps=4)
    editor(real_photo(), "Delete lamp", 0)
    assert painted[0][3] == 4
    editor.close()
    assert painted[-1] == "closed"
    assert editor.name == "route:pillow,painter"
    assert not editor.local


def test_a_painted_picture_of_another_size_is_warned_of_and_brought_back(monkeypatch):
    def maker(argument):
        edit = on_canvas(lambda image, instruction, seed: image.resize((50, 50)), lambda size: (64, 48))
        return Editor("painter", edit, lambda size: (64, 48))

    monkeypatch.setitem(EDITORS, "painter", maker)
    warnings = []
    routed = make_editor("route:pillow,painter", warnings.append)
    assert routed(real_photo(size=(90, 60)), join([PAINTED[0], EXACT[0]]), 0).size == (45, 60)
    squeezed, resized = warnings
    assert re.search("painter.*90 x 60.* squeezed to 64 x 48", squeezed)
    assert re.search("painter.* 50 x 50.* 64 x 48", resized)
