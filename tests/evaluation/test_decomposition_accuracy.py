"""`ier1 evaluate --decomposition`: responses against gold rows, by the scorer of the training."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes.chain_helpers import ier1, one_line
from fakes.chat_fakes import NONSENSE, chat_server, error, photo, reply
from scipy.stats import bootstrap

from ier1_plugin.evaluation.confusion import confusion
from ier1_plugin.evaluation.decomposition import PARTS, Scored, score_all
from ier1_plugin.evaluation.decomposition_table import table
from ier1_plugin.task.images import encode
from ier1_plugin.task.rows import format_row
from ier1_plugin.task.schema import Decomposition
from ier1_plugin.task.scoring import Gold, score_response

ONE = Decomposition(("Delete",), ("lamp",), ())
TWO = Decomposition(("Delete", "Recoloring"), ("lamp", "sofa"), ("navy",))
GOLDS = [ONE, ONE, TWO, TWO, TWO, ONE]
# right, wrong action, right, half of it, unreadable, right
SAID = [
    reply(ONE),
    reply(Decomposition(("Replace",), ("lamp",), ())),
    reply(TWO),
    reply(ONE),
    NONSENSE,
    reply(ONE),
]


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return rows_file(tmp_path / "val.parquet", range(len(GOLDS)))


def rows_file(file: Path, photos: Iterable[int], golds: list[Decomposition] = GOLDS) -> Path:
    """The rows r0, r1, ...; those with the same number among `photos` are about one photo."""
    made = [
        format_row(
            id=f"r{number}",
            source="s",
            request=f"request {number}",
            image=encode(photo(56, 56, seed=seed), lossless=True),
            gold=gold,
        )
        for number, (seed, gold) in enumerate(zip(photos, golds, strict=True))
    ]
    pq.write_table(pa.Table.from_pylist(made), file)
    return file


def responses(name: str = "said.jsonl", said: list[str] = SAID, **more: Any) -> str:
    lines = [json.dumps({"id": f"r{number}", "response": text}) for number, text in enumerate(said)]
    Path(name).write_text("".join(f"{line}\n" for line in lines))
    return name


def scored(rows: Path, *models: str, told: list[str] | None = None, sample: int | None = None) -> list[Scored]:
    on_warning = (lambda line: None) if told is None else told.append
    return score_all(Path("out"), models, rows, sample=sample, seed=0, jobs=2, on_warning=on_warning)


def test_the_scores_are_those_of_the_training(rows: Path):
    (found,) = scored(rows, responses())
    each = [score_response(text, Gold.of(gold)) for text, gold in zip(SAID, GOLDS, strict=True)]
    for part in PARTS[1:]:
        assert found.parts[part].mean == pytest.approx(sum(one[part] for one in each) / len(each))
        assert found.parts[part].count == len(each)
    assert found.parts["format"].mean == pytest.approx(5 / 6)
    assert found.parts["overall"].mean == pytest.approx(sum(sum(one.values()) / 4 for one in each) / len(each))


def test_the_intervals_are_those_of_a_bootstrap_over_rows(rows: Path):
    (found,) = scored(rows, responses())
    values = [score_response(text, Gold.of(gold))["action"] for text, gold in zip(SAID, GOLDS, strict=True)]
    interval = bootstrap((values,), lambda sample, axis: sample.mean(axis=axis), method="percentile", rng=1)
    share = found.parts["action"]
    assert share.low == pytest.approx(interval.confidence_interval.low, abs=0.05)
    assert share.high == pytest.approx(interval.confidence_interval.high, abs=0.05)


def test_scores_are_split_by_the_number_of_operations(rows: Path):
    (found,) = scored(rows, responses())
    assert set(found.by_operations) == {"1", "2"}
    assert found.by_operations["1"]["action"].mean == pytest.approx(2 / 3)
    assert found.by_operations["2"]["format"].mean == pytest.approx(2 / 3)
    assert found.by_operations["1"]["action"].count == 3


def test_rows_about_one_photo_are_resampled_together(tmp_path: Path):
    golds = GOLDS * 8
    said = responses(said=SAID * 8)
    apart = rows_file(tmp_path / "apart.parquet", range(len(golds)), golds)
    # the rows of a photo are all right or all wrong, so that they say no more than one of them
    together = rows_file(tmp_path / "together.parquet", [number % len(GOLDS) for number in range(len(golds))], golds)
    (alone,) = scored(apart, said)
    (shared,) = score_all(Path("other"), [said], together, sample=None, seed=0, jobs=2)
    assert (alone.photos, shared.photos) == (48, 6)
    assert "each of the 48 rows has a photo of its own" in table([alone])
    assert "the 48 rows are about 6 photos, and those about one photo are resampled together" in table([shared])
    for one, other in (
        (alone.parts["action"], shared.parts["action"]),
        (alone.actions["Delete"].f1, shared.actions["Delete"].f1),
        (alone.actions["Delete"].recall, shared.actions["Delete"].recall),
    ):
        assert one.mean == other.mean
        assert 1.5 * (one.high - one.low) < other.high - other.low


def test_the_rates_of_an_action_have_the_intervals_of_a_bootstrap(tmp_path: Path):
    golds = GOLDS * 8
    (found,) = scored(rows_file(tmp_path / "many.parquet", range(len(golds)), golds), responses(said=SAID * 8))
    gold, said, both = (np.tile(each, 8) for each in ([1] * 6, [1, 0, 1, 1, 0, 1], [1, 0, 1, 1, 0, 1]))

    def of(over: Any, under: Any) -> Any:
        ratio = lambda one, other, axis: one.sum(axis=axis) / other.sum(axis=axis)  # noqa: E731
        return bootstrap((over, under), ratio, paired=True, method="percentile", rng=1).confidence_interval

    rates = found.actions["Delete"]
    for share, wanted in ((rates.recall, of(both, gold)), (rates.f1, of(2 * both, gold + said))):
        assert share.low == pytest.approx(wanted.low, abs=0.03)
        assert share.high == pytest.approx(wanted.high, abs=0.03)
    assert (rates.precision.low, rates.precision.high) == (1.0, 1.0)
    text = table([found])
    for heading in ("F1 by action (gold rows)", "precision by action (gold rows)", "recall by action (gold rows)"):
        assert heading in text
    assert f"0.67 [{rates.recall.low:.2f}, {rates.recall.high:.2f}]" in text


def test_a_rate_that_one_photo_alone_knows_of_has_no_interval(rows: Path):
    (found,) = scored(rows, responses())
    replace = found.actions["Replace"]
    assert replace.precision.mean == 0
    assert math.isnan(replace.precision.low)
    assert math.isnan(replace.precision.high)


def test_actions_are_counted_and_confusions_named(rows: Path):
    (found,) = scored(rows, responses())
    rates = found.actions["Delete"]
    assert (rates.gold, rates.said, rates.both) == (6, 4, 4)
    assert [share.mean for share in (rates.precision, rates.recall, rates.f1)] == pytest.approx([1.0, 4 / 6, 0.8])
    assert [share.count for share in (rates.precision, rates.recall, rates.f1)] == [4, 6, 6]
    assert math.isnan(found.actions["Replace"].recall.mean)
    assert found.confusion == {
        "Delete": {"Delete": 4, "Replace": 1, "(unreadable)": 1},
        "Recoloring": {"Recoloring": 1, "(none)": 1, "(unreadable)": 1},
    }


@pytest.mark.parametrize(
    ("gold", "said", "wanted"),
    [
        ({"delete"}, {"Delete"}, {"Delete": {"Delete": 1}}),
        ({"delete"}, {"Delete", "Add"}, {"(none)": {"Add": 1}, "Delete": {"Delete": 1}}),
        ({"delete"}, set(), {"Delete": {"(none)": 1}}),
        (set(), {"Add"}, {"(none)": {"Add": 1}}),
        (set(), set(), {}),
        ({"delete", "add"}, {"Zoom", "Crop"}, {"Add": {"Crop": 1, "Zoom": 1}, "Delete": {"Crop": 1, "Zoom": 1}}),
        ({"delete"}, None, {"Delete": {"(unreadable)": 1}}),
    ],
)
def test_a_missed_action_counts_against_everything_that_was_said_in_its_place(gold: Any, said: Any, wanted: Any):
    assert confusion([(frozenset(gold), None if said is None else frozenset(said))]) == wanted


def test_rows_without_an_answer_have_no_score_and_are_counted(rows: Path):
    (found,) = scored(rows, responses(said=SAID[:4]))
    assert found.unanswered == {"no response in the file": 2}
    assert found.parts["format"].count == 4
    assert (found.parts["format"].mean, found.as_zero["format"].mean) == (1.0, pytest.approx(4 / 6))
    assert sum(found.confusion["Delete"].values()) == 4


def test_a_second_model_is_compared_row_by_row(rows: Path):
    better = responses("better.jsonl", [reply(gold) for gold in GOLDS])
    first, second = scored(rows, responses(), better)
    assert first.rise == {}
    assert second.rise["format"].mean == pytest.approx(1 / 6)
    assert second.rise["action"].mean == pytest.approx(1 - first.parts["action"].mean)
    assert second.rise["action"].low >= 0


def test_the_command_prints_tables_and_writes_everything_as_json(rows: Path):
    result = ier1("evaluate", "--decomposition", responses(), "--rows", rows, "--out", "out")
    assert result.exit_code == 0, result.output
    for words in (
        "on 6 rows",
        "format rate",
        "action F1 by number of operations",
        "the longest of its gold's lists",
        "Delete -> Replace: 1",
        "95 %",
    ):
        assert words in result.stdout
    (kept,) = json.loads(Path("out/decomposition.json").read_text())["models"]
    assert kept["parts"]["format"]["mean"] == pytest.approx(5 / 6)
    assert kept["actions"]["Replace"]["recall"]["mean"] is None
    assert kept["actions"]["Delete"]["f1"]["low"] < kept["actions"]["Delete"]["f1"]["high"]


def test_a_model_is_asked_as_in_training_and_each_row_once(rows: Path):
    with chat_server(lambda body, number: reply(ONE)) as server:
        asked = ("evaluate", "--decomposition", f"openai:{server.url}#fake", "--rows", rows, "--out", "out")
        assert ier1(*asked).exit_code == 0
        assert len(server.bodies) == len(GOLDS)
        assert {body["temperature"] for body in server.bodies} == {0.0}
        again = ier1(*asked)
        assert again.exit_code == 0, again.output
        assert len(server.bodies) == len(GOLDS)
    (file,) = Path("out/responses").iterdir()
    assert len(file.read_text().splitlines()) == len(GOLDS)


def test_a_reply_that_cannot_be_read_is_scored_and_not_asked_for_again(rows: Path):
    with chat_server(lambda body, number: NONSENSE) as server:
        model = f"openai:{server.url}#fake"
        (found,) = scored(rows, model)
    assert len(server.bodies) == len(GOLDS)
    assert found.parts["format"].mean == 0
    assert not found.unanswered


def test_the_torn_last_line_of_a_killed_run_is_asked_for_again(rows: Path):
    with chat_server(lambda body, number: reply(ONE)) as server:
        model = f"openai:{server.url}#fake"
        scored(rows, model)
        (file,) = Path("out/responses").iterdir()
        file.write_bytes(file.read_bytes()[:-20])
        (found,) = scored(rows, model)
    assert len(server.bodies) == len(GOLDS) + 1
    assert found.parts["format"].count == len(GOLDS)
    assert all(json.loads(line) for line in file.read_text().splitlines())


def test_other_rows_in_the_same_folder_are_refused(rows: Path):
    asked = ("evaluate", "--decomposition", responses(), "--rows", rows, "--out", "out")
    assert ier1(*asked).exit_code == 0
    assert "begun with other rows (sample None, now 2)" in one_line(ier1(*asked, "--sample", 2))


@pytest.mark.parametrize(
    ("file", "text", "wanted"),
    [
        ("said.jsonl", '{"id": "r0"}\n', 'line 1: wanted {"id": "...", "response": "..."}'),
        ("said.jsonl", "{oops\n", "line 1: wanted"),
        ("said.jsonl", '{"id": "other", "response": "x"}\n', "answers none of the 6 rows"),
        ("said.jsonl", "", "answers none of the 6 rows"),
        ("said.jsonl", '{"id": "r0", "response": "x"}\n' * 2, "said.jsonl, line 2: a second response to 'r0'"),
        ("gone.jsonl", None, "gone.jsonl can't be read"),
    ],
)
def test_a_file_that_holds_no_responses_is_one_line(rows: Path, file: str, text: str | None, wanted: str):
    if text is not None:
        Path(file).write_text(text)
    assert wanted in one_line(ier1("evaluate", "--decomposition", file, "--rows", rows, "--out", "out"))


def test_responses_to_rows_that_there_are_not_are_told(rows: Path):
    said = responses()
    with Path(said).open("a") as lines:
        lines.writelines(json.dumps({"id": f"old-{number}", "response": "x"}) + "\n" for number in range(3))
    told: list[str] = []
    (found,) = scored(rows, said, told=told)
    assert told == ["said.jsonl answers 3 rows that there are not, the first 'old-0': they count for nothing"]
    assert found.rows == len(GOLDS)


def test_responses_to_rows_that_were_not_sampled_are_no_strangers(rows: Path):
    told: list[str] = []
    (found,) = scored(rows, responses(), told=told, sample=2)
    assert found.rows == 2
    assert not told


def test_a_sample_that_is_larger_than_the_rows_is_told(rows: Path):
    told: list[str] = []
    scored(rows, responses(), told=told, sample=100)
    assert told == [f"{rows} has 6 rows, fewer than --sample 100: all of them are taken"]


@pytest.mark.parametrize("images", [[], [{"bytes": b"", "path": None}], None])
def test_a_row_without_an_image_is_one_line_before_a_model_is_asked(rows: Path, images: Any):
    table = pq.read_table(rows).to_pylist()
    table[4]["images"] = table[5]["images"] = images
    kinds = pq.read_schema(rows)
    pq.write_table(pa.Table.from_pylist(table, schema=kinds), "bare.parquet")
    with chat_server(lambda body, number: reply(ONE)) as server:
        asked = ("--decomposition", f"openai:{server.url}#fake", "--rows", "bare.parquet", "--out", "out")
        line = one_line(ier1("evaluate", *asked))
    assert not server.bodies
    assert "row 'r" in line
    assert "of bare.parquet has no image (nor have 1 others)" in line
    # responses that are there already need no image
    assert ier1("evaluate", "--decomposition", responses(), "--rows", "bare.parquet", "--out", "two").exit_code == 0


def test_rows_that_are_no_gold_are_one_line(rows: Path):
    said = responses()
    for name, content in {
        "columns.parquet": [{"id": "r0", "gold": "x"}],
        "damaged.parquet": [{"id": "r0", "answer": "{oops"}],
        "twice.parquet": [{"id": "r0", "answer": ONE.to_json()}] * 2,
    }.items():
        pq.write_table(pa.Table.from_pylist(content), name)
    Path("broken.parquet").write_bytes(b"PAR1")
    wanted = {
        "columns.parquet": "has not the columns id and answer",
        "damaged.parquet": "the gold of row r0 is damaged",
        "twice.parquet": "has the id 'r0' twice",
        "broken.parquet": "can't be read after row 0",
    }
    for name, words in wanted.items():
        assert words in one_line(ier1("evaluate", "--decomposition", said, "--rows", name, "--out", "out"))


def test_a_server_that_takes_no_question_is_told_for_each_row(rows: Path):
    with chat_server(lambda body, number: error(400)) as server:
        (found,) = scored(rows, f"openai:{server.url}#fake")
    assert sum(found.unanswered.values()) == len(GOLDS)
    assert math.isnan(found.parts["format"].mean)
    assert found.as_zero["format"].mean == 0
    assert "rows without an answer" in table([found])


def test_the_help_of_the_command_loads_nothing_heavy():
    code = (
        "import sys\nfrom ier1_plugin.cli.main import app\nfrom typer.testing import CliRunner\n"
        "assert CliRunner().invoke(app, ['evaluate', '--help']).exit_code == 0\n"
        "loaded = [name for name in ('torch', 'numpy', 'datasets', 'PIL', 'openai', 'scipy') if name in sys.modules]\n"
        "assert not loaded, loaded"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
