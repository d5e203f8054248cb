"""The fingerprint of a model's folder: its content and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ier1_plugin.runs.fingerprint import BLOCK_BYTES, fingerprint, sha256_of


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "vae").mkdir(parents=True)
    for name in ("config.json", "decompose.jinja", "vae/config.json"):
        (folder / name).write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(3 * BLOCK_BYTES + 7))
    return folder


def test_the_same_content_elsewhere_has_the_same_one_whatever_is_beside_it(model: Path, tmp_path: Path):
    before = fingerprint(model)
    shutil.copytree(model, tmp_path / "else" / "where")
    (tmp_path / "link").symlink_to(model)
    assert fingerprint(tmp_path / "else" / "where") == fingerprint(tmp_path / "link") == before
    (model / ".cache").mkdir()
    for name in ("README.md", ".cache/when", ".lock"):
        (model / name).write_text("no model reads this")
    assert fingerprint(model) == before
    # a link round in a circle comes to an end
    (model / "vae" / "round").symlink_to(model)
    assert fingerprint(model) == before


def overwrite(at: int) -> Callable[[Path], Any]:
    def change(model: Path) -> None:
        with (model / "model.safetensors").open("r+b") as weights:
            weights.seek(at)
            weights.write(b"\1")

    return change


@pytest.mark.parametrize(
    "change",
    [
        *(overwrite(at) for at in (0, BLOCK_BYTES, 3 * BLOCK_BYTES + 6)),
        lambda model: (model / "config.json").write_text("other"),
        lambda model: (model / "decompose.jinja").write_text("other"),
        lambda model: (model / "vae" / "config.json").write_text("other"),
        lambda model: (model / "tokenizer.json").write_text("new"),
        lambda model: (model / "model.safetensors").rename(model / "model-00001-of-00001.safetensors"),
    ],
)
def test_one_other_byte_or_name_is_another_model(model: Path, change: Callable[[Path], Any]):
    before = fingerprint(model)
    change(model)
    assert fingerprint(model) != before


def test_links_count_as_what_they_lead_to_as_in_the_caches_of_the_hub(model: Path, tmp_path: Path):
    shutil.copytree(model / "vae", model / "encoder")
    before = fingerprint(model)
    shutil.rmtree(model / "encoder")
    (model / "encoder").symlink_to(model / "vae")
    assert fingerprint(model) == before
    (model / "vae").rename(tmp_path / "blobs")
    for name in ("vae", "encoder"):
        (model / name).unlink(missing_ok=True)
        (model / name).symlink_to(tmp_path / "blobs")
    assert fingerprint(model) == before
    (tmp_path / "blobs" / "config.json").write_text("other")
    assert fingerprint(model) != before


def test_what_is_no_folder_or_cannot_be_read_is_an_error(model: Path, tmp_path: Path):
    for place in (tmp_path / "nowhere", model / "config.json"):
        with pytest.raises(OSError, match=place.name):
            fingerprint(place)
    (model / "gone.safetensors").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError):
        fingerprint(model)
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
