"""The response format, the normalisation and the set scores, sentence by sentence."""

from __future__ import annotations

import json
import re

import pytest

from ier1_plugin.prompts import path, render
from ier1_plugin.task.actions import ACTIONS
from ier1_plugin.task.parsing import FormatError, parse_decomposition, parse_response, render_response
from ier1_plugin.task.schema import Decomposition
from ier1_plugin.task.scoring import Gold, normalise, normalised_set, score_response, set_f1, token_f1

COAT = Decomposition.of(["Recoloring"], ["coat", "hair"], ["scarlet or copper red"])
COAT_TEXT = render_response(COAT, "The coat and the hair change colour.")


def test_a_decomposition_survives_rendering_and_json_and_scores_one():
    assert parse_decomposition(COAT_TEXT) == COAT
    assert set(score_response(COAT_TEXT, Gold.of(COAT)).values()) == {1.0}
    # the answer column is one JSON string
    columns = {"actions": ["Recoloring"], "subjects": ["coat", "hair"], "goals": ["scarlet or copper red"]}
    assert json.loads(COAT.to_json()) == columns
    assert Decomposition.from_json(COAT.to_json()) == COAT


def test_strings_are_distinct_keep_their_order_and_leave_the_set_when_they_normalise_to_nothing():
    assert Decomposition.of(["Add", "Delete", "Add"], ["b", "a", "b"], []).subjects == ("b", "a")
    assert normalised_set(["...", "The Coat", "coat"]) == {"coat"}


WELL_FORMED = {
    "as the prompt asks": COAT_TEXT,
    "space around and between": f"\n\n {COAT_TEXT} \n".replace("</action>", "</action>\n \t\n"),
    "nothing between": COAT_TEXT.replace("\n", ""),
    "empty arrays": "<think>x</think><action>[]</action><subjects>[]</subjects><goals>[]</goals>",
    "json escapes": COAT_TEXT.replace("coat", "co\\u0061t"),
    "other tags in the think": COAT_TEXT.replace("The coat", "<b>The coat</b>"),
    "array over several lines": COAT_TEXT.replace('["coat", "hair"]', '[\n "coat",\n "hair"\n]'),
}
MALFORMED = {
    "empty": "",
    "no think": COAT_TEXT.split("</think>")[1],
    "blank think": COAT_TEXT.replace(" The coat and the hair change colour. ", " \n "),
    "think left open": COAT_TEXT.replace("</think>", ""),
    "our tag in the think": COAT_TEXT.replace("The coat", "<goals>"),
    "a second think": "<think>x</think>" + COAT_TEXT,
    "text before": "Sure! " + COAT_TEXT,
    "text after": COAT_TEXT + " Done.",
    "text between": COAT_TEXT.replace("</action>", "</action> and"),
    "wrong order": "<think>x</think><subjects>[]</subjects><action>[]</action><goals>[]</goals>",
    "a component twice": COAT_TEXT + '<action>["Add"]</action>',
    "a component missing": re.sub("<goals>.*</goals>", "", COAT_TEXT),
    "a tag left open": COAT_TEXT.replace("</goals>", ""),
    "tags in capitals": COAT_TEXT.replace("action>", "Action>"),
    "a tag with an attribute": COAT_TEXT.replace("<action>", "<action id=1>"),
    "broken json": COAT_TEXT.replace('"hair"]', '"hair"'),
    "a trailing comma": COAT_TEXT.replace('"hair"]', '"hair",]'),
    "python quotes": COAT_TEXT.replace('"', "'"),
    "numbers": COAT_TEXT.replace('["coat", "hair"]', "[1, 2]"),
    "an object": COAT_TEXT.replace('["coat", "hair"]', '{"coat": "hair"}'),
    "one string": COAT_TEXT.replace('["coat", "hair"]', '"coat"'),
    "nested arrays": COAT_TEXT.replace('["coat", "hair"]', '[["coat"]]'),
    "a closing tag first": COAT_TEXT.replace("<goals>", "</goals>").replace("]</goals>", "]<goals>"),
    "a code fence": f"```\n{COAT_TEXT}\n```",
}


