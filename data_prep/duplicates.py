"""Compares rows with each other and with benchmarks: which rows stay, and why the others don't.

    marks("bench.csv", settings) # what a file of --exclude holds
    choose(staging)              # leaves out rows that a benchmark holds, and all but one of each set of duplicates
    assign(staging, 0.05)        # puts every row that is left into train or val; no photo is in both

`choose` and `assign` look at hashes only and need about 700 bytes a row. The same rows give the same choice.

IER, GIER, PSR, RealEdit and PhotoshopRequests are all drawn from one forum, and their file names and columns carry its
post ids (base 36). So a row of a benchmark is recognised by its post even where the photo was cropped and the request
rewritten:

    post_ids_in("Reddit.com_4wfxf2_before.jpg") == {"4wfxf2"}
    list(marks("psr_328.parquet", settings)) -> [("post", "1f3kab"), ("request", b"..."), ("image", -5782334...), ...]
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.checks import picture, request_key
from data_prep.settings import SPLITS, Settings
from data_prep.staging import Candidates, Staging, stamp_of
from ier1_plugin.data.tables import MissingFile, Rejected, image_of, open_text, read
from ier1_plugin.runs.errors import UserError
from ier1_plugin.runs.workers import progress
from ier1_plugin.task.images import ImageError

TRAIN, VAL = SPLITS
BITS = 64
# Measured on 47 photographs: JPEG quality 30, half or quarter size, brightness or contrast x 1.2 or a 1 % crop stay
# within 6 bits in 96 % of the cases; apart from twins, no two of the 1,081 pairs of photographs came closer than 18.
THRESHOLD = 6
_ONES = np.array([value.bit_count() for value in range(1 << 16)], dtype=np.uint8)

# the names that these benchmarks use: PSR, PhotoshopRequests, IER, GIER, RealEdit, UltraEdit, MagicBrush, OmniEdit,
# AnyEdit, ImgEdit, GEdit, EditEval, Emu Edit, and the rows of this builder
POSTS = ("post_id", "reddit_id", "submission_id")
NAMES = ("id", "uid", "name", "key", "image_id", "image", "img0", "input", "input_image", "input_image_name", "path")
REQUESTS = ("request", "instruction", "simplified_instruction", "edit_prompt", "prompt", "edit", "description")
REQUESTS += ("detailed_request", "sents", "edited_prompt_list", "problem")
IMAGES = ("image", "source_image", "original_image", "input_image", "input_image_raw", "input_image_name", "images")
IMAGES += ("src_img", "source_img", "image_file", "img0", "input", "image_path")
# 2008 ("5yyyy") to today ("1xxxxxx"); a word and a number, such as img001, is a file name more often than a post
_POST = r"(?![a-z]+\d+\b)(?=[a-z]*\d)(?=\d*[a-z])(?:[0-9a-z]{5,6}|1[0-9a-z]{6})"
_NAMED = (
    re.compile(r"reddit\.com_([0-9a-z]{5,7})_"),
    re.compile(r"(?:/comments/|redd\.it/|\bt3_)([0-9a-z]{5,7})\b"),
    re.compile(r"(?:^|/)([0-9a-z]{5,7})_\1\b"),
    re.compile(rf"(?:^|/)(?:psr-|realedit-)?({_POST})(?:\.[a-z]+)?$"),
)
_TOKEN = re.compile(r"[0-9a-z]{5,7}")


def marks(benchmark: str, settings: Settings) -> Iterator[tuple[str, Any]]:
    """(kind, value) of everything in a benchmark file (jsonl, csv, parquet, arrow, or a txt with an id or a request a
    line) or a folder of such files. UserError: it can't be read, or has no known column.
    """
    path = Path(benchmark)
    if not path.exists():
        raise UserError(f"--exclude: there is no file or folder {benchmark}")
    if path.suffix == ".txt":
        with open_text(path, "") as lines:
            for text in filter(None, map(str.strip, lines)):
                if _TOKEN.fullmatch(text.lower()):
                    yield "post", text.lower()
                yield from (("post", post) for post in post_ids_in(text))
                yield "request", request_key(text)
        return
    known = (*POSTS, *NAMES, *REQUESTS, *IMAGES)
    seen: set[bytes] = set()
    for line in progress(read(benchmark, None, known), f"excluding {path.name}"):
        if isinstance(line, Rejected):
            raise UserError(f"--exclude: {benchmark} has a {line.reason}")
        if not set(known) & set(line.row):
            found = ", ".join(line.columns or line.row)
            raise UserError(f"--exclude: {benchmark} has no column that is known (found: {found})")
        cells = {column: cell if isinstance(cell, (list, tuple)) else [cell] for column, cell in line.row.items()}

        def texts(columns: Iterable[str], cells: dict[str, Any] = cells) -> list[str]:
            """The texts in these columns; an image's is its path."""
            found = (cell for column in columns for cell in cells.get(column, ()))
            found = (cell.get("path") if isinstance(cell, dict) else cell for cell in found)
            return [text for text in found if isinstance(text, str)]

        yield from (("post", text.lower().removeprefix("t3_")) for text in texts(POSTS))
        yield from (("post", post) for text in texts(NAMES) for post in post_ids_in(text))
        # the key of an empty request would match nothing that gets in
        yield from (("request", request_key(text)) for text in texts(REQUESTS))
        for cell in (cell for column in IMAGES for cell in cells.get(column, ()) if cell is not None):
            # a name without a file, or a picture that nothing opens: neither can be among the rows
            with suppress(ImageError, ValueError, OSError):
                try:
                    source = image_of(cell, line.folders)
                except MissingFile as error:
                    yield from (("file", f"{path}\0{stamp_of(path)}") for path in error.paths)
                    continue
                if isinstance(source, Path):
                    yield "file", f"{source}\0{stamp_of(source)}"
                data = source if isinstance(source, bytes) else source.read_bytes()
                digest = hashlib.blake2b(data, digest_size=8).digest()
                if digest not in seen:
                    seen.add(digest)
                    number = picture(data, settings.min_pixels, settings.max_pixels).hash
                    yield "image", int.from_bytes(number.to_bytes(8, "big"), "big", signed=True)


