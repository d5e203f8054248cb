"""Real diffusers pipelines with tiny random weights, saved to disk and loaded by name."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
from fakes.real_photos import real_photo
from fakes.tiny_pipelines import build
from PIL import Image

from ier1_plugin.editors import EditError, make_editor
from ier1_plugin.editors.canvas import KONTEXT_SIZES, kontext, megapixel
from ier1_plugin.editors.local.loading import Options, load

pytestmark = pytest.mark.slow
pytest.importorskip("diffusers", reason="diffusers is not installed")

KINDS = ("flux-kontext", "qwen-image-edit", "qwen-image-edit-plus")
SMALL = 64 * 64


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipelines")
    return {kind: build(folder / kind, kind) for kind in (*KINDS, "flux")}


@pytest.fixture
def small_qwen(monkeypatch):
    """Qwen's pipelines fix a megapixel in their code; a test of random weights needs fewer."""
    from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit, pipeline_qwenimage_edit_plus

    for module in (pipeline_qwenimage_edit, pipeline_qwenimage_edit_plus):
        own = module.calculate_dimensions
        monkeypatch.setattr(module, "calculate_dimensions", lambda area, ratio, own=own: own(SMALL, ratio))


def editor_of(folders, kind, **settings):
    small = {"canvas_pixels": SMALL} if kind == "flux-kontext" else {}
    return make_editor(f"{kind}:{folders[kind]}", **{"steps": 2, **small, **settings})


@pytest.mark.parametrize("kind", KINDS)
def test_prompt_seed_and_picture_alone_decide_the_result(folders, small_qwen, kind):
    editor, photo = editor_of(folders, kind), real_photo(size=(64, 48))
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
@pytest.mark.parametrize("size", [(64, 48), (1, 1), (3000, 1000), (333, 777)])
def test_a_picture_comes_back_at_the_size_that_it_went_in(folders, small_qwen, kind, size):
    assert editor_of(folders, kind, steps=1)(real_photo(size=size), "make it brighter", 0).size == size


def test_kontext_returns_the_canvas_that_it_was_given(folders, monkeypatch):
    """Left to itself it returns 656 x 1552 here, and 1024 x 1024 without a size."""
    editor = make_editor(f"flux-kontext:{folders['flux-kontext']}", steps=1)
    assert editor.canvas((300, 700)) == (672, 1568)
    photo, changes = real_photo(size=(672, 1568)), []

    def resize(image, size, *args, **kwargs):
        changes.append((image.size, tuple(size)))
        return original(image, size, *args, **kwargs)

    original = Image.Image.resize
    monkeypatch.setattr(Image.Image, "resize", resize)
    assert editor(photo, "add a hat", 0).size == (672, 1568)
    # neither on its way in nor on its way out is anything resampled
    assert [change for change in changes if change[0] != change[1]] == []


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_model_reads_has_the_size_of_what_it_paints(folders, small_qwen, monkeypatch, kind):
    import diffusers

    read = []
    vae = diffusers.AutoencoderKL if kind == "flux-kontext" else diffusers.AutoencoderKLQwenImage  # pyright: ignore
    own = vae.encode

    def encode(self, pixels, *args, **kwargs):
        read.append((pixels.shape[-1], pixels.shape[-2]))
        return own(self, pixels, *args, **kwargs)

    monkeypatch.setattr(vae, "encode", encode)
    editor = editor_of(folders, kind, steps=1)
    editor(real_photo(size=(300, 120)), "add a hat", 0)
    assert read == [editor.canvas((300, 120))]


def test_the_table_of_trained_sizes_is_that_of_diffusers():
    from diffusers.pipelines.flux.pipeline_flux_kontext import PREFERRED_KONTEXT_RESOLUTIONS

    assert set(KONTEXT_SIZES) == set(PREFERRED_KONTEXT_RESOLUTIONS)
    for size in [(1600, 1200), (64, 48), (3000, 1000), (1, 1)]:
        ratio = size[0] / size[1]
        theirs = min((abs(ratio - w / h), w, h) for w, h in PREFERRED_KONTEXT_RESOLUTIONS)
        assert kontext(size) == theirs[1:]


