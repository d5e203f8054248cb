"""Real diffusers pipelines with tiny random weights, saved to disk and loaded by name, and every preset."""

import math
import shutil
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
from fakes.real_photos import real_photo
from fakes.tiny_pipelines import SMALL, _t5_tokenizer, lora
from PIL import Image

from ier1_plugin.editors import EditError, make_editor
from ier1_plugin.editors.canvas import KONTEXT_SIZES, megapixel
from ier1_plugin.editors.local.diffusers import LocalPipeline, Recipe
from ier1_plugin.editors.local.loading import LocalOptions, build, load
from ier1_plugin.pipeline.system import PRESET, System, shipped
from ier1_plugin.runs.settings import parse_settings, read_yaml

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("pipelines")]
pytest.importorskip("diffusers", reason="diffusers is not installed")

KINDS = ("flux-kontext", "qwen-image-edit", "qwen-image-edit-plus")


@pytest.fixture
def editor_of(pipelines):
    """(kind, **settings) -> the editor of that tiny pipeline, on a small canvas with few steps."""

    def make(kind, **settings):
        small = {"canvas_pixels": SMALL} if kind == "flux-kontext" else {}
        return make_editor(f"{kind}:{pipelines(kind)}", **{"steps": 2, **small, **settings})

    return make


@pytest.fixture
def small():
    return real_photo(size=(64, 64))


@pytest.mark.parametrize("kind", KINDS)
def test_prompt_seed_and_picture_alone_decide_the_result(editor_of, small_qwen, kind):
    editor, photo = editor_of(kind), real_photo(size=(64, 48))
    first = editor(photo, "add a red hat to the dog", 0).tobytes()
    assert editor(photo, "remove the car", 0).tobytes() != first
    assert editor(photo, "add a red hat to the dog", 1).tobytes() != first
    assert editor(real_photo("coffee.png", (64, 48)), "add a red hat to the dog", 0).tobytes() != first
    assert editor(photo, "add a red hat to the dog", 0).tobytes() == first
    # the memory is given back, and loaded anew
    editor.close()
    editor.close()
    assert editor(photo, "add a red hat to the dog", 0).tobytes() == first


@pytest.mark.parametrize("kind", KINDS)
def test_the_model_reads_and_paints_the_canvas_and_a_picture_comes_back_in_its_own_size(
    editor_of, small_qwen, monkeypatch, kind
):
    import diffusers

    read = []
    vae = diffusers.AutoencoderKL if kind == "flux-kontext" else diffusers.AutoencoderKLQwenImage  # pyright: ignore
    own = vae.encode

    def encode(self, pixels, *args, **kwargs):
        read.append((pixels.shape[-1], pixels.shape[-2]))
        return own(self, pixels, *args, **kwargs)

    monkeypatch.setattr(vae, "encode", encode)
    editor = editor_of(kind, steps=1)
    for size in [(64, 48), (1, 1), (3000, 1000), (333, 777)]:
        # what is painted in another size than the canvas would not be resized
        assert editor(real_photo(size=size), "make it brighter", 0).size == size
        assert read.pop() == editor.canvas(size)
    assert not read


def test_the_table_of_trained_sizes_is_that_of_diffusers(pipelines):
    from diffusers.pipelines.flux.pipeline_flux_kontext import PREFERRED_KONTEXT_RESOLUTIONS

    assert set(KONTEXT_SIZES) == set(PREFERRED_KONTEXT_RESOLUTIONS)
    kontext = make_editor(f"flux-kontext:{pipelines('flux-kontext')}").canvas
    for size in [(1600, 1200), (64, 48), (3000, 1000), (1, 1)]:
        ratio = size[0] / size[1]
        theirs = min((abs(ratio - w / h), w, h) for w, h in PREFERRED_KONTEXT_RESOLUTIONS)
        assert kontext(size) == theirs[1:]


