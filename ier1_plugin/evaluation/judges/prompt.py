"""What every model that judges is asked: two labelled images and the rubric, with the settings that matter.

    JudgePrompt.read().question("remove the lamp")      # the text of prompts/judge.jinja, with the request in it
    Asking(max_side=512).suffix()                       # " (max_side=512)", a part of the judge's name

`--rubric FILE` puts another jinja template in the place of the project's own. Its scales are the same three. It has
to ask for a JSON object with the keys fulfilment, quality and preservation, or for lines such as "Quality: 2". It
should put the request between lines of three quotation marks or three backticks, which no request can hold here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ier1_plugin import prompts
from ier1_plugin.evaluation.judges.base import Case, Reply
from ier1_plugin.evaluation.records import EvaluationError
from ier1_plugin.task.images import encode, png_bytes
from ier1_plugin.task.rows import quoted

if TYPE_CHECKING:
    from jinja2 import Template

MAX_SIDE = 1024
# JPEG holds no more (ITU-T T.81 has 16 bits for a side)
MOST_SIDE = 65535
PNG, JPEG = "png", "jpeg"
# a question that was answered badly is not asked the same way again
SECOND_TEMPERATURE = 0.7
SOURCE_LABEL, EDITED_LABEL = "Source image:", "Edited image:"


@dataclass(frozen=True)
class Asking:
    """How a model is asked; what differs from the defaults makes another judge and is part of its name."""

    max_side: int = MAX_SIDE
    image_format: str = JPEG
    """JPEG (at images.JPEG_QUALITY) takes a tenth of PNG's time, and much less of the wire."""
    temperature: float = 0.0

    def __post_init__(self) -> None:
        """EvaluationError: a setting that can't be."""
        if not 0 < self.max_side <= MOST_SIDE:
            raise EvaluationError(f"max_side is {self.max_side}; wanted a number of pixels from 1 to {MOST_SIDE}")
        if self.image_format not in (PNG, JPEG):
            raise EvaluationError(f"image_format is {self.image_format!r}; wanted {PNG} or {JPEG}")

    def suffix(self) -> str:
        """Such as " (max_side=512, temperature=1.0)"; "" for the defaults."""
        usual = asdict(Asking())
        changed = [f"{name}={value}" for name, value in asdict(self).items() if value != usual[name]]
        return f" ({', '.join(changed)})" if changed else ""

    def sampling(self, sample: int, attempt: int) -> tuple[float, int]:
        """(temperature, seed) of a request, each time another seed."""
        temperature = max(self.temperature, SECOND_TEMPERATURE) if attempt else self.temperature
        return temperature, sample + 1000 * attempt

    def images(self, case: Case) -> tuple[bytes, bytes]:
        """Source and edited image as files."""
        save = png_bytes if self.image_format == PNG else partial(encode, lossless=False)
        return save(case.source), save(case.edited)


@dataclass(frozen=True)
class JudgePrompt:
    """The question, as a jinja template with the variable `request`."""

    template: Template
    sha256: str

    @classmethod
    def read(cls, file: Path | None = None) -> JudgePrompt:
        """The one in `file`, or the project's own. EvaluationError: it can't be read, or never shows the request."""
        from jinja2 import Environment, StrictUndefined, TemplateError, meta

        file = file or prompts.path("judge")
        try:
            text = file.read_text(encoding="utf-8")
            environment = Environment(undefined=StrictUndefined)
            names = meta.find_undeclared_variables(environment.parse(text))
        except OSError as error:
            raise EvaluationError(f"rubric {file} can't be read: {error.strerror or error}") from None
        except (UnicodeDecodeError, TemplateError) as error:
            raise EvaluationError(f"rubric {file} is no jinja template: {error}") from None
        if names != {"request"}:
            found = ", ".join(sorted(names)) or "none"
            raise EvaluationError(f"rubric {file} uses the variables: {found}; wanted request and no other")
        return cls(environment.from_string(text), hashlib.sha256(text.encode()).hexdigest())

    def question(self, request: str) -> str:
        """The request can't end its quotation: of three quotation marks or backticks in it, two are left."""
        return self.template.render(request=quoted(request)).strip()


class JudgeBackend(NamedTuple):
    """What makes a judge of a model: see the fields of `Judge`."""

    ask: Callable[[Any, int, int], Reply]
    show: Callable[[Case], Any]
    close: Callable[[], None]
    address: str
    """Of the server, without user and password; the host alone where it is the maker's own."""
