"""The EasyR1s that tests run: the installed one, and its current source where EASYR1_SOURCE names it.

run_script("easyr1_step.py", "source", model, rows, report)     # in a process of its own, with this checkout
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from ier1_plugin.prompts import path
from ier1_plugin.training.cpu import guard

ROOT = Path(__file__).resolve().parents[2]
needs_no_gpu = pytest.mark.skipif(guard.has_gpu(), reason="this machine has a GPU: the CPU stand-ins refuse to run")


def environment(which: str = "installed", **more: str) -> dict[str, str]:
    """In which `verl` is that EasyR1, and `ier1_plugin` and `fakes` this checkout's. Skips where it is missing."""
    source = os.environ.get("EASYR1_SOURCE", "") if which == "source" else ""
    if which == "source" and not Path(source, "verl").is_dir():
        pytest.skip("EASYR1_SOURCE does not name EasyR1's current source")
    if which == "installed" and find_spec("verl") is None:
        pytest.skip("EasyR1 from PyPI (lazyllm-verl) is not installed")
    places = os.pathsep.join(filter(None, [source, str(ROOT), str(ROOT / "tests")]))
    return os.environ | {"PYTHONPATH": places, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"} | more


def run_script(name: str, which: str, *arguments: object, **more: str) -> None:
    """Runs tests/fakes/NAME, which must succeed; `more`: environment variables."""
    command = [sys.executable, str(ROOT / "tests" / "fakes" / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(which, **more), timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


def dataset(file: Path, tokenizer: Any, processor: Any, **options: Any) -> Any:
    """EasyR1's dataset over a parquet file of our rows; `options`: max_prompt_length, min_pixels, max_pixels."""
    from verl.utils.dataset import RLHFDataset

    columns = {"prompt_key": "problem", "answer_key": "answer", "image_key": "images"}
    options = {
        "truncation": "error",
        "format_prompt": str(path("decompose")),
        "filter_overlong_prompts": False,
    } | options
    return RLHFDataset(str(file), tokenizer, processor, **columns, **options)


def reward_manager() -> Any:
    """EasyR1 0.3.2 has a class for each type of reward, its source one that reads REWARD_TYPE."""
    from verl.workers import reward

    return getattr(reward, "AutoRewardManager", None) or reward.BatchFunctionRewardManager
