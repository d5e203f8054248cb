"""Judging with a judge in this process: what stays unscored and why, what is kept, and what is never asked twice."""

from __future__ import annotations

import re
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.judge_runs import BAD, GOOD, completion_of, fake, image, item, pair, records, run
from PIL import Image

from ier1_plugin.chat import ChatError, Completion, RequestRejected, TransientError
from ier1_plugin.evaluation.folder import JUDGEMENTS, read_judgements
from ier1_plugin.evaluation.judges.base import Case, Pair, content_sha256, shown_size
from ier1_plugin.evaluation.judges.judging import MAX_FAILURES_IN_A_ROW, PREPARING, JudgementStore
from ier1_plugin.evaluation.records import EvaluationError, Judgement, Score
from ier1_plugin.runs.store import Store
from ier1_plugin.runs.workers import WINDOW
from ier1_plugin.task.images import encode, png_bytes

REFUSAL = Completion("", refusal="no", prompt_tokens=700, completion_tokens=5)
TOO_HIGH = replace(BAD, text='{"images_seen": 2, "fulfilment": 4, "quality": 7, "preservation": 1}')


class Killed(BaseException):
    pass


def tokens(folder: Path) -> int:
    """Of all replies that were ever paid for."""
    return sum((record["prompt_tokens"] or 0) + (record["completion_tokens"] or 0) for record in records(folder))


def test_a_judgement_says_what_was_judged_by_whom_and_what_came(tmp_path: Path):
    judge, _ = fake(GOOD)
    (judgement,) = run(judge, tmp_path, [pair(tmp_path)])
    assert judgement.who == ("lamp", "flux", "fake", 0)
    assert (judgement.score, judgement.total, judgement.unscored) == (Score(4, 2, 3), 9, "")
    assert (judgement.reply, judgement.model, judgement.prompt_tokens) == (GOOD.text, "fake-2026", 700)
    assert len(judgement.date) == len("2026-11-25T10:11:12+00:00")
    assert [Judgement.from_dict(record) for record in records(tmp_path)] == [judgement]


def test_what_is_known_is_not_asked_again_and_more_samples_ask_for_the_new_ones(tmp_path: Path):
    judge, asked = fake(GOOD)
    pairs = [pair(tmp_path, id) for id in ("lamp", "sofa", "cat")]
    first, second = (run(judge, tmp_path, pairs, samples=2) for _ in range(2))
    assert len(asked) == len(records(tmp_path)) == 6
    assert sorted(map(repr, first)) == sorted(map(repr, second))
    assert len(run(judge, tmp_path, pairs[:1], samples=5)) == 5
    assert [sample for _, sample, _ in asked[6:]] == [2, 3, 4]


def test_another_judge_request_rubric_or_image_is_another_question(tmp_path: Path):
    judge, asked = fake(GOOD)
    first = pair(tmp_path)
    for known, one, wanted in (
        (judge, first, 1),
        (judge, first._replace(item=item(tmp_path, request="remove the sofa")), 2),
        (judge, first._replace(edited=image(tmp_path, "else", (1, 2, 3))), 3),
        (replace(judge, rubric_sha256="another"), first, 4),
        (replace(judge, name="another"), first, 5),
        (judge, first, 5),
    ):
        run(known, tmp_path, [one])
        assert len(asked) == wanted


def test_an_equal_question_of_another_system_is_asked_once_also_at_the_same_time(tmp_path: Path):
    def slowly(case: Case) -> Completion:
        time.sleep(0.2)
        return GOOD

    judge, asked = fake(slowly)
    pairs = [pair(tmp_path)._replace(system=f"system-{number}") for number in range(8)]
    for _ in range(2):
        judgements = run(judge, tmp_path, pairs, jobs=8)
        assert {judgement.system: judgement.total for judgement in judgements} == {one.system: 9 for one in pairs}
    assert len(asked) == 1
    assert sorted(record["prompt_tokens"] for record in records(tmp_path)) == [0] * 7 + [700]


def test_a_pixel_does_make_another_picture():
    red, nearly = Image.new("RGB", (9, 9), (255, 0, 0)), Image.new("RGB", (9, 9), (255, 0, 1))
    assert content_sha256(png_bytes(red)) == content_sha256(png_bytes(red, "a trace"))
    assert content_sha256(png_bytes(red)) != content_sha256(png_bytes(nearly))
    assert content_sha256(encode(red, lossless=False)) != content_sha256(encode(nearly, lossless=True))
    # a torn or odd file is hashed as it is, to the end
    assert content_sha256(png_bytes(red)[:-3]) != content_sha256(png_bytes(red))


