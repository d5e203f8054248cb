"""Where a run reads and writes: checkpoints, earlier logs, TensorBoard, and what a Ray job makes of relative paths.

places.keep_earlier_logs(config)   # experiment_log.jsonl -> experiment_log.part1.jsonl, before EasyR1 empties it
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ier1_plugin.runs.fingerprint import sha256_of
from ier1_plugin.runs.secrets import without_secrets
from ier1_plugin.training.checkpoint import TRACKER
from ier1_plugin.training.preflight.run import JOB_CONFIG, PACKAGE_CACHE, Note, Run, Unchecked
from ier1_plugin.training.run_config import RUN_CONFIG, look_up, read_run_config

# what EasyR1's main sets for its workers (verl/trainer/main.py, both versions)
EASYR1_ENV_VARS = (
    "TOKENIZERS_PARALLELISM",
    "NCCL_DEBUG",
    "VLLM_LOGGING_LEVEL",
    "TORCH_NCCL_AVOID_RECORD_STREAMS",
    "PYTORCH_CUDA_ALLOC_CONF",
    "PYTHONUNBUFFERED",
    "CUDA_DEVICE_MAX_CONNECTIONS",
    "VLLM_ALLREDUCE_USE_SYMM_MEM",
)
# a step trained with other values of these is a step of another run
IDENTITY = (
    "worker.actor.model.model_path",
    "worker.actor.model.lora",
    "data.min_pixels",
    "data.max_pixels",
    "data.format_prompt",
    "data.override_chat_template",
    "data.train_files",
    "worker.reward.reward_function",
    "worker.reward.reward_function_kwargs",
)
# may change on the way, and are worth knowing of
CHANGES = (
    "algorithm",
    "data.seed",
    "data.val_files",
    "data.rollout_batch_size",
    "data.max_prompt_length",
    "data.max_response_length",
    "worker.actor.global_batch_size",
    "worker.actor.optim",
    "worker.rollout.n",
    "worker.rollout.temperature",
)
# arguments of a reward that say where and how it works, not what it rewards
WORKING = ("image_root", "store", "seed", "concurrency", "keep_renders", "max_unjudged", "render_price", "token_price")
# the same at another place: this project's files, those in Ray's copy of a job's working directory, a server's name
MOVED = re.compile(r"^/.*/(?=(?:ier1_plugin|reward_fns)/)|^/.*/_ray_pkg_[^/]+/|^/proc/self/cwd/|(?<=://)[^/?#\s'\"]+")
# files whose content the run's config keeps, under CONTENTS, since they may change in their place
HASHED = ("data.format_prompt", "data.train_files")
CONTENTS = "sha256"
SHOWN = 8
# what EasyR1's file logger opens for writing at every start (verl/utils/logger/logger.py, FileLogger)
FILE_LOGS = ("experiment_log.jsonl", "generations.log", "experiment_config.json")


def checkpoint_folder(config: Any) -> Path:
    """Where EasyR1 will save: `trainer.save_checkpoint_path`, or its default below the current folder."""
    trainer = config.trainer
    default = Path("checkpoints", trainer.project_name, trainer.experiment_name)
    return Path(os.path.abspath(trainer.save_checkpoint_path or default))


def resumed_checkpoint(config: Any) -> Path | None:
    """The `global_step_*` folder from which EasyR1 will continue; None for a fresh start."""
    trainer = config.trainer
    if trainer.load_checkpoint_path:
        return Path(os.path.abspath(trainer.load_checkpoint_path))
    tracker = checkpoint_folder(config) / TRACKER
    if not trainer.find_last_checkpoint or not tracker.is_file():
        return None
    step = json.loads(tracker.read_text(encoding="utf-8"))["last_global_step"]
    folder = tracker.parent / f"global_step_{step}"
    return folder if folder.is_dir() else None


def keep_earlier_logs(config: Any) -> list[Path]:
    """Moves the logs of an earlier part of this run aside, if it is resumed and has the `file` logger.

    `experiment_log.jsonl` becomes `experiment_log.part1.jsonl`, or the first number that is free for all of them, so
    that the curves of a run can be joined from its parts. Returns the new files.
    """
    if "file" not in config.trainer.logger or resumed_checkpoint(config) is None:
        return []
    folder = checkpoint_folder(config)
    logs = [folder / name for name in FILE_LOGS]
    number = 1
    while any(log.with_name(f"{log.stem}.part{number}{log.suffix}").exists() for log in logs):
        number += 1
    logs = [log for log in logs if log.is_file() and log.stat().st_size]
    return [log.rename(log.with_name(f"{log.stem}.part{number}{log.suffix}")) for log in logs]


def keep_step_config(folder: Path) -> None:
    """Leaves a run's config in those of its steps that have none, before the config of a later run takes its place."""
    file = folder / RUN_CONFIG
    for step in folder.glob("global_step_*/") if file.is_file() else ():
        if not (step / RUN_CONFIG).exists():
            shutil.copy(file, step)


