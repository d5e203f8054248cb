"""`ier1 evaluate`, as a person calls it: a small benchmark, systems that compute, a judge behind loopback HTTP."""

from __future__ import annotations

import csv
import json
import os
import random
import shlex
import sys
from dataclasses import asdict, replace
from io import BytesIO
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from fakes.benchmark_rows import image, psr, table
from fakes.chain_helpers import BRIGHTER, no_settings_from_outside
from fakes.chat_fakes import photo, reply
from fakes.chat_server import ChatServer, chat_server, completion
from fakes.commands import ier1, one_line, refused
from fakes.evaluate_runs import (
    ITEMS,
    a_benchmark,
    a_judge,
    evaluate,
    facts,
    judgements,
    looked_at_by,
    scores,
    system,
)
from fakes.judge_runs import image as colour_image
from fakes.judge_server import colour, flaky, honest, serve_judge, verdict
from PIL import Image

from ier1_plugin.evaluation.costs import Usage, usage, usage_lines
from ier1_plugin.evaluation.folder import read_items
from ier1_plugin.evaluation.records import BenchmarkItem, Score
from ier1_plugin.pipeline.system import System, run_settings
from ier1_plugin.runs.folder import locked

__all__ = ["a_benchmark", "a_judge", "no_settings_from_outside"]


@pytest.fixture
def original(benchmark: str) -> tuple[str, ...]:
    """Arguments: the benchmark, and a system that asks no model."""
    return "--benchmark", benchmark, "--system", system("Original")


@pytest.fixture
def world() -> tuple[str, ...]:
    """Arguments: four items whose edits are known, and a system that asks no model."""
    return "--benchmark", "small-world:400-404", "--system", system("Original", editor="small-world")


def lines_of(file: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(file).read_text(encoding="utf-8").splitlines()]


def test_a_whole_evaluation_leaves_every_edit_and_judgement_as_plain_files(benchmark: str, judge: ChatServer):
    Path("finished").mkdir()
    for number in range(ITEMS - 1):
        photo(64, 48, seed=9 + number).save(f"finished/item {number}.png")
    with chat_server(lambda body, number: reply(BRIGHTER)) as planner:
        chain = {"method": "imageedit-r1", "decomposer": f"openai:{planner.url}#fake", "sequencer": "rule"}
        systems = [system("Original"), system("The chain", **chain), system("Finished", editor="folder:finished")]
        result = evaluate("--benchmark", benchmark, "--system", *systems, "--human", *looked_at_by(judge))
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == [str(Path("out").resolve())]
    names = ["Original", "The chain", "Finished", "human"]
    assert [one["name"] for one in facts()["systems"]] == names
    found = scores()
    assert len(found) == len(names) * ITEMS
    assert found["Finished", "item 5"].startswith("missing image: ")
    assert "has no image for 'item 5'" in found["Finished", "item 5"]
    assert "nobody has edited item 0" in found["human", "item 0"]
    assert sum(isinstance(score, str) for score in found.values()) == 2
    for one, count in zip(facts()["systems"], (6, 6, 5, 5), strict=True):
        assert len(list(Path("out", one["folder"], "images").glob("*.png"))) == count
        assert len(lines_of(f"out/{one['folder']}/results.jsonl")) == ITEMS
    assert "Finished: 5 images, 1 failed" in result.stderr
    assert "22 scored, 2 unscored" in result.stderr
    items = [BenchmarkItem.from_dict(line) for line in lines_of("out/items.jsonl")]
    assert sorted(item.id for item in items) == [f"item {number}" for number in range(ITEMS)]
    assert [item.id for item in items] == Path("out/sample.txt").read_text().splitlines()


def test_a_second_run_edits_nothing_and_asks_for_new_samples_only(original: tuple[str, ...], judge: ChatServer):
    before = {}
    for samples, asked in ((2, 2), (2, 2), (3, 3)):
        result = evaluate(*original, *looked_at_by(judge), "--samples", samples)
        assert result.exit_code == 0, result.output
        assert len(judge.log) == asked * ITEMS
        made = {file: file.stat().st_mtime_ns for file in Path("out").rglob("*.png")}
        before = before or made
        assert made == before
    assert [one["samples"] for one in facts()["judges"]] == [3]


