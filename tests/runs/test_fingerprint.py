"""The fingerprint of a model's folder: its content and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ier1_plugin.runs.fingerprint import BLOCK_BYTES, fingerprint, sha256_of


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "vae").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "decompose.jinja").write_text("{{ content }}")
    (folder / "model.safetensors").write_bytes(bytes(3 * BLOCK_BYTES + 7))
    (folder / "vae" / "config.json").write_text("{}")
    return folder


def test_a_copy_elsewhere_has_the_same_one(model: Path, tmp_path: Path):
    shutil.copytree(model, tmp_path / "else" / "where")
    assert fingerprint(tmp_path / "else" / "where") == fingerprint(model)
    (tmp_path / "link").symlink_to(model)
    assert fingerprint(tmp_path / "link") == fingerprint(model)


@pytest.mark.parametrize("at", [0, BLOCK_BYTES, 3 * BLOCK_BYTES + 6])
def test_one_other_byte_of_the_weights_is_another_model(model: Path, at: int):
    before = fingerprint(model)
    with (model / "model.safetensors").open("r+b") as weights:
        weights.seek(at)
        weights.write(b"\1")
    assert fingerprint(model) != before


@pytest.mark.parametrize("name", ["config.json", "decompose.jinja", "vae/config.json", "tokenizer.json"])
def test_so_is_any_other_file_that_is_there_or_says_something_else(model: Path, name: str):
    before = fingerprint(model)
    (model / name).write_text("other")
    assert fingerprint(model) != before


def test_so_is_the_same_content_under_another_name(model: Path):
    before = fingerprint(model)
    (model / "model.safetensors").rename(model / "model-00001-of-00001.safetensors")
    assert fingerprint(model) != before


def test_what_no_model_reads_does_not_count(model: Path):
    before = fingerprint(model)
    (model / "README.md").write_text("a card")
    (model / ".cache").mkdir()
    (model / ".cache" / "when").write_text("now")
    (model / ".lock").write_text("")
    assert fingerprint(model) == before


def test_weights_behind_links_count_as_in_the_caches_of_the_hub(model: Path, tmp_path: Path):
    before = fingerprint(model)
    (model / "vae").rename(tmp_path / "blobs")
    (model / "vae").symlink_to(tmp_path / "blobs")
    assert fingerprint(model) == before
    (tmp_path / "blobs" / "config.json").write_text("other")
    assert fingerprint(model) != before


def test_a_folder_that_links_to_itself_comes_to_an_end(model: Path):
    (model / "vae" / "round").symlink_to(model)
    assert fingerprint(model) == fingerprint(model)


def test_two_links_to_one_folder_count_as_two_folders(model: Path):
    shutil.copytree(model / "vae", model / "encoder")
    before = fingerprint(model)
    shutil.rmtree(model / "encoder")
    (model / "encoder").symlink_to(model / "vae")
    assert fingerprint(model) == before


def test_what_is_no_folder_or_cannot_be_read_is_an_error(model: Path, tmp_path: Path):
    for place in (tmp_path / "nowhere", model / "config.json"):
        with pytest.raises(OSError, match=place.name):
            fingerprint(place)
    (model / "gone.safetensors").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError):
        fingerprint(model)


def test_a_file_alone_has_the_hash_that_sha256sum_prints(tmp_path: Path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
