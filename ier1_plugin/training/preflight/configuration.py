"""Reads a run's config as EasyR1's main does, but names every wrong key instead of the first.

raw, problems = read(["config=examples/grpo_qwen25vl.yaml", "data.rolout_batch_size=8"], {})
typed(raw)
-> (None, ["data.rolout_batch_size: EasyR1 has no such key; nearest: data.rollout_batch_size"])
"""

from __future__ import annotations

import difflib
import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ier1_plugin.chat import torchvision_ops
from ier1_plugin.runs.errors import one_line
from ier1_plugin.training.preflight.host import SOURCE

# keys of the one EasyR1 that the other lacks (0.3.2 of PyPI, 0.3.3 in the source)
SOURCE_KEYS = ("lora", "lr_scheduler_type", "loss_type", "tau_positive", "tau_negative")
PYPI_KEYS = {"reward_type": "the reward file's REWARD_TYPE takes its place", "warmup_style": "lr_scheduler_type now"}
MEANING = {
    "data.train_files": "the train.parquet that data_prep/build_rl_dataset.py wrote",
    "data.val_files": "the val.parquet that data_prep/build_rl_dataset.py wrote",
}


def read(overrides: Sequence[str], defaults: dict[str, Any]) -> tuple[Any, list[str]]:
    """`defaults`, then the file of `config=FILE`, then the other `key=value`, as an untyped OmegaConf; and problems.

    None in place of the config if the file can't be read.
    """
    file, cli, problems = None, [], []
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals:
            problems.append(f"{text!r}: wanted key=value")
        elif key == "config":
            # the shell leaves a ~ behind = alone
            file = os.path.expanduser(value)
        else:
            try:
                OmegaConf.from_dotlist([text])
                cli.append(text)
            except Exception as error:  # values are YAML; its errors have no common type with OmegaConf's
                reason = str(error).splitlines()[0]
                problems.append(f"{text!r}: the value is not YAML ({reason}); put it in quotes of its own")
    try:
        layers = [OmegaConf.create(defaults), *([OmegaConf.load(file)] if file else []), OmegaConf.from_dotlist(cli)]
        return OmegaConf.merge(*layers), problems
    except OSError as error:
        problems.append(f"config={file}: {error.strerror or error}; paths count from the current folder")
    except Exception as error:  # YAML's and OmegaConf's own errors, and what merging a list into a dict raises
        problems.append(f"config={file}: not a YAML config: {one_line(error)}")
    return None, problems


def typed(raw: Any, elsewhere: bool = False) -> tuple[Any, list[str]]:
    """`raw` over EasyR1's own defaults and types; None with the problems if something does not fit.

    `elsewhere`: the run starts on another machine; on this one without a GPU an installed vLLM may not even load.
    """
    try:
        schema = OmegaConf.structured(config_class(elsewhere or importlib.util.find_spec("vllm") is None)())
    except Exception as error:  # whatever a broken installation raises
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        return None, [f"EasyR1 can't be imported here: {type(cause).__name__}: {one_line(cause)}"]
    known = [key for key, _ in leaves(OmegaConf.to_container(schema))]
    problems = []
    for key, value in leaves(OmegaConf.to_container(raw)):
        try:
            OmegaConf.update(schema, key, value, merge=True)
        except (OmegaConfBaseException, ValueError) as error:
            reason = str(error).splitlines()[0]
            problems.append(_unknown_key(key, known) if "not in" in reason else f"{key}={value}: {reason}")
    try:
        OmegaConf.resolve(schema)
        missing = sorted(OmegaConf.missing_keys(schema))
        problems += [f"{key} is not set; give {MEANING.get(key, 'a value')}" for key in missing]
    except OmegaConfBaseException as error:
        problems.append(f"{error.full_key or 'config'}: {str(error).splitlines()[0]}")
    return (None if problems else schema), problems


def config_class(without_vllm: bool) -> type:
    """EasyR1's PPOConfig; without vLLM, which its package imports on the way, it is good for reading a config only."""
    import torch

    # transformers' processors import torchvision, whose library may not fit on a machine without CUDA
    torchvision_ops.define_missing_schemas(torch)
    engine = "verl.workers.rollout.vllm_rollout_spmd"
    blank = ModuleType(engine)
    vars(blank)["vLLMRollout"] = None
    if without_vllm:
        sys.modules[engine] = blank
    try:
        from verl.trainer.config import PPOConfig
    finally:
        # whoever imports the engine later must get the real one, or its real error
        for name in (engine, "verl.workers.rollout") if without_vllm else ():
            sys.modules.pop(name, None)
    return PPOConfig


def leaves(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The dotted keys of nested dicts, with their values."""
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{key}.")
        else:
            yield key, value


def _unknown_key(key: str, known: list[str]) -> str:
    unknown = set(key.split(".")) - {name for other in known for name in other.split(".")}
    if newer := unknown & set(SOURCE_KEYS):
        return f"{key}: {newer.pop()} needs {SOURCE}"
    if older := unknown & set(PYPI_KEYS):
        return f"{key}: only EasyR1 0.3.2 has this key ({PYPI_KEYS[older.pop()]}); take it out"
    # by the last name, which people remember better than the section, else by the whole key
    names = {other.rsplit(".", 1)[-1]: other for other in reversed(known)}
    name = key.rsplit(".", 1)[-1]
    near = [names[name]] if name in names else difflib.get_close_matches(key, known, n=1, cutoff=0.8)
    near = near or [names[other] for other in difflib.get_close_matches(name, names, n=1, cutoff=0.6)]
    near = near or difflib.get_close_matches(key, known, n=1, cutoff=0)
    return f"{key}: EasyR1 has no such key; nearest: {near[0]}"