def post_ids_in(name: str) -> set[str]:
    """The post ids that a name, path or address certainly contains."""
    return {post for pattern in _NAMED for post in pattern.findall(name.lower())}


def post_ids_of(id: str, group: str) -> set[str]:
    """Everything in a row's id and group that could be a post id; to be compared with the certain ones of a
    benchmark."""
    return set(_TOKEN.findall(f"{id} {group}".lower()))


def near_pairs(hashes: np.ndarray, threshold: int = THRESHOLD) -> np.ndarray:
    """All index pairs [k, 2], smaller index first, of uint64 hashes [n] that differ in at most `threshold` bits.

    near_pairs(np.array([0xafbc7d88a0b0b0d9, 0xafbc7d88a0b0b0da, 7], np.uint64)) -> [[0, 1]]

    Pigeonhole: of threshold + 2 bands of bits, such a pair agrees in at least two. So only hashes that share two bands
    are compared: of a million with threshold 6, each with some fifteen others, 28 times. Equal hashes yield every pair
    among them; pass distinct ones.
    """
    count, edges = len(hashes), [BITS * band // (threshold + 2) for band in range(threshold + 3)]
    bands = [
        ((hashes >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1), np.uint64(high - low))
        for low, high in pairwise(edges)
    ]
    pairs = np.empty(0, dtype=np.int64)
    for (one, _), (other, width) in combinations(bands, 2):
        key = one << width | other
        order = np.argsort(key, kind="stable")
        key, ordered = key[order], hashes[order]
        # each is compared with the next one of its key, the one after, ...
        left, step = np.arange(count), 0
        while left.size:
            step += 1
            left = left[left + step < count]
            left = left[key[left] == key[left + step]]
            differing = (ordered[left] ^ ordered[left + step]).view(np.uint16)
            # numpy < 2 has no bit count
            near = left[_ONES[differing].reshape(-1, BITS // 16).sum(axis=1) <= threshold]
            first, second = order[near], order[near + step]
            # most pairs share other bands too
            pairs = np.union1d(pairs, np.minimum(first, second) * count + np.maximum(first, second))
    return np.stack([pairs // max(1, count), pairs % max(1, count)], axis=1)


def _neighbours(pairs: np.ndarray, images: int) -> Callable[[int], list[int]]:
    """What gives, for each of so many images, itself and those that it makes a pair with."""
    both = np.concatenate([pairs, pairs[:, ::-1]])
    both = both[np.lexsort((both[:, 1], both[:, 0]))]
    starts = np.searchsorted(both[:, 0], np.arange(images + 1))
    return lambda image: [image, *both[starts[image] : starts[image + 1], 1].tolist()]


def choose(staging: Staging) -> None:
    """Leaves out what `--exclude` names, then duplicates: a near-identical image and an equal normalised request."""
    staging.leave_out(_in_benchmark(staging, staging.candidates()))
    staging.leave_out(_duplicates(staging.candidates()))


def _in_benchmark(staging: Staging, rows: Candidates) -> Iterator[tuple[int, str]]:
    posts, requests, images = (staging.excluded(kind) for kind in ("post", "request", "image"))
    if not (posts or requests or images):
        return
    count = len(rows.image_hash)
    excluded = np.array(sorted(images), dtype=np.int64).view(np.uint64)
    distinct, index = np.unique(np.concatenate([rows.image_hash, excluded]), return_inverse=True)
    marked = np.zeros(len(distinct), dtype=bool)
    marked[index[count:]] = True
    near, pairs = marked.copy(), near_pairs(distinct)
    near[pairs[marked[pairs[:, 1]], 0]] = True
    near[pairs[marked[pairs[:, 0]], 1]] = True
    for row, position in enumerate(rows.position.tolist()):
        shared = posts & post_ids_of(rows.id[row], rows.group_key[row]) if posts else None
        if shared:
            yield position, f"in a benchmark: post {min(shared)}"
        elif near[index[row]]:
            yield position, "in a benchmark: image"
        elif rows.request_key[row] in requests:
            yield position, "in a benchmark: request"


def _duplicates(rows: Candidates) -> Iterator[tuple[int, str]]:
    """Of rows with the same request and near images the first stays; one that brings its gold comes before the rest."""
    hashes, of_row = np.unique(rows.image_hash, return_inverse=True)
    near = _neighbours(near_pairs(hashes), len(hashes))
    kept: dict[tuple[bytes, int], int] = {}
    for row in np.lexsort((rows.position, ~rows.has_gold)).tolist():
        request, image = rows.request_key[row], int(of_row[row])
        twin = next((kept[request, other] for other in near(image) if (request, other) in kept), None)
        if twin is None:
            kept[request, image] = row
        else:
            yield int(rows.position[row]), f"duplicate: same request and near-identical image as {rows.id[twin]}"


def assign(staging: Staging, val_fraction: float) -> None:
    """Puts rows into splits. A source's own split is kept, except for train rows that repeat a photo of val: those are
    left out. All others are split by photo and group, near-duplicates counting as one photo.
    """
    rows = staging.candidates()
    hashes, of_row = np.unique(rows.image_hash, return_inverse=True)
    pairs = near_pairs(hashes)
    photo = _photos(rows, of_row, pairs).tolist()
    size = np.bincount(photo)
    order = sorted(range(len(photo)), key=rows.order_key.__getitem__)
    photos = list(dict.fromkeys(photo[row] for row in order))
    # photos go to val in their order while they fit; one photo at least, if another is left
    wanted, total = round(val_fraction * len(photo)), 0
    val: set[int] = set()
    for number in photos:
        if total + size[number] <= wanted:
            val.add(number)
            total += size[number]
    if wanted and not val and len(photos) > 1:
        val.add(min(photos, key=size.__getitem__))
    parts = [split or (VAL if number in val else TRAIN) for split, number in zip(rows.split, photo, strict=True)]

    near = _neighbours(pairs, len(hashes))
    in_val = {int(of_row[row]): row for row in range(len(parts) - 1, -1, -1) if parts[row] == VAL}
    seen_again: dict[int, str] = {}
    for row, part in enumerate(parts):
        others = near(int(of_row[row])) if part == TRAIN else []
        twin = next((in_val[other] for other in others if other in in_val), None)
        if twin is not None:
            seen_again[row] = f"in both splits: near-duplicate of the validation photo of {rows.id[twin]}"
    positions = rows.position.tolist()
    staging.leave_out((positions[row], why) for row, why in seen_again.items())
    staging.set_parts((positions[row], part) for row, part in enumerate(parts) if row not in seen_again)


def _photos(rows: Candidates, of_row: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """A number for each row; rows of one group, and rows with near-identical images, get the same one."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    numbers: dict[str, int] = {}
    group = np.array([numbers.setdefault(key, len(numbers)) for key in rows.group_key], dtype=np.int64)
    images = int(of_row.max(initial=-1)) + 1
    # nodes: images, then groups; a row ties its image to its group
    some = np.concatenate([of_row, pairs[:, 0]])
    other = np.concatenate([images + group, pairs[:, 1]])
    nodes = images + len(numbers)
    graph = coo_array((np.ones(len(some), dtype=bool), (some, other)), shape=(nodes, nodes))
    return connected_components(graph, directed=False)[1][of_row]