def test_qwen_works_at_the_size_that_it_resizes_its_input_to_anyway(pipelines):
    from diffusers.pipelines.qwenimage.pipeline_qwenimage_edit import calculate_dimensions

    editor = make_editor(f"qwen-image-edit:{pipelines('qwen-image-edit')}")
    for size in [(1600, 1200), (64, 48), (1080, 1920), (3000, 1000)]:
        canvas = editor.canvas(size)
        assert tuple(calculate_dimensions(1024 * 1024, canvas[0] / canvas[1])[:2]) == canvas
    assert editor.canvas((1600, 1200)) == megapixel(32)((1600, 1200))
    with pytest.raises(EditError, match="always works on about a megapixel"):
        make_editor(f"qwen-image-edit:{pipelines('qwen-image-edit')}", canvas_pixels=SMALL).canvas((64, 48))


@pytest.mark.parametrize(("kind", "usual", "other"), [(KINDS[0], 2.5, 7.0), (KINDS[1], 4.0, 1.0), (KINDS[2], 4.0, 1.0)])
def test_steps_and_guidance_reach_the_pipeline_and_guidance_is_on_without_being_asked_for(
    editor_of, small_qwen, small, kind, usual, other
):
    """Without a negative prompt Qwen's pipelines leave guidance out and only log it."""

    def edited(**settings):
        return editor_of(kind, **settings)(small, "add a hat", 0).tobytes()

    assert edited(guidance=usual) == edited()
    assert edited(guidance=other) != edited()
    assert edited(steps=3) != edited()


def test_any_folder_is_loaded_by_the_class_that_it_names_in_the_dtype_that_is_asked_for(editor_of, pipelines, small):
    import torch

    folder = str(pipelines("flux-kontext"))
    named = make_editor(f"diffusers:{folder}", steps=2, canvas_pixels=SMALL)
    assert named(small, "add a hat", 0) == editor_of("flux-kontext")(small, "add a hat", 0)
    assert folder in named.settings["model"]
    assert load(folder).transformer.dtype == torch.float32
    pipe = load(folder, LocalOptions(dtype="bfloat16"))
    assert pipe.transformer.dtype == pipe.vae.dtype == pipe.text_encoder_2.dtype == torch.bfloat16
    assert editor_of("flux-kontext", dtype="bfloat16")(small, "add a hat", 0).size == (64, 64)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "instruction", ["add a hat <|im_end|><|image_pad|><|vision_start|> {} {0} </s>", "把外套变成红色 أضف قطة 🎩"]
)
def test_control_tokens_and_other_scripts_are_harmless(editor_of, small_qwen, small, kind, instruction):
    assert editor_of(kind, steps=1)(small, instruction, 0).size == (64, 64)


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, True])
def test_a_seed_that_is_none_is_refused(editor_of, small, seed):
    with pytest.raises(EditError, match="seed is"):
        editor_of("flux-kontext")(small, "add a hat", seed)


@pytest.mark.parametrize(
    ("kind", "limit", "settings"),
    [
        ("flux-kontext", 512, {}),
        ("flux-kontext", 100, {"call_kwargs": {"max_sequence_length": 100}}),
        ("flux2-klein", 512, {}),
        ("instruct-pix2pix", 77, {"load_kwargs": {"safety_checker": None}}),
        # it reads everything
        ("qwen-image-edit", None, {}),
    ],
)
def test_an_instruction_that_would_be_cut_off_in_silence_is_refused(
    pipelines, small_qwen, small, kind, limit, settings
):
    editor = make_editor(f"diffusers:{pipelines(kind)}", steps=1, **settings)
    assert editor(small, "add a hat " * 5, 0).size == (64, 64)
    if limit is None:
        assert editor(small, "add a hat " * 300, 0).size == (64, 64)
    else:
        with pytest.raises(EditError, match=rf"reads {limit} tokens .* has \d+; shorten it"):
            editor(small, "add a hat " * 300, 0)


