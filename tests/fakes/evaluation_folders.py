"""Folders as `ier1 evaluate` leaves them, with known scores, for tests of what reads them.

    write_evaluation(tmp_path / "psr", "psr", {"Original": settings("original")}, ["openai:judge"], items(12), score)

`score(item, system, judge, sample)` is a Score, or why there is none. `realistic` has real photographs, edited by the
`pillow` editor: systems that carry out more of a request get higher scores.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

from fakes.real_photos import real_photo
from PIL import Image

from ier1_plugin.data.items import Item
from ier1_plugin.editors import EditError, make_editor
from ier1_plugin.evaluation.folder import JUDGEMENTS
from ier1_plugin.evaluation.judges.prompt import JudgePrompt
from ier1_plugin.evaluation.records import BenchmarkItem, Judgement, Score
from ier1_plugin.pipeline.batch_folder import BatchFolder
from ier1_plugin.pipeline.chain import ImageEditR1
from ier1_plugin.pipeline.system import System
from ier1_plugin.runs.folder import write
from ier1_plugin.runs.store import Store as Records
from ier1_plugin.task.images import png_bytes
from ier1_plugin.task.schema import CHAIN, ORIGINAL, Plan

GPT, GEMINI = "openai:gpt-4o-2024-11-20", "gemini:gemini-2.5-flash"
RUBRIC = JudgePrompt.read().sha256
DATE = "2026-11-24T10:00:00+00:00"
Scorer = Callable[[str, str, str, int], Score | str]

PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")
REQUESTS: tuple[tuple[str, tuple[str, ...], str, tuple[str, ...]], ...] = (
    (
        "could someone make this black and white and mirror it? it's for my mum's birthday",
        ("Adjust", "Transform"),
        "low",
        ("Adjust photo: black and white", "Transform photo to flipped horizontally"),
    ),
    ("brighten it up, it came out far too dark", ("Relighting",), "low", ("Relighting photo to brighter",)),
    (
        "blur it a little, warm the light and turn it upside down please",
        ("Apply", "Relighting", "Transform"),
        "high",
        ("Apply blur to photo", "Relighting photo to warmer", "Transform photo to flipped vertically"),
    ),
    (
        "give it an old-time sepia look and more contrast",
        ("Apply", "Adjust"),
        "medium",
        ("Apply sepia to photo", "Adjust photo: more contrast"),
    ),
)


def settings(method: str = CHAIN, editor: str = "flux-kontext", **more: Any) -> dict[str, Any]:
    """Of a system, as evaluation.json holds them."""
    system = System(method=method, editor=editor, **more)
    return {name: value for name, value in vars(system).items() if name != "name"}


def items(count: int, each: int = 1) -> list[BenchmarkItem]:
    """`each` of them in a cluster."""
    made = []
    for number in range(count):
        request, actions, difficulty, _ = REQUESTS[number % len(REQUESTS)]
        name = f"item-{number:04d}"
        image = f"inputs/{name}.png"
        made.append(BenchmarkItem(name, request, image, f"post-{number // each}", actions, difficulty))
    return made


def write_evaluation(
    out: Path,
    benchmark: str,
    systems: Mapping[str, Mapping[str, Any]],
    judges: Sequence[str],
    made: Sequence[BenchmarkItem],
    score: Scorer,
    samples: int = 1,
    date: str = DATE,
) -> Path:
    """The folder, without pictures."""
    facts = {
        "benchmark": {"name": benchmark, "origin": "tests", "revision": "1", "seed": 0, "sampled": len(made)},
        "systems": [
            {"name": name, "folder": f"systems/{Item(name).name}", "settings": dict(own)}
            for name, own in systems.items()
        ],
        "judges": [
            {"name": judge, "rubric_sha256": RUBRIC, "rubric": "judge.jinja", "samples": samples, "date": date}
            for judge in judges
        ],
        "prices": None,
        "imageedit_r1": "0.1.0",
    }
    write(out / "evaluation.json", json.dumps(facts))
    write(out / "items.jsonl", "".join(json.dumps(asdict(item)) + "\n" for item in made))
    asked = product(judges, systems, made, range(samples))
    add_judgements(
        out,
        (
            judgement(item, system, judge, sample, score(item.id, system, judge, sample), date)
            for judge, system, item, sample in asked
        ),
    )
    return out


def add_judgements(out: Path, judgements: Iterable[Judgement]) -> None:
    """Appends them to the evaluation's store."""
    with Records(out / JUDGEMENTS) as store:
        for one in judgements:
            store.append(repr(one.key), asdict(one))


