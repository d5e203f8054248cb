"""Real weights in a folder as a chat: the token ids of the training, the same text from a server."""

from __future__ import annotations

import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes.chain_helpers import ask, sent_image
from fakes.chat_fakes import photo
from fakes.chat_server import chat_server

from ier1_plugin import prompts
from ier1_plugin.chat import ChatError, ChatRequest, RequestRejected, make_chat
from ier1_plugin.chat.local import LocalChat
from ier1_plugin.data.items import Item
from ier1_plugin.pipeline.agents import decomposition_request
from ier1_plugin.pipeline.batch import batch_of, run
from ier1_plugin.pipeline.system import SettingsError, System
from ier1_plugin.task.decomposer import Decomposer
from ier1_plugin.task.images import prepare
from ier1_plugin.task.rows import messages


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Qwen2.5-VL as `ier1 merge` leaves it: weights, prompt and decomposer.json."""
    tiny_models = pytest.importorskip("fakes.tiny_models")
    folder = tiny_models.build(tmp_path_factory.mktemp("weights"), "qwen2_5_vl")
    prompt = prompts.path("decompose")
    (folder / prompt.name).write_bytes(prompt.read_bytes())
    Decomposer(28**2, 8 * 28**2, 28**2, 16 * 28**2, 28**2, prompt.name, "", "cpu-standin", "float32", "0.1.0").write(
        folder
    )
    return folder


@pytest.fixture(scope="module")
def local(weights: Path) -> Any:
    return make_chat(f"local:{weights}")


@pytest.mark.slow
def test_local_weights_are_asked_with_the_token_ids_of_the_training(weights: Path, local: Any, tmp_path: Path):
    dataset = pytest.importorskip("verl.utils.dataset")
    tiny_models = pytest.importorskip("fakes.tiny_models")
    from transformers import AutoProcessor

    processor: Any = AutoProcessor.from_pretrained(weights)
    rows = dataset.RLHFDataset(
        str(tiny_models.write_rows(tmp_path / "train.parquet", 3)),
        processor.tokenizer,
        processor,
        prompt_key="problem",
        answer_key="answer",
        image_key="images",
        max_prompt_length=2048,
        format_prompt=str(weights / "decompose.jinja"),
        min_pixels=local.budget[0],
        max_pixels=local.budget[1],
        filter_overlong_prompts=False,
    )
    for index in range(3):
        row = rows[index]
        trained = row["input_ids"][row["attention_mask"].bool()].tolist()
        image = prepare(tiny_models.photo(index), *local.budget)
        request = f"make the coat {'red' if index % 2 else 'navy'}"
        assert local.inputs(ChatRequest(messages(request), (image,)))["input_ids"][0].tolist() == trained


@pytest.mark.slow
def test_a_server_with_the_same_weights_gets_the_same_token_ids_and_gives_the_same_text(local: Any):
    received: list[ChatRequest] = []

    def served(body: dict[str, Any], number: int) -> str:
        text = body["messages"][0]["content"][1]
        turn = {"role": "user", "content": [{"type": "image"}, text]}
        received.append(ChatRequest([turn], (sent_image(body),), max_tokens=12))
        return local(received[-1]).text

    image = prepare(photo(300, 200), *local.budget)
    question = ChatRequest(messages("make the coat <|im_end|> red"), (image,), max_tokens=12)
    with chat_server(served) as server:
        assert make_chat(f"openai:{server.url}#decomposer")(question).text == local(question).text
    assert local.inputs(received[0])["input_ids"].tolist() == local.inputs(question)["input_ids"].tolist()
    assert local.inputs(received[0])["pixel_values"].equal(local.inputs(question)["pixel_values"])


@pytest.mark.slow
def test_local_weights_answer_the_same_for_the_same_seed_and_otherwise_for_another(local: Any):
    greedy = [local(ask(max_tokens=12)).text for _ in range(2)]
    sampled = [local(ask(max_tokens=12, temperature=1.0, seed=seed)).text for seed in (1, 1, 2)]
    assert greedy[0] == greedy[1]
    assert sampled[0] == sampled[1] != sampled[2]


def in_threads(chat: Any, requests: list[ChatRequest]) -> list[Any]:
    """The answers to requests that all wait before the first is answered; or the ChatError that one raised."""

    def answer(request: ChatRequest) -> Any:
        try:
            return chat(request)
        except ChatError as error:
            return error

    chat._busy = True
    with ThreadPoolExecutor(len(requests)) as pool:
        replies = pool.map(answer, requests)
        while len(chat._waiting) < len(requests):
            time.sleep(0.01)
        with chat._turn:
            chat._busy = False
            chat._turn.notify_all()
        return list(replies)


@pytest.fixture
def batches(local: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of rows that `local` generates for."""
    sizes: list[int] = []
    generate = local._model.generate

    def counted(**inputs: Any) -> Any:
        sizes.append(len(inputs["input_ids"]))
        return generate(**inputs)

    monkeypatch.setattr(local._model, "generate", counted)
    return sizes


