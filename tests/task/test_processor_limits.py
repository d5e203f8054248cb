"""The pixel limits stored for the processor, against the two resizes that images pass in training."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ier1_plugin.task.decomposer import processor_limits
from ier1_plugin.task.images import ImageError, prepare


@pytest.fixture(scope="module")
def smart_resize() -> Callable[..., tuple[int, int]]:
    """The second resize of a training: that of Qwen's processor."""
    import torch

    from ier1_plugin.chat.torchvision_ops import define_missing_schemas

    define_missing_schemas(torch)
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

    return smart_resize


@settings(max_examples=400, deadline=None)
@given(
    width=st.integers(1, 6000),
    height=st.integers(1, 6000),
    budget=st.sampled_from(
        [(784, 3136), (3136, 3136), (3136, 50176), (3136, 1003520), (262144, 1003520), (200704, 4194304)]
    ),
    patch=st.sampled_from([14, 16]),
)
def test_the_stored_limits_leave_every_prepared_image_as_training_saw_it(
    smart_resize: Any, width: int, height: int, budget: tuple[int, int], patch: int
):
    own = {14: (3136, 12845056), 16: (65536, 16777216)}[patch]
    low, high = processor_limits(*budget, 2 * patch, own)
    assert own[0] <= low <= high <= own[1]
    # prepare() asks an image for its size and for a resized one only
    image: Any = SimpleNamespace(size=(width, height), width=width, height=height)
    image.resize = lambda size: SimpleNamespace(size=size)
    try:
        prepared_width, prepared_height = prepare(image, *budget).size
    except ImageError:
        return  # too narrow for the model, whatever the limits
    in_training = smart_resize(prepared_height, prepared_width, 2 * patch, *own)
    assert smart_resize(prepared_height, prepared_width, 2 * patch, low, high) == in_training


def test_the_budget_itself_would_not_do_as_the_processors_limits(smart_resize: Any):
    # 1000 x 1003 is within 1,003,520 pixels; rounded to whole patches it is not
    assert smart_resize(1000, 1003, 28, 3136, 12845056) == (1008, 1008)
    assert smart_resize(1000, 1003, 28, 3136, 1003520) == (980, 980)
    assert smart_resize(1000, 1003, 28, *processor_limits(3136, 1003520, 28, (3136, 12845056))) == (1008, 1008)