@pytest.mark.parametrize("case", [*WELL_FORMED, *MALFORMED])
def test_what_keeps_the_format_and_what_breaks_it(case: str):
    assert parse_response((WELL_FORMED | MALFORMED)[case]).well_formed == (case in WELL_FORMED)


READ = (COAT.actions, COAT.subjects, COAT.goals)
COMPONENTS = {
    "only the format is broken": ("Sure! " + COAT_TEXT.replace("</action>", "</action> and"), READ),
    "one is unreadable": (COAT_TEXT.replace('"hair"]', '"hair"'), (COAT.actions, None, COAT.goals)),
    "a tag inside the think": (COAT_TEXT.replace(" The coat", ' <action>["Add"]</action>'), READ),
    "the think is left open": (COAT_TEXT.replace("</think>", ""), (None, None, None)),
}


@pytest.mark.parametrize(("text", "components"), COMPONENTS.values(), ids=COMPONENTS)
def test_components_of_a_malformed_response_are_read_one_by_one(text: str, components: tuple[object, ...]):
    response = parse_response(text)
    assert not response.well_formed
    assert (response.actions, response.subjects, response.goals) == components
    with pytest.raises(FormatError, match="<subjects>, <goals>"):
        parse_decomposition('<action>["Add"]</action>')


def test_the_prompt_copied_back_earns_nothing():
    prompt = render("decompose", content="<image>make it brighter")
    for copied in (prompt, prompt[prompt.index("<think>") :]):
        assert set(score_response(copied, Gold.of(COAT)).values()) == {0.0}


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("  The  Coat! ", "coat"),
        ("«Ｒed»", "red"),
        ("50%", "50%"),
        ("50 %", "50"),
        ("(100%)", "100%"),
        ("the a an coat", "coat"),
        ("a", "a"),
        ("A.", "a"),
        ("another", "another"),
        ("Straße", "strasse"),
        ("don't", "don't"),
        ("...", ""),
        ("\u200b", "\u200b"),
        ("ſ", "s"),
        ("the “Sale” sign", "sale” sign"),
        ("\ud800", "\ud800"),
    ],
)
def test_normalisation(text: str, normal: str):
    assert normalise(text) == normal
    assert normalise(normal) == normal


@pytest.mark.parametrize(
    ("predicted", "gold", "score"),
    [("", "", 1.0), ("a", "", 0.0), ("", "a", 0.0), ("ab", "ab", 1.0), ("a", "ab", 2 / 3), ("abc", "ad", 0.4)],
)
def test_set_f1(predicted: str, gold: str, score: float):
    assert set_f1(frozenset(predicted), frozenset(gold)) == pytest.approx(score)


def test_token_f1_pairs_the_phrases_that_are_most_alike():
    predicted, gold = frozenset(["bright red", "blue"]), frozenset(["red", "dark blue sky"])
    assert token_f1(predicted, gold) == pytest.approx(2 * (2 / 3 + 1 / 2) / 4)
    assert token_f1(gold, gold) == 1.0
    assert token_f1(frozenset(), gold) == 0.0


def test_an_action_outside_the_vocabulary_costs_precision():
    text = COAT_TEXT.replace('["Recoloring"]', '["Recoloring", "Repaint"]')
    assert score_response(text, Gold.of(COAT))["action"] == pytest.approx(2 / 3)


def test_the_prompt_spells_out_exactly_the_fifteen_actions():
    listed = dict(re.findall(r"^- ([A-Z][^:]+): (.+)$", path("decompose").read_text(encoding="utf-8"), re.M))
    assert listed == ACTIONS
    assert len(ACTIONS) == 15


def test_an_unknown_prompt_names_the_known_ones_and_a_missing_variable_is_an_error():
    with pytest.raises(FileNotFoundError, match="decompose"):
        path("nope")
    with pytest.raises(Exception, match="content"):
        render("decompose")
