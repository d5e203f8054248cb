"""The files of a Hugging Face model folder: configs beside the weights, and the weights.

copy_files(actor / "huggingface", folder, decomposer, chat_template=None)
write_weights(hub_names(weights, actor / "huggingface"), folder, "bfloat16")
-> model-00001-of-00005.safetensors ... model.safetensors.index.json, or one model.safetensors
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ier1_plugin.task.decomposer import Decomposer
from ier1_plugin.training.checkpoint import CheckpointError, Weights, read_json

if TYPE_CHECKING:
    import torch

MAX_FILE_SIZE = "4GB"
EMBEDDING, HEAD = "embed_tokens.weight", "lm_head.weight"
# transformers >= 4.52 holds these models under new names and saves them under the old ones, which every tool reads
OLD_NAMES = {
    family: {"model.language_model.": "model.", "model.visual.": "visual."} for family in ("qwen2_vl", "qwen2_5_vl")
}
# what steers sampling; the rollouts were sampled without any of it (EasyR1 passes its own sampling parameters)
SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "do_sample")
_WEIGHT_FILES = (".safetensors", ".safetensors.index.json", ".bin", ".pt")


def copy_files(source: Path, folder: Path, decomposer: Decomposer, chat_template: str | None) -> None:
    """Config, tokenizer and processor of the policy, with the dtype and the processor's limits of `decomposer`.

    `chat_template`: file of `data.override_chat_template`, which EasyR1 does not save with the tokenizer.
    """
    for file in source.iterdir():
        # weights that another merge may have put there
        if file.is_file() and not file.name.endswith(_WEIGHT_FILES) and file.name != "README.md":
            shutil.copyfile(file, folder / file.name)
    _edit_json(folder / "config.json", lambda config: _edit_config(config, decomposer.dtype))
    _edit_json(folder / "preprocessor_config.json", lambda processor: _set_limits(processor, decomposer))
    if (folder / "generation_config.json").is_file():
        _edit_json(folder / "generation_config.json", _without_sampling)
    if chat_template:
        _set_chat_template(folder, Path(chat_template))


def hub_names(weights: Weights, source: Path) -> Weights:
    """The weights under the names that the base model has on the hub, without a head that is tied to the embedding."""
    config = read_json(source / "config.json")
    old_names = OLD_NAMES.get(config.get("model_type", ""), {})
    renamed = {_hub_name(name, old_names): weight for name, weight in weights.items()}
    if HEAD in renamed and _is_tied(config):
        _check_tied(renamed)
        del renamed[HEAD]
    return renamed


def write_weights(weights: Weights, folder: Path, dtype: str) -> None:
    """Writes safetensors files of at most MAX_FILE_SIZE, one after the other, and an index if there are several."""
    import torch
    from huggingface_hub import split_torch_state_dict_into_shards
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
            _save(tensors, folder / file_name)
    if plan.is_sharded:
        index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _save(tensors: dict[str, torch.Tensor], file: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(tensors, file, metadata={"format": "pt"})
    except SafetensorError as error:
        raise CheckpointError(f"{file.name} can't be written ({error}); is the disk full?") from error
    # safetensors makes files that only their owner can read
    file.chmod((file.parent / "config.json").stat().st_mode)


def _edit_json(file: Path, edit: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    file.write_text(json.dumps(edit(read_json(file)), indent=2) + "\n", encoding="utf-8")


def _edit_config(config: dict[str, Any], dtype: str) -> dict[str, Any]:
    """Sets the dtype at the top and for text and vision, and brings to the top what readers look for there."""
    text = config.get("text_config") or {}
    # transformers 4.57 moves these into the text model's config when it saves a Qwen2.5-VL
    lifted = {name: text[name] for name in ("architectures", "tie_word_embeddings") if text.get(name) is not None}
    edited = {name: _nested_dtype(value, dtype) for name, value in config.items()}
    return lifted | edited | {"dtype" if "dtype" in config else "torch_dtype": dtype}


def _nested_dtype(value: Any, dtype: str) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {name: dtype if name in ("dtype", "torch_dtype") else part for name, part in value.items()}


def _set_limits(processor: dict[str, Any], decomposer: Decomposer) -> dict[str, Any]:
    low, high = decomposer.server_min_pixels, decomposer.server_max_pixels
    # both spellings: transformers' slow processor ignores `size`, newer versions and vLLM read nothing else
    return processor | {"min_pixels": low, "max_pixels": high, "size": {"shortest_edge": low, "longest_edge": high}}


def _without_sampling(generation: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in generation.items() if name not in SAMPLING} | {"do_sample": False}


def _set_chat_template(folder: Path, template: Path) -> None:
    if not template.is_file():
        raise CheckpointError(f"no chat template {template}, which the training used (data.override_chat_template)")
    shutil.copyfile(template, folder / "chat_template.jinja")
    (folder / "chat_template.json").unlink(missing_ok=True)


def _hub_name(name: str, prefixes: Mapping[str, str]) -> str:
    for new, old in prefixes.items():
        if name.startswith(new):
            return old + name.removeprefix(new)
    return name


def _is_tied(config: Mapping[str, Any]) -> bool:
    return bool(config.get("tie_word_embeddings", (config.get("text_config") or {}).get("tie_word_embeddings", False)))


def _check_tied(weights: Weights) -> None:
    import torch

    embeddings = [weight for name, weight in weights.items() if name.endswith(EMBEDDING)]
    if not any(torch.equal(weights[HEAD].read(), embedding.read()) for embedding in embeddings):
        wanted = "set tie_word_embeddings to false in huggingface/config.json if they were trained apart"
        raise CheckpointError(f"config.json ties {HEAD} to the embedding, but they differ; {wanted}")
