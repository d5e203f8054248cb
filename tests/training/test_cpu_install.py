"""What `install()` changes, and that nothing changes without it. Whatever installs runs in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fakes import tiny_models
from fakes.easyr1 import needs_no_gpu

from ier1_plugin.chat import torchvision_ops
from ier1_plugin.training import cpu

pytestmark = needs_no_gpu


def run(script: str, **env: str) -> str:
    """What a fresh Python prints."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("IER1_CPU_")} | env
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_importing_and_installing_loads_no_framework():
    heavy = ["torch", "transformers", "ray", "verl", "vllm", "torchvision"]
    install = "import sys; from ier1_plugin.training.cpu import install; install()"
    script = f"{install}; print([name for name in {heavy} if name in sys.modules])"
    assert run(script) == "[]\n"


@pytest.mark.skipif(find_spec("vllm") is not None, reason="a real vllm is installed")
def test_no_vllm_is_to_be_seen_without_install():
    assert run("import ier1_plugin.training.cpu, importlib.util as u; print(u.find_spec('vllm'))") == "None\n"


def test_install_makes_the_stand_in_importable_with_a_version_that_says_so():
    install = "from ier1_plugin.training.cpu import install; install(); from importlib.metadata import version"
    script = f"{install}; print(version('vllm'))"
    version = run(script).strip()
    assert version == "0.8.5+cpu.standin"
    from packaging.version import parse

    # EasyR1 patches vLLM 0.11.0 and nothing else
    assert parse(version).base_version == "0.8.5"


@pytest.mark.slow
def test_a_second_install_changes_nothing_even_with_torch_loaded_before():
    script = """
import sys
import torch.distributed as dist
from ier1_plugin.training import cpu

def wrappers(function):
    return 1 + wrappers(function.__wrapped__) if hasattr(function, "__wrapped__") else 0

before = wrappers(dist.init_process_group)
cpu.install()
cpu.install()
print(sys.path.count(str(cpu.SITE)), wrappers(dist.init_process_group) - before)
"""
    assert run(script) == "1 1\n"


def test_install_comes_too_late_once_easyr1_or_vllm_is_loaded(monkeypatch: pytest.MonkeyPatch):
    before = list(sys.path)
    for module in ("vllm", "verl.workers.fsdp_workers"):
        with monkeypatch.context() as loaded:
            loaded.setitem(sys.modules, module, SimpleNamespace())  # type: ignore[arg-type]
            with pytest.raises(RuntimeError, match=f"must run before {module}"):
                cpu.install()
    assert sys.path == before


ANSWERS = """
import json
from ier1_plugin.training import cpu
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
    "resized": list(F.resize(torch.zeros(3, 8, 8), [4, 6]).shape),
}}))
dist.destroy_process_group()
"""


@pytest.mark.slow
@pytest.mark.parametrize("given", [{}, {"IER1_CPU_THREADS": "2", "IER1_CPU_LOADER_WORKERS": "3"}])
def test_what_easyr1_asks_of_cuda_is_answered_by_the_cpu_and_no_gpu_is_pretended(given: dict[str, str], tmp_path: Path):
    model = str(tiny_models.build(tmp_path / "model", "qwen2_5_vl"))
    answers = json.loads(run(ANSWERS.format(model=model), **given).split("ANSWERS")[1])
    calls = {"available": False, "name": "CPU", "device": "cpu", "same noise": True, "memory": True, "peak": True}
    groups = {"backend": "gloo", "mesh": "cpu"}
    models = {"attention": "sdpa", "model on": "cpu", "other attention": "eager", "resized": [3, 4, 6]}
    sizes = {"threads": 2, "workers": 3} if given else {"threads": 1, "workers": 0}
    assert answers == calls | groups | models | sizes | {"none": 0}


def test_a_device_named_cuda_means_the_cpu_inside_a_wrapped_function_only():
    import torch

    from ier1_plugin.training.cpu.replacements import cuda_means_cpu

    @cuda_means_cpu
    def easyr1_like() -> list[str]:
        made = torch.tensor([1], device="cuda")
        return [str(made.device), str(made.to(torch.device("cuda:0")).device), str(made.to(device="cuda").device)]

    assert easyr1_like() == ["cpu"] * 3
    with pytest.raises((AssertionError, RuntimeError), match=r"CUDA|cuda"):
        torch.tensor([1], device="cuda")


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


def fake_torch(loads: bool) -> tuple[Any, list[str]]:
    defined: list[str] = []

    def load_library(path: str) -> None:
        if not loads:
            raise OSError("libtorch_cuda.so: cannot open shared object file")

    library = SimpleNamespace(define=defined.append)
    ops = SimpleNamespace(load_library=load_library, torchvision=SimpleNamespace())
    return SimpleNamespace(ops=ops, library=SimpleNamespace(Library=lambda *_: library)), defined


@pytest.mark.skipif(find_spec("torchvision") is None, reason="torchvision is not installed")
def test_torchvisions_schemas_are_left_alone_where_its_own_library_loads():
    torch, defined = fake_torch(loads=True)
    torchvision_ops.define_missing_schemas(torch)
    assert defined == []
    torch, defined = fake_torch(loads=False)
    torchvision_ops.define_missing_schemas(torch)
    assert [schema.split("(")[0] for schema in defined] == ["nms", "qnms"]


def test_a_local_ray_gets_logical_gpus_and_the_setup_hook(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    monkeypatch.setenv("IER1_CPU_LOADER_WORKERS", "2")
    monkeypatch.setenv("PYTHONPATH", "/opt/EasyR1")
    kwargs = cpu.ray_init_kwargs(2, None)
    assert (kwargs["num_gpus"], kwargs["num_cpus"], kwargs["include_dashboard"]) == (2, 8, False)
    assert kwargs["runtime_env"]["worker_process_setup_hook"] == "ier1_plugin.training.cpu.install"
    wanted = {"IER1_CPU_LOADER_WORKERS": "2", "PYTHONPATH": "/opt/EasyR1", "OMP_NUM_THREADS": "1"}
    assert wanted.items() <= kwargs["runtime_env"]["env_vars"].items()


@pytest.mark.parametrize("given", ["auto", None])
def test_a_running_cluster_keeps_its_own_numbers(monkeypatch: pytest.MonkeyPatch, given: str | None):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    kwargs = cpu.ray_init_kwargs(1, given)
    assert set(kwargs) == {"address", "runtime_env"}
    assert kwargs["address"] == (given or "10.0.0.1:6379")


def test_what_a_submitted_job_sets_itself_is_not_sent_again(monkeypatch: pytest.MonkeyPatch):
    job = {"env_vars": {"OMP_NUM_THREADS": "4"}, "worker_process_setup_hook": "ier1_plugin.training.cpu.install"}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps({"runtime_env": job}))
    monkeypatch.setenv("PYTHONPATH", "/tmp/package")
    env = cpu.ray_init_kwargs(1, "auto")["runtime_env"]
    assert "worker_process_setup_hook" not in env
    assert not {"OMP_NUM_THREADS", "PYTHONPATH"} & set(env["env_vars"])
