"""`ier1 edit` with the real editing pipelines of diffusers, whose weights are tiny and random."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fakes.chat_fakes import GOLD, photo, reply
from fakes.chat_server import chat_server
from fakes.commands import ier1
from PIL import Image

from ier1_plugin.pipeline.trace import read_trace

pytestmark = pytest.mark.slow
KINDS = ("flux-kontext", "qwen-image-edit", "qwen-image-edit-plus")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    pytest.importorskip("diffusers")
    from fakes import tiny_pipelines

    return {kind: tiny_pipelines.build(tmp_path_factory.mktemp(kind), kind) for kind in KINDS}


@pytest.fixture(autouse=True)
def small_canvas(weights: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from fakes.tiny_pipelines import shrink_qwen

    monkeypatch.chdir(tmp_path)
    shrink_qwen(monkeypatch)


def edited(folder: Path, name: str, size: tuple[int, int], *more: object) -> tuple[bytes, Any]:
    """The pixels that `ier1 edit` writes for a photo of `size`, and the trace in the file."""
    photo(*size).save("photo.png")
    output = Path("out.png")
    with chat_server(lambda body, number: reply(GOLD)) as server:
        agents = ("--decomposer", f"openai:{server.url}#m", "--sequencer", "rule")
        small = '{"canvas_pixels": 4096}' if name == "flux-kontext" else "{}"
        editor = ("--editor", f"{name}:{folder}", "--steps", 1, "--editor-settings", small)
        ier1("edit", "photo.png", "remove the lamp", "-o", output, "--overwrite", *agents, *editor, *more)
    with Image.open(output) as image:
        assert image.size == size
        return image.tobytes(), read_trace(output)


@pytest.mark.parametrize("kind", KINDS)
def test_several_turns_share_one_canvas(weights: dict[str, Path], kind: str):
    pixels, trace = edited(weights[kind], kind, (90, 60), "--mode", "multi-turn", "--seed", 3)
    assert [step["instruction"] for step in trace["steps"]] == ["Delete lamp", "Recoloring sofa to navy"]
    assert [step["seed"] for step in trace["steps"]] == [3, 4]
    assert {tuple(step["size"]) for step in trace["steps"]} == {tuple(trace["canvas"])}
    replayed, _ = edited(weights[kind], kind, (90, 60), "--mode", "multi-turn", "--seed", 3)
    assert replayed == pixels
    assert edited(weights[kind], kind, (90, 60), "--seed", 3)[0] != pixels
