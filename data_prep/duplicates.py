"""Stage two of a build: rows against each other and against benchmarks. Who stays in, and why the others don't.

    choose(spool)          # leaves out rows that a benchmark holds, and all but one of each set of duplicates
    assign(spool, 0.05)    # puts every row that is left into train or val; no photo is in both

Both look at hashes only and need about 300 bytes a row. The same rows give the same choice.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from data_prep.exclude import post_ids_of
from data_prep.near import adjacency, near_pairs
from data_prep.spool import Candidates, Spool

TRAIN, VAL = "train", "val"


def choose(spool: Spool) -> None:
    """Leaves out what `--exclude` names, then duplicates: a near-identical image and an equal normalised request."""
    spool.leave_out(_in_benchmark(spool, spool.candidates()))
    spool.leave_out(_duplicates(spool.candidates()))


def assign(spool: Spool, val_fraction: float) -> None:
    """Puts rows into splits. A source that says where its rows belong is obeyed, but for train rows that show a photo
    of val again: those are left out. All others are split by photo and group, near-duplicates counting as one photo.
    """
    rows = spool.candidates()
    hashes, of_row = np.unique(rows.image_hash, return_inverse=True)
    pairs = near_pairs(hashes)
    parts = _parts(rows, of_row, pairs, val_fraction)
    seen_again = _seen_again(rows, parts, of_row, pairs, len(hashes))
    spool.leave_out((int(rows.position[row]), why) for row, why in seen_again.items())
    spool.set_parts(
        (int(at), part)
        for row, (at, part) in enumerate(zip(rows.position, parts, strict=True))
        if row not in seen_again
    )


def _in_benchmark(spool: Spool, rows: Candidates) -> Iterator[tuple[int, str]]:
    posts, requests, images = (spool.excluded(kind) for kind in ("post", "request", "image"))
    if not (posts or requests or images):
        return
    near = _near_any(rows.image_hash, np.array(sorted(images), dtype=np.int64).view(np.uint64))
    for row, position in enumerate(rows.position.tolist()):
        shared = posts & post_ids_of(rows.id[row], rows.group_key[row]) if posts else None
        if shared:
            yield position, f"in a benchmark: post {min(shared)}"
        elif near[row]:
            yield position, "in a benchmark: image"
        elif rows.request_key[row] in requests:
            yield position, "in a benchmark: request"


def _near_any(hashes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """For each of the hashes, whether any of the others is near."""
    distinct, of_hash = np.unique(np.concatenate([hashes, others]), return_inverse=True)
    marked = np.zeros(len(distinct), dtype=bool)
    marked[of_hash[len(hashes) :]] = True
    pairs = near_pairs(distinct)
    near = marked.copy()
    near[pairs[marked[pairs[:, 1]], 0]] = True
    near[pairs[marked[pairs[:, 0]], 1]] = True
    return near[of_hash[: len(hashes)]]


def _duplicates(rows: Candidates) -> Iterator[tuple[int, str]]:
    """Of rows with the same request and near images the first stays; one that brings its gold comes before the rest."""
    hashes, of_row = np.unique(rows.image_hash, return_inverse=True)
    starts, others = adjacency(near_pairs(hashes), len(hashes))
    keys: dict[bytes, int] = {}
    request = np.array([keys.setdefault(key, len(keys)) for key in rows.request_key], dtype=np.int64)
    order = np.lexsort((rows.position, ~rows.has_gold, request))
    kept: dict[int, int] = {}
    before = -1
    for row in order.tolist():
        if request[row] != before:
            kept, before = {}, request[row]
        image = int(of_row[row])
        twin = next((kept[near] for near in (image, *others[starts[image] : starts[image + 1]]) if near in kept), None)
        if twin is None:
            kept[image] = row
        else:
            yield int(rows.position[row]), f"duplicate: same request and near-identical image as {rows.id[twin]}"


def _parts(rows: Candidates, of_row: np.ndarray, pairs: np.ndarray, val_fraction: float) -> list[str]:
    photo = _photos(rows, of_row, pairs)
    size = np.bincount(photo)
    first: dict[int, bytes] = {}
    for number, key in zip(photo.tolist(), rows.order_key, strict=True):
        first[number] = min(key, first.get(number, key))
    val = _fill(sorted(first, key=first.__getitem__), size, round(val_fraction * len(photo)))
    return [
        split or (VAL if number in val else TRAIN) for split, number in zip(rows.split, photo.tolist(), strict=True)
    ]


def _photos(rows: Candidates, of_row: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """A number for each row; rows of one group, and rows with near images, get the same one."""
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


def _fill(photos: list[int], size: np.ndarray, wanted: int) -> set[int]:
    """Photos for val, in their order, with at most `wanted` rows together; one photo at least, if another is left."""
    chosen, total = set(), 0
    for photo in photos:
        if total + size[photo] <= wanted:
            chosen.add(photo)
            total += size[photo]
    if wanted and not chosen and len(photos) > 1:
        chosen.add(min(photos, key=size.__getitem__))
    return chosen


def _seen_again(
    rows: Candidates, parts: list[str], of_row: np.ndarray, pairs: np.ndarray, images: int
) -> dict[int, str]:
    """Train rows whose image is near one of val, with the reason."""
    starts, others = adjacency(pairs, images)
    val = {int(of_row[row]): row for row in range(len(parts) - 1, -1, -1) if parts[row] == VAL}
    found = {}
    for row in range(len(parts)):
        image = int(of_row[row])
        near = (image, *others[starts[image] : starts[image + 1]].tolist())
        twin = next((val[other] for other in near if other in val), None) if parts[row] == TRAIN else None
        if twin is not None:
            found[row] = f"in both splits: near-duplicate of the validation photo of {rows.id[twin]}"
    return found