def test_the_tokenizer_in_a_processor_and_the_words_of_the_system_count_too(pipelines):
    class Pipe:
        """As FLUX.2 has it."""

        components = ("tokenizer",)
        system_message = "Say what you see. " * 20

        def __call__(self, image, prompt, max_sequence_length=512): ...

    pipeline = LocalPipeline("flux2", str(pipelines("flux-kontext")), LocalOptions())
    pipeline.pipe, pipeline.arguments, pipeline._recipe = Pipe(), {}, Recipe()
    pipeline.pipe.tokenizer = SimpleNamespace(tokenizer=_t5_tokenizer())
    pipeline.check_length("add a hat")
    with pytest.raises(EditError, match="reads 512 tokens"):
        pipeline.check_length("add a hat " * 120)


@pytest.mark.parametrize(("kind", "steps", "guidance"), [("flux2-klein", 4, 1.0), ("flux2-klein-base", 50, 4.0)])
def test_distilled_weights_get_few_steps_and_no_guidance_and_others_their_own(pipelines, kind, steps, guidance):
    loaded = LocalPipeline(kind, str(pipelines(kind)), LocalOptions())
    assert loaded.canvas((64, 64)) == (64, 64)
    assert loaded.arguments == {"num_inference_steps": steps, "guidance_scale": guidance}


@pytest.fixture
def painting(pipelines, tmp_path):
    """A pipeline whose picture is made of this number alone."""

    def folder(number):
        from safetensors.torch import load_file, save_file

        copy = shutil.copytree(pipelines("flux-kontext"), tmp_path / str(number))
        file = copy / "vae" / "diffusion_pytorch_model.safetensors"
        weights = load_file(file)
        save_file(
            {name: weight.fill_(number) if "decoder" in name else weight for name, weight in weights.items()}, file
        )
        return copy

    return folder


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("instruct-pix2pix", "safety checker"),
        (math.nan, r"NaN.*--editor-settings .*\"dtype\""),
        (0.0, r"one colour.*--editor-settings .*\"dtype\""),
    ],
)
def test_a_picture_that_shows_nothing_is_no_edit(pipelines, painting, small, kind, message):
    folder = pipelines(kind) if isinstance(kind, str) else painting(kind)
    editor = make_editor(f"diffusers:{folder}", steps=1)
    with pytest.raises(EditError, match=message) as caught:
        editor(small, "add a red hat", 0)
    assert "\n" not in str(caught.value)
    # a photo of one colour may stay one
    if kind == 0.0:
        assert editor(Image.new("RGB", (64, 64), "red"), "add a red hat", 0).size == (64, 64)


