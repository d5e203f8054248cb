"""The reward file of a run, loaded as EasyR1 will load it, and what rewards on pictures are given.

    load("reward_fns/picture.py:compute_score").needs     # "case"

A reward file may say with NEEDS what it reads of an answer: "gold" (also if it says nothing) or "case".
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ier1_plugin.runs.errors import UserError, one_line
from ier1_plugin.task.rows import CASE_IMAGES
from ier1_plugin.training.preflight.places import checkpoint_folder
from ier1_plugin.training.preflight.run import JOB_CONFIG

KEY = "worker.reward.reward_function"
KWARGS = f"{KEY}_kwargs"
GOLD, CASE = "gold", "case"
# below the checkpoints
STORE = "pictures"


@dataclass(frozen=True)
class RewardFile:
    function: Callable[..., Any]
    reward_type: str
    needs: str
    check: Callable[..., None] | None
    """Asks the servers of the reward a question; a UserError says what is wrong."""


def load(value: str | None) -> RewardFile:
    """`value`: path:function. UserError: no such file or function, or the file fails to load."""
    if not value:
        raise UserError(f"{KEY} is not set; leave the key out to get this project's own")
    path, name = value.rsplit(":", 1) if ":" in value else (value, "main")
    if not Path(path).is_file():
        raise UserError(f"{KEY}={value}: there is no file {path}; paths count from the current folder")
    try:
        # under the module name that EasyR1 gives it (verl/workers/reward/function.py)
        spec = importlib.util.spec_from_file_location("custom_reward_fn", path)
        if spec is None or spec.loader is None:
            raise ImportError("not a Python file")
        sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # a file of the user's may raise anything
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise UserError(f"{KEY}={value}: the file fails to load: {reason}") from None
    if not callable(function := getattr(module, name, None)):
        raise UserError(f"{KEY}={value}: the file has no function {name}")
    needs, check = getattr(module, "NEEDS", GOLD), getattr(module, "check", None)
    return RewardFile(function, getattr(module, "REWARD_TYPE", "batch"), needs, check)


def fill_in(raw: Any, config: Any, key: str = KWARGS) -> None:
    """Gives a reward that takes them the folders of the photos and of the judgements, as absolute paths.

    `image_root`: images/ beside the rows; `store`: pictures/ below the checkpoints. In a Ray job relative paths are
    left for the preflight to name. `raw` goes to the host, which calls them `key`, `config` to the preflight.
    """
    reward = config.worker.reward
    try:
        parameters = inspect.signature(load(reward.reward_function).function).parameters
    except UserError:
        return  # `reward.reward_function` says so
    kwargs = dict(reward.reward_function_kwargs)
    files = [str(file).partition("@")[0] for file in (config.data.train_files, config.data.val_files)]
    folders = dict.fromkeys(str(Path(file).parent / CASE_IMAGES) for file in files)
    wanted: dict[str, Any] = {
        "image_root": [folder for folder in folders if Path(folder).is_dir()],
        "store": str(checkpoint_folder(config) / STORE),
    }
    for name in wanted.keys() & parameters.keys():
        value = kwargs.get(name) or wanted[name]
        if JOB_CONFIG not in os.environ:
            value = os.path.abspath(value) if isinstance(value, str) else [os.path.abspath(path) for path in value]
        kwargs[name] = value
        OmegaConf.update(raw, f"{key}.{name}", value, force_add=True)
    reward.reward_function_kwargs = kwargs
