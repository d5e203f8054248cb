"""Both rewards in upstream verl's own reward worker.

Needs upstream verl in an environment of its own: `bash examples/make_venv_verl.sh`.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from fakes.chat_server import Answer, Asked, completion, error, serve
from fakes.judge_server import picture as picture_of
from fakes.judge_server import verdict
from PIL import ImageStat

from ier1_plugin.evaluation.records import Score
from ier1_plugin.small_world.tiny_model import build
from ier1_plugin.small_world.world import samples
from ier1_plugin.task.images import png_bytes
from ier1_plugin.task.parsing import render_response
from ier1_plugin.task.rows import Case, write_answer
from ier1_plugin.task.schema import Decomposition
from reward_fns import decomposition, picture

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("IER1_VENV_VERL", ROOT / ".venv-verl")).absolute() / "bin" / "python"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON.is_file(), reason="there is no verl: see examples/make_venv_verl.sh"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For its tokenizer."""
    folder = tmp_path_factory.mktemp("model") / "random"
    build(folder, seed=0)
    return folder


def in_verl(model: Path, file: str, batch: list[dict[str, Any]], options: dict[str, Any]) -> list[Any]:
    """What verl's worker makes of a batch of EasyR1's."""
    reward = {"path": str(ROOT / "reward_fns" / file), "name": "score_one", "reward_kwargs": options}
    pairs = [(one["response"], one["ground_truth"]) for one in batch]
    process = subprocess.run(
        [PYTHON, "tests/fakes/verl_reward_worker.py"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        input=json.dumps({"model": str(model), "reward": reward, "samples": pairs}),
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    return json.loads(process.stdout.splitlines()[-1])


def test_words_are_worth_the_same_in_both_hosts(model: Path):
    gold = [sample.gold for sample in islice(samples("val", 0), 3)]
    responses = [render_response(gold[0], "x"), render_response(gold[1], "y"), "<action>[]</action>", "no plan"]
    batch = [{"response": text, "ground_truth": write_answer(one)} for one in gold for text in responses]
    options = {"goal_weight": 0.5, "goal_match": "token"}
    rows = decomposition.compute_score(batch, **options)
    for result, row in zip(in_verl(model, "decomposition.py", batch, options), rows, strict=True):
        overall = row.pop("overall")
        assert result == {"reward_score": overall, "reward_extra_info": {"score": overall, **row}}


def test_pictures_are_worth_the_same_in_both_hosts_and_what_could_not_be_judged_raises(model: Path, tmp_path: Path):
    def refusing_what_is_darker(asked: Asked) -> Answer:
        photo, edit = (sum(ImageStat.Stat(picture_of(asked.body, number)).mean) for number in (0, 1))
        return error(500) if edit < photo else completion(verdict(Score(3, 2, 3)), usable=True)

    (tmp_path / "images").mkdir()
    (sample,) = islice(samples("val", 0), 1)
    data = png_bytes(sample.photo.open())
    name = f"{hashlib.sha256(data).hexdigest()}.png"
    (tmp_path / "images" / name).write_bytes(data)
    truth = write_answer(sample.gold, Case(sample.id, sample.request, name))
    plans = [Decomposition.of(["Adjust"], ["photo"], [goal]) for goal in ("brighter", "darker", "brighter")]
    responses = [*(render_response(plan, "x") for plan in plans), "no plan"]
    batch = [{"response": text, "ground_truth": truth} for text in responses]
    with serve(refusing_what_is_darker) as server:
        options: dict[str, Any] = {
            "editor": "small-world",
            "judge": f"openai:{server.url}#vlm",
            "judge_settings": {"backoff": 0.0},
            "image_root": [str(tmp_path / "images")],
            "picture_weight": 2.0,
        }
        results = in_verl(model, "picture.py", batch, options | {"store": str(tmp_path / "verl")})
        rows = picture.compute_score(batch, **options, store=str(tmp_path / "easyr1"))
    for result, row in zip(results, rows, strict=True):
        if row["unjudged"]:
            assert result.startswith("EvaluationError: the plan could not be rendered or judged, because of the judge")
            continue
        parts = result["reward_extra_info"]
        assert result["reward_score"] == parts["score"] == row["score"]
        shared = parts.keys() & row.keys() - {"renders", "cached", "seconds", "tokens"}
        assert {key: parts[key] for key in shared} == {key: row[key] for key in shared}
    assert [row["unjudged"] for row in rows] == [0, 1, 0, 0]
    assert [result["reward_extra_info"]["renders"] for result in results if isinstance(result, dict)] == [1, 0, 0]
