"""What the tests of benchmarks share: tables as their cards describe them, and all items of a benchmark.

raw_items("psr", data=table(tmp_path, [psr("1aaa")]))
-> [RawItem(id="psr-1aaa", request="remove my ex", ...)]
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from fakes.builder_inputs import encoded, picture

from ier1_plugin.data.sets import RawItem
from ier1_plugin.data.tables import Rejected
from ier1_plugin.evaluation.benchmarks import open_benchmark
from ier1_plugin.evaluation.benchmarks.table import Benchmark
from ier1_plugin.evaluation.config import EvaluationConfig

PNG, OTHER, THIRD = (encoded(picture(seed)) for seed in range(3))


def image(data: bytes = PNG) -> dict[str, Any]:
    return {"bytes": data, "path": None}


def table(folder: Path, rows: list[dict[str, Any]], name: str = "rows.parquet") -> str:
    pq.write_table(pa.Table.from_pylist(rows), folder / name)
    return str(folder / name)


def psr(post: str, **more: Any) -> dict[str, Any]:
    return {
        "post_id": post,
        "instruction": "remove my ex",
        "model": "m",
        "creativity_index": "low",
        "source_image": image(),
        "ai_edited_image": image(OTHER),
        "human_edited_image": image(THIRD),
    } | more


def opened(spec: str, **settings: Any) -> Benchmark:
    return open_benchmark(EvaluationConfig(benchmark=spec, **settings))


def raw_items(spec: str, **settings: Any) -> list[RawItem]:
    """All items of a benchmark in which nothing is broken."""
    benchmark = opened(spec, **settings)
    ids = list(benchmark.ids())
    assert not [id for id in ids if isinstance(id, Rejected)]
    items = list(benchmark.raw_items(frozenset(map(str, ids))))
    assert not [item for item in items if isinstance(item, Rejected)]
    return [item for item in items if isinstance(item, RawItem)]
