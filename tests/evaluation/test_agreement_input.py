"""`ier1 agreement` as a command, and the tables of ratings that it takes and refuses."""

from __future__ import annotations

import json

import pytest
from fakes.annotate_study import run
from fakes.rating_tables import random_scores, ratings_of

pytest.importorskip("krippendorff")
pytest.importorskip("sklearn")
pytest.importorskip("statsmodels")

from ier1_plugin.evaluation.agreement.agreement import MEASURES, Resampling, agreement, tables
from ier1_plugin.evaluation.agreement.ratings import Rating, read_ratings, write_ratings
from ier1_plugin.evaluation.records import EvaluationError

HEADER = "item,rater,dimension,score\n"
COLUMNS = "item,rater,dimension,score[,group], separated by commas"


@pytest.mark.slow
def test_the_command_writes_exactly_the_json_and_prints_every_measure(tmp_path):
    scores = random_scores(10)
    ratings = [
        one
        for dimension in ("fulfilment", "quality")
        for one in ratings_of(scores, dimension, lambda item: f"g{item % 2}")
    ]
    write_ratings(tmp_path / "ratings.csv", ratings)
    out = tmp_path / "out/a.json"
    done = run("agreement", tmp_path / "ratings.csv", "--json", out, "--seed", "3", "--resamples", "100")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(out.read_text())
    assert found == agreement(ratings, Resampling(100, 3))
    assert list(found) == ["fulfilment", "quality"]
    assert all(list(part) == ["judge:j", "humans"] for part in found.values())
    entries = [entry for part in found.values() for kinds in part.values() for entry in kinds.values()]
    assert all(list(entry) == ["value", "low", "high", "n"] for entry in entries)
    for label in (*MEASURES.values(), "human-2", f"{found['quality']['judge:j']['spearman']['value']:.2f} ["):
        assert label in done.stdout


@pytest.mark.parametrize("options", [(), ("--whole-groups",)])
def test_a_dimension_that_no_person_rated_is_said_to_be_and_leaves_the_others_alone(options, tmp_path):
    rated = ratings_of(random_scores(10), "fulfilment", lambda item: f"g{item % 2}")
    unrated = ratings_of({"judge:j": [1, 2, 3], "judge:k": [3, 2, 2]}, "quality", lambda item: f"g{item % 2}")
    found = []
    for ratings in (rated, [*rated, *unrated]):
        write_ratings(tmp_path / "ratings.csv", ratings)
        done = run("agreement", tmp_path / "ratings.csv", "--json", tmp_path / "a.json", "--resamples", "100", *options)
        assert (done.returncode, done.stderr) == (0, "")
        found.append(json.loads((tmp_path / "a.json").read_text()))
    assert found[0]["fulfilment"] == found[1]["fulfilment"]
    assert "quality: no person rated it" in done.stdout
    assert "fulfilment: no person" not in done.stdout
    for entries in found[1]["quality"].values():
        undefined = {kind for kind, entry in entries.items() if entry["value"] is None}
        assert undefined >= set(entries) - {"mean", "groups"}
        assert entries["groups"]["value"] == 0


BAD = {
    "empty": ("", COLUMNS),
    "no ratings": (HEADER, "by nobody"),
    "a column is missing": ("item,rater,score\n1,a,3\n", COLUMNS),
    "a column too many": ("item,rater,dimension,score,mood\n1,a,q,3,good\n", "item,rater,dimension,score,mood"),
    "semicolons": ("item;rater;dimension;score\n1;a;q;3\n", COLUMNS),
    "another encoding": ((HEADER + "ä,a,q,3\n").encode("cp1252"), "not UTF-8"),
    "a word for a score": (HEADER + "1,a,q,good\n", "line 2: score is 'good'"),
    "nan": (HEADER + "1,a,q,3\n1,b,q,nan\n", "line 3: score is 'nan'"),
    "beyond any scale": (HEADER + "1,a,q,1e300\n", "line 2: score is '1e300'"),
    "an underscore": (HEADER + "1,a,q,1_0\n", "line 2: score is '1_0'"),
    "no score": (HEADER + "1,a,q,\n", "line 2: score is empty"),
    "cells missing": (HEADER + "1,a,q\n", "line 2: 3 cells; wanted 4"),
    "twice": (HEADER + "1,a,q,2\n1,b,q,2\n1,a,q,3\n", "line 4: 'a' rated q of '1' already in line 2"),
    "two groups": ("item,rater,dimension,score,group\n1,a,q,2,x\n1,b,q,2,y\n", "line 3: '1' is of group 'y'"),
    "one rater": (HEADER + "1,a,q,2\n2,a,q,3\n", "by a; wanted two"),
    "a judge with a capital": (HEADER + "1,a,q,2\n1,Judge:gpt,q,2\n", "line 3: rater is 'Judge:gpt'"),
    "a judge with a blank": (HEADER + "1,judge : gpt,q,2\n", "a judge is written judge:gpt"),
    "a judge without a name": (HEADER + "1,judge:,q,2\n", "a judge is written judge:NAME"),
    "an open quote": (HEADER + '1,"a,q,2\n', "line 2: not CSV"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_table_is_refused_in_one_line_that_names_the_place(name, tmp_path):
    text, wanted = BAD[name]
    file = tmp_path / "ratings.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(EvaluationError) as error:
        read_ratings(file)
    assert wanted in str(error.value)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["missing file", "--json folder", "--whole-groups"])
def test_the_command_says_what_is_wrong_in_one_line_and_writes_nothing(name, tmp_path):
    file, out = tmp_path / "ratings.csv", tmp_path / "out.json"
    if name != "missing file":
        write_ratings(file, ratings_of(random_scores(1)))
    options = [name] if name == "--whole-groups" else []
    done = run("agreement", file, "--json", tmp_path if name == "--json folder" else out, *options)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("error: ")
    assert (name.split()[0] if options else str(tmp_path)) in done.stderr
    assert not out.exists()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_byte_order_marks_blank_lines_quotes_and_another_order_of_columns_do_no_harm(tmp_path, encoding):
    file = tmp_path / "ratings.csv"
    text = 'score,item,rater,dimension\r\n2,"ä, b",x,q\r\n\r\n 0.5 ,"ä, b",y,q\r\n'
    file.write_text(text, encoding=encoding, newline="")
    assert read_ratings(file) == [Rating("ä, b", "x", "q", 2.0), Rating("ä, b", "y", "q", 0.5)]


def test_ratings_that_were_written_read_the_same_and_a_human_may_be_called_a_judge_without_a_colon(tmp_path):
    ratings = [
        Rating('1, "two"', "Judge 1", "q", 2.0, "Add, then\nDelete"),
        Rating("ü", "judges: all", "q", 1.0),
        Rating("ü", "judge:y", "q", 1 / 3),
    ]
    write_ratings(tmp_path / "ratings.csv", ratings)
    assert read_ratings(tmp_path / "ratings.csv") == ratings
    assert tables(ratings)[0].judges == ["judge:y"]
