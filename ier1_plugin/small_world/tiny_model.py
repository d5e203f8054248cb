"""A Qwen2.5-VL of 1.3 M parameters with random weights, small enough to train on two CPU cores.

    python -m ier1_plugin.small_world.tiny_model --out quickstart/model-random
    build(Path("quickstart/model-random"), seed=0)   # config, weights, tokenizer, processor: what AutoModel loads

The architecture is transformers' own, only narrow; attention heads are 32 wide. The tokenizer is byte-level BPE, learnt
from training requests and responses. Two things are made short on purpose. The eight tags are one token each. And so
is the fixed text of `prompts/decompose.jinja` that follows the request: the model gets the same prompt as a large one,
but reads those 450 words as a single token, of which it learns what it stands for. Prompts are 20 to 90 tokens that
way, and a training step takes seconds. A pretrained model reads every word.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ier1_plugin.prompts import render
from ier1_plugin.small_world.model_io import PIXELS, import_transformers
from ier1_plugin.small_world.world import samples
from ier1_plugin.task.parsing import MARKERS, render_response

CORPUS_ROWS = 4000
MERGES_UP_TO = 1024
MAX_LENGTH = 1024
START, STOP, END, IMAGE, VIDEO = "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|image_pad|>", "<|video_pad|>"
VISION_START, VISION_END = "<|vision_start|>", "<|vision_end|>"
SPECIAL_TOKENS = (END, START, STOP, VISION_START, VISION_END, "<|vision_pad|>", IMAGE, VIDEO)
# Qwen2.5-VL's own, less the system turn that it adds by default and the tools
CHAT_TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content -%}
{%- if part.type == "image" %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif -%}
{%- endfor %}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


@dataclass(frozen=True)
class Size:
    """Widths and depths. A head of 32 needs mrope sections that add up to 16."""

    hidden: int = 128
    layers: int = 2
    heads: int = 4
    key_value_heads: int = 2
    intermediate: int = 384
    vision_hidden: int = 128
    vision_layers: int = 2
    vision_heads: int = 4
    mrope_section: tuple[int, int, int] = (4, 6, 6)


def prompt_tail() -> str:
    """What the prompt says after the request, the same for every row."""
    return render("decompose", content="request").removeprefix("request")


def build(folder: Path, seed: int = 0, size: Size | None = None) -> Path:
    """Writes model, tokenizer and processor to `folder` and returns it. The same seed gives the same weights."""
    import torch

    tokenizer = build_tokenizer(seed)
    torch.manual_seed(seed)
    model = build_model(size or Size(), tokenizer)
    processor = build_processor(tokenizer)
    for part in (model, processor, tokenizer):
        part.save_pretrained(folder)
    return folder


def build_tokenizer(seed: int) -> Any:
    """A fast Qwen2 tokenizer: BPE learnt from training rows; tags and the prompt's fixed text are one token each."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    transformers = import_transformers()
    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.NFC()
    bpe.pre_tokenizer = qwen_words()
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=MERGES_UP_TO, initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator(_corpus(seed), trainer)
    tokenizer = transformers.Qwen2TokenizerFast(
        tokenizer_object=bpe,
        unk_token=None,
        bos_token=None,
        eos_token=STOP,
        pad_token=END,
        additional_special_tokens=list(SPECIAL_TOKENS[1:]),
        model_max_length=MAX_LENGTH,
    )
    # not special: the reward has to see the tags; not normalised: matched as they are written
    whole = [AddedToken(text, special=False, normalized=False) for text in (*MARKERS, prompt_tail())]
    tokenizer.add_tokens(whole)
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def qwen_words() -> Any:
    """How Qwen2 cuts a text before BPE: digits one by one, words with the space before them.

    Any other way would get lost: from version 5 on transformers, and vLLM with it, takes a Qwen2 tokenizer's words from
    its own code and not from the folder (transformers, models/qwen2/tokenization_qwen2.py, where the pattern is from).
    """
    from tokenizers import Regex, pre_tokenizers

    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    words = pre_tokenizers.Split(Regex(pattern), "isolated")
    return pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def build_model(size: Size, tokenizer: Any) -> Any:
    """Random weights from torch's current seed, float32."""
    transformers = import_transformers()
    ids = {token: int(tokenizer.convert_tokens_to_ids(token)) for token in SPECIAL_TOKENS}
    ends = {"bos_token_id": None, "eos_token_id": ids[STOP], "pad_token_id": ids[END]}
    config = transformers.Qwen2_5_VLConfig(
        # exactly the tokens there are: with more, an untrained model would emit some that nobody can decode
        text_config=_text_config(size, len(tokenizer)) | ends,
        vision_config=_vision_config(size),
        image_token_id=ids[IMAGE],
        video_token_id=ids[VIDEO],
        vision_start_token_id=ids[VISION_START],
        vision_end_token_id=ids[VISION_END],
        tie_word_embeddings=True,
        **ends,
    )
    model = transformers.Qwen2_5_VLForConditionalGeneration(config).float()
    model.generation_config = transformers.GenerationConfig(
        eos_token_id=[ids[STOP], ids[END]], pad_token_id=ids[END], do_sample=True
    )
    return model


def build_processor(tokenizer: Any) -> Any:
    """Qwen2.5-VL's processor around `tokenizer`, with the small world's pixel budget."""
    transformers = import_transformers()
    budget = {"min_pixels": PIXELS, "max_pixels": PIXELS}
    patches = {"patch_size": 14, "merge_size": 2, "temporal_patch_size": 2}
    return transformers.Qwen2_5_VLProcessor(
        image_processor=transformers.Qwen2VLImageProcessorFast(**budget, **patches),
        tokenizer=tokenizer,
        video_processor=transformers.Qwen2VLVideoProcessor(**budget),
        chat_template=CHAT_TEMPLATE,
    )


def _corpus(seed: int) -> list[str]:
    rows = list(islice(samples("train", seed, picture_share=0.5), CORPUS_ROWS))
    responses = [render_response(row.gold, row.think) for row in rows]
    for marker in MARKERS:
        responses = [response.replace(marker, "") for response in responses]
    return [row.request for row in rows] + responses + ["user\nassistant\n"] * 100


def _text_config(size: Size, vocabulary: int) -> dict[str, Any]:
    return {
        "vocab_size": vocabulary,
        "hidden_size": size.hidden,
        "intermediate_size": size.intermediate,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.key_value_heads,
        "max_position_embeddings": MAX_LENGTH,
        "rope_theta": 10_000.0,
        "rope_scaling": {"type": "mrope", "mrope_section": list(size.mrope_section)},
        "tie_word_embeddings": True,
        "use_sliding_window": False,
    }


def _vision_config(size: Size) -> dict[str, Any]:
    return {
        "depth": size.vision_layers,
        "hidden_size": size.vision_hidden,
        "intermediate_size": 2 * size.vision_hidden,
        "num_heads": size.vision_heads,
        "out_hidden_size": size.hidden,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "window_size": 112,
        "fullatt_block_indexes": list(range(size.vision_layers)),
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m ier1_plugin.small_world.tiny_model", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the new model")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    build(options.out, options.seed)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
