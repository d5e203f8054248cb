"""The rollout stand-in: the same tokens as transformers' own generate, honest sampling, real weight synchronisation."""

from __future__ import annotations

import functools
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fakes import tiny_models

from ier1_plugin.training.cpu import SITE

PROMPT = "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>make it red<|im_end|>\n<|im_start|>assistant\n"


@functools.cache
def stand_in() -> dict[str, Any]:
    """The stand-in's modules by name; nothing else in this process gets to see a `vllm`."""
    from ier1_plugin.chat import torchvision_ops

    torchvision_ops.define_missing_schemas(torch)
    sys.path.insert(0, str(SITE))
    import_module("vllm")
    sys.path.remove(str(SITE))
    return {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "vllm"}


def vllm(module: str = "") -> Any:
    return stand_in()[f"vllm{module}"]


def sampling(**params: Any) -> Any:
    return vllm().SamplingParams(**params)


def greedy() -> Any:
    return sampling(temperature=0, max_tokens=24)


@pytest.fixture(scope="session", params=tiny_models.FAMILIES)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_models.build(tmp_path_factory.mktemp("models") / request.param, request.param))


@pytest.fixture(scope="session")
def other_model(model: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    family = Path(model).name
    return str(tiny_models.build(tmp_path_factory.mktemp("others") / family, family, seed=7))


@pytest.fixture(scope="session")
def llm(model: str) -> Any:
    return vllm().LLM(model)


def image_request(llm: Any, index: int) -> dict[str, Any]:
    """Photos of different sizes, so that prompts have different lengths."""
    photo = tiny_models.photo(index, (84 + 32 * index, 64))
    return {"prompt_token_ids": llm.tokenizer(PROMPT)["input_ids"], "multi_modal_data": {"image": [photo]}}


def text_request(llm: Any) -> dict[str, Any]:
    return {"prompt_token_ids": llm.tokenizer("make the coat red")["input_ids"]}


def tokens(llm: Any, requests: list[dict[str, Any]], params: Any) -> list[list[list[int]]]:
    return [[sample.token_ids for sample in output.outputs] for output in llm.generate(requests, params)]


def generate_with_transformers(model: Any, llm: Any, request: dict[str, Any]) -> list[int]:
    """One request on its own through the processor and `generate`."""
    if "multi_modal_data" in request:
        images = request["multi_modal_data"]["image"]
        inputs = dict(llm.processor(text=[PROMPT], images=images, return_tensors="pt"))
    else:
        inputs = {"input_ids": torch.tensor([request["prompt_token_ids"]])}
    written = model.generate(**inputs, do_sample=False, max_new_tokens=greedy().max_tokens)
    return written[0, inputs["input_ids"].shape[1] :].tolist()


def test_greedy_tokens_equal_those_of_transformers_also_when_a_batch_is_decoded_in_parts(
    llm: Any, monkeypatch: pytest.MonkeyPatch
):
    requests = [*(image_request(llm, index) for index in range(4)), text_request(llm)]
    wanted = [[generate_with_transformers(llm.model, llm, request)] for request in requests]
    assert tokens(llm, requests, greedy()) == wanted
    assert len({str(sample) for sample in wanted}) == len(requests)
    monkeypatch.setattr(vllm(".engine"), "MAX_CACHED_TOKENS", 1)
    assert tokens(llm, requests, greedy()) == wanted


def test_the_rows_that_have_not_ended_go_on_undisturbed(llm: Any, monkeypatch: pytest.MonkeyPatch):
    requests = [image_request(llm, index) for index in range(3)]
    alone = [row for (row,) in tokens(llm, requests, greedy())]
    end = alone[1][4]
    monkeypatch.setattr(llm, "end_tokens", [end])
    cut = [row[: row.index(end) + 1] if end in row else row for row in alone]
    assert tokens(llm, requests, greedy()) == [[row] for row in cut]
    assert len(set(map(len, cut))) > 1


def test_samples_of_a_prompt_differ_and_end_with_their_end_token_unless_it_is_ignored(llm: Any):
    end = llm.end_tokens[0]
    params = {"n": 32, "max_tokens": 20, "logit_bias": {end: 8.0}}
    groups = tokens(llm, [image_request(llm, 0), text_request(llm)], sampling(**params))
    assert [len(group) for group in groups] == [32, 32]
    for group in groups:
        assert len({str(sample) for sample in group}) > 1
        assert all(1 <= len(sample) <= 20 and end not in sample[:-1] for sample in group)
        assert all(sample[-1] in llm.end_tokens or len(sample) == 20 for sample in group)
    assert any(len(sample) < 20 for sample in groups[1])
    ignoring = sampling(**params, ignore_eos=True)
    assert all(len(sample) == 20 for sample in tokens(llm, [text_request(llm)], ignoring)[0])


def test_a_seed_makes_a_run_repeatable_but_neither_its_steps_nor_its_ranks_alike(
    model: str, monkeypatch: pytest.MonkeyPatch
):
    def steps(seed: int, rank: str = "0") -> list[Any]:
        monkeypatch.setenv("RANK", rank)
        llm = vllm().LLM(model)
        return [tokens(llm, [text_request(llm)], sampling(n=2, max_tokens=12, seed=seed)) for _ in range(2)]

    first = steps(1)
    assert first == steps(1)
    assert first[0] != first[1]
    assert steps(2)[0] != first[0]
    assert steps(1, rank="1")[0] != first[0]


@pytest.mark.parametrize(
    ("params", "shares"),
    [
        ({}, {0: 0.2, 1: 0.5, 2: 0.3}),
        ({"top_k": -1}, {0: 0.2, 1: 0.5, 2: 0.3}),
        ({"top_k": 0}, {0: 0.2, 1: 0.5, 2: 0.3}),
        ({"temperature": 0.5}, {0: 4 / 38, 1: 25 / 38, 2: 9 / 38}),
        ({"temperature": 0.02}, {1: 1}),
        ({"temperature": 0}, {1: 1}),
        # top_p keeps the likeliest up to the one that reaches it
        ({"top_p": 0.6}, {1: 0.625, 2: 0.375}),
        ({"top_p": 1e-9}, {1: 1}),
        ({"top_k": 2}, {1: 0.625, 2: 0.375}),
        # top_k comes first: of the two that are left the first has 0.625 of the mass
        ({"top_k": 2, "top_p": 0.6}, {1: 1}),
        ({"logit_bias": {1: -100}}, {0: 0.4, 2: 0.6}),
    ],
)
def test_sampling_settings_choose_among_three_tokens_and_leave_the_logits_alone(
    params: dict[str, Any], shares: dict[int, float]
):
    logits = torch.tensor([[0.2, 0.5, 0.3]] * 4000).log()
    before = logits.clone()
    drawn = vllm(".sampling").choose(logits, sampling(**params), torch.Generator().manual_seed(0)).tolist()
    assert set(drawn) == set(shares)
    # 4,000 draws: five standard errors are below 0.04
    assert all(abs(drawn.count(token) / 4000 - share) < 0.04 for token, share in shares.items())
    assert torch.equal(logits, before)


def test_a_dummy_rollout_writes_what_the_trained_model_would_after_the_weights_are_synchronised(
    model: str, other_model: str
):
    from safetensors.torch import load_file

    trained = vllm().LLM(other_model)
    requests = [image_request(trained, index) for index in range(2)]
    wanted = tokens(trained, requests, greedy())
    # the names of the module, and those that checkpoints use
    for weights in (trained.model.state_dict(), load_file(Path(other_model) / "model.safetensors")):
        llm = vllm().LLM(model, load_format="dummy")
        assert tokens(llm, requests, greedy()) != wanted
        llm.llm_engine.model_executor.driver_worker.worker.model_runner.model.load_weights(weights.items())
        assert tokens(llm, requests, greedy()) == wanted


def test_a_weight_that_is_missing_or_unknown_stops_the_synchronisation(model: str):
    llm = vllm().LLM(model)
    weights = dict(llm.model.state_dict())
    with pytest.raises(KeyError, match="unknown: \\['mystery'\\]"):
        llm._weights.load_weights([*weights.items(), ("mystery", torch.zeros(1))])
    name = next(name for name in weights if "q_proj" in name)
    del weights[name]
    with pytest.raises(KeyError, match=f"not sent: \\['{name}'\\]"):
        llm._weights.load_weights(weights.items())


def test_a_lora_adapter_is_merged_and_the_next_one_replaces_it(model: str):
    peft = pytest.importorskip("peft")
    llm = vllm().LLM(model)
    request = image_request(llm, 1)
    layers = r".*language_model.*(q_proj|v_proj|down_proj)"
    config = peft.LoraConfig(r=4, lora_alpha=16, target_modules=layers, init_lora_weights=False)
    for seed in (1, 2):
        torch.manual_seed(seed)
        adapted = peft.get_peft_model(vllm().LLM(model).model, config)
        wanted = generate_with_transformers(adapted, llm, request)
        assert tokens(llm, [request], greedy()) != [[wanted]]
        tensors, scale = peft.get_peft_model_state_dict(adapted), {"r": 4, "lora_alpha": 16}
        llm.llm_engine.add_lora(SimpleNamespace(lora_tensors=tensors, peft_config=scale, lora_int_id=seed))
        assert tokens(llm, [request], greedy()) == [[wanted]]
        assert llm.llm_engine.list_loras() == {seed}


def test_an_adapter_without_tensors_is_refused_since_it_would_train_nothing(llm: Any):
    with pytest.raises(ValueError, match=r"peft<0\.21"):
        llm.llm_engine.add_lora(SimpleNamespace(lora_tensors={}, peft_config={}, lora_int_id=1))


def test_the_rollout_says_what_it_is_and_refuses_what_the_model_could_not_have_read(llm: Any, model: str, capsys: Any):
    request = image_request(llm, 0)
    with pytest.raises(ValueError, match="1 image tokens for 2 images"):
        llm.generate([request | {"multi_modal_data": {"image": [tiny_models.photo(0)] * 2}}], greedy())
    with pytest.raises(ValueError, match="reads images only, got video"):
        llm.generate([request | {"multi_modal_data": {"video": []}}], greedy())
    capsys.readouterr()
    with pytest.raises(ValueError, match="max_model_len is 8"):
        vllm().LLM(model, max_model_len=8).generate([request], greedy())
    assert capsys.readouterr().out.startswith("rollout=cpu-standin:")
