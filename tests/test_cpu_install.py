"""What `install()` changes, and that nothing changes without it. Whatever installs runs in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import pytest

from ier1_plugin import cpu
from ier1_plugin.cpu import guard, torchvision_ops

pytestmark = pytest.mark.skipif(guard.has_gpu(), reason="this machine has a GPU: the CPU stand-ins refuse to run")


def run(script: str, **env: str) -> str:
    """What a fresh Python prints."""
    import os

    environment = {key: value for key, value in os.environ.items() if not key.startswith("IER1_CPU_")} | env
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_importing_and_installing_loads_no_framework():
    heavy = ["torch", "transformers", "ray", "verl", "vllm", "torchvision"]
    script = f"import sys; import ier1_plugin.cpu as c; c.install(); print([m for m in {heavy} if m in sys.modules])"
    assert run(script) == "[]\n"


@pytest.mark.skipif(find_spec("vllm") is not None, reason="a real vllm is installed")
def test_no_vllm_is_to_be_seen_without_install():
    assert run("import ier1_plugin.cpu, importlib.util as u; print(u.find_spec('vllm'))") == "None\n"


def test_install_makes_the_stand_in_importable_with_a_version_that_says_so():
    script = (
        "from ier1_plugin import cpu; cpu.install(); from importlib.metadata import version; print(version('vllm'))"
    )
    version = run(script).strip()
    assert version == "0.8.5+cpu.standin"
    from packaging.version import parse

    # EasyR1 patches vLLM 0.11.0 and nothing else
    assert parse(version).base_version == "0.8.5"


def test_a_second_install_changes_nothing():
    script = """
import sys
from ier1_plugin import cpu
cpu.install(); cpu.install()
import torch.distributed as dist
print(sys.path.count(str(cpu.SITE)), hasattr(dist.init_process_group.__wrapped__, "__wrapped__"))
"""
    # torch wraps the function once itself
    assert run(script) == "1 True\n"


def test_install_comes_too_late_once_easyr1_or_vllm_is_loaded(monkeypatch: pytest.MonkeyPatch):
    before = list(sys.path)
    for module in ("vllm", "verl.workers.fsdp_workers"):
        with monkeypatch.context() as loaded:
            loaded.setitem(sys.modules, module, SimpleNamespace())  # type: ignore[arg-type]
            with pytest.raises(RuntimeError, match=f"must run before {module}"):
                cpu.install()
    assert sys.path == before


def test_cuda_calls_are_answered_by_the_cpu_and_no_gpu_is_pretended():
    script = """
from ier1_plugin import cpu
cpu.install()
import json, torch
state = torch.cuda.get_rng_state()
first = torch.rand(3)
torch.cuda.set_rng_state(state)
free, total = torch.cuda.mem_get_info()
print(json.dumps({
    "available": torch.cuda.is_available(), "name": torch.cuda.get_device_name(),
    "device": str(torch.cuda.current_device()), "same_noise": torch.equal(first, torch.rand(3)),
    "memory": 0 < free <= total, "peak": torch.cuda.max_memory_allocated() > 2**26, "threads": torch.get_num_threads(),
}))
"""
    answers = json.loads(run(script, IER1_CPU_THREADS="2"))
    wanted = {"available": False, "name": "CPU", "device": "cpu", "same_noise": True, "memory": True, "peak": True}
    assert answers == wanted | {"threads": 2}


def test_nccl_becomes_gloo_and_a_cuda_mesh_one_of_cpus():
    script = """
from ier1_plugin import cpu
cpu.install()
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
dist.init_process_group(backend="nccl", store=dist.HashStore(), rank=0, world_size=1)
print(dist.get_backend(), init_device_mesh("cuda", mesh_shape=(1,), mesh_dim_names=("fsdp",)).device_type)
dist.destroy_process_group()
"""
    assert run(script) == "gloo cpu\n"


def test_flash_attention_becomes_sdpa_and_a_cuda_device_map_the_cpu(tmp_path):
    import tiny_models

    folder = tiny_models.build(tmp_path / "model", "qwen2_5_vl")
    script = f"""
