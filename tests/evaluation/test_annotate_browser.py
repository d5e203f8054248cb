"""Raters at the rating page with a real browser: keyboard, phone, a killed server, two at once."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fakes.annotate_study import GOOD, REQUESTS, annotating, edit_again, folder, kept
from fakes.browser import Page, browser, needs_browser
from PIL import Image, ImageDraw

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from ier1_plugin.evaluation.agreement.rating_study import Study
from ier1_plugin.evaluation.records import Score
from ier1_plugin.runs.folder import write
from ier1_plugin.task.images import png_bytes

ENTER, LEFT, UP, RIGHT, DOWN, TAB = "\ue007", "\ue012", "\ue013", "\ue014", "\ue015", "\ue004"
COUNT = "return document.querySelector('#count').textContent"
STATUS = "return document.querySelector('#status').textContent"
DONE = "return !document.querySelector('#done').hidden"
NONE_CHOSEN = "return !document.querySelector('.scale :checked')"
MARKED = "return document.querySelector('.scale.active').dataset.scale"
FOCUSED = "return document.activeElement.name ?? ''"
CHOSEN = (
    "return Object.fromEntries([...document.querySelectorAll('.scale :checked')].map(one => [one.name, +one.value]))"
)
__all__ = ["folder"]
SCALES = """
return Object.fromEntries(['source', 'after'].map(id => {
    const image = document.getElementById(id), box = image.getBoundingClientRect();
    return [id, Math.min(box.width / image.naturalWidth, box.height / image.naturalHeight)];
}))"""
"""How many pixels of the page a pixel of each image has, which fills its box as far as its shape allows."""
pytestmark = [needs_browser, pytest.mark.slow]


@contextmanager
def rating(folder: Path, *options: str, size: tuple[int, int] = (1280, 860)) -> Iterator[tuple[Page, str]]:
    """A browser in which rater-1 has closed the help, and the link."""
    with annotating(folder, *options) as (_, links), browser(folder.parent / "browser", *size) as page:
        start(page, links["rater-1"])
        yield page, links["rater-1"]


def start(page: Page, link: str) -> None:
    page.open(link)
    page.wait("return document.querySelector('#how').open")
    page.type("#close", ENTER)
    page.wait("return !document.querySelector('#how').open")


def press(page: Page, keys: str) -> None:
    """Keys go to the element that has the focus."""
    from selenium.webdriver import ActionChains

    ActionChains(page._driver).send_keys(keys).perform()


def shown(page: Page) -> str:
    return page.run("return document.querySelector('#request').textContent").strip("“”")


def rate(page: Page, digits: str) -> None:
    """Three digits and Enter, as a rater types them, and the wait for the next pair."""
    before = page.run(COUNT)
    page.type("body", digits)
    page.wait(f"{COUNT} !== {json.dumps(before)}")
    page.type("body", ENTER)
    page.wait(f"{NONE_CHOSEN} || {DONE.removeprefix('return ')}")


def scores(folder: Path, rater: str = "rater-1") -> list[list[int]]:
    """What the server kept, oldest first."""
    return [list(one["score"].values()) for one in kept(folder, rater)]


def test_a_rater_rates_with_the_keyboard_and_goes_on_after_the_server_was_killed(folder, tmp_path):
    with browser(tmp_path / "browser", 1280, 860) as page:
        with annotating(folder, "--sample", "4", "--raters", "1") as (process, links):
            start(page, links["rater-1"])
            requests = [shown(page)]
            rate(page, "421")
            requests.append(shown(page))
            rate(page, "013")
            page.type("body", "33")
            process.send_signal(signal.SIGKILL)
            process.wait(timeout=60)
            page.type("body", "3" + ENTER)
            page.wait(f"{STATUS}.includes('Not saved')")
        assert scores(folder) == [[4, 2, 1], [0, 1, 3]]
        assert all(one["seconds"] < 600 for one in kept(folder))
        with annotating(folder) as (_, links):
            page.run("onbeforeunload = null; unsaved.clear()")
            page.open(links["rater-1"])
            page.wait(f"{COUNT} === '2 of 4 rated'")
            assert not page.run("return document.querySelector('#how').open")
            rate(page, "333")
            page.type("body", LEFT * 3)
            page.wait(f"return document.querySelector('#request').textContent.includes({json.dumps(requests[0])})")
            page.type("body", "0")
            page.wait(f"{STATUS} === 'saved'")
            page.type("body", ENTER)
            page.wait(f"{COUNT} === '3 of 4 rated'")
            page.wait(NONE_CHOSEN)
            rate(page, "222")
            page.wait(DONE)
    study = Study.read(folder)
    (rater,) = study.raters
    assert study.scores(rater) == [Score(0, 2, 1), Score(0, 1, 3), Score(3, 3, 3), Score(2, 2, 2)]
    assert [pair.request for pair in study.order(rater)][:2] == requests


def test_whoever_goes_by_tab_scores_the_scale_that_has_the_focus_and_arrows_choose_its_score(folder):
    with rating(folder, "--sample", "2") as (page, _):
        page.run("document.querySelector('input[name=quality]').focus()")
        assert page.run(MARKED) == "quality"
        press(page, "2")
        assert page.run(CHOSEN) == {"quality": 2}
        assert page.run(FOCUSED) == page.run(MARKED) == "fulfilment"
        press(page, TAB)
        assert page.run(FOCUSED) == page.run(MARKED) == "quality"
        press(page, DOWN)
        assert page.run(CHOSEN) == {"quality": 1}
        assert page.run(FOCUSED) == page.run(MARKED) == "quality"
        for key in (RIGHT, UP, UP):
            press(page, key)
        assert page.run(CHOSEN) == {"quality": 2}
        press(page, TAB)
        assert page.run(FOCUSED) == page.run(MARKED) == "preservation"
        press(page, "3")
        press(page, "4")
        page.wait(f"{STATUS} === 'saved'")
        press(page, ENTER)
        page.wait(NONE_CHOSEN)
        assert page.run(FOCUSED) == page.run(MARKED) == "fulfilment"
        assert scores(folder) == [[4, 2, 3]]
        # after a click the digits score the scale that is marked, and the arrows are the page's
        page.click(".scale[data-scale=fulfilment] label")
        page.wait(f"{MARKED} === 'quality'")
        press(page, "1")
        press(page, UP)
        assert page.run(MARKED) == "quality"
        assert page.run(CHOSEN) == {"fulfilment": 4, "quality": 1}
        before = page.run("return place")
        press(page, LEFT)
        assert page.run("return place") == before - 1


def test_a_rating_is_kept_with_the_image_that_was_seen_and_not_given_to_one_made_meanwhile(folder):
    with rating(folder, "--sample", "1") as (page, link):
        study = Study.read(folder)
        (pair,) = study.pairs
        page.wait("return document.getElementById('after').naturalWidth > 0")
        edit_again(folder, pair)
        press(page, "432")
        page.wait(f"{STATUS}.includes('redone')")
        page.run("onbeforeunload = null; unsaved.clear()")
        start(page, link)
        press(page, "111")
        page.wait(f"{STATUS} === 'saved'")
    assert scores(folder) == [[1, 1, 1]]
    assert kept(folder)[0]["edited_sha256"] == study.edited_sha256(pair)


@pytest.mark.parametrize("size", [(1280, 860), (390, 844)])
def test_photo_and_edit_are_shown_at_one_scale_whatever_shape_the_edit_has(folder, size):
    # a circle, and the same turned by 90 degrees
    photo = Image.new("RGB", (320, 240))
    ImageDraw.Draw(photo).ellipse((60, 20, 260, 220), fill="red")
    for item in (folder / "inputs").iterdir():
        write(item, png_bytes(photo))
    for edit in (folder / "systems").rglob("*.png"):
        write(edit, png_bytes(photo.transpose(Image.Transpose.ROTATE_90)))
    with rating(folder, size=size) as (page, _):
        page.wait("return ['source', 'after'].every(id => document.getElementById(id).naturalWidth > 0)")
        scales = page.run(SCALES)
        assert scales["source"] == pytest.approx(scales["after"], rel=0.01)


def test_the_page_works_on_a_phone_shows_the_photo_before_while_it_is_held_and_loads_nothing_from_elsewhere(folder):
    with rating(folder, size=(390, 844)) as (page, link):
        page.wait("return ['source', 'after', 'over'].every(id => document.getElementById(id).naturalWidth > 0)")
        assert page.run("return document.documentElement.scrollWidth") <= 390
        assert shown(page) in REQUESTS
        over = "return ['over', 'after'].map(id => getComputedStyle(document.getElementById(id)).visibility)"
        assert page.run(over) == ["hidden", "visible"]
        page.run("document.querySelector('#edited').dispatchEvent(new Event('pointerdown'))")
        assert page.run(over) == ["visible", "hidden"]
        page.run("document.querySelector('#edited').dispatchEvent(new Event('pointerup'))")
        assert page.run(over) == ["hidden", "visible"]
        page.click("#next")
        page.wait(f"{STATUS}.includes('fulfilment')")
        for scale, score in GOOD.items():
            page.run(f"document.querySelector('input[name={scale}][value=\"{score}\"]').click()")
        page.wait(f"{STATUS} === 'saved'")
        fetched = page.run("return performance.getEntriesByType('resource').map(entry => entry.name)")
        assert fetched
        assert all(name.startswith((link, "data:")) for name in fetched)
    assert scores(folder) == [[*GOOD.values()]]
