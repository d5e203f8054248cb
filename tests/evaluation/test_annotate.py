"""A blind rating study: what is drawn, what is kept, the words that raters see, and what is exported."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fakes.annotate_study import (
    GOOD,
    JUDGE,
    SYSTEMS,
    evaluation_folder,
    lines,
    run,
    verdict,
)

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from ier1_plugin.evaluation.agreement.annotate_export import exported
from ier1_plugin.evaluation.agreement.annotate_pairs import RatedPair, draw
from ier1_plugin.evaluation.agreement.rating_page import RequestRejected, read_rating
from ier1_plugin.evaluation.agreement.rating_study import Study
from ier1_plugin.evaluation.agreement.ratings import read_ratings
from ier1_plugin.evaluation.agreement.rubric import read_rubric, rubric
from ier1_plugin.evaluation.records import DIMENSIONS, EvaluationError, Score


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six items, of which one system edited five and the other six."""
    return evaluation_folder(tmp_path / "evaluation")


# what is rated


def many(systems: int, items: int, missing: tuple[tuple[int, int], ...] = ()) -> dict[str, list[RatedPair]]:
    return {
        f"s{system}": [
            RatedPair(f"i{item}", f"s{system}", "", "", "") for item in range(items) if (system, item) not in missing
        ]
        for system in range(systems)
    }


def test_every_item_is_drawn_once_before_any_comes_twice_and_systems_get_equal_shares():
    drawn = draw(many(systems=3, items=30), sample=30, seed=0)
    assert len({pair.item for pair in drawn}) == 30
    assert Counter(pair.system for pair in drawn) == {"s0": 10, "s1": 10, "s2": 10}
    more = draw(many(systems=3, items=30), sample=50, seed=0)
    assert more[:30] == drawn
    assert len(set(more)) == 50


def test_all_edits_are_drawn_where_the_sample_is_larger_and_what_was_not_edited_is_not():
    drawn = draw(many(systems=2, items=4, missing=((0, 1), (1, 1), (1, 2))), sample=100, seed=0)
    assert len(drawn) == len(set(drawn)) == 5
    assert "i1" not in {pair.item for pair in drawn}


def test_the_seed_decides_what_is_drawn():
    assert draw(many(1, 50), 10, seed=1) == draw(many(1, 50), 10, seed=1) != draw(many(1, 50), 10, seed=2)


def test_raters_rate_the_same_pairs_in_orders_of_their_own_that_stay_the_same(folder):
    with Study.opened(folder, raters=2) as study:
        orders = [study.order(rater) for rater in study.raters]
    with Study.opened(folder) as study:
        assert [study.order(rater) for rater in study.raters] == orders
    assert set(orders[0]) == set(orders[1]) == set(study.pairs)
    assert orders[0] != orders[1]
    assert len(study.pairs) == 11


def test_a_study_goes_on_with_its_links_takes_more_raters_and_refuses_other_settings(folder):
    with Study.opened(folder, sample=4, raters=1, seed=3) as study:
        pass
    with Study.opened(folder, sample=4, raters=3) as again:
        assert again.pairs == study.pairs
        assert again.raters[0] == study.raters[0]
        assert len({rater.token for rater in again.raters}) == 3
        assert min(len(rater.token) for rater in again.raters) >= 32
    changes: list[dict[str, Any]] = [{"sample": 5}, {"seed": 4}, {"systems": [SYSTEMS[0]]}, {"raters": 2}]
    for settings in changes:
        with pytest.raises(EvaluationError), Study.opened(folder, **settings):
            pass


def test_only_the_systems_that_were_named_are_rated(folder):
    with Study.opened(folder, systems=[SYSTEMS[0]]) as study:
        assert {pair.system for pair in study.pairs} == {SYSTEMS[0]}
        assert len(study.pairs) == 5


def test_the_tokens_are_readable_by_their_owner_alone(folder):
    with Study.opened(folder):
        assert (folder / "annotation").stat().st_mode & 0o077 == 0


# what is kept


def test_a_torn_last_line_costs_that_rating_alone_and_the_next_one_stands_after_it(folder):
    with Study.opened(folder) as study:
        rater = study.raters[0]
        for place in (0, 1):
            study.rate(rater, place, Score(4, 2, 3), 1.0)
        file = study.file(rater)
    whole = file.read_bytes()
    for cut in (1, 20, len(whole) - whole.index(b"\n") - 2):
        file.write_bytes(whole[:-cut])
        with Study.opened(folder) as study:
            assert study.scores(rater)[:2] == [Score(4, 2, 3), None]
            study.rate(rater, 2, Score(0, 1, 2), 1.0)
        assert Study.read(folder).scores(rater)[:3] == [Score(4, 2, 3), None, Score(0, 1, 2)]
        assert len(lines(folder)) == 2


def test_a_rating_that_was_changed_counts_as_it_was_given_last(folder):
    with Study.opened(folder) as study:
        study.rate(study.raters[0], 0, Score(4, 2, 3), 1.0)
        study.rate(study.raters[0], 0, Score(1, 1, 1), 1.0)
    assert Study.read(folder).scores(study.raters[0])[0] == Score(1, 1, 1)
    assert len(lines(folder)) == 2


