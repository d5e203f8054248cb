"""A blind rating study: the sample, what is kept and ties a rating to what was seen, the rubric, and the export."""

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
    edit_again,
    evaluation_folder,
    folder,
    kept,
    other_rubric,
    run,
    verdict,
)
from fakes.evaluation_folders import RUBRIC

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from ier1_plugin import prompts
from ier1_plugin.evaluation.agreement.rating_page import InvalidRating, read_rating
from ier1_plugin.evaluation.agreement.rating_study import (
    RatedPair,
    Study,
    export_ratings,
    other_rubrics,
    read_rubric,
    sample_pairs,
)
from ier1_plugin.evaluation.agreement.ratings import read_ratings
from ier1_plugin.evaluation.records import DIMENSIONS, EvaluationError, Score
from ier1_plugin.runs.folder import write

__all__ = ["folder"]


def rate_all(folder: Path, raters: int = 1) -> Study:
    with Study.opened(folder, raters=raters) as study:
        for rater in study.raters:
            for position in range(len(study.pairs)):
                study.rate(rater, position, Score(position % 5, position % 4, 3), 1.0)
    return study


def set_judges(folder: Path, *judges: dict[str, str]) -> None:
    facts = json.loads((folder / "evaluation.json").read_text())
    (folder / "evaluation.json").write_text(json.dumps(facts | {"judges": judges}))


# the sample


def many(systems: int, items: int, missing: tuple[tuple[int, int], ...] = ()) -> dict[str, list[RatedPair]]:
    return {
        f"s{system}": [
            RatedPair(f"i{item}", f"s{system}", "", "", "") for item in range(items) if (system, item) not in missing
        ]
        for system in range(systems)
    }


def test_every_item_is_sampled_once_before_any_comes_twice_and_systems_get_equal_shares():
    sample = sample_pairs(many(systems=3, items=30), sample=30, seed=0)
    assert len({pair.item for pair in sample}) == 30
    assert Counter(pair.system for pair in sample) == {"s0": 10, "s1": 10, "s2": 10}
    more = sample_pairs(many(systems=3, items=30), sample=50, seed=0)
    assert more[:30] == sample
    assert len(set(more)) == 50
    assert sample_pairs(many(1, 50), 10, seed=1) == sample_pairs(many(1, 50), 10, seed=1)
    assert sample_pairs(many(1, 50), 10, seed=1) != sample_pairs(many(1, 50), 10, seed=2)
    # of a larger one than there are edits, all; those that failed are not among them
    every = sample_pairs(many(systems=2, items=4, missing=((0, 1), (1, 1), (1, 2))), sample=100, seed=0)
    assert len(every) == len(set(every)) == 5
    assert "i1" not in {pair.item for pair in every}


def test_raters_rate_the_same_pairs_in_orders_of_their_own_that_stay_the_same(folder):
    with Study.opened(folder, raters=2) as study:
        orders = [study.order(rater) for rater in study.raters]
    with Study.opened(folder) as study:
        assert [study.order(rater) for rater in study.raters] == orders
    assert set(orders[0]) == set(orders[1]) == set(study.pairs)
    assert orders[0] != orders[1]
    assert len(study.pairs) == 11


def test_a_study_goes_on_with_its_links_takes_more_raters_and_refuses_other_settings(folder, tmp_path):
    with Study.opened(folder, sample=4, raters=1, seed=3, rubric_sha256=RUBRIC) as study:
        assert (folder / "annotation").stat().st_mode & 0o077 == 0
    with Study.opened(folder, sample=4, raters=3) as again:
        assert again.pairs == study.pairs
        assert again.raters[0] == study.raters[0]
        assert len({rater.token for rater in again.raters}) == 3
        assert min(len(rater.token) for rater in again.raters) >= 32
        assert again.rubric_sha256 == RUBRIC
    other = read_rubric(other_rubric(tmp_path / "other.jinja")).sha256
    changes: dict[str, Any] = {"sample": 5, "seed": 4, "systems": [SYSTEMS[0]], "raters": 2, "rubric_sha256": other}
    for name, value in changes.items():
        word = name.removesuffix("_sha256")
        with pytest.raises(EvaluationError, match=word), Study.opened(folder, **{name: value}):
            pass


