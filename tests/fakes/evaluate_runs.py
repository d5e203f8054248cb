"""What the tests of `ier1 evaluate` share: a small benchmark, systems that compute, a judge behind loopback HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.chat_fakes import photo
from fakes.chat_server import ChatServer
from fakes.commands import ier1
from fakes.judge_server import serve_judge

from ier1_plugin.evaluation.folder import read_judgements
from ier1_plugin.evaluation.records import Judgement

ITEMS = 6


@pytest.fixture(name="judge")
def a_judge() -> Iterator[ChatServer]:
    with serve_judge() as server:
        yield server


@pytest.fixture(name="benchmark")
def a_benchmark(tmp_path: Path) -> str:
    """Photos, requests, an edit by a person for most of them."""
    (tmp_path / "photos").mkdir()
    rows = []
    for number in range(ITEMS):
        photo(64, 48, seed=number).save(tmp_path / f"photos/{number}.png")
        photo(32, 48, seed=50 + number).save(tmp_path / f"photos/{number}-edit.png")
        row = {
            "id": f"item {number}",
            "image": f"photos/{number}.png",
            "request": f"flip it horizontally {'!' * number}",
        }
        rows.append(row | ({"human_images": [f"photos/{number}-edit.png"]} if number else {}))
    (tmp_path / "tiny.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return f"jsonl:{tmp_path / 'tiny.jsonl'}"


def system(name: str, **settings: Any) -> str:
    """The YAML file of a system, in the folder of the test."""
    known = {"name": name, "method": "original", "editor": "pillow"} | settings
    Path(f"{name}.yaml").write_text("".join(f"{key}: {value}\n" for key, value in known.items()), encoding="utf-8")
    return f"{name}.yaml"


def evaluate(*arguments: object, out: str = "out") -> Any:
    return ier1("evaluate", "--out", out, *arguments, exit_code=None)


def looked_at_by(server: ChatServer) -> tuple[str, ...]:
    return "--judge", f"openai:{server.url}#fake-vlm"


def facts(out: str = "out") -> dict[str, Any]:
    return json.loads(Path(out, "evaluation.json").read_text(encoding="utf-8"))


def judgements(out: str = "out") -> list[Judgement]:
    """What counts of all judges."""
    return list(read_judgements(Path(out)))


def scores(out: str = "out") -> dict[tuple[str, str], Any]:
    """(system, item) -> its score, or why it has none."""
    return {(one.system, one.item): one.score or one.unscored for one in judgements(out)}
