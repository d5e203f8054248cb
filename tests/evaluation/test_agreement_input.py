"""`ier1 agreement` as a command, and the tables of ratings that it takes and refuses."""

from __future__ import annotations

import json
import re

import pytest
from fakes.annotate_study import run
from fakes.rating_tables import random_scores, ratings_of

pytest.importorskip("krippendorff")
pytest.importorskip("sklearn")
pytest.importorskip("statsmodels")

from ier1_plugin.evaluation.agreement.agreement import agreement
from ier1_plugin.evaluation.agreement.ratings import Rating, read_ratings, write_ratings
from ier1_plugin.evaluation.records import EvaluationError

HEADER = "item,rater,dimension,score,group\n"


def test_the_command_writes_exactly_the_json_and_prints_every_measure(tmp_path):
    scores = random_scores(10)
    ratings = [
        *ratings_of(scores, "fulfilment", lambda item: f"g{item % 2}"),
        *ratings_of(scores, "quality", lambda item: f"g{item % 2}"),
    ]
    write_ratings(tmp_path / "ratings.csv", ratings)
    done = run(
        "agreement", tmp_path / "ratings.csv", "--json", tmp_path / "out/a.json", "--seed", "3", "--resamples", "100"
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out/a.json").read_text())
    assert found == agreement(ratings, number=100, seed=3)
    assert list(found) == ["fulfilment", "quality"]
    assert all(list(part) == ["judge:j", "humans"] for part in found.values())
    entries = [entry for part in found.values() for kinds in part.values() for entry in kinds.values()]
    assert all(list(entry) == ["value", "low", "high", "n"] for entry in entries)
    for said in (
        "Spearman",
        "Spearman by group",
        "groups that count",
        "Kendall's tau-b",
        "Cohen's kappa",
        "Fleiss' kappa",
        "Krippendorff's alpha",
        "human-2",
    ):
        assert said in done.stdout
    assert f"{found['quality']['judge:j']['spearman']['value']:.2f} [" in done.stdout
    assert done.stderr == ""


BAD = {
    "empty": (b"", "is empty"),
    "blank": (b"\n \n", "is empty"),
    "no ratings": (HEADER.encode(), "a header and no ratings"),
    "no header": (b"1,a,quality,3\n1,b,quality,2\n", "wanted item,rater,dimension,score[,group]"),
    "a column is missing": (b"item,rater,score\n1,a,3\n", "wanted item,rater,dimension,score[,group]"),
    "a column too many": (b"item,rater,dimension,score,mood\n1,a,q,3,good\n", "wanted item,rater"),
    "a column twice": (b"item,rater,rater,dimension,score\n1,a,b,q,3\n", "wanted item,rater"),
    "semicolons": (b"item;rater;dimension;score\n1;a;q;3\n", "parts its columns by semicolons"),
    "tabs": (b"item\trater\tdimension\tscore\n1\ta\tq\t3\n", "parts its columns by tabs"),
    "UTF-16": ("\ufeff".encode("utf-16-le") + HEADER.encode("utf-16-le"), "not UTF-8"),
    "binary": (b"\x89PNG\r\n\x1a\n\x00\x00\xff\xfe", "not UTF-8"),
    "a word for a score": (b"item,rater,dimension,score\n1,a,q,good\n", "line 2: score is 'good'; wanted a number"),
    "nan": (b"item,rater,dimension,score\n1,a,q,3\n1,b,q,nan\n", "line 3: score is 'nan'"),
    "infinite": (b"item,rater,dimension,score\n1,a,q,1e999\n", "line 2: score is '1e999'"),
    "beyond any scale": (b"item,rater,dimension,score\n1,a,q,1e300\n", "line 2: score is '1e300'"),
    "a fraction": (b"item,rater,dimension,score\n1,a,q,4/5\n", "line 2: score is '4/5'"),
    "no score": (b"item,rater,dimension,score\n1,a,q,\n", "line 2: score is empty; leave out the line"),
    "no item": (b"item,rater,dimension,score\n,a,q,2\n", "line 2: item is empty"),
    "cells missing": (b"item,rater,dimension,score\n1,a,q\n", "line 2: 3 cells; wanted 4"),
    "twice": (
        b"item,rater,dimension,score\n1,a,q,2\n1,b,q,2\n1,a,q,3\n",
        "line 4: 'a' rated q of '1' already in line 2",
    ),
    "two groups": (b"item,rater,dimension,score,group\n1,a,q,2,x\n1,b,q,2,y\n", "line 3: '1' is of group 'y'"),
    "one rater": (b"item,rater,dimension,score\n1,a,q,2\n2,a,q,3\n", "one rater, 'a'"),
    "a judge with a capital": (
        b"item,rater,dimension,score\n1,a,q,2\n1,Judge:gpt,q,2\n",
        "line 3: rater is 'Judge:gpt'",
    ),
    "a judge with a blank": (b"item,rater,dimension,score\n1,judge : gpt,q,2\n", "a judge is written judge:gpt"),
    "a judge without a name": (b"item,rater,dimension,score\n1,judge:,q,2\n", "a judge is written judge:NAME"),
    "an open quote": (b'item,rater,dimension,score\n1,"a,q,2\n', "line 2: not CSV"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_ratings_are_told_in_one_line_and_write_nothing(name, tmp_path):
    data, told = BAD[name]
    file = tmp_path / "ratings.csv"
    file.write_bytes(data)
    with pytest.raises(EvaluationError) as error:
        read_ratings(file)
    assert told in str(error.value)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["semicolons", "twice", "missing file", "a folder"])
def test_the_command_says_what_is_wrong_in_one_line_and_writes_nothing(name, tmp_path):
    file = tmp_path / "ratings.csv"
    if name in BAD:
        file.write_bytes(BAD[name][0])
    elif name == "a folder":
        file.mkdir()
    done = run("agreement", file, "--json", tmp_path / "out.json")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out.json").exists()


def test_a_folder_for_the_json_is_refused_before_anything_is_computed(tmp_path):
    write_ratings(tmp_path / "ratings.csv", ratings_of(random_scores(1)))
    done = run("agreement", tmp_path / "ratings.csv", "--json", tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: {tmp_path} is a folder; --json wants a file\n"


def test_whole_groups_want_a_group_for_each_item(tmp_path):
    write_ratings(tmp_path / "ratings.csv", ratings_of(random_scores(1)))
    done = run("agreement", tmp_path / "ratings.csv", "--whole-groups")
    assert (done.returncode, done.stdout) == (1, "")
    assert "--whole-groups wants one for each" in done.stderr


def test_a_byte_order_mark_blank_lines_quotes_and_another_order_of_columns_do_no_harm(tmp_path):
    file = tmp_path / "ratings.csv"
    text = '\ufeffscore,item,rater,dimension\r\n2,"a, b",x,q\r\n\r\n 0.5 ,"a, b",y,q\r\n'
    file.write_text(text, encoding="utf-8", newline="")
    assert read_ratings(file) == [Rating("a, b", "x", "q", 2.0), Rating("a, b", "y", "q", 0.5)]


def test_ratings_that_were_written_read_the_same(tmp_path):
    ratings = [Rating('1, "two"', "x", "q", 2.0, "Add, then\nDelete"), Rating("ü", "judge:y", "q", 1 / 3, "")]
    write_ratings(tmp_path / "ratings.csv", ratings)
    assert read_ratings(tmp_path / "ratings.csv") == ratings


def test_a_human_may_be_called_a_judge_as_long_as_no_colon_follows(tmp_path):
    ratings = [Rating("1", "Judge 1", "q", 2.0), Rating("1", "judges: all", "q", 3.0)]
    write_ratings(tmp_path / "ratings.csv", ratings)
    assert [rating.is_judge for rating in read_ratings(tmp_path / "ratings.csv")] == [False, False]


def test_the_command_tells_how_many_groups_count_and_why_the_others_do_not(tmp_path):
    scores = random_scores(4, items=60)
    for rater in scores:
        scores[rater][:20] = [2.0] * 20
        scores[rater][20:24] = [1.0, 2.0, 3.0, 4.0]
    names = ["constant"] * 20 + ["perfect"] * 4 + ["small"] * 2 + ["usual"] * 34
    write_ratings(tmp_path / "ratings.csv", ratings_of(scores, group=lambda item: names[item]))
    out = tmp_path / "a.json"
    done = run("agreement", tmp_path / "ratings.csv", "--resamples", "100", "--json", out)
    for said in (
        "groups that count *2 *2",
        "of these in perfect agreement *1 *1",
        "groups left out: under 3 items *1 *1",
        "groups left out: constant ratings *1 *1",
    ):
        assert re.search(rf"^ *{said}$", done.stdout, re.MULTILINE), said
    assert "at most 1 - 2/(n(n-1))" in done.stdout
    for part in json.loads(out.read_text())["quality"].values():
        groups = {kind: (entry["value"], entry["n"]) for kind, entry in part.items() if kind.startswith("groups")}
        assert groups == {
            "groups": (2, 38),
            "groups_too_small": (1, 2),
            "groups_constant": (1, 20),
            "groups_perfect": (1, 4),
        }
