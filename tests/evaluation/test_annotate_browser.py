"""Raters at the rating page with a real browser: keyboard, phone, a killed server, two at once."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from fakes.annotate_study import GOOD, REQUESTS, annotating, edit_again, evaluation_folder, kept, run
from fakes.browser import Page, browser, needs_browser

pytest.importorskip("krippendorff")
pytest.importorskip("sklearn")
pytest.importorskip("statsmodels")
pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from ier1_plugin.evaluation.agreement.rating_study import Study, export_ratings

ENTER, LEFT, UP, RIGHT, DOWN, TAB = "\ue007", "\ue012", "\ue013", "\ue014", "\ue015", "\ue004"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six items, of which one system edited five and the other six."""
    return evaluation_folder(tmp_path / "evaluation")


def start(page: Page, link: str) -> None:
    page.open(link)
    page.wait("return document.querySelector('#how').open")
    page.type("#close", ENTER)
    page.wait("return !document.querySelector('#how').open")


def press(page: Page, keys: str) -> None:
    """Keys go to whatever has the focus."""
    from selenium.webdriver import ActionChains

    ActionChains(page._driver).send_keys(keys).perform()


def shown(page: Page) -> str:
    return page.run("return document.querySelector('#request').textContent").strip("“”")


def rate(page: Page, digits: str) -> None:
    """Three digits and Enter, as a rater types them, and the wait for the next pair."""
    before = page.run("return document.querySelector('#count').textContent")
    page.type("body", digits)
    page.wait(f"return document.querySelector('#count').textContent !== {json.dumps(before)}")
    page.type("body", ENTER)
    page.wait("return !document.querySelector('.scale :checked') || !document.querySelector('#done').hidden")


@needs_browser
@pytest.mark.slow
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
            page.wait("return document.querySelector('#status').textContent.includes('Not kept')")
        assert [list(line["score"].values()) for line in kept(folder)] == [[4, 2, 1], [0, 1, 3]]
        assert all(line["seconds"] < 600 for line in kept(folder))
        with annotating(folder) as (_, links):
            page.run("onbeforeunload = null; unsaved.clear()")
            page.open(links["rater-1"])
            page.wait("return document.querySelector('#count').textContent === '2 of 4 rated'")
            assert not page.run("return document.querySelector('#how').open")
            rate(page, "333")
            page.type("body", LEFT * 3)
            page.wait(f"return document.querySelector('#request').textContent.includes({json.dumps(requests[0])})")
            page.type("body", "0")
            page.wait("return document.querySelector('#status').textContent === 'kept'")
            page.type("body", ENTER)
            page.wait("return document.querySelector('#count').textContent === '3 of 4 rated'")
            page.wait("return !document.querySelector('.scale :checked')")
            rate(page, "222")
            page.wait("return !document.querySelector('#done').hidden")
    study = Study.read(folder)
    scores = [
        score and (score.fulfilment, score.quality, score.preservation) for score in study.scores(study.raters[0])
    ]
    assert scores == [(0, 2, 1), (0, 1, 3), (3, 3, 3), (2, 2, 2)]
    assert [pair.request for pair in study.order(study.raters[0])][:2] == requests
    assert run("annotate", folder, "--export", tmp_path / "ratings.csv").returncode == 0
    compared = run("agreement", tmp_path / "ratings.csv", "--json", tmp_path / "agreement.json", "--resamples", "100")
    assert compared.returncode == 0, compared.stderr
    assert "judge less mean human" in compared.stdout


MARKED = "return document.querySelector('.scale.active').dataset.scale"
FOCUSED = "return document.activeElement.name ?? ''"
CHOSEN = (
    "return Object.fromEntries([...document.querySelectorAll('.scale :checked')].map(one => [one.name, +one.value]))"
)


@needs_browser
@pytest.mark.slow
def test_whoever_goes_by_tab_scores_the_scale_that_has_the_focus_and_arrows_choose_its_score(folder, tmp_path):
    with annotating(folder, "--sample", "2") as (_, links), browser(tmp_path / "browser", 1280, 860) as page:
        start(page, links["rater-1"])
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
        press(page, RIGHT)
        press(page, UP)
        press(page, UP)
        assert page.run(CHOSEN) == {"quality": 2}
        press(page, TAB)
        assert page.run(FOCUSED) == page.run(MARKED) == "preservation"
        press(page, "3")
        press(page, "4")
        page.wait("return document.querySelector('#status').textContent === 'kept'")
        press(page, ENTER)
        page.wait("return !document.querySelector('.scale :checked')")
        assert page.run(FOCUSED) == page.run(MARKED) == "fulfilment"
    assert [line["score"] for line in kept(folder)] == [{"fulfilment": 4, "quality": 2, "preservation": 3}]


