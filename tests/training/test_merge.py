"""A folder of shards goes in, a Hugging Face folder comes out; what is refused is one line and leaves nothing."""

from __future__ import annotations

import json
import os
import pickle
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes.commands import ier1, refused
from fakes.shards import BUDGET, CONFIG, actor_of, make_run, read_weights, save_shards, weights, write_json
from pytest_httpserver import HTTPServer

from ier1_plugin import prompts
from ier1_plugin.runs.folder import locked
from ier1_plugin.task.decomposer import Decomposer
from ier1_plugin.training.checkpoint import find_checkpoint

LAYER = "base_model.model.model.language_model.layers.0.mlp.up_proj"
ADAPTER = "lora_adapter/adapter_config.json"
FILES = ["README.md", "config.json", "decompose.jinja", "decomposer.json", "generation_config.json"]
FILES += ["model.safetensors", "preprocessor_config.json"]


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


@pytest.fixture
def actor(run_folder: Path) -> Path:
    return actor_of(run_folder)


def merge(run: Path, config: str = "", budget: tuple[str, ...] = BUDGET) -> Path:
    """The merged folder of a run that was started with `config`, in YAML."""
    if config:
        (run / "ier1_config.yaml").write_text(config)
    ier1("merge", run, *budget)
    return run / "decomposer-step-4"


def test_a_checkpoint_becomes_a_folder_with_everything_beside_the_weights(run_folder: Path):
    # the next step was being written when the run was killed: EasyR1 notes a step after its files
    (run_folder / "global_step_5" / "actor").mkdir(parents=True)
    done = ier1("merge", run_folder, *BUDGET, "--base-model", "Qwen/Qwen2.5-VL-3B-Instruct")
    out = run_folder / "decomposer-step-4"
    assert f"step 4 (best on validation: step 2) merged into {out}" in done.stdout
    assert sorted(path.name for path in out.iterdir()) == FILES
    decomposer = Decomposer.read(out)
    assert (decomposer.min_pixels, decomposer.max_pixels) == (784, 50176)
    assert (decomposer.rollout, decomposer.global_step, decomposer.dtype) == ("vllm", 4, "bfloat16")
    assert (out / decomposer.prompt).read_bytes() == prompts.path("decompose").read_bytes()
    card = (out / "README.md").read_text()
    assert card.startswith("---\nbase_model: Qwen/Qwen2.5-VL-3B-Instruct\n")
    assert "license_name: qwen-research" in card
    # the base model's sampling is not for decoding
    generation = json.loads((out / "generation_config.json").read_text())
    assert generation == {"eos_token_id": [1, 2], "do_sample": False}
    assert list(run_folder.glob(".*")) == []
    # where the noted step is gone the last one is taken, and the line says so
    shutil.rmtree(run_folder / "global_step_5")
    write_json(run_folder / "checkpoint_tracker.json", {"last_global_step": 90})
    done = ier1("merge", run_folder, *BUDGET, "--out", run_folder / "other")
    assert "step 4 (checkpoint_tracker.json names step 90, which is not there) merged into" in done.stdout


def test_a_base_model_in_a_folder_is_named_as_seen_from_the_merged_one(run_folder: Path, tmp_path: Path):
    base, out = tmp_path / "models" / "warm", tmp_path / "models" / "trained"
    base.mkdir(parents=True)
    ier1("merge", run_folder, *BUDGET, "--base-model", base, "--out", out)
    decomposer = Decomposer.read(out)
    assert (decomposer.base_model, decomposer.base_hub_id) == ("../warm", None)
    assert "base_model:" not in (out / "README.md").read_text()


def test_a_processor_that_transformers_5_saved_is_merged_too(run_folder: Path, actor: Path):
    # upstream verl leaves such a checkpoint: one file for the whole processor
    own = actor / "huggingface" / "preprocessor_config.json"
    images = json.loads(own.read_text())
    write_json(
        own.with_name("processor_config.json"), {"processor_class": "Qwen2_5_VLProcessor", "image_processor": images}
    )
    own.unlink()
    out = merge(run_folder, "verl_version: 0.9.1")
    limits = json.loads((out / "preprocessor_config.json").read_text())
    assert limits["size"] == {"shortest_edge": limits["min_pixels"], "longest_edge": limits["max_pixels"]}
    assert json.loads((out / "processor_config.json").read_text())["image_processor"] == limits
    assert "| Trainer | verl (0.9.1) |" in (out / "README.md").read_text()


