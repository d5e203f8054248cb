"""The one size that a chain of turns works at."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ier1_plugin.editors.base import EditError, canvas_notes
from ier1_plugin.editors.canvas import MEGAPIXEL, at_most, kontext, megapixel, nearest, settled, within_ratio
from ier1_plugin.editors.local.icedit import half_diptych

SIZES = st.tuples(st.integers(1, 20_000), st.integers(1, 20_000))


RULES = {
    "kontext": kontext,
    "megapixel": megapixel(32),
    "settled megapixel": settled(megapixel(32)),
    "at most": at_most(MEGAPIXEL, 16),
    "half diptych": half_diptych,
    "nearest": nearest([(1024, 1024), (1536, 1024), (1024, 1536)]),
}


@pytest.mark.parametrize(
    ("rule", "size", "canvas"),
    [
        ("kontext", (1600, 1200), (1184, 880)),
        ("kontext", (1920, 1080), (1392, 752)),
        ("kontext", (640, 427), (1248, 832)),
        ("kontext", (3000, 1000), (1568, 672)),
        ("kontext", (1, 1), (1024, 1024)),
        ("kontext", (20_000, 1), (1568, 672)),
        ("megapixel", (1600, 1200), (1184, 896)),
        # it would become 1792 x 576 at the second turn
        ("megapixel", (3000, 1000), (1760, 576)),
        ("settled megapixel", (3000, 1000), (1792, 576)),
        ("at most", (64, 48), (64, 48)),
        ("at most", (70, 50), (64, 48)),
        ("at most", (1024, 1024), (1024, 1024)),
        ("at most", (4000, 3000), (1168, 880)),
        ("at most", (1, 1), (16, 16)),
        ("half diptych", (1600, 1200), (512, 384)),
        ("half diptych", (64, 48), (512, 384)),
        ("half diptych", (3000, 1000), (512, 160)),
        ("half diptych", (100, 9000), (512, 2048)),
        ("nearest", (4000, 3000), (1536, 1024)),
    ],
)
def test_the_canvas_of_a_size(rule, size, canvas):
    assert RULES[rule](size) == canvas


@given(SIZES)
def test_every_canvas_is_left_alone_at_the_next_turn(size):
    for rule in (*(RULES[name] for name in RULES if name != "megapixel"), settled(megapixel(16))):
        assert rule(rule(size)) == rule(size)


@given(SIZES)
def test_no_canvas_is_larger_than_the_budget_or_off_its_multiple(size):
    width, height = at_most(MEGAPIXEL, 16)(size)
    assert width * height <= MEGAPIXEL
    assert width % 16 == height % 16 == 0
    assert min(width, height) >= 16
    width, height = half_diptych(size)
    assert width == 512
    assert height in range(16, 2049, 16)


@given(SIZES, st.sampled_from([1.0, 21 / 9, 2.9, 3.0]))
def test_a_limit_on_the_shape_is_kept(size, limit):
    width, height = within_ratio(limit, lambda size: size)(size)
    assert max(width, height) <= limit * min(width, height) + 1


@pytest.mark.parametrize(
    ("size", "canvas", "words"),
    [
        ((3000, 600), (1568, 672), ["squeezed to 1568 x 672"]),
        ((600, 3000), (672, 1568), ["squeezed"]),
        ((4000, 3000), (1184, 880), ["edited at 1184 x 880 and enlarged 3.4 times"]),
        ((9000, 600), (1568, 672), ["squeezed", "enlarged 5.7 times"]),
        ((1600, 1200), (1184, 880), []),
        ((64, 48), (1184, 880), []),
    ],
)
def test_what_a_canvas_costs_is_told(size, canvas, words):
    notes = canvas_notes(size, canvas)
    assert len(notes) == len(words)
    assert all(word in note for word, note in zip(words, notes, strict=True))


@pytest.mark.parametrize(
    ("rule", "size", "message"),
    [
        (lambda size: (size[0], 0), (20_000, 1), "20000 x 1 image is too narrow"),
        (lambda size: (size[1] + 16, size[0]), (64, 64), "no canvas suits a 64 x 64 image"),
    ],
)
def test_a_rule_that_comes_to_nothing_or_never_settles_is_refused(rule, size, message):
    with pytest.raises(EditError, match=message):
        settled(rule)(size)