@needs_browser
@pytest.mark.slow
def test_after_a_click_the_digits_score_the_scale_that_is_marked_and_the_arrows_are_the_page_s(folder, tmp_path):
    with annotating(folder, "--sample", "2") as (_, links), browser(tmp_path / "browser", 1280, 860) as page:
        start(page, links["rater-1"])
        page.click(".scale[data-scale=fulfilment] label")
        page.wait(f"{MARKED} === 'quality'")
        press(page, "1")
        press(page, UP)
        assert page.run(MARKED) == "quality"
        assert page.run(CHOSEN) == {"fulfilment": 4, "quality": 1}
        before = shown(page), page.run("return place")
        press(page, RIGHT)
        assert page.run("return place") == before[1] + 1


@needs_browser
@pytest.mark.slow
def test_a_rating_is_kept_with_the_image_that_was_seen_and_not_given_to_one_made_meanwhile(folder, tmp_path):
    with annotating(folder, "--sample", "1") as (_, links), browser(tmp_path / "browser", 1280, 860) as page:
        study = Study.read(folder)
        (pair,) = study.pairs
        start(page, links["rater-1"])
        page.wait("return document.getElementById('after').naturalWidth > 0")
        edit_again(folder, pair)
        press(page, "432")
        page.wait("return document.querySelector('#status').textContent.includes('made again')")
        page.run("onbeforeunload = null; unsaved.clear()")
        start(page, links["rater-1"])
        press(page, "111")
        page.wait("return document.querySelector('#status').textContent === 'kept'")
    (line,) = kept(folder)
    assert line["score"] == {"fulfilment": 1, "quality": 1, "preservation": 1}
    assert line["edited_sha256"] == study.edited_sha256(pair)


@needs_browser
@pytest.mark.slow
def test_the_page_works_on_a_phone_shows_the_photo_before_while_it_is_held_and_loads_nothing_from_elsewhere(
    folder, tmp_path
):
    with annotating(folder) as (_, links), browser(tmp_path / "browser", 390, 844) as page:
        start(page, links["rater-2"])
        loaded = "return ['source', 'after', 'over'].every(id => document.getElementById(id).naturalWidth > 0)"
        page.wait(loaded)
        assert page.run("return document.documentElement.scrollWidth") <= 390
        assert shown(page) in REQUESTS
        over = "return getComputedStyle(document.querySelector('#over')).visibility"
        assert page.run(over) == "hidden"
        page.run("document.querySelector('#edited').dispatchEvent(new Event('pointerdown'))")
        assert page.run(over) == "visible"
        page.run("document.querySelector('#edited').dispatchEvent(new Event('pointerup'))")
        assert page.run(over) == "hidden"
        page.click("#next")
        page.wait("return document.querySelector('#status').textContent === 'first a score for fulfilment'")
        for scale, score in GOOD.items():
            page.run(f"document.querySelector('input[name={scale}][value=\"{score}\"]').click()")
        page.wait("return document.querySelector('#status').textContent === 'kept'")
        fetched = page.run("return performance.getEntriesByType('resource').map(entry => entry.name)")
        assert fetched
        assert all(name.startswith((links["rater-2"], "data:")) for name in fetched)
    assert [line["score"] for line in kept(folder, "rater-2")] == [GOOD]


@needs_browser
@pytest.mark.slow
def test_two_raters_at_once_do_not_get_into_each_other_s_way(folder, tmp_path):
    with (
        annotating(folder, "--sample", "3", "--raters", "2") as (_, links),
        browser(tmp_path / "one", 1000, 800) as one,
        browser(tmp_path / "two", 1000, 800) as two,
    ):
        start(one, links["rater-1"])
        start(two, links["rater-2"])
        for _ in range(3):
            rate(one, "432")
            rate(two, "111")
        for page in (one, two):
            page.wait("return !document.querySelector('#done').hidden")
    ratings, _ = export_ratings(Study.read(folder))
    totals = {(rating.rater, rating.score) for rating in ratings if rating.dimension == "total" and not rating.is_judge}
    assert totals == {("rater-1", 9), ("rater-2", 3)}
