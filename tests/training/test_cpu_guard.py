"""The three conditions under which the CPU stand-ins may be used, each refused on its own."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ier1_plugin.training import cpu
from ier1_plugin.training.cpu import guard


def write_safetensors(file: Path, shapes: list[list[int]]) -> None:
    """A file of 8-bit tensors, sparse on disk: only its header is real."""
    header, offset = {}, 0
    for index, shape in enumerate(shapes):
        size = shape[0] * shape[1]
        header[f"weight_{index}"] = {"dtype": "U8", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    with file.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        out.truncate(8 + len(text) + offset)


@pytest.fixture
def small_model(tmp_path: Path) -> str:
    folder = tmp_path / "small"
    folder.mkdir()
    write_safetensors(folder / "model.safetensors", [[10, 20]])
    return str(folder)


def test_a_small_model_on_a_machine_without_gpu_is_let_through_when_asked_for(small_model: str):
    assert guard.refusals(True, small_model, gpu_nodes=[]) == []


def test_the_stand_ins_are_refused_unless_asked_for(small_model: str):
    (line,) = guard.refusals(False, small_model, gpu_nodes=[])
    assert line.startswith("no --cpu")


def test_a_cluster_with_a_gpu_is_refused_and_its_nodes_are_named(small_model: str):
    (line,) = guard.refusals(True, small_model, gpu_nodes=["node-3", "node-7"])
    assert "node-3, node-7" in line
    assert "run without --cpu" in line


def test_a_model_of_a_hundred_million_parameters_is_refused_and_one_fewer_is_not(tmp_path: Path):
    for width, wanted in ((100_000_000, 1), (99_999_999, 0)):
        folder = tmp_path / str(width)
        folder.mkdir()
        write_safetensors(folder / "model.safetensors", [[1, width]])
        lines = guard.refusals(True, str(folder), gpu_nodes=[])
        assert len(lines) == wanted
        assert all("100,000,000 parameters" in line for line in lines)


def test_a_model_in_several_files_is_counted_as_a_whole(tmp_path: Path):
    for part in (1, 2):
        write_safetensors(tmp_path / f"model-0000{part}-of-00002.safetensors", [[1, 60_000_000]])
    assert guard.count_parameters(str(tmp_path)) == 120_000_000
    assert len(guard.refusals(True, str(tmp_path), gpu_nodes=[])) == 1


def test_without_safetensors_the_parameters_are_counted_from_the_config(tmp_path: Path):
    config = {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "vocab_size": 1000, "hidden_size": 64}
    config |= {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 64}
    for tied, embeddings in ((True, 64_000), (False, 128_000)):
        (tmp_path / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": tied}))
        # q, k, v with bias, o; gate, up, down; three norms
        layer = 3 * (64 * 64 + 64) + 64 * 64 + 3 * 64 * 64 + 3 * 64
        assert guard.count_parameters(str(tmp_path)) == embeddings + layer


@pytest.mark.parametrize("content", [b"", b"not safetensors", (2**40).to_bytes(8, "little")])
def test_a_damaged_model_file_is_one_line_and_not_a_traceback(tmp_path: Path, content: bytes):
    (tmp_path / "model.safetensors").write_bytes(content)
    (line,) = guard.refusals(True, str(tmp_path), gpu_nodes=[])
    assert str(tmp_path) in line
    assert "\n" not in line


def test_a_missing_model_folder_is_named(tmp_path: Path):
    (line,) = guard.refusals(True, str(tmp_path / "nowhere"), gpu_nodes=[])
    assert line.startswith(f"no model folder {tmp_path / 'nowhere'}")


def test_an_empty_model_folder_is_one_line(tmp_path: Path):
    (line,) = guard.refusals(True, str(tmp_path), gpu_nodes=[])
    assert "neither *.safetensors nor config.json" in line


def test_every_problem_is_listed_at_once(tmp_path: Path):
    assert len(guard.refusals(False, str(tmp_path / "nowhere"), gpu_nodes=["node-1"])) == 3


@dataclass
class Rollout:
    tensor_parallel_size: int = 2


@dataclass
class Worker:
    actor: dict[str, Any] = field(default_factory=lambda: {"offload": {"offload_params": True}})
    rollout: Rollout = field(default_factory=Rollout)


@dataclass
class Config:
    """Nested dataclasses, as EasyR1's PPOConfig is."""

    worker: Worker = field(default_factory=Worker)


@pytest.mark.parametrize("config", [Config(), asdict(Config())], ids=["dataclass", "dict"])
def test_config_keys_that_need_cuda_are_named_with_their_cure(config: Any):
    assert guard.config_refusals(config) == [
        "worker.actor.offload.offload_params=true is not covered by the CPU stand-ins; "
        "set worker.actor.offload.offload_params=false",
        "worker.rollout.tensor_parallel_size=2 is not covered by the CPU stand-ins; "
        "set worker.rollout.tensor_parallel_size=1",
    ]
    assert guard.config_refusals({"worker": {"rollout": {"tensor_parallel_size": 1}}}) == []


def test_without_ray_this_machine_alone_is_asked():
    assert guard.find_gpu_nodes(lambda: True) == [socket.gethostname()]
    assert guard.find_gpu_nodes(lambda: False) == []


def test_install_itself_refuses_on_a_machine_with_a_gpu(monkeypatch):
    monkeypatch.setattr(guard, "has_gpu", lambda: True)
    before = list(sys.path)
    with pytest.raises(RuntimeError, match="run without --cpu"):
        cpu.install()
    assert sys.path == before


RAY_PROBES = """
import ray
from ier1_plugin.training.cpu import guard

def unreachable():
    raise OSError("no answer")

ray.init(num_cpus=1, num_gpus=1, include_dashboard=False, object_store_memory=80 * 2**20, _temp_dir={folder!r})
print("LOGICAL", ray.cluster_resources()["GPU"])
print("NODES", *map(guard.find_gpu_nodes, (lambda: False, lambda: True, unreachable)))
ray.shutdown()
"""


@pytest.mark.slow
def test_every_node_of_a_ray_cluster_is_asked_and_its_logical_gpus_do_not_count(
    tmp_path_factory: pytest.TempPathFactory,
):
    # a socket's path has at most 107 characters: tmp_path with this test's name in it is too long
    script = RAY_PROBES.format(folder=str(tmp_path_factory.mktemp("r")))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=180, check=False)
    assert "LOGICAL 1.0" in done.stdout, done.stderr[-2000:]
    host = socket.gethostname()
    asked = f"NODES [] ['{host}'] ['{host} (could not be checked: RayTaskError(OSError))']"
    assert asked in done.stdout
