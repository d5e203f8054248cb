"""A judging run that is killed again and again ends like an undisturbed one, and asks no answered question again."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fakes.judge_runs import environment, known_scores, pairs_of
from fakes.judge_server import question_key

from ier1_plugin.evaluation.judges.store import judgements_file, read_judgements
from ier1_plugin.evaluation.records import Score

__all__ = ["environment"]

TESTS = Path(__file__).parent
JOBS, SAMPLES, KILLS = 4, 2, 20
SCORES = known_scores(systems=3, items=60)


@contextmanager
def server(failures: float, delay: float) -> Iterator[str]:
    """The address of a loopback judge in a process of its own, which outlives its clients."""
    command = [sys.executable, str(TESTS / "judge_server.py"), "--failures", str(failures), "--delay", str(delay)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


def stats(url: str) -> dict[str, dict[str, int]]:
    with urllib.request.urlopen(url.replace("/v1", "/stats")) as answer:
        return json.load(answer)


def prepared(folder: Path) -> Path:
    pairs = [(pair.item.as_dict(), pair.system, str(pair.edited)) for pair in pairs_of(folder, SCORES)]
    random.Random(1).shuffle(pairs)
    (folder / "pairs.json").write_text(json.dumps(pairs))
    return folder


def start(folder: Path, url: str) -> subprocess.Popen[str]:
    options = ["--samples", str(SAMPLES), "--jobs", str(JOBS)]
    command = [sys.executable, str(TESTS / "judge_runs.py"), str(folder), f"openai:{url}#fake-vlm", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "begins\n"
    return process


def table(folder: Path, url: str) -> dict[tuple[str, str, int], Score | None]:
    file = judgements_file(folder, f"openai:{url}#fake-vlm")
    if not file.exists():
        return {}
    found = list(read_judgements(file))
    assert not [judgement.unscored for judgement in found if not judgement.score]
    return {(judgement.system, judgement.item, judgement.sample): judgement.score for judgement in found}


def questions(known: dict[tuple[str, str, int], Score | None]) -> set[str]:
    """What the server calls the questions of these judgements."""
    return {question_key(f"remove the {item}", SCORES[system, item], sample) for system, item, sample in known}


@pytest.mark.full
def test_a_run_that_is_killed_at_twenty_random_moments_ends_with_the_known_scores_and_asks_nothing_twice(
    tmp_path: Path,
):
    folder, rng, kills = prepared(tmp_path), random.Random(0), 0
    settled: dict[str, int] = {}
    with server(failures=0.33, delay=0.1) as url:
        while kills < KILLS:
            process = start(folder, url)
            time.sleep(rng.uniform(0, 0.5))
            process.kill()
            process.communicate()
            assert process.returncode == -9, "the run had ended before it could be killed"
            kills += 1
            asked = stats(url)
            settled = {key: asked[key]["asked"] for key in questions(table(folder, url))} | settled
        process = start(folder, url)
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        asked = stats(url)
    wanted = {(system, item, sample): score for (system, item), score in SCORES.items() for sample in range(SAMPLES)}
    assert table(folder, url) == wanted
    # what was on disk at a kill was not asked for again
    assert 100 < len(settled) < len(wanted)
    assert {key: asked[key]["asked"] for key in settled} == settled
    # only what was under way at a kill may have been answered twice
    twice = sum(count["answered"] - 1 for count in asked.values())
    assert 0 <= twice <= KILLS * JOBS
