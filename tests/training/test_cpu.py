"""The CPU stand-ins: when they may be used, what `install()` changes, and EasyR1's own training on them.

Whatever installs runs in a process of its own, since the stand-ins can't be taken back.
"""

from __future__ import annotations

import json
import math
import socket
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fakes import tiny_models
from fakes.commands import output_of
from fakes.easyr1 import needs_no_gpu, run_script

from ier1_plugin.chat import torchvision_ops
from ier1_plugin.training import cpu
from ier1_plugin.training.cpu import guard
from ier1_plugin.training.run_config import ROLLOUT_MARK

# --- when they may be used ------------------------------------------------------------------------------------------


def model_of(folder: Path, *sizes: int) -> str:
    """A model of 8-bit tensors in a file each, sparse on disk: only its headers are real."""
    folder.mkdir(exist_ok=True)
    for number, size in enumerate(sizes):
        header = {f"weight_{number}": {"dtype": "U8", "shape": [1, size], "data_offsets": [0, size]}}
        text = json.dumps(header).encode()
        with (folder / f"model-{number}.safetensors").open("wb") as out:
            out.write(len(text).to_bytes(8, "little") + text)
            out.truncate(8 + len(text) + size)
    return str(folder)


@pytest.mark.parametrize(
    ("sizes", "gpu_nodes", "told"),
    [
        ((99_999_999,), [], []),
        ((100_000_000,), [], ["100,000,000 parameters"]),
        # several files are counted as a whole
        ((60_000_000, 60_000_000), [], ["120,000,000"]),
        ((), [], ["neither *.safetensors nor config.json"]),
        ((200,), ["node-3", "node-7"], ["node-3, node-7"]),
        ((100_000_000,), ["node-1"], ["node-1", "parameters"]),
    ],
)
def test_every_condition_is_checked_and_all_problems_are_listed(
    tmp_path: Path, sizes: tuple[int, ...], gpu_nodes: list[str], told: list[str]
):
    lines = guard.refusals(model_of(tmp_path / "model", *sizes), gpu_nodes=gpu_nodes)
    assert len(lines) == len(told)
    assert all(part in line for part, line in zip(told, lines, strict=True))


