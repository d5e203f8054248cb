"""tables.tex of a report: pdflatex takes it as it is, whatever systems are called."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from fakes.evaluation_folders import GEMINI, GPT, items, settings, write_evaluation

from ier1_plugin.evaluation.records import Score
from ier1_plugin.evaluation.report.report import make_report, write_report

LONG = "A system whose name is as long as names become when settings are part of them, steps 50, guidance 3.5"
AWKWARD = {
    "flux_kontext 100 % & #1 ~^\\ {x} $y$": settings("original"),
    f"{LONG} <b>": settings(decomposer="openai:http://127.0.0.1:8000/v1#a"),
    "ImageEdit−R1 ± “naïve” – it's | `best'…": settings(decomposer="openai:http://127.0.0.1:8000/v1#b"),
}
DOCUMENT = r"""\documentclass{article}
\usepackage{booktabs,graphicx}
\begin{document}
\input{tables}
\end{document}
"""


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tables.tex of a report in which much is missing and a row has several runs."""
    root = tmp_path_factory.mktemp("latex")

    def score(item: str, system: str, judge: str, sample: int) -> Score | str:
        number = int(item[-3:])
        return "refusal: no" if number % 5 == 0 else Score(number % 5, number % 4, len(system) % 4)

    at = write_evaluation(root / "psr_100%", "psr_100%", AWKWARD, [GPT, GEMINI], items(12), score)
    first, second, third = AWKWARD
    (root / "comparisons.yaml").write_text(_yaml({"50 % of_the & rows": {"before": first, "after": [second, third]}}))
    report = make_report([at], root / "comparisons.yaml", 0)
    write_report(report, root / "report", paper=True, examples=0)
    return root / "report" / "tables.tex"


def _yaml(values: object) -> str:
    import yaml

    return yaml.safe_dump(values, allow_unicode=True, sort_keys=False)


def test_latex_numbers_its_tables_itself(tables: Path):
    captions = re.findall(r"\\caption\{(.{30})", tables.read_text())
    assert captions[0].startswith("Scores, 0 to 10")
    assert not [caption for caption in captions if re.match(r"Table \d", caption)]
    assert "## Table 1. Scores" in (tables.parent / "report.md").read_text()


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed")
def test_pdflatex_takes_it_as_it_is(tables: Path, tmp_path: Path):
    shutil.copy(tables, tmp_path)
    (tmp_path / "report.tex").write_text(DOCUMENT)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "report.tex"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "report.pdf").stat().st_size > 10_000
    assert "undefined" not in done.stdout
    assert "Overfull" not in done.stdout
    assert "Missing character" not in done.stdout
