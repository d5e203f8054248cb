"""What the merge refuses, and how: one line, nothing left behind, no code run, nothing overwritten."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes.commands import ier1, refused
from fakes.shards import BUDGET, actor_of, make_run, save_shards, weights, write_json

from ier1_plugin.runs.folder import locked


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


# what can be wrong with the shards: how to break them, and what the line says
BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a rank is missing": (lambda actor: shard(actor, 1).unlink(), "no shard of rank 1 of 2"),
    "no rank is there": (lambda actor: [shard(actor, rank).unlink() for rank in (0, 1)], "no model_world_size_"),
    "a rank too many": (lambda actor: shard(actor, 7).write_bytes(b""), "rank 7 can't belong to a world of 2"),
    "two runs in one folder": (
        lambda actor: (actor / "model_world_size_4_rank_0.pt").write_bytes(b""),
        "world sizes 2 and 4",
    ),
    "a shard is cut off": (lambda actor: os.truncate(shard(actor, 1), 700), "rank_1.pt can't be read, it is cut off"),
    "a shard is empty": (lambda actor: os.truncate(shard(actor, 0), 0), "rank_0.pt can't be read, it is cut off"),
    "a shard is no archive": (lambda actor: shard(actor, 0).write_text("hello"), "rank_0.pt can't be read"),
    "a rank is there twice": (
        lambda actor: shard(actor, 1).write_bytes(shard(actor, 0).read_bytes()),
        "do not make its shape",
    ),
    "a renamed shard of a larger world": (lambda actor: save_larger_world(actor), "do not make its shape"),
    "a list": (lambda actor: save(actor, [1]), "holds no weights by name"),
    "other weights in one rank": (lambda actor: save(actor, {}), "do not hold the same weights"),
    "a weight of another dtype": (lambda actor: save_other_dtype(actor), "differs in kind between the shards"),
    "no config": (lambda actor: (actor / "huggingface" / "config.json").unlink(), "config.json can't be read"),
    "no processor": (
        lambda actor: (actor / "huggingface" / "preprocessor_config.json").unlink(),
        "preprocessor_config.json can't be read",
    ),
    "a processor of another kind": (
        lambda actor: write_json(actor / "huggingface" / "preprocessor_config.json", {"size": {"height": 224}}),
        "not that of a Qwen-VL model",
    ),
    "a config that is no JSON": (
        lambda actor: (actor / "huggingface" / "config.json").write_text("{"),
        "config.json is not JSON",
    ),
}


def shard(actor: Path, rank: int) -> Path:
    return actor / f"model_world_size_2_rank_{rank}.pt"


def save(actor: Path, contents: Any) -> None:
    import torch

    torch.save(contents, shard(actor, 1))


def save_larger_world(actor: Path) -> None:
    save_shards(actor, weights(), 4)
    for rank in range(4):
        (actor / f"model_world_size_4_rank_{rank}.pt").replace(shard(actor, rank))
    shard(actor, 2).unlink()
    shard(actor, 3).unlink()


def save_other_dtype(actor: Path) -> None:
    save_shards(actor / "other", {name: weight.bfloat16() for name, weight in weights().items()}, 2)
    shard(actor / "other", 1).replace(shard(actor, 1))


@pytest.mark.parametrize("what", BROKEN)
def test_broken_shards_are_named_in_one_line_and_leave_nothing_behind(run_folder: Path, what: str):
    break_it, message = BROKEN[what]
    break_it(actor_of(run_folder))
    assert message in refused("merge", run_folder / "global_step_4", *BUDGET)
    assert list(run_folder.glob("*decomposer*")) == []


def test_a_shard_is_data_and_runs_no_code(run_folder: Path, tmp_path: Path):
    class Bomb:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "exploded"),)

    save(actor_of(run_folder), {"weight": Bomb()})
    assert "can't be read" in refused("merge", run_folder, *BUDGET)
    shard(actor_of(run_folder), 1).write_bytes(pickle.dumps(Bomb()))
    assert "can't be read" in refused("merge", run_folder, *BUDGET)
    assert not (tmp_path / "exploded").exists()


def test_wrong_options_are_named_in_one_line(run_folder: Path, tmp_path: Path):
    assert "no folder" in refused("merge", tmp_path / "nowhere", *BUDGET)
    assert "no checkpoint in" in refused("merge", tmp_path / "run" / "global_step_4" / "actor" / "huggingface", *BUDGET)
    assert "pass --min-pixels and --max-pixels, or --config" in refused("merge", run_folder)
    assert "wanted 0 < min_pixels <= max_pixels, got 784 and 28" in refused("merge", run_folder, *BUDGET[:3], 28)
    assert "no prompt file" in refused("merge", run_folder, *BUDGET, "--prompt", tmp_path / "no.jinja")
    assert "can't be read" in refused("merge", run_folder, *BUDGET, "--config", tmp_path / "no.yaml")
    (tmp_path / "bad.yaml").write_text("data: [")
    assert "is not YAML" in refused("merge", run_folder, *BUDGET, "--config", tmp_path / "bad.yaml")
    (tmp_path / "empty.yaml").write_text("- 1\n")
    assert "holds no keys" in refused("merge", run_folder, *BUDGET, "--config", tmp_path / "empty.yaml")
    (tmp_path / "odd.yaml").write_text("worker: {rollout: {dtype: fp8}}")
    assert "worker.rollout.dtype is fp8" in refused("merge", run_folder, *BUDGET, "--config", tmp_path / "odd.yaml")


def test_an_existing_folder_is_never_written_into(run_folder: Path):
    ier1("merge", run_folder, *BUDGET)
    before = {file: file.stat().st_mtime_ns for file in (run_folder / "decomposer-step-4").iterdir()}
    assert "exists; remove it, or name another folder with --out" in refused("merge", run_folder, *BUDGET)
    assert before == {file: file.stat().st_mtime_ns for file in (run_folder / "decomposer-step-4").iterdir()}


def test_a_merge_goes_on_where_a_killed_one_left_its_files_but_not_beside_a_running_one(run_folder: Path):
    partial = run_folder / ".decomposer-step-4.partial"
    partial.mkdir()
    (partial / "model-00009-of-00009.safetensors").write_text("half")
    with locked(partial):
        assert f"another run is writing to {partial}" in refused("merge", run_folder, *BUDGET)
    ier1("merge", run_folder, *BUDGET)
    assert not (run_folder / "decomposer-step-4" / "model-00009-of-00009.safetensors").exists()
    assert not partial.exists()


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_leaves_nothing_behind(run_folder: Path):
    import torch

    save_shards(run_folder / "global_step_4" / "actor", {"model.embed_tokens.weight": torch.ones(512, 512)}, 2)
    before = sorted(run_folder.iterdir())
    command = f"ulimit -f 200; exec {sys.executable} -m ier1_plugin.cli merge {run_folder} {' '.join(BUDGET)}"
    full = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120)
    assert full.returncode == 1
    last = full.stderr.strip().splitlines()[-1]
    assert re.match(r"error: .*model.safetensors", last)
    assert "Traceback" not in full.stderr
    assert sorted(run_folder.iterdir()) == before
