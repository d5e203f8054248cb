"""The items of one evaluation, as files: sampled, with their images written out, ready for editors and judges.

items = make_items(Path("evaluations/psr"), open_benchmark(EvaluationConfig(benchmark="psr")), seed=0, count=100)
items[0].image    # "inputs/psr-1f3k.png"

DIR/sample.txt       the ids that were sampled, one a line; `--ids FILE` takes them again
DIR/inputs/          ID.png, ID.gold.png, ID.human-1.png: images that did not come as files
DIR/left_out.jsonl   what could not be used, and why
DIR/items.jsonl      an item a line; written last, so it says that all of this is done
"""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TypeAlias

from PIL import Image

from ier1_plugin.data.items import Item
from ier1_plugin.data.sets import Pixels
from ier1_plugin.data.tables import Rejected
from ier1_plugin.evaluation.benchmarks.table import Benchmark
from ier1_plugin.evaluation.folder import ITEMS
from ier1_plugin.evaluation.records import BenchmarkItem, EvaluationError
from ier1_plugin.runs.folder import write
from ier1_plugin.runs.workers import progress
from ier1_plugin.task.images import ImageError, open_image, png_bytes
from ier1_plugin.task.rows import order_key

INPUTS, SAMPLE, LEFT_OUT = "inputs", "sample.txt", "left_out.jsonl"
SHOWN, SHOWN_CHARACTERS = 3, 80
LeftOut: TypeAlias = dict[tuple[str, str], None]
"""(id, reason) of what can't be used, each once and in order."""


def sampled(ids: Iterable[str], seed: int, count: int | None = None) -> list[str]:
    """The first `count` of the ids in the order of a hash of (seed, id), or all of them for None.

    So a sample is random, the same for everyone who uses the same seed, and the beginning of every larger one. No more
    ids are held in memory than are returned.
    """
    order = partial(order_key, seed)
    return sorted(ids, key=order) if count is None else heapq.nsmallest(count, ids, key=order)


