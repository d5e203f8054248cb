"""What an evaluation is made of: an item of a benchmark, a score, a judgement.

BenchmarkItem(id="psr-1a2b", request="remove the lamp", image="inputs/psr-1a2b.png", cluster="1a2b",
              actions=("Delete",), difficulty="low")
Judgement(item="psr-1a2b", system="flux", judge="openai:gpt-4o-2024-11-20", score=Score(4, 2, 3), ...).total    # 9
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from ier1_plugin.runs.errors import UserError

DIMENSIONS = {"fulfilment": 4, "quality": 3, "preservation": 3}
"""Highest score of each dimension; the lowest is 0 (paper, Table 2)."""
HIGHEST = sum(DIMENSIONS.values())


class EvaluationError(UserError):
    """An evaluation that can't begin or continue."""


@dataclass(frozen=True)
class BenchmarkItem:
    """One request of a benchmark. Paths are relative to the folder of the evaluation, or absolute."""

    id: str
    request: str
    image: str
    cluster: str
    """Items of one post or photo, resampled together; the id if every item is independent."""
    actions: tuple[str, ...] = ()
    difficulty: str = ""
    human_images: tuple[str, ...] = ()
    gold_image: str | None = None

    @property
    def known_edit(self) -> str | None:
        """An edit that is known to be good: the gold one, or else the first by a person."""
        return self.gold_image or next(iter(self.human_images), None)

    def in_folder(self, folder: Path) -> BenchmarkItem:
        """With the full paths of its images."""
        return replace(
            self,
            image=str(folder / self.image),
            human_images=tuple(str(folder / image) for image in self.human_images),
            gold_image=str(folder / self.gold_image) if self.gold_image else None,
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BenchmarkItem:
        given: dict[str, Any] = {known.name: values[known.name] for known in fields(cls) if known.name in values}
        given |= {name: tuple(values.get(name) or ()) for name in ("actions", "human_images")}
        return cls(**given)


@dataclass(frozen=True)
class Score:
    """Whole numbers, each from 0 to its maximum in DIMENSIONS. ValueError: out of range."""

    fulfilment: int
    quality: int
    preservation: int

    def __post_init__(self) -> None:
        for name, highest in DIMENSIONS.items():
            if not 0 <= getattr(self, name) <= highest:
                raise ValueError(f"{name} is {getattr(self, name)}; wanted 0 to {highest}")

    @property
    def total(self) -> int:
        """0 to 10."""
        return self.fulfilment + self.quality + self.preservation


@dataclass(frozen=True)
class Judgement:
    """One judge's verdict on one system's edit of one item; `sample` counts repeated judgements from 0."""

    item: str
    system: str
    judge: str
    sample: int
    source_sha256: str
    edited_sha256: str
    request_sha256: str
    rubric_sha256: str
    score: Score | None
    """None: unscored, for the reason in `unscored`."""
    unscored: str = ""
    """The reason after its kind and a colon, such as "unreadable: no JSON in 'Sure!'"; the kinds: judges/base.py."""
    reply: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    seconds: float = 0.0
    date: str = ""
    model: str = ""
    """The server's name for the model that answered; an alias may mean another one next month."""
    asked_again: bool = False
    """True: the judge was asked again after this reply, which counts only towards the costs."""

    @property
    def total(self) -> int | None:
        return self.score.total if self.score else None

    @property
    def who(self) -> tuple[str, str, str, int]:
        """(item, system, judge, sample): the last judgement of each counts."""
        return self.item, self.system, self.judge, self.sample

    @property
    def kind(self) -> str:
        """Why there is no score, in a word or two, such as "refusal" or "missing image"."""
        return self.unscored.partition(":")[0]

    @property
    def taken_over(self) -> bool:
        """True for the reply to an equal question, which was not paid for again."""
        return self.prompt_tokens == self.completion_tokens == 0

    @property
    def key(self) -> tuple[str, str, str, str, str, int]:
        """The question: what a repeated run need not ask again."""
        hashes = (self.source_sha256, self.edited_sha256, self.request_sha256, self.rubric_sha256)
        return (*hashes, self.judge, self.sample)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Judgement:
        score = values.get("score")
        given: dict[str, Any] = dict(values) | {"score": Score(**score) if score else None}
        return cls(**given)
