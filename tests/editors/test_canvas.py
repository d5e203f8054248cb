"""The one size that a chain of turns works at."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ier1_plugin.editors.base import EditError
from ier1_plugin.editors.canvas import (
    KONTEXT_SIZES,
    MEGAPIXEL,
    at_most,
    kontext,
    megapixel,
    nearest,
    settled,
    within_ratio,
)
from ier1_plugin.editors.local.icedit import half_diptych

SIZES = st.tuples(st.integers(1, 20_000), st.integers(1, 20_000))


@pytest.mark.parametrize(
    ("size", "canvas"),
    [
        ((1600, 1200), (1184, 880)),
        ((1920, 1080), (1392, 752)),
        ((1080, 1920), (752, 1392)),
        ((512, 512), (1024, 1024)),
        ((64, 48), (1184, 880)),
        ((640, 427), (1248, 832)),
        ((3000, 1000), (1568, 672)),
        ((1, 1), (1024, 1024)),
        ((20_000, 1), (1568, 672)),
    ],
)
def test_kontext_works_at_the_trained_size_that_is_nearest_in_shape(size, canvas):
    assert kontext(size) == canvas


def test_kontext_has_seventeen_sizes_in_both_directions():
    assert len(set(KONTEXT_SIZES)) == 17
    assert {(height, width) for width, height in KONTEXT_SIZES} == set(KONTEXT_SIZES)


@pytest.mark.parametrize(
    ("size", "canvas"),
    [((1600, 1200), (1184, 896)), ((8000, 6000), (1184, 896)), ((512, 512), (1024, 1024)), ((64, 48), (1184, 896))],
)
def test_a_megapixel_in_multiples_of_32(size, canvas):
    assert megapixel(32)(size) == canvas


def test_a_canvas_is_followed_until_it_stays():
    # 1760 x 576 would become 1792 x 576 at the second turn
    assert megapixel(32)((3000, 1000)) == (1760, 576)
    assert settled(megapixel(32))((3000, 1000)) == (1792, 576)


@pytest.mark.parametrize(
    ("size", "canvas"),
    [
        ((64, 48), (64, 48)),
        ((70, 50), (64, 48)),
        ((1024, 1024), (1024, 1024)),
        ((4000, 3000), (1168, 880)),
        ((1, 1), (16, 16)),
    ],
)
def test_up_to_a_megapixel_small_pictures_keep_their_size(size, canvas):
    assert at_most(MEGAPIXEL, 16)(size) == canvas


@given(SIZES)
def test_every_canvas_is_left_alone_at_the_next_turn(size):
    for rule in (kontext, settled(megapixel(16)), settled(megapixel(32)), settled(at_most(MEGAPIXEL, 16))):
        assert rule(rule(size)) == rule(size)


@given(SIZES)
def test_no_canvas_is_larger_than_the_budget_allows(size):
    width, height = at_most(MEGAPIXEL, 16)(size)
    assert width * height <= MEGAPIXEL
    assert width % 16 == height % 16 == 0
    assert min(width, height) >= 16


@given(SIZES, st.sampled_from([1.0, 21 / 9, 2.9, 3.0]))
def test_a_limit_on_the_shape_is_kept(size, limit):
    width, height = within_ratio(limit, lambda size: size)(size)
    assert max(width, height) <= limit * min(width, height) + 1


@given(SIZES)
def test_half_a_diptych_is_512_wide_and_in_multiples_of_16(size):
    width, height = half_diptych(size)
    assert width == 512
    assert height % 16 == 0
    assert 16 <= height <= 2048
    assert half_diptych((width, height)) == (width, height)


def test_the_nearest_of_a_few_sizes_is_the_one_of_nearest_shape():
    assert nearest([(1024, 1024), (1536, 1024), (1024, 1536)])((4000, 3000)) == (1536, 1024)


def test_a_picture_that_comes_to_nothing_is_refused():
    with pytest.raises(EditError, match="20000 x 1 image is too narrow"):
        settled(lambda size: (size[0], 0))((20_000, 1))


def test_a_rule_that_never_settles_is_refused():
    with pytest.raises(EditError, match="no canvas suits"):
        settled(lambda size: (size[1] + 16, size[0]))((64, 64))
