"""The replies file: what a later run takes from an earlier one, and what it does not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from fakes.annotator_runs import LAMP, PHOTO, environment, items, jpeg, lamps, lines, run
from fakes.annotator_server import TROUBLES, completion, gold_of, honest, serve

from data_prep.annotator import AnnotatorError, Item
from data_prep.replies import Replies
from ier1_plugin.task.schema import Decomposition

__all__ = ["environment"]


def test_a_second_run_asks_nothing(tmp_path: Path):
    with serve() as server:
        first = run(server, tmp_path, lamps(20))
        second = run(server, tmp_path, lamps(20))
    assert first == second
    assert len(server.log) == 20


def test_only_what_is_missing_is_asked(tmp_path: Path):
    with serve() as server:
        run(server, tmp_path, lamps(5))
        run(server, tmp_path, lamps(8))
    assert len(server.log) == 8


def test_a_row_says_what_was_asked_and_all_that_came(tmp_path: Path):
    with serve() as server:
        run(server, tmp_path, items("remove the lamp"))
    (line,) = lines(tmp_path)
    assert (line["key"], line["vote"], line["outcome"], line["model"]) == ("row-0", 0, "stop", "fake-vlm-2026")
    assert line["usage"]["total_tokens"] == 730
    assert json.loads(line["raw"]["choices"][0]["message"]["content"]) == gold_of("remove the lamp")


@pytest.mark.parametrize("left", [1, 40, -1])
def test_a_torn_last_line_is_cut_off_and_asked_again(left: int, tmp_path: Path):
    with serve() as server:
        run(server, tmp_path, lamps(3))
        file = tmp_path / "replies.jsonl"
        whole = file.read_bytes()
        start = whole.rindex(b"\n", 0, -1) + 1
        file.write_bytes(whole[:start] + whole[start:][:left])
        results = run(server, tmp_path, lamps(3))
    assert set(results.values()) == {LAMP}
    assert len(server.log) == 4
    assert len(lines(tmp_path)) == 3


def test_bad_replies_of_an_earlier_run_count_as_attempts(tmp_path: Path):
    with serve(TROUBLES["no JSON"]) as server:
        first = run(server, tmp_path, items("remove the lamp"), max_attempts=4)
        second = run(server, tmp_path, items("remove the lamp"), max_attempts=4)
    assert first == second
    assert len(server.log) == 4


def test_refusals_of_an_earlier_run_are_not_asked_again(tmp_path: Path):
    with serve(lambda _: completion(None, refusal="no")) as server:
        first = run(server, tmp_path, items("remove the lamp"))
        assert run(server, tmp_path, items("remove the lamp")) == first
    assert len(server.log) == 3


def test_another_model_prompt_temperature_or_image_is_another_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with serve() as server:
        run(server, tmp_path, items("remove the lamp"))
        run(server, tmp_path, items("remove the lamp"), temperature=0.5)
        run(server, tmp_path, items("Remove the lamp"))
        run(server, tmp_path, [Item("row-0", "remove the lamp", PHOTO + b"\0")])
        monkeypatch.setattr("data_prep.annotation._empty_prompt", lambda: "another prompt")
        run(server, tmp_path, items("remove the lamp"))
    assert len(server.log) == 5


def test_more_votes_keep_the_votes_that_are_there(tmp_path: Path):
    with serve() as server:
        run(server, tmp_path, lamps(4), votes=2)
        run(server, tmp_path, lamps(4), votes=3)
    assert len(server.log) == 12


def test_the_same_question_of_another_row_is_answered_from_the_file(tmp_path: Path):
    with serve() as server:
        run(server, tmp_path, items("remove the lamp"))
        results = run(server, tmp_path, [Item("other", "remove the lamp", jpeg())])
    assert results == {"other": LAMP}
    assert len(server.log) == 1


def test_a_line_that_is_no_reply_is_an_error_that_names_it(tmp_path: Path):
    (tmp_path / "replies.jsonl").write_text('{"request": "remove the lamp"}\n')
    with serve() as server, pytest.raises(AnnotatorError, match=r"replies.jsonl, line 1 is not a reply"):
        run(server, tmp_path, lamps(1))
    assert (tmp_path / "replies.jsonl").read_text() == '{"request": "remove the lamp"}\n'


def test_a_replies_path_that_is_a_folder_is_an_error(tmp_path: Path):
    (tmp_path / "replies.jsonl").mkdir()
    with serve() as server, pytest.raises(AnnotatorError, match="is not a file"):
        run(server, tmp_path, lamps(1))


def test_two_runs_at_once_do_not_pay_twice(tmp_path: Path):
    hold = "import sys; from pathlib import Path; from data_prep.replies import Replies\n"
    hold += "held = Replies(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    other = subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path / "replies.jsonl")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert other.stdout
    assert other.stdout.readline() == "held\n"
    try:
        with serve() as server, pytest.raises(AnnotatorError, match="another run writes to"):
            run(server, tmp_path, lamps(1))
        assert not server.log
    finally:
        other.kill()
        other.wait()
    with serve() as server:
        # kill -9 has released the file
        assert run(server, tmp_path, lamps(1)) == {"row-0": LAMP}


def test_a_full_disk_stops_the_run_with_one_line_and_loses_no_whole_reply(tmp_path: Path):
    fill = "import resource, sys; from pathlib import Path; from data_prep.replies import Replies\n"
    fill += "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
    fill += "with Replies(Path(sys.argv[1])) as replies:\n"
    fill += "    for vote in range(99): replies.append(key='x', digest='00', vote=vote, completion={'id': 'x' * 50})"
    file = tmp_path / "replies.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", fill, str(file)], cwd=Path(__file__).parents[2], capture_output=True, text=True
    )
    assert "AnnotatorError" in done.stderr.splitlines()[-1]
    assert str(file) in done.stderr.splitlines()[-1]
    whole = file.read_bytes().count(b"\n")
    assert 0 < whole < 99
    with Replies(file) as replies:
        assert [len(list(replies.earlier("00", vote))) for vote in range(99)] == [1] * whole + [0] * (99 - whole)


def test_the_file_can_be_read_back_in_any_order(tmp_path: Path):
    with serve(lambda asked: honest(asked)) as server:
        run(server, tmp_path, items(*(f"add a red car {i}" for i in range(10))))
        results = run(server, tmp_path, list(reversed(items(*(f"add a red car {i}" for i in range(10))))))
    assert len(server.log) == 10
    assert set(results.values()) == {Decomposition.of(["Add"], ["red"], [])}
