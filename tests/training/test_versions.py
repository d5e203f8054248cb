"""Versions of what EasyR1 drives: packages that are there and do not fit are named, with those that do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from fakes.easyr1 import environment
from fakes.preflight_runs import run
from omegaconf import OmegaConf

from ier1_plugin.training.preflight import host
from ier1_plugin.training.preflight.run import Run


def install(folder: Path, package: str, version: str, code: str = "", requires: str = "") -> None:
    """A package as `metadata` and `import` find it, with `folder` on the path."""
    name = package.replace("-", "_")
    (folder / f"{name}-{version}.dist-info").mkdir(parents=True)
    needs = f"Requires-Dist: {requires}\n" if requires else ""
    text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}"
    (folder / f"{name}-{version}.dist-info" / "METADATA").write_text(text)
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(code)


@pytest.mark.parametrize(
    ("package", "version", "wanted"),
    [
        ("omegaconf", "2.4.0", "omegaconf<2.4"),
        ("transformers", "5.3.0", "transformers>=4.54,<5"),
        ("transformers", "4.53.3", "transformers>=4.54,<5"),
        ("vllm", "0.13.0", "vllm>=0.8,<0.13"),
        ("vllm", "0.13.0rc1", "vllm>=0.8,<0.13"),
        ("vllm", "0.33.0+cu130", "vllm>=0.8,<0.13"),
        ("vllm", "0.7.3", "vllm>=0.8,<0.13"),
        ("flash-attn", "2.3.6", "flash-attn>=2.4.3,<3"),
        ("flash-attn", "3.0.0b1", "flash-attn>=2.4.3,<3"),
        ("vllm", "0.8.0", None),
        ("vllm", "0.11.2+cu129", None),
        ("vllm", "0.11.1.dev5+gabc", None),
        ("flash-attn", "2.8.3", None),
    ],
)
def test_a_package_of_the_wrong_version_is_named_with_the_right_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, version: str, wanted: str | None
):
    install(tmp_path, package, version)
    monkeypatch.syspath_prepend(tmp_path)
    lines = [line for line in host.versions() if line.startswith(f"{package} ")]
    assert [line.startswith(f"{package} {version}: ") and line.endswith(f"'{wanted}'") for line in lines] == (
        [True] if wanted else []
    )
    # the stand-ins take the place of what needs a GPU
    assert package in ("omegaconf", "transformers") or not any(line.startswith(package) for line in host.versions(True))


@pytest.mark.parametrize(
    ("requires", "told"), [("torch==1.0.0", True), ("torch>=1.0", False), ("torch==1.0 ; extra == 'x'", False)]
)
def test_a_torch_that_vllm_was_not_built_for_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, requires: str, told: bool
):
    install(tmp_path, "vllm", "0.11.0", requires=requires)
    monkeypatch.syspath_prepend(tmp_path)
    lines = list(host.versions())
    assert any("vllm 0.11.0 is built for another" in line and f"'{requires}'" in line for line in lines) == told


@pytest.mark.parametrize("rank", [0, 8])
def test_a_peft_that_trains_no_lora_is_named_where_lora_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: int
):
    install(tmp_path, "peft", "0.21.2")
    monkeypatch.syspath_prepend(tmp_path)
    config = OmegaConf.create({"worker": {"actor": {"model": {"lora": {"rank": rank}}}}})
    assert len([line for line in host.lora(Run(config)) if "'peft<0.21'" in line]) == bool(rank)


@pytest.mark.parametrize(("version", "told"), [("0.10.2", 1), ("0.11.0", 0)])
def test_qwen3_vl_needs_a_newer_vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, told: int):
    install(tmp_path / "site", "vllm", version)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen3_vl"}))
    ours = run(f"worker.actor.model.model_path={tmp_path}")
    # as in its current source
    monkeypatch.setattr("verl.models.monkey_patch.SUPPORTED_MODEL_TYPE", ("qwen3_vl",))
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert len([line for line in host.model(ours) if "'vllm>=0.11,<0.13'" in line]) == told


def test_a_flash_attn_that_can_not_be_loaded_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    ours = run()
    install(tmp_path, "flash-attn", "2.8.3", "raise ImportError('flash_attn_2_cuda.so: undefined symbol: _ZN3c10')")
    monkeypatch.delitem(sys.modules, "flash_attn", raising=False)
    monkeypatch.delitem(sys.modules, "flash_attn.bert_padding", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert any("undefined symbol" in line and "--force-reinstall" in line for line in host.engines(ours))


@pytest.mark.slow
def test_a_vllm_that_can_not_be_imported_is_not_taken_for_a_missing_one(tmp_path: Path):
    install(tmp_path, "vllm", "0.11.0", "import vllm._C")
    easyr1 = environment()
    easyr1["PYTHONPATH"] = f"{tmp_path}:{easyr1['PYTHONPATH']}"
    command = [sys.executable, "-m", "ier1_plugin.cli", "train", "data.train_files=t.parquet"]
    done = subprocess.run(command, cwd=tmp_path, env=easyr1, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "No module named 'vllm._C'" in done.stderr
    assert "is not installed" not in done.stderr
    assert "Traceback" not in done.stderr
