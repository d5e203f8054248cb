"""EasyR1, unmodified, reads our rows and loads our reward; its prompt is token for token the one of our inference.

The installed EasyR1 and, where EASYR1_SOURCE names it, its current source; each in a process of its own.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from typing import Any

import pytest
from fakes import easyr1_host
from fakes.easyr1 import needs_no_gpu, run_script

from ier1_plugin.task.schema import Decomposition

pytestmark = [pytest.mark.slow, needs_no_gpu]
MANAGERS = {"installed": "BatchFunctionRewardManager", "source": "AutoRewardManager"}
PARTS = ["overall", "format", "action", "subject", "goal"]


@pytest.fixture(scope="module", params=MANAGERS)
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `easyr1_host.py` saw in one EasyR1."""
    folder = tmp_path_factory.mktemp(request.param)
    # Ray's sockets take no longer paths
    ray_folder = tempfile.mkdtemp(prefix="ier1_", dir="/tmp")
    try:
        run_script("easyr1_host.py", request.param, folder, HF_HOME=str(folder / "hf"), RAY_TMPDIR=ray_folder)
    finally:
        shutil.rmtree(ray_folder, ignore_errors=True)
    return json.loads((folder / "report.json").read_text()) | {"which": request.param}


def test_easyr1s_dataset_gives_the_answer_back_as_it_was_written(host: dict[str, Any]):
    assert len(host["rows"]) == len(easyr1_host.REQUESTS) * len(easyr1_host.SIZES)
    assert {Decomposition.from_json(row["ground_truth"]) for row in host["rows"]} == {easyr1_host.GOLD}


def test_training_vllm_and_inference_see_the_same_tokens_and_pixels(host: dict[str, Any]):
    for row in host["rows"]:
        assert row["ours"] == row["theirs"], row["request"]
        assert row["raw_ours"] == row["raw_theirs"], row["request"]
        assert row["same_pixels"], row["size"]


def test_a_request_can_not_add_an_image_or_a_turn(host: dict[str, Any]):
    plain = {tuple(row["size"]): row["control"] for row in host["rows"] if row["request"] == easyr1_host.REQUESTS[0]}
    assert all(control["<|im_start|>"] == 2 and control["<|image_pad|>"] > 1 for control in plain.values())
    for row in host["rows"]:
        assert row["control"] == plain[tuple(row["size"])], row["request"]


def test_easyr1s_reward_manager_logs_the_parts_of_our_reward(host: dict[str, Any]):
    rewards = host["rewards"]
    assert rewards["manager"] == MANAGERS[host["which"]]
    for where in ("in process", "as an actor"):
        found = rewards["decomposition"][where]
        assert [name for name in found if name != "summed"] == PARTS
        assert found["format"] == [1.0, 1.0, 0.0]
        assert found["action"] == pytest.approx([1.0, 2 / 3, 0.0])
        assert found["subject"] == pytest.approx([1.0, 2 / 3, 0.0])
        # logged, and out of the mean at weight 0
        assert found["goal"] == [1.0, 0.0, 0.0]
        assert found["overall"] == pytest.approx([1.0, 7 / 9, 0.0])
        assert found["summed"] == pytest.approx(found["overall"])


def test_easyr1s_reward_manager_logs_the_parts_of_the_reward_on_pictures(host: dict[str, Any]):
    found = host["rewards"]["picture"]
    for where, renders in (("in process", 1.0), ("as an actor", 0.0)):
        rows = found[where]
        assert rows["summed"] == rows["overall"] == rows["score"]
        # a weight of 3 beside format's 1
        assert rows["overall"] == [1.0, 0.25 + 0.75 * rows["picture"][1], 0.0]
        assert rows["picture"][0] == 1.0 > rows["picture"][1]
        assert rows["format"] == [1.0, 1.0, 0.0]
        assert rows["has_gold"] == [0.0] * 3
        # the actor finds what this process has rendered
        assert rows["renders"] == [renders, renders, 0.0]
        assert rows["cached"] == [1 - renders, 1 - renders, 0.0]
        assert {len(values) for values in rows.values()} == {3}
    assert found["in process"]["overall"] == found["as an actor"]["overall"]