def rewrite_judgements(out: Path, change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> None:
    """Puts `change(record)` in place of every record; None leaves it out."""
    with Records(out / JUDGEMENTS) as store:
        before = list(store)
    (out / JUDGEMENTS).unlink()
    with Records(out / JUDGEMENTS) as store:
        for key, record in before:
            if after := change(record):
                store.append(key, after)


def judgement(
    item: BenchmarkItem, system: str, judge: str, sample: int, score: Score | str, date: str = DATE, **more: Any
) -> Judgement:
    hashes = [sha256(text.encode()).hexdigest() for text in (item.id, f"{item.id} {system}", item.request)]
    if isinstance(score, Score):
        more = {"score": score, "reply": f"Fulfilment {score.fulfilment}, quality {score.quality}."} | more
    else:
        more = {"score": None, "unscored": score} | more
    own: dict[str, Any] = dict(zip(("source_sha256", "edited_sha256", "request_sha256"), hashes, strict=True))
    own |= {"rubric_sha256": RUBRIC, "seconds": 0.2, "date": date}
    return Judgement(item.id, system, judge, sample, **own | more)


RL = "openai:http://127.0.0.1:8000/v1#rl"
PAPER_LIKE: dict[str, tuple[dict[str, Any], float]] = {
    "SeedEdit": (settings(ORIGINAL, "folder:seededit"), 0.8),
    "FLUX.1-Kontext-dev": (settings(ORIGINAL), 0.45),
    "ImageEdit-R1 without RL": (settings(decomposer="openai:http://127.0.0.1:8001/v1#base"), 0.55),
    "ImageEdit-R1": (settings(decomposer=RL), 0.9),
    "ImageEdit-R1, multi-turn": (settings(decomposer=RL, mode="multi-turn"), 0.7),
}
"""Settings, and the share of sub-requests that the system carries out."""
COMPARISONS = """\
With and without RL:
  without RL: ImageEdit-R1 without RL
  with RL: ImageEdit-R1
Training rows:
  0: ImageEdit-R1 without RL
  4000: [ImageEdit-R1, "ImageEdit-R1, multi-turn"]
"""


def realistic(out: Path, benchmark: str, count: int, side: int = 320) -> Path:
    """PAPER_LIKE systems on real photographs; some edits fail, some judgements are refused."""
    made, done = items(count, each=2), {}
    chain = ImageEditR1(None, None, _editor)
    for number, item in enumerate(made):
        photo = real_photo(PHOTOS[number % len(PHOTOS)])
        photo.thumbnail((side, side))
        write(out / item.image, png_bytes(photo))
        wanted = REQUESTS[number % len(REQUESTS)][3]
        for name, (_, skill) in PAPER_LIKE.items():
            luck = random.Random(f"{benchmark}{number}{name}")
            carried_out = tuple(one for one in wanted if luck.random() < skill) or ("Leave photo as it is",)
            job = Item(item.id, str(out / item.image), item.request)
            with BatchFolder(out / "systems" / Item(name).name).opened({"name": name}) as store:
                if luck.random() < 0.1:
                    store.keep_error(job, "edit", "the editor gave up")
                    continue
                store.keep_result(job, chain.edit(photo, Plan(item.request, carried_out), mode="multi-turn"))
                done[item.id, name] = skill

    def score(item: str, system: str, judge: str, sample: int) -> Score | str:
        luck = random.Random(f"{benchmark}{item}{system}{judge}{sample}")
        if (item, system) not in done:
            return "missing image: the editor gave up"
        if luck.random() < 0.02:
            return "refusal: I can't help with that"
        return Score(round(4 * done[item, system]), luck.choice((2, 3, 3)), luck.choice((1, 2, 3)))

    systems = {name: own for name, (own, _) in PAPER_LIKE.items()}
    return write_evaluation(out, benchmark, systems, [GPT, GEMINI], made, score)


def _editor(image: Image.Image, instruction: str, seed: int) -> Image.Image:
    with suppress(EditError):
        return make_editor("pillow")(image, instruction, seed)
    return image.copy()
