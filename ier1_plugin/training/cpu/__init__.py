"""Stand-ins that let unmodified EasyR1 train a tiny model on a machine without a GPU. Never imported by a GPU run.

    install()                                   # in the driver, before `verl` is imported
    ray.init(**ray_init_kwargs(n_gpus=1))   # in every Ray worker through worker_process_setup_hook

What is replaced, by which module, and why: `REPLACED`. Everything else is EasyR1's own code. The stand-ins say of
themselves what they are: stdout, the logged config and every checkpoint carry `rollout=cpu-standin`.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path

from ier1_plugin.training.cpu import guard
from ier1_plugin.training.cpu.launch import ray_init_kwargs

__all__ = ["REPLACED", "SITE", "guard", "install", "ray_init_kwargs"]

REPLACED = {
    "vllm": "site/vllm: generates with the transformers model and a KV cache; vLLM needs a GPU build",
    "flash_attn.bert_padding": "site/flash_attn: the same packing in plain torch; flash-attn needs CUDA",
    "torch.cuda, NCCL, device 'cuda'": "replacements.py: answers from the CPU, gloo, device 'cpu'",
    "attn_implementation='flash_attention_2'": "replacements.py: PyTorch's scaled dot product attention",
    "the data loader's 8 worker processes": "replacements.py: none",
    "torchvision's operator schemas": "chat/torchvision_ops.py: only where torchvision's own library can't load",
}
SITE = Path(__file__).parent / "site"
# imported by name elsewhere in EasyR1: too late to replace anything
_TOO_LATE = ("verl.workers.fsdp_workers", "verl.trainer.data_loader")


@functools.cache
def install() -> None:
    """Arms the stand-ins in this process; a second call does nothing. Loads neither torch nor EasyR1.

    Each replacement happens when its target is imported, so that a Ray worker which never trains pays nothing.
    RuntimeError: this machine has a GPU, or vLLM or EasyR1's workers were imported before.
    """
    if guard.has_gpu():
        raise RuntimeError("the CPU stand-ins were asked for on a machine with a GPU; run without --cpu")
    if loaded := [name for name in ("vllm", *_TOO_LATE) if name in sys.modules]:
        raise RuntimeError(f"ier1_plugin.training.cpu.install() must run before {', '.join(loaded)} is imported")
    from wrapt import register_post_import_hook

    from ier1_plugin.chat import torchvision_ops
    from ier1_plugin.training.cpu import replacements

    # first on the path: an installed vLLM can't run without a GPU, and EasyR1 must not find half of it
    sys.path.insert(0, str(SITE))
    for target, patch in [*torchvision_ops.HOOKS.items(), *replacements.HOOKS.items()]:
        register_post_import_hook(patch, target)
