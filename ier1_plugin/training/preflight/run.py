"""What every check looks at: the config of a run, and where it runs.

Run(config, cpu=False).ranks     # 8 for trainer.nnodes=1 trainer.n_gpus_per_node=8
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# set by Ray in the driver of a submitted job (ray/_private/runtime_env/constants.py)
JOB_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"
# where Ray unpacks the working directory of a job
PACKAGE_CACHE = "runtime_resources/working_dir_files"


class Note(str):
    """A line that informs and does not stop a run; every other line of a check is a problem."""

    __slots__ = ()


class Unchecked(str):
    """What can't be looked at where the run will not start, as words for the one note about all of it."""

    __slots__ = ()


@dataclass(frozen=True)
class Run:
    """One training run that is about to start."""

    config: Any
    """EasyR1's PPOConfig before `deep_post_init`, or an OmegaConf view of it."""
    cpu: bool = False
    """True if the CPU stand-ins take the place of vLLM, flash-attn and CUDA."""
    env: Mapping[str, str] = field(default_factory=lambda: os.environ)
    elsewhere: bool = False
    """True on a machine without a GPU, where a run for GPUs is only checked."""
    verl: Any = None
    """The whole config of upstream verl, where that is the host; `config` then says it in EasyR1's names."""

    @property
    def ranks(self) -> int:
        """Number of GPUs, each of which holds one rank."""
        return self.config.trainer.nnodes * self.config.trainer.n_gpus_per_node

    @property
    def in_job(self) -> bool:
        return JOB_CONFIG in self.env

    @property
    def address(self) -> str | None:
        """Of the Ray cluster that the run will join: RAY_ADDRESS, or what `ray start` left here; None starts one."""
        address = self.env.get("RAY_ADDRESS")
        if address or self.cpu:
            return address if address != "local" else None
        folder = self.env.get("RAY_TMPDIR") or self.env.get("TMPDIR") or "/tmp"
        started = Path(folder, "ray", "ray_current_cluster")
        return started.read_text(encoding="utf-8").strip() or None if started.is_file() else None


Check = Callable[[Run], Iterable[str]]
