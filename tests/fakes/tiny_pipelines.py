"""Editing pipelines of diffusers with random weights: real classes, real tokenizers, a few hundred thousand parameters.

    build(tmp_path / "kontext", "flux-kontext")     # the folder, which DiffusionPipeline.from_pretrained loads

The VAEs shrink by the real factor of 8 to the real 16 channels, so that sizes behave as in the real models. CLIP's and
Qwen's tokenizers are trained on a few sentences over all bytes, T5's knows each ASCII character: no word gets lost.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

SENTENCES = (
    "add a red hat to the dog on the left and remove the car",
    "replace the background with a snowy mountain and make it brighter",
    "describe the key features of the input image, colour, shape, size, texture, objects, background",
)
QWEN_TOKENS = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    *("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"),
)
CHANNELS = 16
VAE = {
    "block_out_channels": (8, 8, 8, 8),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}
SMALL = 64 * 64
"""Pixels of a canvas that takes no time."""


def build(folder: Path, kind: str) -> Path:
    """Writes the pipeline `kind` (a key of PIPELINES) into `folder`."""
    import torch

    from ier1_plugin.chat.torchvision_ops import define_missing_schemas

    define_missing_schemas(torch)
    torch.manual_seed(0)
    PIPELINES[kind]().save_pretrained(folder)
    return folder


def lora(folder: Path, pipeline: Path) -> Path:
    """Writes a LoRA with random weights for the transformer of the pipeline in the folder `pipeline`."""
    import torch

    peft: Any = import_module("peft")
    pipe = _diffusers().DiffusionPipeline.from_pretrained(pipeline)
    torch.manual_seed(1)
    targets = ["to_q", "to_k", "to_v"]
    pipe.transformer.add_adapter(peft.LoraConfig(r=4, target_modules=targets, init_lora_weights=False))
    pipe.save_lora_weights(folder, transformer_lora_layers=peft.get_peft_model_state_dict(pipe.transformer))
    return folder


def shrink_qwen(monkeypatch: Any) -> None:
    """Qwen's pipelines fix a megapixel in their code; random weights need fewer."""
    for name in ("qwenimage_edit", "qwenimage_edit_plus"):
        module: Any = import_module(f"diffusers.pipelines.qwenimage.pipeline_{name}")
        own = module.calculate_dimensions
        monkeypatch.setattr(module, "calculate_dimensions", lambda area, ratio, own=own: own(SMALL, ratio))


def _flux_parts(channels: int) -> dict[str, Any]:
    """What FLUX pipelines are made of; `channels`: of the transformer's input."""
    import transformers as hf

    clip, t5 = _clip_tokenizer(), _t5_tokenizer()
    t5_config = hf.T5Config(vocab_size=len(t5), d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4)
    scales = {"shift_factor": 0.1159, "scaling_factor": 0.3611, "use_quant_conv": False, "use_post_quant_conv": False}
    return {
        "scheduler": _scheduler(),
        "text_encoder": hf.CLIPTextModel(_clip_config(clip)),
        "tokenizer": clip,
        "text_encoder_2": hf.T5EncoderModel(t5_config),
        "tokenizer_2": t5,
        "vae": _diffusers().AutoencoderKL(latent_channels=CHANNELS, **VAE, **scales),
        "transformer": _diffusers().FluxTransformer2DModel(
            in_channels=channels,
            out_channels=4 * CHANNELS,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=32,
            guidance_embeds=True,
            axes_dims_rope=(4, 4, 8),
        ),
    }


def _clip_config(tokenizer: Any) -> Any:
    import transformers as hf

    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    sizes = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 4}
    return hf.CLIPTextConfig(vocab_size=len(tokenizer), projection_dim=32, **sizes, **ids)


def _instruct_pix2pix() -> Any:
    """Its safety checker objects to every picture."""
    import torch
    import transformers as hf
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker

    clip, diffusers = _clip_tokenizer(), _diffusers()
    vision = hf.CLIPVisionConfig(hidden_size=32, intermediate_size=37, num_hidden_layers=1, num_attention_heads=4)
    vision.image_size, vision.patch_size, text = 32, 8, _clip_config(clip)
    checker = StableDiffusionSafetyChecker(
        hf.CLIPConfig(vision_config=vision.to_dict(), text_config=text.to_dict(), projection_dim=16)
    )
    with torch.no_grad():
        checker.concept_embeds_weights.fill_(-5)
    unet = diffusers.UNet2DConditionModel(
        in_channels=8,
        out_channels=4,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=32,
        attention_head_dim=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )
    return diffusers.StableDiffusionInstructPix2PixPipeline(
        vae=diffusers.AutoencoderKL(latent_channels=4, **VAE),
        text_encoder=hf.CLIPTextModel(text),
        tokenizer=clip,
        unet=unet,
        scheduler=diffusers.EulerDiscreteScheduler(),
        safety_checker=checker,
        feature_extractor=hf.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
    )


def _flux2_klein(is_distilled: bool) -> Any:
    import transformers as hf

    tokenizer, diffusers = _qwen_tokenizer(), _diffusers()
    tokenizer.chat_template = "{% for turn in messages %}<|im_start|>{{ turn.content }}<|im_end|>{% endfor %}"
    # it reads layers 9, 18 and 27
    text = hf.Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=28,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=8,
    )
    transformer = diffusers.Flux2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=3 * 8,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=False,
    )
    return diffusers.Flux2KleinPipeline(
        scheduler=_scheduler(),
        vae=diffusers.AutoencoderKLFlux2(latent_channels=4, **VAE),
        text_encoder=hf.Qwen3ForCausalLM(text),
        tokenizer=tokenizer,
        transformer=transformer,
        is_distilled=is_distilled,
    )


