"""What `ier1 evaluate --sanity` leaves behind: judges that failed are out, those that passed say so."""

from __future__ import annotations

from pathlib import Path

from fakes.annotator_server import Answer, Asked, completion
from fakes.chain_helpers import no_settings_from_outside, one_line
from fakes.evaluate_runs import a_judge, evaluate, facts, looked_at_by, system
from fakes.judge_server import JudgeServer

__all__ = ["a_judge", "no_settings_from_outside"]

WORLD = ("--benchmark", "small-world:400-404")


def blind(asked: Asked) -> Answer:
    """Says the same of every edit."""
    return completion('{"fulfilment": 3, "quality": 2, "preservation": 2}')


def asked() -> tuple[str, ...]:
    return (*WORLD, "--system", system("Original", editor="small-world"))


def test_a_judge_that_passes_says_so_in_evaluation_json_and_one_that_was_not_tried_too(judge: JudgeServer):
    assert evaluate(*asked(), *looked_at_by(judge)).exit_code == 0
    assert [one["sanity"] for one in facts()["judges"]] == ["not tried"]
    tried = evaluate(*asked(), "--judge", "pixel", "--sanity")
    assert tried.exit_code == 0, tried.output
    assert facts()["judges"][1]["sanity"].startswith("passed on 4 items, ")
    assert evaluate(*asked(), "--judge", "pixel").exit_code == 0
    assert facts()["judges"][1]["sanity"].startswith("passed on 4 items, ")


def test_a_judge_that_ignores_its_images_is_failed_before_anything_is_edited(judge: JudgeServer):
    judge.respond = blind
    result = evaluate(*asked(), "--sanity", *looked_at_by(judge))
    assert result.exit_code == 1
    assert "not to be trusted: openai:" in result.stderr
    assert not Path("out/systems").exists()
    name = f"openai:{judge.url}#fake-vlm"
    assert facts()["judges"] == []
    assert "it does not look at the edited image" in facts()["failed_sanity"][name]["why"]


def test_a_judge_that_failed_is_not_believed_later_on_and_keeps_no_other_one_out(judge: JudgeServer):
    judge.respond = blind
    assert evaluate(*asked(), "--sanity", *looked_at_by(judge)).exit_code == 1
    assert "failed its sanity check here on" in one_line(evaluate(*asked(), *looked_at_by(judge)))
    result = evaluate(*asked(), "--sanity", "--judge", "pixel")
    assert result.exit_code == 0, result.output
    assert [one["name"] for one in facts()["judges"]] == ["pixel"]


def test_a_judge_that_had_joined_before_it_failed_says_so_with_its_judgements(judge: JudgeServer):
    judge.respond = blind
    assert evaluate(*asked(), *looked_at_by(judge)).exit_code == 0
    assert evaluate(*asked(), "--sanity", *looked_at_by(judge)).exit_code == 1
    assert [one["sanity"].startswith("FAILED on 4 items") for one in facts()["judges"]] == [True]


def test_to_try_a_judge_alone_nothing_else_of_a_benchmark_is_written():
    tried = evaluate("--benchmark", "small-world", "--judge", "pixel", "--sanity")
    assert tried.exit_code == 0, tried.output
    assert "pixel passed" in tried.stderr
    assert not Path("out/items.jsonl").exists()
    joined = evaluate("--benchmark", "small-world", "--judge", "pixel", "--sample", 2, "--system", asked()[-1])
    assert joined.exit_code == 0, joined.output
    assert facts()["benchmark"]["sampled"] == 2
    assert facts()["judges"][0]["sanity"].startswith("passed on 12 items, ")