@pytest.mark.parametrize(("world_size", "copies"), [(1, 1), (2, 1), (4, 1), (4, 2), (6, 2)])
def test_pieces_of_every_layout_make_the_weights(tmp_path: Path, actor: Path, world_size: int, copies: int):
    for file in actor.glob("*.pt"):
        file.unlink()
    save_shards(actor, weights(), world_size, copies)
    ier1("merge", actor, *BUDGET, "--out", tmp_path / "out", "--dtype", "float32")
    merged = read_weights(tmp_path / "out")
    # the names that the model has on the hub
    hub = {"model.visual.": "visual.", "model.language_model.": "model."}
    whole = {re.sub(r"^model\.\w+\.", lambda found: hub[found[0]], name): weight for name, weight in weights().items()}
    assert merged.keys() == whole.keys()
    assert all(merged[name].equal(weight) for name, weight in whole.items())


def test_weights_larger_than_a_file_are_spread_over_several_with_an_index(run_folder: Path, monkeypatch: Any):
    monkeypatch.setattr("ier1_plugin.training.export.MAX_FILE_SIZE", 50)
    out = merge(run_folder)
    index = json.loads((out / "model.safetensors.index.json").read_text())
    assert len(list(out.glob("model-*-of-*.safetensors"))) == len(set(index["weight_map"].values())) > 1
    assert index["weight_map"].keys() == read_weights(out).keys()


def test_dtype_and_origin_of_the_rollouts_are_those_of_the_merged_model(run_folder: Path, actor: Path):
    write_json(actor / "huggingface" / "rollout.json", {"rollout": "cpu-standin"})
    out = merge(run_folder, "worker: {rollout: {dtype: fp32}}")
    assert {str(weight.dtype) for weight in read_weights(out).values()} == {"torch.float32"}
    config = json.loads((out / "config.json").read_text())
    assert config["dtype"] == config["text_config"]["dtype"] == "float32"
    assert Decomposer.read(out).rollout == "cpu-standin"
    assert "rollout=cpu-standin" in (out / "README.md").read_text()


def test_budget_prompt_and_names_come_from_the_config_that_the_launcher_leaves(run_folder: Path, tmp_path: Path):
    own_prompt = tmp_path / "own.jinja"
    own_prompt.write_text("{{ content }} What is wanted?")
    lines = f"data: {{min_pixels: 784, max_pixels: 3136, max_response_length: 512, format_prompt: {own_prompt}}}\n"
    model = "worker: {actor: {model: {model_path: /models/Qwen2.5-VL-7B-Instruct}}}\n"
    out = merge(run_folder, f"{lines}{model}trainer: {{experiment_name: with_goal}}\n", budget=())
    decomposer = Decomposer.read(out)
    assert (decomposer.max_pixels, decomposer.max_response_length, decomposer.prompt) == (3136, 512, "own.jinja")
    assert (out / "own.jinja").read_bytes() == own_prompt.read_bytes()
    card = (out / "README.md").read_text()
    assert "# ImageEdit-R1 decomposer, with_goal" in card
    # a path of the trainer's machine says nothing to a reader
    assert "| Base model | Qwen2.5-VL-7B-Instruct |" in card
    assert "/models" not in card