from ier1_plugin import cpu
cpu.install()
from transformers import AutoModelForImageTextToText as Auto
model = Auto.from_pretrained({str(folder)!r}, attn_implementation="flash_attention_2", device_map="cuda")
eager = Auto.from_pretrained({str(folder)!r}, attn_implementation="eager")
print(model.config._attn_implementation, model.device, eager.config._attn_implementation)
"""
    assert run(script) == "sdpa cpu eager\n"


@pytest.mark.parametrize(("given", "workers"), [({}, 0), ({"IER1_CPU_LOADER_WORKERS": "3"}, 3)])
def test_the_data_loader_starts_as_many_workers_as_the_environment_says(given: dict[str, str], workers: int):
    pytest.importorskip("torchdata")
    script = """
from ier1_plugin import cpu
cpu.install()
from torchdata.stateful_dataloader import StatefulDataLoader
print(StatefulDataLoader([1, 2], num_workers=8).num_workers, StatefulDataLoader([1, 2]).num_workers)
"""
    assert run(script, **given) == f"{workers} 0\n"


def test_a_device_named_cuda_means_the_cpu_inside_a_wrapped_function_only():
    import torch

    from ier1_plugin.cpu.cuda import cuda_means_cpu

    @cuda_means_cpu
    def easyr1_like() -> list[str]:
        made = torch.tensor([1], device="cuda")
        return [str(made.device), str(made.to(torch.device("cuda:0")).device), str(made.to(device="cuda").device)]

    assert easyr1_like() == ["cpu"] * 3
    with pytest.raises((AssertionError, RuntimeError), match=r"CUDA|cuda"):
        torch.tensor([1], device="cuda")


def test_packing_and_unpacking_gives_the_batch_back_and_passes_gradients():
    import torch

    from ier1_plugin.cpu.site.flash_attn.bert_padding import index_first_axis, pad_input, unpad_input

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
    assert torch.equal(hidden.grad, mask[..., None].expand(3, 4, 5).float())


def test_torchvision_imports_after_install_and_its_transforms_work():
    pytest.importorskip("torchvision.version", exc_type=ImportError) if find_spec("torchvision") is None else None
    script = """
from ier1_plugin import cpu
cpu.install()
import torch
from torchvision.transforms.v2 import functional as F
print(tuple(F.resize(torch.zeros(3, 8, 8), [4, 6]).shape))
"""
    assert run(script) == "(3, 4, 6)\n"


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
    assert kwargs["runtime_env"]["worker_process_setup_hook"] == "ier1_plugin.cpu.install"
    wanted = {"IER1_CPU_LOADER_WORKERS": "2", "PYTHONPATH": "/opt/EasyR1", "OMP_NUM_THREADS": "1"}
    assert wanted.items() <= kwargs["runtime_env"]["env_vars"].items()


@pytest.mark.parametrize("given", ["auto", None])
def test_a_running_cluster_keeps_its_own_numbers(monkeypatch: pytest.MonkeyPatch, given: str | None):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    kwargs = cpu.ray_init_kwargs(1, given)
    assert set(kwargs) == {"address", "runtime_env"}
    assert kwargs["address"] == given or "10.0.0.1:6379"


def test_what_a_submitted_job_sets_itself_is_not_sent_again(monkeypatch: pytest.MonkeyPatch):
    job = {"env_vars": {"OMP_NUM_THREADS": "4"}, "worker_process_setup_hook": "ier1_plugin.cpu.install"}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps({"runtime_env": job}))
    monkeypatch.setenv("PYTHONPATH", "/tmp/package")
    env = cpu.ray_init_kwargs(1, "auto")["runtime_env"]
    assert "worker_process_setup_hook" not in env
    assert not {"OMP_NUM_THREADS", "PYTHONPATH"} & set(env["env_vars"])