# of any size and length; greedy and sampled; with an image and without
MIXED = [
    ask(f"remove {'the red lamp and ' * (number % 7)}the cat", (56 + 20 * (number % 5), 56), max_tokens=12)
    for number in range(36)
]
MIXED[5] = replace(MIXED[5], temperature=1.0, seed=7)
MIXED[12] = replace(MIXED[12], temperature=1.0, seed=8)
MIXED[20] = ChatRequest([{"role": "user", "content": "name three colours"}], max_tokens=12)
MIXED[21] = ChatRequest([{"role": "user", "content": "name four"}], max_tokens=12)


@pytest.mark.slow
def test_requests_of_several_threads_get_in_batches_what_each_gets_alone(
    local: Any, batches: list[int], monkeypatch: pytest.MonkeyPatch
):
    # with so many ends, some replies stop early and some are cut off
    monkeypatch.setattr(local._model.generation_config, "eos_token_id", list(range(0, 768, 9)))
    alone = [local(request) for request in MIXED]
    assert {reply.cut_off for reply in alone} == {True, False}
    batches.clear()
    assert in_threads(local, MIXED) == alone
    # those with an image, those without, and two that sample
    assert sorted(batches) == [1, 1, 2, 32]


@pytest.mark.slow
def test_a_request_that_fails_takes_no_other_of_its_batch_with_it(local: Any, monkeypatch: pytest.MonkeyPatch):
    requests = [request for request in MIXED if request.images]
    alone, generate = [local(request) for request in requests], local._model.generate
    bad = local.inputs(requests[6])["input_ids"][0]

    def fails(**inputs: Any) -> Any:
        if any(row[-len(bad) :].equal(bad) for row in inputs["input_ids"]):
            raise ValueError("bad row")
        return generate(**inputs)

    monkeypatch.setattr(local._model, "generate", fails)
    replies = in_threads(local, requests)
    for request, reply, expected in zip(requests, replies, alone, strict=True):
        if local.inputs(request)["input_ids"][0].equal(bad):
            assert isinstance(reply, RequestRejected)
        else:
            assert reply == expected


@pytest.mark.slow
def test_a_batch_that_does_not_fit_the_gpu_is_answered_in_smaller_ones(local: Any, monkeypatch: pytest.MonkeyPatch):
    import torch

    alone, generate, fits = [local(request) for request in MIXED], local._model.generate, 4

    def runs_out(**inputs: Any) -> Any:
        if len(inputs["input_ids"]) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return generate(**inputs)

    monkeypatch.setattr(local, "_batch", local._batch)
    monkeypatch.setattr(local._model, "generate", runs_out)
    assert in_threads(local, MIXED) == alone
    fits = 0
    assert all("out of GPU memory" in str(error) for error in in_threads(local, MIXED[:3]))


@pytest.mark.slow
def test_closing_lets_what_is_under_way_end_and_nobody_wait(weights: Path, monkeypatch: pytest.MonkeyPatch):
    chat: Any = make_chat(f"local:{weights}")
    generate, begun, go_on = chat._model.generate, threading.Event(), threading.Event()

    def slow(**inputs: Any) -> Any:
        begun.set()
        go_on.wait()
        return generate(**inputs)

    monkeypatch.setattr(chat._model, "generate", slow)
    with ThreadPoolExecutor(2) as pool:
        replies = pool.submit(in_threads, chat, [ask(max_tokens=length) for length in range(1, 7)])
        begun.wait()
        closing = pool.submit(chat.close)
        while not chat._closed:
            time.sleep(0.01)
        go_on.set()
        closing.result()
    closed = [reply for reply in replies.result() if isinstance(reply, ChatError)]
    assert len(closed) == 5
    assert all("is closed" in str(error) for error in closed)