def test_further_systems_and_judges_join_what_is_there(original: tuple[str, ...], judge: ChatServer):
    sample = (*original, *looked_at_by(judge), "--sample", 3)
    assert evaluate(*sample).exit_code == 0
    joined = evaluate(*sample, "--system", system("Two"), "--judge", f"openai:{judge.url}#other-vlm")
    assert joined.exit_code == 0, joined.output
    assert [one["name"] for one in facts()["systems"]] == ["Original", "Two"]
    models = [f"openai:{judge.url}#{model}" for model in ("fake-vlm", "other-vlm")]
    assert [one["name"] for one in facts()["judges"]] == models
    assert len(judgements()) == 12
    # equal edits of two systems are one question
    assert len(judge.log) == 6


def test_other_settings_are_refused_in_the_same_folder(original: tuple[str, ...], judge: ChatServer):
    asked = (*original, "--sample", 3)
    assert evaluate(*asked).exit_code == 0
    for changed, wanted in (
        (("--seed", "5"), "seed 0, now 5"),
        (("--sample", "2"), "sample 3, now 2"),
        (("--where", "id=item 1"), "id None, now 'item 1'"),
    ):
        line = one_line(evaluate(*asked, *changed))
        assert wanted in line
        assert "choose another --out" in line
    assert evaluate(*asked, *looked_at_by(judge)).exit_code == 0
    run = Path("out/evaluation.json")
    run.write_text(run.read_text().replace(facts()["judges"][0]["rubric_sha256"], "0123456789abcdef"))
    assert "judged by another rubric (01234567, now " in one_line(evaluate(*asked, *looked_at_by(judge)))
    system("Original", seed=4)
    assert "system Original: seed 0, now 4" in one_line(evaluate(*asked))


def test_a_folder_that_cannot_be_gone_on_with_is_one_line(original: tuple[str, ...]):
    with locked(Path("out")):
        assert "another run is writing to" in one_line(evaluate(*original))
    assert evaluate(*original).exit_code == 0
    Path("out/judgements").mkdir()
    for line in (one_line(evaluate(*original)), refused("report", "out")):
        assert "of an earlier version" in line
    Path("out/judgements").rmdir()
    for file in ("items.jsonl", "evaluation.json"):
        Path("out", file).write_text('{"oops": [')
        assert f"{file} is damaged" in one_line(evaluate(*original))


def test_an_evaluation_goes_on_in_a_folder_that_was_moved(world: tuple[str, ...]):
    assert evaluate(*world, "--judge", "pixel", out="here").exit_code == 0
    before = scores("here")
    Path("here").rename("there")
    assert "4 images, 0 failed" in evaluate(*world, "--judge", "pixel", out="there").stderr
    assert scores("there") == before


def test_a_yaml_file_has_the_same_settings_and_the_command_line_wins(benchmark: str, judge: ChatServer):
    config = {"benchmark": benchmark, "out": "out", "system": [system("Original")], "sample": 3, "retry-failed": True}
    config |= {"judge": [f"openai:{judge.url}#fake-vlm"], "where": {"id": "item 1"}, "samples": 2}
    Path("config.yaml").write_text(json.dumps(config))
    ier1("evaluate", "--config", "config.yaml", system("Two"), "--samples", 1)
    assert [one["name"] for one in facts()["systems"]] == ["Original", "Two"]
    assert (facts()["benchmark"]["sample"], facts()["benchmark"]["where"]) == (3, {"id": "item 1"})
    assert [(one.item, one.sample) for one in judgements()] == [("item 1", 0)] * 2
    assert len(lines_of("out/judgements.jsonl")) == 2
    Path("config.yaml").write_text("benchmarks: psr\n")
    assert "there is no benchmarks" in refused("evaluate", "--config", "config.yaml")


