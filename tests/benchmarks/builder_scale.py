"""The builder's seconds and memory from thousands to hundreds of thousands of rows, in one process and on Ray.

    python tests/benchmarks/builder_scale.py --rows 10000 20000 50000 100000 200000     # --only threads, --only ray
         rows         seconds  rows/s  peak MiB: driver, a worker
       10,000  threads     12.3     813       180      -
       10,000  ray         25.0     400       210    190
    threads: 2.1 s + 1.02 ms a row, 170 MiB + 0.4 KiB a row; a million: 17 minutes, 560 MiB

Shards of 1,000 rows, JPEGs of 2 kB; one row of ten is the near-duplicate of another. Both builds of a size must give
the same bytes. The line is a least-squares fit through what was run. With RAY_ADDRESS set, workers on other machines
are not seen.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from machine import costs, machine
from PIL import Image

BUILDER = Path(__file__).resolve().parents[2] / "data_prep" / "build_rl_dataset.py"
WAYS = {"threads": (), "ray": ("--ray",)}
SHARD_ROWS = 1000
SIZE, REDUCED = (96, 80), (64, 54)
MILLION = 1_000_000


def make_shards(folder: Path, rows: int) -> Path:
    """Parquet files with an image, a request and gold in each row; the last of ten comes again from an earlier one."""
    folder.mkdir()
    gold = {"actions": ["Delete"], "subjects": ["lamp"], "goals": []}
    for start in range(0, rows, SHARD_ROWS):
        shard = []
        for number in range(start, min(start + SHARD_ROWS, rows)):
            original = number - 37 if number % 10 == 9 and number > 37 else number
            coarse = Image.frombytes("RGB", (6, 6), random.Random(original).randbytes(108))
            image, buffer = coarse.resize(SIZE, Image.Resampling.BICUBIC), BytesIO()
            if original != number:
                image = image.resize(REDUCED)
            image.save(buffer, "JPEG", quality=85 if original == number else 60)
            shard.append({"id": f"r{number}", "image": buffer.getvalue(), "request": f"remove lamp {original}", **gold})
        pq.write_table(pa.Table.from_pylist(shard), folder / f"{start:08}.parquet")
    return folder


def measure(source: Path, output: Path, *options: str) -> tuple[float, float, float]:
    """Seconds, and the peak MiB of the driver and of the largest worker."""
    largest = 0.0

    def look(driver: psutil.Process) -> None:
        nonlocal largest
        for process in driver.children(recursive=True):
            try:
                if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::"):
                    largest = max(largest, process.memory_info().rss / 2**20)
            except psutil.NoSuchProcess:
                continue
        time.sleep(0.2)

    arguments = ("--source", "jsonl", "--input", source, "--output", output, *options)
    seconds, _, driver = costs(BUILDER, *arguments, look=look)
    return seconds, driver, largest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = [10_000, 20_000, 50_000, 100_000, 200_000]
    parser.add_argument("--rows", type=int, nargs="+", default=sizes, help=f"default {' '.join(map(str, sizes))}")
    parser.add_argument("--only", choices=WAYS, help="one of the two ways")
    options = parser.parse_args()
    ways = [options.only] if options.only else list(WAYS)
    results: dict[str, list[tuple[float, ...]]] = {way: [] for way in ways}
    print(machine(), "rows, seconds, rows/s, peak MiB of the driver and of the largest worker", sep="\n")
    for rows in options.rows:
        with tempfile.TemporaryDirectory() as name:
            source = make_shards(Path(name) / "shards", rows)
            for way in ways:
                found = measure(source, Path(name) / way, *WAYS[way])
                results[way].append((rows, *found))
                seconds, driver, worker = found
                print(
                    f"{rows:>9,} {way:<8}{seconds:>8,.1f}{rows / seconds:>8,.0f}{driver:>8,.0f}{worker:>8,.0f}",
                    flush=True,
                )
            built = [
                [(Path(name) / way / file).read_bytes() for file in ("train.parquet", "val.parquet", "rejected.jsonl")]
                for way in ways
            ]
            if built[0] != built[-1]:
                raise SystemExit(f"{rows:,} rows: the two builds differ")
            counts = json.loads((Path(name) / ways[0] / "report.json").read_text())["rows"]
            print(f"{'':>9} the same bytes: {counts}" if len(ways) > 1 else f"{'':>9} {counts}", flush=True)
    for way in ways:
        rows, seconds, *peaks = np.array(results[way]).T
        if len(rows) < 2:
            continue
        slope, start = np.polyfit(rows, seconds, 1)
        line = (
            f"{way}: {start:.1f} s + {1000 * slope:.2f} ms a row, a million in {(start + slope * MILLION) / 60:.0f} min"
        )
        for who, peak in zip(("driver", "worker"), peaks, strict=True):
            if peak.any():
                more, base = np.polyfit(rows, peak, 1)
                line += f"; {who} {base:.0f} MiB + {1024 * more:.2f} KiB a row, {base + more * MILLION:,.0f} MiB"
        print(line)


if __name__ == "__main__":
    main()
