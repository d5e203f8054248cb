"""Judging with a judge in this process: retries, what stays unscored and why, and what is never asked twice."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.judge_runs import fake, image, item, lines, pair, run
from PIL import Image

from ier1_plugin.chat.server import ChatError, RequestRejected, TransientError
from ier1_plugin.evaluation.judges.base import bounded, content_sha256
from ier1_plugin.evaluation.judges.judging import MAX_FAILURES_IN_A_ROW, PREPARING, Case, Pair, Reply, judge_all
from ier1_plugin.evaluation.judges.store import JudgementStore, Paid, judgements_file, paid_tokens
from ier1_plugin.evaluation.records import EvaluationError, Judgement, Score
from ier1_plugin.runs.workers import WINDOW
from ier1_plugin.task.images import encode, png_bytes

GOOD = Reply(Score(4, 2, 3), text="fine", prompt_tokens=700, completion_tokens=30, model="fake-2026")
BAD = Reply(None, "unreadable: 'hm'", text="hm", prompt_tokens=700, completion_tokens=5)


def paid(folder: Path) -> Paid:
    return paid_tokens(judgements_file(folder, "fake"))


def in_the_queue(jobs: int) -> int:
    return WINDOW * (jobs + PREPARING)


def test_a_judgement_says_what_was_judged_by_whom_and_what_came(tmp_path: Path):
    judge, _ = fake(GOOD)
    (judgement,) = run(judge, tmp_path, [pair(tmp_path)])
    assert (judgement.item, judgement.system, judgement.judge, judgement.sample) == ("lamp", "flux", "fake", 0)
    assert (judgement.score, judgement.total, judgement.unscored) == (Score(4, 2, 3), 9, "")
    assert (judgement.reply, judgement.model, judgement.prompt_tokens) == ("fine", "fake-2026", 700)
    assert len(judgement.date) == len("2026-11-25T10:11:12+00:00")
    assert [Judgement.from_dict(line) for line in lines(tmp_path)] == [judgement]


def test_a_second_run_asks_nothing_and_writes_nothing(tmp_path: Path):
    judge, asked = fake(GOOD)
    pairs = [pair(tmp_path, id) for id in ("lamp", "sofa", "cat")]
    first = run(judge, tmp_path, pairs, samples=2)
    second = run(judge, tmp_path, pairs, samples=2)
    assert len(asked) == 6
    assert sorted(map(repr, first)) == sorted(map(repr, second))
    assert len(lines(tmp_path)) == 6


def test_more_samples_ask_only_for_the_new_ones(tmp_path: Path):
    judge, asked = fake(GOOD)
    run(judge, tmp_path, [pair(tmp_path)], samples=2)
    assert len(run(judge, tmp_path, [pair(tmp_path)], samples=5)) == 5
    assert sorted(sample for _, sample, _ in asked) == [0, 1, 2, 3, 4]


def test_another_request_rubric_or_image_is_another_question(tmp_path: Path):
    judge, asked = fake(GOOD)
    first = pair(tmp_path)
    run(judge, tmp_path, [first])
    run(judge, tmp_path, [first._replace(item=item(tmp_path, request="remove the sofa"))])
    run(judge, tmp_path, [first._replace(edited=image(tmp_path, "else", (1, 2, 3)))])
    run(fake(GOOD)[0], tmp_path, [first])
    other, asked_otherwise = fake(GOOD)
    run(type(other)("fake", other.ask, "another rubric"), tmp_path, [first])
    assert (len(asked), len(asked_otherwise)) == (3, 1)


def test_the_same_edit_of_another_system_is_not_paid_for_again(tmp_path: Path):
    judge, asked = fake(GOOD)
    first = pair(tmp_path)
    found = run(judge, tmp_path, [first, first._replace(system="sdxl")], jobs=4)
    assert len(asked) == 1
    assert {judgement.system: judgement.score for judgement in found} == {"flux": GOOD.score, "sdxl": GOOD.score}
    assert sorted(line["prompt_tokens"] for line in lines(tmp_path)) == [0, 700]
    run(judge, tmp_path, [first, first._replace(system="sdxl")])
    assert len(lines(tmp_path)) == 2


def test_a_trace_inside_a_png_makes_no_other_picture(tmp_path: Path):
    judge, asked = fake(GOOD)
    first = pair(tmp_path)
    run(judge, tmp_path, [first])
    assert isinstance(first.edited, Path)
    first.edited.write_bytes(png_bytes(Image.open(first.edited).copy(), '{"seed": 7}'))
    run(judge, tmp_path, [first])
    assert len(asked) == 1


def test_a_pixel_does_make_another_picture():
    red, nearly = Image.new("RGB", (9, 9), (255, 0, 0)), Image.new("RGB", (9, 9), (255, 0, 1))
    assert content_sha256(png_bytes(red)) == content_sha256(png_bytes(red, "a trace"))
    assert content_sha256(png_bytes(red)) != content_sha256(png_bytes(nearly))
    assert content_sha256(encode(red, lossless=False)) != content_sha256(encode(nearly, lossless=True))
    # a torn or odd file is hashed as it is, to the end
    assert content_sha256(png_bytes(red)[:-3]) != content_sha256(png_bytes(red))


def test_a_reply_that_cannot_be_read_is_asked_for_again(tmp_path: Path):
    judge, asked = fake(BAD, BAD, GOOD)
    (judgement,) = run(judge, tmp_path, [pair(tmp_path)])
    assert [attempt for _, _, attempt in asked] == [0, 1, 2]
    assert judgement.score == Score(4, 2, 3)
    assert (judgement.prompt_tokens, judgement.completion_tokens) == (700, 30)
    assert len(lines(tmp_path)) == 1
    assert paid(tmp_path) == Paid(3, 2100, 40, 0)


def test_after_so_many_bad_replies_it_stays_unscored_and_is_not_asked_by_a_later_run(tmp_path: Path):
    judge, asked = fake(BAD, attempts=3)
    (judgement,) = run(judge, tmp_path, [pair(tmp_path)])
    assert (judgement.score, judgement.unscored, judgement.reply) == (None, "unreadable: 'hm'", "hm")
    assert run(judge, tmp_path, [pair(tmp_path)]) == [judgement]
    assert paid(tmp_path) == Paid(3, 2100, 15, 0)
    assert len(asked) == 3


def test_bad_replies_before_a_kill_count_after_it(tmp_path: Path):
    class Killed(BaseException):
        pass

    judge, _ = fake(BAD, Killed())
    with pytest.raises(Killed):
        run(judge, tmp_path, [pair(tmp_path)])
    judge, asked = fake(BAD, attempts=3)
    (judgement,) = run(judge, tmp_path, [pair(tmp_path)])
    assert [attempt for _, _, attempt in asked] == [1, 2]
    assert (judgement.score, paid(tmp_path)) == (None, Paid(3, 2100, 15, 0))


def test_a_final_refusal_is_not_asked_again(tmp_path: Path):
    judge, asked = fake(Reply(None, "refusal: content filter", final=True))
    (judgement,) = run(judge, tmp_path, [pair(tmp_path)])
    assert judgement.unscored == "refusal: content filter"
    run(judge, tmp_path, [pair(tmp_path)])
    assert len(asked) == 1


def test_a_bad_moment_of_the_server_is_waited_out(tmp_path: Path):
    judge, asked = fake(TransientError("HTTP 503"), TransientError("HTTP 429"), GOOD)
    (judgement,) = run(judge, tmp_path, [pair(tmp_path)])
    assert judgement.score == GOOD.score
    assert [attempt for _, _, attempt in asked] == [0, 0, 0]


def test_a_server_that_does_not_answer_leaves_it_unscored_until_the_next_run(tmp_path: Path):
    judge, asked = fake(TransientError("127.0.0.1: HTTP 503"), requests=4)
    (judgement,) = run(judge, tmp_path, [pair(tmp_path)])
    assert (judgement.score, judgement.unscored) == (None, "http: 127.0.0.1: HTTP 503")
    assert len(asked) == 4
    judge, _ = fake(GOOD)
    (judgement,) = run(judge, tmp_path, [pair(tmp_path)])
    assert judgement.score == GOOD.score
    assert [line["unscored"][:5] for line in lines(tmp_path)] == ["http:", ""]


def test_a_case_that_the_server_will_never_take_is_asked_once(tmp_path: Path):
    judge, asked = fake(RequestRejected("too long"))
    (judgement,) = run(judge, tmp_path, [pair(tmp_path)])
    assert (judgement.unscored, len(asked)) == ("http: too long", 1)


def test_a_wrong_key_ends_the_run_with_one_line(tmp_path: Path):
    judge, asked = fake(ChatError("the key in OPENAI_API_KEY was not accepted (HTTP 401)"))
    pairs = [pair(tmp_path, f"lamp-{number}") for number in range(100)]
    with pytest.raises(EvaluationError, match=r"^fake: the key in OPENAI_API_KEY was not accepted \(HTTP 401\)$"):
        run(judge, tmp_path, pairs, jobs=2)
    assert len(asked) <= in_the_queue(jobs=2)


def test_a_dead_server_ends_the_run_and_what_was_judged_is_kept(tmp_path: Path):
    judge, asked = fake(GOOD, GOOD, TransientError("connection refused"), requests=1)
    pairs = [pair(tmp_path, f"lamp-{number}") for number in range(100)]
    with pytest.raises(EvaluationError, match=r"fake has failed \d+ times in a row, the last time: connection refused"):
        run(judge, tmp_path, pairs, jobs=1)
    # others were in the queue when the last failure was noticed
    assert 0 <= len(asked) - 2 - MAX_FAILURES_IN_A_ROW <= in_the_queue(jobs=1)
    assert len([line for line in lines(tmp_path) if line["score"]]) == 2


def test_failures_between_good_answers_end_nothing(tmp_path: Path):
    judge, _ = fake(*[TransientError("x"), GOOD] * 40, requests=1)
    pairs = [pair(tmp_path, f"lamp-{number}") for number in range(80)]
    assert len(run(judge, tmp_path, pairs, jobs=1)) == 80


def test_an_item_without_an_edited_image_is_unscored_with_the_reason(tmp_path: Path):
    judge, asked = fake(GOOD)
    missing = Pair(item(tmp_path), "flux", "the editor ran out of memory")
    found = run(judge, tmp_path, [missing], samples=2)
    assert {judgement.unscored for judgement in found} == {"missing image: the editor ran out of memory"}
    assert {judgement.edited_sha256 for judgement in found} == {""}
    run(judge, tmp_path, [missing], samples=2)
    assert (len(asked), len(lines(tmp_path))) == (0, 2)
    # made at last
    (judgement,) = run(judge, tmp_path, [pair(tmp_path)])
    assert judgement.score == GOOD.score


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (None, "missing image: image file .* can't be read: No such file or directory"),
        (b"", "missing image: edited: image is empty"),
        (b"hello", "missing image: edited: not an image"),
        (png_bytes(Image.new("RGB", (64, 64)))[:60], "missing image: edited: image is damaged"),
    ],
)
def test_an_edited_image_that_is_none_is_unscored_with_the_reason(data: bytes | None, reason: str, tmp_path: Path):
    judge, asked = fake(GOOD)
    file = tmp_path / "edited.png"
    if data is not None:
        file.write_bytes(data)
    (judgement,) = run(judge, tmp_path, [Pair(item(tmp_path), "flux", file)])
    assert judgement.score is None
    assert re.match(reason, judgement.unscored)
    assert not asked


def test_a_source_that_is_gone_is_unscored_with_the_reason(tmp_path: Path):
    judge, asked = fake(GOOD)
    first = pair(tmp_path)
    Path(first.item.image).unlink()
    (judgement,) = run(judge, tmp_path, [first])
    assert judgement.unscored.startswith("missing image: image file")
    assert not asked


def test_the_edited_image_is_brought_to_the_size_of_the_source_and_both_are_bounded(tmp_path: Path):
    judge, asked = fake(GOOD, max_side=100)
    wide = replace(item(tmp_path), image=str(image(tmp_path, "wide", (9, 9, 9), (300, 150))))
    run(judge, tmp_path, [Pair(wide, "flux", image(tmp_path, "tall", (1, 2, 3), (70, 90)))])
    case = asked[0][0]
    assert (case.source.size, case.edited.size) == ((100, 50), (100, 50))
    assert (case.source.getpixel((0, 0)), case.edited.getpixel((0, 0))) == ((9, 9, 9), (1, 2, 3))


def test_a_judge_without_a_bound_sees_the_images_as_they_are(tmp_path: Path):
    judge, asked = fake(GOOD)
    run(judge, tmp_path, [Pair(item(tmp_path), "flux", image(tmp_path, "tall", (1, 2, 3), (70, 90)))])
    assert asked[0][0].edited.size == (70, 90)


@pytest.mark.parametrize(
    ("size", "side", "wanted"),
    [((2048, 1024), 1024, (1024, 512)), ((64, 48), 1024, (64, 48)), ((9000, 3), 1000, (1000, 1)), ((5, 5), 1, (1, 1))],
)
def test_images_shrink_to_the_bound_and_never_grow(size: tuple[int, int], side: int, wanted: tuple[int, int]):
    assert bounded(size, side) == wanted


def test_pairs_are_read_as_they_are_needed(tmp_path: Path):
    judge, _ = fake(GOOD)
    read = 0

    def pairs():
        nonlocal read
        for number in range(200):
            read += 1
            yield pair(tmp_path, f"lamp-{number}")

    with JudgementStore(judgements_file(tmp_path, "fake")) as store:
        found = judge_all(pairs(), judge, store, 1, 2)
        next(found)
        assert read <= in_the_queue(jobs=2) + 1
        # closing the stream ends the work
        found.close()  # type: ignore[attr-defined]
    assert read <= in_the_queue(jobs=2) + 1


def test_equal_questions_that_come_at_once_are_asked_once(tmp_path: Path):
    def slowly(case: Case) -> Reply:
        time.sleep(0.2)
        return GOOD

    judge, asked = fake(slowly)
    first = pair(tmp_path)
    found = run(judge, tmp_path, [first._replace(system=f"system-{number}") for number in range(8)], jobs=8)
    assert (len(found), len(asked)) == (8, 1)


def test_no_more_requests_than_jobs_are_under_way(tmp_path: Path):
    under_way: list[int] = []
    counter = [0]

    def count(case: Case) -> Reply:
        counter[0] += 1
        under_way.append(counter[0])
        time.sleep(0.01)
        counter[0] -= 1
        return GOOD

    judge, _ = fake(count)
    run(judge, tmp_path, [pair(tmp_path, f"lamp-{number}") for number in range(30)], jobs=3)
    assert max(under_way) == 3


def test_a_pair_is_made_ready_once_for_all_samples_and_attempts(tmp_path: Path):
    judge, asked = fake(BAD, GOOD)
    made: list[Case] = []
    ready = replace(judge, show=lambda case: made.append(case) or case)
    run(ready, tmp_path, [pair(tmp_path)], samples=3)
    assert (len(made), len(asked)) == (1, 4)
    run(ready, tmp_path, [pair(tmp_path)], samples=3)
    assert len(made) == 1


def test_only_a_few_photos_are_decoded_at_a_time(tmp_path: Path):
    decoding: list[int] = []
    counter = [0]

    def show(case: Case) -> Case:
        counter[0] += 1
        decoding.append(counter[0])
        time.sleep(0.01)
        counter[0] -= 1
        return case

    judge, _ = fake(GOOD)
    run(replace(judge, show=show), tmp_path, [pair(tmp_path, f"lamp-{number}") for number in range(40)], jobs=16)
    assert len(decoding) == 40
    assert max(decoding) <= PREPARING
