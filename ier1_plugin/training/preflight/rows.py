"""Every row of the train and validation files, read once: text, images, placeholders, gold, prompt length.

data.train_files: 3 of 8,000 rows have a prompt longer than data.max_prompt_length=2560: ...; the first is row 17
"""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from ier1_plugin.runs.errors import UserError, one_line
from ier1_plugin.task.actions import ACTIONS
from ier1_plugin.task.decomposer import HUB_ID
from ier1_plugin.task.images import fit_size
from ier1_plugin.task.parsing import render_response
from ier1_plugin.task.rows import IMAGE_PLACEHOLDER, neutralise, read_answer, read_gold
from ier1_plugin.task.scoring import score_response
from ier1_plugin.training.preflight.host import ask_hub, model_config
from ier1_plugin.training.preflight.reward_file import CASE, GOLD, load
from ier1_plugin.training.preflight.run import Note, Run, Unchecked
from ier1_plugin.training.preflight.settings import get

Size = tuple[int, int]
BUILD = "python data_prep/build_rl_dataset.py builds one"
REBUILD = "build them with data_prep/build_rl_dataset.py"
# EasyR1 takes the name of `datasets`' loader from the file's suffix
LOADERS = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".arrow": "arrow"}
# what can be wrong with a row, and the cure
PROBLEMS = {
    "text": f"have no text as prompt or answer; {REBUILD}",
    "encoding": f"hold text that is not UTF-8, which EasyR1 can't read; {REBUILD}",
    "control": f"have control tokens, tags or broken characters in the request; {REBUILD}, which makes them harmless",
    "images": f"have images that can't be used; {REBUILD}",
    "placeholders": "have another number of <image> than of images; the prompt needs one for each",
    "gold": f"have an answer that is not a gold decomposition; {REBUILD}",
    "case": f"have no case, which rewards on pictures need; {REBUILD} --case-images",
    "case_image": "have a case whose photo is not in image_root; name the folder that the builder wrote it to",
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
        # tokens of the fixed words of a prompt with so many images
        self._fixed: dict[int, int] = {}

    def render(self, problem: str) -> str:
        return self._template.render(content=problem)

    def image_tokens(self, sizes: Sequence[Size]) -> int:
        """Tokens of images of `sizes` (width, height); ValueError if the processor refuses a shape."""
        images, patches = self._processor.image_processor, 0
        for size in sizes:
            width, height = fit_size(size, *self._budget)
            patches += images.get_number_of_image_patches(height, width, {})
        return patches // images.merge_size**2

    def prompt(self, problem: str) -> str:
        """The whole prompt, chat turn included, with one token for each image."""
        content = []
        for position, text in enumerate(self.render(problem).split(IMAGE_PLACEHOLDER)):
            content += [{"type": "image"}] if position else []
            content += [{"type": "text", "text": text}] if text else []
        turns = [{"role": "user", "content": content}]
        return self._processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)

    def exact(self, problem: str, sizes: Sequence[Size]) -> int:
        """Tokens of the whole prompt, chat turn and images included."""
        return self._text_tokens(self.prompt(problem)) + self.image_tokens(sizes) - len(sizes)

    def fast(self, problem: str, sizes: Sequence[Size]) -> int:
        """The same; the fixed words of the prompt are counted once for each number of images."""
        before, request, after = self.render(problem).partition(problem.strip())
        window = before[-SEAM:] + request + after[:SEAM] if request else before
        window = window.replace(IMAGE_PLACEHOLDER, getattr(self._processor, "image_token", ""))
        own = self._text_tokens(window) + self.image_tokens(sizes)
        if len(sizes) not in self._fixed:
            self._fixed[len(sizes)] = self.exact(problem, sizes) - own
        return own + self._fixed[len(sizes)]

    def _text_tokens(self, text: str) -> int:
        return len(self._processor.tokenizer(text, add_special_tokens=False)["input_ids"])