def test_without_safetensors_the_parameters_are_counted_from_the_config(tmp_path: Path):
    sizes = {"vocab_size": 1000, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    # q, k, v with bias, o; gate, up, down; three norms
    layer = 3 * (64 * 64 + 64) + 64 * 64 + 3 * 64 * 64 + 3 * 64
    for tied, embeddings in ((True, 64_000), (False, 128_000)):
        config = {"model_type": "qwen2", "tie_word_embeddings": tied, **sizes, **heads}
        (tmp_path / "config.json").write_text(json.dumps(config))
        assert guard.count_parameters(str(tmp_path)) == embeddings + layer


@pytest.mark.parametrize("content", [None, b"", b"not safetensors", (2**40).to_bytes(8, "little")])
def test_a_missing_or_damaged_model_is_one_line_and_not_a_traceback(tmp_path: Path, content: bytes | None):
    folder = tmp_path / "model"
    if content is not None:
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(content)
    (line,) = guard.refusals(str(folder), gpu_nodes=[])
    assert str(folder) in line
    assert "\n" not in line


def test_config_keys_that_need_cuda_are_named_with_their_cure():
    config = {"worker": {"actor": {"offload": {"offload_params": True}}, "rollout": {"tensor_parallel_size": 2}}}
    offload, parallel = guard.config_refusals(config)
    assert offload.startswith("worker.actor.offload.offload_params=true")
    assert offload.endswith("set worker.actor.offload.offload_params=false")
    assert parallel.endswith("set worker.rollout.tensor_parallel_size=1")
    assert guard.config_refusals({"worker": {"rollout": {"tensor_parallel_size": 1}}}) == []


RAY_PROBES = """
import ray
from ier1_plugin.training.cpu import guard

def unreachable():
    raise OSError("no answer")

print("ALONE", *map(guard.find_gpu_nodes, (lambda: False, lambda: True)))
ray.init(num_cpus=1, num_gpus=1, include_dashboard=False, object_store_memory=80 * 2**20, _temp_dir={folder!r})
print("LOGICAL", ray.cluster_resources()["GPU"])
print("NODES", *map(guard.find_gpu_nodes, (lambda: False, lambda: True, unreachable)))
ray.shutdown()
"""


def run(script: str) -> str:
    """What a fresh Python prints."""
    return output_of(sys.executable, "-c", script)


@pytest.mark.slow
def test_every_node_of_a_ray_cluster_is_asked_and_its_logical_gpus_do_not_count(tmp_path_factory: Any):
    # a socket's path has at most 107 characters: tmp_path with this test's name in it is too long
    printed = run(RAY_PROBES.format(folder=str(tmp_path_factory.mktemp("r"))))
    assert "LOGICAL 1.0" in printed
    host = socket.gethostname()
    assert f"ALONE [] ['{host}']" in printed
    assert f"NODES [] ['{host}'] ['{host} (could not be checked: RayTaskError(OSError))']" in printed


# --- what install() changes -----------------------------------------------------------------------------------------

INSTALL = """
import importlib.util, sys
from ier1_plugin.training import cpu
print(importlib.util.find_spec("vllm"))
cpu.install()
print([name for name in ["torch", "transformers", "ray", "verl", "vllm", "torchvision"] if name in sys.modules])
from importlib.metadata import version
print(version("vllm"))
"""


@pytest.mark.skipif(find_spec("vllm") is not None, reason="a real vllm is installed")
@needs_no_gpu
def test_installing_loads_no_framework_and_shows_a_vllm_whose_version_says_what_it_is():
    # EasyR1 patches vLLM 0.11.0 and nothing else
    assert run(INSTALL).splitlines() == ["None", "[]", "0.8.5+cpu.standin"]


@pytest.mark.parametrize(
    ("gpu", "loaded", "told"),
    [
        (True, "json", "run without --cpu"),
        (False, "vllm", "must run before vllm"),
        (False, "verl.workers.fsdp_workers", "must run before verl.workers.fsdp_workers"),
    ],
)
def test_install_refuses_a_gpu_and_comes_too_late_once_easyr1_or_vllm_is_loaded(
    monkeypatch: pytest.MonkeyPatch, gpu: bool, loaded: str, told: str
):
    before = list(sys.path)
    with monkeypatch.context() as patch:
        patch.setattr(guard, "has_gpu", lambda: gpu)
        patch.setitem(sys.modules, loaded, sys.modules.get(loaded, SimpleNamespace()))  # type: ignore[arg-type]
        with pytest.raises(RuntimeError, match=told):
            cpu.install()
    assert sys.path == before


ANSWERS = """
import json, sys
if {torch_first}:
    import torch.distributed
from ier1_plugin.training import cpu
cpu.install()
cpu.install()
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torchdata.stateful_dataloader import StatefulDataLoader
from torchvision.transforms.v2 import functional as F
from transformers import AutoModelForImageTextToText as Auto

state = torch.cuda.get_rng_state()
first = torch.rand(3)
torch.cuda.set_rng_state(state)
free, total = torch.cuda.mem_get_info()
dist.init_process_group(backend="nccl", store=dist.HashStore(), rank=0, world_size=1)
flash = Auto.from_pretrained({model!r}, attn_implementation="flash_attention_2", device_map="cuda")
eager = Auto.from_pretrained({model!r}, attn_implementation="eager")
print("ANSWERS" + json.dumps({{
    "available": torch.cuda.is_available(), "name": torch.cuda.get_device_name(),
    "device": str(torch.cuda.current_device()), "same noise": torch.equal(first, torch.rand(3)),
    "memory": 0 < free <= total, "peak": torch.cuda.max_memory_allocated() > 2**26, "threads": torch.get_num_threads(),
    "backend": dist.get_backend(), "mesh": init_device_mesh("cuda", mesh_shape=(1,)).device_type,
    "attention": flash.config._attn_implementation, "model on": str(flash.device),
    "other attention": eager.config._attn_implementation,
    "workers": StatefulDataLoader([1, 2], num_workers=8).num_workers, "none": StatefulDataLoader([1, 2]).num_workers,
    "installed": sys.path.count(str(cpu.SITE)), "resized": list(F.resize(torch.zeros(3, 8, 8), [4, 6]).shape),
}}))
dist.destroy_process_group()
"""


@pytest.mark.slow
@needs_no_gpu
@pytest.mark.parametrize("torch_first", [True, False])
def test_what_easyr1_asks_of_cuda_is_answered_by_the_cpu_and_no_gpu_is_pretended(torch_first: bool, tmp_path: Path):
    model = str(tiny_models.build(tmp_path / "model", "qwen2_5_vl"))
    answers = json.loads(run(ANSWERS.format(model=model, torch_first=torch_first)).split("ANSWERS")[1])
    calls = {"available": False, "name": "CPU", "device": "cpu", "same noise": True, "memory": True, "peak": True}
    groups = {"backend": "gloo", "mesh": "cpu", "threads": 1, "workers": 0, "none": 0}
    models = {"attention": "sdpa", "model on": "cpu", "other attention": "eager", "resized": [3, 4, 6]}
    # a second install changes nothing
    assert answers == calls | groups | models | {"installed": 1}


def test_packing_and_unpacking_gives_the_batch_back_and_passes_gradients():
    import torch

    from ier1_plugin.training.cpu.site.flash_attn.bert_padding import index_first_axis, pad_input, unpad_input

    mask = torch.tensor([[0, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 1]])
    hidden = torch.randn(3, 4, 5, requires_grad=True)
    packed, indices, starts, longest, lengths = unpad_input(hidden, mask)
    assert packed.shape == (6, 5)
    assert (starts.tolist(), longest, lengths.tolist()) == ([0, 3, 5, 6], 3, [3, 2, 1])
    assert starts.dtype == torch.int32
    assert torch.equal(index_first_axis(hidden.flatten(0, 1), indices), packed)
    restored = pad_input(packed, indices, batch=3, seqlen=4)
    assert torch.equal(restored, hidden * mask[..., None])
    restored.sum().backward()
    assert hidden.grad is not None
    assert torch.equal(hidden.grad, mask[..., None].expand(3, 4, 5).float())


@pytest.mark.skipif(find_spec("torchvision") is None, reason="torchvision is not installed")
@pytest.mark.parametrize(("loads", "wanted"), [(True, []), (False, ["nms", "qnms"])])
def test_torchvisions_schemas_are_defined_where_its_own_library_does_not_load(loads: bool, wanted: list[str]):
    defined: list[str] = []

    def load_library(path: str) -> None:
        if not loads:
            raise OSError("libtorch_cuda.so: cannot open shared object file")

    library = SimpleNamespace(define=defined.append)
    ops = SimpleNamespace(load_library=load_library, torchvision=SimpleNamespace())
    fake: Any = SimpleNamespace(ops=ops, library=SimpleNamespace(Library=lambda *_: library))
    torchvision_ops.define_missing_schemas(fake)
    assert [schema.split("(")[0] for schema in defined] == wanted


def test_a_local_ray_gets_logical_gpus_and_a_running_cluster_keeps_its_numbers(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    monkeypatch.setenv("PYTHONPATH", "/opt/EasyR1")
    kwargs = cpu.ray_init_kwargs(2)
    assert (kwargs["num_gpus"], kwargs["num_cpus"], kwargs["include_dashboard"]) == (2, 8, False)
    job = kwargs["runtime_env"]
    assert job["worker_process_setup_hook"] == "ier1_plugin.training.cpu.install"
    assert {"PYTHONPATH": "/opt/EasyR1", "OMP_NUM_THREADS": "1"}.items() <= job["env_vars"].items()
    # a job is not sent what it sets itself, nor the path of Ray's copy
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps({"runtime_env": job}))
    assert cpu.ray_init_kwargs(1) == {"address": "10.0.0.1:6379", "runtime_env": {"env_vars": {}}}


# --- two GRPO steps of EasyR1's own worker, dataset and reward manager ----------------------------------------------

# far enough to show next to a rounding to bfloat16
FAR = "worker.actor.optim.lr=0.05"
LORA = ["worker.actor.model.lora.rank=4", "worker.actor.model.lora.exclude_modules=.*visual.*", FAR]
MICRO = "worker.actor.micro_batch_size_per_device_for"
PACKED = ["worker.actor.padding_free=true", f"{MICRO}_update=4", f"{MICRO}_experience=4"]
STATIC = ["worker.actor.dynamic_batching=false", "worker.rollout.dtype=bf16", FAR]
CASES = {
    "installed": ("installed", "qwen2_5_vl", []),
    "installed, packed": ("installed", "qwen2_5_vl", PACKED),
    "installed, static batches and bf16 rollout": ("installed", "qwen2_5_vl", STATIC),
    "source": ("source", "qwen2_5_vl", []),
    "source, LoRA": ("source", "qwen2_5_vl", LORA),
    "source, Qwen3-VL": ("source", "qwen3_vl", []),
    "source, Qwen3-VL packed": ("source", "qwen3_vl", PACKED),
}


@pytest.mark.slow
@needs_no_gpu
@pytest.mark.parametrize(("which", "family", "settings"), CASES.values(), ids=CASES)
def test_easyr1_trains_on_our_rows_and_reward(which: str, family: str, settings: list[str], tmp_path: Path):
    model, rows = tiny_models.build(tmp_path / "model", family), tiny_models.write_rows(tmp_path / "rows.parquet", 8)
    report = tmp_path / "report.json"
    run_script("easyr1_step.py", which, model, rows, report, *settings, HF_HOME=str(tmp_path / "hf"))
    found = json.loads(report.read_text())
    rewards = {name: value for name, value in found["plugin"].items() if name.startswith("reward/")}
    assert set(rewards) == {f"reward/{part}" for part in ("overall", "format", "action", "subject", "goal")}
    assert all(0 <= value <= 1 for value in rewards.values())
    assert all(math.isfinite(value) for step in (found["plugin"], found["letters"]) for value in step.values())
    # a reward that the samples differ in moves the weights, and the rollout follows them
    assert 0 < found["letters"]["reward/overall"] < 1
    assert found["letters"]["actor/grad_norm"] > 0.01
    assert found["weights"]["moved"] > 1e-4
    assert found["weights"]["apart"] < found["weights"]["moved"] / 5
    mark = json.loads((tmp_path / "actor" / "huggingface" / ROLLOUT_MARK).read_text())
    assert mark == {"rollout": "cpu-standin"}
