"""Checkpoints that EasyR1's own FSDP workers saved, merged, loaded with transformers and asked."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from fakes import tiny_models
from fakes.commands import ier1
from fakes.easyr1 import run_script
from fakes.shards import actor_of

from ier1_plugin.task.images import prepare
from ier1_plugin.training.checkpoint import Weight
from ier1_plugin.training.export import hub_names

pytestmark = pytest.mark.slow
pytest.importorskip("verl", reason="EasyR1 is not installed")
BUDGET = ("--min-pixels", "784", "--max-pixels", "4096")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build(tmp_path_factory.mktemp("tiny") / "model", "qwen2_5_vl")


def save(*checkpoints: tuple[Path, Path, str, int], which: str = "installed") -> None:
    """Saves step 4 of runs, each given by its model, its folder, its layout and its number of ranks."""
    jobs = [(str(model), str(actor_of(run)), layout, ranks) for model, run, layout, ranks in checkpoints]
    run_script("easyr1_checkpoint.py", which, json.dumps(jobs))


def merged(run: Path, out: Path, *options: str) -> Path:
    ier1("merge", run, *BUDGET, "--out", str(out), *options)
    return out


def assert_weights_are_those_of_the_run(run: Path, out: Path, dtype: str) -> None:
    import torch
    from safetensors.torch import load_file

    actor = actor_of(run)
    whole = load_file(actor / "expected.safetensors")
    weights: Any = {name: Weight(tuple(w.shape), w.dtype, lambda w=w: w) for name, w in whole.items()}
    expected = hub_names(weights, actor / "huggingface")
    found = load_file(out / "model.safetensors")
    assert found.keys() == expected.keys()
    for name, weight in found.items():
        assert weight.equal(expected[name].read().to(getattr(torch, dtype))), name


def load(folder: Path) -> Any:
    """The model, which must find every weight that it wants and no other."""
    from transformers import AutoModelForImageTextToText

    result: Any = AutoModelForImageTextToText.from_pretrained(folder, torch_dtype="auto", output_loading_info=True)
    loaded, report = result
    assert report["missing_keys"] in ([], set())
    assert report["unexpected_keys"] in ([], set())
    return loaded


LAYOUTS = {"one rank": ("fsdp", 1), "two ranks": ("fsdp", 2), "two copies of two ranks": ("hsdp", 4)}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    """The folder of a run for each layout."""
    folder = tmp_path_factory.mktemp("runs")
    save(*((model, folder / name, layout, ranks) for name, (layout, ranks) in LAYOUTS.items()))
    return folder


@pytest.mark.parametrize("layout", LAYOUTS)
def test_shards_of_every_layout_give_the_weights_bit_for_bit(tmp_path: Path, model: Path, runs: Path, layout: str):
    out = merged(runs / layout, tmp_path / "out", "--dtype", "float32")
    assert_weights_are_those_of_the_run(runs / layout, out, "float32")
    # the names and the architecture are where every tool looks for them: as in the model that training started from
    config, start = (json.loads((folder / "config.json").read_text()) for folder in (out, model))
    assert config["architectures"] == ["Qwen2_5_VLForConditionalGeneration"]
    assert config["model_type"] == start["model_type"]
    load(out)


@pytest.fixture(scope="module")
def bfloat16(tmp_path_factory: pytest.TempPathFactory, runs: Path) -> Path:
    out = merged(runs / "two ranks", tmp_path_factory.mktemp("bfloat16") / "out")
    assert_weights_are_those_of_the_run(runs / "two ranks", out, "bfloat16")
    return out


def test_the_model_cards_own_code_runs_and_answers_as_the_policy_did(
    bfloat16: Path, model: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
):
    from ier1_plugin.task.parsing import FormatError

    card = (bfloat16 / "README.md").read_text()
    code = re.findall(r"```python\n(.*?)```", card, re.DOTALL)[0]
    code = code.replace("max_new_tokens=1024", "max_new_tokens=12")
    assert 'folder = "."' in code
    tiny_models.photo(3, (640, 480)).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)

    def reply(folder: Path) -> str:
        # a random model answers no tags; the card says that FormatError tells so
        with pytest.raises(FormatError, match="no readable <action>"):
            exec(code.replace('folder = "."', f"folder = {str(folder)!r}"), {})
        return capsys.readouterr().out

    policy = tmp_path / "policy"
    shutil.copytree(model, policy)
    load(model).bfloat16().save_pretrained(policy)
    shutil.copy(bfloat16 / "generation_config.json", policy)
    assert len(reply(bfloat16)) > 5
    assert reply(bfloat16) == reply(policy)


@pytest.mark.parametrize("fast", [True, False])
def test_the_merged_processor_sees_prepared_images_as_the_trained_one_did(bfloat16: Path, model: Path, fast: bool):
    from transformers import AutoProcessor

    sizes = (20, 20), (40, 60), (64, 64), (61, 67), (300, 20), (640, 480)
    images = [prepare(tiny_models.photo(5, size), 784, 4096) for size in sizes]
    text = ["<|vision_start|><|image_pad|><|vision_end|>" * len(images)]
    processors = (AutoProcessor.from_pretrained(folder, use_fast=fast) for folder in (bfloat16, model))
    ours, trained = (processor(text=text, images=images, return_tensors="pt") for processor in processors)
    for name in ("input_ids", "image_grid_thw", "pixel_values"):
        assert ours[name].equal(trained[name]), name


def test_lora_and_qwen3_checkpoints_of_easyr1s_current_source_merge(tmp_path: Path, model: Path):
    qwen3 = tiny_models.build(tmp_path / "qwen3", "qwen3_vl")
    lora_run, qwen3_run = tmp_path / "lora_run", tmp_path / "qwen3_run"
    save((model, lora_run, "lora", 2), (qwen3, qwen3_run, "fsdp", 2), which="source")
    for run in (lora_run, qwen3_run):
        out = merged(run, tmp_path / f"merged_{run.name}", "--dtype", "float32")
        assert_weights_are_those_of_the_run(run, out, "float32")
        load(out)
    assert (actor_of(lora_run) / "lora_adapter" / "adapter_config.json").is_file()
