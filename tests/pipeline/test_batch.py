"""Batches with plain functions for agents and editors."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fakes.chain_helpers import results, write_photos
from fakes.chat_fakes import GOLD, NONSENSE, FakeChat, FakeEditor, reply
from PIL import Image

from ier1_plugin.chat import ChatError, RequestRejected, TransientError
from ier1_plugin.data.items import Item, read_items
from ier1_plugin.editors import EditError, Editor
from ier1_plugin.editors.base import failing_as
from ier1_plugin.pipeline.agents import decompose, rule
from ier1_plugin.pipeline.batch import MAX_FAILURES_IN_A_ROW, PLAN, Batch, Worker, run
from ier1_plugin.pipeline.batch_folder import BatchFolder
from ier1_plugin.pipeline.chain import Agent
from ier1_plugin.runs.folder import RunError
from ier1_plugin.task.schema import Decomposition


class Planner:
    """A decomposer that counts what it is asked."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    def __call__(self, image: Image.Image, request: str) -> Decomposition:
        self.asked[request] += 1
        return GOLD


def batch_of(items: list[Item], out: Path, planner: Any = None, editor: Any = None, **more: Any) -> Batch:
    agents = planner or Planner(), rule
    return Batch(lambda: iter(items), BatchFolder(out), lambda: agents, lambda: editor or FakeEditor(), **more)


@pytest.mark.parametrize("overlap", [False, True])
def test_every_item_becomes_an_image_a_trace_and_a_line(tmp_path: Path, overlap: bool):
    items = write_photos(tmp_path / "in", 5)
    counts = run(batch_of(items, tmp_path / "out", overlap=overlap))
    assert counts == {"open": 0, "edited": 5, "failed": 0}
    lines = results(tmp_path / "out")
    assert [line["id"] for line in lines] == [item.id for item in items]
    for line in lines:
        trace = json.loads((tmp_path / "out" / line["trace"]).read_text(encoding="utf-8"))
        with Image.open(tmp_path / "out" / line["image"]) as image:
            inside: Any = image
            assert json.loads(inside.text["imageedit_r1"])["plan"] == trace["plan"]
        assert line["sub_requests"] == ["Delete lamp", "Recoloring sofa to navy"]
        assert trace["plan"]["request"] == line["request"]


def test_an_item_that_the_end_of_a_run_cut_short_is_open_and_not_failed(tmp_path: Path):
    (item,) = write_photos(tmp_path / "in", 1)

    def cut_short(image: Image.Image, request: str) -> Decomposition:
        worker.close()
        raise TransientError("closed while it waited")

    batch = batch_of([item], tmp_path / "out", cut_short)
    worker = Worker(batch, PLAN, None)
    with batch.folder.opened(batch.settings):
        assert worker(item).hopeless
    assert batch.folder.status(item) == ("open", "")
    assert run(batch_of([item], tmp_path / "out"))["edited"] == 1


def test_everything_is_planned_and_the_planner_freed_before_anything_is_edited(tmp_path: Path):
    chat, seen = FakeChat([reply()]), []
    run(
        batch_of(
            write_photos(tmp_path / "in", 3),
            tmp_path / "out",
            Agent("fake", partial(decompose, chat=chat), chat.close),
            lambda image, instruction, seed: seen.append((len(chat.asked), chat.closed)) or image,
        )
    )
    assert seen == [(3, True)] * 3


def test_a_local_editor_gets_one_image_at_a_time_and_a_remote_one_several(tmp_path: Path):
    items = write_photos(tmp_path / "in", 8)
    at_work: list[int] = []
    together: list[int] = []

    def edit(image: Image.Image, instruction: str, seed: int) -> Image.Image:
        at_work.append(seed)
        together.append(len(at_work))
        time.sleep(0.05)
        at_work.pop()
        return image

    for local in (True, False):
        together.clear()
        run(batch_of(items, tmp_path / f"out-{local}", editor=Editor("fake", edit, local=local), jobs=4))
        assert (max(together) == 1) == local


