"""The builder: rows per second where no image has to change.

    python tests/benchmarks/builder.py                  # --photos 2000 --repeats 3
    2,000 rows, 512 x 512 JPEG of 112 kB, best of 3
    copy into parquet                   2,839 rows/s; builder 0.24 x
    copy, and decode every image          570 rows/s; builder 1.18 x
    builder                               673 rows/s; builder 1.00 x

The first floor reads the same encoded images and writes them with the builder's own parquet settings, and does nothing
else. The second also decodes each image with Pillow in as many threads as the builder has, which is what it takes to
know that an image is whole.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr
from functools import partial
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

from machine import in_turns, machine, photo
from PIL import Image

from data_prep.build import IN_FLIGHT, WORKERS, build
from data_prep.output import write_parquet
from data_prep.settings import Settings

PHOTO = 512
"""Side in pixels."""
PICTURES = 500


def make_input(folder: Path, rows: int, pictures: int) -> Path:
    """A JSONL file with `rows` different requests, and `pictures` different images beside it."""
    (folder / "images").mkdir(parents=True)
    for number in range(pictures):
        photo(PHOTO, number).save(folder / "images" / f"{number}.jpg", quality=85)
    gold = {"actions": ["Delete"], "subjects": ["lamp"], "goals": []}
    with (folder / "requests.jsonl").open("w") as file:
        for number in range(rows):
            image = f"images/{number % pictures}.jpg"
            file.write(json.dumps({"image": image, "request": f"remove lamp number {number}", **gold}) + "\n")
    return folder / "requests.jsonl"


def copy(source: Path, target: Path, decode: bool) -> None:
    """The floors."""

    def rows() -> Iterator[dict[str, Any]]:
        with source.open() as lines, ThreadPoolExecutor(WORKERS) as pool:
            while batch := [json.loads(line) for line in islice(lines, IN_FLIGHT)]:
                images = [(source.parent / row["image"]).read_bytes() for row in batch]
                if decode:
                    list(pool.map(lambda image: Image.open(BytesIO(image)).load(), images))
                for row, image in zip(batch, images, strict=True):
                    answer = json.dumps({name: row[name] for name in ("actions", "subjects", "goals")})
                    packed = [{"bytes": image, "path": None}]
                    yield {"id": row["image"], "problem": row["request"], "images": packed, "answer": answer}

    write_parquet(target, rows())


def ours(source: Path) -> None:
    target = Path(tempfile.mkdtemp(dir=source.parent)) / "built"
    with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
        build(Settings("jsonl", (str(source),), target))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=2_000, help="rows (default 2,000)")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        print(machine())
        speed(Path(name), options.photos, options.repeats)


def speed(folder: Path, rows: int, repeats: int) -> None:
    source = make_input(folder / "photos", rows, min(rows, PICTURES))
    size = sum(path.stat().st_size for path in (folder / "photos" / "images").iterdir()) / min(rows, PICTURES)
    print(f"{rows:,} rows, {PHOTO} x {PHOTO} JPEG of {size / 1000:.0f} kB, best of {repeats}")
    work = {
        "copy into parquet": partial(copy, source, folder / "copied", decode=False),
        "copy, and decode every image": partial(copy, source, folder / "copied", decode=True),
        "builder": partial(ours, source),
    }
    ours(source)
    best = {name: min(turns).wall for name, turns in in_turns(work, repeats).items()}
    for text, seconds in best.items():
        print(f"{text:<32}{rows / seconds:>9,.0f} rows/s; builder {seconds / best['builder']:.2f} x")


if __name__ == "__main__":
    main()