def _qwen(class_name: str) -> Any:
    tokenizer = _qwen_tokenizer()
    transformer = _diffusers().QwenImageTransformer2DModel(
        patch_size=2,
        in_channels=4 * CHANNELS,
        out_channels=CHANNELS,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        axes_dims_rope=(8, 4, 4),
    )
    vae = _diffusers().AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=CHANNELS,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        attn_scales=[],
        temperal_downsample=[False, True, True],
        latents_mean=[0.0] * CHANNELS,
        latents_std=[1.0] * CHANNELS,
    )
    return getattr(_diffusers(), class_name)(
        scheduler=_scheduler(),
        vae=vae,
        text_encoder=_qwen_encoder(tokenizer),
        tokenizer=tokenizer,
        processor=_qwen_processor(tokenizer),
        transformer=transformer,
    )


PIPELINES: dict[str, Callable[[], Any]] = {
    "flux-kontext": lambda: _diffusers().FluxKontextPipeline(**_flux_parts(4 * CHANNELS)),
    # the latents, the masked image's latents and the mask, whose 8 x 8 pixels a latent are channels of their own
    "flux-fill": lambda: _diffusers().FluxFillPipeline(**_flux_parts(2 * 4 * CHANNELS + 4 * 8 * 8)),
    "flux": lambda: _diffusers().FluxPipeline(**_flux_parts(4 * CHANNELS)),
    "flux2-klein": lambda: _flux2_klein(True),
    "flux2-klein-base": lambda: _flux2_klein(False),
    "instruct-pix2pix": _instruct_pix2pix,
    "qwen-image-edit": lambda: _qwen("QwenImageEditPipeline"),
    "qwen-image-edit-plus": lambda: _qwen("QwenImageEditPlusPipeline"),
}


def _diffusers() -> Any:
    return import_module("diffusers")


def _scheduler() -> Any:
    return _diffusers().FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15, base_image_seq_len=256, max_image_seq_len=4096
    )


def _qwen_encoder(tokenizer: Any) -> Any:
    import transformers as hf

    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in QWEN_TOKENS}
    # 8 pairs of a 16 wide head, shared out between time, height and width
    sections = [2, 3, 3]
    rope: dict[str, Any] = {"rope_scaling": {"type": "mrope", "mrope_section": sections}}
    if _is_transformers_5():
        rope = {"rope_parameters": {"rope_type": "default", "mrope_section": sections, "rope_theta": 1e6}}
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 4096,
        **rope,
        "bos_token_id": ids["<|endoftext|>"],
        "eos_token_id": ids["<|im_end|>"],
    }
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 32}
    config = hf.Qwen2_5_VLConfig(
        text_config=text,
        vision_config={**vision, "fullatt_block_indexes": [1]},
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    return hf.Qwen2_5_VLForConditionalGeneration(config).float()


def _qwen_processor(tokenizer: Any) -> Any:
    hf: Any = import_module("transformers")
    # a megapixel is 1,369 tokens to the real model; here at most 16, so that a test takes no minute
    kind = hf.Qwen2VLImageProcessor if _is_transformers_5() else hf.Qwen2VLImageProcessorFast
    images = kind(min_pixels=56 * 56, max_pixels=112 * 112)
    return hf.Qwen2VLProcessor(image_processor=images, tokenizer=tokenizer, video_processor=hf.Qwen2VLVideoProcessor())


def _bpe(special: Sequence[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=list(special),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(SENTENCES * 8, trainer)
    return backend


def _clip_tokenizer() -> Any:
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    start, end = "<|startoftext|>", "<|endoftext|>"
    backend = _bpe([start, end])
    ids = {token: backend.token_to_id(token) for token in (start, end)}
    backend.post_processor = processors.RobertaProcessing((end, ids[end]), (start, ids[start]))
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=start, eos_token=end, pad_token=end, unk_token=end, model_max_length=77
    )


def _t5_tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    backend = Tokenizer(models.Unigram([*pieces, *((chr(code), -3.0) for code in range(33, 127))], unk_id=2))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.post_processor = processors.TemplateProcessing(single=["$A", "</s>"], special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="</s>", pad_token="<pad>", unk_token="<unk>", model_max_length=512
    )


def _qwen_tokenizer() -> Any:
    hf: Any = import_module("transformers")
    backend, others = _bpe(QWEN_TOKENS), list(QWEN_TOKENS[1:])
    if _is_transformers_5():
        model = json.loads(backend.to_str())["model"]
        merges = [tuple(merge) for merge in model["merges"]]
        return hf.Qwen2Tokenizer(
            vocab=model["vocab"], merges=merges, model_max_length=4096, extra_special_tokens=others
        )
    options = {"unk_token": None, "bos_token": None, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    return hf.Qwen2TokenizerFast(
        tokenizer_object=backend, additional_special_tokens=others, model_max_length=4096, **options
    )


def _is_transformers_5() -> bool:
    return int(version("transformers").split(".")[0]) >= 5