def test_failed_items_wait_for_another_try_which_plans_nothing_again(tmp_path: Path):
    items, planner = write_photos(tmp_path / "in", 3), Planner()
    editor = failing(EditError("out of paint"), times=2)
    first = batch_of(items, tmp_path / "out", planner, editor)
    assert run(first) == run(first) == {"open": 0, "edited": 1, "failed": 2}
    assert run(batch_of(items, tmp_path / "out", planner, editor, retry_failed=True))["edited"] == 3
    assert set(planner.asked.values()) == {1}
    assert not list((tmp_path / "out" / "errors").iterdir())


def failing(error: Exception, times: int = 10**6) -> Any:
    left = [times]

    def edit(image: Image.Image, instruction: str, seed: int) -> Image.Image:
        left[0] -= 1
        if left[0] >= 0:
            raise error
        return image

    return edit


def test_an_item_that_fails_says_why_and_holds_nobody_up(tmp_path: Path):
    items = write_photos(tmp_path / "in", 4)
    Path(items[1].image).write_text("no photo", encoding="utf-8")
    Path(items[2].image).unlink()
    items += [Item("item-4", items[0].image, " "), Item("line-6", problem="not JSON: oops")]
    rows = [{"id": "odd", "image": items[0].image, "request": "a\ud800b"}, {"id": "bad", "image": "\ud800.png"}]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    items += read_items(tmp_path / "in.jsonl", "flip it")
    counts = run(batch_of(items, tmp_path / "out"))
    assert counts == {"open": 0, "edited": 3, "failed": 5}
    errors = {line["id"]: line["error"] for line in results(tmp_path / "out") if line["status"] == "failed"}
    assert "not an image" in errors["item-1"]
    assert "can't be read: No such file" in errors["item-2"]
    assert "the request is empty" in errors["item-4"]
    assert errors["line-6"] == "not JSON: oops"
    assert "bad" in errors


@pytest.mark.parametrize("part", ["planner", "editor"])
def test_what_nobody_foresaw_is_the_error_of_one_item_with_its_class(tmp_path: Path, part: str):
    items, broken = write_photos(tmp_path / "in", 4), failing(KeyError("x"), times=1)
    parts: dict[str, Any] = {"editor": broken} if part == "editor" else {"planner": lambda *_: broken(GOLD, "", 0)}
    assert run(batch_of(items, tmp_path / "out", **parts)) == {"open": 0, "edited": 3, "failed": 1}
    assert [line["error"] for line in results(tmp_path / "out") if "error" in line] == ["KeyError: 'x'"]


def test_an_editor_that_is_broken_ends_the_run_soon(tmp_path: Path):
    items = write_photos(tmp_path / "in", 3 * MAX_FAILURES_IN_A_ROW)
    with pytest.raises(RunError, match="10 images in a row failed, the last one so: no paint; fix that"):
        run(batch_of(items, tmp_path / "out", editor=failing(EditError("no paint")), jobs=1))
    assert len(results(tmp_path / "out")) < len(items)
    assert run(batch_of(items, tmp_path / "out", retry_failed=True))["edited"] == len(items)


def test_bad_photos_in_a_row_are_no_sign_of_a_broken_editor(tmp_path: Path):
    items = write_photos(tmp_path / "in", 2 * MAX_FAILURES_IN_A_ROW)
    for item in items[:-1]:
        Path(item.image).write_bytes(b"")
    assert run(batch_of(items, tmp_path / "out")) == {"open": 0, "edited": 1, "failed": len(items) - 1}


def test_a_rejected_request_fails_its_item_and_a_wrong_key_ends_the_run(tmp_path: Path):
    items = write_photos(tmp_path / "in", 4)
    wrong_key = FakeChat([RequestRejected("too long"), ChatError("the key in OPENAI_API_KEY was not accepted")])
    with pytest.raises(RunError, match="OPENAI_API_KEY"):
        run(batch_of(items, tmp_path / "out", partial(decompose, chat=wrong_key), jobs=1))
    assert [line["status"] for line in results(tmp_path / "out")] == ["failed"]
    assert run(batch_of(items, tmp_path / "out")) == {"open": 0, "edited": 3, "failed": 1}


