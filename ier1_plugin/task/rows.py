"""The dataset formatter: one edit request <-> one RL row, for the builder, for training and for inference.

    format_row(id="psr-1f3k", source="psr", request="Remove the lamp", image=png_bytes, gold=Decomposition(...))
    -> {"id": "psr-1f3k", "source": "psr", "problem": "<image>Remove the lamp",
        "images": [{"bytes": png_bytes, "path": None}],
        "answer": '{"actions": ["Delete"], "subjects": ["lamp"], "goals": []}'}

Stock EasyR1 reads such rows with prompt_key=problem, answer_key=answer, image_key=images.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from ier1_plugin.prompts import render
from ier1_plugin.task.parsing import TAGS
from ier1_plugin.task.schema import Decomposition
from ier1_plugin.task.scoring import Gold

Read = TypeVar("Read")
IMAGE_PLACEHOLDER = "<image>"
CASE_IMAGES = "images"
"""The folder of the cases' photos, beside the parquet files."""
COLUMNS = ("id", "source", "problem", "images", "answer")
# EasyR1 splits a prompt at <image> or <video>, and tokenizers turn control tokens that a user typed into real ones
_CONTROL = re.compile(
    r"<(\|[^<>\n]{1,64}\||/?(?:image|video|tool_call|tool_response|" + "|".join(TAGS) + r"))>", re.IGNORECASE
)
# what prompts quote a request with
_QUOTES = re.compile(r"""(["'`])\1{2,}""")


class Case(NamedTuple):
    """What a reward needs to judge the picture that a plan makes. Stands in the answer under the key "case"."""

    id: str
    request: str
    image: str
    """Name of the photo's file, `<sha256>.jpg`, in the folder of case images: its pixels in the row would travel
    through Ray with every sample."""

    def photo(self, folders: Iterable[str | Path]) -> Path | None:
        """The photo's file in the first of the folders that has it; None: none has."""
        return next((file for folder in folders if (file := Path(folder, self.image)).is_file()), None)


def without_surrogates(text: str) -> str:
    """The text with "?" for lone surrogates, which JSON can hold and UTF-8 can't."""
    return text.encode("utf-8", "replace").decode("utf-8")


def neutralise(request: str) -> str:
    """The request with placeholders, chat control tokens and our tags made harmless: <image> becomes ‹image›.

    Idempotent. Characters that UTF-8 can't carry (lone surrogates) become "?", NUL is dropped, outer space is trimmed.
    """
    text = without_surrogates(request).replace("\0", "")
    return _CONTROL.sub(r"‹\1›", text).strip()


def quoted(request: str) -> str:
    """The request neutralised, for a prompt that puts it between lines of quotation marks, which it must not close."""
    return _QUOTES.sub(r"\1\1", neutralise(request))


def problem(request: str) -> str:
    """The `problem` column: the image comes first, then the request."""
    return IMAGE_PLACEHOLDER + neutralise(request)


def format_row(
    *, id: str, source: str, request: str, image: bytes, gold: Decomposition | None, case: Case | None = None
) -> dict[str, Any]:
    """One RL row. `image` is an encoded image that already fits the pixel budget (`images.prepare`). A row without gold
    has a `case`, and trains on pictures only.
    """
    return {
        "id": id,
        "source": source,
        "problem": problem(request),
        "images": [{"bytes": image, "path": None}],
        # one JSON string: EasyR1 collates with np.array, which would turn lists of equal length into a 2-D array
        "answer": write_answer(gold, case),
    }


def messages(request: str) -> list[dict[str, Any]]:
    """The chat turn that asks for a decomposition, as EasyR1's dataset builds it: one user message, image first."""
    text = render("decompose", content=problem(request)).removeprefix(IMAGE_PLACEHOLDER)
    return [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}]


def order_key(seed: int, id: str) -> bytes:
    """Rows and samples stand in the order of these 16 bytes, so that every prefix is a random sample."""
    return hashlib.sha256(f"{seed}\0{id}".encode()).digest()[:16]


def write_answer(gold: Decomposition | None, case: Case | None = None) -> str:
    """The `answer` column. ValueError: neither gold nor case."""
    fields: dict[str, Any] = {} if gold is None else asdict(gold)
    if case is not None:
        fields["case"] = case._asdict()
    if not fields:
        raise ValueError("a row needs a gold decomposition, a case, or both")
    return json.dumps(fields, ensure_ascii=False)


@lru_cache(maxsize=1 << 14)
def read_answer(answer: str) -> tuple[Decomposition | None, Case | None]:
    """The inverse of `write_answer`; ValueError says what is wrong with the text."""
    try:
        fields = json.loads(answer)
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"not JSON ({error})") from None
    if not isinstance(fields, dict) or "case" not in fields:
        return Decomposition.from_json(answer), None
    values = fields.pop("case")
    if not isinstance(values, dict) or set(values) != set(Case._fields) or not all(map(_is_filled, values.values())):
        raise ValueError(f"case is not an object of the texts {', '.join(Case._fields)}")
    case = Case(**values)
    if "/" in case.image or "\\" in case.image or case.image in (".", ".."):
        raise ValueError(f"the case's image is {case.image!r}; wanted the name of a file in the folder of case images")
    return Decomposition.from_json(json.dumps(fields)) if fields else None, case


@lru_cache(maxsize=1 << 14)
def read_gold(answer: str) -> Gold:
    """The gold of the `answer` column, normalised for scoring; ValueError says what is wrong with it."""
    gold, _ = read_answer(answer)
    if gold is None:
        raise ValueError("there is a case but no gold decomposition, which rewards on words need")
    return Gold.of(gold)


def read_truth(read: Callable[[str], Read], ground_truth: Any, position: int) -> Read:
    """`read` of a reward's ground truth; its ValueError names the position in the batch and how the text starts."""
    try:
        return read(ground_truth)
    except (ValueError, TypeError) as error:
        start = str(ground_truth)[:200]
        raise ValueError(f"ground_truth of item {position} can't be read: {error}; it starts {start!r}") from None


def _is_filled(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())