def test_threads_get_what_they_would_get_alone(editor_of, small):
    editor = editor_of("flux-kontext")

    def edited(seed):
        return editor(small, f"add hat {seed}", seed).tobytes()

    alone = [edited(seed) for seed in range(6)]
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(edited, range(6))) == alone


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"offload": "model"}, "--offload model .* no GPU"),
        ({"offload": "group"}, "--offload group .* no GPU"),
        ({"offload": "disk"}, "offload is 'disk'; wanted none, model, group"),
        ({"dtype": "int4"}, "dtype is 'int4'; wanted auto"),
        ({"steps": 0}, "steps is 0; wanted a whole number from 1 to 1000"),
        ({"steps": 2.5}, "steps is 2.5; wanted a whole number"),
        ({"guidance": float("nan")}, "guidance is nan"),
        ({"canvas_pixels": 1}, "canvas_pixels is 1"),
    ],
)
def test_settings_out_of_range_are_refused_before_anything_is_loaded(editor_of, settings, message):
    import torch

    if settings.get("offload") in ("model", "group") and torch.accelerator.is_available():
        pytest.skip("this machine has a GPU to offload from")
    with pytest.raises(EditError, match=message):
        editor_of("flux-kontext", **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"call_kwargs": {"num_inferense_steps": 2}}, "call_kwargs: FluxKontextPipeline has no num_inferense_steps"),
        (
            {"load_kwargs": {"quantisation_config": {}}},
            r"load_kwargs: Keyword arguments .*quantisation_config.*not expected by FluxKontextPipeline$",
        ),
        ({"load_kwargs": {"after_load": [{"transformer.enable_cash": {}}]}}, "no method transformer.enable_cash"),
        ({"load_kwargs": {"after_load": [{"transformer.__init__": {}}]}}, "no method transformer.__init__"),
        ({"load_kwargs": {"after_load": "vae"}}, "after_load is 'vae'; wanted a list"),
        ({"load_kwargs": {"after_load": [{"load_lora_weights": {"nonsense": 1}}]}}, "after_load: load_lora_weights: "),
        ({"load_kwargs": {"scheduler": {"_class": "os.system", "command": "true"}}}, "wanted a class of diffusers"),
        ({"load_kwargs": {"scheduler": {"_class": "diffusers.NoSuch"}}}, "diffusers.NoSuch: "),
        ({"load_kwargs": {"scheduler": {"_class": "diffusers.utils.load_image"}}}, "is not a class"),
        ({"load_kwargs": {"torch_dtype": "torch.nonsense"}}, "not a dtype of torch"),
    ],
)
def test_misspelt_arguments_are_errors_and_not_lost(editor_of, small, settings, message):
    with pytest.raises(EditError, match=message) as caught:
        editor_of("flux-kontext", **settings)(small, "add a hat", 0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        *(
            (source, "neither a folder nor a hub id")
            for source in ("./missing", "/nowhere", "a-word", "too/many/parts")
        ),
        ("", "neither a folder nor a hub id"),
        ("empty", r"model_index\.json"),
        ("unreadable", r"model_index\.json"),
        ("nobody/no-such-editor", r"HF_HUB_OFFLINE .* \(nobody/no-such-editor\)"),
    ],
)
def test_a_source_that_holds_no_pipeline_is_refused_before_anything_is_loaded(tmp_path, source, message):
    (tmp_path / "unreadable").mkdir()
    (tmp_path / "unreadable" / "model_index.json").write_text("{]")
    (tmp_path / "empty").mkdir()
    source = str(tmp_path / source) if source in ("empty", "unreadable") else source
    with pytest.raises(EditError, match=message):
        make_editor(f"diffusers:{source}")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("damaged", "damaged"),
        ("flux", "FluxPipeline takes no image and prompt"),
        ("nobody/no-such-editor", "^nobody/no-such-editor: "),
    ],
)
def test_weights_that_are_damaged_edit_nothing_or_are_nowhere_are_one_line(
    pipelines, small, tmp_path, monkeypatch, source, message
):
    # the hub's client was told at its import to stay offline, so this finds nothing wherever it runs
    monkeypatch.delenv("HF_HUB_OFFLINE")
    if source == "flux":
        source = pipelines("flux")
    elif source == "damaged":
        source = shutil.copytree(pipelines("flux-kontext"), tmp_path / "damaged")
        weights = source / "transformer" / "diffusion_pytorch_model.safetensors"
        weights.write_bytes(weights.read_bytes()[:2000])
    with pytest.raises(EditError, match=message) as caught:
        make_editor(f"diffusers:{source}")(small, "add a hat", 0)
    assert "\n" not in str(caught.value)


def preset(name):
    return read_yaml(shipped(PRESET)[name])


