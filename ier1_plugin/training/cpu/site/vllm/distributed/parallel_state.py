"""Tensor parallelism of size 1: every rank is a group of its own."""

from __future__ import annotations

from types import SimpleNamespace


def get_tensor_model_parallel_world_size() -> int:
    return 1


def get_tensor_model_parallel_rank() -> int:
    return 0


def get_tensor_model_parallel_group() -> SimpleNamespace:
    import torch.distributed as dist

    # every rank has to take part in making every group
    groups = [dist.new_group([rank]) for rank in range(dist.get_world_size())]
    return SimpleNamespace(device_group=groups[dist.get_rank()])
