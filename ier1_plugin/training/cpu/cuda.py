"""In place of CUDA: torch.cuda's calls answered from the CPU, gloo for NCCL, device "cpu" for device "cuda".

    dist.init_process_group(backend="nccl")             -> gloo
    init_device_mesh("cuda", mesh_shape=(2,), ...)      -> a mesh of two CPU processes
    torch.cuda.max_memory_allocated()                   -> peak resident memory of this process, in bytes

`torch.cuda.is_available()` stays False. The calls are those in EasyR1's worker, sharding manager, checkpoint manager
and FLOPs counter.
"""

from __future__ import annotations

import functools
import resource
from collections.abc import Callable
from types import ModuleType
from typing import Any

from ier1_plugin.training.cpu.launch import threads


def replace_torch_cuda(torch: Any) -> None:
    import psutil

    cuda = torch.cuda
    torch.set_num_threads(threads())
    cuda.get_device_name = lambda device=None: "CPU"
    cuda.current_device = lambda: torch.device("cpu")
    cuda.empty_cache = lambda: None
    cuda.mem_get_info = lambda device=None: (psutil.virtual_memory().available, psutil.virtual_memory().total)
    cuda.max_memory_allocated = cuda.max_memory_reserved = lambda device=None: _peak_resident_bytes()
    cuda.get_rng_state = lambda device=None: torch.get_rng_state()
    cuda.set_rng_state = lambda state, device=None: torch.set_rng_state(state)
    cuda.manual_seed = torch.manual_seed
    _replace_nccl()
    _replace_mesh()


def replace_tensordict_cuda(tensordict: Any) -> None:
    tensordict.TensorDict.cuda = lambda self, device=None, **_: self


def replace_balancing_device(seqlen_balancing: Any) -> None:
    seqlen_balancing.rearrange_micro_batches = cuda_means_cpu(seqlen_balancing.rearrange_micro_batches)


def replace_checkpoint_device(checkpoint: Any) -> None:
    manager = checkpoint.FSDPCheckpointManager
    manager.save_checkpoint = cuda_means_cpu(manager.save_checkpoint)


HOOKS: dict[str, Callable[[ModuleType], None]] = {
    "torch": replace_torch_cuda,
    "tensordict": replace_tensordict_cuda,
    "verl.utils.seqlen_balancing": replace_balancing_device,
    "verl.utils.checkpoint.fsdp_checkpoint_manager": replace_checkpoint_device,
}


def cuda_means_cpu(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` with every torch call inside it that names device "cuda" sent to the CPU."""
    from torch.overrides import TorchFunctionMode

    class CudaMeansCpu(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return func(*map(_on_cpu, args), **{key: _on_cpu(value) for key, value in (kwargs or {}).items()})

    @functools.wraps(function)
    def on_cpu(*args: Any, **kwargs: Any) -> Any:
        with CudaMeansCpu():
            return function(*args, **kwargs)

    return on_cpu


def _on_cpu(value: Any) -> Any:
    import torch

    is_cuda = (isinstance(value, str) and value.startswith("cuda")) or (
        isinstance(value, torch.device) and value.type == "cuda"
    )
    return torch.device("cpu") if is_cuda else value


def _peak_resident_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _replace_nccl() -> None:
    import torch.distributed as dist

    init = dist.init_process_group

    @functools.wraps(init)
    def init_process_group(backend: str | None = None, *args: Any, **kwargs: Any) -> Any:
        return init("gloo" if backend == "nccl" else backend, *args, **kwargs)

    dist.init_process_group = init_process_group


def _replace_mesh() -> None:
    from torch.distributed import device_mesh

    init = device_mesh.init_device_mesh

    @functools.wraps(init)
    def init_device_mesh(device_type: str, *args: Any, **kwargs: Any) -> Any:
        return init("cpu" if device_type == "cuda" else device_type, *args, **kwargs)

    device_mesh.init_device_mesh = init_device_mesh
