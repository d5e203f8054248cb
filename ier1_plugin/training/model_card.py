"""The model card (README.md) of merged weights, ready for the Hugging Face hub.

    render_card(decomposer, config) -> "---\\nlibrary_name: transformers\\n..."

States what is in the checkpoint and the run's config, and marks what only the trainer knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ier1_plugin.task.decomposer import Decomposer
from ier1_plugin.training.run_config import CPU_STANDIN, look_up

# front matter of the base models' own cards on the hub
LICENCES: dict[str, dict[str, str]] = {
    "Qwen/Qwen2.5-VL-7B-Instruct": {"license": "apache-2.0"},
    "Qwen/Qwen2.5-VL-3B-Instruct": {
        "license": "other",
        "license_name": "qwen-research",
        "license_link": "https://huggingface.co/Qwen/Qwen2.5-VL-3B-Instruct/blob/main/LICENSE",
    },
    "Qwen/Qwen3-VL-8B-Instruct": {"license": "apache-2.0"},
}
# what the card says of the run, and the key of EasyR1's config it is read from
_SETTINGS = {
    "Algorithm": "algorithm.adv_estimator",
    "Rollouts a prompt": "worker.rollout.n",
    "Prompts a step": "data.rollout_batch_size",
    "Prompts an update": "worker.actor.global_batch_size",
    "Learning rate": "worker.actor.optim.lr",
    "KL coefficient": "algorithm.kl_coef",
    "Sampling temperature": "worker.rollout.temperature",
    "LoRA rank": "worker.actor.model.lora.rank",
}

_CARD = """\
---
{front_matter}---

# {title}

The decomposition agent of ImageEdit-R1. It looks at an image and a request to edit it, and says what the request asks
for: the actions, their subjects and their goals. It does not edit; an image editor carries the plan out.
{warning}
## How to ask it

One user turn, the image first, then `{prompt}` with the request in place of `{{{{ content }}}}`. Before the
processor sees the image, scale it to between {min_pixels:,} and {max_pixels:,} pixels, as in training; the aspect ratio
stays.

```python
from transformers import AutoModelForImageTextToText, AutoProcessor

from ier1_plugin.task.images import open_image, prepare
from ier1_plugin.task.parsing import parse_decomposition
from ier1_plugin.task.rows import messages

folder = "."  # this folder
processor = AutoProcessor.from_pretrained(folder)
model = AutoModelForImageTextToText.from_pretrained(folder, torch_dtype="auto")
image = prepare(open_image("photo.jpg"), min_pixels={min_pixels}, max_pixels={max_pixels})
turn = messages("remove the lamp and make the sofa navy")
text = processor.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
inputs = processor(text=[text], images=[image], return_tensors="pt").to(model.device)
output = model.generate(**inputs, max_new_tokens={max_new_tokens})
reply = processor.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)[0]
print(reply)
print(parse_decomposition(reply))
```

A reply has four parts, and `parse_decomposition` raises `FormatError` on one that can't be read:

```text
<think> The coat and the hair change colour. </think>
<action>["Recoloring"]</action>
<subjects>["coat", "hair"]</subjects>
<goals>["scarlet or copper red"]</goals>
```

`generation_config.json` decodes greedily and without a repetition penalty, as the training rollouts had none.
`bash examples/serve_decomposer.sh <this folder>` serves it with vLLM. Programs read these figures in `decomposer.json`.

## Training

{settings}

Rewards: format, and the set-F1 of actions, subjects and goals against a gold decomposition.
Training data: not recorded in the checkpoint; name it here before you publish.

## Limits

- It knows fifteen actions; what fits none of them ends under the nearest.
- Its reward compared lists with a gold decomposition. Neither its thinking nor the edited image counted.
- In languages and on kinds of images that the training data lacks, it is untested.

## Licence

{licence}
"""
_WARNING = """
**Trained on a CPU with a stand-in for the rollout engine (`rollout=cpu-standin`).** It is a test of the training loop
on a tiny model, not a model to use.
"""


def render_card(decomposer: Decomposer, config: Mapping[str, Any]) -> str:
    """The card's text. `config` is the run's EasyR1 config as nested dicts, {} if it is unknown."""
    from huggingface_hub import ModelCardData

    hub_id = decomposer.base_hub_id
    licence = LICENCES.get(hub_id or "", {})
    known: dict[str, Any] = {"base_model": hub_id, **licence} if hub_id else {}
    tags = ["imageedit-r1", "image-editing", "grpo", "verl" if decomposer.verl_version else "easyr1"]
    front_matter = ModelCardData(
        library_name="transformers", pipeline_tag="image-text-to-text", tags=tags, **known
    ).to_yaml()
    trainer = f"EasyR1 ({decomposer.easyr1_version or 'version not recorded'})"
    if decomposer.verl_version:
        trainer = f"verl ({decomposer.verl_version})"
    facts = {
        # a path on the trainer's machine says nothing to a reader but its name
        "Base model": hub_id or Path(decomposer.base_model or "not recorded").name,
        "Trainer": trainer,
        "Rollouts by": decomposer.rollout,
        "Step": "not recorded" if decomposer.global_step is None else decomposer.global_step,
        "Weights": decomposer.dtype,
        **{name: look_up(config, key) for name, key in _SETTINGS.items()},
    }
    rows = [f"| {name} | {value} |" for name, value in facts.items() if value is not None]
    licence_text = "That of the base model, which is not known here; fill it in before you publish."
    if licence:
        link = licence.get("license_link", f"https://huggingface.co/{hub_id}")
        licence_text = f"That of the base model: {licence.get('license_name', licence['license'])} ({link})."
    return _CARD.format(
        front_matter=f"{front_matter}\n",
        title=f"ImageEdit-R1 decomposer{f', {decomposer.experiment}' if decomposer.experiment else ''}",
        warning=_WARNING if decomposer.rollout == CPU_STANDIN else "",
        prompt=decomposer.prompt,
        min_pixels=decomposer.min_pixels,
        max_pixels=decomposer.max_pixels,
        max_new_tokens=decomposer.max_response_length or 1024,
        settings="\n".join(["| | |", "|---|---|", *rows]),
        licence=licence_text,
    )
