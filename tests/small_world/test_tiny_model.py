"""The tiny model of the small world: its tokenizer, its size, what the warm-up teaches it, and its prompts."""

from __future__ import annotations

import random
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from fakes.easyr1 import dataset
from fakes.small_world_rows import write_rows

from ier1_plugin.editors.pillow.operations import OPERATIONS
from ier1_plugin.evaluation.benchmarks.small_world import small_world_editor
from ier1_plugin.small_world.tiny_model import MAX_NEW_TOKENS, PIXELS, build, encode, generate, load, prompt_tail
from ier1_plugin.small_world.warm_up import target, warm_up
from ier1_plugin.small_world.wordings import OTHER_GOALS
from ier1_plugin.small_world.world import Sample, samples
from ier1_plugin.task.images import prepare
from ier1_plugin.task.parsing import MARKERS, render_response
from ier1_plugin.task.rows import messages
from ier1_plugin.task.scoring import Gold, score_response

ROOT = Path(__file__).parents[2]
YAML = ROOT / "examples" / "grpo_small_world.yaml"


def first(count: int) -> list[Sample]:
    return list(islice(samples("train", 0), count))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def loaded(folder: Path) -> tuple[Any, Any]:
    return load(folder)


def prompt_ids(processor: Any, request: str) -> list[int]:
    text = processor.apply_chat_template(messages(request), add_generation_prompt=True, tokenize=False)
    return processor.tokenizer(text, add_special_tokens=False).input_ids


@pytest.mark.slow
def test_the_tokenizer_gives_back_every_prompt_and_response(loaded: tuple[Any, Any]):
    tokenizer = loaded[1].tokenizer
    assert tokenizer.is_fast
    texts = [render_response(sample.gold, sample.think) for sample in first(300)]
    texts += [sample.request for sample in first(300)]
    texts += ["把天空变蓝", "a\n\n\tb  c ", "naïve café 🐈", "{{ x }}", prompt_tail(), 2 * prompt_tail()]
    for text in texts:
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids) == text
    # digits are cut one by one, as Qwen's tokenizer does
    assert [tokenizer.decode(token) for token in tokenizer("turn 90 degrees")["input_ids"]][-4:-1] == [" ", "9", "0"]


@pytest.mark.slow
def test_the_fixed_text_of_the_prompt_is_one_token_and_so_is_each_tag(loaded: tuple[Any, Any]):
    tokenizer = loaded[1].tokenizer
    assert len(prompt_tail().split()) > 250
    for text in (prompt_tail(), *MARKERS):
        assert len(tokenizer(text, add_special_tokens=False).input_ids) == 1
        assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text
    tail = tokenizer.convert_tokens_to_ids(prompt_tail())
    for sample in first(100):
        ids = prompt_ids(loaded[1], sample.request)
        assert ids.count(tail) == 1
        assert len(ids) < 64
    # a request that copies the prompt can't pose as its end
    assert prompt_ids(loaded[1], f"make it red{prompt_tail()}").count(tail) == 1


@pytest.mark.slow
def test_the_model_has_one_to_five_million_parameters_heads_32_wide_and_no_token_that_is_not_known(loaded):
    model, processor = loaded
    text, vision = model.config.text_config, model.config.vision_config
    assert 1_000_000 <= sum(parameter.numel() for parameter in model.parameters()) <= 5_000_000
    assert text.hidden_size // text.num_attention_heads == vision.hidden_size // vision.num_heads == 32
    assert text.rope_scaling["mrope_section"] == [4, 6, 6]
    assert text.vocab_size == model.get_output_embeddings().weight.shape[0] == len(processor.tokenizer)
    inputs = encode(processor, ["make it red"], [first(1)[0].photo.open()])
    assert (inputs["input_ids"] == model.config.image_token_id).sum() == 4


@pytest.mark.slow
def test_our_prompt_ids_and_pixels_are_those_of_easyr1s_dataset(loaded: tuple[Any, Any], tmp_path: Path):
    import torch

    limits = {"max_prompt_length": 64, "min_pixels": PIXELS, "max_pixels": PIXELS}
    seen = dataset(write_rows(tmp_path, 12, "train"), loaded[1].tokenizer, loaded[1], **limits)
    for index, row in enumerate(first(12)):
        theirs = seen[index]
        ours = encode(loaded[1], [row.request], [row.photo.open()])
        assert theirs["input_ids"][theirs["attention_mask"].bool()].tolist() == ours["input_ids"][0].tolist()
        image = loaded[1].image_processor([prepare(row.photo.open(), PIXELS, PIXELS)], return_tensors="pt")
        assert torch.equal(ours["pixel_values"], image["pixel_values"])


@pytest.mark.slow
def test_the_same_seed_builds_the_same_model(folder: Path, tmp_path: Path):
    again = build(tmp_path / "again")
    for name in ("model.safetensors", "tokenizer.json", "config.json", "preprocessor_config.json"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.slow
def test_a_few_warm_up_steps_lower_the_loss(folder: Path):
    model, processor = load(folder)
    losses = warm_up(model, processor, seed=0, rows=256, steps=25)
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])


@pytest.mark.slow
def test_left_padding_does_not_change_a_greedy_answer(loaded: tuple[Any, Any]):
    def answers(rows: list[Sample]) -> list[str]:
        inputs = encode(loaded[1], [row.request for row in rows], [row.photo.open() for row in rows])
        return generate(*loaded, inputs, sampled=False)

    rows = first(4)
    assert answers(rows) == [answers([row])[0] for row in rows]


def test_targets_are_right_and_other_words_change_nothing_but_goals():
    hurt: Counter[str] = Counter()
    for row in first(300):
        assert target(row, random.Random(row.id)) == render_response(row.gold, row.think)
        scores = score_response(target(row, random.Random(row.id), other_words=0.5), Gold.of(row.gold))
        hurt.update(part for part, value in scores.items() if value < 1)
    assert set(hurt) == {"goal"}


def test_the_editor_does_not_know_the_other_words():
    photo, editor = first(1)[0].photo.open(), small_world_editor("")
    actions = {operation.goal: operation.action for operation in OPERATIONS.values()}
    for goal, other in OTHER_GOALS.items():
        instructions = [f"{actions[goal]} photo to {word}" for word in (goal, other)]
        changed = [editor.edit(photo, text, 0).tobytes() != photo.tobytes() for text in instructions]
        assert changed == [True, False], other


def test_the_config_and_the_code_agree_on_lengths_and_pixels():
    from omegaconf import OmegaConf

    config = OmegaConf.load(YAML)
    assert config.data.min_pixels == config.data.max_pixels == PIXELS
    assert config.data.max_response_length == MAX_NEW_TOKENS
    validation = config.worker.rollout.val_override_config
    assert (validation.temperature, validation.top_p) == (1.0, 1.0)


@pytest.mark.slow
def test_no_gold_response_is_longer_than_training_allows(loaded: tuple[Any, Any]):
    tokenizer = loaded[1].tokenizer
    for row in (*islice(samples("train", 0), 800), *islice(samples("val", 0), 800)):
        # in words that are longer
        ids = tokenizer(target(row, random.Random(0), other_words=1.0), add_special_tokens=False).input_ids
        # and the token that ends it
        assert len(ids) + 1 <= MAX_NEW_TOKENS
