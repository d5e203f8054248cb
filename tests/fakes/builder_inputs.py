"""Small inputs for the builder's tests, and the builder run in this process or as the command that users run."""

from __future__ import annotations

import json
import random
import struct
import sys
import zlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from PIL import Image

from data_prep.build_rl_dataset import main

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "data_prep" / "build_rl_dataset.py"
GOLD = {"actions": ["Delete"], "subjects": ["lamp"], "goals": []}


def picture(seed: int, size: tuple[int, int] = (96, 80)) -> Image.Image:
    """An image with large shapes; two seeds give images that nothing takes for the same."""
    coarse = Image.frombytes("RGB", (6, 6), random.Random(seed).randbytes(108))
    return coarse.resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


PNG = encoded(picture(0))


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no pixels: a decompression bomb in a few bytes."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(b""))]
    packed = [
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def write_jsonl(folder: Path, rows: Sequence[dict[str, Any] | str], name: str = "in.jsonl") -> Path:
    """A JSONL file; a text among the rows becomes a line as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / name).write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return folder / name


def build_rows(folder: Path, raw: Sequence[dict[str, Any]], *options: Any) -> Path:
    """Builds rows of FOLDER/in and returns FOLDER/out.

    What a row leaves out is: the id r0, r1, ..., the bytes of a PNG, "remove the lamp", and GOLD.
    """
    (folder / "in").mkdir(parents=True, exist_ok=True)
    lines = []
    for number, change in enumerate(raw):
        row = {"id": f"r{number}", "image": PNG, "request": "remove the lamp", **GOLD, **change}
        (folder / "in" / f"{number}").write_bytes(row["image"])
        lines.append(row | {"image": f"{number}"})
    build("jsonl", write_jsonl(folder / "in", lines), folder / "out", *options)
    return folder / "out"


def requests(folder: Path, count: int, photos: int | None = None, gold: dict[str, Any] = GOLD) -> Path:
    """`count` different requests with `gold`, over `photos` different images (as many as requests where it is None)."""
    photos = photos or count
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(photos):
        (folder / f"{number}.png").write_bytes(encoded(picture(number)))
    asked = [(f"r{n}", f"{n % photos}.png", f"remove the lamp {n}") for n in range(count)]
    return write_jsonl(folder, [{"id": id, "image": image, "request": text, **gold} for id, image, text in asked])


def build(source: str, input: Path | None, output: Path, *options: Any) -> int:
    """Runs the builder in this process; the exit status."""
    inputs = ["--input", str(input)] if input else []
    return main(["--source", source, *inputs, "--output", str(output), *map(str, options)])


def command(source: str, input: Path, output: Path, *options: Any) -> list[str]:
    words = ["--source", source, "--input", str(input), "--output", str(output), *map(str, options)]
    return [sys.executable, str(SCRIPT), *words]


def rows(output: Path, split: str = "train") -> list[dict[str, Any]]:
    return pq.read_table(output / f"{split}.parquet").to_pylist()


def all_rows(output: Path) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for split in ("train", "val") for row in rows(output, split)}


def rejected(output: Path) -> dict[str, str]:
    """{id: reason}"""
    lines = (output / "rejected.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["id"]: row["reason"] for row in map(json.loads, lines)}


def report(output: Path) -> dict[str, Any]:
    return json.loads((output / "report.json").read_text(encoding="utf-8"))
