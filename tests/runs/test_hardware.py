"""Is there a GPU? Asked of a made-up /dev, a made-up list of the kernel's and a made-up nvidia-smi."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ier1_plugin.runs.hardware import has_gpu


def test_an_nvidia_device_file_is_a_gpu_and_the_driver_files_beside_it_are_not(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert not has_gpu(tmp_path)
    (tmp_path / "nvidia0").touch()
    assert has_gpu(tmp_path)


@pytest.mark.parametrize(("printed", "status"), [("GPU 0: NVIDIA H100", 0), ("No devices were found", 6), ("", 0)])
def test_nvidia_smi_is_believed_where_there_are_no_device_files(tmp_path: Path, monkeypatch, printed: str, status: int):
    command = tmp_path / "nvidia-smi"
    command.write_text(f"#!/bin/sh\necho '{printed}'\nexit {status}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert has_gpu(tmp_path / "no-devices") is printed.startswith("GPU")


def test_an_amd_gpu_is_told_from_the_cpu_that_the_kernel_lists_beside_it(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    cpu_node, gpu_node = tmp_path / "nodes" / "0", tmp_path / "nodes" / "1"
    cpu_node.mkdir(parents=True)
    (cpu_node / "properties").write_text("cpu_cores_count 16\nsimd_count 0\n")
    assert not has_gpu(tmp_path, tmp_path / "nodes")
    (tmp_path / "kfd").touch()
    assert not has_gpu(tmp_path, tmp_path / "nodes")
    gpu_node.mkdir()
    (gpu_node / "properties").write_text("cpu_cores_count 0\nsimd_count 256\n")
    assert has_gpu(tmp_path, tmp_path / "nodes")
