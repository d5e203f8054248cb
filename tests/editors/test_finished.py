"""Finished images of another system, found by the id of the item."""

import re

import pytest
from fakes.real_photos import real_photo

from ier1_plugin.editors import EditError, make_editor


@pytest.fixture
def outputs(tmp_path):
    folder = tmp_path / "outputs"
    (folder / "full" / "set").mkdir(parents=True)
    real_photo(size=(40, 30)).save(folder / "object_removal_5.png")
    real_photo("coffee.png", (30, 40)).save(folder / "full" / "set" / "a1.jpg")
    real_photo("coffee.png", (30, 40)).save(folder / "DSC_1.JPEG")
    real_photo("coffee.png", (10, 10)).save(tmp_path / "secret.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n not quite")
    (folder / "text.jpg").write_text("hello")
    (folder / "empty.png").touch()
    return folder


def edited(folder, id):
    for_item = make_editor(f"folder:{folder}").for_item
    assert for_item
    return for_item(id)(real_photo(), "remove the lamp", 0)


def test_the_image_of_an_item_is_returned_as_it_is_and_an_id_may_hold_folders_and_an_ending(outputs):
    assert edited(outputs, "object_removal_5").tobytes() == real_photo(size=(40, 30)).tobytes()
    assert edited(outputs, "full/set/a1").size == edited(outputs, "full/set/a1.jpg").size == (30, 40)
    assert edited(outputs, "DSC_1").size == (30, 40)
    editor = make_editor(f"folder:{outputs}")
    assert not editor.preserves_size
    # they are finished, whatever was asked
    assert len(editor.turns(["remove the lamp", "add a cat"])) == 1


@pytest.mark.parametrize(
    "id", ["object_removal_6", "../secret", "full/../../secret", "/etc/passwd", "", "\0", ".", "full/set", "link"]
)
def test_an_id_without_an_image_or_outside_the_folder_is_one_line(outputs, id):
    (outputs / "link.png").symlink_to(outputs.parent / "secret.png")
    with pytest.raises(EditError, match=f"no image for {re.escape(repr(id))}") as caught:
        edited(outputs, id)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("id", "message"), [("broken", "image"), ("text", "not an image"), ("empty", r"empty \(0 bytes\)")]
)
def test_damaged_images_are_one_clear_line(outputs, id, message):
    with pytest.raises(EditError, match=rf"{id}\.\w+: .*{message}"):
        edited(outputs, id)


def test_without_an_id_nothing_is_found(outputs):
    with pytest.raises(EditError, match="by the id of an item"):
        make_editor(f"folder:{outputs}")(real_photo(), "remove the lamp", 0)