def saving(run: Run) -> Iterator[str]:
    path = run.config.trainer.save_checkpoint_path
    folder, key = checkpoint_folder(run.config), f"trainer.save_checkpoint_path={path}"
    if PACKAGE_CACHE in str(folder) or (run.in_job and not Path(path or "").is_absolute()):
        yield (
            f"{key}: in a Ray job this is Ray's copy of the working directory, where nobody finds the checkpoints; "
            "give an absolute path on storage that every node sees"
        )
        return
    parent = next(path for path in (folder, *folder.parents) if path.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        problem = f"{key}: {parent} is not a folder that can be written; choose another place"
        yield Unchecked(f"the folder {folder}") if run.elsewhere else problem


def resuming(run: Run) -> Iterator[str]:
    loaded = run.config.trainer.load_checkpoint_path
    # EasyR1 prints that the folder is missing, and starts from scratch
    if loaded and not Path(loaded).is_dir():
        yield f"trainer.load_checkpoint_path={loaded} does not exist; leave it out for a fresh start"
        return
    if loaded and not Path(loaded).name.startswith("global_step_"):
        yield f"trainer.load_checkpoint_path={loaded} must be one of the global_step_* folders in it"
        return
    place = checkpoint_folder(run.config)
    try:
        folder = resumed_checkpoint(run.config)
    except (OSError, ValueError, KeyError, TypeError) as error:
        yield f"{place / TRACKER} can't be read ({error!r}); repair it or set trainer.find_last_checkpoint=false"
        return
    if folder is None:
        tracker = place / TRACKER
        steps = sorted((path.name for path in place.glob("global_step_*/")), key=lambda name: (len(name), name))
        if steps:
            yield (
                f"{place} holds {', '.join(steps)}, and the run would start at step 0 among them: {TRACKER} names "
                f"none of them, or trainer.find_last_checkpoint is false; set trainer.load_checkpoint_path="
                f"{place / steps[-1]} to go on, or another trainer.save_checkpoint_path for a fresh start"
            )
        elif run.config.trainer.find_last_checkpoint and tracker.is_file():
            yield (
                f"{tracker} names a step that is not there, and the run would start at step 0; bring the step's "
                f"folder back, or remove {TRACKER} for a fresh start"
            )
        return
    for kind in ("model", "optim", "extra_state"):
        for rank in range(run.ranks):
            shard = f"actor/{kind}_world_size_{run.ranks}_rank_{rank}.pt"
            if not (folder / shard).is_file():
                yield (
                    f"{folder} can't be resumed on {run.ranks} GPUs: {shard} is missing (a checkpoint needs the "
                    "number of GPUs that wrote it, and save_model_only=false); set trainer.find_last_checkpoint=false "
                    "and another trainer.save_checkpoint_path for a fresh start"
                )
                return
    step, last = folder.name.rpartition("_")[2], run.config.trainer.max_steps
    done = last is not None and step.isdecimal() and int(step) >= last
    yield Note(f"continues from {folder}" + f", and nothing is left to train up to trainer.max_steps={last}" * done)
    yield from same_run(run, folder)


def contents(config: Any) -> dict[str, str]:
    """The sha256 of the files that decide what is learnt, by their keys; without what is no file of this machine."""
    values = {key: str(OmegaConf.select(config, key)).partition("@")[0] for key in HASHED}
    return {key: sha256_of(Path(value)) for key, value in values.items() if os.path.isfile(value)}


def _place(value: Any) -> str:
    """A value as text; that of this project's files, and of folders that are there, wherever it counts from."""
    text = MOVED.sub("", str(value))
    return os.path.realpath(text) if isinstance(value, str) and os.path.isdir(text) else text


def same_run(run: Run, folder: Path) -> Iterator[str]:
    """A run that continues must be the one that lies there, whose steps would pass for its own from then on."""
    if not (earlier := read_run_config(folder)):
        return
    # as the earlier one was written
    now = without_secrets(OmegaConf.to_container(run.config))
    own = folder.parent.resolve() == checkpoint_folder(run.config).resolve()
    changed, keys = {}, list(IDENTITY)
    for key in CHANGES:
        section = look_up(now, key)
        inner = [f"{key}.{name}" for name in section] if isinstance(section, dict) else [key]
        keys += [name for name in inner if look_up(earlier, name) is not None]
    for key in keys:
        old, new = look_up(earlier, key), look_up(now, key)
        if isinstance(new, dict):
            # one of EasyR1's two versions has no section for LoRA
            old = {name: value for name, value in (new if old is None else old).items() if name not in WORKING}
            new = {name: value for name, value in new.items() if name not in WORKING}
        if _place(old) != _place(new):
            changed[key] = f"{key} is {new}, and was {old}"
    hashes = earlier.get(CONTENTS) or {}
    for key, digest in contents(run.config).items():
        old, new = str(look_up(earlier, key)), str(look_up(now, key))
        if hashes.get(key, digest) != digest:
            was = hashes[key]
            changed.setdefault(key, f"{key} is {new} with sha256 {digest[:SHOWN]}, and was {old} with {was[:SHOWN]}")
        elif key in hashes and old.partition("@")[2] == new.partition("@")[2]:
            # the same file at another place
            changed.pop(key, None)
    for key in IDENTITY if own else ():
        if key in changed:
            yield (
                f"{folder.name} is of another run: {changed.pop(key)}; give the old value, or another "
                f"trainer.save_checkpoint_path, with trainer.load_checkpoint_path={folder} to go on from there"
            )
    if changed:
        yield Note(f"since {folder.name} has changed: {'; '.join(changed.values())}")


def tensorboard(run: Run) -> Iterator[str]:
    folder = run.env.get("TENSORBOARD_DIR", "")
    if "tensorboard" not in run.config.trainer.logger:
        return
    if run.in_job and (not Path(folder).is_absolute() or PACKAGE_CACHE in folder):
        yield (
            f"TENSORBOARD_DIR={folder or '(unset)'}: in a Ray job the curves would land in Ray's copy of the working "
            "directory; set an absolute path under env_vars of the job's runtime_env"
        )


def job(run: Run) -> Iterator[str]:
    """A job whose environment names what EasyR1 sets too is refused by Ray when EasyR1 starts."""
    if not run.in_job:
        if run.address:
            yield Note(
                f"joins the Ray cluster at {run.address}, whose workers see neither this shell's variables nor its "
                "PYTHONPATH; examples/ray_job_submit.sh sends them along"
            )
        return
    env_vars = (json.loads(run.env[JOB_CONFIG]).get("runtime_env") or {}).get("env_vars") or {}
    both = [name for name in EASYR1_ENV_VARS if name in env_vars]
    # with the stand-ins Ray is already initialised when EasyR1's main looks
    if both and env_vars.get("RAY_OVERRIDE_JOB_RUNTIME_ENV") != "1" and not run.cpu:
        yield (
            f"env_vars of the job's runtime_env: EasyR1 sets {', '.join(both)} itself and Ray refuses both; remove "
            'them, or add RAY_OVERRIDE_JOB_RUNTIME_ENV: "1"'
        )
