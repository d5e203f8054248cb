"""The table and the page of the study: real edits and judgements of three ways, by plans that a server gives."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pytest
from fakes.chat_server import Answer, Asked, completion, serve
from fakes.commands import ier1

from ier1_plugin.evaluation.report.study import main, rows
from ier1_plugin.runs.shared_store import SharedStore
from ier1_plugin.small_world.world import samples
from ier1_plugin.task.parsing import render_response
from ier1_plugin.task.schema import Decomposition

pytest.importorskip("skimage", reason="the photographs are scikit-image's, which is not installed")
ITEMS = list(islice(samples("val", 0), 400, 404))


def planner(asked: Asked) -> Answer:
    """The model "gold" answers right, "copy" pastes the request into a goal, or says what nobody can read."""
    text = str(asked.body["messages"])
    (sample,) = (sample for sample in ITEMS if sample.request in text)
    if asked.body["model"] == "copy" and sample is ITEMS[0]:
        return completion("I would rather not.", usable=True)
    plan = sample.gold if asked.body["model"] == "gold" else Decomposition((), (), (sample.request,))
    return completion(render_response(plan, "It is so."), usable=True)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    with serve(planner) as server:
        systems = {"the request as it is": "method: original"}
        for name, model in {
            "untrained, seed 1": "copy",
            "untrained, seed 2": "copy",
            "trained, seed 1": "gold",
        }.items():
            systems[name] = f"decomposer: 'openai:{server.url}#{model}'\nsequencer: rule"
        for number, (name, lines) in enumerate(systems.items()):
            (tmp_path / f"{number}.yaml").write_text(f"name: {name}\neditor: small-world\n{lines}\n")
        files = [tmp_path / f"{number}.yaml" for number in range(len(systems))]
        arguments = ["--benchmark", "small-world:400-404", "--judge", "pixel", "--out", tmp_path / "evaluation"]
        ier1("evaluate", *arguments, "--system", *files)
    return tmp_path


def test_a_row_tells_how_well_a_way_edits_plans_and_whether_it_only_copies(study: Path):
    request, untrained, trained, gold = rows(study, "untrained")
    assert [row["way"] for row in (request, untrained, trained, gold)] == [
        *("the request as it is", "untrained", "trained", "gold plans")
    ]
    assert trained["score"].mean == gold["score"].mean > untrained["score"].mean
    assert trained["without_rl"].mean == pytest.approx(gold["score"].mean - untrained["score"].mean)
    assert (trained["f1"], untrained["copied"], trained["copied"]) == (1.0, 1.0, 0.0)
    assert untrained["f1"] < 0.2
    # the pasted request is what the editor gets, in both runs
    assert untrained["by_seed"] == (request["score"].mean, request["score"].mean)


def test_the_page_shows_the_table_and_the_curves(study: Path, capsys: pytest.CaptureFixture[str]):
    from torch.utils.tensorboard import SummaryWriter

    training = study / "seed-1" / "grpo-pictures"
    with SummaryWriter(str(training / "tensorboard")) as writer:
        for step in range(1, 13):
            for name, value in {"overall": 0.5, "picture": 0.4, "renders": 0.2, "cached": 0.6}.items():
                writer.add_scalar(f"reward/{name}", value, step)
    with SharedStore(training / "pictures") as store:
        store.keep("one", {})
        store.keep("two", {})
    # the way was trained there
    file = study / "evaluation" / "evaluation.json"
    values = json.loads(file.read_text())
    (way,) = (system for system in values["systems"] if system["name"] == "trained, seed 1")
    way["settings"]["decomposer"] = f"local:{study}/seed-1/model-pictures"
    file.write_text(json.dumps(values))
    assert main([str(study), "--without-rl", "untrained"]) == 0
    table = (study / "table.md").read_text()
    assert capsys.readouterr().out.strip() == table.strip()
    (line,) = (line for line in table.splitlines() if line.startswith("| trained"))
    assert line.split(" | ")[-2:] == ["75%", "2 |"]
    page = (study / "index.html").read_text()
    assert page.count("<tr>") == 5
    assert "data:image/png" in page


def test_a_study_without_its_untrained_agents_is_refused(study: Path, capsys: pytest.CaptureFixture[str]):
    assert main([str(study), "--without-rl", "nobody"]) == 1
    assert "'nobody'" in capsys.readouterr().err
