"""ICEdit: a diptych, a mask, one sentence, and the right half of what FLUX.1-Fill paints."""

import functools

import pytest
from fakes.real_photos import real_photo
from fakes.tiny_pipelines import lora

from ier1_plugin.editors import EditError, make_editor
from ier1_plugin.editors.local.loading import load
from ier1_plugin.task.images import fitted

pytest.importorskip("diffusers", reason="diffusers is not installed")


@pytest.fixture
def fill(pipelines):
    return pipelines("flux-fill")


@pytest.fixture(scope="module")
def weights(pipelines, tmp_path_factory):
    return lora(tmp_path_factory.mktemp("lora"), pipelines("flux-fill"))


@pytest.mark.slow
def test_the_pipeline_gets_the_diptych_and_the_sentence_and_its_right_half_comes_back(fill, weights, monkeypatch):
    from diffusers.pipelines.flux.pipeline_flux_fill import FluxFillPipeline

    calls = []
    own = FluxFillPipeline.__call__

    # its signature is what arguments are checked against
    @functools.wraps(own)
    def watched(self, *args, **named):
        calls.append(named)
        calls[-1]["result"] = own(self, *args, **named)
        return calls[-1]["result"]

    monkeypatch.setattr(FluxFillPipeline, "__call__", watched)
    editor = make_editor(f"icedit:{fill}", lora=str(weights), steps=1)
    photo = real_photo(size=(320, 60))
    result = editor(photo, "make the coat red", 0)
    assert result.size == (320, 60)
    call = calls[0]
    assert call["prompt"] == (
        "A diptych with two side-by-side images of the same scene. On the right, the scene is exactly the same as on "
        "the left but make the coat red"
    )
    assert (call["width"], call["height"], call["guidance_scale"]) == (1024, 96, 50.0)
    # the photo on both sides, of which only the right one is painted
    left, right = (0, 0, 512, 96), (512, 0, 1024, 96)
    assert call["image"].size == call["mask_image"].size == (1024, 96)
    assert call["image"].crop(left) == call["image"].crop(right) == fitted(photo, (512, 96))
    assert [call["mask_image"].crop(side).getextrema() for side in (left, right)] == [(0, 0), (255, 255)]
    assert result == fitted(call["result"].images[0].crop(right), (320, 60))


@pytest.mark.slow
def test_the_whole_sentence_is_measured_and_not_the_instruction_alone(fill):
    instruction = "make the coat red"
    tokens = len(load(str(fill)).tokenizer_2(instruction).input_ids)
    photo = real_photo(size=(512, 64))
    for limit in (tokens, 2 * tokens):
        editor = make_editor(f"icedit:{fill}", lora="", steps=1, call_kwargs={"max_sequence_length": limit})
        with pytest.raises(EditError, match=rf"reads {limit} tokens .* has \d+"):
            editor(photo, instruction, 0)


@pytest.mark.slow
def test_seed_instruction_and_lora_change_the_pixels_and_nothing_else_does(fill, weights):
    editor, photo = make_editor(f"icedit:{fill}", lora=str(weights), steps=1), real_photo(size=(512, 64))
    first = editor(photo, "make the coat red", 0).tobytes()
    assert editor(photo, "make the coat red", 0).tobytes() == first
    assert editor(photo, "remove the dog", 0).tobytes() != first
    assert editor(photo, "make the coat red", 1).tobytes() != first
    plain = make_editor(f"icedit:{fill}", lora="", steps=1)
    assert plain(photo, "make the coat red", 0).tobytes() != first


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "folder", "message"),
    [
        ("flux-fill", "none", "after_load: load_lora_weights: "),
        ("flux-fill", ".", r"holds 0 \.safetensors files; set lora_file"),
        ("flux-kontext", "", "FluxKontextPipeline paints no masked part"),
    ],
)
def test_a_lora_that_is_not_there_and_a_pipeline_that_fills_nothing_in_are_refused(
    pipelines, tmp_path, kind, folder, message
):
    source = f"icedit:{pipelines(kind)}"
    with pytest.raises(EditError, match=message) as caught:
        make_editor(source, lora=folder and str(tmp_path / folder), steps=1)(real_photo(size=(512, 64)), "add a hat", 0)
    assert "\n" not in str(caught.value)
