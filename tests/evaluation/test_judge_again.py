"""Another chance for what has no score: all attempts anew, once for equal questions, kept by later runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fakes.judge_runs import fake, lines, pair, run

from ier1_plugin.evaluation.judges.judging import Reply
from ier1_plugin.evaluation.judges.store import Paid, judgements_file, paid_tokens
from ier1_plugin.evaluation.records import Score

GOOD = Reply(Score(4, 2, 3), text="fine", prompt_tokens=700, completion_tokens=30, model="fake-2026")
BAD = Reply(None, "unreadable: 'hm'", text="hm", prompt_tokens=700, completion_tokens=5)


def paid(folder: Path) -> Paid:
    return paid_tokens(judgements_file(folder, "fake"))


REASONS = ("refusal: 'no'", "unreadable: 'hm'", "out of range: quality is 7; wanted 0 to 3")


@pytest.mark.parametrize("reason", REASONS)
def test_another_chance_has_all_attempts_and_each_is_another_draw(reason: str, tmp_path: Path):
    bad = replace(BAD, unscored=reason)
    run(fake(bad, attempts=3)[0], tmp_path, [pair(tmp_path)])
    for before in (3, 6):
        judge, asked = fake(bad, attempts=3)
        run(judge, tmp_path, [pair(tmp_path)], retry_unscored=True)
        assert [attempt for _, _, attempt in asked] == [before, before + 1, before + 2]
    assert paid(tmp_path) == Paid(9, 6300, 45, 0)
    # without the wish nothing is asked
    judge, asked = fake(GOOD)
    (judgement,) = run(judge, tmp_path, [pair(tmp_path)])
    assert (judgement.unscored, judgement.score, asked) == (reason, None, [])
    assert paid(tmp_path) == Paid(9, 6300, 45, 0)


def test_another_chance_is_given_to_nothing_that_has_a_score(tmp_path: Path):
    pairs = [pair(tmp_path, id) for id in ("lamp", "sofa", "cat")]
    run(fake(lambda case: BAD if "sofa" in case.request else GOOD)[0], tmp_path, pairs)
    judge, asked = fake(replace(GOOD, score=Score(1, 1, 1)))
    found = run(judge, tmp_path, pairs, retry_unscored=True)
    assert [case.request for case, _, _ in asked] == ["remove the sofa"]
    assert {judgement.item: judgement.total for judgement in found} == {"lamp": 9, "sofa": 3, "cat": 9}


def test_what_came_of_another_chance_counts_in_later_runs(tmp_path: Path):
    run(fake(BAD)[0], tmp_path, [pair(tmp_path)])
    run(fake(GOOD)[0], tmp_path, [pair(tmp_path)], retry_unscored=True)
    for retry in (False, True):
        judge, asked = fake(BAD)
        (judgement,) = run(judge, tmp_path, [pair(tmp_path)], retry_unscored=retry)
        assert (judgement.score, asked) == (GOOD.score, [])
    assert len(lines(tmp_path)) == 2


def test_another_chance_is_given_once_to_equal_questions(tmp_path: Path):
    both = [pair(tmp_path), pair(tmp_path)._replace(system="sdxl")]
    run(fake(BAD, attempts=2)[0], tmp_path, both)
    judge, asked = fake(BAD, attempts=2)
    assert len(run(judge, tmp_path, both, retry_unscored=True)) == 2
    assert len(asked) == 2
    assert paid(tmp_path) == Paid(4, 2800, 20, 0)


def test_another_chance_that_was_killed_is_given_again(tmp_path: Path):
    class Killed(BaseException):
        pass

    run(fake(BAD, attempts=2)[0], tmp_path, [pair(tmp_path)])
    with pytest.raises(Killed):
        run(fake(BAD, Killed(), attempts=2)[0], tmp_path, [pair(tmp_path)], retry_unscored=True)
    judge, asked = fake(BAD, attempts=2)
    run(judge, tmp_path, [pair(tmp_path)], retry_unscored=True)
    assert [attempt for _, _, attempt in asked] == [3, 4]
    assert paid(tmp_path) == Paid(5, 3500, 25, 0)


def test_unscored_ones_can_be_given_another_chance(tmp_path: Path):
    run(fake(BAD)[0], tmp_path, [pair(tmp_path)])
    judge, asked = fake(BAD, GOOD)
    (judgement,) = run(judge, tmp_path, [pair(tmp_path)], retry_unscored=True)
    assert (judgement.score, len(asked)) == (GOOD.score, 2)
