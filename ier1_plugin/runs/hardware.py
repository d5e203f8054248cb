"""The hardware of this machine, read from the operating system, since importing torch takes seconds."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

DEVICES = Path("/dev")
KFD_NODES = Path("/sys/class/kfd/kfd/topology/nodes")
PROBE_SECONDS = 60


def has_gpu(devices: Path = DEVICES, kfd_nodes: Path = KFD_NODES) -> bool:
    """True if an NVIDIA or AMD GPU can be reached from this machine, whatever CUDA_VISIBLE_DEVICES says."""
    # /proc/driver/nvidia also shows in containers that can't use the GPU; the device files don't
    if any(devices.glob("nvidia[0-9]*")):
        return True
    if (devices / "kfd").exists():
        # the kernel lists CPUs as nodes too; only GPUs have SIMDs
        lines = [line.split() for node in kfd_nodes.glob("*/properties") for line in node.read_text().splitlines()]
        if any(name == "simd_count" and int(value) > 0 for name, value in lines):
            return True
    # WSL has no device files
    command = shutil.which("nvidia-smi")
    if command is None:
        return False
    try:
        listed = subprocess.run([command, "-L"], capture_output=True, text=True, timeout=PROBE_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        # only a driver with a (broken) GPU under it hangs
        return True
    return listed.returncode == 0 and listed.stdout.startswith("GPU ")