def test_a_reply_that_cannot_be_read_is_asked_for_again_and_kept(tmp_path: Path):
    judge, asked = fake(BAD, BAD, GOOD)
    (judgement,) = run(judge, tmp_path, [pair(tmp_path)])
    assert [attempt for _, _, attempt in asked] == [0, 1, 2]
    assert (judgement.score, judgement.prompt_tokens, judgement.completion_tokens) == (Score(4, 2, 3), 700, 30)
    assert [record["asked_again"] for record in records(tmp_path)] == [True, True, False]
    assert tokens(tmp_path) == 3 * 700 + 5 + 5 + 30
    assert list(read_judgements(tmp_path)) == [judgement]


@pytest.mark.parametrize(("reply", "kind"), [(BAD, "unreadable"), (REFUSAL, "refusal"), (TOO_HIGH, "out of range")])
def test_what_stays_unscored_gets_all_attempts_anew_only_where_that_is_wanted(
    reply: Completion, kind: str, tmp_path: Path
):
    for retry, attempts in ((False, [0, 1, 2]), (True, [3, 4, 5]), (True, [6, 7, 8]), (False, [])):
        judge, asked = fake(reply, attempts=3)
        (judgement,) = run(judge, tmp_path, [pair(tmp_path)], retry_unscored=retry)
        assert [attempt for _, _, attempt in asked] == attempts
        assert (judgement.score, judgement.kind) == (None, kind)
    assert tokens(tmp_path) == 9 * 705
    # and once for equal questions
    both = [pair(tmp_path), pair(tmp_path)._replace(system="sdxl")]
    judge, asked = fake(reply, attempts=3)
    assert len(run(judge, tmp_path, both, retry_unscored=True)) == 2
    assert len(asked) == 3


def test_another_chance_is_given_to_nothing_that_has_a_score_and_counts_in_later_runs(tmp_path: Path):
    pairs = [pair(tmp_path, id) for id in ("lamp", "sofa", "cat")]
    run(fake(lambda case: BAD if "sofa" in case.request else GOOD)[0], tmp_path, pairs)
    for number, retry in enumerate((True, False, True)):
        judge, asked = fake(completion_of(Score(1, 1, 1)) if not number else BAD)
        judgements = run(judge, tmp_path, pairs, retry_unscored=retry)
        assert [case.request for case, _, _ in asked] == ([] if number else ["remove the sofa"])
        assert {judgement.item: judgement.total for judgement in judgements} == {"lamp": 9, "sofa": 3, "cat": 9}


@pytest.mark.parametrize("retry", [False, True])
def test_bad_replies_before_a_kill_count_after_it_unless_all_attempts_are_made_anew(retry: bool, tmp_path: Path):
    with pytest.raises(Killed):
        run(fake(BAD, Killed())[0], tmp_path, [pair(tmp_path)])
    judge, asked = fake(BAD, attempts=3)
    run(judge, tmp_path, [pair(tmp_path)], retry_unscored=retry)
    assert [attempt for _, _, attempt in asked] == ([1, 2, 3] if retry else [1, 2])
    assert tokens(tmp_path) == (1 + len(asked)) * 705


@pytest.mark.parametrize(
    ("error", "unscored", "asked_again"),
    [
        (TransientError("127.0.0.1: HTTP 503"), "http: 127.0.0.1: HTTP 503", True),
        (RequestRejected("127.0.0.1: too long"), "http: 127.0.0.1: too long", True),
        (RequestRejected("content filter", filtered=True), "refusal: content filter", False),
    ],
)
def test_a_request_without_an_answer_is_asked_again_in_the_next_run_unless_a_filter_stopped_it(
    error: ChatError, unscored: str, asked_again: bool, tmp_path: Path
):
    judge, asked = fake(error)
    (judgement,) = run(judge, tmp_path, [pair(tmp_path)])
    assert (judgement.score, judgement.unscored, len(asked)) == (None, unscored, 1)
    judge, asked = fake(GOOD)
    (judgement,) = run(judge, tmp_path, [pair(tmp_path)])
    assert (judgement.total, len(asked)) == ((9, 1) if asked_again else (None, 0))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ChatError("the key was not accepted"), r"^fake: the key was not accepted$"),
        (TransientError("connection refused"), r"fake has failed \d+ times in a row, .*: connection refused"),
    ],
)
def test_a_wrong_key_and_a_dead_server_end_the_run_and_what_was_judged_is_kept(
    error: ChatError, words: str, tmp_path: Path
):
    judge, asked = fake(GOOD, GOOD, error)
    pairs = [pair(tmp_path, f"lamp-{number}") for number in range(100)]
    with pytest.raises(EvaluationError, match=words):
        run(judge, tmp_path, pairs, jobs=1)
    # others were in the queue when the last failure was noticed
    assert len(asked) <= 2 + MAX_FAILURES_IN_A_ROW + WINDOW * (1 + PREPARING)
    assert len([record for record in records(tmp_path) if record["score"]]) == 2


