"""The items of one evaluation, as files: sampled, with their images written out, ready for editors and judges.

items = make_items(Path("evaluations/psr"), open_benchmark("psr", Options()), seed=0, count=100)
items[0].image    # "inputs/psr-1f3k.png"

DIR/sample.txt       the ids that were sampled, one a line; `--ids FILE` takes them again
DIR/inputs/          ID.png, ID.gold.png, ID.human-1.png: images that did not come as files
DIR/left_out.jsonl   what could not be used, and why
DIR/items.jsonl      an item a line; written last, so it says that all of this is done
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from ier1_plugin.data.items import Item
from ier1_plugin.data.tables import Rejected
from ier1_plugin.evaluation.benchmarks.sampling import sampled
from ier1_plugin.evaluation.benchmarks.table import Benchmark, Pixels, RawItem
from ier1_plugin.evaluation.folder import ITEMS
from ier1_plugin.evaluation.records import BenchmarkItem, EvaluationError
from ier1_plugin.runs.folder import write
from ier1_plugin.task.images import ImageError, open_image, png_bytes

INPUTS, SAMPLE, LEFT_OUT = "inputs", "sample.txt", "left_out.jsonl"
SHOWN, SHOWN_CHARACTERS = 3, 80


def make_items(
    folder: Path,
    benchmark: Benchmark,
    seed: int,
    count: int | None = None,
    ids: Sequence[str] = (),
    on_warning: Callable[[str], None] = lambda line: None,
) -> list[BenchmarkItem]:
    """The items, in the order of the sample. `ids`: those to take instead of a sample of `count`.

    EvaluationError: the benchmark can't be read, has none of `ids`, or nothing in it can be used.
    """
    left_out: list[Rejected] = []
    chosen = list(ids) or sampled(_ids(benchmark, left_out), seed, count)
    if not chosen:
        raise EvaluationError(f"{benchmark.origin} has no item for {benchmark.name}{_first(left_out)}")
    if count and not ids and len(chosen) < count:
        on_warning(f"{benchmark.name} has {len(chosen)} items, fewer than --sample {count}: all of them are taken")
    items = _written(folder, benchmark, chosen, left_out)
    unknown = [id for id in ids if id not in items and all(id != rejected.id for rejected in left_out)]
    if unknown:
        raise EvaluationError(f"{benchmark.name} has no item {', '.join(unknown[:SHOWN])}; is --ids of another one?")
    if not items:
        raise EvaluationError(f"no item of {benchmark.name} can be used{_first(left_out)}")
    if left_out:
        on_warning(f"left out of {benchmark.name}: {len(left_out)}{_first(left_out)}; all are in {LEFT_OUT}")
    _write_lines(folder / LEFT_OUT, [{"id": rejected.id, "reason": rejected.reason} for rejected in left_out])
    write(folder / SAMPLE, "".join(f"{id}\n" for id in chosen))
    found = [items[id] for id in chosen if id in items]
    _write_lines(folder / ITEMS, [item.as_dict() for item in found])
    return found


def known_items(
    folder: Path, benchmark: Benchmark, seed: int, count: int | None = None, ids: Sequence[str] = (), wanted: int = 12
) -> list[BenchmarkItem]:
    """The first `wanted` items of the sample whose good edit is known, gold or human; fewer where there are no more.

    Only their images are written to `folder`, and no lists: what a check of judges needs of a large benchmark.
    EvaluationError: the benchmark can't be read.
    """
    chosen = list(ids) or sampled(_ids(benchmark, []), seed, count)
    found: list[BenchmarkItem] = []
    start, size = 0, wanted
    while start < len(chosen) and len(found) < wanted:
        part = chosen[start : start + size]
        items = _written(folder, benchmark, part, [])
        found += [items[id] for id in part if id in items and has_known_edit(items[id])]
        # each part is a pass over the set
        start, size = start + size, 4 * size
    return found[:wanted]


def has_known_edit(item: BenchmarkItem) -> bool:
    return bool(item.gold_image or item.human_images)


def check_human(items: Sequence[BenchmarkItem], benchmark: Benchmark) -> None:
    """EvaluationError: nobody has edited any of the items, which `--human` asks for."""
    if not any(item.human_images for item in items):
        raise EvaluationError(
            f"--human: none of the {len(items)} items of {benchmark.name} has an edit by a person; name their column "
            f"with --columns human=NAME, or local files that have them with --data (why some have none: {LEFT_OUT})"
        )


def absolute(item: BenchmarkItem, folder: Path) -> BenchmarkItem:
    """The item with the full paths of its images."""
    return replace(
        item,
        image=str(folder / item.image),
        human_images=tuple(str(folder / image) for image in item.human_images),
        gold_image=str(folder / item.gold_image) if item.gold_image else None,
    )


def _ids(benchmark: Benchmark, left_out: list[Rejected]) -> Iterator[str]:
    for found in tqdm(benchmark.ids(), desc=f"reading {benchmark.name}", unit=" items", disable=_quiet()):
        if isinstance(found, Rejected):
            left_out.append(found)
        else:
            yield found


def _written(
    folder: Path, benchmark: Benchmark, chosen: Sequence[str], left_out: list[Rejected]
) -> dict[str, BenchmarkItem]:
    """The items by their ids, each with its images; what can't be used goes to `left_out`."""
    items: dict[str, BenchmarkItem] = {}
    broken: dict[str, Rejected] = {}
    seen: set[tuple[str, str]] = set()
    bar = tqdm(desc="images", unit=" items", total=len(chosen), disable=_quiet())
    with bar:
        for draft in benchmark.drafts(frozenset(chosen)):
            if isinstance(draft, Rejected):
                broken.setdefault(draft.id, draft)
                continue
            try:
                before = items.get(draft.id)
                items[draft.id] = _with_human(before or _item(folder, draft), draft, folder, seen, left_out)
                bar.update(before is None)
            except ImageError as error:
                broken.setdefault(draft.id, Rejected(draft.id, str(error)))
    left_out += [rejected for id, rejected in broken.items() if id not in items]
    return items


