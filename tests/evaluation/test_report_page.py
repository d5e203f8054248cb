"""`ier1 report`: its page in a browser, its files, what they say beside the numbers, and wrong input."""

from __future__ import annotations

import csv
import re
from collections import Counter
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from fakes.browser import browser, needs_browser
from fakes.commands import ier1
from fakes.evaluation_folders import (
    COMPARISONS,
    GEMINI,
    GPT,
    PAPER_LIKE,
    RUBRIC,
    items,
    realistic,
    settings,
    write_evaluation,
)
from PIL import Image

from ier1_plugin.evaluation.records import BenchmarkItem, Score
from ier1_plugin.evaluation.report.page import Case, case_contents, extremes, sample_cases, thumbnails
from ier1_plugin.evaluation.report.report import write_report
from ier1_plugin.evaluation.scores import Scores, read_scores
from ier1_plugin.runs.folder import write
from ier1_plugin.task.images import png_bytes

SYSTEMS = {"Original": settings("original"), "Chain": settings()}


def plain(at: Path, systems: dict = SYSTEMS) -> Path:
    """Without pictures."""
    return write_evaluation(at, "psr", systems, [GPT, GEMINI], items(8), lambda *_: Score(3, 2, 2))


def text_of(at: Path, *more: object) -> str:
    """The page of a report, as it reads."""
    ier1("report", at, "--examples", 0, *more)
    return " ".join(unescape((at / "report" / "index.html").read_text()).split())