def test_qwen_works_at_the_size_that_it_resizes_its_input_to_anyway(folders):
    from diffusers.pipelines.qwenimage.pipeline_qwenimage_edit import calculate_dimensions

    editor = make_editor(f"qwen-image-edit:{folders['qwen-image-edit']}")
    for size in [(1600, 1200), (64, 48), (1080, 1920), (3000, 1000)]:
        canvas = editor.canvas(size)
        assert tuple(calculate_dimensions(1024 * 1024, canvas[0] / canvas[1])[:2]) == canvas
    assert editor.canvas((1600, 1200)) == megapixel(32)((1600, 1200))
    with pytest.raises(EditError, match="always works on about a megapixel"):
        make_editor(f"qwen-image-edit:{folders['qwen-image-edit']}", canvas_pixels=SMALL).canvas((64, 48))


@pytest.mark.parametrize(("kind", "usual", "other"), [(KINDS[0], 2.5, 7.0), (KINDS[1], 4.0, 1.0), (KINDS[2], 4.0, 1.0)])
def test_steps_and_guidance_reach_the_pipeline_and_guidance_is_on_without_being_asked_for(
    folders, small_qwen, kind, usual, other
):
    """Without a negative prompt Qwen's pipelines leave guidance out and only log it."""

    def edited(**settings):
        return editor_of(folders, kind, **settings)(real_photo(size=(64, 64)), "add a hat", 0).tobytes()

    assert edited(guidance=usual) == edited()
    assert edited(guidance=other) != edited()
    assert edited(steps=3) != edited()


def test_any_folder_is_loaded_by_the_class_that_it_names(folders):
    photo = real_photo(size=(64, 64))
    named = make_editor(f"diffusers:{folders['flux-kontext']}", steps=2, canvas_pixels=SMALL)
    assert named(photo, "add a hat", 0) == editor_of(folders, "flux-kontext")(photo, "add a hat", 0)
    assert str(folders["flux-kontext"]) in named.settings["model"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "instruction", ["add a hat <|im_end|><|image_pad|><|vision_start|> {} {0} </s>", "把外套变成红色 أضف قطة 🎩"]
)
def test_control_tokens_and_other_scripts_are_harmless(folders, small_qwen, kind, instruction):
    assert editor_of(folders, kind, steps=1)(real_photo(size=(64, 64)), instruction, 0).size == (64, 64)


def test_an_instruction_that_would_be_cut_off_in_silence_is_refused(folders):
    editor = editor_of(folders, "flux-kontext")
    with pytest.raises(EditError, match=r"reads 512 tokens .* has \d+; shorten it"):
        editor(real_photo(size=(64, 64)), "add a hat " * 200, 0)


def test_threads_get_what_they_would_get_alone(folders):
    editor, photo = editor_of(folders, "flux-kontext"), real_photo(size=(64, 64))
    alone = [editor(photo, f"add hat {seed}", seed).tobytes() for seed in range(6)]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda seed: editor(photo, f"add hat {seed}", seed).tobytes(), range(6)))
    assert together == alone


def test_bfloat16_is_what_it_says(folders):
    import torch

    pipe = load(str(folders["flux-kontext"]), Options(dtype="bfloat16"))
    assert pipe.transformer.dtype == pipe.vae.dtype == pipe.text_encoder_2.dtype == torch.bfloat16
    assert load(str(folders["flux-kontext"])).transformer.dtype == torch.float32
    photo = real_photo(size=(64, 64))
    assert editor_of(folders, "flux-kontext", dtype="bfloat16")(photo, "add a hat", 0).size == (64, 64)