def data(run: Run) -> Iterator[str]:
    data = run.config.data
    if data.image_dir and not os.path.isdir(data.image_dir):
        yield f"data.image_dir={data.image_dir}: no such folder, and EasyR1 would continue without it"
    length = None
    try:
        length = prompt_length(run)
        if opens_think(length):
            yield (
                "the model's chat template opens <think> itself, so that no response holds the tag and the format "
                "reward stays 0; train the Instruct model, or set data.override_chat_template to one without it"
            )
    except UserError as reason:
        yield Unchecked("prompt lengths") if run.elsewhere else Note(f"prompt lengths were not measured: {reason}")
    except Exception as error:  # of jinja, or of transformers where there is no template
        length = None
        yield f"the model's chat template can't be used ({one_line(error)}); set data.override_chat_template to another"
    for key in ("data.train_files", "data.val_files"):
        value = get(run.config, key)
        try:
            rows = open_rows(value, (data.prompt_key, data.answer_key, data.image_key))
            if rows is None:
                yield Note(f"{key}={value} is on the hub, not on this machine: its rows were not checked")
            else:
                yield from examine(run, key, rows, length)
        except UserError as problem:
            where = "; in a Ray job give an absolute path on storage that every node sees" if run.in_job else ""
            yield f"{key}={value}: {problem}{where}"


def opens_think(length: PromptLength) -> bool:
    """True if the turn of the model begins inside of <think>, behind the words of the prompt file."""
    problem = f"{IMAGE_PLACEHOLDER}remove the lamp"
    last_words = length.render(problem).rstrip().rpartition("\n")[2]
    words = last_words.split(IMAGE_PLACEHOLDER)[-1]
    turn = length.prompt(problem).rpartition(words)[2] if words else ""
    return turn.count("<think>") > turn.count("</think>")


def open_rows(value: str, columns: Sequence[str]) -> Any:
    """The `datasets.Dataset` that EasyR1 will train on; None if it is on the hub.

    `value`: a path, or path@split. The call is EasyR1's own (verl/utils/dataset.py), and so is the Arrow cache that it
    fills. UserError: missing, another kind of file, no such split, fewer rows than the split names, `columns` that are
    not there.
    """
    import datasets

    name, at, split = value.partition("@")
    path = Path(name)
    if "@" in split or (at and Path(value).exists()):
        raise UserError("EasyR1 takes what follows an @ for a split; rename the folder, or start from one below the @")
    if not name or not path.exists():
        # a hub id looks like a path; it is taken for one where its first part is a folder here
        if HUB_ID.fullmatch(name) and not path.parent.exists():
            return None
        raise UserError(f"there is no such file; {BUILD}")
    suffixes = {Path(file).suffix for file in os.listdir(path)} if path.is_dir() else {path.suffix}
    kind = LOADERS.get(suffixes.pop()) if len(suffixes) == 1 else None
    if path.is_dir() and kind is None:
        raise UserError("is a folder, of which EasyR1 reads whatever kind of file it lists first; name the file")
    if kind is None:
        raise UserError(f"is not a parquet or jsonl file; {BUILD}")
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    options: dict[str, Any] = {"data_dir" if path.is_dir() else "data_files": name}
    verbosity = datasets.logging.get_verbosity()
    # it logs what it raises as well
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        rows = datasets.load_dataset(kind, split="train", **options)
    except Exception as error:  # Arrow's and pandas' own errors, mostly behind a DatasetGenerationError
        raise UserError(f"can't be read as {kind} ({one_line(error.__cause__ or error)}); {BUILD}") from None
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
            rows = datasets.load_dataset(kind, split=split or "none", **options)
        except Exception as error:  # of its reader of splits
            reason = one_line(str(error).strip("'\""))
            raise UserError(f"split {split!r} can't be taken ({reason}); wanted e.g. train[:4000]") from None
    return rows


