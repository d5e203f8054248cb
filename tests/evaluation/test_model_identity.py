"""Kept answers belong to the weights, the prompt and the server that gave them, and to no others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes.chain_helpers import ier1, no_settings_from_outside, one_line
from fakes.chat_fakes import chat_server, photo, reply

from ier1_plugin.chat.server import ChatError
from ier1_plugin.evaluation.model_identity import answers_file, begin, identity
from ier1_plugin.evaluation.records import EvaluationError
from ier1_plugin.prompts import path as prompt_path
from ier1_plugin.runs.fingerprint import sha256_of
from ier1_plugin.task.decomposer import Decomposer
from ier1_plugin.task.images import encode
from ier1_plugin.task.rows import format_row
from ier1_plugin.task.schema import Decomposition

__all__ = ["no_settings_from_outside"]
GOLD = Decomposition(("Delete",), ("lamp",), ())
MODEL = "local:decomposer"


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    made = [
        format_row(
            id=f"r{number}",
            source="s",
            request="x",
            image=encode(photo(56, 56, seed=number), lossless=True),
            gold=GOLD,
        )
        for number in range(2)
    ]
    pq.write_table(pa.Table.from_pylist(made), tmp_path / "val.parquet")
    return tmp_path / "val.parquet"


@pytest.fixture
def weights() -> Path:
    """A folder as the merge leaves it, in the folder of the test; only its content matters here."""
    folder = Path("decomposer")
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(64))
    (folder / "decompose.jinja").write_bytes(prompt_path("decompose").read_bytes())
    facts(folder)
    return folder


def facts(folder: Path, **more: Any) -> None:
    known: dict[str, Any] = {"min_pixels": 3136, "max_pixels": 12544, "server_min_pixels": 1000}
    known |= {"server_max_pixels": 20000, "pixels_per_token": 784, "prompt": "decompose.jinja"}
    known |= {"prompt_sha256": "", "rollout": "vllm", "dtype": "bfloat16", "imageedit_r1_version": "0.1.0"}
    Decomposer(**known | more).write(folder)


def answered(out: str = "out") -> None:
    """All rows, by the weights as they are."""
    begin(Path(out), [MODEL])
    file = answers_file(Path(out), MODEL)
    file.parent.mkdir(parents=True)
    file.write_text("".join(json.dumps({"id": f"r{number}", "response": reply(GOLD)}) + "\n" for number in range(2)))


def evaluate(rows: Path, model: str = MODEL) -> Any:
    return ier1("evaluate", "--decomposition", model, "--rows", rows, "--out", "out")


def test_the_identity_of_a_folder_is_its_content_its_prompt_and_the_size_of_its_images(weights: Path):
    found = identity(MODEL)
    assert set(found) == {"files_sha256", "prompt_sha256", "min_pixels", "max_pixels", "constrain"}
    assert (found["min_pixels"], found["max_pixels"], found["constrain"]) == (3136, 12544, False)
    assert found["prompt_sha256"] == sha256_of(prompt_path("decompose"))
    (weights / "decompose.jinja").write_text("other: {{ content }}")
    assert identity(MODEL)["prompt_sha256"] == sha256_of(weights / "decompose.jinja") != found["prompt_sha256"]


def test_answers_of_the_same_weights_are_taken_again(rows: Path, weights: Path):
    answered()
    result = evaluate(rows)
    assert result.exit_code == 0, result.output
    assert "on 2 rows" in result.stdout
    # a card is no part of the model
    (weights / "README.md").write_text("trained on Tuesday")
    assert evaluate(rows).exit_code == 0


@pytest.mark.parametrize("what", ["model.safetensors", "decomposer.json", "decompose.jinja", "tokenizer.json"])
def test_after_a_training_into_the_same_folder_the_old_answers_are_refused(rows: Path, weights: Path, what: str):
    answered()
    if what == "decomposer.json":
        facts(weights, max_pixels=50176)
    else:
        (weights / what).write_bytes(b"\1" * 64)
    line = one_line(evaluate(rows))
    assert "has answers of another local:decomposer (files_sha256 " in line
    assert "choose another --out" in line
    assert ("max_pixels 12544, now 50176" in line) == (what == "decomposer.json")


def test_answers_that_name_no_weights_are_refused(rows: Path, weights: Path):
    answered()
    Path("out/models.json").unlink()
    assert "does not say which weights gave them; choose another --out" in one_line(evaluate(rows))


def test_a_model_that_has_not_answered_yet_may_still_change(weights: Path):
    begin(Path("out"), [MODEL])
    before = Path("out/models.json").read_text()
    (weights / "model.safetensors").write_bytes(b"\1" * 64)
    begin(Path("out"), [MODEL])
    assert Path("out/models.json").read_text() != before


def test_nothing_is_asked_where_one_of_several_models_has_changed(rows: Path, weights: Path):
    answered()
    (weights / "model.safetensors").write_bytes(b"\1" * 64)
    with chat_server(lambda body, number: reply(GOLD)) as server:
        asked = ("--decomposition", f"openai:{server.url}#fake", "--decomposition", MODEL)
        line = one_line(ier1("evaluate", *asked, "--rows", rows, "--out", "out"))
    assert "has answers of another local:decomposer" in line
    assert not server.bodies


def test_a_served_model_is_its_address_and_its_name_without_a_password(rows: Path):
    found = identity("openai:http://me:secret@host/v1#name")
    assert (found["address"], found["model"]) == ("http://host/v1", "name")
    with chat_server(lambda body, number: reply(GOLD)) as server:
        model = f"openai:{server.url}#fake"
        assert evaluate(rows, model).exit_code == 0
    assert json.loads(Path("out/models.json").read_text()) == {model: identity(model)}
    # all are there: the server may be gone
    assert evaluate(rows, model).exit_code == 0


def test_a_server_that_the_environment_names_is_told_from_another(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://one/v1")
    begin(Path("out"), ["openai:#name"])
    file = answers_file(Path("out"), "openai:#name")
    file.parent.mkdir()
    file.write_text('{"id": "r0", "response": "x"}\n')
    begin(Path("out"), ["openai:#name"])
    monkeypatch.setenv("OPENAI_BASE_URL", "http://two/v1")
    with pytest.raises(EvaluationError, match="address http://one/v1, now http://two/v1"):
        begin(Path("out"), ["openai:#name"])


def test_another_prompt_of_this_package_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    model = "openai:http://host/v1#name"
    begin(Path("out"), [model])
    answers_file(Path("out"), model).parent.mkdir()
    answers_file(Path("out"), model).write_text('{"id": "r0", "response": "x"}\n')
    (tmp_path / "other.jinja").write_text("other: {{ content }}")
    monkeypatch.setattr("ier1_plugin.evaluation.model_identity.prompt_path", lambda name: tmp_path / "other.jinja")
    with pytest.raises(EvaluationError, match=r"another openai:http://host/v1#name \(prompt_sha256 "):
        begin(Path("out"), [model])


def test_a_model_of_the_hub_is_known_by_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import huggingface_hub.constants as hub

    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    # neither hub nor cache know it
    assert identity("local:owner/name")["revision"] is None
    cached = tmp_path / "hub" / "models--owner--name"
    (cached / "snapshots" / ("a" * 40)).mkdir(parents=True)
    (cached / "snapshots" / ("a" * 40) / "config.json").write_text("{}")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("a" * 40)
    assert identity("local:owner/name")["revision"] == "a" * 40


@pytest.mark.parametrize("name", ["models.json", "rows.json"])
@pytest.mark.parametrize("text", ["{oops", "[1]"])
def test_notes_that_are_damaged_are_one_line(rows: Path, weights: Path, name: str, text: str):
    answered()
    Path("out", name).write_text(text)
    assert f"{name} is damaged; choose another --out" in one_line(evaluate(rows))


def test_what_is_no_model_is_one_line_before_anything_is_asked(rows: Path, weights: Path):
    assert "no model in nowhere: config.json is missing" in one_line(evaluate(rows, "local:nowhere"))
    (weights / "decomposer.json").write_text("{}")
    with pytest.raises(ChatError, match=r"decomposer\.json is not what"):
        identity(MODEL)
