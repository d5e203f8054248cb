"""The prompt of every judge that is a model: a jinja template with the rubric and the request.

    JudgePrompt.read().question("remove the lamp")      # the text of prompts/judge.jinja, with the request in it

`--rubric FILE` replaces the project's own with another jinja template. Its scales are the same three. It has to ask for
a JSON object with the keys images_seen, fulfilment, quality and preservation, where images_seen is the number of images
that the judge sees. It should put the request between lines of three quotation marks or three backticks, which no
request can hold here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ier1_plugin import prompts
from ier1_plugin.evaluation.records import EvaluationError
from ier1_plugin.task.rows import quoted

if TYPE_CHECKING:
    from jinja2 import Template


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
            raise EvaluationError(f"rubric {file} is not a jinja template: {error}") from None
        if names != {"request"}:
            found = ", ".join(sorted(names)) or "none"
            raise EvaluationError(f"rubric {file} uses the variables: {found}; wanted request and no other")
        return cls(environment.from_string(text), hashlib.sha256(text.encode()).hexdigest())

    def question(self, request: str) -> str:
        """The request can't end its quotation: of three quotation marks or backticks in it, two are left."""
        return self.template.render(request=quoted(request)).strip()