def test_the_config_of_the_step_goes_before_that_of_the_run_and_easyr1s_own_comes_last(run_folder: Path):
    # the shipped prompt, as another machine had it
    data = {"min_pixels": 784, "format_prompt": "/elsewhere/ier1_plugin/prompts/decompose.jinja"}
    places = ("global_step_4/ier1_config.yaml", 3136), ("ier1_config.yaml", 1568), ("experiment_config.json", 784)
    for place, pixels in places:
        write_json(run_folder / place, {"data": data | {"max_pixels": pixels}})
    for place, pixels in places:
        out = run_folder / f"out-{pixels}"
        ier1("merge", run_folder / "global_step_4" / "actor", "--out", out)
        assert Decomposer.read(out).max_pixels == pixels
        assert (out / "decompose.jinja").is_file()
        (run_folder / place).unlink()


def test_a_chat_template_that_replaced_the_models_own_is_kept(run_folder: Path, tmp_path: Path):
    template = tmp_path / "chat.jinja"
    template.write_text("{{ messages }}")
    out = merge(run_folder, f"data: {{override_chat_template: {template}}}")
    assert (out / "chat_template.jinja").read_text() == "{{ messages }}"
    template.unlink()
    assert "chat template" in refused("merge", run_folder, *BUDGET, "--out", tmp_path / "other")


def test_a_tied_head_is_left_out_and_one_that_differs_is_refused(run_folder: Path, actor: Path):
    write_json(actor / "huggingface" / "config.json", {**CONFIG, "text_config": {"tie_word_embeddings": True}})
    assert "ties lm_head.weight" in refused("merge", run_folder, *BUDGET)
    tensors = weights()
    save_shards(actor, tensors | {"lm_head.weight": tensors["model.language_model.embed_tokens.weight"]}, 2)
    out = merge(run_folder)
    assert "lm_head.weight" not in read_weights(out)
    assert json.loads((out / "config.json").read_text())["tie_word_embeddings"] is True


def save_lora(actor: Path, factors: tuple[str, ...] = ("lora_A", "lora_B")) -> None:
    """One layer with the factors of an adapter."""
    import torch

    values = {"lora_A": torch.full((2, 4), 0.5), "lora_B": torch.full((3, 2), 3.0), "lora_magnitude": torch.ones(3)}
    tensors = {
        "base_model.model.model.language_model.norm.weight": torch.ones(3).bfloat16(),
        f"{LAYER}.base_layer.weight": torch.zeros(3, 4).bfloat16(),
        f"{LAYER}.base_layer.bias": torch.ones(3).bfloat16(),
        **{f"{LAYER}.{name}.default.weight": values[name] for name in factors},
    }
    save_shards(actor, tensors, 2)
    write_json(actor / ADAPTER, {"r": 2, "lora_alpha": 4})


def test_lora_is_added_to_its_base(run_folder: Path, actor: Path):
    save_lora(actor)
    merged = read_weights(merge(run_folder))
    names = ("norm.weight", "layers.0.mlp.up_proj.weight", "layers.0.mlp.up_proj.bias")
    assert merged.keys() == {f"model.{name}" for name in names}
    # 0 + 4 / 2 * (3 * 0.5 + 3 * 0.5)
    assert merged["model.layers.0.mlp.up_proj.weight"].unique().tolist() == [6.0]


def test_a_run_that_is_named_actor_is_a_run(run_folder: Path, actor: Path):
    checkpoint = find_checkpoint(run_folder.rename(run_folder.with_name("actor")))
    assert checkpoint.actor.parent.name == actor.parent.name


def test_an_actor_folder_that_was_moved_out_of_its_run_is_merged_beside_itself(tmp_path: Path, actor: Path):
    actor.rename(tmp_path / "kept")
    ier1("merge", tmp_path / "kept", *BUDGET)
    assert Decomposer.read(tmp_path / "decomposer").global_step is None


# --- what is refused ------------------------------------------------------------------------------------------------


def shard(actor: Path, rank: int, world_size: int = 2) -> Path:
    return actor / f"model_world_size_{world_size}_rank_{rank}.pt"


def save(actor: Path, contents: Any) -> None:
    import torch

    torch.save(contents, shard(actor, 1))


def save_larger_world(actor: Path) -> None:
    save_shards(actor / "other", weights(), 4)
    for rank in (0, 1):
        shard(actor / "other", rank, 4).replace(shard(actor, rank))


