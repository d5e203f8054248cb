"""The repair of Qwen-Image-Edit's positions: where it is needed, and where it must do nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from ier1_plugin.editors.local.qwen_positions import TOKEN_TYPES, repair_positions

ROOT = Path(__file__).parents[2]
PROBE = ROOT / "tests" / "fakes" / "qwen_positions_probe.py"
OTHER_PYTHON = "IER1_TRANSFORMERS5_PYTHON"


def probe(python, folder):
    places = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = {**os.environ, "PYTHONPATH": places, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([python, str(PROBE), str(folder)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_where_transformers_finds_the_positions_itself_nothing_is_repaired(tmp_path):
    pytest.importorskip("diffusers", reason="diffusers is not installed")
    found = probe(sys.executable, tmp_path / "pipeline")
    if found["needed"]:
        pytest.skip(f"transformers {found['transformers']} needs the repair; the next test is about that")
    assert found["before"] == found["after"] == found["offloaded"] == 0.0
    assert not found["edits_differ"]


@pytest.mark.full
def test_where_transformers_wants_to_be_told_the_repair_makes_the_embedding_right(tmp_path):
    python = os.environ.get(OTHER_PYTHON)
    if not python:
        pytest.skip(
            f"{OTHER_PYTHON} names no Python with transformers 5; examples/make_venv_transformers5.sh makes one"
        )
    found = probe(python, tmp_path / "pipeline")
    assert found["needed"]
    # without the repair the encoder reads the picture as a line of text
    assert found["before"] > 1e-3
    assert found["edits_differ"]
    assert found["after"] == found["offloaded"] == 0.0


def encoder(forward):
    """A module with this `forward` in place of an encoder's."""
    import torch

    config = SimpleNamespace(image_token_id=7, video_token_id=8)
    return type("Encoder", (torch.nn.Module,), {"config": config, "forward": forward})()


@pytest.mark.slow
def test_image_and_video_tokens_are_named_and_what_is_given_and_other_encoders_are_left_alone():
    import torch

    def forward(self, input_ids=None, image_grid_thw=None, mm_token_type_ids=None):
        return mm_token_type_ids

    repaired = encoder(forward)
    for _ in range(2):
        assert repair_positions(SimpleNamespace(text_encoder=repaired))
    ids, grid = torch.tensor([[1, 7, 7, 8, 2]]), torch.tensor([[1, 2, 2]])
    assert repaired(input_ids=ids, image_grid_thw=grid).tolist() == [[0, 1, 1, 2, 0]]
    assert repaired(ids, image_grid_thw=grid).tolist() == [[0, 1, 1, 2, 0]]
    given = torch.zeros_like(ids)
    assert repaired(input_ids=ids, image_grid_thw=grid, **{TOKEN_TYPES: given}) is given
    # text alone has text's positions
    assert repaired(input_ids=ids) is None
    older = encoder(lambda self, input_ids=None, image_grid_thw=None: None)
    for pipe in (SimpleNamespace(text_encoder=older), SimpleNamespace(text_encoder=None), object()):
        assert not repair_positions(pipe)
