"""Every row of the train and validation files, read once: text, images, placeholders, gold, prompt length.

data.train_files: 3 of 8,000 rows have a prompt longer than data.max_prompt_length=2560: ...; the first is row 17
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from PIL import Image

from ier1_plugin.task.actions import ACTIONS
from ier1_plugin.task.parsing import render_response
from ier1_plugin.task.rows import IMAGE_PLACEHOLDER, read_gold
from ier1_plugin.task.schema import Decomposition
from ier1_plugin.task.scoring import score_response
from ier1_plugin.training.preflight.files import FileProblem, Source, open_source
from ier1_plugin.training.preflight.lengths import PromptLength, Size, load_processor
from ier1_plugin.training.preflight.run import Note, Run

# what can be wrong with a row, and the cure
PROBLEMS = {
    "text": "have no text as prompt or answer; build them with data_prep/build_rl_dataset.py",
    "images": "have images that can't be used; build them with data_prep/build_rl_dataset.py",
    "placeholders": "have another number of <image> than of images; the prompt needs one for each",
    "gold": "have an answer that is no gold decomposition; build them with data_prep/build_rl_dataset.py",
    "score": "have a gold that does not score 1.0 itself; its strings must not hold our tags",
    "actions": "have a gold action that the prompt does not offer; rename it to one of ier1_plugin/task/actions.py",
    "small": "have an image below data.min_pixels={min_pixels}, which EasyR1 would blow up; build the rows with "
    "--min-pixels {min_pixels}, or lower data.min_pixels",
    "long": "have a prompt longer than data.max_prompt_length={max_prompt_length}, which EasyR1 would cut; raise it to "
    "{longest}, or lower data.max_pixels",
}
NOTES = {
    "large": "have an image above data.max_pixels={max_pixels}, which EasyR1 scales down in every epoch; build the "
    "rows with --max-pixels {max_pixels}",
    "dropped": "have a prompt longer than data.max_prompt_length={max_prompt_length}; EasyR1 leaves them out",
}
MEASURED_AT_ONCE = 1024


@dataclass
class RowReport:
    """What was found in one file."""

    key: str
    total: int = 0
    longest: int = 0
    """Tokens of the longest prompt; 0 where they could not be measured."""
    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, kind: str, row: str, detail: object = "") -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self.first.setdefault(kind, f"{row}: {detail}" if detail else row)

    def lines(self, run: Run) -> Iterator[str]:
        data = run.config.data
        values = {name: getattr(data, name) for name in ("min_pixels", "max_pixels", "max_prompt_length")}
        for kind, count in self.counts.items():
            text = (PROBLEMS | NOTES)[kind].format(longest=self.longest, **values)
            line = f"{self.key}: {count:,} of {self.total:,} rows {text}; the first is {self.first[kind]}"
            yield Note(line) if kind in NOTES else line


def data(run: Run) -> Iterator[str]:
    folder = run.config.data.image_dir
    if folder and not os.path.isdir(folder):
        yield f"data.image_dir={folder}: no such folder, and EasyR1 would go on without it"
    ruler, why = _ruler(run)
    if ruler is None:
        yield Note(f"prompt lengths were not measured: {why}")
    for key in ("data.train_files", "data.val_files"):
        try:
            yield from _file(run, key, ruler)
        except FileProblem as problem:
            where = "; in a Ray job give an absolute path on storage that every node sees" if run.in_job else ""
            yield f"{key}={_value(run, key)}: {problem}{where}"


def _file(run: Run, key: str, ruler: PromptLength | None) -> Iterator[str]:
    data = run.config.data
    source = open_source(_value(run, key), (data.prompt_key, data.answer_key, data.image_key))
    if source is None:
        yield Note(f"{key}={_value(run, key)} is on the hub, not on this machine: its rows were not checked")
        return
    survey = examine(run, key, source, ruler)
    yield from survey.lines(run)
    yield from _enough(run, survey)
    measured = f", longest prompt {survey.longest:,} of {data.max_prompt_length:,} tokens" if survey.longest else ""
    yield Note(f"{key}: {survey.total:,} rows checked{measured}")


def examine(run: Run, key: str, source: Source, ruler: PromptLength | None) -> RowReport:
    """Reads every row of `source` once. Memory does not grow with the number of rows."""
    from tqdm import tqdm

    survey, waiting = RowReport(key), []
    # no bar where nobody watches
    for name, row in tqdm(source.rows(), total=source.total, desc=key, unit="row", disable=None, leave=False):
        survey.total += 1
        sizes = _check(run, survey, name, row, ruler)
        if sizes is not None:
            waiting.append((name, row[run.config.data.prompt_key], sizes))
        if ruler and len(waiting) >= MEASURED_AT_ONCE:
            _measure(run, survey, ruler, waiting)
            waiting = []
    if ruler:
        _measure(run, survey, ruler, waiting)
    return survey


def _check(
    run: Run, survey: RowReport, name: str, row: dict[str, Any], ruler: PromptLength | None
) -> list[Size] | None:
    """Sizes of the row's images if its prompt can be measured."""
    data = run.config.data
    problem, answer = row.get(data.prompt_key), row.get(data.answer_key)
    if not isinstance(problem, str) or not isinstance(answer, str):
        survey.add("text", name, f"{type(problem).__name__} and {type(answer).__name__}")
        return None
    _check_gold(survey, name, answer)
    try:
        sizes = [_size(image, data.image_dir) for image in _images(row.get(data.image_key))]
        if ruler:
            ruler.image_tokens(sizes)  # refuses shapes that the processor refuses
    except (ValueError, OSError, Image.DecompressionBombError) as error:
        survey.add("images", name, error)
        return None
    _check_pixels(run, survey, name, sizes)
    shown = (ruler.render(problem) if ruler else problem).count(IMAGE_PLACEHOLDER)
    if shown != len(sizes):
        survey.add("placeholders", name, f"{shown} for {len(sizes)}")
        return None
    return sizes