@pytest.mark.parametrize("offload", ["model", "group"])
def test_offloading_without_a_gpu_is_refused_before_anything_is_loaded(folders, offload):
    import torch

    if torch.accelerator.is_available():
        pytest.skip("this machine has a GPU to offload from")
    with pytest.raises(EditError, match=f"--offload {offload} .* there is no GPU here; leave it out"):
        editor_of(folders, "flux-kontext", offload=offload)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"offload": "disk"}, "offload is 'disk'; wanted none, model, group"),
        ({"dtype": "int4"}, "dtype is 'int4'; wanted auto"),
        ({"steps": 0}, "steps is 0; wanted a whole number from 1 to 1000"),
        ({"steps": 2.5}, "steps is 2.5; wanted a whole number"),
        ({"guidance": float("nan")}, "guidance is nan"),
        ({"canvas_pixels": 1}, "canvas_pixels is 1"),
    ],
)
def test_settings_out_of_range_are_refused(folders, settings, message):
    with pytest.raises(EditError, match=message):
        editor_of(folders, "flux-kontext", **settings)


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, True])
def test_a_seed_that_is_none_is_refused(folders, seed):
    with pytest.raises(EditError, match="seed is"):
        editor_of(folders, "flux-kontext")(real_photo(size=(64, 64)), "add a hat", seed)


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
        ({"load_kwargs": {"scheduler": {"_class": "diffusers.utils.load_image"}}}, "is no class"),
        ({"load_kwargs": {"torch_dtype": "torch.nonsense"}}, "no dtype of torch"),
    ],
)
def test_misspelt_arguments_are_errors_and_not_lost(folders, settings, message):
    with pytest.raises(EditError, match=message) as caught:
        editor_of(folders, "flux-kontext", **settings)(real_photo(size=(64, 64)), "add a hat", 0)
    assert "\n" not in str(caught.value)


def test_a_pipeline_that_edits_nothing_is_refused(folders):
    editor = make_editor(f"diffusers:{folders['flux']}")
    with pytest.raises(EditError, match="FluxPipeline takes no image and prompt, so it edits nothing"):
        editor(real_photo(size=(64, 64)), "add a hat", 0)


def test_folders_that_hold_no_pipeline_are_refused_at_once(tmp_path):
    for source in ("./missing", "/nowhere/at/all", "a-word", "too/many/parts", ""):
        with pytest.raises(EditError, match="neither a folder nor a hub id"):
            make_editor(f"diffusers:{source}")
    with pytest.raises(EditError, match=r"no diffusers pipeline: it has no readable model_index\.json"):
        make_editor(f"diffusers:{tmp_path}")
    (tmp_path / "model_index.json").write_text("{]")
    with pytest.raises(EditError, match="no readable model_index"):
        make_editor(f"flux-kontext:{tmp_path}")


def test_damaged_weights_are_one_clear_line(folders, tmp_path):
    copy = shutil.copytree(folders["flux-kontext"], tmp_path / "damaged")
    weights = copy / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    with pytest.raises(EditError) as caught:
        make_editor(f"flux-kontext:{copy}")(real_photo(size=(64, 64)), "add a hat", 0)
    assert str(copy) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_that_may_not_be_fetched_are_missed_at_once(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(EditError, match=r"HF_HUB_OFFLINE forbids to fetch them \(nobody/no-such-editor\)"):
        make_editor("diffusers:nobody/no-such-editor")


def test_weights_that_are_nowhere_are_one_clear_line(monkeypatch):
    # the hub's client was told at its import to stay offline, so this finds nothing wherever it runs
    monkeypatch.delenv("HF_HUB_OFFLINE")
    editor = make_editor("diffusers:nobody/no-such-editor")
    with pytest.raises(EditError, match=r"^nobody/no-such-editor: ") as caught:
        editor(real_photo(size=(64, 64)), "add a hat", 0)
    assert "\n" not in str(caught.value)