def save_other_dtype(actor: Path) -> None:
    save_shards(actor / "other", {name: weight.bfloat16() for name, weight in weights().items()}, 2)
    shard(actor / "other", 1).replace(shard(actor, 1))


def save_lora_without_scale(actor: Path) -> None:
    save_lora(actor)
    (actor / ADAPTER).unlink()


def settings(actor: Path, name: str) -> Path:
    return actor / "huggingface" / f"{name}.json"


# what can be wrong with a checkpoint: how to break it, and what the line says
BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a rank is missing": (lambda actor: shard(actor, 1).unlink(), "no shard of rank 1 of 2"),
    "no rank is there": (lambda actor: [shard(actor, rank).unlink() for rank in (0, 1)], "no model_world_size_"),
    "a rank too many": (lambda actor: shard(actor, 7).touch(), "rank 7 can't belong to a world of 2"),
    "two runs in one folder": (lambda actor: shard(actor, 0, 4).touch(), "world sizes 2 and 4"),
    "a shard is cut off": (lambda actor: os.truncate(shard(actor, 1), 700), "rank_1.pt can't be read, it is cut off"),
    "a shard is no archive": (lambda actor: shard(actor, 0).write_text("hello"), "rank_0.pt can't be read"),
    "a rank is there twice": (lambda actor: shutil.copy(shard(actor, 0), shard(actor, 1)), "do not make its shape"),
    "a renamed shard of a larger world": (save_larger_world, "do not make its shape"),
    "a list": (lambda actor: save(actor, [1]), "holds no weights by name"),
    "other weights in one rank": (lambda actor: save(actor, {}), "do not hold the same weights"),
    "a weight of another dtype": (save_other_dtype, "differs in kind between the shards"),
    "no config": (lambda actor: settings(actor, "config").unlink(), "config.json can't be read"),
    "a config that is not JSON": (lambda actor: settings(actor, "config").write_text("{"), "config.json is not JSON"),
    "no processor": (lambda actor: settings(actor, "preprocessor_config").unlink(), "preprocessor_config.json can't"),
    "a processor of another kind": (
        lambda actor: write_json(settings(actor, "preprocessor_config"), {"size": {"height": 224}}),
        "not that of a Qwen-VL model",
    ),
    "LoRA without its scale": (save_lora_without_scale, "adapter_config.json can't be read"),
    "LoRA without a factor": (lambda actor: save_lora(actor, ("lora_A",)), "is a LoRA layer without"),
    "something else than plain LoRA": (
        lambda actor: save_lora(actor, ("lora_A", "lora_B", "lora_magnitude")),
        "only plain LoRA",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_shards_are_named_in_one_line_and_leave_nothing_behind(run_folder: Path, actor: Path, what: str):
    break_it, message = BROKEN[what]
    break_it(actor)
    assert message in refused("merge", run_folder / "global_step_4", *BUDGET)
    assert list(run_folder.glob("*decomposer*")) == []


def test_a_shard_is_data_and_runs_no_code(run_folder: Path, actor: Path, tmp_path: Path):
    class Bomb:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "exploded"),)

    save(actor, {"weight": Bomb()})
    assert "can't be read" in refused("merge", run_folder, *BUDGET)
    shard(actor, 1).write_bytes(pickle.dumps(Bomb()))
    assert "can't be read" in refused("merge", run_folder, *BUDGET)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere", *BUDGET), "no folder"),
        (("run/global_step_4/actor/huggingface", *BUDGET), "no checkpoint in"),
        (("run",), "pass --min-pixels and --max-pixels, or --config"),
        (("run", *BUDGET[:3], 28), "min_pixels <= max_pixels, got 784 and 28"),
        (("run", *BUDGET, "--prompt", "no.jinja"), "no prompt file"),
        (("run", *BUDGET, "--config", "no.yaml"), "can't be read"),
        (("run", *BUDGET, "--config", "bad.yaml"), "is not YAML"),
        (("run", *BUDGET, "--config", "list.yaml"), "holds no keys"),
        (("run", *BUDGET, "--config", "odd.yaml"), "worker.rollout.dtype is fp8"),
    ],
)
@pytest.mark.usefixtures("run_folder")
def test_wrong_options_are_named_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[Any, ...], message: str
):
    monkeypatch.chdir(tmp_path)
    Path("bad.yaml").write_text("data: [")
    Path("list.yaml").write_text("- 1\n")
    Path("odd.yaml").write_text("worker: {rollout: {dtype: fp8}}")
    assert message in refused("merge", *arguments)