# what is kept


def test_a_rating_that_was_changed_counts_as_it_was_given_last(folder):
    with Study.opened(folder) as study:
        rater = study.raters[0]
        study.rate(rater, 0, Score(4, 2, 3), 1.0)
        study.rate(rater, 0, Score(1, 1, 1), 1.0)
        assert Study.read(folder).scores(rater)[0] == Score(1, 1, 1)
    assert len(kept(folder)) == 2
    lines = (folder / "annotation/ratings.jsonl").read_text().splitlines()
    assert [json.loads(line)["score"]["fulfilment"] for line in lines] == [4, 1]


@pytest.mark.parametrize(
    "rating",
    [
        *({"score": GOOD | {"quality": value}} for value in (4, -1, 1.5, "2", True, None)),
        {"score": {"fulfilment": 4, "quality": 2}},
        {"score": GOOD | {"mood": 1}},
        {"seconds": 3},
        [4, 2, 3],
        {"score": GOOD, "seconds": "long"},
    ],
    ids=str,
)
def test_an_invalid_rating_is_refused(rating):
    with pytest.raises(InvalidRating):
        read_rating(json.dumps(rating).encode())


@pytest.mark.parametrize(("seconds", "wanted"), [("12.5", 12.5), ("-3", 0.0), ("Infinity", 0.0), ("NaN", 0.0)])
def test_an_impossible_time_is_kept_as_none(seconds, wanted):
    body = f'{{"score": {json.dumps(GOOD)}, "seconds": {seconds}}}'.encode()
    assert read_rating(body) == (Score(4, 2, 3), wanted, "")


@pytest.mark.slow
def test_ratings_of_an_edit_that_was_made_again_are_left_out_of_the_export_and_counted(folder, tmp_path):
    study = rate_all(folder, raters=2)
    pair = study.pairs[3]
    edit_again(folder, pair)
    done = run("annotate", folder, "--export", tmp_path / "ratings.csv")
    assert done.returncode == 0, done.stderr
    assert "2 of 22 ratings" in done.stderr
    ratings = [rating for rating in read_ratings(tmp_path / "ratings.csv") if rating.rater.startswith("rater-")]
    assert len({(rating.item, rating.rater) for rating in ratings}) == 20
    assert f"{pair.item}/{pair.system}" not in {rating.item for rating in ratings}
    for other in study.pairs:
        edit_again(folder, other)
    done = run("annotate", folder, "--export", tmp_path / "none.csv")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "22 of 22 ratings" in done.stderr
    assert not (tmp_path / "none.csv").exists()


# the rubric


def test_raters_see_the_judge_s_own_words():
    rubric, prompt = read_rubric(), prompts.render("judge", request="")
    assert [(scale.name, scale.levels[0][0]) for scale in rubric.scales] == list(DIMENSIONS.items())
    for scale in rubric.scales:
        assert scale.question in prompt
        assert all(f"- {score}: {words}" in prompt for score, words in scale.levels)
    assert rubric.advice
    assert rubric.advice in prompt


def test_a_rubric_in_another_form_is_refused_with_the_form_that_is_wanted(tmp_path):
    file = tmp_path / "rubric.jinja"
    file.write_text('Rate "{{ request }}" from 0 to 10.\n\nAnswer with a number.')
    with pytest.raises(EvaluationError, match=r"rubric\.jinja .* fulfilment from 4 to 0; .*- 4: all of it"):
        read_rubric(file)