def examine(run: Run, key: str, rows: Any, length: PromptLength | None) -> Iterator[str]:
    """Reads every row once, and says what is wrong with how many. Memory does not grow with the number of rows."""
    from datasets import Image as ImageColumn
    from tqdm import tqdm

    data, trainer = run.config.data, run.config.trainer
    typed = isinstance(getattr(rows.features[data.image_key], "feature", None), ImageColumn)
    total = longest = 0
    needs = needs_of(run)
    counts, first = Counter[str](), dict[str, str]()
    # no bar where nobody watches; as Arrow: `datasets` would decode an image column
    with tqdm(total=len(rows), desc=key, unit="row", disable=None, leave=False) as bar:
        for batch in rows.with_format("arrow").iter(batch_size=BATCH):
            for index in range(batch.num_rows):
                name, tokens = f"row {total}", 0
                try:
                    # of all columns, as EasyR1 reads them
                    (row,) = batch.slice(index, 1).to_pylist()
                    name += f" ({row['id']})" if "id" in row else ""
                    faults, tokens = check_row(run, row, length, needs, typed)
                except UnicodeDecodeError as error:
                    faults = {"encoding": error}
                counts.update(faults.keys())
                for kind, detail in faults.items():
                    first.setdefault(kind, one_line(f"{name}: {detail}"))
                longest, total = max(longest, tokens), total + 1
            bar.update(batch.num_rows)
    values = {name: getattr(data, name) for name in ("min_pixels", "max_pixels", "max_prompt_length")}
    for kind, count in counts.items():
        text = (PROBLEMS | NOTES)[kind].format(longest=longest, **values)
        line = f"{key}: {count:,} of {total:,} rows {text}; the first is {first[kind]}"
        yield Note(line) if kind in NOTES else line
    usable, per_draw = total - counts["dropped"], data.mini_rollout_batch_size or data.rollout_batch_size
    steps = usable // per_draw * per_draw // data.rollout_batch_size * trainer.total_epochs
    if key == "data.val_files" and not usable:
        yield f"{key}: no rows; EasyR1 needs at least one"
    elif key == "data.train_files" and (usable < per_draw or (trainer.max_steps is None and not steps)):
        yield (
            f"{key}: {usable:,} usable rows are less than a batch of {max(per_draw, data.rollout_batch_size)}, and "
            "EasyR1 drops incomplete ones; lower data.rollout_batch_size or take more rows"
        )
    measured = f", longest prompt {longest:,} of {data.max_prompt_length:,} tokens" if longest else ""
    yield Note(f"{key}: {total:,} rows checked{measured}")


def first_answer(run: Run) -> str | None:
    """The answer of the first training row; None: it can't be read, or not here, which `data` says."""
    try:
        rows = open_rows(run.config.data.train_files, [run.config.data.answer_key])
        return rows[0][run.config.data.answer_key] if rows is not None else None
    except (UserError, IndexError):
        return None


def image_roots(run: Run) -> list[str]:
    """Where a reward on pictures looks for the photos of the cases."""
    roots = run.config.worker.reward.reward_function_kwargs.get("image_root") or []
    return [roots] if isinstance(roots, str) else list(roots)


def needs_of(run: Run) -> str:
    """What the reward reads of an answer."""
    try:
        return load(run.config.worker.reward.reward_function).needs
    except UserError:
        return GOLD  # `reward.reward_function` says what is wrong


