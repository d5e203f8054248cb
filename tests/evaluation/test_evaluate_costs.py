"""What an evaluation has used, and what it costs: images, tokens, money where prices are given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fakes.annotator_server import completion
from fakes.chain_helpers import no_settings_from_outside, one_line
from fakes.evaluate_runs import ITEMS, a_benchmark, a_judge, evaluate, facts, judgements, looked_at_by, system
from fakes.judge_server import JudgeServer, honest

from ier1_plugin.evaluation.costs import Usage, usage, usage_lines

__all__ = ["a_benchmark", "a_judge", "no_settings_from_outside"]


def prices(**given: Any) -> tuple[str, str]:
    Path("prices.json").write_text(json.dumps(given))
    return "--prices", "prices.json"


def of_judge() -> Usage:
    return usage(Path("out"), facts())[-1]


def tokens_of(judge: JudgeServer) -> int:
    """Prompt tokens of a reply, the same for each."""
    return json.loads(honest(judge.log[0]).body)["usage"]["prompt_tokens"]


def test_what_an_evaluation_costs_is_told_where_prices_are_given(benchmark: str, judge: JudgeServer):
    name = f"openai:{judge.url}#fake-vlm"
    paid = prices(editors={"pillow": 0.5}, judges={name: {"prompt": 1e6, "completion": 0}})
    result = evaluate("--benchmark", benchmark, "--system", system("Original"), *looked_at_by(judge), *paid)
    assert result.exit_code == 0, result.output
    assert "Original: 6 images, 0 failed; 3.00" in result.stderr
    tokens = sum(one.prompt_tokens or 0 for one in judgements())
    assert tokens
    assert f"in all, where a price is given: {3 + tokens:,.2f}" in result.stderr


def test_a_judge_may_be_priced_without_its_settings(benchmark: str, judge: JudgeServer):
    paid = prices(judges={f"openai:{judge.url}#fake-vlm": {"prompt": 1e6, "completion": 0}})
    asked = ("--benchmark", benchmark, "--system", system("Original"), *looked_at_by(judge), "--samples", 2, *paid)
    assert evaluate(*asked).exit_code == 0
    assert of_judge().name.endswith("(temperature=1.0)")
    assert of_judge().cost == 2 * ITEMS * tokens_of(judge)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"editors": {"pilow": 1}}, "editors has 'pilow', which is not here; here: pillow"),
        ({"judges": {"gpt": {"prompt": 1, "completion": 1}}}, "judges has 'gpt', which is not here"),
    ],
)
def test_a_price_of_something_that_is_not_here_is_refused(
    benchmark: str, judge: JudgeServer, given: dict[str, Any], wanted: str
):
    asked = ("--benchmark", benchmark, "--system", system("Original"), *looked_at_by(judge))
    assert wanted in one_line(evaluate(*asked, *prices(**given)))
    assert not judge.log


def test_replies_without_a_count_of_tokens_have_no_known_cost(benchmark: str, judge: JudgeServer):
    def uncounted(asked: Any) -> Any:
        answer = honest(asked)
        body = json.loads(answer.body)
        del body["usage"]
        return type(answer)(**{**vars(answer), "body": json.dumps(body).encode()})

    judge.respond = uncounted
    paid = prices(judges={f"openai:{judge.url}#fake-vlm": {"prompt": 1, "completion": 1}})
    result = evaluate("--benchmark", benchmark, "--system", system("Original"), *looked_at_by(judge), *paid)
    assert f"{ITEMS} replies came without a count of tokens" in result.stderr
    assert of_judge().cost is None
    assert not any(line.startswith("in all") for line in usage_lines(usage(Path("out"), facts())))


def test_a_sanity_check_is_paid_for_too(judge: JudgeServer):
    judge.respond = lambda asked: completion('{"fulfilment": 3, "quality": 2, "preservation": 2}')
    asked = ("--benchmark", "small-world:400-404", "--system", system("Original", editor="small-world"))
    paid = prices(judges={f"openai:{judge.url}#fake-vlm": {"prompt": 1e6, "completion": 0}})
    assert evaluate(*asked, *looked_at_by(judge), *paid).exit_code == 0
    assert evaluate(*asked, *looked_at_by(judge), *paid, "--sanity").exit_code == 1
    assert of_judge().cost == len(judge.log) * tokens_of(judge)
    assert len(judge.log) > 4


def test_several_turns_are_priced_as_several_edits(tmp_path: Path):
    folder = tmp_path / "systems/chain"
    folder.mkdir(parents=True)
    lines = [
        {"id": "a", "status": "edited", "sub_requests": ["one", "two", "three"]},
        {"id": "b", "status": "edited", "sub_requests": ["one"]},
        {"id": "c", "status": "failed"},
    ]
    (folder / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    settings = {"editor": "nano-banana", "mode": "multi-turn"}
    one = {"name": "Chain", "folder": "systems/chain", "settings": settings}
    run = {"systems": [one], "judges": [], "prices": {"editors": {"nano-banana": 0.25}}}
    assert usage(tmp_path, run) == [Usage("Chain", "2 images, 1 failed; 4 edits", 1.0)]