def test_a_sample_is_random_and_its_ids_repeat_it(original: tuple[str, ...]):
    samples = {}
    for seed in range(3):
        assert evaluate(*original, "--sample", 3, "--seed", seed, out=f"seed-{seed}").exit_code == 0
        samples[seed] = Path(f"seed-{seed}/sample.txt").read_text()
    assert len(set(samples.values())) > 1
    assert evaluate(*original, "--sample", 2, out="smaller").exit_code == 0
    assert samples[0].startswith(Path("smaller/sample.txt").read_text())
    assert evaluate(*original, "--ids", "seed-1/sample.txt", out="again").exit_code == 0
    assert Path("again/sample.txt").read_text() == samples[1]
    assert Path("again/items.jsonl").read_text() == Path("seed-1/items.jsonl").read_text()


def test_a_request_with_a_line_separator_in_it_stays_one_request(tmp_path: Path):
    item = BenchmarkItem("a", "one\u2028two\u0085three", "a.png", "a")
    (tmp_path / "items.jsonl").write_text(json.dumps(asdict(item), ensure_ascii=False) + "\n", encoding="utf-8")
    assert read_items(tmp_path) == [item]


def test_rows_that_cannot_be_used_are_reported_and_listed(original: tuple[str, ...]):
    with Path("tiny.jsonl").open("a") as lines:
        lines.write('{oops\n{"id": "gone", "image": "photos/gone.png", "request": "flip it"}\n')
        lines.write('{"id": "text", "image": "tiny.jsonl", "request": "flip it"}\n')
    result = evaluate(*original)
    assert result.exit_code == 0, result.output
    assert "left out of tiny: 3 (" in result.stderr
    assert {line["id"] for line in lines_of("out/left_out.jsonl")} == {"tiny-7", "gone", "text"}
    assert len(lines_of("out/items.jsonl")) == ITEMS


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ("", "wanted one of --benchmark and --decomposition"),
        ("--benchmark psr --decomposition x.jsonl", "wanted one of --benchmark and --decomposition"),
        ("--benchmark TINY", "name a --system, --human or --sanity"),
        ("--benchmark TINY --sanity", "name one with --judge"),
        ("--benchmark nothing --human", "there is no benchmark 'nothing'"),
        ("--benchmark TINY --system gone.yaml", "gone.yaml can't be read"),
        ("--benchmark TINY --human --ids gone.txt", "--ids: gone.txt can't be read"),
        ("--benchmark TINY --human --ids tiny.jsonl --sample 2", "wanted one of the two"),
        ("--benchmark TINY --human --ids tiny.jsonl", "is --ids of another one?"),
        ("--benchmark TINY --human --columns request", "wanted NAME=VALUE"),
        ("--benchmark TINY --human --jobs 0", "jobs is 0; wanted 1 to 1024"),
        ("--benchmark TINY --human --sample 0", "sample is 0; wanted 1 or more"),
        ("--benchmark TINY --human --prices tiny.jsonl", "--prices: "),
        ("--benchmark TINY --human --judge gpt", "gpt"),
        ("--benchmark TINY --human --judge openai:gpt-4o", "OPENAI_API_KEY is not set"),
        ("--benchmark TINY --human --where 'id=item 0'", "none of the 1 items of tiny has an edit by a person"),
        ("--benchmark TINY --human --rows x.parquet", "--rows can't be used with --benchmark"),
        ("--decomposition x.jsonl --sanity --judge pixel", "--judge, --sanity can't be used with"),
        ("--decomposition x.jsonl", "--decomposition needs --rows"),
        ("--decomposition x.jsonl --rows gone.parquet", "there is no file gone.parquet"),
    ],
)
def test_what_cannot_be_evaluated_is_one_line(benchmark: str, arguments: str, wanted: str):
    assert wanted in one_line(evaluate(*shlex.split(arguments.replace("TINY", benchmark))))


def test_a_system_that_cannot_be_had_is_reported_before_another_one_is_paid_for(original: tuple[str, ...]):
    Path("other.yaml").write_text(Path("Original.yaml").read_text())
    assert "called 'Original' already" in one_line(evaluate(*original, "other.yaml"))
    line = one_line(evaluate(*original, system("Bad", editor="folder:nowhere")))
    assert "folder:nowhere is not a folder" in line
    assert os.listdir("out") == [".lock"]
    Path("somewhere").mkdir()
    assert evaluate(*original, system("Bad", editor="folder:somewhere")).exit_code == 1
    assert [one["name"] for one in facts()["systems"]] == ["Original", "Bad"]


