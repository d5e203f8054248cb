"""Every row of the train and validation files, read once: text, images, placeholders, gold, prompt length.

data.train_files: 3 of 8,000 rows have a prompt longer than data.max_prompt_length=2560: ...; the first is row 17
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from ier1_plugin.runs.errors import UserError
from ier1_plugin.task.actions import ACTIONS
from ier1_plugin.task.decomposer import HUB_ID
from ier1_plugin.task.images import fit_size
from ier1_plugin.task.parsing import render_response
from ier1_plugin.task.rows import IMAGE_PLACEHOLDER, read_gold
from ier1_plugin.task.schema import Decomposition
from ier1_plugin.task.scoring import score_response
from ier1_plugin.training.preflight.host import ask_hub, model_config
from ier1_plugin.training.preflight.run import Note, Run
from ier1_plugin.training.preflight.settings import get

Size = tuple[int, int]
BUILD = "python data_prep/build_rl_dataset.py builds one"
# EasyR1 takes the name of `datasets`' loader from the file's suffix
LOADERS = {".parquet": "parquet", ".jsonl": "json", ".json": "json"}
# what can be wrong with a row, and the cure
PROBLEMS = {
    "text": "have no text as prompt or answer; build them with data_prep/build_rl_dataset.py",
    "images": "have images that can't be used; build them with data_prep/build_rl_dataset.py",
    "placeholders": "have another number of <image> than of images; the prompt needs one for each",
    "gold": "have an answer that is not a gold decomposition; build them with data_prep/build_rl_dataset.py",
    "score": "have a gold that does not score 1.0 itself; its strings must not hold our tags",
    "actions": "have a gold action that the prompt does not offer; rename it to one of ier1_plugin/task/actions.py",
    "small": "have an image below data.min_pixels={min_pixels}, which EasyR1 would enlarge; build the rows with "
    "--min-pixels {min_pixels}, or lower data.min_pixels",
    "long": "have a prompt longer than data.max_prompt_length={max_prompt_length}, which EasyR1 would cut; raise it to "
    "{longest}, or lower data.max_pixels",
}
NOTES = {
    "large": "have an image above data.max_pixels={max_pixels}, which EasyR1 scales down in every epoch; build the "
    "rows with --max-pixels {max_pixels}",
    "dropped": "have a prompt longer than data.max_prompt_length={max_prompt_length}; EasyR1 leaves them out",
}
BATCH = 128
NO_LIMIT = 1 << 62
# characters of the fixed prompt on each side of a request that may change how its ends are cut into tokens
SEAM = 24


@dataclass
class RowReport:
    """What is wrong with the rows of one file."""

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
        data, trainer = run.config.data, run.config.trainer
        values = {name: getattr(data, name) for name in ("min_pixels", "max_pixels", "max_prompt_length")}
        for kind, count in self.counts.items():
            text = (PROBLEMS | NOTES)[kind].format(longest=self.longest, **values)
            line = f"{self.key}: {count:,} of {self.total:,} rows {text}; the first is {self.first[kind]}"
            yield Note(line) if kind in NOTES else line
        usable = self.total - self.counts.get("dropped", 0)
        if self.key == "data.train_files":
            per_draw = data.mini_rollout_batch_size or data.rollout_batch_size
            batches = usable // per_draw
            steps = batches * per_draw // data.rollout_batch_size * trainer.total_epochs
            if not batches or (trainer.max_steps is None and not steps):
                yield (
                    f"{self.key}: {usable:,} usable rows are less than a batch of "
                    f"{max(per_draw, data.rollout_batch_size)}, and EasyR1 drops incomplete ones; lower "
                    "data.rollout_batch_size or take more rows"
                )
        elif not usable:
            yield f"{self.key}: no rows; EasyR1 needs at least one"
        measured = f", longest prompt {self.longest:,} of {data.max_prompt_length:,} tokens" if self.longest else ""
        yield Note(f"{self.key}: {self.total:,} rows checked{measured}")


class PromptLength:
    """How many tokens a prompt has, from the request's text and the image's size: no pixel is decoded.

    PromptLength(processor, template, min_pixels=3136, max_pixels=1003520).exact("<image>Remove the lamp", [(640, 480)])

    The same count as `input_ids` of EasyR1's dataset (verl/utils/dataset.py), which decodes every image for it.
    """

    def __init__(self, processor: Any, template: str, min_pixels: int | None, max_pixels: int | None):
        from jinja2 import Template

        self._processor = processor
        # strip() and a lenient Template, as EasyR1 has it
        self._template = Template(template.strip())
        self._budget = (min_pixels or 1, max_pixels or NO_LIMIT)
        self._fixed: int | None = None

    def render(self, problem: str) -> str:
        return self._template.render(content=problem)

    def image_tokens(self, sizes: Sequence[Size]) -> int:
        """Tokens of images of `sizes` (width, height); ValueError if the processor refuses a shape."""
        images, patches = self._processor.image_processor, 0
        for size in sizes:
            width, height = fit_size(size, *self._budget)
            patches += images.get_number_of_image_patches(height, width, {})
        return patches // images.merge_size**2

    def exact(self, problem: str, sizes: Sequence[Size]) -> int:
        """Tokens of the whole prompt, chat turn and images included."""
        content = []
        for position, text in enumerate(self.render(problem).split(IMAGE_PLACEHOLDER)):
            content += [{"type": "image"}] if position else []
            content += [{"type": "text", "text": text}] if text else []
        turns = [{"role": "user", "content": content}]
        prompt = self._processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        # each image stands for one token in the text
        return self._text_tokens([prompt])[0] + self.image_tokens(sizes) - len(sizes)

    def fast(self, rows: Sequence[tuple[str, Sequence[Size]]]) -> list[int]:
        """Tokens of many (problem, sizes): the fixed words of the prompt are counted once, at the first row."""
        if not rows:
            return []
        windows = []
        for problem, _ in rows:
            before, request, after = self.render(problem).partition(problem.strip())
            window = before[-SEAM:] + request + after[:SEAM] if request else before
            windows.append(window.replace(IMAGE_PLACEHOLDER, getattr(self._processor, "image_token", "")))
        texts = self._text_tokens(windows)
        own = [text + self.image_tokens(sizes) - len(sizes) for text, (_, sizes) in zip(texts, rows, strict=True)]
        if self._fixed is None:
            self._fixed = self.exact(*rows[0]) - own[0]
        return [tokens + self._fixed for tokens in own]

    def _text_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(ids) for ids in self._processor.tokenizer(list(texts), add_special_tokens=False)["input_ids"]]


def data(run: Run) -> Iterator[str]:
    data = run.config.data
    if data.image_dir and not os.path.isdir(data.image_dir):
        yield f"data.image_dir={data.image_dir}: no such folder, and EasyR1 would continue without it"
    length, why = prompt_length(run)
    if length is None:
        yield Note(f"prompt lengths were not measured: {why}")
    for key in ("data.train_files", "data.val_files"):
        value = get(run.config, key)
        try:
            rows = open_rows(value, (data.prompt_key, data.answer_key, data.image_key))
            if rows is None:
                yield Note(f"{key}={value} is on the hub, not on this machine: its rows were not checked")
            else:
                yield from examine(run, key, rows, length).lines(run)
        except UserError as problem:
            where = "; in a Ray job give an absolute path on storage that every node sees" if run.in_job else ""
            yield f"{key}={value}: {problem}{where}"


def open_rows(value: str, columns: Sequence[str]) -> Any:
    """The `datasets.Dataset` that EasyR1 will train on, with `columns` and `id`; None if it is on the hub.

    `value`: a path, or path@split. The call is EasyR1's own (verl/utils/dataset.py), and so is the Arrow cache that it
    fills. UserError: missing, another kind of file, no such split, fewer rows than the split names, columns that are
    not there.
    """
    import datasets

    name, at, split = value.partition("@")
    path = Path(name)
    if "@" in split:
        raise UserError("more than one @, of which EasyR1 takes none; rename the file or folder")
    if not path.exists():
        # a hub id looks like a path; it is taken for one where its first part is a folder here
        if HUB_ID.fullmatch(name) and not path.parent.exists():
            return None
        raise UserError(f"there is no such file; {BUILD}")
    if path.is_dir():
        raise UserError("is a folder, of which EasyR1 reads whatever kind of file it lists first; name the file")
    if path.suffix not in LOADERS:
        raise UserError(f"is not a parquet or jsonl file; {BUILD}")
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    verbosity = datasets.logging.get_verbosity()
    # it logs what it raises as well
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        rows = datasets.load_dataset(LOADERS[path.suffix], data_files=name, split="train")
    except Exception as error:  # Arrow's and pandas' own errors, mostly behind a DatasetGenerationError
        cause = error.__cause__ or error
        reason = (str(cause).strip() or type(cause).__name__).splitlines()[0]
        raise UserError(f"can't be read as {LOADERS[path.suffix]} ({reason}); {BUILD}") from None
    finally:
        datasets.logging.set_verbosity(verbosity)
    if missing := [column for column in columns if column not in rows.column_names]:
        raise UserError(
            f"has no column {', '.join(missing)}, but {', '.join(rows.column_names) or 'none'}; set data.prompt_key, "
            "data.answer_key and data.image_key to what they are called"
        )
    if at and split != "train":
        # `datasets` would take what there is, and a run with fewer rows than its name says
        if any(int(number) > len(rows) for number in re.findall(r"\d+(?![\d%])", split)):
            raise UserError(f"split {split!r} can't be taken: there are only {len(rows):,} rows")
        try:
            rows = datasets.load_dataset(LOADERS[path.suffix], data_files=name, split=split)
        except (ValueError, AssertionError, KeyError) as error:
            reason = str(error).strip("'\"").splitlines()[0]
            raise UserError(f"split {split!r} can't be taken ({reason}); wanted e.g. train[:4000]") from None
    return rows.select_columns([column for column in ("id", *columns) if column in rows.column_names])


def examine(run: Run, key: str, rows: Any, length: PromptLength | None) -> RowReport:
    """Reads every row once. Memory does not grow with the number of rows."""
    from tqdm import tqdm

    data = run.config.data
    report = RowReport(key)
    # no bar where nobody watches
    with tqdm(total=len(rows), desc=key, unit="row", disable=None, leave=False) as bar:
        # as Arrow: `datasets` would decode an image column
        for batch in rows.with_format("arrow").iter(batch_size=BATCH):
            measurable = []
            for row in batch.to_pylist():
                name = f"row {report.total}" + (f" ({row['id']})" if "id" in row else "")
                report.total += 1
                if (sizes := _check(run, report, name, row, length)) is not None:
                    measurable.append((name, row[data.prompt_key], sizes))
            tokens = length.fast([(problem, sizes) for _, problem, sizes in measurable]) if length else []
            for (name, _, _), count in zip(measurable, tokens, strict=False):
                report.longest = max(report.longest, count)
                if count > data.max_prompt_length:
                    report.add("dropped" if data.filter_overlong_prompts else "long", name, f"{count:,} tokens")
            bar.update(batch.num_rows)
    return report


def _check(
    run: Run, report: RowReport, name: str, row: dict[str, Any], length: PromptLength | None
) -> list[Size] | None:
    """Sizes of the row's images if its prompt can be measured."""
    data = run.config.data
    problem, answer, images = (row.get(key) for key in (data.prompt_key, data.answer_key, data.image_key))
    if not isinstance(problem, str) or not isinstance(answer, str):
        report.add("text", name, f"{type(problem).__name__} and {type(answer).__name__}")
        return None
    try:
        gold = Decomposition.from_json(answer)
        scores = score_response(render_response(gold, "gold"), read_gold(answer))
        if min(scores.values()) < 1:
            report.add("score", name, ", ".join(f"{part} {score:.2f}" for part, score in scores.items() if score < 1))
        if unknown := set(gold.actions) - set(ACTIONS):
            report.add("actions", name, ", ".join(sorted(unknown)))
    except ValueError as error:
        report.add("gold", name, error)
    try:
        if not isinstance(images, list):
            raise ValueError(f"data.image_key holds a {type(images).__name__}, wanted a list")
        sizes = [_size(image, data.image_dir) for image in images]
        if length:
            length.image_tokens(sizes)  # refuses shapes that the processor refuses
    except (ValueError, OSError, Image.DecompressionBombError) as error:
        report.add("images", name, error)
        return None
    for width, height in sizes:
        if data.min_pixels is not None and width * height < data.min_pixels:
            report.add("small", name, f"{width} x {height}")
        elif data.max_pixels is not None and width * height > data.max_pixels:
            report.add("large", name, f"{width} x {height}")
    placeholders = (length.render(problem) if length else problem).count(IMAGE_PLACEHOLDER)
    if placeholders != len(sizes):
        report.add("placeholders", name, f"{placeholders} for {len(sizes)}")
        return None
    return sizes


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


