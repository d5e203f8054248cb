"""What EasyR1 asks of CUDA, answered by the CPU, each time when the module that is asked is imported.

    dist.init_process_group(backend="nccl")                                  -> gloo
    init_device_mesh("cuda", mesh_shape=(2,), ...)                           -> a mesh of two CPU processes
    AutoModel.from_pretrained(path, attn_implementation="flash_attention_2", device_map="cuda")     -> sdpa, on the CPU
    torch.cuda.max_memory_allocated()                                        -> peak resident memory, in bytes
    <checkpoints>/global_step_2/actor/huggingface/rollout.json               {"rollout": "cpu-standin"}

`torch.cuda.is_available()` stays False. The calls are those in EasyR1's worker, sharding manager, checkpoint manager,
FLOPs counter and logger. For packed sequences (`padding_free=true`) transformers builds the block-diagonal mask from
the position ids, so sdpa gives the same numbers as FlashAttention 2.
"""

from __future__ import annotations

import functools
import json
import resource
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import wrapt

from ier1_plugin.runs.folder import write
from ier1_plugin.training.cpu.launch import THREADS
from ier1_plugin.training.run_config import CPU_STANDIN, ROLLOUT_MARK

# what EasyR1 asks for -> what a CPU has
ON_CPU = {"nccl": "gloo", "cuda": "cpu", "flash_attention_2": "sdpa"}


def with_cpu_names(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    """Calls `wrapped` with the CPU's counterparts in place of "nccl", "cuda" and "flash_attention_2"."""

    def swap(value: Any) -> Any:
        return ON_CPU.get(value, value) if isinstance(value, str) else value

    return wrapped(*map(swap, args), **{key: swap(value) for key, value in kwargs.items()})


@wrapt.decorator
def cuda_means_cpu(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    """Sends every torch call inside the decorated function that names device "cuda" to the CPU."""
    import torch
    from torch.overrides import TorchFunctionMode

    def on_cpu(value: Any) -> Any:
        named = isinstance(value, str) and value.startswith("cuda")
        is_cuda = named or (isinstance(value, torch.device) and value.type == "cuda")
        return torch.device("cpu") if is_cuda else value

    class CudaMeansCpu(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return func(*map(on_cpu, args), **{key: on_cpu(value) for key, value in (kwargs or {}).items()})

    with CudaMeansCpu():
        return wrapped(*args, **kwargs)


def replace_torch_cuda(torch: Any) -> None:
    import psutil
    from torch.distributed import device_mesh

    cuda = torch.cuda
    torch.set_num_threads(THREADS)
    cuda.get_device_name = lambda device=None: "CPU"
    cuda.current_device = lambda: torch.device("cpu")
    cuda.empty_cache = lambda: None
    cuda.mem_get_info = lambda device=None: (psutil.virtual_memory().available, psutil.virtual_memory().total)
    cuda.max_memory_allocated = lambda device=None: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    cuda.max_memory_reserved = cuda.max_memory_allocated
    cuda.get_rng_state = lambda device=None: torch.get_rng_state()
    cuda.set_rng_state = lambda state, device=None: torch.set_rng_state(state)
    cuda.manual_seed = torch.manual_seed
    wrapt.wrap_function_wrapper(torch.distributed, "init_process_group", with_cpu_names)
    wrapt.wrap_function_wrapper(device_mesh, "init_device_mesh", with_cpu_names)


def replace_tensordict_cuda(tensordict: Any) -> None:
    tensordict.TensorDict.cuda = lambda self, device=None, **_: self


def replace_flash_attention(auto_factory: Any) -> None:
    for name in ("from_pretrained", "from_config"):
        original = getattr(auto_factory._BaseAutoModelClass, name).__func__

        # a plain function: transformers copies its code into every auto class, which would lose a wrapper of wrapt's
        @functools.wraps(original)
        def load(cls: type, *args: Any, _original: Any = original, **kwargs: Any) -> Any:
            return with_cpu_names(_original, None, (cls, *args), kwargs)

        setattr(auto_factory._BaseAutoModelClass, name, classmethod(load))


def replace_worker_count(stateful_dataloader: Any) -> None:
    """None of the 8 processes that each of EasyR1's data loaders starts.

    A small machine lacks memory and cores for them; at this model size the trainer prepares a batch in milliseconds.
    """

    def without_workers(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> None:
        if "num_workers" in kwargs:
            kwargs["num_workers"] = 0
        wrapped(*args, **kwargs)

    wrapt.wrap_function_wrapper(stateful_dataloader, "StatefulDataLoader.__init__", without_workers)


def replace_balancing_device(seqlen_balancing: Any) -> None:
    seqlen_balancing.rearrange_micro_batches = cuda_means_cpu(seqlen_balancing.rearrange_micro_batches)


def replace_checkpoint_device(checkpoint: Any) -> None:
    """Saves from the CPU, and leaves a mark beside the config, which the merged model keeps."""

    def with_mark(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> None:
        cuda_means_cpu(wrapped)(*args, **kwargs)
        if instance.rank == 0:
            folder = Path(args[0] if args else kwargs["path"])
            write(folder / "huggingface" / ROLLOUT_MARK, json.dumps({"rollout": CPU_STANDIN}) + "\n")

    wrapt.wrap_function_wrapper(checkpoint, "FSDPCheckpointManager.save_checkpoint", with_mark)


def mark_logs(logger: Any) -> None:
    """The config that EasyR1's loggers write (TensorBoard's hyperparameters, W&B ...) holds rollout=cpu-standin."""

    def with_rollout(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> None:
        def track(loggers: Any = "console", config: dict[str, Any] | None = None) -> None:
            wrapped(loggers, {**(config or {}), "rollout": CPU_STANDIN})

        track(*args, **kwargs)

    wrapt.wrap_function_wrapper(logger, "Tracker.__init__", with_rollout)


HOOKS: dict[str, Callable[[ModuleType], None]] = {
    "torch": replace_torch_cuda,
    "tensordict": replace_tensordict_cuda,
    "transformers.models.auto.auto_factory": replace_flash_attention,
    "torchdata.stateful_dataloader": replace_worker_count,
    "verl.utils.seqlen_balancing": replace_balancing_device,
    "verl.utils.checkpoint.fsdp_checkpoint_manager": replace_checkpoint_device,
    "verl.utils.logger.logger": mark_logs,
}