def test_a_system_that_edited_nothing_and_a_judge_that_scored_nothing_are_an_error_with_the_reason(
    original: tuple[str, ...], judge: ChatServer
):
    # pillow refuses each item for its own words, which does not end the run
    text = Path("tiny.jsonl").read_text()
    Path("tiny.jsonl").write_text(text.replace("flip it horizontally", "make the sofa navy") * 3)
    result = evaluate(*original, out="nothing")
    assert result.exit_code == 1
    assert "Original: 0 images, 18 failed (most often: pillow can't do 'make the sofa navy" in result.stderr
    assert "nothing was edited or scored by Original; " in result.stderr.splitlines()[-1]
    Path("tiny.jsonl").write_text(text)
    judge.respond = lambda asked: completion("I like it.")
    result = evaluate(*original, *looked_at_by(judge))
    assert result.exit_code == 1
    assert "0 scored, 6 unscored (most often: unreadable: no JSON in 'I like it.')" in result.stderr
    reported = ier1("report", "out", exit_code=1)
    assert "nothing was scored: 6 unscored (most often: unreadable: " in reported.stderr
    # one score is enough, and an earlier judge without any is not this command's
    judge.respond = lambda asked: honest(asked) if asked.request.endswith("!!") else completion("Nice.")
    assert evaluate(*original, "--judge", f"openai:{judge.url}#another").exit_code == 0
    ier1("report", "out")


def test_judges_get_the_tokens_that_they_are_given_and_a_reply_that_is_cut_off_says_so(
    original: tuple[str, ...], judge: ChatServer
):
    judge.respond = lambda asked: completion("Well, let me think", "length")
    assert evaluate(*original, *looked_at_by(judge)).exit_code == 1
    assert {asked.body["max_completion_tokens"] for asked in judge.log} == {4096}
    assert all(one.startswith("cut off: ") and "--judge-max-tokens" in one for one in scores().values())
    judge.respond = honest
    result = evaluate(*original, *looked_at_by(judge), "--judge-max-tokens", 9000, "--retry-failed")
    assert result.exit_code == 0, result.output
    assert judge.log[-1].body["max_completion_tokens"] == 9000
    assert [one["max_tokens"] for one in facts()["judges"]] == [9000]


