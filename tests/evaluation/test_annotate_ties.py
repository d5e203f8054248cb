"""What ties a rating to what was seen: the edited image, and the rubric that judges and raters share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fakes.annotate_study import JUDGE, RUBRIC, edit_again, evaluation_folder, lines, other_rubric, run

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from ier1_plugin.evaluation.agreement.annotate_export import exported
from ier1_plugin.evaluation.agreement.rating_study import Changed, Study
from ier1_plugin.evaluation.agreement.rubric import check_judges, rubric
from ier1_plugin.evaluation.records import EvaluationError, Score
from ier1_plugin.runs.folder import write
from ier1_plugin.task.images import open_image, png_bytes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six items, of which one system edited five and the other six."""
    return evaluation_folder(tmp_path / "evaluation")


def rate_all(folder: Path, raters: int = 1) -> Study:
    with Study.opened(folder, raters=raters) as study:
        for rater in study.raters:
            for place in range(len(study.pairs)):
                study.rate(rater, place, Score(place % 5, place % 4, 3), 1.0)
    return study


def set_judges(folder: Path, *judges: dict[str, str]) -> None:
    facts = json.loads((folder / "evaluation.json").read_text())
    (folder / "evaluation.json").write_text(json.dumps(facts | {"judges": judges}))


# the image


def test_ratings_of_an_edit_that_was_made_again_are_left_out_of_the_export_and_counted(folder, tmp_path):
    study = rate_all(folder, raters=2)
    pair = study.pairs[3]
    edit_again(folder, pair)
    done = run("annotate", folder, "--export", tmp_path / "ratings.csv")
    assert done.returncode == 0, done.stderr
    assert "2 of 22 ratings are left out, as their edits were made again since" in done.stderr
    ratings, _ = exported(Study.read(folder))
    assert len({(rating.item, rating.rater) for rating in ratings if not rating.is_judge}) == 20
    assert f"{pair.item}/{pair.system}" not in {rating.item for rating in ratings if not rating.is_judge}


def test_an_edit_that_was_made_again_is_to_be_rated_again(folder):
    study = rate_all(folder)
    rater = study.raters[0]
    edit_again(folder, study.order(rater)[2])
    again = Study.read(folder)
    assert [place for place, score in enumerate(again.scores(rater)) if score is None] == [2]
    again.rate(rater, 2, Score(1, 1, 1), 1.0)
    assert Study.read(folder).scores(rater)[2] == Score(1, 1, 1)
    assert exported(Study.read(folder))[1] == []


def test_words_inside_the_png_make_no_other_image_of_it(folder):
    study = rate_all(folder)
    file = folder / study.pairs[0].edited
    write(file, png_bytes(open_image(file), "another trace"))
    assert exported(Study.read(folder))[1] == []


def test_a_rating_of_an_image_that_is_not_there_any_more_is_not_taken(folder):
    study = rate_all(folder)
    seen = study.edited_sha256(study.order(study.raters[0])[0])
    edit_again(folder, study.order(study.raters[0])[0])
    with pytest.raises(Changed):
        study.rate(study.raters[0], 0, Score(4, 2, 3), 1.0, seen)
    assert len(lines(folder)) == 11


def test_ratings_that_were_kept_without_a_hash_still_count(folder):
    study = rate_all(folder)
    file = study.file(study.raters[0])
    old = [{key: value for key, value in line.items() if key != "edited_sha256"} for line in lines(folder)]
    file.write_text("".join(json.dumps(line) + "\n" for line in old))
    edit_again(folder, study.pairs[3])
    ratings, notes = exported(Study.read(folder))
    assert len({rating.item for rating in ratings if not rating.is_judge}) == 11
    assert notes == []


def test_where_all_edits_were_made_again_the_export_says_so_and_writes_nothing(folder, tmp_path):
    for pair in rate_all(folder).pairs:
        edit_again(folder, pair)
    done = run("annotate", folder, "--export", tmp_path / "ratings.csv")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "11 of 11 ratings are left out" in done.stderr
    assert not (tmp_path / "ratings.csv").exists()


# the rubric


def test_a_study_keeps_the_rubric_that_raters_saw_and_goes_on_with_no_other(folder, tmp_path):
    with Study.opened(folder, rubric_sha256=RUBRIC):
        pass
    assert json.loads((folder / "annotation/study.json").read_text())["rubric_sha256"] == RUBRIC
    with Study.opened(folder, rubric_sha256=RUBRIC) as study:
        assert study.rubric_sha256 == RUBRIC
    other = rubric(other_rubric(tmp_path / "other.jinja")).sha256
    refused = pytest.raises(EvaluationError, match=r"begun with another rubric .* --rubric FILE")
    with refused, Study.opened(folder, rubric_sha256=other):
        pass


def test_a_study_of_old_that_kept_no_rubric_keeps_the_one_it_goes_on_with(folder):
    with Study.opened(folder):
        pass
    with Study.opened(folder, rubric_sha256=RUBRIC) as study:
        assert study.rubric_sha256 == RUBRIC


def test_raters_must_see_the_rubric_of_one_judge_at_least(folder):
    set_judges(folder, {"name": JUDGE, "rubric_sha256": "5e1f" * 16, "rubric": "mine.jinja"})
    with pytest.raises(EvaluationError, match=r"mine\.jinja \(5e1f5e1f5e1f\).*give that rubric as --rubric"):
        check_judges(RUBRIC, folder)
    own = {"name": "gemini:gemini-2.5-flash", "rubric_sha256": RUBRIC}
    set_judges(folder, {"name": JUDGE, "rubric_sha256": "5e1f" * 16}, own)
    (note,) = check_judges(RUBRIC, folder)
    assert note.startswith(JUDGE)


def test_the_judge_of_the_small_world_has_no_rubric(folder):
    set_judges(folder, {"name": "pixel", "rubric_sha256": "5e1f" * 16})
    assert check_judges(RUBRIC, folder) == []


def test_a_judge_that_joined_later_with_another_rubric_is_named_in_the_export(folder):
    with Study.opened(folder, rubric_sha256="5e1f" * 16) as study:
        study.rate(study.raters[0], 0, Score(4, 2, 3), 1.0)
    _, notes = exported(Study.read(folder))
    assert notes[0] == (
        f"{JUDGE} judged {folder} by rubric judge.jinja ({RUBRIC[:12]}), and raters see another one (5e1f5e1f5e1f)"
    )
