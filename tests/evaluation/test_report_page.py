"""`ier1 report`: its page in a browser, its files, and what it says of wrong input."""

from __future__ import annotations

import csv
import re
from base64 import b64decode
from pathlib import Path

import pytest
import typer
from fakes.browser import Page, browser, needs_browser
from fakes.chain_helpers import BRIGHTER, ier1
from fakes.chat_fakes import chat_server, reply
from fakes.evaluation_folders import COMPARISONS, GEMINI, GPT, PAPER_LIKE, items, realistic, settings, write_evaluation
from PIL import Image
from typer.testing import CliRunner, Result

from ier1_plugin.cli.report import report
from ier1_plugin.evaluation.records import BenchmarkItem, Score
from ier1_plugin.evaluation.report.examples import drawn, extremes, filled
from ier1_plugin.evaluation.scores import read_study
from ier1_plugin.task.images import open_image

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
app.command()(report)
SYSTEMS = {"Original": settings("original"), "Chain": settings()}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def plain(at: Path, systems: dict = SYSTEMS) -> Path:
    """Without pictures."""
    return write_evaluation(at, "psr", systems, [GPT, GEMINI], items(8), lambda *_: Score(3, 2, 2))


@pytest.fixture(scope="module")
def evaluations(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("evaluations")
    return [realistic(root / name, name, 12, side=128) for name in ("psr", "realedit")]


@pytest.fixture(scope="module")
def page_file(evaluations: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report")
    (out / "comparisons.yaml").write_text(COMPARISONS)
    result = run(*evaluations, "--out", out, "--comparisons", out / "comparisons.yaml", "--paper", "--examples", 2)
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(out / "index.html")
    return out / "index.html"


def unfold(page: Page) -> None:
    page.run("document.querySelectorAll('details').forEach(one => one.open = true)")
    page.wait("return [...document.images].every(image => image.complete && image.naturalWidth > 0)")


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_opens_without_network_or_console_error_and_fits_the_width(
    page_file: Path, tmp_path: Path, width: int
):
    with browser(tmp_path, width, 844) as page:
        page.open(page_file.as_uri())
        unfold(page)
        loaded = page.run("return performance.getEntriesByType('resource').map(one => one.name)")
        assert [name for name in loaded if not name.startswith("data:")] == []
        assert page.console() == []
        assert page.run("return document.documentElement.scrollWidth") <= width
        assert page.run("return document.querySelectorAll('figure img').length") > 2 * len(PAPER_LIKE)
        page.run("console.error('seen')")
        assert "seen" in page.console()[0]


@needs_browser
@pytest.mark.slow
def test_the_page_shows_plans_scores_and_reasons_of_every_system(page_file: Path, tmp_path: Path):
    with browser(tmp_path, 1280, 900) as page:
        page.open(page_file.as_uri())
        unfold(page)
        text = page.run("return document.body.innerText")
    for name in PAPER_LIKE:
        assert name in text
    for part in (
        "Single-turn and multi-turn",
        "Training rows",
        "With and without RL",
        "missing image",
        "plan and judges",
    ):
        assert part in text
    assert re.search(r"Adjust photo: black and white|Transform photo to flipped", text)
    assert "made with\timageedit-r1" in text.replace("\n", "\t")


@pytest.mark.slow
def test_the_page_stands_alone_and_is_small(page_file: Path):
    text = page_file.read_text(encoding="utf-8")
    assert re.findall(r"(?:src|href)=\"(?!data:|#)", text) == []
    assert not re.search(r"url\((?!data:)|@import|<script", text)
    assert len(text) < 10e6


@pytest.mark.slow
def test_all_files_are_there_and_agree(page_file: Path):
    out = page_file.parent
    figures = {file.name for file in (out / "figures").iterdir()}
    assert figures == {"overview.png", *(f"comparison-{number}.png" for number in (1, 2, 3))}
    with (out / "scores.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    average = next(r for r in rows if r["row"] == "SeedEdit" and r["column"] == "Average" and r["table"][:5] == "Table")
    shown = f"{float(average['mean']):.2f}"
    for name in ("index.html", "report.md", "tables.tex", "table1.csv"):
        assert shown in (out / name).read_text() or average["mean"] in (out / name).read_text()
    assert not list(out.rglob(".*"))


@pytest.mark.slow
def test_the_papers_figures_are_marked_as_quoted_and_shown_only_when_asked_for(
    evaluations: list[Path], page_file: Path
):
    asked = page_file.read_text()
    assert asked.count('class="card quoted"') == 4
    assert "ImageEdit-R1 (w/o RL)" in asked
    out = page_file.parent / "plain"
    assert run(*evaluations, "--out", out, "--examples", 0).exit_code == 0
    assert "quoted" not in (out / "index.html").read_text().split("</style>")[1]
    assert "Quoted" not in (out / "report.md").read_text()


@pytest.mark.slow
def test_the_same_seed_makes_the_same_report(evaluations: list[Path], tmp_path: Path):
    for name in ("one", "other"):
        assert run(*evaluations, "--out", tmp_path / name, "--examples", 1).exit_code == 0
    one, other = (
        {f.name: f.read_bytes() for f in (tmp_path / name).iterdir() if f.is_file()} for name in ("one", "other")
    )
    assert one == other


@pytest.mark.slow
def test_best_and_worst_are_the_ends_of_what_all_judges_scored(evaluations: list[Path]):
    study = read_study(evaluations)
    best, worst = extremes(study, "SeedEdit", "FLUX.1-Kontext-dev", 2)
    assert len({(case.benchmark, case.number) for case in [*best, *worst]}) == 4

    def mean(benchmark: str, number: int) -> float:
        return sum(study.scores[benchmark, "SeedEdit", judge].total[number] for judge in (GPT, GEMINI)) / 2

    every = sorted(
        value
        for name, one in study.benchmarks.items()
        for n in range(len(one.items))
        if (value := mean(name, n)) == value
    )
    assert [mean(case.benchmark, case.number) for case in worst] == every[:2]
    assert [mean(case.benchmark, case.number) for case in best] == every[:-3:-1]
    assert all(case.systems == ("SeedEdit", "FLUX.1-Kontext-dev") for case in best)


def test_a_picture_that_is_damaged_or_missing_is_told_in_its_place(tmp_path: Path):
    at = plain(tmp_path / "psr")
    study = read_study([at])
    (at / "inputs").mkdir()
    for item in study.benchmarks["psr"].items:
        (at / item.image).write_bytes(b"no picture")
    (case,) = filled(study, drawn(study, 1, 0))
    assert case["source"] == {"problem": "not an image (10 bytes)"}
    assert [edit["image"] for edit in case["edits"]] == [{"problem": "no image"}] * 2


@pytest.mark.slow
def test_an_edit_is_never_shown_for_that_of_another_benchmark_with_the_same_ids(tmp_path: Path):
    for name, colour in (("psr", "red"), ("realedit", "blue")):
        at = write_evaluation(tmp_path / name, name, SYSTEMS, [GPT], items(2), lambda *_: Score(3, 2, 2))
        (at / "systems/Chain/images").mkdir(parents=True)
        Image.new("RGB", (30, 20), colour).save(at / "systems/Chain/images/item-0000.png")
    study = read_study([tmp_path / "psr", tmp_path / "realedit"])
    (tmp_path / "realedit/systems/Chain/images/item-0000.png").unlink()
    shown = {case["benchmark"]: case for case in filled(study, drawn(study, 2, 0)) if case["id"] == "item-0000"}
    assert "url" in shown["psr"]["edits"][1]["image"]
    assert shown["realedit"]["edits"][1]["image"] == {"problem": "no image"}


@pytest.mark.parametrize("newest_first", [True, False])
def test_where_folders_overlap_the_edit_shown_is_the_one_whose_scores_count(tmp_path: Path, newest_first: bool):
    folders = []
    for name, colour, total in (("old", (255, 0, 0), Score(0, 0, 0)), ("new", (0, 0, 255), Score(4, 3, 3))):
        date = f"2026-11-2{len(folders)}T00:00:00+00:00"
        at = write_evaluation(tmp_path / name, "psr", SYSTEMS, [GPT], items(1), lambda *_, t=total: t, date=date)
        (at / "systems/Chain/images").mkdir(parents=True)
        Image.new("RGB", (30, 20), colour).save(at / "systems/Chain/images/item-0000.png")
        folders.append(at)
    study = read_study(folders[::-1] if newest_first else folders)
    (case,) = filled(study, drawn(study, 1, 0))
    edit = next(edit for edit in case["edits"] if edit["system"] == "Chain")
    shown = open_image(b64decode(edit["image"]["url"].partition(",")[2])).getpixel((0, 0))
    assert isinstance(shown, tuple)
    assert shown[2] > 200 > 50 > shown[0]
    assert [verdict["total"] for verdict in edit["verdicts"]] == ["10"]


def test_an_original_that_was_not_given_the_item_is_not_shown_beside_its_best_and_worst(tmp_path: Path):
    one = plain(tmp_path / "psr")
    chain = {"Chain": settings()}
    other = write_evaluation(tmp_path / "real", "realedit", chain, [GPT, GEMINI], items(4), lambda *_: Score(1, 1, 1))
    _, worst = extremes(read_study([one, other]), "Chain", "Original", 2)
    assert [(case.benchmark, case.systems) for case in worst] == [("realedit", ("Chain",))] * 2
    assert run(one, other, "--out", tmp_path / "out").exit_code == 0


def test_the_smallest_evaluation_makes_a_report_too(tmp_path: Path):
    alone = [BenchmarkItem("../ä b/1", "…", "inputs/none.png", "c")]
    at = write_evaluation(tmp_path / "one", "tiny", {"Only": settings()}, ["pixel"], alone, lambda *_: Score(0, 0, 0))
    result = run(at)
    assert result.exit_code == 0, result.output
    text = (at / "report" / "report.md").read_text()
    assert "| Only | **0.00**" not in text
    assert "| 0.00 [n/a] 100 % |" in text


def test_the_report_goes_into_the_first_folder_unless_told_otherwise(tmp_path: Path):
    at = plain(tmp_path / "psr")
    result = run(at, "--examples", 0)
    assert result.exit_code == 0, result.output
    assert (at / "report" / "index.html").is_file()
    (at / "report" / "figures" / "comparison-9.png").write_bytes(b"of an earlier report")
    assert run(at, "--examples", 0).exit_code == 0
    assert [file.name for file in (at / "report" / "figures").iterdir()] == ["overview.png"]


@pytest.fixture
def evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that `ier1 evaluate` itself has made: the small world, judged exactly."""
    pytest.importorskip("skimage")
    monkeypatch.chdir(tmp_path)
    chain = "editor: small-world\nsequencer: rule\ndecomposer: openai:{}#fake\n"
    Path("original.yaml").write_text("name: Original\neditor: small-world\nmethod: original\n")
    with chat_server(lambda body, number: reply(BRIGHTER)) as planner:
        Path("chain.yaml").write_text("name: Chain\n" + chain.format(planner.url))
        systems = ("--system", "original.yaml", "--system", "chain.yaml")
        result = ier1("evaluate", "--benchmark", "small-world:0-12", "--judge", "pixel", "--out", "out", *systems)
    assert result.exit_code == 0, result.output
    return Path("out")


@pytest.mark.slow
def test_a_folder_of_ier1_evaluate_becomes_a_report(evaluated: Path):
    result = run(evaluated)
    assert result.exit_code == 0, result.output
    text = (evaluated / "report" / "index.html").read_text()
    assert "small-world" in text
    assert "gold: what was asked for" in text
    assert text.count("data:image/jpeg") >= 12
    study = read_study([evaluated])
    assert {key[1:] for key in study.scores} == {("Original", "pixel"), ("Chain", "pixel")}