def test_a_server_that_rejects_an_edit_fails_its_item_and_a_wrong_key_ends_the_run(tmp_path: Path):
    errors = [*[RequestRejected("flagged")] * (MAX_FAILURES_IN_A_ROW + 1), ChatError("the key was not accepted")]

    def edit(image: Image.Image, instruction: str, seed: int) -> Image.Image:
        with failing_as("server"):
            raise errors.pop(0)

    items = write_photos(tmp_path / "in", MAX_FAILURES_IN_A_ROW + 3)
    with pytest.raises(RunError, match=r"^the key was not accepted$"):
        run(batch_of(items, tmp_path / "out", editor=edit, jobs=1))
    assert run(batch_of(items, tmp_path / "out")) == {"open": 0, "edited": 2, "failed": MAX_FAILURES_IN_A_ROW + 1}


def test_a_fallback_is_told_with_the_id_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    batch = batch_of(write_photos(tmp_path / "in", 1), tmp_path / "out", partial(decompose, chat=FakeChat([NONSENSE])))
    assert run(batch)["edited"] == 1
    assert "item-0: no readable decomposition in 2 replies" in capsys.readouterr().err
    assert "no readable decomposition" in results(tmp_path / "out")[0]["notes"][0]


def test_two_items_with_one_id_do_not_pass_for_each_other(tmp_path: Path):
    first, second = write_photos(tmp_path / "in", 2)
    items = [first, Item(first.id, second.image, second.request), first]
    for jobs in (1, 4):
        out = tmp_path / f"out-{jobs}"
        assert run(batch_of(items, out, jobs=jobs)) == {"open": 0, "edited": 2, "failed": 1}
        assert "is taken by another item" in results(out)[1]["error"]


@pytest.mark.parametrize("id", ["../../etc/passwd", "/abs", ".hidden", "a/b", "ü 漢字", "x" * 400, "a%2Fb", ".."])
def test_any_id_makes_a_safe_file_name(tmp_path: Path, id: str):
    (item,) = write_photos(tmp_path / "in", 1)
    out = tmp_path / "deep" / "out"
    assert run(batch_of([Item(id, item.image, item.request)], out))["edited"] == 1
    (image,) = (out / "images").iterdir()
    assert image.parent == out / "images"
    assert results(out)[0]["id"] == id


def test_a_torn_line_of_a_killed_run_is_no_obstacle(tmp_path: Path):
    items = write_photos(tmp_path / "in", 2)
    run(batch_of(items[:1], tmp_path / "out"))
    (tmp_path / "out" / "images" / f".item-1.png.1-2{'.part'}").write_bytes(b"half")
    (tmp_path / "out" / "results.jsonl").write_text('{"id": "ite', encoding="utf-8")
    (tmp_path / "out" / "plans" / "item-1.json").write_text("{", encoding="utf-8")
    assert run(batch_of(items, tmp_path / "out"))["edited"] == 2
    assert not list((tmp_path / "out").rglob("*.part"))
    assert len(results(tmp_path / "out")) == 2


def test_the_input_is_never_held(tmp_path: Path):
    (item,) = write_photos(tmp_path / "in", 1)
    ahead, done = [0], [0]

    def items() -> Iterator[Item]:
        for number in range(200):
            ahead[0] = max(ahead[0], number - done[0])
            yield Item(f"item-{number}", item.image, item.request)

    def edit(image: Image.Image, instruction: str, seed: int) -> Image.Image:
        done[0] += 1
        return image

    batch = Batch(items, BatchFolder(tmp_path / "out"), lambda: (Planner(), rule), lambda: edit, jobs=2, overlap=True)
    assert run(batch)["edited"] == 200
    assert ahead[0] <= 8
