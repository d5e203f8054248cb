"""What `ier1 report` costs on 20 systems x 1,000 items x 2 judges, with pictures: seconds, memory, size of the page.

    python tests/benchmarks/report.py            # a minute, most of it for making the folder

The last column is the CPU time over that of parsing the same items and judgements and doing nothing with them.
Pictures are photographs of 768 pixels; a few files stand for all of them, by hard links.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from fakes.evaluation_folders import GEMINI, GPT, add_judgements, items, judgement, settings, write_evaluation  # noqa: E402
from fakes.real_photos import real_photo  # noqa: E402
from machine import costs, machine  # noqa: E402

from ier1_plugin.data.items import Item  # noqa: E402
from ier1_plugin.evaluation.records import BenchmarkItem, Score  # noqa: E402

SYSTEMS, ITEMS, SIDE, EACH = 20, 1000, 768, 3
REPLY = "The lamp is gone and the wall behind it looks plausible; the sofa is navy, its folds are kept. " * 6
LIMIT_SECONDS, LIMIT_MIB = 10.0, 1024
REPORT = "import typer; from ier1_plugin.cli.report import report; typer.run(report)"
READ = """
import json, sqlite3, sys
for line in open(f"{sys.argv[1]}/items.jsonl", "rb"):
    json.loads(line)
for (record,) in sqlite3.connect(f"{sys.argv[1]}/judgements.sqlite").execute("SELECT record FROM records"):
    json.loads(record)
"""


def make(folder: Path) -> Path:
    """The evaluation: half of the systems are ImageEdit-R1, each with an original beside it."""
    systems = {}
    for number in range(SYSTEMS // 2):
        systems[f"Editor {number}"] = settings("original", f"editor-{number}")
        systems[f"ImageEdit-R1, editor {number}"] = settings(editor=f"editor-{number}", decomposer="openai:http://x#m")
    made = items(ITEMS, each=EACH)
    write_evaluation(folder, "psr", systems, [GPT, GEMINI], made, lambda *_: "not used", samples=0)
    add_judgements(
        folder,
        (
            replace(judgement(item, name, judge, 0, _score(item, name, judge)), reply=REPLY)
            for judge in (GPT, GEMINI)
            for name in systems
            for item in made
        ),
    )
    _pictures(folder, list(systems), made)
    return folder


def main() -> int:
    print(machine())
    print(f"{SYSTEMS} systems x {ITEMS:,} items x 2 judges, pictures of {SIDE} pixels")
    with tempfile.TemporaryDirectory() as made:
        folder = make(Path(made) / "psr")
        out = Path(made) / "report"
        _line("parsing alone", *(alone := costs("-c", READ, folder)))
        results = []
        for name, more in (("report", ()), ("without pictures", ("--examples", "0"))):
            seconds, cpu, peak = costs("-c", REPORT, folder, "--out", out, "--paper", *more)
            page = f"page {(out / 'index.html').stat().st_size / 1e6:5.2f} MB"
            _line(name, seconds, cpu, peak, f"{page}   {cpu / alone[1]:5.1f} x the CPU of parsing alone")
            results.append(seconds < LIMIT_SECONDS and peak < LIMIT_MIB)
    print(f"limits: {LIMIT_SECONDS:.0f} s, {LIMIT_MIB} MiB: {'kept' if all(results) else 'BROKEN'}")
    return 0 if all(results) else 1


def _line(name: str, seconds: float, cpu: float, peak: float, more: str = "") -> None:
    print(f"{name:<16} {seconds:6.2f} s {cpu:6.2f} s of CPU {peak:6.0f} MiB   {more}".rstrip())


def _score(item: BenchmarkItem, system: str, judge: str) -> Score | str:
    luck = random.Random(f"{item.id}{system}{judge}")
    if luck.random() < 0.02:
        return "unreadable: no score in the reply"
    better = system.startswith("ImageEdit-R1")
    return Score(luck.choice((2, 3, 4, 4) if better else (1, 2, 3, 4)), luck.choice((2, 3)), luck.choice((1, 2, 3)))


def _pictures(folder: Path, systems: list[str], made: list[BenchmarkItem]) -> None:
    (folder / "inputs").mkdir()
    photos = []
    for number, name in enumerate(("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")):
        photos.append(folder / "inputs" / f"photo-{number}.png")
        real_photo(name, (SIDE, SIDE)).save(photos[-1])
    for number, item in enumerate(made):
        os.link(photos[number % len(photos)], folder / item.image)
    plan = json.dumps({"plan": {"request": "r", "sub_requests": ["Delete lamp", "Recoloring sofa to navy"]}})
    for place, name in enumerate(systems):
        batch = folder / "systems" / Item(name).name
        for kind in ("images", "traces"):
            (batch / kind).mkdir(parents=True)
        (batch / "plan.json").write_text(plan)
        for number, item in enumerate(made):
            os.link(photos[(number + place) % len(photos)], batch / "images" / f"{item.id}.png")
            os.link(batch / "plan.json", batch / "traces" / f"{item.id}.json")


if __name__ == "__main__":
    raise SystemExit(main())