def test_an_existing_folder_is_never_written_into(run_folder: Path):
    out = merge(run_folder)
    before = {file: file.stat().st_mtime_ns for file in out.iterdir()}
    assert "exists" in refused("merge", run_folder, *BUDGET)
    assert before == {file: file.stat().st_mtime_ns for file in out.iterdir()}


def test_a_merge_goes_on_where_a_killed_one_left_its_files_but_not_beside_a_running_one(run_folder: Path):
    partial = run_folder / ".decomposer-step-4.partial"
    partial.mkdir()
    (partial / "model-00009-of-00009.safetensors").write_text("half")
    with locked(partial):
        assert f"another run is writing to {partial}" in refused("merge", run_folder, *BUDGET)
    assert not (merge(run_folder) / "model-00009-of-00009.safetensors").exists()
    assert not partial.exists()


def test_a_full_disk_is_one_line_and_leaves_nothing_behind(run_folder: Path, actor: Path):
    import torch

    save_shards(actor, {"model.embed_tokens.weight": torch.ones(512, 512)}, 2)
    before = sorted(run_folder.iterdir())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        assert "model.safetensors can't be written" in refused("merge", run_folder, *BUDGET)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted(run_folder.iterdir()) == before


# --- on its way to the hub: a loopback server in the hub's place ----------------------------------------------------


@pytest.mark.slow
def test_upload_creates_a_private_repository_and_sends_the_whole_folder(
    tmp_path: Path, run_folder: Path, httpserver: HTTPServer
):
    script = Path(__file__).parents[2] / "examples" / "merge_checkpoint.sh"

    def upload(out: Path, endpoint: str) -> subprocess.CompletedProcess[str]:
        command = ["bash", str(script), str(run_folder), "min_pixels=784", "max_pixels=4096"]
        command += [f"out={out}", "upload=me/decomposer"]
        hub = {"HF_ENDPOINT": endpoint, "HF_TOKEN": "hf_secret", "HF_HUB_OFFLINE": "0"}
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHON": sys.executable} | hub
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)

    url = httpserver.url_for("/me/decomposer")
    answers: dict[str, dict[str, Any]] = {
        "/api/repos/create": {"url": url, "name": "me/decomposer"},
        "/api/validate-yaml": {"errors": [], "warnings": []},
        "/api/models/me/decomposer/preupload/main": {
            "files": [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in FILES]
        },
        "/api/models/me/decomposer/commit/main": {"commitUrl": f"{url}/commit/1", "commitOid": "1", "success": True},
    }
    for path, answer in answers.items():
        httpserver.expect_request(path, method="POST").respond_with_json(answer)
    done = upload(tmp_path / "out", httpserver.url_for("").rstrip("/"))
    assert done.returncode == 0, done.stderr
    assert "uploaded to" in done.stdout
    assert "hf_secret" not in done.stdout + done.stderr
    posted = {request.path: request for request, _ in httpserver.log}
    assert posted["/api/repos/create"].get_json()["private"] is True
    lines = posted["/api/models/me/decomposer/commit/main"].get_data().splitlines()
    sent = [line["value"]["path"] for line in map(json.loads, lines) if line["key"] == "file"]
    assert sorted(sent) == sorted(path.name for path in (tmp_path / "out").iterdir()) == FILES

    # the hub is gone: the merged model stays, and the line says how to go on
    failed = upload(tmp_path / "again", "http://127.0.0.1:9")
    assert failed.returncode == 1
    assert f"hf upload me/decomposer {tmp_path / 'again'}" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert (tmp_path / "again" / "model.safetensors").is_file()
