"""What diffusers can do beyond our options: each preset is loaded and edits with a tiny model."""

import os
from importlib.util import find_spec

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
from fakes.real_photos import real_photo
from fakes.tiny_pipelines import build, lora

from ier1_plugin.editors import EditError, make_editor
from ier1_plugin.editors.local.loading import Options, load
from ier1_plugin.editors.local.loading import build as build_object
from ier1_plugin.pipeline.system import PRESET, System, read_yaml, shipped

pytestmark = pytest.mark.slow
pytest.importorskip("diffusers", reason="diffusers is not installed")

SMALL = 64 * 64


@pytest.fixture(scope="module")
def kontext(tmp_path_factory):
    return build(tmp_path_factory.mktemp("features") / "kontext", "flux-kontext")


@pytest.fixture(scope="module")
def plus(tmp_path_factory):
    return build(tmp_path_factory.mktemp("features") / "plus", "qwen-image-edit-plus")


def preset(name):
    return read_yaml(shipped(PRESET)[name])


def edited(spec, **settings):
    return make_editor(spec, **settings)(real_photo(size=(64, 64)), "add a red hat to the dog", 0)


@pytest.mark.parametrize("name", shipped(PRESET))
def test_every_preset_names_an_editor_that_takes_its_settings(name, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE")
    system = System.of(preset(name))
    assert system.make_editor().name == system.editor


def test_the_fp8_preset_stores_8_bits(kontext):
    import torch

    settings = preset("fp8-storage")["load_kwargs"]
    pipe = load(str(kontext), Options(dtype="bfloat16", load_kwargs=settings))
    weights = {parameter.dtype for parameter in pipe.transformer.transformer_blocks.parameters()}
    assert torch.float8_e4m3fn in weights
    assert pipe.vae.use_tiling
    usual = edited(f"flux-kontext:{kontext}", steps=2, canvas_pixels=SMALL, dtype="bfloat16")
    stored = edited(f"flux-kontext:{kontext}", steps=2, canvas_pixels=SMALL, dtype="bfloat16", load_kwargs=settings)
    assert stored.size == usual.size
    assert stored.tobytes() != usual.tobytes()


def test_the_step_cache_preset_skips_steps_and_leaves_nothing_behind(kontext):
    settings = preset("step-cache")["load_kwargs"]
    config = settings["after_load"][0]["transformer.enable_cache"]["config"]
    # random weights change more from step to step than trained ones
    config["threshold"] = 10.0
    photo = real_photo(size=(64, 64))
    plain = make_editor(f"flux-kontext:{kontext}", steps=4, canvas_pixels=SMALL)
    cached = make_editor(f"flux-kontext:{kontext}", steps=4, canvas_pixels=SMALL, load_kwargs=settings)
    first = cached(photo, "add a hat", 0)
    assert first.tobytes() != plain(photo, "add a hat", 0).tobytes()
    cached(photo, "remove the car", 1)
    assert cached(photo, "add a hat", 0).tobytes() == first.tobytes()


def test_a_step_cache_with_a_negative_prompt_is_refused_where_both_would_share_it(kontext):
    settings = {"load_kwargs": preset("step-cache")["load_kwargs"], "steps": 2, "canvas_pixels": SMALL}
    guided = {"negative_prompt": " ", "true_cfg_scale": 4.0}
    with pytest.raises(EditError, match="a step cache and a negative prompt would disturb each other"):
        edited(f"flux-kontext:{kontext}", call_kwargs=guided, **settings)


@pytest.fixture
def small_qwen(monkeypatch):
    """Qwen's pipeline fixes a megapixel in its code; a test of random weights needs fewer."""
    from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit_plus as module

    own = module.calculate_dimensions
    monkeypatch.setattr(module, "calculate_dimensions", lambda area, ratio: own(SMALL, ratio))


def test_a_step_cache_and_guidance_go_together_in_qwen(plus, small_qwen):
    settings = preset("step-cache")["load_kwargs"]
    edited(f"qwen-image-edit-plus:{plus}", steps=3, load_kwargs=settings)


def test_the_lightning_preset_brings_its_lora_and_its_scheduler(plus, tmp_path, small_qwen):
    values = preset("lora-lightning")
    weights = lora(tmp_path / "lora", plus)
    call = values["load_kwargs"]["after_load"][0]["load_lora_weights"]
    call.update(pretrained_model_name_or_path_or_dict=str(weights), weight_name=next(weights.glob("*")).name)
    pipe = load(str(plus), Options(load_kwargs=values["load_kwargs"]))
    assert pipe.scheduler.config.max_image_seq_len == 8192
    assert pipe.get_active_adapters()
    settings = {"steps": values["steps"], "guidance": values["guidance"]}
    plain = edited(f"{values['editor']}:{plus}", **settings)
    scheduled = {"scheduler": values["load_kwargs"]["scheduler"]}
    without_lora = edited(f"{values['editor']}:{plus}", load_kwargs=scheduled, **settings)
    with_lora = edited(f"{values['editor']}:{plus}", load_kwargs=values["load_kwargs"], **settings)
    assert len({image.tobytes() for image in (plain, without_lora, with_lora)}) == 3


@pytest.mark.full
def test_the_compiled_preset_edits_like_the_plain_pipeline(kontext):
    values = preset("compiled")
    settings = {"steps": 2, "canvas_pixels": SMALL, "call_kwargs": values["call_kwargs"]}
    plain = edited(f"flux-kontext:{kontext}", **settings)
    compiled = edited(f"flux-kontext:{kontext}", load_kwargs=values["load_kwargs"], **settings)
    differences = [abs(one - other) for one, other in zip(plain.tobytes(), compiled.tobytes(), strict=True)]
    assert max(differences) <= 2


def test_the_quantised_preset_is_a_config_of_diffusers_and_says_what_it_needs(plus):
    settings = preset("quantised-4bit")["load_kwargs"]
    config = build_object(settings)["quantization_config"]
    assert config.components_to_quantize == ["transformer", "text_encoder"]
    if find_spec("bitsandbytes"):
        pytest.skip("bitsandbytes is installed: nothing is missing here")
    with pytest.raises(EditError, match=r"(?i)bitsandbytes") as caught:
        edited(f"qwen-image-edit:{plus}", load_kwargs=settings)
    assert "\n" not in str(caught.value)


def test_dtypes_lists_and_nested_objects_are_built():
    import torch

    built = build_object({"a": ["torch.bfloat16", 1, "torchless"], "b": {"_class": "diffusers.FirstBlockCacheConfig"}})
    assert built["a"] == [torch.bfloat16, 1, "torchless"]
    assert built["b"].threshold == 0.05
