"""A small evaluation on disk for tests of the rating page: photos, two systems, a judge; and the page's server.

folder = evaluation_folder(tmp_path / "evaluation", items=6)
with annotating(folder, "--raters", "2") as (process, links): ...
# links: {"rater-1": "http://127.0.0.1:40123/r/...", "rater-2": ...}
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fakes.evaluation_folders import GPT as JUDGE
from fakes.evaluation_folders import write_evaluation
from fakes.real_photos import real_photo
from PIL import ImageOps

from ier1_plugin import prompts
from ier1_plugin.data.items import Item
from ier1_plugin.evaluation.agreement.rating_study import RatedPair
from ier1_plugin.evaluation.records import BenchmarkItem, Score
from ier1_plugin.pipeline.batch_folder import BatchFolder
from ier1_plugin.runs.folder import write
from ier1_plugin.runs.store import Store
from ier1_plugin.task.images import png_bytes

SYSTEMS = ("secret-alpha", "secret-beta")
REQUESTS = ("make it black and white", "turn it upside down", "mirror it and make it a negative")
PHOTOS = ("astronaut.png", "coffee.png", "chelsea.png")
GOOD = {"fulfilment": 4, "quality": 2, "preservation": 3}


def evaluation_folder(folder: Path, items: int = 6, judged: bool = True) -> Path:
    """An evaluation of SYSTEMS on `items` requests; the first system failed on the last item."""
    made = [
        BenchmarkItem(f"item-{number}", REQUESTS[number % 3], f"inputs/item-{number}.png", f"post-{number // 2}")
        for number in range(items)
    ]
    write_evaluation(
        folder, "tiny", {name: {} for name in SYSTEMS}, [JUDGE] if judged else [], made, verdict, samples=2
    )
    for number, item in enumerate(made):
        photo = real_photo(PHOTOS[number % 3], (320, 240))
        write(folder / item.image, png_bytes(photo))
        for system, change in zip(SYSTEMS, (ImageOps.grayscale, ImageOps.flip), strict=True):
            if not (system == SYSTEMS[0] and number == items - 1):
                edited = change(photo).convert("RGB").resize((160, 120))
                write(BatchFolder(folder / "systems" / system).image(Item(item.id)), png_bytes(edited, system))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return evaluation_folder(tmp_path / "evaluation")


def verdict(item: str, system: str, judge: str, sample: int) -> Score | str:
    """What the judge of these evaluations says; nothing of every fifth item."""
    number = int(item[-1])
    if number % 5 == 4:
        return "refusal: no"
    return Score((number + sample) % 5, number % 4, 3 if system == SYSTEMS[0] else 1)


def kept(folder: Path, rater: str = "rater-1") -> list[dict[str, Any]]:
    """A rater's ratings in the store, oldest first."""
    file = folder / "annotation/ratings.sqlite"
    if not file.exists():
        return []
    with Store(file, read_only=True) as store:
        return [rating for _, rating in store if rating["rater"] == rater]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """`ier1 agreement ...` or `ier1 annotate ...`, to its end."""
    return subprocess.run(_command(arguments), capture_output=True, text=True, timeout=300)


@contextmanager
def annotating(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """`ier1 annotate` on a free port, and the links that it shows; interrupted at the end if it still runs.

    It is started as by a shell in the background, which has it ignore SIGINT.
    """
    command = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *_command(("annotate", folder, "--port", "0", *options))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield process, _links(process)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                try:
                    process.communicate(timeout=60)
                finally:
                    process.kill()


def edit_again(folder: Path, pair: RatedPair) -> None:
    """Another edit in the place of the one of a pair, as a later run of the editor may leave it."""
    photo = ImageOps.posterize(real_photo(PHOTOS[0], (160, 120)), 2)
    write(folder / pair.edited, png_bytes(photo))


def other_rubric(file: Path) -> Path:
    """The judge's own rubric in other words."""
    write(file, prompts.path("judge").read_text(encoding="utf-8").replace("4: all of it", "4: all"))
    return file


def _command(arguments: tuple[str | Path, ...]) -> list[str]:
    return [sys.executable, "-u", "-m", "ier1_plugin.cli.main", *map(str, arguments)]


def _links(process: subprocess.Popen[str]) -> dict[str, str]:
    assert process.stdout is not None
    links, said = {}, ""
    for line in process.stdout:
        said += line
        if found := re.search(r"(rater-\d+)\s+(http://\S+)", line):
            links[found[1]] = found[2]
        if line.startswith("Ctrl-C"):
            return links
    raise AssertionError(f"the server ended: {said}")