def test_a_package_that_is_missing_is_one_line_with_the_cure(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    line = one_line(evaluate("--benchmark", "psr", "--system", system("Original")))
    assert "datasets" in line
    assert "pip install -e '.[evaluation]'" in line


def test_images_that_come_as_bytes_are_written_out_upright_and_once():
    buffer, edit = BytesIO(), BytesIO()
    turned = Image.Exif()
    turned[0x0112] = 6
    photo(64, 48).save(buffer, "JPEG", exif=turned)
    photo(64, 48, seed=3).save(edit, "PNG")
    rows = [
        psr("1aaa", instruction=request, source_image=image(buffer.getvalue()), human_edited_image=image(human))
        for request, human in (
            ("flip it horizontally", edit.getvalue()),
            ("flip it horizontally", edit.getvalue()),
            ("mirror it, please", b"no image"),
        )
    ]
    data = table(Path(), rows)
    result = evaluate("--benchmark", "psr", "--data", data, "--system", system("Original"), "--human")
    assert result.exit_code == 0, result.output
    (item,) = read_items(Path("out"))
    assert item.human_images == ("inputs/psr-1aaa.human-1.png",)
    assert (item.cluster, item.difficulty) == ("1aaa", "low")
    with Image.open(Path("out", item.image)) as source:
        assert source.size == (48, 64)
    assert "1 x a human edit: not an image" in result.stderr
    assert "1 x a second request of one item: 'mirror it, please'" in result.stderr
    assert os.listdir("out/systems/human/images") == ["psr-1aaa.png"]


def test_a_decomposer_that_was_trained_anew_in_its_folder_is_another_system():
    Path("decomposer").mkdir()
    seen = []
    for weights in (b"first", b"first", b"other"):
        Path("decomposer/model.safetensors").write_bytes(weights)
        seen.append(run_settings(System(decomposer="local:decomposer"))["decomposer_sha256"])
    assert seen[0] == seen[1] != seen[2]


@pytest.mark.slow
def test_the_table_of_a_report_is_the_one_of_the_known_scores_though_three_in_ten_answers_fail():
    draw, every = random.Random(0), [Score(f, q, p) for f in range(5) for q in range(4) for p in range(4)]
    ids, names = [f"item-{number:03}" for number in range(16)], ("system-0", "system-1")
    scores = {(name, id): score for id in ids for name, score in zip(names, draw.sample(every, 2), strict=True)}
    # written into the edits in folders; one edit is not there
    del scores["system-1", "item-003"]
    for (name, id), score in scores.items():
        colour_image(Path(name), id, colour(score))
    rows = []
    for number, id in enumerate(ids):
        file = colour_image(Path("sources"), id, (10 + number, 10 + number, 10 + number))
        rows.append({"id": id, "image": str(file), "request": f"make it number {number}"})
    Path("known.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = [system(name, editor=f"folder:{name}") for name in names]
    with serve_judge(flaky(seed=3)) as server:
        asked = ("--benchmark", "jsonl:known.jsonl", "--system", *files, *looked_at_by(server), "--samples", 2)
        done = evaluate(*asked, "-j", 16)
        assert done.exit_code == 0, done.output
        assert 0.2 < 1 - server.answered.total() / len(server.log) < 0.4
    assert len(judgements()) == 2 * 2 * 16
    assert ier1("report", "out", "--out", "report", "--examples", 1).exit_code == 0
    with Path("report/scores.csv").open() as lines:
        cells = {row["row"]: row for row in csv.DictReader(lines) if row["judge"] and "Table 1" in row["table"]}
    for name in names:
        known = [score.total for (system, _), score in scores.items() if system == name]
        assert float(cells[name]["mean"]) == pytest.approx(fmean(known), abs=1e-4)
        assert float(cells[name]["mean_failures_as_0"]) == pytest.approx(sum(known) / 16, abs=1e-4)
        assert (int(cells[name]["scored"]), int(cells[name]["items"])) == (len(known), 16)
    assert "[incomplete: a cell covers only 93.7 % of its items]" in cells[names[0]]["table"]


# what it costs


def prices(**given: Any) -> tuple[str, str]:
    Path("prices.json").write_text(json.dumps(given))
    return "--prices", "prices.json"


def of_judge() -> Usage:
    return usage(Path("out"), facts())[-1]


def test_what_an_evaluation_costs_is_reported_where_prices_are_given(original: tuple[str, ...], judge: ChatServer):
    name = f"openai:{judge.url}#fake-vlm"
    paid = prices(editors={"pillow": 0.5}, judges={name: {"prompt": 1e6, "completion": 0}})
    # a price without the settings of the judge counts for a judge with settings too
    result = evaluate(*original, *looked_at_by(judge), "--samples", 2, *paid)
    assert result.exit_code == 0, result.output
    assert "Original: 6 images, 0 failed; 3.00" in result.stderr
    tokens = sum(one.prompt_tokens or 0 for one in judgements())
    assert tokens == 2 * ITEMS * 700
    assert f"{3 + tokens:,.2f}" in result.stderr
    assert (of_judge().name, of_judge().cost) == (f"{name} (temperature=1.0)", tokens)


def test_a_price_of_something_that_is_not_here_is_refused(original: tuple[str, ...], judge: ChatServer):
    for given, wanted in (
        ({"editors": {"pilow": 1}}, "editors has 'pilow', which this evaluation lacks; it has pillow"),
        ({"judges": {"gpt": {"prompt": 1, "completion": 1}}}, "judges has 'gpt', which this evaluation lacks"),
    ):
        assert wanted in one_line(evaluate(*original, *looked_at_by(judge), *prices(**given)))
    assert not judge.log


def test_replies_without_a_count_of_tokens_have_no_known_cost(original: tuple[str, ...], judge: ChatServer):
    def uncounted(asked: Any) -> Any:
        answer = honest(asked)
        return replace(answer, body=json.dumps(json.loads(answer.body) | {"usage": None}).encode())

    judge.respond = uncounted
    paid = prices(judges={f"openai:{judge.url}#fake-vlm": {"prompt": 1, "completion": 1}})
    assert f"{ITEMS} replies came without" in evaluate(*original, *looked_at_by(judge), *paid).stderr
    assert of_judge().cost is None
    assert not any(line.startswith("in all") for line in usage_lines(usage(Path("out"), facts())))


def test_several_turns_are_priced_as_several_edits(tmp_path: Path):
    folder = tmp_path / "systems/chain"
    folder.mkdir(parents=True)
    lines = [
        {"id": "a", "status": "edited", "sub_requests": ["one", "two", "three"]},
        {"id": "b", "status": "edited", "sub_requests": ["one"]},
        {"id": "c", "status": "failed", "error": "no luck"},
    ]
    (folder / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    settings = {"editor": "nano-banana", "mode": "multi-turn"}
    one = {"name": "Chain", "folder": "systems/chain", "settings": settings}
    run = {"systems": [one], "judges": [], "prices": {"editors": {"nano-banana": 0.25}}}
    assert usage(tmp_path, run) == [Usage("Chain", "2 images, 1 failed (most often: no luck); 4 edits", 1.0, 2)]


# what --sanity leaves behind


@pytest.fixture
def blind(judge: ChatServer) -> ChatServer:
    """Says the same of every edit."""
    judge.respond = lambda asked: completion(verdict(Score(3, 2, 2)))
    return judge


def test_a_judge_that_passes_says_so_in_evaluation_json_and_one_that_was_not_tried_too(
    world: tuple[str, ...], judge: ChatServer
):
    assert evaluate(*world, *looked_at_by(judge)).exit_code == 0
    assert [one["sanity"] for one in facts()["judges"]] == ["not tried"]
    for sanity in (("--sanity",), ()):
        tried = evaluate(*world, "--judge", "pixel", *sanity)
        assert tried.exit_code == 0, tried.output
        assert facts()["judges"][1]["sanity"].startswith("passed on 4 items, ")


def test_a_judge_that_ignores_its_images_edits_nothing_and_keeps_no_other_one_out(
    world: tuple[str, ...], blind: ChatServer
):
    result = evaluate(*world, "--sanity", *looked_at_by(blind))
    assert result.exit_code == 1
    assert "not to be trusted: openai:" in result.stderr
    assert not Path("out/systems").exists()
    assert facts()["judges"] == []
    assert len(facts()["failed_sanity"][f"openai:{blind.url}#fake-vlm"]["why"]) > 4
    assert "failed its sanity check here on" in one_line(evaluate(*world, *looked_at_by(blind)))
    result = evaluate(*world, "--sanity", "--judge", "pixel")
    assert result.exit_code == 0, result.output
    assert [one["name"] for one in facts()["judges"]] == ["pixel"]


def test_a_judge_that_had_joined_before_it_failed_says_so_and_its_check_is_paid_for(
    world: tuple[str, ...], blind: ChatServer
):
    paid = prices(judges={f"openai:{blind.url}#fake-vlm": {"prompt": 1e6, "completion": 0}})
    assert evaluate(*world, *looked_at_by(blind), *paid).exit_code == 0
    assert evaluate(*world, *looked_at_by(blind), *paid, "--sanity").exit_code == 1
    assert [one["sanity"].startswith("FAILED on 4 items") for one in facts()["judges"]] == [True]
    assert len(blind.log) > 4
    assert of_judge().cost == 700 * len(blind.log)


def test_to_try_a_judge_alone_nothing_else_of_a_benchmark_is_written():
    alone = ("--benchmark", "small-world", "--judge", "pixel")
    assert evaluate(*alone, "--sanity").exit_code == 0
    assert not Path("out/items.jsonl").exists()
    joined = evaluate(*alone, "--sample", 2, "--system", system("Original", editor="small-world"))
    assert joined.exit_code == 0, joined.output
    assert facts()["benchmark"]["sampled"] == 2
    assert facts()["judges"][0]["sanity"].startswith("passed on 12 items, ")