def read_ids(file: Path) -> list[str]:
    """The ids in a file, one a line, as sample.txt has them. EvaluationError: no such file, or none in it."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluationError(f"--ids: {file} can't be read: {getattr(error, 'strerror', None) or error}") from None
    ids = list(dict.fromkeys(filter(None, map(str.strip, lines))))
    if not ids:
        raise EvaluationError(f"--ids: {file} is empty; wanted an id a line, as sample.txt has them")
    return ids


def make_items(
    folder: Path,
    benchmark: Benchmark,
    seed: int,
    count: int | None = None,
    ids: Sequence[str] = (),
    on_warning: Callable[[str], None] = lambda line: None,
) -> list[BenchmarkItem]:
    """The items, in the order of the sample. `ids`: those to use instead of a sample of `count`.

    EvaluationError: the benchmark can't be read, has none of `ids`, or nothing in it can be used.
    """
    left_out: LeftOut = {}

    def reasons() -> str:
        """ " (3 x no image: photo.png is missing; ...)", the most frequent first."""
        most = Counter(reason for _, reason in left_out).most_common(SHOWN)
        return f" ({'; '.join(f'{times} x {reason}' for reason, times in most)})" if most else ""

    chosen = list(ids) or sampled(_ids(benchmark, left_out), seed, count)
    if not chosen:
        raise EvaluationError(f"{benchmark.origin} has no item for {benchmark.name}{reasons()}")
    if count and not ids and len(chosen) < count:
        on_warning(f"{benchmark.name} has {len(chosen)} items, fewer than --sample {count}: all of them are taken")
    items = _write_images(folder, benchmark, chosen, left_out)
    unknown = sorted(set(ids) - set(items) - {id for id, _ in left_out})
    if unknown:
        raise EvaluationError(f"{benchmark.name} has no item {', '.join(unknown[:SHOWN])}; is --ids of another one?")
    if not items:
        raise EvaluationError(f"no item of {benchmark.name} can be used{reasons()}")
    if left_out:
        on_warning(f"left out of {benchmark.name}: {len(left_out)}{reasons()}; all are in {LEFT_OUT}")
    kept = [items[id] for id in chosen if id in items]
    write(folder / SAMPLE, "".join(f"{id}\n" for id in chosen))
    lines = {
        LEFT_OUT: [{"id": id, "reason": reason} for id, reason in left_out],
        ITEMS: [asdict(item) for item in kept],
    }
    for name, values in lines.items():
        write(folder / name, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in values))
    return kept


def known_items(
    folder: Path, benchmark: Benchmark, seed: int, count: int | None = None, ids: Sequence[str] = (), wanted: int = 12
) -> list[BenchmarkItem]:
    """The first `wanted` items of the sample whose good edit is known, gold or human; fewer where there are no more.

    Only their images are written to `folder`, and no lists: all that a sanity check of judges needs from a large
    benchmark. EvaluationError: the benchmark can't be read.
    """
    chosen = list(ids) or sampled(_ids(benchmark, {}), seed, count)
    known: list[BenchmarkItem] = []
    start, size = 0, wanted
    while start < len(chosen) and len(known) < wanted:
        part = chosen[start : start + size]
        items = _write_images(folder, benchmark, part, {})
        known += [items[id] for id in part if id in items and items[id].known_edit]
        # each part is a pass over the set
        start, size = start + size, 4 * size
    return known[:wanted]


def _ids(benchmark: Benchmark, left_out: LeftOut) -> Iterator[str]:
    for id in progress(benchmark.ids(), f"reading {benchmark.name}", unit="items"):
        if isinstance(id, Rejected):
            left_out[id.id, id.reason] = None
        else:
            yield id


def _write_images(
    folder: Path, benchmark: Benchmark, chosen: Sequence[str], left_out: LeftOut
) -> dict[str, BenchmarkItem]:
    """The items by their ids, each with its images; unusable ones go to `left_out`."""
    items: dict[str, BenchmarkItem] = {}
    broken: LeftOut = {}
    # rows of one item repeat its human edits
    seen: set[tuple[str, str]] = set()
    for raw in progress(benchmark.raw_items(frozenset(chosen)), "images", unit="rows"):
        if isinstance(raw, Rejected):
            broken[raw.id, raw.reason] = None
            continue
        item = items.get(raw.id)
        try:
            item = item or BenchmarkItem(
                id=raw.id,
                request=raw.request,
                image=_file(folder, raw.id, "", raw.image),
                cluster=raw.cluster,
                actions=raw.actions,
                difficulty=raw.difficulty,
                gold_image=None if raw.gold is None else _file(folder, raw.id, ".gold", raw.gold),
            )
        except ImageError as error:
            broken[raw.id, str(error)] = None
            continue
        problems = list(raw.problems)
        if raw.request != item.request:
            problems.append(f"a second request of one item: {raw.request[:SHOWN_CHARACTERS]!r}")
        images = list(item.human_images)
        for pixels in raw.human:
            data = pixels.tobytes() if isinstance(pixels, Image.Image) else pixels
            one = raw.id, str(data) if isinstance(data, Path) else sha256(data).hexdigest()
            if one not in seen:
                seen.add(one)
                try:
                    images.append(_file(folder, raw.id, f".human-{len(images) + 1}", pixels))
                except ImageError as error:
                    problems.append(f"a human edit: {error}")
        left_out.update(dict.fromkeys((raw.id, problem) for problem in problems))
        items[raw.id] = replace(item, human_images=tuple(images))
    # a row that is broken takes nothing from an item that other rows made
    left_out.update({one: None for one in broken if one[0] not in items})
    return items


def _file(folder: Path, id: str, what: str, pixels: Pixels) -> str:
    """The path of the image: that of the original file, or one in `folder`. ImageError: it is not an image."""
    if isinstance(pixels, Path):
        open_image(pixels)
        return str(pixels.resolve())
    image = open_image(pixels, keep_alpha=True)
    name = f"{INPUTS}/{Item(id).name}{what}.png"
    write(folder / name, png_bytes(image, ""))
    return name
