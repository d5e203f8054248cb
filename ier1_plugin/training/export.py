"""Merges an EasyR1 checkpoint into a Hugging Face folder that is ready to serve, to load and to upload.

    merge(find_checkpoint(Path("checkpoints/easy_r1/qwen25vl_7b/global_step_80")))
    -> checkpoints/easy_r1/qwen25vl_7b/decomposer-step-80/
           model-00001-of-00005.safetensors ..., config.json, tokenizer, processor, generation_config.json,
           decompose.jinja, decomposer.json (pixel budget, prompt hash, rollout, step ...), README.md (model card)

Needs neither EasyR1 nor a GPU nor peft. Weights are written file by file, so that memory holds one file of them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ier1_plugin import __version__
from ier1_plugin.runs.folder import LOCK, locked
from ier1_plugin.task.decomposer import Decomposer, processor_limits
from ier1_plugin.training.checkpoint import (
    TRACKER,
    Checkpoint,
    CheckpointError,
    Weights,
    merge_lora,
    read_json,
    read_weights,
    tracker,
)
from ier1_plugin.training.model_card import render_card
from ier1_plugin.training.run_config import find_budget, find_dtype, find_prompt, look_up, read_rollout, read_run_config

if TYPE_CHECKING:
    import torch

MAX_FILE_SIZE = "4GB"
PREPROCESSOR, PROCESSOR = "preprocessor_config.json", "processor_config.json"
EMBEDDING, HEAD = "embed_tokens.weight", "lm_head.weight"
# transformers >= 4.52 holds these models under new names and saves them under the old ones, which every tool reads
OLD_NAMES = {
    family: {"model.language_model.": "model.", "model.visual.": "visual."} for family in ("qwen2_vl", "qwen2_5_vl")
}
# what steers sampling; the rollouts were sampled without any of it (EasyR1 passes its own sampling parameters)
SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "do_sample")
# weights that another merge may have put beside the policy's config
_WEIGHT_FILES = (".safetensors", ".safetensors.index.json", ".bin", ".pt")


def merge(
    checkpoint: Checkpoint,
    out: Path | None = None,
    *,
    config_file: Path | None = None,
    min_pixels: int | None = None,
    max_pixels: int | None = None,
    prompt: Path | None = None,
    base_model: str | None = None,
    dtype: str | None = None,
) -> Path:
    """Writes a new folder, by default beside the steps of the run, whole or not at all; returns it.

    `config_file`: the run's EasyR1 config where its folder holds none; what is None is read from the config.
    CheckpointError says in one line what is missing or damaged. RunError: another merge is writing the same folder.
    """
    if out is None:
        out = checkpoint.run / ("decomposer" if checkpoint.step is None else f"decomposer-step-{checkpoint.step}")
    if out.exists():
        raise CheckpointError(f"{out} exists; remove it, or name another folder with --out")
    config = read_run_config(checkpoint.actor.parent, config_file)
    prompt = find_prompt(config, prompt)
    low, high = find_budget(config, min_pixels, max_pixels)
    side, own_limits = _processor_facts(checkpoint.huggingface)
    server_low, server_high = processor_limits(low, high, side, own_limits)
    base_model = base_model or look_up(config, "worker.actor.model.model_path")
    if base_model and Path(base_model).is_dir():
        # as seen from `out`, such as "../warm", so that both can be moved together
        base_model = os.path.relpath(base_model, out)
    decomposer = Decomposer(
        min_pixels=low,
        max_pixels=high,
        server_min_pixels=server_low,
        server_max_pixels=server_high,
        pixels_per_token=side**2,
        prompt=prompt.name,
        prompt_sha256=hashlib.sha256(prompt.read_bytes()).hexdigest(),
        rollout=read_rollout(checkpoint.huggingface),
        dtype=find_dtype(config, dtype),
        imageedit_r1_version=__version__,
        max_prompt_length=look_up(config, "data.max_prompt_length"),
        max_response_length=look_up(config, "data.max_response_length"),
        global_step=checkpoint.step,
        experiment=look_up(config, "trainer.experiment_name"),
        base_model=base_model,
        easyr1_version=look_up(config, "easyr1_version"),
        verl_version=look_up(config, "verl_version"),
    )
    weights = merge_lora(read_weights(checkpoint), checkpoint.actor / "lora_adapter" / "adapter_config.json")
    with _appearing(out) as folder:
        _copy_files(checkpoint.huggingface, folder, decomposer, look_up(config, "data.override_chat_template"))
        shutil.copyfile(prompt, folder / prompt.name)
        decomposer.write(folder)
        (folder / "README.md").write_text(render_card(decomposer, config), encoding="utf-8")
        _write_weights(hub_names(weights, checkpoint.huggingface), folder, decomposer.dtype)
    return out


def upload(folder: Path, repo_id: str) -> str:
    """Creates the hub repository (private) if needed, uploads the folder and returns its address."""
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        address = api.create_repo(repo_id, private=True, exist_ok=True)
        api.upload_folder(repo_id=repo_id, folder_path=folder)
    except Exception as error:  # the hub client and its transport each raise their own
        reason = str(error).strip().split("\n")[0]
        hint = f"the merged model is in {folder}; try again with: hf upload {repo_id} {folder}"
        raise CheckpointError(f"upload to {repo_id} failed ({reason}); {hint}") from error
    return str(address)


def describe_step(checkpoint: Checkpoint) -> str:
    """Such as "step 80 (best on validation: step 60)"."""
    noted, step = tracker(checkpoint.run), checkpoint.step
    if step is None:
        return str(checkpoint.actor)
    best, last = noted.get("best_global_step"), noted.get("last_global_step")
    notes = [f"best on validation: step {best}"] if best and best != step else []
    if last and not (checkpoint.run / f"global_step_{last}").exists():
        notes.append(f"{TRACKER} names step {last}, which is not there")
    return f"step {step} ({'; '.join(notes)})" if notes else f"step {step}"


def _image_processor(folder: Path) -> dict[str, Any]:
    """The image processor's settings: transformers 5 keeps them in the whole processor's file."""
    if not (folder / PREPROCESSOR).is_file() and (folder / PROCESSOR).is_file():
        return read_json(folder / PROCESSOR).get("image_processor") or {}
    return read_json(folder / PREPROCESSOR)


def _processor_facts(folder: Path) -> tuple[int, tuple[int, int]]:
    """Pixels along an image token, and the limits that the processor had in training."""
    processor: Mapping[str, Any] = _image_processor(folder)
    size = processor.get("size") or {}
    low = processor.get("min_pixels") or size.get("shortest_edge")
    high = processor.get("max_pixels") or size.get("longest_edge")
    side = processor.get("patch_size", 0) * processor.get("merge_size", 0)
    if not (side and low and high):
        file = folder / PREPROCESSOR
        raise CheckpointError(f"{file} is not that of a Qwen-VL model: no patch size, merge size or pixel limits")
    return side, (low, high)


@contextmanager
def _appearing(out: Path) -> Iterator[Path]:
    """A folder to fill, which gets its name when it is complete and goes when it is not.

    What a killed run left is cleared; a second merge is kept out.
    """
    partial = out.with_name(f".{out.name}.partial")
    with locked(partial):
        try:
            for left in partial.iterdir():
                if left.name != LOCK:
                    left.unlink()
            yield partial
            (partial / LOCK).unlink()
            partial.rename(out)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def with_head(config: dict[str, Any]) -> dict[str, Any]:
    """A model's config.json with its class, and whether its head is tied, on top, where readers want them.

    transformers 4.57 moves both into the text model's config when it saves a Qwen2.5-VL.
    """
    text = config.get("text_config") or {}
    return {key: text[key] for key in ("architectures", "tie_word_embeddings") if text.get(key) is not None} | config


def _copy_files(source: Path, folder: Path, decomposer: Decomposer, chat_template: str | None) -> None:
    """Config, tokenizer and processor of the policy, with the dtype and the processor's limits of `decomposer`.

    `chat_template`: file of `data.override_chat_template`, which EasyR1 does not save with the tokenizer.
    """
    for file in source.iterdir():
        if file.is_file() and not file.name.endswith(_WEIGHT_FILES) and file.name != "README.md":
            shutil.copyfile(file, folder / file.name)

    config = with_head(read_json(folder / "config.json"))
    for part in (part for part in config.values() if isinstance(part, dict)):
        part.update({name: decomposer.dtype for name in ("dtype", "torch_dtype") if name in part})
    dtype_key = "dtype" if "dtype" in config else "torch_dtype"
    _write_json(folder / "config.json", config | {dtype_key: decomposer.dtype})

    low, high = decomposer.server_min_pixels, decomposer.server_max_pixels
    # both spellings: transformers' slow processor ignores `size`, newer versions and vLLM read nothing else
    limits = {"min_pixels": low, "max_pixels": high, "size": {"shortest_edge": low, "longest_edge": high}}
    images = _image_processor(folder) | limits
    _write_json(folder / PREPROCESSOR, images)
    if (folder / PROCESSOR).is_file() and "image_processor" in (whole := read_json(folder / PROCESSOR)):
        _write_json(folder / PROCESSOR, whole | {"image_processor": images})

    file = folder / "generation_config.json"
    if file.is_file():
        kept = {name: value for name, value in read_json(file).items() if name not in SAMPLING}
        _write_json(file, kept | {"do_sample": False})
    if chat_template:
        if not Path(chat_template).is_file():
            wanted = "which the training used (data.override_chat_template)"
            raise CheckpointError(f"no chat template {chat_template}, {wanted}")
        shutil.copyfile(chat_template, folder / "chat_template.jinja")
        (folder / "chat_template.json").unlink(missing_ok=True)


def hub_names(weights: Weights, source: Path) -> Weights:
    """The weights under the names that the base model has on the hub, without a head that is tied to the embedding."""
    import torch

    config = read_json(source / "config.json")
    old_names = OLD_NAMES.get(config.get("model_type", ""), {})
    renamed = {}
    for name, weight in weights.items():
        new = next((new for new in old_names if name.startswith(new)), "")
        renamed[old_names.get(new, "") + name.removeprefix(new)] = weight
    tied = config.get("tie_word_embeddings", (config.get("text_config") or {}).get("tie_word_embeddings", False))
    if HEAD in renamed and tied:
        embeddings = [weight for name, weight in renamed.items() if name.endswith(EMBEDDING)]
        if not any(torch.equal(renamed[HEAD].read(), embedding.read()) for embedding in embeddings):
            wanted = "set tie_word_embeddings to false in huggingface/config.json if they were trained apart"
            raise CheckpointError(f"config.json ties {HEAD} to the embedding, but they differ; {wanted}")
        del renamed[HEAD]
    return renamed


def _write_weights(weights: Weights, folder: Path, dtype: str) -> None:
    """Writes safetensors files of at most MAX_FILE_SIZE, one after the other, and an index if there are several."""
    import torch
    from huggingface_hub import split_torch_state_dict_into_shards
    from safetensors import SafetensorError
    from safetensors.torch import save_file
    from tqdm import tqdm

    wanted: torch.dtype = getattr(torch, dtype)
    dtypes = {name: wanted if weight.dtype.is_floating_point else weight.dtype for name, weight in weights.items()}
    sketch = {name: torch.empty(weight.shape, dtype=dtypes[name], device="meta") for name, weight in weights.items()}
    plan = split_torch_state_dict_into_shards(sketch, max_shard_size=MAX_FILE_SIZE)
    with tqdm(total=plan.metadata["total_size"], unit="B", unit_scale=True, desc="writing weights") as progress:
        for file_name, names in plan.filename_to_tensors.items():
            tensors = {}
            for name in names:
                tensors[name] = weights[name].read().to(dtypes[name]).contiguous()
                progress.update(tensors[name].nbytes)
            file = folder / file_name
            try:
                save_file(tensors, file, metadata={"format": "pt"})
            except SafetensorError as error:
                raise CheckpointError(f"{file.name} can't be written ({error}); is the disk full?") from error
            # safetensors makes files that only their owner can read
            file.chmod((folder / "config.json").stat().st_mode)
    if plan.is_sharded:
        index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
        _write_json(folder / "model.safetensors.index.json", index)


def _write_json(file: Path, values: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
