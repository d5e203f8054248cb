"""The scales of the rubric, read from the judge's own prompt, so that raters see the words that judges see.

read_rubric(render("judge", request="")).scales[0]
-> Scale(name="fulfilment", highest=4, question="was everything done that was asked for?",
         levels=((4, "all of it, and as asked"), (3, "nearly all; ..."), ...))
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ier1_plugin.evaluation.folder import read_run
from ier1_plugin.evaluation.judges import PIXEL
from ier1_plugin.evaluation.judges.prompt import JudgePrompt
from ier1_plugin.evaluation.records import DIMENSIONS, EvaluationError

_HEAD = re.compile(r"(?P<name>\w+), 0 to (?P<highest>\d+): (?P<question>.+)")
_LEVEL = re.compile(r"- (?P<score>\d+): (?P<words>.+)")
FORM = 'a line such as "fulfilment, 0 to 4: was it done?" and below it "- 4: all of it" down to "- 0: none of it"'

SHOWN = 12
"""Characters of a hash in a message."""


@dataclass(frozen=True)
class Scale:
    """One dimension of DIMENSIONS; levels from the highest score to 0."""

    name: str
    highest: int
    question: str
    levels: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class Rubric:
    """The scales in the order of DIMENSIONS, and the paragraph that follows them ("" if none)."""

    scales: tuple[Scale, ...]
    advice: str
    sha256: str = ""
    """Of the prompt that it was read from, as evaluation.json has it of each judge."""


def rubric(file: Path | None = None) -> Rubric:
    """The judge's own rubric, or that of another prompt. EvaluationError: it isn't in the form of FORM."""
    # raters see each request beside its images
    prompt = JudgePrompt.read(file)
    found = read_rubric(prompt.template.render(request=""), f"rubric {file}" if file else "the rubric")
    return replace(found, sha256=prompt.sha256)


def check_judges(shown_sha256: str, folder: Path) -> list[str]:
    """As `other_rubrics`. EvaluationError: every judge of the evaluation has another rubric than raters would see."""
    others = other_rubrics(shown_sha256, folder)
    if others and len(others) == len(_judges(folder)):
        raise EvaluationError(f"{others[0]}; give that rubric as --rubric FILE")
    return others


def other_rubrics(shown_sha256: str, folder: Path) -> list[str]:
    """A line for each judge of an evaluation whose rubric is not the one that raters are shown."""
    return [
        f"{judge['name']} judged {folder} by rubric {judge.get('rubric') or 'FILE'} "
        f"({judge['rubric_sha256'][:SHOWN]}), and raters see another one ({shown_sha256[:SHOWN]})"
        for judge in _judges(folder)
        if judge["rubric_sha256"] != shown_sha256
    ]


def _judges(folder: Path) -> list[dict[str, Any]]:
    """Those that were given a rubric. The hash of `pixel` is that of its definition."""
    judges = read_run(folder).get("judges", [])
    return [judge for judge in judges if judge.get("rubric_sha256") and judge["name"] != PIXEL]


def read_rubric(text: str, place: str = "the rubric") -> Rubric:
    """EvaluationError: a scale of DIMENSIONS is missing, stands there twice or has not all its levels."""
    found: dict[str, Scale] = {}
    paragraphs = [part.strip() for part in text.split("\n\n") if part.strip()]
    last = 0
    for number, paragraph in enumerate(paragraphs):
        scale = _scale(paragraph)
        if scale is None:
            continue
        if scale.name in found:
            raise EvaluationError(f"{place} has the scale {scale.name} twice")
        found[scale.name], last = scale, number
    for name, highest in DIMENSIONS.items():
        if name not in found or [score for score, _ in found[name].levels] != list(range(highest, -1, -1)):
            raise EvaluationError(f"{place} does not show {name} from {highest} to 0; wanted {FORM}")
    after = paragraphs[last + 1] if last + 1 < len(paragraphs) else ""
    return Rubric(tuple(found[name] for name in DIMENSIONS), "" if after.startswith("Answer") else after)


def _scale(paragraph: str) -> Scale | None:
    head, *lines = [line.strip() for line in paragraph.splitlines()]
    title = _HEAD.fullmatch(head)
    if not title or title["name"] not in DIMENSIONS:
        return None
    levels = [level for line in lines if (level := _LEVEL.fullmatch(line))]
    return Scale(
        title["name"],
        int(title["highest"]),
        title["question"],
        tuple((int(level["score"]), level["words"]) for level in levels),
    )
