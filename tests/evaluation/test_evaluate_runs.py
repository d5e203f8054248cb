"""`ier1 evaluate` as a process that is killed, with images as bytes, with a package or a folder missing."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes.chain_helpers import no_settings_from_outside, one_line
from fakes.chat_fakes import photo
from fakes.evaluate_runs import (
    ITEMS,
    a_benchmark,
    a_judge,
    evaluate,
    facts,
    judgements,
    looked_at_by,
    scores,
    system,
)
from fakes.judge_server import JudgeServer
from PIL import Image

from ier1_plugin.evaluation.records import BenchmarkItem
from ier1_plugin.pipeline.system import System, run_settings

__all__ = ["a_benchmark", "a_judge", "no_settings_from_outside"]

ROOT = Path(__file__).parents[2]


def command(benchmark: str, out: str, judge: JudgeServer) -> list[str]:
    arguments = ["--benchmark", benchmark, "--out", out, "--system", "Original.yaml", "--samples", "4", "-j", "2"]
    return [sys.executable, "-m", "ier1_plugin.cli.main", "evaluate", *arguments, *looked_at_by(judge)]


@pytest.mark.full
def test_an_evaluation_that_is_killed_at_twenty_moments_ends_like_an_undisturbed_one(
    benchmark: str, judge: JudgeServer
):
    system("Original")
    judge.delay = 0.25
    rows = Path("tiny.jsonl").read_text()
    # other words each time, as equal questions are asked once
    more = (rows.replace("horizontally", f"horizontally {'!' * 6 * copy}") for copy in range(1, 4))
    Path("tiny.jsonl").write_text(rows + "".join(more))
    subprocess.run(command(benchmark, "calm", judge), check=True, capture_output=True, timeout=300)
    calm, draw, kills = len(judge.log), random.Random(7), 0
    while kills < 20:
        process = subprocess.Popen(
            command(benchmark, "torn", judge), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        wait_for_progress(process, draw)
        process.send_signal(signal.SIGKILL)
        if process.wait(60) == 0:
            break
        kills += 1
    assert kills == 20
    subprocess.run(command(benchmark, "torn", judge), check=True, capture_output=True, timeout=300)
    # no more than what was under way is asked for again
    assert len(judge.log) - calm <= calm + 2 * kills
    assert outcome("torn") == outcome("calm")
    assert Path("torn/sample.txt").read_text() == Path("calm/sample.txt").read_text()
    assert len(list(Path("torn/systems/Original/images").iterdir())) == 4 * ITEMS
    assert not list(Path("torn").rglob("*.part"))


def outcome(out: str) -> dict[tuple[str, int], Any]:
    return {(one.item, one.sample): one.score for one in judgements(out)}


def wait_for_progress(process: subprocess.Popen[bytes], draw: random.Random) -> None:
    """Returns some time after the run has written something, so that kills fall into every phase."""

    def written() -> int:
        files = [file for file in Path("torn").rglob("*") if file.suffix in (".png", ".json", ".jsonl")]
        return sum(file.stat().st_size for file in files if file.exists())

    before = written()
    while process.poll() is None and written() == before:
        time.sleep(0.005)
    time.sleep(draw.uniform(0, 0.5))


def test_images_that_come_as_bytes_are_written_out_upright_and_once(tmp_path: Path):
    buffer, edit, broken = BytesIO(), BytesIO(), b"no image"
    turned = Image.Exif()
    turned[0x0112] = 6
    photo(64, 48).save(buffer, "JPEG", exif=turned)
    photo(64, 48, seed=3).save(edit, "PNG")
    rows = [
        {
            "post_id": "1aaa",
            "instruction": "flip it horizontally" if human != broken else "mirror it, please",
            "creativity_index": "low",
            "source_image": {"bytes": buffer.getvalue(), "path": None},
            "human_edited_image": {"bytes": human, "path": None},
        }
        for human in (edit.getvalue(), edit.getvalue(), broken)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "psr.parquet")
    result = evaluate("--benchmark", "psr", "--data", "psr.parquet", "--system", system("Original"), "--human")
    assert result.exit_code == 0, result.output
    item = BenchmarkItem.from_dict(json.loads(Path("out/items.jsonl").read_text()))
    assert item.human_images == ("inputs/psr-1aaa.human-1.png",)
    assert (item.cluster, item.difficulty) == ("1aaa", "low")
    with Image.open(Path("out", item.image)) as source:
        assert source.size == (48, 64)
    assert "1 x a human edit: not an image" in result.stderr
    assert "1 x a second request of one item: 'mirror it, please'" in result.stderr
    assert os.listdir("out/systems/human/images") == ["psr-1aaa.png"]


def test_an_evaluation_goes_on_in_a_folder_that_was_moved():
    asked = (
        "--benchmark",
        "small-world:400-403",
        "--judge",
        "pixel",
        "--system",
        system("Original", editor="small-world"),
    )
    assert evaluate(*asked, out="here").exit_code == 0
    before = scores("here")
    Path("here").rename("there")
    again = evaluate(*asked, out="there")
    assert "3 images, 0 failed" in again.stderr
    assert scores("there") == before


def test_a_system_that_cannot_be_had_is_told_before_another_one_is_paid_for(benchmark: str):
    good, bad = system("Good"), system("Bad", editor="folder:nowhere")
    line = one_line(evaluate("--benchmark", benchmark, "--system", good, bad))
    assert "folder:nowhere is no folder" in line
    assert os.listdir("out") == [".lock"]
    Path("somewhere").mkdir()
    again = evaluate("--benchmark", benchmark, "--system", good, system("Bad", editor="folder:somewhere"))
    assert again.exit_code == 0, again.output
    assert [one["name"] for one in facts()["systems"]] == ["Good", "Bad"]


def test_a_package_that_is_missing_is_one_line_with_the_cure(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    line = one_line(evaluate("--benchmark", "psr", "--system", system("Original")))
    assert "datasets" in line
    assert "pip install -e '.[evaluation]'" in line


def test_an_evaluation_that_is_damaged_is_one_line(benchmark: str):
    asked = ("--benchmark", benchmark, "--system", system("Original"))
    assert evaluate(*asked).exit_code == 0
    for file in ("items.jsonl", "evaluation.json"):
        Path("out", file).write_text('{"oops": [')
        assert f"{file} is damaged" in one_line(evaluate(*asked))


def test_a_decomposer_that_was_trained_anew_in_its_folder_is_another_system(benchmark: str):
    Path("decomposer").mkdir()
    Path("decomposer/model.safetensors").write_bytes(b"first")
    chain = System(decomposer="local:decomposer", sequencer="rule", editor="pillow")
    before = run_settings(chain)
    Path("decomposer").rename("copy")
    assert run_settings(System(decomposer="local:copy"))["decomposer_sha256"] == before["decomposer_sha256"]
    Path("copy").rename("decomposer")
    assert run_settings(chain) == before
    Path("decomposer/model.safetensors").write_bytes(b"other")
    assert run_settings(chain)["decomposer_sha256"] != before["decomposer_sha256"]
