"""EasyR1's checkpoints, read without EasyR1, peft, a GPU or a process group.

    <run>/checkpoint_tracker.json                       {"last_global_step": 80, "best_global_step": 60, ...}
    <run>/global_step_80/actor/model_world_size_8_rank_0.pt ... rank_7.pt        a piece of every weight each
    <run>/global_step_80/actor/huggingface/             config, tokenizer and processor of the policy

    read_weights(find_checkpoint(Path("<run>")))["lm_head.weight"] -> Weight((152064, 3584), torch.float32, <read>)

The format is that of EasyR1's FSDPCheckpointManager (verl/utils/checkpoint), in 0.3.2 and 0.3.3. Shards are mapped into
memory, not loaded: a weight takes memory only while it is read.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from ier1_plugin.runs.errors import UserError

if TYPE_CHECKING:
    import torch

TRACKER = "checkpoint_tracker.json"
_SHARD = re.compile(r"model_world_size_(\d+)_rank_(\d+)\.pt")
_STEP = re.compile(r"global_step_(\d+)")
_LORA_PREFIX = "base_model.model."
_LORA_FACTOR = re.compile(r".+\.lora_[AB]\.default\.weight")


class CheckpointError(UserError):
    """A checkpoint that can't be read; the message says in one line what is wrong and what to do."""


@dataclass(frozen=True)
class Checkpoint:
    actor: Path
    """The folder with the shards."""
    step: int | None
    """From the folder's name; None if it was renamed."""

    @property
    def run(self) -> Path:
        """`trainer.save_checkpoint_path` of the run; what an actor folder lies in if it was moved out of its step."""
        return self.actor.parent if self.step is None else self.actor.parent.parent

    @property
    def huggingface(self) -> Path:
        return self.actor / "huggingface"


class Weight(NamedTuple):
    """A whole weight, put together from its pieces when `read` is called."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], torch.Tensor]


Weights = dict[str, Weight]


def find_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint at `path`: an actor folder, a `global_step_N`, or a run's folder (its last step)."""
    if not path.is_dir():
        raise CheckpointError(f"no folder {path}; wanted a run's folder, a global_step_N or its actor folder")
    path = path.resolve()
    actor = path / "actor" if (path / "actor").is_dir() else path
    if actor != path or any(path.glob("model_world_size_*")):
        step = _STEP.fullmatch(actor.parent.name)
        return Checkpoint(actor, int(step[1]) if step else None)
    steps = {int(match[1]): step for step in path.glob("global_step_*/") if (match := _STEP.fullmatch(step.name))}
    steps = {number: step for number, step in steps.items() if (step / "actor").is_dir()}
    if not steps:
        raise CheckpointError(f"no checkpoint in {path}; wanted a run's folder, a global_step_N or its actor folder")
    # a folder newer than the tracker was being written when the run ended
    return find_checkpoint(steps.get(tracker(path).get("last_global_step", -1), steps[max(steps)]))


def find_shards(actor: Path) -> list[Path]:
    """The model's shards in the order of their ranks. CheckpointError: none, some missing, or of several runs."""
    worlds: dict[int, dict[int, Path]] = {}
    for file in actor.glob("model_world_size_*"):
        if match := _SHARD.fullmatch(file.name):
            worlds.setdefault(int(match[1]), {})[int(match[2])] = file
    if not worlds:
        raise CheckpointError(f"no model_world_size_*_rank_*.pt in {actor}; wanted what EasyR1 saves there")
    if len(worlds) > 1:
        sizes = " and ".join(map(str, sorted(worlds)))
        raise CheckpointError(f"{actor} holds shards of world sizes {sizes}; keep the files of one run only")
    ((world_size, ranks),) = worlds.items()
    if missing := sorted(set(range(world_size)) - set(ranks)):
        wanted = f"rank {', '.join(map(str, missing))} of {world_size}"
        raise CheckpointError(f"{actor} has no shard of {wanted}; copy it there (each node saves its own ranks)")
    if extra := sorted(set(ranks) - set(range(world_size))):
        raise CheckpointError(f"{ranks[extra[0]]}: rank {extra[0]} can't belong to a world of {world_size}; remove it")
    return [ranks[rank] for rank in range(world_size)]


def read_weights(checkpoint: Checkpoint) -> Weights:
    """All weights under the names that they had in training.

    CheckpointError: a shard is missing, cut off, or does not fit the others.
    """
    files = find_shards(checkpoint.actor)
    shards = [_load(file) for file in files]
    for file, shard in zip(files, shards, strict=True):
        if odd := sorted(shard.keys() ^ shards[0].keys()):
            raise CheckpointError(f"{file} and {files[0].name} do not hold the same weights (first: {odd[0]})")
    return {name: _join(name, [shard[name] for shard in shards], checkpoint.actor) for name in shards[0]}


