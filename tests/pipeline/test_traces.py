"""Traces and plans: in a file, in a PNG, written by hand, and damaged."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from fakes.chain_helpers import ORDER, REQUEST, canvas_editor, chain, encoded
from fakes.chat_fakes import GOLD, FakeChat, FakeEditor, photo, reply

from ier1_plugin.pipeline.agents import decompose, sequence
from ier1_plugin.pipeline.chain import ImageEditR1
from ier1_plugin.pipeline.trace import read_plan, read_trace, save_image
from ier1_plugin.task.images import png_bytes
from ier1_plugin.task.schema import Plan, PlanError, plan_json


def test_the_trace_holds_everything_and_the_png_holds_the_trace(tmp_path: Path):
    chat = FakeChat([reply(), json.dumps(ORDER)])
    settings = {"model": "m", "call_kwargs": {"http_options": {"headers": {"Authorization": "Bearer s3cret-t0ken"}}}}
    editor = replace(canvas_editor([]), settings=settings)
    agents = ImageEditR1(partial(decompose, chat=chat), partial(sequence, chat=chat), editor)
    result = agents.edit(photo(), f"{REQUEST} 把", mode="multi-turn", seed=3)
    save_image(tmp_path / "out.png", result.image, result.trace.to_json())
    trace = read_trace(tmp_path / "out.png")
    assert trace == json.loads(result.trace.to_json())
    assert trace["editor_settings"]["model"] == "m"
    assert b"s3cret-t0ken" not in (tmp_path / "out.png").read_bytes()
    assert trace["plan"]["decomposition"] == json.loads(GOLD.to_json())
    assert trace["plan"]["decomposer"]["replies"] == [reply()]
    assert trace["plan"]["decomposer"]["model"] == "fake"
    assert trace["plan"]["sequencer"]["replies"] == [json.dumps(ORDER)]
    assert trace["plan"]["sub_requests"] == list(ORDER)
    assert (trace["mode"], trace["seed"], trace["editor"], trace["canvas"]) == ("multi-turn", 3, "fake", [32, 16])
    assert [step["seed"] for step in trace["steps"]] == [3, 4]
    assert all({"instruction", "seconds", "sha256", "size"} == set(step) - {"seed"} for step in trace["steps"])


def test_a_plan_comes_back_from_a_trace_a_plan_file_and_a_png_and_may_be_written_by_hand(tmp_path: Path):
    result = chain(FakeEditor()).edit(photo(), REQUEST)
    (tmp_path / "trace.json").write_text(result.trace.to_json(), encoding="utf-8")
    (tmp_path / "plan.json").write_text(plan_json(result.trace.plan), encoding="utf-8")
    (tmp_path / "out.png").write_bytes(png_bytes(result.image, result.trace.to_json()))
    for name in ("trace.json", "plan.json", "out.png"):
        assert read_plan(tmp_path / name) == result.trace.plan
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        (tmp_path / "plan.json").write_text('{"sub_requests": ["Delete lamp"]}', encoding=encoding)
        assert read_plan(tmp_path / "plan.json") == Plan("", ("Delete lamp",))


BAD_PLANS = {
    "empty": ("", "holds no plan"),
    "not JSON": ("{", "holds no plan"),
    "an array": ("[]", "wanted a JSON object"),
    "no sub-requests": ("{}", "sub_requests is not an array"),
    "empty sub-requests": ('{"sub_requests": []}', "sub_requests is not an array"),
    "blank sub-request": ('{"sub_requests": [" "]}', "sub_requests is not an array"),
    "a number": ('{"sub_requests": [1]}', "sub_requests is not an array"),
    "a key too many": ('{"sub_requests": ["x"], "steps": []}', "a plan has no steps; it has request"),
    "wrong method": ('{"sub_requests": ["x"], "method": "magic"}', "method is 'magic'; known"),
    "wrong decomposition": ('{"sub_requests": ["x"], "decomposition": {"actions": []}}', "decomposition: wanted"),
    "wrong agent": ('{"sub_requests": ["x"], "decomposer": {"colour": 1}}', "decomposer is not what a trace says"),
    "a foreign PNG": (encoded(photo(), "PNG"), "a PNG that this program did not make"),
    "a torn PNG": (encoded(photo(), "PNG")[:60], "holds no plan"),
    "binary": (b"\xff\xfe\x00", "holds no plan"),
}


@pytest.mark.parametrize("case", BAD_PLANS)
def test_a_file_without_a_plan_says_what_is_wrong(case: str, tmp_path: Path):
    data, reason = BAD_PLANS[case]
    (tmp_path / "plan").write_bytes(data.encode() if isinstance(data, str) else data)
    with pytest.raises(PlanError, match=reason) as refused:
        read_plan(tmp_path / "plan")
    assert "\n" not in str(refused.value)
