"""`ier1 report --agreement`: what `ier1 agreement --json` wrote, as a table like the paper's Table 3; broken files."""

from __future__ import annotations

import csv
import json
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from fakes.commands import ier1
from fakes.evaluation_folders import GEMINI, GPT, items, settings, write_evaluation

from ier1_plugin.evaluation.agreement.agreement import Resampling, agreement
from ier1_plugin.evaluation.agreement.ratings import Rating
from ier1_plugin.evaluation.records import DIMENSIONS, EvaluationError, Score
from ier1_plugin.evaluation.report.agreement import agreement_table, read_agreement


def ratings(count: int = 24) -> list[Rating]:
    """Three people who mostly agree, a judge that follows them and one that always says the same."""
    made = []
    for dimension, highest in DIMENSIONS.items():
        for number in range(count):
            truth = number % (highest + 1)
            said = {f"rater-{one}": min(highest, truth + (number % (7 + one) == 0)) for one in range(3)}
            said |= {f"judge:{GPT}": max(0, truth - (number % 5 == 0)), f"judge:{GEMINI}": 2}
            made += [Rating(f"item-{number}", who, dimension, float(score), "") for who, score in said.items()]
    return made


@pytest.fixture(scope="module")
def found() -> Any:
    pytest.importorskip("krippendorff")
    return agreement(ratings(), Resampling(number=200))


@pytest.fixture(scope="module")
def file(found: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("agreement") / "agreement.json"
    file.write_text(json.dumps(found, allow_nan=False))
    return file


@pytest.fixture
def evaluated(tmp_path: Path) -> Path:
    systems = {"Original": settings("original"), "Chain": settings()}
    return write_evaluation(tmp_path / "psr", "psr", systems, [GPT], items(8), lambda *_: Score(3, 2, 2))


def test_the_table_has_the_layout_of_table_3_with_every_value_and_interval(file: Path, found: Any):
    cells = agreement_table(read_agreement(file)).cells
    assert [*cells.columns] == [("Fulfilment", "0–4"), ("Quality", "0–3"), ("Preservation", "0–3")]
    people, ceiling = "Correlation of gpt-4o-2024-11-20 with people", "Humans with one another: the ceiling"
    for line, rater, measure in (
        (("Mean rating", "Human"), "humans", "mean"),
        (("Mean rating", "gpt-4o-2024-11-20"), f"judge:{GPT}", "mean"),
        ((people, "Pearson"), f"judge:{GPT}", "pearson"),
        ((people, "Spearman"), f"judge:{GPT}", "spearman"),
        ((people, "Kendall's tau-b"), f"judge:{GPT}", "kendall"),
        ((ceiling, "Spearman"), "humans", "ceiling_spearman"),
        ((ceiling, "Krippendorff's alpha, ordinal"), "humans", "krippendorff_alpha"),
    ):
        entries = [found[dimension][rater][measure] for dimension in DIMENSIONS]
        wanted = [f"{one['value']:.2f} [{one['low']:.2f}, {one['high']:.2f}] n = {one['n']}" for one in entries]
        assert [str(cell) for cell in cells.loc[line]] == wanted
    # a judge that always says the same correlates with nobody
    assert {str(cell) for cell in cells.loc["Correlation of gemini-2.5-flash with people", "Pearson"]} == {"n/a"}


def test_it_stands_in_every_file_and_beside_the_papers_table_3_and_is_gone_in_the_next_report(
    file: Path, evaluated: Path, found: Any
):
    ier1("report", evaluated, "--agreement", file, "--paper", "--examples", 0)
    out = evaluated / "report"
    pearson = found["quality"][f"judge:{GPT}"]["pearson"]["value"]
    for name in ("index.html", "report.md", "tables.tex"):
        text = unescape((out / name).read_text())
        # a title of ours, then the paper's
        ours, quoted = text.index("Agreement of the judges with people"), text.index("The paper's Table 3")
        assert f"{pearson:.2f}" in text[ours:quoted]
        assert "The paper's Table 4" not in text[ours:quoted]
    with (out / "agreement.csv").open() as lines:
        rows = {(row["dimension"], row["rater"], row["measure"]): row for row in csv.DictReader(lines)}
    assert float(rows["quality", f"judge:{GPT}", "pearson"]["value"]) == pytest.approx(pearson, abs=1e-5)
    undefined = rows["fulfilment", f"judge:{GEMINI}", "pearson"]
    assert [undefined[name] for name in ("value", "low", "high", "n")] == ["", "", "", "24"]
    ier1("report", evaluated, "--examples", 0)
    assert not (out / "agreement.csv").exists()
    assert 'id="agreement"' not in (out / "index.html").read_text()


def test_measures_that_the_table_does_not_know_are_left_alone(file: Path, found: Any, tmp_path: Path):
    more = json.loads(json.dumps(found))
    more["quality"]["humans"] |= {"ceiling_spearman_by_group": {"value": 0.1, "groups": 3}, "new": "anything"}
    (tmp_path / "more.json").write_text(json.dumps(more))
    tables = [agreement_table(read_agreement(one)) for one in (tmp_path / "more.json", file)]
    assert tables[0].cells.equals(tables[1].cells)


ENTRY = '{"value": 1.0, "low": 0.5, "high": 1.5, "n": 3}'
NOT_WRITTEN = "is not what `ier1 agreement --json FILE` writes"
BROKEN = {
    "gone": (None, "can't be read"),
    "bytes": ("\x00\xff", NOT_WRITTEN),
    "empty": ("{}", NOT_WRITTEN),
    "no humans": ('{"quality": {"judge:x": {}}}', f"{NOT_WRITTEN}: 'humans'"),
    "a bare number": ('{"quality": {"humans": {"mean": 2.5}}}', NOT_WRITTEN),
    "text for a number": (f'{{"quality": {{"humans": {{"mean": {ENTRY.replace("0.5", chr(34) * 2)}}}}}}}', NOT_WRITTEN),
    "no n": ('{"quality": {"humans": {"mean": {"value": 1, "low": 1, "high": 1, "n": null}}}}', NOT_WRITTEN),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_one_line(tmp_path: Path, case: str):
    text, reason = BROKEN[case]
    at = tmp_path / "agreement.json"
    if text is not None:
        at.write_text(text, encoding="latin-1")
    with pytest.raises(EvaluationError) as caught:
        read_agreement(at)
    assert reason in str(caught.value)
    assert str(at) in str(caught.value)
    assert "\n" not in str(caught.value)