def merge_lora(weights: Weights, adapter_config: Path) -> Weights:
    """W + scale * B A under W's own name, for every LoRA layer; the weights as they are if there is none.

    EasyR1 saves the frozen base (bfloat16) and both factors (float32) in the shards, under peft's names, and the
    adapter alone in `actor/lora_adapter`. The sum is made in float32, when a weight is read. CheckpointError:
    something else than plain LoRA, or no scale.
    """
    if not any(".lora_" in name for name in weights):
        return weights
    if odd := [name for name in weights if ".lora_" in name and not _LORA_FACTOR.fullmatch(name)]:
        raise CheckpointError(f"{odd[0]}: only plain LoRA on linear layers can be merged")
    config = read_json(adapter_config)
    try:
        scale = config["lora_alpha"] / config["r"]
    except (KeyError, TypeError, ZeroDivisionError):
        raise CheckpointError(f"{adapter_config} has no scale for the LoRA layers; wanted lora_alpha and r") from None
    merged = {}
    for name, weight in weights.items():
        if _LORA_FACTOR.fullmatch(name):
            continue
        layer = name.removesuffix(".base_layer.weight")
        own_name = name.removeprefix(_LORA_PREFIX).replace(".base_layer.", ".")
        merged[own_name] = weight if layer == name else _adapted(layer, weights, scale)
    return merged


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object that EasyR1 saves with the shards. CheckpointError: not there, or not an object."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{file} can't be read ({error.strerror}); EasyR1 saves it with the shards") from None
    except ValueError as error:
        raise CheckpointError(f"{file} is not JSON ({error})") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{file} holds no JSON object")
    return values


def tracker(run: Path) -> dict[str, Any]:
    """What EasyR1 notes of a run's checkpoints: `last_global_step`, `best_global_step` ...; {} if it did not."""
    try:
        return read_json(run / TRACKER)
    except CheckpointError:
        return {}


def _load(file: Path) -> dict[str, torch.Tensor]:
    import torch
    import torch.distributed.tensor  # its classes are in the file

    # torch warns that the process groups of the run are gone; they are, and nothing here needs them
    logger = logging.getLogger("torch.distributed.device_mesh")
    level = logger.level
    try:
        logger.setLevel(logging.ERROR)
        with torch.no_grad():
            # weights_only: a checkpoint is data, and must not run code
            shard = torch.load(file, map_location="cpu", mmap=True, weights_only=True)
    except Exception as error:  # torch, zipfile and pickle each raise their own
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise CheckpointError(f"{file} can't be read, it is cut off or not from EasyR1 ({reason[:200]})") from error
    finally:
        logger.setLevel(level)
    if not isinstance(shard, dict) or not all(isinstance(value, torch.Tensor) for value in shard.values()):
        raise CheckpointError(f"{file} holds no weights by name; wanted what EasyR1 saves")
    return shard


def _join(name: str, pieces: list[Any], actor: Path) -> Weight:
    import torch
    from torch.distributed.tensor import DTensor

    first = pieces[0]
    layouts = {(type(p), p.shape, p.dtype, getattr(p, "placements", None)) for p in pieces}
    if len(layouts) > 1:
        raise CheckpointError(f"{name} in {actor} differs in kind between the shards; are they of one step?")
    if not isinstance(first, DTensor):
        return Weight(tuple(first.shape), first.dtype, lambda: first)
    with torch.no_grad():
        parts = [piece.to_local() for piece in pieces]
    # EasyR1's meshes are (fsdp) and (ddp, fsdp), of which ddp holds copies
    *copies, last = cast(Any, first.placements)
    if not all(placement.is_replicate() for placement in copies) or last.is_partial():
        raise CheckpointError(f"{name} is spread as {first.placements}; wanted EasyR1's (fsdp) or (ddp, fsdp) layout")
    dim = None if last.is_replicate() else last.dim
    parts = parts[:1] if dim is None else _one_copy(name, parts, dim, first)
    return Weight(tuple(first.shape), first.dtype, lambda: parts[0] if len(parts) == 1 else torch.cat(parts, dim or 0))


def _one_copy(name: str, parts: list[torch.Tensor], dim: int, whole: Any) -> list[torch.Tensor]:
    """The pieces of the first copy: those of all ranks, or of the first `fsdp_size` ranks on a (ddp, fsdp) mesh."""
    total, size = sum(part.shape[dim] for part in parts), whole.shape[dim]
    copies = 1 if len(whole.placements) == 1 else max(1, total // max(1, size))
    parts = parts[: len(parts) // copies]
    joined = [part.shape[dim] for part in parts]
    others = {tuple(part.shape[:dim]) + tuple(part.shape[dim + 1 :]) for part in parts if part.numel()}
    if sum(joined) != size or others - {tuple(whole.shape[:dim]) + tuple(whole.shape[dim + 1 :])}:
        raise CheckpointError(
            f"the pieces of {name} ({' + '.join(map(str, joined))} along dimension {dim}) do not make its shape "
            f"{tuple(whole.shape)}; the shards are not of one run"
        )
    # small weights leave the last ranks empty
    return [part for part in parts if part.shape[dim]] or parts[:1]


def _adapted(layer: str, weights: Weights, scale: float) -> Weight:
    names = f"{layer}.base_layer.weight", f"{layer}.lora_A.default.weight", f"{layer}.lora_B.default.weight"
    if missing := [name for name in names if name not in weights]:
        raise CheckpointError(f"{layer} is a LoRA layer without {missing[0]}")
    base, a, b = (weights[name] for name in names)
    if (*b.shape[:1], *a.shape[1:]) != base.shape or a.shape[0] != b.shape[-1]:
        raise CheckpointError(f"{layer}: LoRA factors {b.shape} x {a.shape} do not fit the weight {base.shape}")
    return Weight(base.shape, a.dtype, lambda: base.read().float() + scale * (b.read().float() @ a.read().float()))