@pytest.fixture(scope="module")
def evaluations(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("evaluations")
    return [realistic(root / name, name, 12, side=128) for name in ("psr", "realedit")]


@pytest.fixture(scope="module")
def page_file(evaluations: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report")
    (out / "comparisons.yaml").write_text(COMPARISONS)
    options = ("--comparisons", out / "comparisons.yaml", "--paper", "--examples", 2)
    result = ier1("report", *evaluations, "--out", out, *options)
    assert result.stdout.strip() == str(out / "index.html")
    return out / "index.html"


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_opens_without_network_or_console_error_and_fits_the_width(
    page_file: Path, tmp_path: Path, width: int
):
    with browser(tmp_path, width, 844) as page:
        page.open(page_file.as_uri())
        page.run("document.querySelectorAll('details').forEach(one => one.open = true)")
        page.wait("return [...document.images].every(image => image.complete && image.naturalWidth > 0)")
        loaded = page.run("return performance.getEntriesByType('resource').map(one => one.name)")
        assert [name for name in loaded if not name.startswith("data:")] == []
        assert page.console() == []
        assert page.run("return document.documentElement.scrollWidth") <= width
        assert page.run("return document.querySelectorAll('figure img').length") > 2 * len(PAPER_LIKE)
        text = page.run("return document.body.innerText")
        page.run("console.error('seen')")
        assert "seen" in page.console()[0]
    for part in (*PAPER_LIKE, "Single-turn and multi-turn", "Training rows", "With and without RL", "missing image"):
        assert part in text
    assert re.search(r"Adjust photo: black and white|Transform photo to flipped", text)


@pytest.mark.slow
def test_all_files_are_there_and_agree_and_the_page_stands_alone(page_file: Path):
    out = page_file.parent
    figures = {file.name for file in (out / "figures").iterdir()}
    assert figures == {"overview.png", *(f"comparison-{number}.png" for number in (1, 2, 3))}
    with (out / "scores.csv").open() as lines:
        average = next(row for row in csv.DictReader(lines) if (row["row"], row["column"]) == ("SeedEdit", "Average"))
    for name in ("index.html", "report.md", "tables.tex", "table1.csv"):
        text = (out / name).read_text()
        assert f"{float(average['mean']):.2f}" in text or average["mean"] in text
    assert not list(out.rglob(".*"))
    text = page_file.read_text(encoding="utf-8")
    assert re.findall(r"(?:src|href)=\"(?!data:|#)", text) == []
    assert not re.search(r"url\((?!data:)|@import|<script", text)
    assert len(text) < 10e6


@pytest.mark.slow
def test_the_papers_figures_are_marked_as_quoted_and_shown_only_when_asked_for(
    evaluations: list[Path], page_file: Path, tmp_path: Path
):
    asked = page_file.read_text()
    assert asked.count('class="card quoted"') == 4
    assert "ImageEdit-R1 (w/o RL)" in asked
    contents = []
    for name in ("one", "other"):
        ier1("report", *evaluations, "--out", tmp_path / name, "--examples", 1)
        contents.append({file.name: file.read_bytes() for file in (tmp_path / name).iterdir() if file.is_file()})
    assert b"quoted" not in contents[0]["index.html"].split(b"</style>")[1]
    assert b"Quoted" not in contents[0]["report.md"]
    # the same seed makes the same report
    assert contents[0] == contents[1]


@pytest.mark.slow
def test_best_and_worst_are_the_ends_of_what_all_judges_scored(evaluations: list[Path]):
    scores = read_scores(evaluations)
    best, worst = extremes(scores, "SeedEdit", "FLUX.1-Kontext-dev", 2).values()
    assert len({*best, *worst}) == 4
    both = scores.by_item["total"].xs("SeedEdit", level="system").unstack("judge").dropna().mean(axis=1)
    every = sorted(both)
    assert [both[case.benchmark, case.item] for case in worst] == every[:2]
    assert [both[case.benchmark, case.item] for case in best] == every[:-3:-1]
    assert all(case.systems == ("SeedEdit", "FLUX.1-Kontext-dev") for case in best)


def shown(scores: Scores, case: Case) -> dict[str, Any]:
    """{system: the thumbnail of its edit}"""
    contents = case_contents(scores, case)
    pictures = thumbnails(Counter(contents["files"]))
    return {edit["system"]: pictures[edit["image"]] for edit in contents["edits"]}


def test_the_gold_edit_is_shown_and_a_picture_that_is_damaged_or_missing_has_a_line_in_its_place(tmp_path: Path):
    made = [replace(item, gold_image="gold.png") for item in items(1)]
    at = write_evaluation(tmp_path / "psr", "psr", SYSTEMS, [GPT], made, lambda *_: Score(3, 2, 2))
    write(at / made[0].image, b"no picture")
    write(at / "gold.png", png_bytes(Image.new("RGB", (30, 20))))
    text = text_of(at, "--examples", 1).partition('id="examples"')[2].partition('id="extremes"')[0]
    assert re.findall("not an image|no image|gold: what was asked for|data:image/jpeg", text) == [
        "not an image",
        *["no image"] * 2,
        "data:image/jpeg",
        "gold: what was asked for",
    ]


def test_an_edit_is_never_shown_for_that_of_another_benchmark_with_the_same_ids(tmp_path: Path):
    folders = [
        write_evaluation(tmp_path / name, name, SYSTEMS, [GPT], items(1), lambda *_: Score(3, 2, 2))
        for name in ("psr", "realedit")
    ]
    write(folders[0] / "systems/Chain/images/item-0000.png", png_bytes(Image.new("RGB", (30, 20))))
    scores = read_scores(folders)
    edits = {case.benchmark: shown(scores, case)["Chain"] for case in sample_cases(scores, 1, 0)}
    assert "url" in edits["psr"]
    assert edits["realedit"] == {"problem": "no image"}


def test_an_original_that_was_not_given_the_item_is_not_shown_beside_its_best_and_worst(tmp_path: Path):
    one, chain = plain(tmp_path / "psr"), {"Chain": settings()}
    other = write_evaluation(tmp_path / "real", "realedit", chain, [GPT, GEMINI], items(4), lambda *_: Score(1, 1, 1))
    worst = extremes(read_scores([one, other]), "Chain", "Original", 2)["Worst"]
    assert [(case.benchmark, case.systems) for case in worst] == [("realedit", ("Chain",))] * 2


def test_every_table_has_a_name_and_every_head_says_what_it_is_of(tmp_path: Path):
    body = text_of(plain(tmp_path / "psr"), "--paper").split("</style>")[1]
    tables, heads = re.findall(r"<table[^>]*>", body), re.findall(r"<th\b[^>]*>", body)
    assert tables
    assert all(re.search(r'aria-label="[^"]+"', table) for table in tables)
    assert {re.findall(r'scope="(\w+)"', head)[0] for head in heads} == {"col", "colgroup", "row", "rowgroup"}
    assert all('scope="colgroup"' in head for head in heads if "colspan" in head)


def test_the_page_says_how_it_was_measured_with_the_facts_of_every_folder_and_judge(tmp_path: Path):
    one = plain(tmp_path / "one", SYSTEMS | {"Chain 2": settings(seed=2)})
    other = write_evaluation(tmp_path / "more", "psr", SYSTEMS, [GPT], items(9), lambda *_: Score(3, 2, 2), samples=2)
    (one / "comparisons.yaml").write_text("Runs:\n  a: Original\n  b: [Chain, Chain 2]\n")
    text = text_of(one, other, "--out", one / "report", "--paper", "--comparisons", one / "comparisons.yaml")
    for part in (
        "9 items in 9 clusters",
        "one: origin tests, revision 1, seed 0, sampled 8",
        "more: origin tests, revision 1, seed 0, sampled 9",
        "samples 1; more: sanity not tried",
        "judged 2026-11-24",
        "sanity not tried",
        f"rubric sha256 {RUBRIC[:12]}",
        "2,000 bootstrap resamples",
        "up to 13 clusters and 9,999 at random",
        "<small>runs 7.00, 7.00</small>",
        "With and without goals: subject and action rewards",
    ):
        assert part in text


def test_the_papers_tables_stand_beside_what_they_are_read_with(tmp_path: Path):
    at = plain(tmp_path / "psr")
    (at / "comparisons.yaml").write_text("With and without:\n  a: Original\n  b: Chain\n")
    beside = ["With and without", "The paper's Table 4", "By part of the score", "The paper's Table 3"]
    for more, order in (
        (("--comparisons", at / "comparisons.yaml"), beside),
        ((), ["By part of the score", "The paper's Table 3", "The paper's Table 4"]),
    ):
        text = text_of(at, "--paper", *more).split("<main>")[1]
        places = [text.index(f">{title}") for title in order]
        assert places == sorted(places)


def test_words_of_users_and_judges_cannot_become_markup(tmp_path: Path):
    made = [BenchmarkItem("1", "<script>alert(1)</script>", "inputs/1.png", "c", ("<img>",))]
    systems = {"<b>Original</b>": settings("original"), "Chain": settings()}
    at = write_evaluation(tmp_path / "psr", "psr", systems, [GPT], made, lambda *_: "refusal: <img>")
    # nothing was scored, and the page shows why
    ier1("report", at, "--out", tmp_path / "out", exit_code=1)
    text = (tmp_path / "out" / "index.html").read_text()
    assert not re.search("<script|<img>|<b>Original", text)
    assert "&lt;script&gt;alert(1)" in text


def test_notes_stand_on_the_page_in_markdown_and_on_standard_error(tmp_path: Path):
    at = plain(tmp_path / "psr", {"Chain": settings(), "Other": settings(steps=3)})
    result = ier1("report", at, "--examples", 0)
    for text in (result.stderr, *((at / "report" / name).read_text() for name in ("index.html", "report.md"))):
        assert "Chain has no gain: no system hands its editor, in its settings, the request as it is" in text


def test_without_matplotlib_there_are_tables_and_a_line_that_says_why_no_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    files, notes = write_report([plain(tmp_path / "psr")], tmp_path / "out", examples=0)
    assert [file.name for file in files] == ["index.html", "report.md", "tables.tex", "table1.csv", "scores.csv"]
    assert "matplotlib" in notes[-1]


def test_the_smallest_evaluation_makes_a_report_in_its_own_folder_too(tmp_path: Path):
    alone = [BenchmarkItem("../ä b/1", "…", "inputs/none.png", "c")]
    at = write_evaluation(tmp_path / "one", "tiny", {"Only": settings()}, ["pixel"], alone, lambda *_: Score(0, 0, 0))
    (at / "report" / "figures").mkdir(parents=True)
    (at / "report" / "figures" / "comparison-9.png").write_bytes(b"of an earlier report")
    ier1("report", at)
    text = (at / "report" / "report.md").read_text()
    assert "| Only | **0.00**" not in text
    assert "| 0.00 [n/a] 100 % |" in text
    assert [file.name for file in (at / "report" / "figures").iterdir()] == ["overview.png"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("nowhere",), "nowhere holds no evaluation.json"),
        (("psr", "--comparisons", "none.yaml"), "none.yaml can't be read"),
        (("psr", "--out", "file"), "file"),
    ],
)
def test_wrong_input_is_one_line_and_exit_status_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], reason: str
):
    monkeypatch.chdir(tmp_path)
    plain(Path("psr"))
    Path("file").write_text("x")
    result = ier1("report", *arguments, "--examples", 0, exit_code=1)
    assert (result.stdout, result.stderr.count("\n")) == ("", 1)
    assert result.stderr.startswith("error: ")
    assert reason in result.stderr
    assert not Path("psr/report").exists()