def check_row(
    run: Run, row: dict[str, Any], length: PromptLength | None, needs: str, typed: bool = False
) -> tuple[dict[str, object], int]:
    """What is wrong with a row, by kind, and the tokens of its prompt; 0 where they can't be measured.

    `typed`: as for `decode`.
    """
    data, faults = run.config.data, dict[str, object]()
    problem, answer, images = (row.get(key) for key in (data.prompt_key, data.answer_key, data.image_key))
    if not isinstance(problem, str) or not isinstance(answer, str):
        return {"text": f"{type(problem).__name__} and {type(answer).__name__}"}, 0
    request = problem.replace(IMAGE_PLACEHOLDER, "").strip()
    if (harmless := neutralise(request)) != request:
        return {"control": f"{request[:80]!a}, wanted {harmless[:80]!r}"}, 0
    try:
        gold, case = read_answer(answer)
        if needs == CASE and case is None:
            faults["case"] = answer[:80]
        elif needs == CASE and case and case.photo(image_roots(run)) is None:
            faults["case_image"] = case.image
        if gold is not None:
            scores = score_response(render_response(gold, "gold"), read_gold(answer))
            if min(scores.values()) < 1:
                faults["score"] = ", ".join(f"{part} {score:.2f}" for part, score in scores.items() if score < 1)
            if unknown := set(gold.actions) - set(ACTIONS):
                faults["actions"] = ", ".join(sorted(unknown))
        elif needs != CASE:
            faults["gold"] = "a case alone, which rewards on pictures need"
    except ValueError as error:
        faults["gold"] = error
    try:
        if not isinstance(images, list):
            raise ValueError(f"data.image_key holds a {type(images).__name__}, wanted a list")
        sizes = [decode(image, data.image_dir, typed) for image in images]
        if length:
            length.image_tokens(sizes)  # refuses shapes that the processor refuses
    except Exception as error:  # Pillow's decoders raise of many types
        return faults | {"images": error}, 0
    for width, height in sizes:
        if data.min_pixels is not None and width * height < data.min_pixels:
            faults["small"] = f"{width} x {height}"
        elif data.max_pixels is not None and width * height > data.max_pixels:
            faults["large"] = f"{width} x {height}"
    placeholders = (length.render(problem) if length else problem).count(IMAGE_PLACEHOLDER)
    if placeholders != len(sizes):
        return faults | {"placeholders": f"{placeholders} for {len(sizes)}"}, 0
    tokens = length.fast(problem, sizes) if length else 0
    if tokens > data.max_prompt_length:
        faults["dropped" if data.filter_overlong_prompts else "long"] = f"{tokens:,} tokens"
    return faults, tokens


def decode(image: Any, folder: str | None, typed: bool = False) -> Size:
    """(width, height) of an encoded image that is whole; raises what Pillow raises where it is not.

    `typed`: of a column of `datasets.Image`, which `datasets` itself opens by its path where it has no bytes.
    """
    if isinstance(image, dict):
        image = image.get("bytes") or (image.get("path") if typed else None)
    if isinstance(image, str):
        image = os.path.join(folder or "", image)
    elif not isinstance(image, bytes) or not image:
        raise ValueError("no bytes and no path in it")
    with Image.open(BytesIO(image) if isinstance(image, bytes) else image) as opened:
        size = opened.size
        opened.draft("L", (size[0] // 8, size[1] // 8))
        opened.load()
        return size


def processor_loader() -> Callable[..., Any]:
    """What loads a processor from a model's path and a chat template: EasyR1's own, else transformers'."""
    try:
        from verl.utils.tokenizer import get_processor

        return get_processor
    except ImportError:  # upstream verl
        from transformers import AutoProcessor

        def load(path: str, chat_template: str | None, **options: Any) -> Any:
            options |= {"chat_template": chat_template} if chat_template else {}
            return AutoProcessor.from_pretrained(path, **options)

        return load


def prompt_length(run: Run) -> PromptLength:
    """The measure of a run's prompts. UserError: why they can't be measured."""
    data, model = run.config.data, run.config.worker.actor.model
    if not data.format_prompt or not os.path.isfile(data.format_prompt):
        raise UserError("there is no prompt file")
    if unreadable := model_config(model.model_path)[1] if model.model_path else "no model is set":
        raise UserError(unreadable)
    try:
        # as EasyR1 loads it (verl/trainer/main.py), with its chat template if there is one
        get_processor = processor_loader()

        options = {"trust_remote_code": model.trust_remote_code, "use_fast": True}
        try:
            processor = get_processor(model.model_path, data.override_chat_template, local_files_only=True, **options)
        except OSError:  # not in the cache, or not all of it
            ask_hub(model.model_path)
            processor = get_processor(model.model_path, data.override_chat_template, **options)
    except Exception as error:  # the hub client, transformers and torchvision raise their own
        raise UserError(f"{type(error).__name__}: {one_line(error)}") from None
    if not hasattr(getattr(processor, "image_processor", None), "get_number_of_image_patches"):
        raise UserError(f"{type(processor).__name__} can't tell the tokens of an image from its size")
    try:
        template = Path(data.format_prompt).read_text(encoding="utf-8")
        return PromptLength(processor, template, data.min_pixels, data.max_pixels)
    except Exception:  # of the file, or of jinja; `reward.prompt` names it
        raise UserError("the prompt file can't be used") from None
