"""A Qwen2.5-VL of 1.3 M parameters with random weights, small enough to train on two CPU cores; and its inference.

    build(Path("quickstart/model-random"), seed=0)   # config, weights, tokenizer, processor: what AutoModel loads

    model, processor = load(Path("quickstart/warm"))
    inputs = encode(processor, ["make it brighter"], [photo])   # input_ids [1, n], pixel_values [16, 1176], ...
    responses = generate(model, processor, inputs, sampled=False)   # ["<think> I see: cat. ..."]

The architecture is transformers' own, only narrow; attention heads are 32 wide. The tokenizer is byte-level BPE, learnt
from training requests and responses. Two things are made short on purpose: each of the eight tags is one token, and so
is the fixed text of `prompts/decompose.jinja` that follows the request. The model gets the same prompt as a large one,
but reads those 450 words as a single token, and learns what it stands for. Prompts are 20 to 90 tokens long that way,
and a training step takes seconds. A pretrained model reads every word.

The prompt comes from `rows.messages`, the image goes through `images.prepare` and the model's own processor: the same
ids as in training, which a test compares with EasyR1's dataset.
"""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

from PIL import Image

from ier1_plugin.chat.local import prepare_step_masks
from ier1_plugin.prompts import render
from ier1_plugin.small_world.wordings import OTHER_GOALS
from ier1_plugin.small_world.world import samples
from ier1_plugin.task.images import prepare
from ier1_plugin.task.parsing import MARKERS, render_response
from ier1_plugin.task.rows import messages

PIXELS = 56 * 56
"""min_pixels and max_pixels of the small world: a square photo becomes 4 image tokens."""
MAX_NEW_TOKENS = 72
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


def import_transformers() -> ModuleType:
    """transformers, also where torchvision was built for CUDA and torch was not."""
    import torch

    from ier1_plugin.chat.torchvision_ops import define_missing_schemas

    define_missing_schemas(torch)
    import transformers

    return transformers


def use_cores() -> None:
    """torch gets as many threads as there are cores, at most two: more only wait for each other at this size."""
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", min(2, os.cpu_count() or 1))))


def load(folder: Path) -> tuple[Any, Any]:
    """(model in float32, processor) of a folder that AutoModel can read. FileNotFoundError: there is none."""
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"no model in {folder}: config.json is missing")
    transformers = import_transformers()
    import torch

    model = transformers.Qwen2_5_VLForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="sdpa"
    )
    prepare_step_masks(model)
    return model, transformers.AutoProcessor.from_pretrained(folder, use_fast=True)


def encode(processor: Any, requests: list[str], photos: list[Image.Image]) -> Any:
    """The model's inputs for a batch, prompts padded on the left."""
    prompts = [
        processor.apply_chat_template(messages(request), add_generation_prompt=True, tokenize=False)
        for request in requests
    ]
    prepared = [prepare(photo, PIXELS, PIXELS) for photo in photos]
    return processor(text=prompts, images=prepared, padding=True, padding_side="left", return_tensors="pt")


def generate(model: Any, processor: Any, inputs: Any, sampled: bool) -> list[str]:
    """One response to each prompt, greedy or sampled at temperature 1 from all tokens; reward reads it like this."""
    import torch

    # top_k=0: transformers would otherwise cut to the 50 likeliest
    how = {"do_sample": True, "temperature": 1.0, "top_p": 1.0, "top_k": 0} if sampled else {"do_sample": False}
    with torch.inference_mode():
        output = model.eval().generate(**inputs, max_new_tokens=MAX_NEW_TOKENS, **how)
    return processor.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def build(folder: Path, seed: int = 0) -> Path:
    """Writes model, tokenizer and processor to `folder` and returns it. The same seed gives the same weights."""
    import torch

    tokenizer = build_tokenizer(seed)
    torch.manual_seed(seed)
    for part in (build_model(tokenizer), build_processor(tokenizer), tokenizer):
        part.save_pretrained(folder)
    return folder


def prompt_tail() -> str:
    """What the prompt says after the request, the same for every row."""
    return render("decompose", content="request").removeprefix("request")


def build_tokenizer(seed: int) -> Any:
    """BPE learnt from training rows; tags and the prompt's fixed text are one token each."""
    from tokenizers import AddedToken

    rows = list(islice(samples("train", seed, picture_share=0.5), CORPUS_ROWS))
    responses = [render_response(row.gold, row.think) for row in rows]
    for marker in MARKERS:
        responses = [response.replace(marker, "") for response in responses]
    corpus = [row.request for row in rows] + responses
    corpus += ["user\nassistant\n", *(f'goals: {word}, "{word}"' for word in OTHER_GOALS.values())] * 100
    tokenizer = learnt_tokenizer(corpus, MERGES_UP_TO, MAX_LENGTH)
    # not special: the reward has to see the tags; not normalised: matched as they are written
    whole = [AddedToken(text, special=False, normalized=False) for text in (*MARKERS, prompt_tail())]
    tokenizer.add_tokens(whole)
    return tokenizer


def learnt_tokenizer(corpus: list[str], size: int, max_length: int) -> Any:
    """A fast Qwen2 tokenizer with a BPE of `size` tokens that is learnt from `corpus`, and Qwen's special ones."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.NFC()
    bpe.pre_tokenizer = qwen_words()
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator(corpus, trainer)
    tokenizer = import_transformers().Qwen2TokenizerFast(
        tokenizer_object=bpe,
        unk_token=None,
        bos_token=None,
        eos_token=STOP,
        pad_token=END,
        additional_special_tokens=list(SPECIAL_TOKENS[1:]),
        model_max_length=max_length,
    )
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


def build_model(tokenizer: Any) -> Any:
    """Random weights from torch's current seed, float32."""
    transformers = import_transformers()
    ids = {token: int(tokenizer.convert_tokens_to_ids(token)) for token in SPECIAL_TOKENS}
    ends = {"bos_token_id": None, "eos_token_id": ids[STOP], "pad_token_id": ids[END]}
    text = {
        # exactly the tokens there are: with more, an untrained model would emit some that nobody can decode
        "vocab_size": len(tokenizer),
        "hidden_size": 128,
        "intermediate_size": 384,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": MAX_LENGTH,
        "rope_theta": 10_000.0,
        # a head of 32 needs sections that add up to 16
        "rope_scaling": {"type": "mrope", "mrope_section": [4, 6, 6]},
        "tie_word_embeddings": True,
    }
    vision = {
        "depth": 2,
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_heads": 4,
        "out_hidden_size": text["hidden_size"],
        "fullatt_block_indexes": [0, 1],
    }
    config = transformers.Qwen2_5_VLConfig(
        text_config=text | ends,
        vision_config=vision,
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
    return transformers.Qwen2_5_VLProcessor(
        image_processor=transformers.Qwen2VLImageProcessorFast(**budget),
        tokenizer=tokenizer,
        video_processor=transformers.Qwen2VLVideoProcessor(**budget),
        chat_template=CHAT_TEMPLATE,
    )
