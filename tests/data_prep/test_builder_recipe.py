"""examples/build_paper_data.sh, with files in place of the hub and a loopback server in place of the annotator."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes.annotator_server import serve
from fakes.builder_inputs import ROOT, all_rows, encoded, picture, rejected, report, write_jsonl

SCRIPT = ROOT / "examples" / "build_paper_data.sh"
COLUMNS = {"psr": ("post_id", "instruction", "source_image"), "ultraedit": ("idx", "edit_prompt", "source_image")}


def recipe(*settings: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHON": sys.executable, "OPENAI_API_KEY": "none"}
    return subprocess.run(
        ["bash", str(SCRIPT), *settings], env=environment, capture_output=True, text=True, check=False
    )


def table(folder: Path, source: str, numbers: range) -> Path:
    id, request, image = COLUMNS[source]
    raw: list[dict[str, Any]] = [
        {
            id: f"1post{n}" if source == "psr" else n,
            request: f"remove the {source} lamp {n}",
            image: {"bytes": encoded(picture(n)), "path": None},
        }
        for n in numbers
    ]
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(raw), folder / f"{source}.parquet")
    return folder / f"{source}.parquet"


@pytest.mark.slow
def test_the_recipe_builds_each_source_and_puts_them_together(tmp_path: Path):
    psr, ultraedit = table(tmp_path, "psr", range(20)), table(tmp_path, "ultraedit", range(18, 40))
    bench = write_jsonl(tmp_path, [{"post_id": "1post3"}])
    with serve() as server:
        done = recipe(
            *("annotator=fake-vlm", f"base_url={server.url}", f"output={tmp_path / 'out'}", f"exclude={bench}"),
            *(f"psr={psr}", "psr_split=", f"ultraedit={ultraedit}", "ultraedit_split=", "realedit_rows=0"),
            *("psr_rows=15", "votes=1", "val_fraction=0.2"),
        )
    assert done.returncode == 0, done.stderr
    assert set(rejected(tmp_path / "out" / "parts" / "psr")) == {"psr-1post3"}
    assert report(tmp_path / "out" / "parts" / "psr")["options"]["annotator"] == "fake-vlm"
    assert {source: sum(counts.values()) for source, counts in report(tmp_path / "out")["by_source"].items()} == {
        "psr": 14,
        "ultraedit": 22,
    }
    assert len(all_rows(tmp_path / "out")) == 36


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ("output=x", "annotator=MODEL is needed"),
        ("anotator=x", "not one of the settings"),
        ("--help", "wanted key=value"),
    ],
)
def test_a_wrong_setting_is_one_line(setting: str, complaint: str):
    done = recipe(setting)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert complaint in line


def test_a_missing_benchmark_stops_the_recipe_before_anything_is_paid(tmp_path: Path):
    with serve() as server:
        done = recipe(
            "annotator=fake-vlm", f"base_url={server.url}", f"output={tmp_path}", f"exclude={tmp_path / 'no'}"
        )
        assert server.total == 0
    assert done.returncode == 1
    assert "--exclude: there is no file or folder" in done.stderr
