"""The rating page's server over loopback: what it gives away (nothing), what it keeps, and how it starts and ends."""

from __future__ import annotations

import signal
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from fakes.annotate_study import (
    GOOD,
    SYSTEMS,
    annotating,
    edit_again,
    evaluation_folder,
    folder,
    kept,
    other_rubric,
    run,
)
from PIL import Image, ImageChops

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from ier1_plugin.evaluation.agreement.rating_study import Study
from ier1_plugin.runs.folder import write
from ier1_plugin.task.images import open_image, png_bytes

__all__ = ["folder"]


def post(link: str, place: int, score: Any, seconds: Any = 1.0) -> httpx.Response:
    return httpx.post(f"{link}/{place}", json={"score": score, "seconds": seconds}, timeout=60)


def test_links_lead_to_the_page_and_anything_else_leads_nowhere(folder):
    with annotating(folder) as (_, links):
        link = links["rater-1"]
        base, token = link.rsplit("/r/", 1)
        assert httpx.get(link).status_code == 200
        elsewhere = [
            "", "/", "/r", "/r/", "/r/x", f"/r/{token[:-1]}", f"/r/{token}x", f"/r/{token}/study.json",
            f"/r/{token}/0", f"/r/{token}/99/source", f"/r/{token}/-1/source", f"/r/{token}/0/gold",
            f"/r/{token}/0/..%2f..%2fevaluation.json", f"/r/{token}/%2e%2e/%2e%2e/evaluation.json", "/evaluation.json",
            "/annotation/study.json", "/r/..%2f..%2f..%2fetc%2fpasswd", "//etc/passwd", "/docs", "/openapi.json",
        ]  # fmt: skip
        for path in elsewhere:
            answer = httpx.get(base + path)
            assert answer.status_code in (404, 405), path
            assert not any(secret in answer.text for secret in (*SYSTEMS, str(folder), "root:"))
        assert post(f"{base}/r/wrong", 0, GOOD).status_code == 404
        assert post(link, 99, GOOD).status_code == 404
        # and neither page nor pairs nor images give a system away
        page, state = httpx.get(link), httpx.get(f"{link}/pairs")
        images = [httpx.get(f"{link}/{place}/edited") for place in range(11)]
        source = httpx.get(f"{link}/0/source")
        study = Study.read(folder)
        (folder / study.order(study.raters[0])[0].edited).unlink()
        missing = httpx.get(f"{link}/0/edited")
    assert (missing.status_code, missing.text) == (410, "image missing")
    for answer in (page, state, source, *images):
        assert answer.status_code == 200
        text = answer.content + str(answer.headers).encode()
        assert not any(name.encode() in text for name in (*SYSTEMS, "item-", "systems/"))
        assert "uvicorn" not in str(answer.headers)
    # both editors made smaller images than they were given
    assert {Image.open(BytesIO(image.content)).size for image in images} == {Image.open(BytesIO(source.content)).size}
    assert {tuple(pair) for pair in state.json()["pairs"]} == {("request", "score", "edited")}
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy
    assert "https://" not in page.text


@pytest.mark.slow
def test_each_place_shows_the_image_of_its_pair(folder):
    with annotating(folder, "--raters", "2") as (_, links):
        study = Study.read(folder)
        for rater in study.raters:
            for place, pair in enumerate(study.order(rater)):
                shown = open_image(httpx.get(f"{links[rater.name]}/{place}/edited").content)
                edited = open_image(folder / pair.edited).resize(shown.size, Image.Resampling.LANCZOS)
                assert ImageChops.difference(shown, edited).getbbox() is None


def test_an_edit_is_shown_in_its_own_shape_at_the_longest_side_of_the_photo(folder):
    with annotating(folder) as (_, links):
        study = Study.read(folder)
        write(folder / study.order(study.raters[0])[0].edited, png_bytes(Image.new("RGB", (120, 160))))
        assert open_image(httpx.get(f"{links['rater-1']}/0/source").content).size == (320, 240)
        assert open_image(httpx.get(f"{links['rater-1']}/0/edited").content).size == (240, 320)


def test_a_rating_of_an_edit_that_was_made_again_meanwhile_is_refused_and_the_new_one_can_be_rated(folder):
    with annotating(folder) as (_, links):
        link, study = links["rater-1"], Study.read(folder)
        seen = httpx.get(f"{link}/pairs").json()["pairs"][0]["edited"]
        assert httpx.get(f"{link}/0/edited?{seen}").status_code == 200
        assert httpx.post(f"{link}/0", json={"score": GOOD, "edited": seen}).status_code == 204
        edit_again(folder, study.order(study.raters[0])[0])
        assert httpx.get(f"{link}/0/edited?{seen}").status_code == 410
        answer = httpx.post(f"{link}/0", json={"score": GOOD, "edited": seen})
        assert (answer.status_code, answer.text) == (409, "this edit was redone; reload the page to see it")
        now = httpx.get(f"{link}/pairs").json()["pairs"][0]
        assert now["score"] is None
        assert now["edited"] not in ("", seen)
        assert httpx.post(f"{link}/0", json={"score": GOOD, "edited": now["edited"]}).status_code == 204
    assert [line["edited_sha256"] for line in kept(folder)] == [seen, now["edited"]]


def test_bad_ratings_are_refused_by_the_server_and_nothing_is_written(folder):
    with annotating(folder) as (_, links):
        link = links["rater-1"]
        assert post(link, 0, GOOD | {"quality": 9}).status_code == 422
        assert httpx.post(f"{link}/0", content=b"{").status_code == 422
        assert httpx.post(f"{link}/0", content=b"[" * 100_000).status_code == 422
        assert kept(folder) == []
        assert post(link, 0, GOOD).status_code == 204
    assert [line["score"] for line in kept(folder)] == [GOOD]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("rated", [0, 1])
def test_a_signal_ends_the_server_cleanly_as_soon_as_there_are_links(folder, number, rated):
    with annotating(folder) as (process, links):
        for place in range(rated):
            post(links["rater-2"], place, GOOD)
        process.send_signal(number)
        output = process.communicate(timeout=60)[0]
        assert process.returncode == 0
    assert f"Rated of 11: rater-1 0, rater-2 {rated}, rater-3 0." in output
    assert "Traceback" not in output
    assert len((folder / "annotation/ratings.jsonl").read_text().splitlines()) == rated


def test_a_second_server_on_the_study_or_the_port_is_refused_in_one_line(folder, tmp_path):
    with annotating(folder) as (_, links):
        port = links["rater-1"].split("/r/")[0].rsplit(":", 1)[1]
        second = run("annotate", folder, "--port", "0")
        other = run("annotate", evaluation_folder(tmp_path / "other"), "--port", port)
    for done, word in ((second, str(folder / "annotation")), (other, "already in use")):
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert word in done.stderr


@pytest.mark.parametrize("name", ["missing", "empty", "no edits", "damaged", "unknown system", "other rubric"])
def test_a_folder_that_cannot_be_rated_is_refused_in_one_line_and_left_alone(name, folder, tmp_path):
    options: list[str | Path] = []
    if name in ("missing", "empty"):
        folder = tmp_path / name
    if name == "empty":
        folder.mkdir()
    elif name == "no edits":
        for image in (folder / "systems").rglob("*.png"):
            image.unlink()
    elif name == "damaged":
        (folder / "evaluation.json").write_text("{")
    elif name == "unknown system":
        options = ["--system", "nobody"]
    elif name == "other rubric":
        options = ["--rubric", other_rubric(tmp_path / "other.jinja")]
    done = run("annotate", folder, "--port", "0", *options)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("error: ")
    assert not (folder / "annotation").exists()