def _item(folder: Path, draft: RawItem) -> BenchmarkItem:
    return BenchmarkItem(
        id=draft.id,
        request=draft.request,
        image=_file(folder, draft.id, "", draft.image),
        cluster=draft.cluster,
        actions=draft.actions,
        difficulty=draft.difficulty,
        gold_image=None if draft.gold is None else _file(folder, draft.id, ".gold", draft.gold),
    )


def _with_human(
    item: BenchmarkItem, draft: RawItem, folder: Path, seen: set[tuple[str, str]], left_out: list[Rejected]
) -> BenchmarkItem:
    """The item with the human edits of the draft that it has not got yet."""
    images = list(item.human_images)
    if draft.request != item.request and (item.id, draft.request) not in seen:
        seen.add((item.id, draft.request))
        left_out.append(Rejected(item.id, f"a second request of one item: {draft.request[:SHOWN_CHARACTERS]!r}"))
    for problem in draft.problems:
        if (item.id, problem) not in seen:
            seen.add((item.id, problem))
            left_out.append(Rejected(item.id, problem))
    for pixels in draft.human:
        mark = (item.id, _digest(pixels))
        if mark not in seen:
            seen.add(mark)
            try:
                images.append(_file(folder, item.id, f".human-{len(images) + 1}", pixels))
            except ImageError as error:
                left_out.append(Rejected(item.id, f"a human edit: {error}"))
    return replace(item, human_images=tuple(images))


def _file(folder: Path, id: str, what: str, pixels: Pixels) -> str:
    """Where the image is: the path of a file as it came, or one in `folder`. ImageError: it is none."""
    if isinstance(pixels, Path):
        open_image(pixels)
        return str(pixels.resolve())
    image = pixels if isinstance(pixels, Image.Image) else open_image(pixels)
    name = f"{INPUTS}/{Item(id).name}{what}.png"
    write(folder / name, png_bytes(image, ""))
    return name


def _digest(pixels: Pixels) -> str:
    if isinstance(pixels, Path):
        return str(pixels)
    return sha256(pixels if isinstance(pixels, bytes) else pixels.tobytes()).hexdigest()


def _first(left_out: Sequence[Rejected]) -> str:
    """ " (3 x no image: photo.png is missing, ...)", with what happened most often first."""
    reasons = Counter(rejected.reason for rejected in left_out).most_common(SHOWN)
    return f" ({'; '.join(f'{times} x {reason}' for reason, times in reasons)})" if reasons else ""


def _write_lines(file: Path, lines: Sequence[dict]) -> None:
    write(file, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def _quiet() -> bool:
    return not sys.stderr.isatty()