def test_a_damaged_line_is_told_with_its_number_and_not_passed_over(folder):
    with Study.opened(folder) as study:
        study.rate(study.raters[0], 0, Score(4, 2, 3), 1.0)
    with study.file(study.raters[0]).open("a") as file:
        file.write('{"item": "item-1"}\n')
    with pytest.raises(EvaluationError, match=r"rater-1\.jsonl, line 2 is no rating"):
        Study.read(folder)


BAD_RATINGS = {
    "out of range": {"score": GOOD | {"quality": 4}},
    "negative": {"score": GOOD | {"quality": -1}},
    "a fraction": {"score": GOOD | {"quality": 1.5}},
    "a word": {"score": GOOD | {"quality": "2"}},
    "yes": {"score": GOOD | {"quality": True}},
    "nothing": {"score": GOOD | {"quality": None}},
    "a scale too few": {"score": {"fulfilment": 4, "quality": 2}},
    "a scale too many": {"score": GOOD | {"mood": 1}},
    "no score": {"seconds": 3},
    "a list": [4, 2, 3],
    "a time that is none": {"score": GOOD, "seconds": "long"},
}


@pytest.mark.parametrize("name", BAD_RATINGS)
def test_what_is_no_rating_is_refused(name):
    with pytest.raises(RequestRejected):
        read_rating(json.dumps(BAD_RATINGS[name]).encode())


@pytest.mark.parametrize(("seconds", "kept"), [("12.5", 12.5), ("-3", 0.0), ("Infinity", 0.0), ("NaN", 0.0)])
def test_a_time_that_cannot_be_is_kept_as_none(seconds, kept):
    assert read_rating(f'{{"score": {json.dumps(GOOD)}, "seconds": {seconds}}}'.encode())[:2] == (Score(4, 2, 3), kept)


# the words


def test_raters_see_the_judge_s_own_words():
    from ier1_plugin import prompts

    shown, asked = rubric(), prompts.render("judge", request="")
    assert [(scale.name, scale.highest) for scale in shown.scales] == list(DIMENSIONS.items())
    for scale in shown.scales:
        assert scale.question in asked
        assert all(f"- {score}: {words}" in asked for score, words in scale.levels)
    assert shown.advice in asked
    assert shown.advice


def test_a_rubric_in_another_form_is_refused_with_what_is_wanted():
    with pytest.raises(EvaluationError, match="does not show fulfilment from 4 to 0; wanted a line such as"):
        read_rubric("Rate the edit from 0 to 10.\n\nAnswer with a number.")


# the export


def test_ratings_and_the_judge_s_scores_of_the_same_edits_come_out_as_one_table(folder, tmp_path):
    with Study.opened(folder, raters=2) as study:
        for rater in study.raters:
            for place in range(11):
                study.rate(rater, place, Score(place % 5, place % 4, 3), 1.0)
    done = run("annotate", folder, "--export", tmp_path / "ratings.csv")
    assert done.returncode == 0, done.stderr
    ratings = read_ratings(tmp_path / "ratings.csv")
    assert {rating.dimension for rating in ratings} == {*DIMENSIONS, "total"}
    assert {rating.group for rating in ratings} == set(SYSTEMS)
    said = {(rating.item, rating.rater, rating.dimension): rating.score for rating in ratings}
    for pair in study.pairs:
        number = int(pair.item[-1])
        scores = [score for sample in (0, 1) if (score := verdict(number, pair.system, sample))]
        found = said.get((f"{pair.item}/{pair.system}", f"judge:{JUDGE}", "total"))
        assert found == (sum(score.total for score in scores) / 2 if scores else None)
    first = study.order(study.raters[0])[7]
    assert said[f"{first.item}/{first.system}", "rater-1", "fulfilment"] == 2
    compared = run("agreement", tmp_path / "ratings.csv", "--json", tmp_path / "a.json", "--resamples", "100")
    assert compared.returncode == 0, compared.stderr
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["fulfilment"][f"judge:{JUDGE}"]["spearman"]["n"] == 9
    assert found["preservation"]["humans"]["krippendorff_alpha"]["value"] is None


def test_ratings_without_judges_are_exported_too(tmp_path):
    folder = evaluation_folder(tmp_path / "evaluation", judged=False)
    with Study.opened(folder, raters=1) as study:
        study.rate(study.raters[0], 0, Score(4, 2, 3), 1.0)
    ratings, notes = exported(study, "cluster")
    assert [rating.score for rating in ratings] == [4, 2, 3, 9]
    assert ratings[0].group.startswith("post-")
    assert notes == []


@pytest.mark.parametrize(("options", "told"), [((), "no ratings in"), (("--group-by", "mood"), "--group-by is 'mood'")])
def test_an_export_of_nothing_is_told_and_writes_nothing(options, told, folder, tmp_path):
    done = run("annotate", folder, "--export", tmp_path / "ratings.csv", *options)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert told in done.stderr
    assert not (tmp_path / "ratings.csv").exists()
