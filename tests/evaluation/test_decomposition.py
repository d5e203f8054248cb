"""`ier1 evaluate --decomposition` and the quickstart's table: responses scored against gold rows as in training."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes.chain_helpers import no_settings_from_outside
from fakes.chat_fakes import NONSENSE, photo, reply
from fakes.chat_server import chat_server, error, raw
from fakes.commands import ier1, one_line

from ier1_plugin import prompts
from ier1_plugin.evaluation.decomposition import PARTS, Scored, confusion, main, score_all, table
from ier1_plugin.evaluation.responses import identity
from ier1_plugin.pipeline.agents import decomposition_request
from ier1_plugin.task.decomposer import Decomposer
from ier1_plugin.task.images import encode
from ier1_plugin.task.rows import format_row
from ier1_plugin.task.schema import Decomposition
from ier1_plugin.task.scoring import Gold, score_response

__all__ = ["no_settings_from_outside"]
ONE = Decomposition(("Delete",), ("lamp",), ())
TWO = Decomposition(("Delete", "Recoloring"), ("lamp", "sofa"), ("navy",))
GOLDS = [ONE, ONE, TWO, TWO, TWO, ONE]
REPLACE = Decomposition(("Replace",), ("lamp",), ())
# right, wrong action, right, half of it, unreadable, right
REPLIES = [reply(ONE), reply(REPLACE), reply(TWO), reply(ONE), NONSENSE, reply(ONE)]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return rows_file(tmp_path / "val.parquet", range(len(GOLDS)))


def rows_file(
    file: Path,
    photos: Iterable[int],
    golds: list[Decomposition] = GOLDS,
    id_of: Callable[[int], str] = "r{}".format,
) -> Path:
    """The rows r0, r1, ...; those with the same number among `photos` are about one photo."""
    made = []
    for number, (seed, gold) in enumerate(zip(photos, golds, strict=True)):
        image = encode(photo(56, 56, seed=seed), lossless=True)
        row = format_row(id=id_of(number), source="s", request=f"request {number}", image=image, gold=gold)
        made.append(row)
    pq.write_table(pa.Table.from_pylist(made), file)
    return file


def responses(name: str = "said.jsonl", replies: list[str] = REPLIES) -> str:
    lines = [json.dumps({"id": f"r{number}", "response": text}) for number, text in enumerate(replies)]
    Path(name).write_text("".join(f"{line}\n" for line in lines))
    return name


def scored(rows: Path, *models: str, warnings: list[str] | None = None, sample: int | None = None) -> list[Scored]:
    on_warning = (lambda line: None) if warnings is None else warnings.append
    return score_all(Path("out"), models, rows, sample=sample, seed=0, jobs=2, on_warning=on_warning)


def evaluate(rows: Path | str, *models: object, out: str = "out", **more: object) -> Any:
    options = [word for model in models for word in ("--decomposition", model)]
    options += [word for name, value in more.items() for word in (f"--{name}", value)]
    return ier1("evaluate", *options, "--rows", rows, "--out", out, exit_code=None)


def test_the_scores_are_those_of_the_training(rows: Path):
    (found,) = scored(rows, responses())
    each = [score_response(text, Gold.of(gold)) for text, gold in zip(REPLIES, GOLDS, strict=True)]
    for part in list(PARTS)[1:]:
        assert found.parts[part].mean == pytest.approx(sum(one[part] for one in each) / len(each))
        assert found.parts[part].count == len(each)
    assert found.parts["format"].mean == pytest.approx(5 / 6)
    assert found.parts["overall"].mean == pytest.approx(sum(sum(one.values()) / 4 for one in each) / len(each))
    assert set(found.by_operations) == {"1", "2"}
    assert found.by_operations["1"]["action"].mean == pytest.approx(2 / 3)
    assert found.by_operations["2"]["format"].mean == pytest.approx(2 / 3)
    assert found.by_operations["1"]["action"].count == 3


def test_of_several_responses_to_a_row_their_mean_counts(rows: Path):
    lines = [{"id": f"r{number}", "responses": [reply(gold), NONSENSE]} for number, gold in enumerate(GOLDS)]
    Path("sampled.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (found,) = scored(rows, "sampled.jsonl")
    assert (found.parts["overall"].mean, found.parts["overall"].count) == (0.5, 6)
    assert (found.actions["Delete"]["gold"], found.actions["Delete"]["both"]) == (12, 6)


def test_rows_about_one_photo_are_resampled_together(tmp_path: Path):
    golds, replies = GOLDS * 8, responses(replies=REPLIES * 8)
    apart = rows_file(tmp_path / "apart.parquet", range(len(golds)), golds)
    # the rows of a photo are all right or all wrong, so that they say no more than one of them
    together = rows_file(tmp_path / "together.parquet", [number % len(GOLDS) for number in range(len(golds))], golds)
    (alone,) = scored(apart, replies)
    (shared,) = score_all(Path("other"), [replies], together, sample=None, seed=0, jobs=2)
    assert (alone.photos, shared.photos) == (48, 6)
    assert "each row has a photo of its own" in table([alone])
    assert "6 photos" in table([shared])
    for one, other in (
        (alone.parts["action"], shared.parts["action"]),
        (alone.actions["Delete"]["f1"], shared.actions["Delete"]["f1"]),
        (alone.actions["Delete"]["recall"], shared.actions["Delete"]["recall"]),
    ):
        assert one.mean == other.mean
        assert 1.5 * (one.high - one.low) < other.high - other.low


def test_actions_are_counted_and_confusions_named(rows: Path):
    (found,) = scored(rows, responses())
    rates, shares = found.actions["Delete"], ("precision", "recall", "f1")
    assert (rates["gold"], rates["named"], rates["both"]) == (6, 4, 4)
    assert [rates[share].mean for share in shares] == pytest.approx([1.0, 4 / 6, 0.8])
    assert [rates[share].count for share in shares] == [4, 6, 6]
    replace = found.actions["Replace"]
    assert math.isnan(replace["recall"].mean)
    # one photo alone has no interval
    assert (replace["precision"].mean, math.isnan(replace["precision"].low)) == (0, True)
    assert found.confusion == {
        "Delete": {"Delete": 4, "Replace": 1, "(unreadable)": 1},
        "Recoloring": {"Recoloring": 1, "(none)": 1, "(unreadable)": 1},
    }


@pytest.mark.parametrize(
    ("gold", "named", "wanted"),
    [
        ({"Delete"}, {"Delete"}, {"Delete": {"Delete": 1}}),
        ({"Delete"}, {"Delete", "Add"}, {"(none)": {"Add": 1}, "Delete": {"Delete": 1}}),
        ({"Delete"}, set(), {"Delete": {"(none)": 1}}),
        (set(), {"Add"}, {"(none)": {"Add": 1}}),
        (set(), set(), {}),
        ({"Delete", "Add"}, {"Zoom", "Crop"}, {"Add": {"Crop": 1, "Zoom": 1}, "Delete": {"Crop": 1, "Zoom": 1}}),
        ({"Delete"}, None, {"Delete": {"(unreadable)": 1}}),
    ],
)
def test_a_missed_action_counts_against_everything_that_was_named_in_its_place(gold: Any, named: Any, wanted: Any):
    assert confusion([(frozenset(gold), None if named is None else frozenset(named))]) == wanted


def test_rows_without_an_answer_have_no_score_and_are_counted(rows: Path):
    (found,) = scored(rows, responses(replies=REPLIES[:4]))
    assert list(found.unanswered.values()) == [2]
    assert (found.parts["format"].count, found.parts["format"].mean) == (4, 1.0)
    assert found.as_zero["format"].mean == pytest.approx(4 / 6)
    assert sum(found.confusion["Delete"].values()) == 4
    with chat_server(lambda body, number: error(400)) as server:
        nothing = evaluate(rows, f"openai:{server.url}#fake", sample=4, out="other")
    assert nothing.exit_code == 1
    assert "4 rows without an answer" in nothing.stdout
    assert "no row was answered by openai:" in nothing.stderr


def test_a_row_that_fails_in_a_way_of_its_own_ends_nothing(rows: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(photo: Any, request: str, chat: Any) -> Any:
        if request.strip() == "request 3":
            raise KeyError("no such thing")
        return decomposition_request(photo, request, chat)

    message = {"role": "assistant", "content": None, "reasoning_content": "Hm."}
    thoughts = raw(json.dumps({"choices": [{"index": 0, "finish_reason": "stop", "message": message}]}))
    monkeypatch.setattr("ier1_plugin.evaluation.responses.decomposition_request", broken)
    with chat_server(lambda body, number: reply(ONE) if number else thoughts) as server:
        (found,) = scored(rows, f"openai:{server.url}#fake")
    assert found.parts["format"].count == 4
    assert found.unanswered["KeyError: 'no such thing'"] == 1
    assert any("reasoning" in reason for reason in found.unanswered)


def test_the_command_prints_tables_and_writes_everything_as_json(rows: Path):
    result = evaluate(rows, responses(), responses("better.jsonl", [reply(gold) for gold in GOLDS]))
    assert result.exit_code == 0, result.output
    for words in ("on 6 rows", "better.jsonl, rise", "+0.17 [+0.00, +0.50]", "Delete -> Replace: 1"):
        assert words in result.stdout
    first, second = json.loads(Path("out/decomposition.json").read_text())["models"]
    assert first["parts"]["format"]["mean"] == pytest.approx(5 / 6)
    assert first["actions"]["Replace"]["recall"]["mean"] is None
    assert first["actions"]["Delete"]["f1"]["low"] < first["actions"]["Delete"]["f1"]["high"]
    assert first["rise"] == {}
    assert second["rise"]["action"]["mean"] == pytest.approx(1 - first["parts"]["action"]["mean"])


def test_a_model_is_asked_as_in_training_and_each_row_once(rows: Path):
    answers = [reply(ONE), NONSENSE, error(400)]
    with chat_server(lambda body, number: answers[min(number, 2)] if number < 6 else reply(ONE)) as server:
        model = f"openai:{server.url.replace('//', '//me:secret@')}#fake"
        assert evaluate(rows, model).exit_code == 0
        assert {body["temperature"] for body in server.bodies} == {0.0}
        assert len(server.bodies) == len(GOLDS)
        # what can't be read is scored, and what was rejected is asked again
        again = evaluate(rows, model)
        assert again.exit_code == 0, again.output
        assert len(server.bodies) == len(GOLDS) + 4
    # the server may be gone now
    assert evaluate(rows, model).exit_code == 0
    lines = [json.loads(line) for line in Path("out/responses.jsonl").read_text().splitlines()]
    assert {line["id"] for line in lines} == {f"r{number}" for number in range(6)}
    assert {line["model"] for line in lines} == {f"openai:{server.url}#fake"}
    assert not any("secret" in file.read_bytes().decode("latin-1") for file in Path("out").iterdir())


def test_another_server_prompt_or_name_is_asked_anew(rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    prompt = tmp_path / "other.jinja"
    prompt.write_text("other: {{ content }}")
    with chat_server(lambda body, number: reply(ONE)) as one, chat_server(lambda body, number: NONSENSE) as two:
        for server in (one, two, one, two):
            monkeypatch.setenv("OPENAI_BASE_URL", server.url)
            (found,) = scored(rows, "openai:fake")
            assert found.parts["format"].mean == (server is one)
        assert [len(server.bodies) for server in (one, two)] == [6, 6]
        scored(rows, "openai:other")
        monkeypatch.setattr("ier1_plugin.evaluation.responses.prompt_path", lambda name: prompt)
        scored(rows, "openai:fake")
        assert len(two.bodies) == 18


def test_weights_that_were_trained_anew_into_the_same_folder_are_another_model(tmp_path: Path):
    folder = tmp_path / "weights"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_text("{}")
    (folder / "decompose.jinja").write_bytes(prompts.path("decompose").read_bytes())
    sizes = (28**2, 8 * 28**2, 28**2, 16 * 28**2, 28**2)
    facts = Decomposer(*sizes, "decompose.jinja", "", "cpu-standin", "float32", "0.1.0", max_response_length=4)
    facts.write(folder)
    before = identity(f"local:{folder}")
    assert before["max_pixels"] == 8 * 28**2
    (folder / "model.safetensors").write_text("{ }")
    (folder / "decompose.jinja").write_text("other: {{ content }}")
    after = identity(f"local:{folder}")
    assert {key for key in after if after[key] != before[key]} == {"files_sha256", "prompt_sha256"}


def test_a_model_of_the_hub_is_known_by_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import huggingface_hub.constants as hub

    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    # neither hub nor cache know it
    assert identity("local:owner/name")["revision"] is None
    cached = tmp_path / "hub" / "models--owner--name"
    (cached / "snapshots" / ("a" * 40)).mkdir(parents=True)
    (cached / "snapshots" / ("a" * 40) / "config.json").write_text("{}")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("a" * 40)
    assert identity("local:owner/name")["revision"] == "a" * 40


def test_nothing_is_asked_where_one_of_several_models_is_none(rows: Path):
    with chat_server(lambda body, number: reply(ONE)) as server:
        line = one_line(evaluate(rows, f"openai:{server.url}#fake", "local:nowhere"))
    assert "no model in nowhere: config.json is missing" in line
    assert not server.bodies


def test_a_folder_of_other_rows_of_an_earlier_version_or_with_damaged_notes_is_refused(rows: Path):
    assert evaluate(rows, responses()).exit_code == 0
    assert "sample None, now 2" in one_line(evaluate(rows, responses(), sample=2))
    Path("out/rows.json").write_text("{oops")
    assert "rows.json is damaged" in one_line(evaluate(rows, responses()))
    Path("old/responses").mkdir(parents=True)
    assert "earlier version" in one_line(evaluate(rows, responses(), out="old"))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('{"id": "r0"}\n', 'line 1: wanted {"id": "...", "response": "..."}'),
        ('{"id": "r0", "responses": "x"}\n', "line 1: wanted"),
        ("{oops\n", "line 1: wanted"),
        ('{"id": "other", "response": "x"}\n', "answers none of the 6 rows"),
        ('{"id": "r0", "response": "x"}\n' * 2, "said.jsonl, line 2: a second response to 'r0'"),
        (None, "said.jsonl can't be read"),
    ],
)
def test_a_file_that_holds_no_responses_is_one_line(rows: Path, text: str | None, wanted: str):
    if text is not None:
        Path("said.jsonl").write_text(text)
    assert wanted in one_line(evaluate(rows, "said.jsonl"))


def test_what_does_not_fit_the_rows_is_a_warning(rows: Path):
    file = responses()
    with Path(file).open("a") as lines:
        lines.writelines(json.dumps({"id": f"old-{number}", "response": "x\u2028y"}) + "\n" for number in range(3))
    warnings: list[str] = []
    (found,) = scored(rows, file, warnings=warnings, sample=100)
    assert found.rows == len(GOLDS)
    larger, unknown = warnings
    assert "has 6 rows, fewer than --sample 100" in larger
    assert "3 rows that do not exist, the first 'old-0'" in unknown


def test_a_row_without_an_image_is_one_line_before_a_model_is_asked(rows: Path):
    made = pq.read_table(rows).to_pylist()
    made[4]["images"], made[5]["images"] = [{"bytes": b"", "path": None}], None
    pq.write_table(pa.Table.from_pylist(made, schema=pq.read_schema(rows)), "bare.parquet")
    with chat_server(lambda body, number: reply(ONE)) as server:
        line = one_line(evaluate("bare.parquet", f"openai:{server.url}#fake"))
    assert not server.bodies
    assert "2 rows of bare.parquet have no image" in line
    # responses that are there already need no image
    assert evaluate("bare.parquet", responses(), out="two").exit_code == 0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([{"id": "r0", "gold": "x"}], "lacks the columns id and answer"),
        ([{"id": "r0", "answer": "{oops"}], "the gold of row r0 is damaged"),
        ([{"id": "r0", "answer": ONE.to_json()}] * 2, "has the id 'r0' twice"),
        (b"PAR1", "rows.parquet can't be read"),
        (None, "there is no file rows.parquet"),
    ],
)
def test_rows_that_are_no_gold_are_one_line(content: Any, words: str):
    if isinstance(content, bytes):
        Path("rows.parquet").write_bytes(content)
    elif content:
        pq.write_table(pa.Table.from_pylist(content), "rows.parquet")
    assert words in one_line(evaluate("rows.parquet", responses()))


def small_world(folder: str, greedy: Mapping[int, Decomposition], count: int = 50, good: int = 25) -> None:
    """Responses as `small_world.evaluate` leaves them: `good` of the sampled ones are right."""
    Path(folder).mkdir()
    for how in ("sampled", "greedy"):
        lines = []
        for number in range(count):
            right = reply(greedy.get(number, ONE))
            texts = [right] if how == "greedy" else [reply(ONE) if number < good else NONSENSE] * 2
            lines.append(json.dumps({"id": row_id(number), "responses": texts}) + "\n")
        Path(folder, f"{how}.jsonl").write_text("".join(lines))


def row_id(number: int) -> str:
    """Of every fifth row only the photo tells the subject."""
    return f"val-{number:05d}.brighter@" + ("cat:0,0,90,100" if number % 5 == 4 else "photo")


@pytest.fixture
def small_world_rows(tmp_path: Path) -> Path:
    return rows_file(tmp_path / "val.parquet", range(60), [ONE] * 60, row_id)


WRONG = Decomposition(("Delete",), ("cat",), ())


@pytest.mark.parametrize(
    ("no_learning", "shuffled", "wanted"),
    [
        ({0: WRONG}, dict.fromkeys(range(4, 50, 5), WRONG), ["nothing rises", "is read off the photo"]),
        ({}, {}, ["moved without learning", "does not look at the photo"]),
    ],
)
def test_the_quickstart_gets_before_after_rise_and_its_controls(
    small_world_rows: Path, no_learning: Any, shuffled: Any, wanted: list[str], capsys: pytest.CaptureFixture[str]
):
    small_world("before", {0: WRONG})
    small_world("after", {}, good=50)
    small_world("no-learning", no_learning, good=26)
    small_world("shuffled", shuffled)
    folders = [f"--{name}={name}" for name in ("before", "after", "no-learning", "shuffled")]
    assert main([f"--rows={small_world_rows}", *folders, "--out=report.txt"]) == 0
    printed = capsys.readouterr().out
    assert "on 50 rows" in printed
    assert "0.50 [0.36, 0.64]   1.00 [1.00, 1.00]   +0.50 [+0.36, +0.64]" in printed
    assert "10 rows whose subject" in printed
    assert all(text in printed for text in wanted)
    assert Path("report.txt").read_text() in printed


def test_responses_to_different_rows_are_not_compared(small_world_rows: Path, capsys: pytest.CaptureFixture[str]):
    small_world("before", {})
    small_world("after", {}, count=49)
    for after, words in (("after", "different rows"), ("missing", "can't be read")):
        arguments = [f"--rows={small_world_rows}", "--before=before", f"--after={after}", "--out=report.txt"]
        assert main(arguments) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert words in line
