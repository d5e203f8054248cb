"""A CPU as a platform of upstream verl 0.9.1, and what verl asks of an accelerator beside its platform.

    VERL_PLATFORM=cpu, then in every process that imports verl:  install()
    verl.utils.device.get_device_name()     -> "cpu"

Rollouts are vLLM's own, from its build for the CPU (`keep_weights`). What verl offers no extension point for is
replaced when its module is imported, as in `replacements.py`:

- its process group would be "cpu:gloo,cpu:gloo", which torch refuses (verl/utils/distributed.py);
- the reference model under fsdp2 is offloaded to pinned memory, which needs an accelerator (engine/fsdp);
- position ids of a batch in which every sequence has the same length are taken for ragged along the wrong dimension,
  a fault of verl on any device (verl/utils/tensordict_utils.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import wrapt

from ier1_plugin.runs.hardware import has_gpu

PLATFORM = "cpu"
"""Value of VERL_PLATFORM."""
ARMED = "IER1_VERL_CPU"
"""Set for every process of a run by `ier1 train --host verl --cpu`, which has checked the conditions of `guard`."""
ENV_VARS = {
    ARMED: "1",
    "VERL_PLATFORM": PLATFORM,
    # verl registers its FSDP engine under cuda and npu alone (workers/engine/fsdp/transformer_impl.py)
    "VERL_ENGINE_DEVICE": "cuda",
    # beside the entry point: in a Ray job the package is not installed but travels
    "VERL_USE_EXTERNAL_MODULES": "ier1_plugin.training.verl",
    # GiB for vLLM's cache of keys and values; its default is half of the memory
    "VLLM_CPU_KVCACHE_SPACE": "1",
}
"""For every process of such a run."""


def install() -> None:
    """Registers the platform in this process. RuntimeError: not asked for by `--cpu`, or there is a GPU."""
    if not os.environ.get(ARMED):
        raise RuntimeError("VERL_PLATFORM=cpu is set by `ier1 train --host verl --cpu` alone, which checks the run")
    if has_gpu():
        raise RuntimeError("this machine has a GPU; run without --cpu")
    from verl.plugin.platform import PlatformBase, PlatformRegistry

    PlatformRegistry.register(PLATFORM)(
        type("PlatformCPU", (_Answers, PlatformBase), {"device_module": device_module()})
    )
    for target, patch in HOOKS.items():
        wrapt.register_post_import_hook(patch, target)


def device_module() -> ModuleType:
    """`torch.cpu` with those functions of `torch.cuda` that verl calls."""
    import torch

    module = ModuleType("torch_cpu")
    vars(module).update({name: value for name, value in vars(torch.cpu).items() if not name.startswith("__")})
    nothing = ("set_device", "synchronize", "empty_cache", "ipc_collect", "reset_peak_memory_stats")
    sizes = ("max_memory_allocated", "max_memory_reserved", "memory_allocated", "memory_reserved")
    for name in nothing + sizes:
        setattr(module, name, lambda *_, **__: 0)
    vars(module).update(
        is_available=lambda: True,
        current_device=lambda: PLATFORM,
        mem_get_info=lambda *_, **__: (0, 0),
        get_rng_state=lambda *_, **__: torch.random.get_rng_state(),
        set_rng_state=lambda state, *_, **__: torch.random.set_rng_state(state),
        manual_seed=torch.manual_seed,
        manual_seed_all=torch.manual_seed,
        get_device_name=lambda *_, **__: PLATFORM,
    )
    return module


class _Answers:
    """The methods of verl's PlatformBase (verl/plugin/platform/platform_base.py)."""

    device_name = vendor_name = PLATFORM
    device_module: Any

    def is_available(self) -> bool:
        return True

    def current_device(self) -> str:
        return PLATFORM  # verl calls tensor.to() with it

    def device_count(self) -> int:
        return 1

    def set_device(self, device_index: int) -> None: ...

    def synchronize(self, device_index: int | None = None) -> None: ...

    def manual_seed(self, seed: int) -> None:
        self.device_module.manual_seed(seed)

    manual_seed_all = manual_seed

    def set_allocator_settings(self, settings: str) -> None: ...

    def empty_cache(self) -> None: ...

    def get_device_capability(self, device_index: int = 0) -> tuple[None, None]:
        return None, None

    def communication_backend_name(self) -> str:
        return "gloo"

    def visible_devices_envvar(self) -> str:
        return "CUDA_VISIBLE_DEVICES"

    @contextmanager
    def nvtx_range(self, msg: str) -> Any:
        yield

    def profiler_start(self) -> None: ...

    def profiler_stop(self) -> None: ...

    def ray_resource_name(self) -> str:
        return "GPU"  # logical ones; verl knows no resource but GPU and NPU

    def ray_noset_envvars(self) -> list[str]:
        return []

    def is_ipc_supported(self) -> bool:
        return False

    def cudart(self) -> None: ...


def use_gloo(distributed: Any) -> None:
    def with_gloo(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> None:
        def start(timeout_second: int | None = None, backend: str | None = None) -> None:
            wrapped(timeout_second=timeout_second, backend=backend or "gloo")

        start(*args, **kwargs)

    wrapt.wrap_function_wrapper(distributed, "initialize_global_process_group_ray", with_gloo)


def offload_nothing(fsdp_utils: Any) -> None:
    fsdp_utils.CPUOffloadPolicy = lambda pin_memory=True: None


def fix_position_ids(tensordict_utils: Any) -> None:
    """Sequences of one length make (4, length) position ids that are nested along 1; verl then writes 2 over it."""

    def maybe_fix_3d_position_ids(data: Any) -> None:
        ids = data["position_ids"] if "position_ids" in data.keys() else None  # noqa: SIM118
        if ids is None or ids.dim() != 3 or not ids.is_nested:
            return
        values, offsets = ids._values, ids._offsets
        if values.shape[-1] == int(offsets[-1]):
            ids._ragged_idx = 2
            return
        parts = list(values.split(offsets.diff().tolist(), 0))
        data["position_ids"] = tensordict_utils.nested_tensor_from_tensor_list(parts, ragged_idx=2)

    tensordict_utils.maybe_fix_3d_position_ids = maybe_fix_3d_position_ids


def keep_weights() -> None:
    """Plugin of vLLM, called in each of its processes: linear layers keep their weights, so that verl can renew them.

    vLLM's CPU build packs them for its own kernels when a model is loaded and drops the originals. Does nothing unless
    `ARMED` is set.
    """
    if not os.environ.get(ARMED):
        return
    import importlib

    import torch

    def plain_linear(layer: Any, remove_weight: bool) -> None:
        layer.cpu_linear = torch.nn.functional.linear

    # those that import the function by name
    for name in ("utils", "linear", "vocab_parallel_embedding"):
        module = importlib.import_module(f"vllm.model_executor.layers.{name}")
        if hasattr(module, "dispatch_cpu_unquantized_gemm"):
            vars(module)["dispatch_cpu_unquantized_gemm"] = plain_linear


HOOKS: dict[str, Callable[[ModuleType], None]] = {
    "verl.utils.distributed": use_gloo,
    "verl.utils.fsdp_utils": offload_nothing,
    "verl.utils.tensordict_utils": fix_position_ids,
}
