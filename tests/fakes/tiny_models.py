"""Random Qwen-VL models of about 0.2 M parameters, for tests that need a model and not what it knows.

    build(tmp_path / "model", "qwen2_5_vl")   -> the folder, which AutoProcessor and AutoModelForImageTextToText load

Attention heads are 32 wide. The tokenizer is trained on the decomposition prompt, so that a prompt has a few hundred
tokens. Also rows for EasyR1: `write_rows(tmp_path / "train.parquet", 8)`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_prep.output import write_parquet
from ier1_plugin.prompts import path as prompt_path
from ier1_plugin.small_world.tiny_model import (
    CHAT_TEMPLATE,
    END,
    IMAGE,
    SPECIAL_TOKENS,
    STOP,
    VIDEO,
    VISION_END,
    VISION_START,
    import_transformers,
    learnt_tokenizer,
)
from ier1_plugin.task.actions import ACTIONS
from ier1_plugin.task.images import encode
from ier1_plugin.task.parsing import render_response
from ier1_plugin.task.rows import format_row
from ier1_plugin.task.schema import Decomposition

FAMILIES = ("qwen2_5_vl", "qwen3_vl")
HIDDEN = 64
GOLD = Decomposition(("Recoloring",), ("coat",), ("red",))


def build(folder: Path, family: str, seed: int = 0) -> Path:
    """Writes a model of `family` (one of FAMILIES) with random weights, its tokenizer and its image processor."""
    import torch

    corpus = [prompt_path("decompose").read_text(), render_response(GOLD, "The coat changes."), *ACTIONS] * 10
    tokenizer = learnt_tokenizer(corpus, size=768, max_length=4096)
    torch.manual_seed(seed)
    _model(family, tokenizer).save_pretrained(folder)
    _processor(family, tokenizer).save_pretrained(folder)
    return folder


def photo(index: int, size: tuple[int, int] = (84, 56)) -> Any:
    """A picture that differs for each index."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", size, (37 * index % 256, 91 * index % 256, 53 * index % 256))
    ImageDraw.Draw(image).rectangle((5, 5, 20 + index % 40, 40), fill=(200, 11 * index % 256, 30))
    return image


def write_rows(file: Path, count: int) -> Path:
    """RL rows with a photo each, as the builder writes them."""
    rows = []
    for index in range(count):
        image, request = encode(photo(index), lossless=True), f"make the coat {'red' if index % 2 else 'navy'}"
        rows.append(format_row(id=f"row-{index}", source="test", request=request, image=image, gold=GOLD))
    write_parquet(file, iter(rows))
    return file


def _processor(family: str, tokenizer: Any) -> Any:
    hf = import_transformers()
    patch = {"qwen2_5_vl": 14, "qwen3_vl": 16}[family]
    side = 2 * patch
    image_processor = hf.Qwen2VLImageProcessorFast(min_pixels=side**2, max_pixels=16 * side**2, patch_size=patch)
    parts = {"image_processor": image_processor, "tokenizer": tokenizer, "chat_template": CHAT_TEMPLATE}
    if family == "qwen3_vl":
        return hf.Qwen3VLProcessor(**parts, video_processor=hf.Qwen3VLVideoProcessor())
    return hf.Qwen2_5_VLProcessor(**parts, video_processor=hf.Qwen2VLVideoProcessor())


def _model(family: str, tokenizer: Any) -> Any:
    hf = import_transformers()
    ids = {token: int(tokenizer.convert_tokens_to_ids(token)) for token in SPECIAL_TOKENS}
    ends = {"eos_token_id": ids[STOP], "pad_token_id": ids[END], "bos_token_id": None}
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": HIDDEN,
        "intermediate_size": 2 * HIDDEN,
        "num_hidden_layers": 2,
        "num_attention_heads": HIDDEN // 32,
        "num_key_value_heads": 1,
        "max_position_embeddings": 4096,
        # ten times the usual width: with tied embeddings a narrow random model only repeats its last token
        "initializer_range": 0.2,
        "tie_word_embeddings": True,
    }
    vision = {"depth": 2, "hidden_size": 64, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": HIDDEN}
    # 16 pairs of a 32 wide head, shared out between time, height and width
    if family == "qwen3_vl":
        rope = {"rope_type": "default", "mrope_section": [6, 5, 5], "mrope_interleaved": True}
        text |= {"head_dim": 32, "rope_scaling": rope}
        vision |= {"num_position_embeddings": 64, "deepstack_visual_indexes": [0]}
        config_class, model_class = hf.Qwen3VLConfig, hf.Qwen3VLForConditionalGeneration
    else:
        text |= {"rope_scaling": {"type": "mrope", "mrope_section": [4, 6, 6]}}
        vision |= {"fullatt_block_indexes": [1]}
        config_class, model_class = hf.Qwen2_5_VLConfig, hf.Qwen2_5_VLForConditionalGeneration
    config = config_class(
        text_config=text | ends,
        vision_config=vision,
        image_token_id=ids[IMAGE],
        video_token_id=ids[VIDEO],
        vision_start_token_id=ids[VISION_START],
        vision_end_token_id=ids[VISION_END],
        tie_word_embeddings=True,
        **ends,
    )
    model = model_class(config).float()
    generation = {"eos_token_id": [ids[STOP], ids[END]], "pad_token_id": ids[END], "do_sample": True}
    model.generation_config = hf.GenerationConfig(**generation)
    return model
