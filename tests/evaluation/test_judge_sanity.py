"""The sanity set: a judge that looks at everything passes; one that leaves out anything is failed, and told of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes.annotator_server import completion
from fakes.judge_runs import completion_of, environment, fake
from fakes.judge_server import serve_judge, verdict
from fakes.real_photos import real_photo
from PIL import Image

from ier1_plugin.chat import RequestRejected
from ier1_plugin.editors.pillow.operations import OPERATIONS
from ier1_plugin.evaluation.judges import make_judge
from ier1_plugin.evaluation.judges.base import Case, Judge
from ier1_plugin.evaluation.judges.sanity import EXPECTATIONS, KINDS, SCALES, check_judge
from ier1_plugin.evaluation.records import BenchmarkItem, EvaluationError, Score
from ier1_plugin.pipeline.trace import save_image

__all__ = ["environment"]

EDITS = ("invert", "sepia", "mirror", "pixelate", "captionSALE", "borderred")
SIZE = (96, 64)


@pytest.fixture
def items(tmp_path: Path) -> list[BenchmarkItem]:
    """Real photographs, each with another edit that Pillow makes exactly."""
    return [made(tmp_path, number, name) for number, name in enumerate(EDITS)]


def made(folder: Path, number: int, name: str) -> BenchmarkItem:
    operation = OPERATIONS[name]
    # another part of the photograph for each item
    photo = real_photo(size=(300, 200)).crop((20 * number, 10 * number, 20 * number + SIZE[0], 10 * number + SIZE[1]))
    source, gold = folder / f"{name}.png", folder / f"{name}.gold.png"
    save_image(source, photo)
    save_image(gold, operation.apply(photo, None))
    request = f"make it {operation.goal}"
    return BenchmarkItem(name, request, str(source), name, (operation.action,), gold_image=str(gold))


def distance(first: Image.Image, second: Image.Image) -> float:
    one, other = (np.asarray(image.resize((32, 32)), dtype=float) for image in (first, second))
    return float(abs(one - other).mean())


def looks(case: Case) -> Score:
    """A judge with eyes: it knows the edits by name and sees what became of the photo."""
    goal = case.request.removeprefix("make it ")
    operation = next(operation for operation in OPERATIONS.values() if operation.goal == goal)
    wanted = operation.apply(case.source, None)
    near = distance(case.edited, wanted) < 5
    kept = near or distance(case.edited, case.source) < 60
    broken = np.asarray(case.edited).max() == 0
    return Score(4 if near else 0, 0 if broken else 3, 0 if broken else 3 if kept else 1)


def judge_of(opinion: Callable[[Case], Score], name: str = "fake") -> Judge:
    return Judge(name, lambda case, sample, attempt: completion_of(opinion(case)), "rubric")


def draw(*parts: object) -> int:
    from hashlib import sha256

    return int(sha256(repr(parts).encode()).hexdigest()[:8], 16)


BLANK = Image.new("RGB", SIZE, "grey")
BLIND: dict[str, Callable[[Case], Score]] = {
    "to both images": lambda case: Score(3, 2, 2),
    "to everything but the request": lambda case: Score(len(case.request) % 5, 2, 2),
    "to the request": lambda case: Score(3 if np.asarray(case.edited).any() else 0, 3, 3),
    "to the edited image": lambda case: looks(replace(case, edited=case.source)),
    "to the source image": lambda case: Score(
        2 if np.asarray(case.edited).any() else 0, 3 if np.asarray(case.edited).any() else 0, 2
    ),
    "and guesses": lambda case: Score(*(draw(case.request, case.edited.tobytes(), n) % n for n in (5, 4, 4))),
    "and upside down": lambda case: Score(
        *(most - value for most, value in zip((4, 3, 3), numbers(looks(case)), strict=True))
    ),
}


def numbers(score: Score) -> tuple[int, int, int]:
    return score.fulfilment, score.quality, score.preservation


def test_a_judge_that_looks_passes(items: list[BenchmarkItem], tmp_path: Path):
    report = check_judge(judge_of(looks), items, tmp_path / "sanity")
    assert report.failed == ()
    assert report.table().endswith("fake passed")
    assert {kind: len(scores) for kind, scores in report.scores.items()} == dict.fromkeys(KINDS, len(items))


def test_the_pixel_judge_passes(items: list[BenchmarkItem], tmp_path: Path):
    report = check_judge(make_judge("pixel"), items, tmp_path / "sanity")
    assert report.failed == ()
    assert report.mean("gold edit", "total") == 10
    assert [report.mean("untouched copy", name) for name in SCALES] == [0, 3, 3, 6]


@pytest.mark.parametrize("blind", BLIND)
def test_a_judge_that_is_blind_is_failed(blind: str, items: list[BenchmarkItem], tmp_path: Path):
    report = check_judge(judge_of(BLIND[blind]), items, tmp_path / "sanity")
    assert report.failed
    assert "FAILED" in report.table()


def test_a_served_judge_that_ignores_its_images_is_failed_and_the_table_says_why(
    items: list[BenchmarkItem], tmp_path: Path
):
    with serve_judge(lambda _: completion(verdict(Score(4, 3, 3)))) as server:
        judge = make_judge(f"openai:{server.url}#fake-vlm")
        report = check_judge(judge, items, tmp_path / "sanity")
        # what is paid for is kept
        check_judge(judge, items, tmp_path / "sanity")
    assert len(server.log) == len(KINDS) * len(items)
    assert report.failed
    table = report.table()
    assert table.endswith(f"{judge.name} FAILED {len(EXPECTATIONS)} of {len(EXPECTATIONS)} checks")
    assert (
        "FAILED quality: gold edit over black image +0.00 (wanted +0.30 or more): it does not see that there" in table
    )
    assert "it does not compare with the source image" in table


def test_a_judge_that_answers_nothing_is_failed_with_its_reason(items: list[BenchmarkItem], tmp_path: Path):
    judge, _ = fake(RequestRejected("no", filtered=True))
    report = check_judge(judge, items, tmp_path / "sanity")
    assert report.failed
    assert "black image: refusal: no" in report.table()
    assert "too few items have both scores" in report.table()


def test_a_judge_that_refuses_most_of_one_kind_is_failed(items: list[BenchmarkItem], tmp_path: Path):
    def opinion(case: Case) -> Score:
        if not np.asarray(case.edited).any() and "sepia" not in case.request:
            raise RequestRejected("black", filtered=True)
        return looks(case)

    report = check_judge(judge_of(opinion), items, tmp_path / "sanity")
    assert report.failed
    assert len(report.scores["black image"]) == 1


def test_an_edit_that_a_person_made_serves_where_there_is_no_gold_edit(items: list[BenchmarkItem], tmp_path: Path):
    by_people = [replace(item, gold_image=None, human_images=(str(item.gold_image),)) for item in items]
    assert check_judge(judge_of(looks), by_people, tmp_path / "sanity").failed == ()


def test_another_request_asks_for_other_actions_where_there_is_one(items: list[BenchmarkItem], tmp_path: Path):
    asked: list[tuple[bytes, str]] = []

    def note(case: Case) -> Score:
        asked.append((case.source.tobytes(), case.request))
        return looks(case)

    check_judge(judge_of(note), items, tmp_path / "sanity", jobs=1)
    sepia = next(item for item in items if item.id == "sepia")
    photo = Image.open(sepia.image).tobytes()
    assert {request for source, request in asked if source == photo} == {sepia.request, items[2].request}


@pytest.mark.parametrize(
    ("keep", "words"),
    [
        (lambda items: items[:1], "1 items have a gold or human edit"),
        (lambda items: [replace(item, gold_image=None) for item in items], "0 items have a gold or human edit"),
        (lambda items: [items[0], replace(items[0], id="twin", cluster="twin")], "has both another photo and another"),
    ],
)
def test_too_few_items_to_tell_are_an_error(
    keep: Callable[[list[BenchmarkItem]], list[BenchmarkItem]], words: str, items: list[BenchmarkItem], tmp_path: Path
):
    with pytest.raises(EvaluationError, match=words):
        check_judge(judge_of(looks), keep(items), tmp_path / "sanity")