def prompt_length(run: Run) -> tuple[PromptLength | None, str]:
    """The measure of a run's prompts and "", or None and why they can't be measured."""
    data, model = run.config.data, run.config.worker.actor.model
    if not data.format_prompt or not os.path.isfile(data.format_prompt):
        return None, "there is no prompt file"
    if unreadable := model_config(model.model_path)[1] if model.model_path else "no model is set":
        return None, unreadable
    try:
        # as EasyR1 loads it (verl/trainer/main.py), with its chat template if there is one
        from verl.utils.tokenizer import get_processor

        options = {"trust_remote_code": model.trust_remote_code, "use_fast": True}
        try:
            processor = get_processor(model.model_path, data.override_chat_template, local_files_only=True, **options)
        except OSError:  # not in the cache, or not all of it
            ask_hub(model.model_path)
            processor = get_processor(model.model_path, data.override_chat_template, **options)
    except Exception as error:  # the hub client, transformers and torchvision raise their own
        return None, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    if not hasattr(getattr(processor, "image_processor", None), "get_number_of_image_patches"):
        return None, f"{type(processor).__name__} can't tell the tokens of an image from its size"
    template = Path(data.format_prompt).read_text(encoding="utf-8")
    return PromptLength(processor, template, data.min_pixels, data.max_pixels), ""
