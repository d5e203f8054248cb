"""The judgements file: what a killed run leaves, what a later one takes from it, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from fakes.judge_runs import fake, lines, pair, run

from ier1_plugin.evaluation.judges.judging import Reply
from ier1_plugin.evaluation.judges.store import JudgementStore, Paid, judgements_file, paid_tokens, read_judgements
from ier1_plugin.evaluation.records import EvaluationError, Judgement, Score

GOOD = Reply(Score(4, 2, 3), text="fine")
ROOT = Path(__file__).parents[2]


def judgement(**changes: object) -> Judgement:
    hashes = {f"{name}_sha256": name for name in ("source", "edited", "request", "rubric")}
    known: dict[str, object] = {"item": "lamp", "system": "flux", "judge": "fake", "sample": 0, "score": Score(1, 1, 1)}
    return Judgement(**known | hashes | changes)  # pyright: ignore[reportArgumentType]


def test_names_of_judges_are_made_safe_for_files(tmp_path: Path):
    file = judgements_file(tmp_path, "openai:http://127.0.0.1:8000/v1#a/b (max_side=512)")
    assert file.parent == tmp_path / "judgements"
    assert file.name == "openai:http:%2F%2F127.0.0.1:8000%2Fv1%23a%2Fb (max_side=512).jsonl"


@pytest.mark.parametrize("left", [1, 40, -1])
def test_a_torn_last_line_is_cut_off_and_judged_again(left: int, tmp_path: Path):
    judge, asked = fake(GOOD)
    pairs = [pair(tmp_path, id) for id in ("lamp", "sofa", "cat")]
    run(judge, tmp_path, pairs)
    file = judgements_file(tmp_path, "fake")
    whole = file.read_bytes()
    start = whole.rindex(b"\n", 0, -1) + 1
    file.write_bytes(whole[:start] + whole[start:][:left])
    assert len(list(read_judgements(file))) == 2
    assert len(run(judge, tmp_path, pairs)) == 3
    assert len(asked) == 4
    assert len(lines(tmp_path)) == 3


def test_the_last_line_of_an_item_is_the_one_that_counts(tmp_path: Path):
    file = judgements_file(tmp_path, "fake")
    failed = judgement(score=None, unscored="http: 503")
    with JudgementStore(file) as store:
        for each in (failed, judgement(system="sdxl"), judgement()):
            store.keep(each)
    assert list(read_judgements(file)) == [judgement(system="sdxl"), judgement()]


def test_what_is_said_already_is_not_written_again(tmp_path: Path):
    taken_over = {"prompt_tokens": 0, "completion_tokens": 0}
    with JudgementStore(judgements_file(tmp_path, "fake")) as store:
        first = store.keep(judgement(prompt_tokens=700))
        for _ in range(3):
            assert store.keep(judgement(**taken_over)) == first
        store.keep(judgement(edited_sha256="another"))
        store.keep(judgement(**taken_over))
    assert [line["edited_sha256"] for line in lines(tmp_path)] == ["edited", "another", "edited"]


@pytest.mark.parametrize("line", [b"hello\n", b'{"item": "lamp"}\n', b"[]\n", b'{"score": {"fulfilment": 9}}\n', b"\n"])
def test_a_line_that_is_no_judgement_is_an_error_that_names_the_file(line: bytes, tmp_path: Path):
    file = judgements_file(tmp_path, "fake")
    file.parent.mkdir()
    file.write_bytes(line)
    for read in (lambda: list(read_judgements(file)), lambda: JudgementStore(file)):
        with pytest.raises(EvaluationError, match=r"fake.jsonl holds a line that is no judgement: .*; remove the line"):
            read()
    assert file.read_bytes() == line


def test_a_path_that_is_a_folder_is_an_error(tmp_path: Path):
    with pytest.raises(EvaluationError, match="can't be used: Is a directory"):
        JudgementStore(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(EvaluationError, match="can't be used: "):
        JudgementStore(tmp_path / "file" / "fake.jsonl")


def test_a_file_that_is_not_there_is_an_error_for_readers(tmp_path: Path):
    with pytest.raises(EvaluationError, match="can't be used: No such file"):
        list(read_judgements(tmp_path / "fake.jsonl"))


def test_two_runs_at_once_do_not_pay_twice(tmp_path: Path):
    hold = "import sys; from pathlib import Path; from ier1_plugin.evaluation.judges.store import JudgementStore\n"
    hold += "held = JudgementStore(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    file = judgements_file(tmp_path, "fake")
    other = subprocess.Popen(
        [sys.executable, "-c", hold, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        assert other.stdout
        assert other.stdout.readline() == "held\n"
        with pytest.raises(EvaluationError, match="another run writes to"):
            JudgementStore(file)
    finally:
        other.kill()
        other.wait()
    # kill -9 has released the file
    JudgementStore(file).close()


def test_a_full_disk_ends_the_run_with_one_line_and_loses_no_whole_judgement(tmp_path: Path):
    fill = "import resource; from pathlib import Path; from test_judge_store import judgement, JudgementStore\n"
    fill += "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
    fill += f"with JudgementStore(Path({str(judgements_file(tmp_path, 'fake'))!r})) as store:\n"
    fill += "    for number in range(99): store.keep(judgement(sample=number))"
    done = subprocess.run([sys.executable, "-c", fill], cwd=ROOT / "tests", capture_output=True, text=True)
    assert "EvaluationError" in done.stderr.splitlines()[-1]
    whole = judgements_file(tmp_path, "fake").read_bytes().count(b"\n")
    assert 0 < whole < 99
    with JudgementStore(judgements_file(tmp_path, "fake")) as store:
        assert [bool(store.paid(judgement(sample=number).key)) for number in range(99)] == [True] * whole + [False] * (
            99 - whole
        )


def test_a_line_that_a_full_disk_has_torn_is_not_written_behind(tmp_path: Path):
    file = judgements_file(tmp_path, "fake")
    fill = "import resource; from pathlib import Path; from test_judge_store import *\n"
    fill += "most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]; kept = []\n"
    fill += "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, most))\n"
    fill += f"with JudgementStore(Path({str(file)!r})) as store:\n"
    fill += "    for number in range(9):\n"
    fill += "        try: store.keep(judgement(sample=number)); kept.append(number)\n"
    # as another thread does when there is room again
    fill += "        except EvaluationError: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))\n"
    fill += "    print(kept, [store.paid(judgement(sample=number).key).sample for number in kept])"
    done = subprocess.run([sys.executable, "-c", fill], cwd=ROOT / "tests", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kept = [line.sample for line in read_judgements(file)]
    assert len(kept) == 8
    assert done.stdout == f"{kept} {kept}\n"


def test_what_was_paid_for_counts_every_reply_once(tmp_path: Path):
    file, tokens = judgements_file(tmp_path, "fake"), {"prompt_tokens": 700, "completion_tokens": 30}
    assert paid_tokens(file) == Paid(0, 0, 0, 0)
    with JudgementStore(file) as store:
        store.keep_to_ask_again(judgement(score=None, unscored="unreadable: 'hm'", **tokens))
        store.keep(judgement(score=None, unscored="http: 503"))
        store.keep(judgement(system="sdxl", score=None, unscored="missing image: gone"))
        store.keep(judgement(**tokens))
        # the edit was made anew, and then the first one put back
        store.keep(judgement(edited_sha256="another", **tokens))
        store.keep(judgement(prompt_tokens=0, completion_tokens=0))
        store.keep(judgement(system="sdxl", prompt_tokens=0, completion_tokens=0))
        store.keep(judgement(item="sofa", score=None, unscored="refusal: no", reply="no"))
        store.keep(judgement(item="cat", prompt_tokens=700, model="fake-2026"))
        # no model has answered here
        store.keep(judgement(item="dog", score=None, unscored="refusal: content filter"))
        store.keep(judgement(item="pixel"))
        # and while another run still writes
        assert paid_tokens(file) == Paid(7, 2800, 90, 2)
    file.write_bytes(file.read_bytes() + b'{"item": "to')
    assert paid_tokens(file) == Paid(7, 2800, 90, 2)
    assert sum(one.prompt_tokens or 0 for one in read_judgements(file)) == 700


def test_a_torn_middle_line_is_an_error_for_what_was_paid_too(tmp_path: Path):
    file = judgements_file(tmp_path, "fake")
    file.parent.mkdir()
    file.write_bytes(b"{oops\n")
    with pytest.raises(EvaluationError, match="holds a line that is no judgement"):
        paid_tokens(file)


def test_a_second_reply_of_the_same_words_is_written_too(tmp_path: Path):
    with JudgementStore(judgements_file(tmp_path, "fake")) as store:
        for _ in range(2):
            store.keep(judgement(score=None, unscored="unreadable: 'hm'"))
    assert len(lines(tmp_path)) == 2


def test_a_reply_that_utf_8_cannot_carry_is_kept(tmp_path: Path):
    odd = judgement(reply="\ud800 \u2028 \0", score=None, unscored="unreadable: \ud800")
    with JudgementStore(judgements_file(tmp_path, "fake")) as store:
        store.keep(odd)
    assert list(read_judgements(judgements_file(tmp_path, "fake"))) == [odd]