def test_failures_between_good_answers_end_nothing(tmp_path: Path):
    pairs = [pair(tmp_path, f"lamp-{number}") for number in range(3 * MAX_FAILURES_IN_A_ROW)]
    assert len(run(fake(*[TransientError("x"), GOOD] * 20)[0], tmp_path, pairs, jobs=1)) == len(pairs)
    (tmp_path / "rejected").mkdir()
    assert len(run(fake(RequestRejected("too long"))[0], tmp_path / "rejected", pairs, jobs=1)) == len(pairs)


@pytest.mark.parametrize(
    ("edited", "reason"),
    [
        ("the editor ran out of memory", "the editor ran out of memory"),
        (None, "image file .* can't be read: No such file or directory"),
        (b"hello", "edited: not an image"),
    ],
)
def test_an_item_without_an_edited_image_is_unscored_until_there_is_one(
    edited: str | bytes | None, reason: str, tmp_path: Path
):
    judge, asked = fake(GOOD)
    if isinstance(edited, bytes):
        (tmp_path / "edited.png").write_bytes(edited)
    missing = Pair(item(tmp_path), "flux", edited if isinstance(edited, str) else tmp_path / "edited.png")
    for _ in range(2):
        judgements = run(judge, tmp_path, [missing], samples=2)
        assert {judgement.score for judgement in judgements} == {None}
        assert all(re.match(f"missing image: {reason}", judgement.unscored) for judgement in judgements)
    assert (len(asked), len(records(tmp_path))) == (0, 2)
    # made at last
    (judgement,) = run(judge, tmp_path, [pair(tmp_path)])
    assert judgement.total == 9


def test_a_run_that_ends_early_waits_for_no_further_attempt(tmp_path: Path):
    closed: list[bool] = []

    def ask(case: Case, sample: int, attempt: int) -> Completion:
        if "cat" in case.request:
            raise ChatError("no credit")
        while not closed:
            time.sleep(0.01)
        raise TransientError("closed while it waited")

    judge = replace(fake(GOOD)[0], ask=ask, close=lambda: closed.append(True))
    with pytest.raises(EvaluationError, match="no credit"):
        run(judge, tmp_path, [pair(tmp_path, id) for id in ("lamp", "sofa", "cat")], jobs=3)
    # nothing is known about what was cut short
    assert records(tmp_path) == []


@pytest.mark.parametrize(
    ("edited", "wanted"),
    [
        ((300, 150), (300, 150)),
        ((150, 75), (300, 150)),
        ((600, 300), (300, 150)),
        # as editors round
        ((299, 150), (300, 150)),
        ((304, 152), (300, 150)),
        ((30, 16), (300, 150)),
        # a crop, a rotation, a border, an outpainting
        ((150, 150), (300, 300)),
        ((150, 300), (150, 300)),
        ((310, 160), (300, 155)),
        ((600, 150), (300, 75)),
        ((2, 90), (7, 300)),
    ],
)
def test_an_edit_is_shown_in_its_own_shape_and_as_large_as_its_source(edited: tuple[int, int], wanted: tuple[int, int]):
    assert shown_size(edited, (300, 150)) == wanted


@pytest.mark.parametrize(
    ("max_side", "wanted"),
    [(100, ((100, 50), (78, 100))), (1000, ((300, 150), (233, 300))), (None, ((300, 150), (70, 90)))],
)
def test_a_circle_stays_a_circle_for_the_judge(
    max_side: int | None, wanted: tuple[tuple[int, int], ...], tmp_path: Path
):
    judge, asked = fake(GOOD, max_side=max_side)
    wide = replace(item(tmp_path), image=str(image(tmp_path, "wide", (9, 9, 9), (300, 150))))
    run(judge, tmp_path, [Pair(wide, "flux", image(tmp_path, "tall", (1, 2, 3), (70, 90)))])
    case = asked[0][0]
    assert (case.source.size, case.edited.size) == wanted
    assert (case.source.getpixel((0, 0)), case.edited.getpixel((0, 0))) == ((9, 9, 9), (1, 2, 3))


