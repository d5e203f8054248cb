"""Says in logs and checkpoints that the rollouts came from the stand-in.

    <checkpoints>/global_step_2/actor/huggingface/rollout.json      {"rollout": "cpu-standin"}
    the config that EasyR1's loggers write (TensorBoard hparams, experiment_config.json, W&B ...)   rollout: cpu-standin

The merged model keeps the file, since merging starts from that folder.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

ROLLOUT = "cpu-standin"
FILE_NAME = "rollout.json"


def mark_checkpoints(checkpoint: Any) -> None:
    manager = checkpoint.FSDPCheckpointManager
    save = manager.save_checkpoint

    @functools.wraps(save)
    def save_checkpoint(self: Any, path: str, *args: Any, **kwargs: Any) -> None:
        save(self, path, *args, **kwargs)
        if self.rank == 0:
            _write_mark(Path(path) / "huggingface" / FILE_NAME)

    manager.save_checkpoint = save_checkpoint


def mark_logs(logger: Any) -> None:
    tracker = logger.Tracker
    init = tracker.__init__

    @functools.wraps(init)
    def with_rollout(self: Any, loggers: Any = "console", config: dict[str, Any] | None = None) -> None:
        init(self, loggers, {**(config or {}), "rollout": ROLLOUT})

    tracker.__init__ = with_rollout


HOOKS: dict[str, Callable[[ModuleType], None]] = {
    "verl.utils.checkpoint.fsdp_checkpoint_manager": mark_checkpoints,
    "verl.utils.logger.logger": mark_logs,
}


def _write_mark(file: Path) -> None:
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps({"rollout": ROLLOUT}) + "\n", encoding="utf-8")
    os.replace(partial, file)