def _check_gold(survey: RowReport, name: str, answer: str) -> None:
    try:
        gold = Decomposition.from_json(answer)
    except ValueError as error:
        survey.add("gold", name, error)
        return
    scores = score_response(render_response(gold, "gold"), read_gold(answer))
    if min(scores.values()) < 1:
        survey.add("score", name, ", ".join(f"{part} {score:.2f}" for part, score in scores.items() if score < 1))
    if unknown := set(gold.actions) - set(ACTIONS):
        survey.add("actions", name, ", ".join(sorted(unknown)))


def _images(images: Any) -> list[Any]:
    if not isinstance(images, list):
        raise ValueError(f"data.image_key holds a {type(images).__name__}, wanted a list")
    return images


def _size(image: Any, folder: str | None) -> Size:
    """(width, height) from the header of an encoded image; ValueError or OSError if it is none."""
    if isinstance(image, dict):
        image = image.get("bytes")
    if isinstance(image, str):
        image = os.path.join(folder or "", image)
    elif not isinstance(image, bytes) or not image:
        raise ValueError("no bytes and no path in it")
    with Image.open(BytesIO(image) if isinstance(image, bytes) else image) as opened:
        return opened.size


def _check_pixels(run: Run, survey: RowReport, name: str, sizes: list[Size]) -> None:
    least, most = run.config.data.min_pixels, run.config.data.max_pixels
    for width, height in sizes:
        if least is not None and width * height < least:
            survey.add("small", name, f"{width} x {height}")
        elif most is not None and width * height > most:
            survey.add("large", name, f"{width} x {height}")


def _measure(run: Run, survey: RowReport, ruler: PromptLength, rows: list[tuple[str, str, list[Size]]]) -> None:
    data = run.config.data
    lengths = ruler.fast([(problem, sizes) for _, problem, sizes in rows])
    for (name, _, _), tokens in zip(rows, lengths, strict=True):
        survey.longest = max(survey.longest, tokens)
        if tokens > data.max_prompt_length:
            survey.add("dropped" if data.filter_overlong_prompts else "long", name, f"{tokens:,} tokens")


def _enough(run: Run, survey: RowReport) -> Iterator[str]:
    data, trainer = run.config.data, run.config.trainer
    usable = survey.total - survey.counts.get("dropped", 0)
    if survey.key == "data.val_files":
        if not usable:
            yield f"{survey.key}: no rows; EasyR1 needs at least one"
        return
    drawn = data.mini_rollout_batch_size or data.rollout_batch_size
    batches = usable // drawn
    steps = batches * drawn // data.rollout_batch_size * trainer.total_epochs
    if not batches or (trainer.max_steps is None and not steps):
        yield (
            f"{survey.key}: {usable:,} usable rows are less than a batch of {max(drawn, data.rollout_batch_size)}, and "
            "EasyR1 drops incomplete ones; lower data.rollout_batch_size or take more rows"
        )


def _ruler(run: Run) -> tuple[PromptLength | None, str]:
    data = run.config.data
    if not data.format_prompt or not os.path.isfile(data.format_prompt):
        return None, "there is no prompt file"
    processor, why = load_processor(run.config)
    if processor is None:
        return None, why
    with open(data.format_prompt, encoding="utf-8") as file:
        return PromptLength(processor, file.read(), data.min_pixels, data.max_pixels), ""


def _value(run: Run, key: str) -> str:
    return getattr(run.config.data, key.removeprefix("data."))
