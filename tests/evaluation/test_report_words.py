"""What the page of `ier1 report` says beside its numbers: notes, names, how it was measured; and wrong input."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import pytest
from fakes.chain_helpers import ier1
from fakes.evaluation_folders import GEMINI, GPT, items, settings, write_evaluation

from ier1_plugin.evaluation.records import Score
from ier1_plugin.evaluation.report.report import make_report, write_report

SYSTEMS = {"Original": settings("original"), "Chain": settings()}


def plain(at: Path, systems: dict = SYSTEMS) -> Path:
    """Without pictures."""
    return write_evaluation(at, "psr", systems, [GPT, GEMINI], items(8), lambda *_: Score(3, 2, 2))


def text_of(at: Path, *more: object) -> str:
    """The page of a report, as it reads."""
    result = ier1("report", at, "--examples", 0, *more)
    assert result.exit_code == 0, result.output
    return unescape((at / "report" / "index.html").read_text())


def test_every_table_has_a_name_and_every_head_says_what_it_is_of(tmp_path: Path):
    text = text_of(plain(tmp_path / "psr"), "--paper")
    body = text.split("</style>")[1]
    assert body.count("<main>") == body.count("</main>") == 1
    assert body.index("<h1>") < body.index("<main>") < body.index("<table")
    tables = re.findall(r"<table[^>]*>", body)
    assert tables
    assert all(re.search(r'aria-label="[^"]+"', table) for table in tables)
    heads = re.findall(r"<th\b[^>]*>", body)
    assert {re.findall(r'scope="(\w+)"', head)[0] for head in heads} == {"col", "colgroup", "row", "rowgroup"}
    assert all('scope="colgroup"' in head for head in heads if "colspan" in head)


def test_the_page_says_how_it_was_measured(tmp_path: Path):
    text = " ".join(text_of(plain(tmp_path / "psr"), "--paper").split())
    assert "sign flips by cluster, all of them up to 13 clusters and 9,999 at random beyond" in text
    assert "posts, photos or crops" in text
    assert "over requests, not over trainings; where a row has several runs, their own means stand below it" in text
    assert "not judged yet" in text
    assert "With and without goals: subject and action rewards take a similar course" in text


def test_the_page_tells_the_facts_of_every_folder_and_every_judge(tmp_path: Path):
    one = plain(tmp_path / "one")
    other = write_evaluation(tmp_path / "more", "psr", SYSTEMS, [GPT], items(9), lambda *_: Score(3, 2, 2), samples=2)
    text = text_of(one, other, "--out", one / "report")
    assert "sampled 8 (one), 9 (more)" in text
    assert "samples 1 (one), 2 (more)" in text
    assert "judged 2026-11-24" in text
    assert "sanity not tried" in text


def test_the_papers_tables_stand_beside_what_they_are_read_with(tmp_path: Path):
    at = plain(tmp_path / "psr")
    (at / "comparisons.yaml").write_text("With and without:\n  a: Original\n  b: Chain\n")
    for more, order in (
        (
            ("--comparisons", at / "comparisons.yaml"),
            ["With and without", "The paper's Table 4", "The paper's Table 3"],
        ),
        ((), ["By part of the score", "The paper's Table 3", "The paper's Table 4"]),
    ):
        text = text_of(at, "--paper", *more).split("<main>")[1]
        places = [text.index(f">{title}") for title in order]
        assert places == sorted(places)
        assert (places[1] < text.index("By part of the score")) == bool(more)


def test_several_runs_stand_on_the_page_below_their_mean(tmp_path: Path):
    at = plain(tmp_path / "psr", SYSTEMS | {"Chain 2": settings(seed=2)})
    (at / "comparisons.yaml").write_text("Runs:\n  a: Original\n  b: [Chain, Chain 2]\n")
    assert "<small>runs 7.00, 7.00</small>" in text_of(at, "--comparisons", at / "comparisons.yaml")


def test_words_of_users_and_judges_cannot_become_markup(tmp_path: Path):
    at = plain(tmp_path / "psr", {"<b>Original</b>": settings("original"), "Chain": settings()})
    for file in (at / "items.jsonl", *(at / "judgements").iterdir()):
        file.write_text(
            file.read_text().replace("brighten it", "<script>alert(1)</script>").replace("Fulfilment", "<img>")
        )
    result = ier1("report", at, "--out", tmp_path / "out", "--examples", 8)
    assert result.exit_code == 0, result.output
    text = (tmp_path / "out" / "index.html").read_text()
    assert "<script" not in text
    assert "<img>" not in text
    assert "<b>Original" not in text
    assert "&lt;script&gt;alert(1)" in text


def test_notes_are_told_on_the_page_in_markdown_and_on_standard_error(tmp_path: Path):
    at = plain(tmp_path / "psr", {"Chain": settings(), "Other": settings(steps=3)})
    result = ier1("report", at, "--examples", 0)
    note = "Chain has no gain: no system hands its editor, in its settings, the request as it is"
    assert f"note: {note}" in result.stderr
    assert note in (at / "report" / "index.html").read_text()
    assert note in (at / "report" / "report.md").read_text()


def test_without_matplotlib_there_are_tables_and_a_line_that_says_why_no_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    made = make_report([plain(tmp_path / "psr")], None, 0)
    files = write_report(made, tmp_path / "out", paper=False, examples=0)
    assert [file.name for file in files] == ["index.html", "report.md", "tables.tex", "table1.csv", "scores.csv"]
    assert "matplotlib is not installed" in files[0].read_text()


WRONG = {
    "no folder": (("nowhere",), "nowhere holds no evaluation.json"),
    "not an evaluation": (("empty",), "empty holds no evaluation.json"),
    "no comparisons": (("psr", "--comparisons", "none.yaml"), "none.yaml can't be read"),
    "out is a file": (("psr", "--out", "file"), "file"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_line_and_exit_status_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str):
    monkeypatch.chdir(tmp_path)
    plain(Path("psr"))
    Path("empty").mkdir()
    Path("file").write_text("x")
    arguments, reason = WRONG[case]
    result = ier1("report", *arguments, "--examples", 0)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert reason in result.stderr
    assert result.stderr.count("\n") == 1
    assert not Path("psr/report").exists()
