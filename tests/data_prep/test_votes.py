"""What several annotations of one request come to."""

from __future__ import annotations

import pytest

from data_prep.votes import NO_EDIT, agreement, settle
from ier1_plugin.task.schema import Decomposition

LAMP = Decomposition.of(["Delete"], ["lamp"], [])


def test_one_vote_is_taken_as_it_is():
    assert settle([LAMP], asked=1) == LAMP


def test_a_phrase_needs_more_than_half_of_the_votes():
    votes = [("lamp", "table"), ("lamp", "sofa"), ("table", "lamp"), ("rug",)]
    assert agreement(votes, closest=False) == ("lamp",)


def test_phrases_are_compared_as_the_rewards_compare_them_and_written_as_most_write_them():
    votes = [("The lamp!",), ("lamp",), ("lamp",), ("LAMP",)]
    assert agreement(votes, closest=False) == ("lamp",)
    assert agreement([("The lamp",), ("lamp",)], closest=False) == ("The lamp",)


def test_agreed_phrases_stand_in_the_order_in_which_they_were_first_said():
    votes = [("sky", "lamp", "dog"), ("lamp", "sky"), ("dog", "lamp", "sky")]
    assert agreement(votes, closest=False) == ("sky", "lamp", "dog")


def test_a_phrase_that_one_vote_repeats_counts_once():
    assert agreement([("lamp", "The Lamp"), ("rug",), ("sofa",)], closest=False) is None


def test_a_component_is_empty_only_if_most_left_it_empty():
    assert agreement([(), (), ("warm",)], closest=True) == ()
    assert agreement([(), ("warm",)], closest=True) is None


def test_without_a_majority_the_vote_closest_to_the_others_stands_for_them():
    votes = [("scarlet red",), ("deep scarlet red",), ("red",)]
    assert agreement(votes, closest=True) == ("scarlet red",)
    assert agreement(votes, closest=False) is None


def test_votes_that_share_too_few_words_agree_on_nothing():
    assert agreement([("golden hour",), ("sunset look",), ("orange evening light",)], closest=True) is None


@pytest.mark.parametrize(
    ("others", "component"),
    [
        ([Decomposition.of(["Crop"], ["lamp"], []), Decomposition.of(["Move"], ["lamp"], [])], "actions"),
        ([Decomposition.of(["Delete"], ["sofa"], []), Decomposition.of(["Delete"], ["rug"], [])], "subjects"),
    ],
)
def test_disagreement_is_a_reason_that_names_the_component(others: list[Decomposition], component: str):
    reason = settle([LAMP, *others], asked=3)
    assert isinstance(reason, str)
    assert reason.startswith(f"annotators disagree on the {component}: ")


def test_actions_are_never_taken_from_the_closest_vote():
    votes = [Decomposition.of(names, ["lamp"], []) for names in (["Add", "Crop"], ["Crop", "Move"], ["Move", "Add"])]
    assert settle(votes, asked=3) == Decomposition.of(["Add", "Crop", "Move"], ["lamp"], [])
    votes = [Decomposition.of(names, ["lamp"], []) for names in (["Add", "Crop"], ["Crop", "Zoom"])]
    assert settle(votes[:2], asked=2) == Decomposition.of(["Crop"], ["lamp"], [])
    votes = [Decomposition.of(names, ["lamp"], []) for names in (["Add"], ["Add", "Zoom"], ["Zoom"], ["Clone"])]
    assert str(settle(votes, asked=4)).startswith("annotators disagree on the actions: Add | Add, Zoom | Zoom | Clone")


def test_more_than_half_of_the_votes_asked_for_must_have_been_read():
    assert settle([LAMP, "refused", LAMP], asked=3) == LAMP
    assert settle([LAMP, "refused", "refused"], asked=3) == "refused"
    assert settle([LAMP, "refused"], asked=2) == "refused"


def test_a_request_without_an_edit_is_rejected():
    assert settle([Decomposition()], asked=1) == NO_EDIT
    assert settle([Decomposition(), Decomposition(), LAMP], asked=3) == NO_EDIT
