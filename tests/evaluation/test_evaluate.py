"""`ier1 evaluate`, as a person calls it: a small benchmark, systems that compute, a judge behind loopback HTTP."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fakes.chain_helpers import BRIGHTER, ier1, no_settings_from_outside, one_line
from fakes.chat_fakes import chat_server, photo, reply
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
from fakes.judge_server import JudgeServer

from ier1_plugin.evaluation.folder import read_items
from ier1_plugin.evaluation.records import BenchmarkItem
from ier1_plugin.runs.folder import locked

__all__ = ["a_benchmark", "a_judge", "no_settings_from_outside"]


def test_a_whole_evaluation_leaves_every_edit_and_judgement_as_plain_files(benchmark: str, judge: JudgeServer):
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
    for name, count in zip(names, (6, 6, 5, 5), strict=True):
        folder = Path("out", next(one["folder"] for one in facts()["systems"] if one["name"] == name))
        assert len(list((folder / "images").glob("*.png"))) == count
        assert len((folder / "results.jsonl").read_text().splitlines()) == ITEMS
    assert "Finished: 5 images, 1 failed" in result.stderr
    assert "22 scored, 2 unscored" in result.stderr
    lines = Path("out/items.jsonl").read_text(encoding="utf-8").splitlines()
    items = [BenchmarkItem.from_dict(json.loads(line)) for line in lines]
    assert sorted(item.id for item in items) == [f"item {number}" for number in range(ITEMS)]
    assert [item.id for item in items] == Path("out/sample.txt").read_text().splitlines()


def test_a_second_run_edits_nothing_and_asks_for_nothing(benchmark: str, judge: JudgeServer):
    asked = ("--benchmark", benchmark, "--system", system("Original"), *looked_at_by(judge), "--samples", 2)
    assert evaluate(*asked).exit_code == 0
    assert len(judge.log) == 2 * ITEMS
    before = {file: file.stat().st_mtime_ns for file in Path("out").rglob("*.png")}
    again = evaluate(*asked)
    assert again.exit_code == 0, again.output
    assert len(judge.log) == 2 * ITEMS
    assert {file: file.stat().st_mtime_ns for file in Path("out").rglob("*.png")} == before


def test_further_systems_and_judges_join_what_is_there(benchmark: str, judge: JudgeServer):
    sample = ("--benchmark", benchmark, "--sample", 3)
    assert evaluate(*sample, "--system", system("Original"), *looked_at_by(judge)).exit_code == 0
    other = ("--judge", f"openai:{judge.url}#other-vlm")
    joined = evaluate(*sample, "--system", "Original.yaml", system("Two"), *looked_at_by(judge), *other)
    assert joined.exit_code == 0, joined.output
    assert [one["name"] for one in facts()["systems"]] == ["Original", "Two"]
    assert [one["name"] for one in facts()["judges"]] == [
        f"openai:{judge.url}#fake-vlm",
        f"openai:{judge.url}#other-vlm",
    ]
    assert len(judgements()) == 12
    # equal edits of two systems are one question
    assert len(judge.log) == 6


@pytest.mark.parametrize(
    ("changed", "wanted"),
    [
        (("--seed", "5"), "seed 0, now 5"),
        (("--sample", "2"), "sample 3, now 2"),
        (("--where", "id=item 1"), "id None, now 'item 1'"),
    ],
)
def test_other_settings_are_refused_in_the_same_folder(benchmark: str, changed: tuple[str, str], wanted: str):
    asked = ("--benchmark", benchmark, "--system", system("Original"), "--sample", 3)
    assert evaluate(*asked).exit_code == 0
    line = one_line(evaluate(*asked, *changed))
    assert "was begun with other settings" in line
    assert wanted in line
    assert "choose another --out" in line


def test_more_judgements_of_the_same_edits_may_follow(benchmark: str, judge: JudgeServer):
    asked = ("--benchmark", benchmark, "--system", system("Original"), *looked_at_by(judge))
    for samples in (2, 3):
        assert evaluate(*asked, "--samples", samples).exit_code == 0
    assert len(judge.log) == 3 * ITEMS
    assert [one["samples"] for one in facts()["judges"]] == [3]


def test_a_system_that_has_changed_is_refused_in_the_same_folder(benchmark: str):
    assert evaluate("--benchmark", benchmark, "--system", system("Original")).exit_code == 0
    line = one_line(evaluate("--benchmark", benchmark, "--system", system("Original", seed=4)))
    assert "system Original: seed 0, now 4" in line


def test_a_folder_takes_one_run_at_a_time(benchmark: str):
    with locked(Path("out")):
        line = one_line(evaluate("--benchmark", benchmark, "--system", system("Original")))
    assert "another run is writing to" in line


def test_a_yaml_file_has_the_same_settings_and_the_command_line_wins(benchmark: str, judge: JudgeServer):
    config = {"benchmark": benchmark, "out": "out", "system": [system("Original")], "sample": 3, "retry-failed": True}
    config |= {"judge": [f"openai:{judge.url}#fake-vlm"], "where": {"id": "item 1"}, "samples": 2}
    Path("config.yaml").write_text(json.dumps(config))
    result = ier1("evaluate", "--config", "config.yaml", system("Two"), "--samples", 1)
    assert result.exit_code == 0, result.output
    assert [one["name"] for one in facts()["systems"]] == ["Original", "Two"]
    assert (facts()["benchmark"]["sample"], facts()["benchmark"]["where"]) == (3, {"id": "item 1"})
    assert [(one.item, one.sample) for one in judgements()] == [("item 1", 0)] * 2
    # what was judged is there for people to read, too
    assert len(Path("out/judgements.jsonl").read_text().splitlines()) == 2
    Path("config.yaml").write_text("benchmarks: psr\n")
    assert "there is no benchmarks" in one_line(ier1("evaluate", "--config", "config.yaml"))


def test_a_folder_of_an_earlier_version_is_refused(benchmark: str):
    asked = ("--benchmark", benchmark, "--system", system("Original"))
    assert evaluate(*asked).exit_code == 0
    Path("out/judgements").mkdir()
    for line in (one_line(evaluate(*asked)), one_line(ier1("report", "out"))):
        assert "of an earlier version" in line


def test_a_sample_is_random_and_its_ids_repeat_it(benchmark: str):
    asked = ("--benchmark", benchmark, "--system", system("Original"))
    samples = {}
    for seed in range(3):
        assert evaluate(*asked, "--sample", 3, "--seed", seed, out=f"seed-{seed}").exit_code == 0
        samples[seed] = Path(f"seed-{seed}/sample.txt").read_text()
    assert len(set(samples.values())) > 1
    assert evaluate(*asked, "--sample", 2, out="smaller").exit_code == 0
    assert samples[0].startswith(Path("smaller/sample.txt").read_text())
    assert evaluate(*asked, "--ids", "seed-1/sample.txt", out="again").exit_code == 0
    assert Path("again/sample.txt").read_text() == samples[1]
    assert Path("again/items.jsonl").read_text() == Path("seed-1/items.jsonl").read_text()


def test_a_request_with_a_line_separator_in_it_stays_one_request(tmp_path: Path):
    item = BenchmarkItem("a", "one\u2028two\u0085three", "a.png", "a")
    (tmp_path / "items.jsonl").write_text(json.dumps(item.as_dict(), ensure_ascii=False) + "\n", encoding="utf-8")
    assert read_items(tmp_path) == [item]


def test_rows_that_cannot_be_used_are_told_and_listed(benchmark: str, tmp_path: Path):
    with (tmp_path / "tiny.jsonl").open("a") as lines:
        lines.write('{oops\n{"id": "gone", "image": "photos/gone.png", "request": "flip it"}\n')
        lines.write('{"id": "text", "image": "tiny.jsonl", "request": "flip it"}\n')
    result = evaluate("--benchmark", benchmark, "--system", system("Original"))
    assert result.exit_code == 0, result.output
    assert "left out of tiny: 3 (" in result.stderr
    left_out = [json.loads(line) for line in Path("out/left_out.jsonl").read_text().splitlines()]
    assert {line["id"] for line in left_out} == {"tiny-7", "gone", "text"}
    assert len(Path("out/items.jsonl").read_text().splitlines()) == ITEMS


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ((), "wanted one of --benchmark and --decomposition"),
        (("--benchmark", "psr", "--decomposition", "x.jsonl"), "wanted one of --benchmark and --decomposition"),
        (("--benchmark", "TINY"), "nothing to evaluate; name a --system, --human or --sanity"),
        (("--benchmark", "TINY", "--sanity"), "--sanity tries judges; name one with --judge"),
        (("--benchmark", "nothing", "--human"), "there is no benchmark 'nothing'"),
        (("--benchmark", "TINY", "--system", "gone.yaml"), "gone.yaml can't be read"),
        (("--benchmark", "TINY", "--human", "--ids", "gone.txt"), "--ids: gone.txt can't be read"),
        (("--benchmark", "TINY", "--human", "--ids", "tiny.jsonl", "--sample", "2"), "wanted one of the two"),
        (("--benchmark", "TINY", "--human", "--ids", "tiny.jsonl"), "is --ids of another one?"),
        (("--benchmark", "TINY", "--human", "--columns", "request"), "wanted NAME=VALUE"),
        (("--benchmark", "TINY", "--human", "--jobs", "0"), "jobs is 0; wanted 1 to 1024"),
        (("--benchmark", "TINY", "--human", "--sample", "0"), "sample is 0; wanted 1 or more"),
        (("--benchmark", "TINY", "--human", "--prices", "tiny.jsonl"), "--prices: "),
        (("--benchmark", "TINY", "--human", "--judge", "gpt"), "gpt"),
        (("--benchmark", "TINY", "--human", "--judge", "openai:gpt-4o"), "OPENAI_API_KEY is not set"),
        (("--benchmark", "TINY", "--human", "--rows", "x.parquet"), "--rows can't be used with --benchmark"),
        (("--decomposition", "x.jsonl", "--sanity", "--judge", "pixel"), "--judge, --sanity can't be used with"),
        (("--decomposition", "x.jsonl"), "--decomposition needs --rows"),
        (("--decomposition", "x.jsonl", "--rows", "gone.parquet"), "there is no file gone.parquet"),
    ],
)
def test_what_cannot_be_evaluated_is_one_line(benchmark: str, arguments: tuple[str, ...], wanted: str):
    given = [benchmark if argument == "TINY" else argument for argument in arguments]
    assert wanted in one_line(evaluate(*given))


def test_human_edits_that_nobody_made_are_one_line(tmp_path: Path, benchmark: str):
    Path("tiny.jsonl").write_text(Path("tiny.jsonl").read_text().splitlines()[0] + "\n")
    line = one_line(evaluate("--benchmark", benchmark, "--human"))
    assert "--human: none of the 1 items of tiny" in line
    assert "--columns human=NAME" in line


def test_two_systems_of_one_name_are_refused(benchmark: str):
    first = system("Original")
    Path("other.yaml").write_text(Path(first).read_text())
    assert "called 'Original' already" in one_line(evaluate("--benchmark", benchmark, "--system", first, "other.yaml"))


def test_an_editor_that_is_broken_ends_the_run_and_one_that_fails_item_by_item_does_not(benchmark: str):
    # pillow refuses all of them, each for its own words
    hopeless = system("Hopeless")
    text = Path("tiny.jsonl").read_text().replace("flip it horizontally", "make the sofa navy")
    Path("tiny.jsonl").write_text(text * 3)
    result = evaluate("--benchmark", benchmark, "--system", hopeless)
    assert result.exit_code == 0, result.output
    assert "Hopeless: 0 images, 18 failed" in result.stderr