@pytest.mark.slow
def test_planning_by_local_weights_fills_batches_whatever_j_says(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    sizes: list[int] = []
    answer = LocalChat._answer
    monkeypatch.setattr(LocalChat, "_answer", lambda self, batch: (sizes.append(len(batch)), answer(self, batch))[1])
    system = System(decomposer=f"local:{weights}", sequencer="rule", editor="pillow", max_tokens=4)
    photo(64, 48).save(tmp_path / "photo.png")
    items = [Item(f"item-{number}", str(tmp_path / "photo.png"), "make it brighter") for number in range(20)]
    run(batch_of(system, lambda: iter(items), tmp_path / "out", jobs=1, total=len(items)))
    assert max(sizes) > 1
    # each was asked for again, since random weights name no edit
    assert sum(sizes) == 2 * len(items)


@pytest.mark.slow
def test_local_weights_write_no_more_than_their_training_allowed(weights: Path, local: Any, tmp_path: Path):
    folder = shutil.copytree(weights, tmp_path / "brief")
    replace(Decomposer.read(folder), max_response_length=5).write(folder)
    chat: Any = make_chat(f"local:{folder}")
    tokenizer = chat._processor.tokenizer
    reply = chat(ask(max_tokens=12))
    longer = tokenizer(local(ask(max_tokens=12)).text)["input_ids"]
    assert reply.text == tokenizer.decode(longer[:5])
    assert (reply.cut_off, reply.completion_tokens) == (True, 5)


@pytest.mark.slow
def test_weights_are_asked_within_the_budget_and_with_the_prompt_of_their_training(
    weights: Path, local: Any, tmp_path: Path
):
    request = decomposition_request(photo(3000, 1000), "make the coat red", local)
    image: Any = request.images[0]
    assert 7 * 28**2 < image.width * image.height <= 8 * 28**2
    assert request.messages == messages("make the coat red")
    folder = shutil.copytree(weights, tmp_path / "other")
    (folder / "decompose.jinja").write_text("{{ content | trim }}\n\nName the edits.\n", encoding="utf-8")
    request = decomposition_request(photo(), "remove the lamp", make_chat(f"local:{folder}"))
    assert request.messages[0]["content"][-1]["text"] == "remove the lamp\n\nName the edits."


@pytest.mark.slow
def test_local_weights_that_are_closed_or_held_to_a_schema_say_so(weights: Path):
    chat: Any = make_chat(f"local:{weights}")
    with pytest.raises(ChatError, match="can't be held to a schema"):
        chat(ask(schema={"type": "object"}))
    chat.close()
    with pytest.raises(ChatError, match="is closed"):
        chat(ask())


@pytest.mark.slow
def test_the_default_sequencer_is_the_folder_that_the_weights_were_trained_from(weights: Path, tmp_path: Path):
    folder = shutil.copytree(weights, tmp_path / "models" / "trained")
    replace(Decomposer.read(folder), base_model="../warm").write(folder)
    system = System(decomposer=f"local:{folder}", editor="pillow")
    with pytest.raises(SettingsError, match=r"models/warm.* --sequencer"):
        system.agents()
    shutil.copytree(weights, tmp_path / "models" / "warm")
    _, sequencer = system.agents()
    assert sequencer
    assert sequencer.name == f"local:{tmp_path / 'models' / 'warm'}"


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"config.json": "{}", "decomposer.json": "{"}, r"decomposer\.json"),
        ({"config.json": '{"model_type": "bert"}'}, "vision-language model"),
    ],
)
def test_a_folder_without_a_model_that_can_be_asked_says_so(tmp_path: Path, files: dict[str, str], reason: str):
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(ChatError, match=reason):
        make_chat(f"local:{tmp_path}")
