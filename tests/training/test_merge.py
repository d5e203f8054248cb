"""A folder of shards goes in, a Hugging Face folder comes out: weights, names, dtype, budget, prompt, card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fakes.commands import ier1, refused
from fakes.shards import BUDGET, CONFIG, actor_of, make_run, read_weights, save_shards, weights, write_json

from ier1_plugin import prompts
from ier1_plugin.task.decomposer import Decomposer


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


def test_a_checkpoint_becomes_a_folder_with_everything_beside_the_weights(run_folder: Path):
    done = ier1("merge", run_folder, *BUDGET, "--base-model", "Qwen/Qwen2.5-VL-3B-Instruct")
    out = run_folder / "decomposer-step-4"
    assert f"step 4 (best on validation: step 2) merged into {out}" in done.stdout
    assert sorted(path.name for path in out.iterdir()) == [
        *("README.md", "config.json", "decompose.jinja", "decomposer.json", "generation_config.json"),
        *("model.safetensors", "preprocessor_config.json"),
    ]
    decomposer = Decomposer.read(out)
    assert (decomposer.min_pixels, decomposer.max_pixels) == (784, 50176)
    assert (decomposer.rollout, decomposer.global_step, decomposer.dtype) == ("vllm", 4, "bfloat16")
    assert (out / decomposer.prompt).read_bytes() == prompts.path("decompose").read_bytes()
    card = (out / "README.md").read_text()
    assert card.startswith("---\nbase_model: Qwen/Qwen2.5-VL-3B-Instruct\n")
    assert "license_name: qwen-research" in card
    assert list(run_folder.glob(".*")) == []


def test_a_base_model_in_a_folder_is_named_as_seen_from_the_merged_one(run_folder: Path, tmp_path: Path):
    (tmp_path / "models" / "warm").mkdir(parents=True)
    base = str(tmp_path / "models" / "warm")
    ier1("merge", run_folder, *BUDGET, "--base-model", base, "--out", str(tmp_path / "models" / "trained"))
    decomposer = Decomposer.read(tmp_path / "models" / "trained")
    assert decomposer.base_model == "../warm"
    assert decomposer.base_hub_id is None
    assert "base_model:" not in (tmp_path / "models" / "trained" / "README.md").read_text()


@pytest.mark.parametrize(("world_size", "copies"), [(1, 1), (2, 1), (4, 1), (4, 2), (6, 2)])
def test_pieces_of_every_layout_make_the_weights(tmp_path: Path, run_folder: Path, world_size: int, copies: int):
    actor = actor_of(run_folder)
    for file in actor.glob("*.pt"):
        file.unlink()
    save_shards(actor, weights(), world_size, copies)
    ier1("merge", actor, *BUDGET, "--out", str(tmp_path / "out"), "--dtype", "float32")
    merged, whole = read_weights(tmp_path / "out"), weights()
    # the names that the model has on the hub
    assert merged.keys() == {
        "model.embed_tokens.weight",
        "visual.patch_embed.proj.weight",
        "model.norm.weight",
        "lm_head.weight",
    }
    assert merged["model.embed_tokens.weight"].equal(whole["model.language_model.embed_tokens.weight"])
    assert merged["visual.patch_embed.proj.weight"].equal(whole["model.visual.patch_embed.proj.weight"])
    assert merged["model.norm.weight"].equal(whole["model.language_model.norm.weight"])
    assert merged["lm_head.weight"].equal(whole["lm_head.weight"])


def test_weights_larger_than_a_file_are_spread_over_several_with_an_index(run_folder: Path, monkeypatch: Any):
    monkeypatch.setattr("ier1_plugin.training.export.MAX_FILE_SIZE", 50)
    ier1("merge", run_folder, *BUDGET)
    out = run_folder / "decomposer-step-4"
    index = json.loads((out / "model.safetensors.index.json").read_text())
    assert len(list(out.glob("model-*-of-*.safetensors"))) == len(set(index["weight_map"].values())) > 1
    assert index["weight_map"].keys() == read_weights(out).keys()


def test_the_dtype_of_the_weights_is_that_of_the_rollouts(run_folder: Path):
    (run_folder / "ier1_config.yaml").write_text("worker: {rollout: {dtype: fp32}}\n")
    ier1("merge", run_folder, *BUDGET)
    out = run_folder / "decomposer-step-4"
    assert {str(weight.dtype) for weight in read_weights(out).values()} == {"torch.float32"}
    config = json.loads((out / "config.json").read_text())
    assert config["dtype"] == config["text_config"]["dtype"] == "float32"


def test_budget_prompt_and_names_come_from_the_config_that_the_launcher_leaves(run_folder: Path, tmp_path: Path):
    own_prompt = tmp_path / "own.jinja"
    own_prompt.write_text("{{ content }} What is wanted?")
    lines = f"data: {{min_pixels: 784, max_pixels: 3136, max_response_length: 512, format_prompt: {own_prompt}}}\n"
    model = "worker: {actor: {model: {model_path: /models/Qwen2.5-VL-7B-Instruct}}}\n"
    (run_folder / "ier1_config.yaml").write_text(f"{lines}{model}trainer: {{experiment_name: with_goal}}\n")
    ier1("merge", run_folder)
    out = run_folder / "decomposer-step-4"
    decomposer = Decomposer.read(out)
    assert (decomposer.max_pixels, decomposer.max_response_length, decomposer.prompt) == (3136, 512, "own.jinja")
    assert (out / "own.jinja").read_bytes() == own_prompt.read_bytes()
    card = (out / "README.md").read_text()
    assert "# ImageEdit-R1 decomposer, with_goal" in card
    # a path of the trainer's machine says nothing to a reader
    assert "| Base model | Qwen2.5-VL-7B-Instruct |" in card
    assert "/models" not in card


def test_a_run_elsewhere_with_the_shipped_prompt_needs_no_prompt_file(run_folder: Path):
    (run_folder / "ier1_config.yaml").write_text(
        "data: {format_prompt: /elsewhere/ier1_plugin/prompts/decompose.jinja}\n"
    )
    ier1("merge", run_folder, *BUDGET)
    assert (run_folder / "decomposer-step-4" / "decompose.jinja").is_file()


def test_easyr1s_own_config_file_serves_as_well(run_folder: Path):
    write_json(run_folder / "experiment_config.json", {"data": {"min_pixels": 784, "max_pixels": 3136}})
    ier1("merge", run_folder)
    assert Decomposer.read(run_folder / "decomposer-step-4").max_pixels == 3136


def test_rollouts_by_the_cpu_standin_are_named_in_record_and_card(run_folder: Path):
    write_json(actor_of(run_folder) / "huggingface" / "rollout.json", {"rollout": "cpu-standin"})
    ier1("merge", run_folder, *BUDGET)
    out = run_folder / "decomposer-step-4"
    assert Decomposer.read(out).rollout == "cpu-standin"
    assert "rollout=cpu-standin" in (out / "README.md").read_text()


def test_the_merged_model_decodes_without_the_base_models_sampling(run_folder: Path):
    ier1("merge", run_folder, *BUDGET)
    generation = json.loads((run_folder / "decomposer-step-4" / "generation_config.json").read_text())
    assert generation == {"eos_token_id": [1, 2], "do_sample": False}


def test_a_chat_template_that_replaced_the_models_own_is_kept(run_folder: Path, tmp_path: Path):
    template = tmp_path / "chat.jinja"
    template.write_text("{{ messages }}")
    (run_folder / "ier1_config.yaml").write_text(f"data: {{override_chat_template: {template}}}\n")
    ier1("merge", run_folder, *BUDGET)
    assert (run_folder / "decomposer-step-4" / "chat_template.jinja").read_text() == "{{ messages }}"
    template.unlink()
    assert "chat template" in refused("merge", run_folder, *BUDGET, "--out", tmp_path / "other")


def test_a_runs_folder_stands_for_the_last_step_that_was_saved_whole(run_folder: Path):
    # the next step was being written when the run was killed: EasyR1 notes a step after its files
    (run_folder / "global_step_5" / "actor").mkdir(parents=True)
    assert "step 4 " in ier1("merge", run_folder, *BUDGET).stdout


def test_a_tied_head_is_left_out_and_one_that_differs_is_refused(run_folder: Path, tmp_path: Path):
    actor = actor_of(run_folder)
    write_json(actor / "huggingface" / "config.json", {**CONFIG, "text_config": {"tie_word_embeddings": True}})
    assert "ties lm_head.weight to the embedding, but they differ" in refused("merge", run_folder, *BUDGET)
    tensors = weights()
    save_shards(actor, tensors | {"lm_head.weight": tensors["model.language_model.embed_tokens.weight"]}, 2)
    ier1("merge", run_folder, *BUDGET)
    out = run_folder / "decomposer-step-4"
    assert "lm_head.weight" not in read_weights(out)
    assert json.loads((out / "config.json").read_text())["tie_word_embeddings"] is True


def lora_weights() -> dict[str, Any]:
    import torch

    layer = "base_model.model.model.language_model.layers.0.mlp.up_proj"
    return {
        "base_model.model.model.language_model.norm.weight": torch.ones(3).bfloat16(),
        f"{layer}.base_layer.weight": torch.zeros(3, 4).bfloat16(),
        f"{layer}.base_layer.bias": torch.ones(3).bfloat16(),
        f"{layer}.lora_A.default.weight": torch.full((2, 4), 0.5),
        f"{layer}.lora_B.default.weight": torch.full((3, 2), 3.0),
    }


def test_lora_is_added_to_its_base(run_folder: Path):
    actor = actor_of(run_folder)
    save_shards(actor, lora_weights(), 2)
    assert "adapter_config.json can't be read" in refused("merge", run_folder, *BUDGET)
    write_json(actor / "lora_adapter" / "adapter_config.json", {"r": 2, "lora_alpha": 4})
    ier1("merge", run_folder, *BUDGET)
    merged = read_weights(run_folder / "decomposer-step-4")
    assert merged.keys() == {
        f"model.{name}" for name in ("norm.weight", "layers.0.mlp.up_proj.weight", "layers.0.mlp.up_proj.bias")
    }
    # 0 + 4 / 2 * (3 * 0.5 + 3 * 0.5)
    assert merged["model.layers.0.mlp.up_proj.weight"].unique().tolist() == [6.0]


def test_adapters_that_are_more_than_plain_lora_are_refused(run_folder: Path):
    import torch

    actor = actor_of(run_folder)
    save_shards(actor, lora_weights(), 2)
    write_json(actor / "lora_adapter" / "adapter_config.json", {"r": 2, "lora_alpha": 4, "use_dora": True})
    assert "sets use_dora" in refused("merge", run_folder, *BUDGET)
    layer = "base_model.model.model.language_model.layers.0.mlp.up_proj"
    save_shards(actor, lora_weights() | {f"{layer}.lora_magnitude_vector.default.weight": torch.ones(3)}, 2)
    assert "only plain LoRA" in refused("merge", run_folder, *BUDGET)
    tensors = lora_weights()
    del tensors[f"{layer}.lora_B.default.weight"]
    write_json(actor / "lora_adapter" / "adapter_config.json", {"r": 2, "lora_alpha": 4})
    save_shards(actor, tensors, 2)
    assert "without" in refused("merge", run_folder, *BUDGET)


def test_an_actor_folder_that_was_moved_out_of_its_run_is_merged_beside_itself(tmp_path: Path, run_folder: Path):
    actor_of(run_folder).rename(tmp_path / "kept")
    ier1("merge", tmp_path / "kept", *BUDGET)
    assert Decomposer.read(tmp_path / "decomposer").global_step is None