def test_what_nobody_foresaw_is_the_error_of_its_pair_and_tried_again_in_the_next_run(tmp_path: Path):
    def ask(case: Case) -> Completion:
        if "cat" in case.request:
            raise KeyError("no such thing")
        return GOOD

    def prepare(case: Case) -> Case:
        if "sofa" in case.request:
            raise MemoryError
        return case

    judge, _ = fake(ask)
    pairs = [pair(tmp_path, id) for id in ("cat", "sofa", "lamp")]
    pairs.append(Pair(replace(pairs[0].item, id="nul", image="a\0b.png"), "flux", pairs[0].edited))
    found = {one.item: one.score or one.unscored for one in run(replace(judge, prepare=prepare), tmp_path, pairs)}
    assert found["lamp"] == Score(4, 2, 3)
    assert (found["cat"], found["sofa"]) == ("error: KeyError: 'no such thing'", "error: MemoryError")
    assert str(found["nul"]).startswith("missing image: ")
    assert [one.total for one in run(fake(GOOD)[0], tmp_path, pairs[:3])] == [9, 9, 9]


def test_requests_and_decoded_photos_are_bounded_and_a_pair_is_prepared_once(tmp_path: Path):
    under_way, asking, preparing = Counter[str](), [], []

    def counted(what: str, seen: list[int], case: Case) -> Case:
        under_way[what] += 1
        seen.append(under_way[what])
        time.sleep(0.01)
        under_way[what] -= 1
        return case

    judge, _ = fake(lambda case: (counted("asking", asking, case), GOOD)[1])
    judge = replace(judge, prepare=lambda case: counted("preparing", preparing, case))
    pairs = [pair(tmp_path, f"lamp-{number}") for number in range(40)]
    run(judge, tmp_path, pairs, samples=2, jobs=12)
    assert (len(asking), len(preparing)) == (80, 40)
    assert max(asking) <= 12
    assert max(preparing) <= PREPARING
    run(judge, tmp_path, pairs, samples=2, jobs=12)
    assert len(preparing) == 40


def judgement(**changes: object) -> Judgement:
    hashes = {f"{name}_sha256": name for name in ("source", "edited", "request", "rubric")}
    known: dict[str, object] = {"item": "lamp", "system": "flux", "judge": "fake", "sample": 0, "score": Score(1, 1, 1)}
    return Judgement(**known | hashes | changes)  # pyright: ignore[reportArgumentType]


def test_the_last_judgement_of_an_item_counts_and_what_is_known_is_not_written_again(tmp_path: Path):
    taken_over = {"prompt_tokens": 0, "completion_tokens": 0}
    with JudgementStore(tmp_path / JUDGEMENTS) as store:
        store.keep(judgement(score=None, unscored="http: 503"))
        store.keep(judgement(system="sdxl"))
        first = store.keep(judgement(prompt_tokens=700))
        for _ in range(3):
            assert store.keep(judgement(**taken_over)) == first
        store.keep(judgement(edited_sha256="another"))
        # the edit was made anew, and then the first one put back
        last = store.keep(judgement(**taken_over))
        # a second reply of the same words is another reply
        for _ in range(2):
            store.keep(judgement(item="cat", score=None, unscored="unreadable: 'hm'"))
    assert [record["edited_sha256"] for record in records(tmp_path)] == ["edited"] * 3 + ["another"] + ["edited"] * 3
    cat = judgement(item="cat", score=None, unscored="unreadable: 'hm'")
    assert list(read_judgements(tmp_path)) == [cat, last, judgement(system="sdxl")]


def test_a_record_that_is_no_judgement_is_an_error_that_names_the_file(tmp_path: Path):
    with Store(tmp_path / JUDGEMENTS) as store:
        store.append("key", {"item": "lamp"})
    with pytest.raises(EvaluationError, match=r"judgements\.sqlite holds a record that is not a judgement"):
        list(read_judgements(tmp_path))
    assert list(read_judgements(tmp_path / "elsewhere")) == []