def test_raters_must_see_the_rubric_of_one_judge_at_least(folder):
    other = {"name": JUDGE, "rubric_sha256": "5e1f" * 16, "rubric": "mine.jinja"}
    set_judges(folder, other)
    with pytest.raises(EvaluationError, match=r"mine\.jinja \(5e1f5e1f5e1f\).* --rubric FILE"):
        other_rubrics(RUBRIC, folder, required=True)
    set_judges(folder, other, {"name": "gemini:gemini-2.5-flash", "rubric_sha256": RUBRIC})
    (note,) = other_rubrics(RUBRIC, folder, required=True)
    assert note.startswith(JUDGE)
    # its hash is that of its definition
    set_judges(folder, {"name": "pixel", "rubric_sha256": "5e1f" * 16})
    assert other_rubrics(RUBRIC, folder, required=True) == []


def test_a_judge_that_joined_later_with_another_rubric_is_named_in_the_export(folder):
    with Study.opened(folder, rubric_sha256="5e1f" * 16) as study:
        study.rate(study.raters[0], 0, Score(4, 2, 3), 1.0)
    _, notes = export_ratings(Study.read(folder))
    assert all(part in notes[0] for part in (JUDGE, str(folder), "judge.jinja", RUBRIC[:12], "5e1f5e1f5e1f"))


# the export


@pytest.mark.slow
def test_ratings_and_the_judge_s_scores_of_the_same_edits_come_out_as_one_table(folder, tmp_path):
    study = rate_all(folder, raters=2)
    done = run("annotate", folder, "--export", tmp_path / "ratings.csv")
    assert done.returncode == 0, done.stderr
    ratings = read_ratings(tmp_path / "ratings.csv")
    assert {rating.dimension for rating in ratings} == {*DIMENSIONS, "total"}
    assert {rating.group for rating in ratings} == set(SYSTEMS)
    scores = {(rating.item, rating.rater, rating.dimension): rating.score for rating in ratings}
    for pair in study.pairs:
        said = [verdict(pair.item, pair.system, JUDGE, sample) for sample in (0, 1)]
        judged = [score for score in said if isinstance(score, Score)]
        found = scores.get((f"{pair.item}/{pair.system}", f"judge:{JUDGE}", "total"))
        assert found == (sum(score.total for score in judged) / 2 if judged else None)
    first = study.order(study.raters[0])[7]
    assert scores[f"{first.item}/{first.system}", "rater-1", "fulfilment"] == 2
    compared = run("agreement", tmp_path / "ratings.csv", "--json", tmp_path / "a.json", "--resamples", "100")
    assert compared.returncode == 0, compared.stderr
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["fulfilment"][f"judge:{JUDGE}"]["spearman"]["n"] == 9
    assert found["preservation"]["humans"]["krippendorff_alpha"]["value"] is None


def test_ratings_without_judges_are_exported_too(tmp_path):
    folder = evaluation_folder(tmp_path / "evaluation", judged=False)
    with Study.opened(folder, raters=1) as study:
        study.rate(study.raters[0], 0, Score(4, 2, 3), 1.0)
    ratings, notes = export_ratings(study, "cluster")
    assert [rating.score for rating in ratings] == [4, 2, 3, 9]
    assert ratings[0].group.startswith("post-")
    assert notes == []


def earlier_version(folder: Path) -> None:
    write(folder / "annotation/ratings/rater-1.jsonl", "{}\n")


@pytest.mark.parametrize(
    ("before", "options", "reason"),
    [
        (lambda folder: None, (), "no ratings in"),
        (lambda folder: None, ("--group-by", "mood"), "'mood'"),
        (earlier_version, (), "annotation/ratings holds JSON lines of an earlier version"),
    ],
    ids=["no ratings", "unknown group", "earlier version"],
)
def test_an_export_that_is_not_possible_is_refused_in_one_line_and_writes_nothing(
    before, options, reason, folder, tmp_path
):
    with Study.opened(folder):
        before(folder)
    done = run("annotate", folder, "--export", tmp_path / "ratings.csv", *options)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert reason in done.stderr
    assert not (tmp_path / "ratings.csv").exists()
