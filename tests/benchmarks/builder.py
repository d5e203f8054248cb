"""The builder: rows per second where no image has to change, and memory from 1,000 to 100,000 rows.

    python tests/benchmarks/builder.py                  # --rows 100000 --photos 2000 --repeats 3
    2,000 rows, 512 x 512 JPEG of 112 kB, best of 3
    copy into parquet                   2,839 rows/s, ...; builder 0.24 x
    copy, and decode every image          570 rows/s, ...; builder 1.18 x
    builder                               673 rows/s, ...; builder 1.00 x

The first floor reads the same encoded images and writes them with the builder's own parquet settings, and does nothing
else. The second also decodes each image with Pillow in as many threads as the builder has, which is what it takes to
know that an image is whole.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, suppress
from functools import partial
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from machine import machine
from PIL import Image

from data_prep.build import IN_FLIGHT, WORKERS, build
from data_prep.output import write_parquet
from data_prep.settings import Settings

BUILDER = Path(__file__).resolve().parents[2] / "data_prep" / "build_rl_dataset.py"
# detail that no two images share, and enough noise that a 512 x 512 JPEG has the size of a photograph's
COARSE, PHOTO, TINY = (16, 16), (512, 512), (64, 64)
PICTURES = 500


class Cost(NamedTuple):
    """Seconds."""

    wall: float
    cpu: float


def photo(rng: random.Random, size: tuple[int, int], noise: float) -> bytes:
    """A JPEG that looks like nothing, but has large shapes and grain as a photo has."""
    coarse = Image.frombytes("RGB", COARSE, rng.randbytes(3 * COARSE[0] * COARSE[1]))
    grain = Image.effect_noise(size, 60).convert("RGB")
    buffer = BytesIO()
    Image.blend(coarse.resize(size, Image.Resampling.BICUBIC), grain, noise).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def make_input(folder: Path, rows: int, pictures: int, size: tuple[int, int], noise: float) -> Path:
    """A JSONL file with `rows` different requests, and `pictures` different images beside it."""
    rng = random.Random(0)
    (folder / "images").mkdir(parents=True)
    for number in range(pictures):
        (folder / "images" / f"{number}.jpg").write_bytes(photo(rng, size, noise))
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


def ours(source: Path, target: Path) -> None:
    with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
        build(Settings("jsonl", (str(source),), target))


def measure(work: dict[str, Callable[[Path], None]], rows: int, repeats: int, folder: Path) -> dict[str, Cost]:
    """The best of several turns; the contestants take turns, so that a busy machine slows them all."""
    best: dict[str, Cost] = {}
    for turn in range(repeats):
        for name, run in work.items():
            start = Cost(time.perf_counter(), time.process_time())
            run(folder / f"{turn} {name}")
            taken = Cost(time.perf_counter() - start.wall, time.process_time() - start.cpu)
            best[name] = Cost(*map(min, zip(taken, best.get(name, taken), strict=True)))
    return {name: Cost(cost.wall / rows, cost.cpu / rows) for name, cost in best.items()}


def peak_mib(source: Path, target: Path) -> tuple[float, float]:
    """(largest resident size in MiB, seconds) of the command, run as users run it."""
    command = [sys.executable, str(BUILDER), "--source", "jsonl", "--input", str(source), "--output", str(target)]
    start, peak = time.perf_counter(), 0
    process = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    # sampled, since the kernel's own maximum (ru_maxrss) counts what this process held when it forked
    while process.poll() is None:
        with suppress(psutil.NoSuchProcess):
            peak = max(peak, process.memory_info().rss)
        time.sleep(0.02)
    if process.returncode:
        raise SystemExit(f"the builder failed: {' '.join(command)}")
    return peak / 2**20, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000, help="rows of the memory run (default 100,000)")
    parser.add_argument("--photos", type=int, default=2_000, help="rows of the speed run (default 2,000)")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(machine())
        speed(folder, options.photos, options.repeats)
        memory(folder, options.rows)


def speed(folder: Path, rows: int, repeats: int) -> None:
    source = make_input(folder / "photos", rows, min(rows, PICTURES), PHOTO, 0.3)
    size = sum(path.stat().st_size for path in (folder / "photos" / "images").iterdir()) / min(rows, PICTURES)
    print(f"{rows:,} rows, {PHOTO[0]} x {PHOTO[1]} JPEG of {size / 1000:.0f} kB, best of {repeats}")
    copies = {False: "copy into parquet", True: "copy, and decode every image"}
    work: dict[str, Callable[[Path], None]] = {text: partial(copy, source, decode=on) for on, text in copies.items()}
    ours(source, folder / "warm up")
    best = measure(work | {"builder": partial(ours, source)}, rows, repeats, folder)
    for text, cost in best.items():
        ratio = cost.wall / best["builder"].wall
        print(f"{text:<32}{1 / cost.wall:>9,.0f} rows/s, {1000 * cost.cpu:.2f} ms CPU a row; builder {ratio:.2f} x")


def memory(folder: Path, rows: int) -> None:
    for count in (1_000, rows):
        source = make_input(folder / str(count), count, count, TINY, 0.1)
        peak, seconds = peak_mib(source, folder / f"{count} built")
        print(f"{count:>9,} rows, {TINY[0]} x {TINY[1]}: peak {peak:,.0f} MiB, {seconds:,.1f} s")


if __name__ == "__main__":
    main()