@pytest.mark.parametrize("name", shipped(PRESET))
def test_every_preset_names_an_editor_that_takes_its_settings(name, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE")
    system = parse_settings(System, preset(name), name)
    assert system.make_editor().name == system.editor


def test_the_fp8_preset_stores_8_bits(editor_of, pipelines, small):
    import torch

    settings = {"dtype": "bfloat16", "load_kwargs": preset("fp8-storage")["load_kwargs"]}
    pipe = load(str(pipelines("flux-kontext")), LocalOptions(**settings))
    weights = {parameter.dtype for parameter in pipe.transformer.transformer_blocks.parameters()}
    assert torch.float8_e4m3fn in weights
    assert pipe.vae.use_tiling
    usual = editor_of("flux-kontext", dtype="bfloat16")(small, "add a hat", 0)
    stored = editor_of("flux-kontext", **settings)(small, "add a hat", 0)
    assert stored.size == usual.size
    assert stored.tobytes() != usual.tobytes()


def test_the_step_cache_preset_skips_steps_and_leaves_nothing_behind(editor_of, small):
    settings = preset("step-cache")["load_kwargs"]
    # random weights change more from step to step than trained ones
    settings["after_load"][0]["transformer.enable_cache"]["config"]["threshold"] = 10.0
    cached = editor_of("flux-kontext", steps=4, load_kwargs=settings)
    first = cached(small, "add a hat", 0)
    assert first.tobytes() != editor_of("flux-kontext", steps=4)(small, "add a hat", 0).tobytes()
    cached(small, "remove the car", 1)
    assert cached(small, "add a hat", 0).tobytes() == first.tobytes()


def test_a_step_cache_goes_with_guidance_in_qwen_and_not_with_a_negative_prompt_in_flux(editor_of, small_qwen, small):
    settings = preset("step-cache")["load_kwargs"]
    editor_of("qwen-image-edit-plus", steps=3, load_kwargs=settings)(small, "add a hat", 0)
    guided = {"negative_prompt": " ", "true_cfg_scale": 4.0}
    with pytest.raises(EditError, match="step cache and a negative prompt"):
        editor_of("flux-kontext", call_kwargs=guided, load_kwargs=settings)(small, "add a hat", 0)


def test_the_lightning_preset_brings_its_lora_and_its_scheduler(editor_of, pipelines, small, tmp_path, small_qwen):
    values, folder = preset("lora-lightning"), pipelines("qwen-image-edit-plus")
    weights = lora(tmp_path / "lora", folder)
    call = values["load_kwargs"]["after_load"][0]["load_lora_weights"]
    call.update(pretrained_model_name_or_path_or_dict=str(weights), weight_name=next(weights.glob("*")).name)
    pipe = load(str(folder), LocalOptions(load_kwargs=values["load_kwargs"]))
    assert pipe.scheduler.config.max_image_seq_len == 8192
    assert pipe.get_active_adapters()
    assert values["editor"] == "qwen-image-edit-plus"
    settings = {"steps": values["steps"], "guidance": values["guidance"]}
    scheduled = {"scheduler": values["load_kwargs"]["scheduler"]}
    images = [
        editor_of("qwen-image-edit-plus", load_kwargs=load_kwargs, **settings)(small, "add a hat", 0)
        for load_kwargs in ({}, scheduled, values["load_kwargs"])
    ]
    assert len({image.tobytes() for image in images}) == 3


@pytest.mark.full
def test_the_compiled_preset_edits_like_the_plain_pipeline(editor_of, small):
    values = preset("compiled")
    plain, compiled = (
        editor_of("flux-kontext", call_kwargs=values["call_kwargs"], load_kwargs=load_kwargs)(small, "add a hat", 0)
        for load_kwargs in ({}, values["load_kwargs"])
    )
    differences = [abs(one - other) for one, other in zip(plain.tobytes(), compiled.tobytes(), strict=True)]
    assert max(differences) <= 2


def test_the_quantised_preset_is_a_config_of_diffusers_and_says_what_it_needs(editor_of, small):
    settings = preset("quantised-4bit")["load_kwargs"]
    config = build(settings)["quantization_config"]
    assert config.components_to_quantize == ["transformer", "text_encoder"]
    if find_spec("bitsandbytes"):
        pytest.skip("bitsandbytes is installed: nothing is missing here")
    with pytest.raises(EditError, match=r"(?i)bitsandbytes") as caught:
        editor_of("qwen-image-edit-plus", load_kwargs=settings)(small, "add a hat", 0)
    assert "\n" not in str(caught.value)


def test_dtypes_lists_and_nested_objects_are_built():
    import torch

    built = build({"a": ["torch.bfloat16", 1, "torchless"], "b": {"_class": "diffusers.FirstBlockCacheConfig"}})
    assert built["a"] == [torch.bfloat16, 1, "torchless"]
    assert built["b"].threshold == 0.05
